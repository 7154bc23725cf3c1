"""FGSM: closed forms, laws, and an established library."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kmixup.experiments.attacks import EPSILONS, Normalised, fgsm, fgsm_errors
from kmixup.experiments.models import MODELS


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def linear(classes=3, size=16):
    """A linear classifier of images, and its weights."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(size, classes)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(1), dtype=torch.float64))
    return model.eval()


def images(n=32, side=4):
    return torch.rand(n, 1, side, side, generator=generator(2), dtype=torch.float64)


def small_lenet():
    torch.manual_seed(0)
    return MODELS["lenet"]((1, 28, 28), 10).eval()


def digits(n=64):
    return torch.rand(n, 1, 28, 28, generator=generator(3)), torch.arange(n) % 10


def test_the_attack_on_a_linear_model_has_its_closed_form():
    # Two classes: the gradient of cross-entropy in x is p_other (w_other - w_own), and p_other > 0.
    model, x = linear(classes=2), images()
    y = torch.arange(len(x)) % 2
    weight = model[1].weight.detach()
    direction = (weight[1 - y] - weight[y]).sign().view_as(x)
    expected = (x + 8 / 255 * direction).clamp(0, 1)
    torch.testing.assert_close(fgsm(model, x, y, 8.0), expected)


def test_errors_of_a_linear_model_follow_its_margins():
    # With x far from the borders of [0, 1], the margin of a two-class linear model falls by epsilon |w1 - w0|_1.
    model = linear(classes=2)
    x = 0.4 + 0.2 * images(400)
    with torch.no_grad():  # half of the images on each side
        model[1].bias -= model(x).median(0).values
    y = model(x).argmax(1)
    weight = model[1].weight.detach()
    margin = (model(x).gather(1, y[:, None]) - model(x).gather(1, 1 - y[:, None])).squeeze(1)
    reach = (weight[1] - weight[0]).abs().sum()
    errors = fgsm_errors(model, x, y, [0.0, 4.0, 16.0])
    assert fgsm_errors(model, x, y, [0.0, 4.0, 4.0, 16.0]) == errors  # a size given twice is counted once
    for epsilon, error in errors.items():
        assert error == pytest.approx((margin < epsilon / 255 * reach).double().mean().item())
    assert 0 == errors[0.0] < errors[4.0] < errors[16.0]


def test_normalisation_belongs_to_the_model():
    # For a linear model, normalising inside equals folding mean and std into the weights.
    model, x = linear(), images()
    y = torch.arange(len(x)) % 3
    mean, std = torch.tensor([0.3], dtype=torch.float64), torch.tensor([0.25], dtype=torch.float64)
    folded = linear()
    with torch.no_grad():
        folded[1].bias -= folded[1].weight.sum(1) * mean / std
        folded[1].weight /= std
    torch.testing.assert_close(fgsm(Normalised(model, mean, std).eval(), x, y, 2.0), fgsm(folded, x, y, 2.0))
    assert fgsm_errors(model, x, y, [2.0], mean, std) == fgsm_errors(folded, x, y, [2.0])


def test_adversarial_pixels_stay_valid_and_near():
    model, (x, y) = small_lenet(), digits()
    adversarial = fgsm(model, x, y, 16.0)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert (adversarial - x).abs().max() <= 16 / 255 + 1e-6


def test_an_attack_of_size_zero_changes_nothing():
    model, (x, y) = small_lenet(), digits()
    torch.testing.assert_close(fgsm(model, x, y, 0.0), x, rtol=0, atol=0)
    clean = (model(x).argmax(1) != y).float().mean().item()
    assert fgsm_errors(model, x, y, [0.0])[0.0] == pytest.approx(clean)


def test_an_attack_on_a_batch_is_the_attack_on_each_of_its_samples():
    model, x = linear(), images()
    y = torch.arange(len(x)) % 3
    singly = torch.cat([fgsm(model, x[i : i + 1], y[i : i + 1], 4.0) for i in range(len(x))])
    torch.testing.assert_close(fgsm(model, x, y, 4.0), singly)


def test_the_attack_raises_the_loss():
    model, (x, y) = small_lenet(), digits()
    losses = [F.cross_entropy(model(fgsm(model, x, y, epsilon)), y).item() for epsilon in (0.0, *EPSILONS[:3])]
    assert losses == sorted(losses)


def test_errors_leave_the_model_as_it_was():
    model, (x, y) = small_lenet().train(), digits()
    fgsm_errors(model, x, y)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_it_agrees_with_the_adversarial_robustness_toolbox():
    from art.attacks.evasion import FastGradientMethod
    from art.estimators.classification import PyTorchClassifier

    model, (x, y) = small_lenet(), digits()
    classifier = PyTorchClassifier(
        model=model, loss=nn.CrossEntropyLoss(), input_shape=(1, 28, 28), nb_classes=10, clip_values=(0.0, 1.0)
    )
    theirs = FastGradientMethod(classifier, eps=8 / 255).generate(x.numpy(), y.numpy())
    torch.testing.assert_close(fgsm(model.eval(), x, y, 8.0), torch.from_numpy(theirs))


def test_a_model_in_train_mode_is_refused():
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        fgsm(small_lenet().train(), *digits(), 1.0)


def test_pixels_that_are_already_normalised_are_refused():
    x, y = digits()
    with pytest.raises(ValueError, match="before normalisation"):
        fgsm(small_lenet(), 2 * x - 1, y, 1.0)


@pytest.mark.parametrize("epsilon", [-1.0, float("nan")])
def test_sizes_that_are_not_sizes_are_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon must be >= 0"):
        fgsm(small_lenet(), *digits(), epsilon)


def test_reports_show_errors_under_attack_beside_the_published_ones():
    from kmixup.experiments.recipe import read_recipe
    from kmixup.experiments.report import to_markdown
    from kmixup.experiments.report.table import attack_tables
    from kmixup.experiments.run import Curves, Environment, Evaluation, Run, Seconds
    from kmixup.experiments.summary import make_report

    recipe = read_recipe("table7b").where(k=[1, 16])
    runs = []
    for cell in recipe.cells:
        for seed, shift in ((0, 0.0), (1, 0.01)):
            attack = {name: value / 100 + shift for name, value in cell.published.attack.items()}
            trial = cell.trial(seed)
            runs.append(
                Run(
                    id=trial.id,
                    trial=trial,
                    source="",
                    final_error=0.01,
                    best_error=0.01,
                    attack_error=attack,
                    curves=Curves(train_loss=[1.0], train_accuracy=[0.5], test_error=[0.5]),
                    seconds=Seconds(total=1, matching=0),
                    environment=Environment(commit="", versions={}, device="cpu", processor="", threads=1),
                )
            )
    report = make_report(recipe, runs)
    (table,) = attack_tables(report)
    assert table.sizes == ("0.5", "1", "2", "4", "8", "16")
    assert table.rows[0][0] == "k = 1, alpha = 10"
    assert table.rows[0][1][-1] == "18.60 ± 0.50 (2 of 30) | 18.10 | +0.50"
    assert "18.60 ± 0.50 (2 of 30) \\| 18.10 \\| +0.50" in to_markdown(report)
    assert "## MNIST, LeNet: error under FGSM, by epsilon in 1/255" in to_markdown(report)

    noisy = [run.model_copy(update={"noise_error": {"0.5": 0.25, "0.1": 0.02 + 0.01 * run.trial.seed}}) for run in runs]
    attacked, table = attack_tables(make_report(recipe, noisy))
    assert attacked == attack_tables(report)[0]
    assert table.title == "MNIST, LeNet: error under Gaussian noise, by standard deviation"
    assert table.sizes == ("0.1", "0.5")
    assert table.rows[1] == (
        "k = 16, alpha = 10",
        ("2.50 ± 0.50 (2 of 30) | — | —", "25.00 ± 0.00 (2 of 30) | — | —"),
    )

    test = Evaluation(error=0.01, nll=0.25, calibration_error=0.125)
    *_, table = attack_tables(make_report(recipe, [run.model_copy(update={"test": test}) for run in runs]))
    assert table.title == "MNIST, LeNet: predicted probabilities"
    assert table.sizes == ("negative log-likelihood, nats", "expected calibration error, %")
    assert table.rows[0] == ("k = 1, alpha = 10", ("0.25 ± 0.00 (2 of 30)", "12.50 ± 0.00 (2 of 30)"))
