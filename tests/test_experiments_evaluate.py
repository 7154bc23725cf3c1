"""Evaluation of any model: error, likelihood, calibration, noise."""

import math

import pytest
import torch
from torch import nn

from kmixup.experiments.attacks import fgsm_errors, noise_errors
from kmixup.experiments.evaluate import calibration_error, error_rate, evaluate


def points(n=2500, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 3, generator=generator)
    return x, (x[:, 0] + 0.3 * torch.randn(n, generator=generator) > 0.5).long()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2))


def test_error_and_likelihood_are_those_of_scikit_learn(model):
    from sklearn.metrics import log_loss, zero_one_loss

    x, y = points()
    found = evaluate(model, x, y).clean
    probabilities = model.eval()(x).detach().double().softmax(1).numpy()
    assert found.error == pytest.approx(zero_one_loss(y.numpy(), probabilities.argmax(1)))
    assert found.nll == pytest.approx(log_loss(y.numpy(), probabilities), rel=1e-5)
    assert error_rate(model, x, y) == found.error


def test_calibration_error_is_the_textbooks_sum_over_bins():
    """Oracle: the loop over bins of Guo et al. (2017)."""
    generator = torch.Generator().manual_seed(1)
    outputs, y = 3 * torch.randn(500, 4, generator=generator), torch.randint(4, (500,), generator=generator)
    confidence, predicted = outputs.softmax(1).max(1)
    expected = 0.0
    for low in range(15):
        within = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if within.any():
            right = (predicted[within] == y[within]).float().mean()
            expected += within.float().mean() * (right - confidence[within].mean()).abs()
    assert calibration_error(outputs, y) == pytest.approx(float(expected), abs=1e-6)


def test_a_model_that_is_right_as_often_as_it_says_is_calibrated_and_one_that_is_too_sure_is_not():
    generator = torch.Generator().manual_seed(2)
    n = 20_000
    p = 0.5 + 0.5 * torch.rand(n, generator=generator)
    y = (torch.rand(n, generator=generator) > p).long()
    honest = torch.stack([p, 1 - p], 1).log()
    assert calibration_error(honest, y) < 5 * math.sqrt(15 * 0.25 / n)
    assert calibration_error(100 * honest, y) > 0.2


def test_figures_are_those_of_eval_mode_and_the_mode_is_put_back(model):
    x, y = points(200)
    model.train()
    assert evaluate(
        model, x, y, sigmas=(0.1,), epsilons=(1.0,), generator=torch.Generator().manual_seed(0)
    ) == evaluate(model, x, y, sigmas=(0.1,), epsilons=(1.0,), generator=torch.Generator().manual_seed(0))
    assert model.training
    assert all(module.training for module in model.modules())


def test_normalisation_belongs_to_the_model(model):
    x, y = points(300)
    mean, std = x.mean(0), x.std(0)
    told = evaluate(model, x, y, mean=mean, std=std, sigmas=(0.0,), epsilons=(0.0,))
    assert told.clean == evaluate(model, (x - mean) / std, y).clean
    assert told.noise_error == {"0": told.clean.error}
    assert told.attack_error == {"0": told.clean.error}


def test_the_error_under_noise_grows_to_that_of_guessing(model):
    x, y = points()
    trained = nn.Linear(3, 2)
    with torch.no_grad():
        trained.weight.copy_(torch.tensor([[-5.0, 0, 0], [5.0, 0, 0]]))
        trained.bias.copy_(torch.tensor([2.5, -2.5]))
    generator = torch.Generator().manual_seed(7)
    errors = list(noise_errors(trained, x, y, (0, 0.3, 1.0, 100.0), generator).values())
    assert errors == sorted(errors)
    assert errors[0] == error_rate(trained, x, y)
    assert abs(errors[-1] - 0.5) < 5 * 0.5 / math.sqrt(len(y))
    with pytest.raises(ValueError, match=r"must be >= 0, in units of the inputs, got \[-1\]"):
        noise_errors(trained, x, y, [-1])


def test_attacks_are_fgsm(model):
    x, y = points(500)
    found = evaluate(model, x, y, epsilons=(2.0, 8.0)).attack_error
    assert list(found.values()) == list(fgsm_errors(model, x, y, (2.0, 8.0)).values())


def test_a_model_with_outputs_that_are_not_finite_has_no_figures():
    x, y = points(50)
    broken = nn.Linear(3, 2)
    nn.init.constant_(broken.bias, math.nan)
    found = evaluate(broken, x, y).clean
    assert all(math.isnan(value) for value in (found.error, found.nll, found.calibration_error))
