"""Training: a run is a pure function of its trial."""

import copy
import math
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

import kmixup
from kmixup import KMixup, assign, cost_matrix, min_lam_sq, transport_cost
from kmixup.experiments.datasets import DATASETS, Data
from kmixup.experiments.datasets.data import normalise
from kmixup.experiments.evaluate import error_rate
from kmixup.experiments.methods import METHODS, InputMixing, rolled
from kmixup.experiments.models import MODELS
from kmixup.experiments.models.fc import fc
from kmixup.experiments.points import calibrate_trial
from kmixup.experiments.training import Training, accuracy, learning_rate, run
from kmixup.experiments.trial import Trial

SMALL = {
    "dataset": "four-bars",
    "dataset_options": {"n_train": 130, "n_test": 100},
    "model": "fc",
    "model_options": {"hidden": [16]},
    "batch_size": 32,
    "epochs": 3,
}


def trial(**settings):
    return Trial.model_validate({**SMALL, **settings})


def numbers(made):
    return made.model_copy(update={"seconds": None, "finished": "", "environment": None})


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "erm"},
        {"method": "mixup", "alpha": 1.0},
        {"method": "k-mixup", "k": 8, "alpha": 1.0},
        {"method": "nearest-neighbour", "k": 8, "alpha": 1.0},
        {"method": "k-mixup", "k": 8, "alpha": 1.0, "lam_per": "sample", "pairing": "shuffle", "metric": "euclidean"},
    ],
    ids=lambda settings: settings["method"],
)
def test_the_same_trial_twice_gives_identical_numbers(settings):
    torch.manual_seed(1)
    first = run(trial(**settings))
    torch.manual_seed(2)
    torch.rand(3)
    assert numbers(run(trial(**settings))) == numbers(first)
    assert numbers(run(trial(**settings, seed=1))) != numbers(first)


def test_a_run_leaves_the_global_generator_and_the_threads_as_they_were():
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    state = torch.get_rng_state()
    run(trial(method="mixup", alpha=1.0))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_erm_equals_a_plain_training_loop():
    """Oracle: the textbook loop, with the same data, weights and batches."""
    t = trial(method="erm", epochs=4)
    data = DATASETS["four-bars"](None, t.seed_for("data"), **t.dataset_options)
    torch.manual_seed(t.seed_for("model"))
    model = MODELS["fc"]((2,), 2, hidden=[16])
    optimizer = torch.optim.SGD(model.parameters(), lr=t.lr, momentum=t.momentum, weight_decay=t.weight_decay)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    batches = torch.Generator().manual_seed(t.seed_for("batches"))
    losses, errors = [], []
    for _ in range(4):
        order = torch.randperm(130, generator=batches)[:128]
        epoch = []
        for batch in order.split(32):
            loss = F.cross_entropy(model(data.x_train[batch]), data.y_train[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            epoch.append(loss.item())
        scheduler.step()
        losses.append(sum(epoch) / len(epoch))
        errors.append(error_rate(model, data.x_test, data.y_test))
    curves = run(t).curves
    torch.testing.assert_close(torch.tensor(curves.train_loss), torch.tensor(losses), rtol=1e-4, atol=1e-6)
    assert curves.test_error == pytest.approx(errors, abs=0.011)


def test_a_step_minimises_the_two_target_loss_and_counts_both_targets():
    t = Training(trial(method="k-mixup", k=8, alpha=1.0))
    x, y = next(iter(t.batches()))
    outputs, plan = t.method.forward(t.model, x)
    t.method.forward = lambda model, x: (outputs, plan)
    step = t.step(x, y)
    torch.testing.assert_close(step.loss, plan.loss(partial(F.cross_entropy, reduction="none"), outputs, y).detach())
    torch.testing.assert_close(accuracy([step]), plan.accuracy(outputs, y))


@pytest.mark.parametrize("batch_size", [1, 2, 32])  # 130, 65 and 4 steps, of which 64 are counted at once
def test_training_accuracy_is_the_mean_over_the_steps_however_many_are_counted_at_once(batch_size):
    settings = {"method": "mixup", "alpha": 1.0, "epochs": 1, "batch_size": batch_size, "milestones": ()}
    by_hand = torch.stack([accuracy([step]) for step in Training(trial(**settings)).steps()]).mean().item()
    assert run(trial(**settings)).curves.train_accuracy == [pytest.approx(by_hand)]


def test_learning_rate_steps_down_at_one_half_and_three_quarters():
    rates = [learning_rate(trial(epochs=200), epoch) for epoch in (0, 99, 100, 149, 150, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_the_first_epoch_has_the_first_learning_rate_however_short_the_trial():
    assert [learning_rate(trial(epochs=epochs), 0) for epochs in (1, 2, 3, 4)] == [0.1] * 4


@pytest.mark.parametrize("method", ["mixup", "nearest-neighbour"])
def test_what_has_no_part_in_the_id_has_none_in_the_training(method):
    least, most = (trial(method=method, k=1, alpha=64.0, epochs=1, max_alpha=limit) for limit in (0.01, 100.0))
    assert least.id == most.id
    assert [run(each).alpha_k for each in (least, most)] == [64.0, 64.0]
    capped = run(trial(method="k-mixup", k=4, alpha=64.0, epochs=1, max_alpha=10.0))
    assert (capped.alpha_k, capped.attainable) == (10.0, False)


def test_the_learning_rate_rises_step_by_step_during_the_warm_up():
    t = trial(method="erm", warmup_epochs=2, epochs=20)
    assert [learning_rate(t, epoch) for epoch in (0, 0.5, 1, 2)] == pytest.approx([0, 0.025, 0.05, 0.1])
    training = Training(t)
    step, used = training.optimizer.step, []
    training.optimizer.step = lambda: (used.append(training.optimizer.param_groups[0]["lr"]), step())
    training.epoch()
    assert used == pytest.approx([0.05 * number / len(used) for number in range(len(used))])


def test_a_loss_that_is_not_finite_is_recorded_as_diverged_and_not_as_an_error_rate():
    made = run(trial(method="erm", lr=1e30, epochs=10))
    assert made.diverged
    assert made.final_error is None
    assert made.best_error is None
    assert len(made.curves.train_loss) < 10
    assert type(made).model_validate_json(made.model_dump_json()).diverged


def test_a_model_whose_outputs_stop_being_finite_in_the_last_step_has_no_error_rate():
    """Each loss was finite when it was taken: the last step alone made the weights infinite."""
    with torch.random.fork_rng():
        t = Training(trial(method="erm", epochs=1))
        for _ in t.steps():
            pass
        torch.nn.init.constant_(next(t.model.parameters()), math.inf)
        assert math.isnan(error_rate(t.model, t.data.x_test, t.data.y_test))
        t.optimizer.step = lambda: None
        t.epoch()
    assert t.diverged
    assert t.finish().final_error is None


def test_a_run_records_what_it_trained_with():
    t = trial(method="k-mixup", k=8, alpha=1.0, alpha_rule="exact")
    made = run(t)
    assert made.id == t.id
    assert made.alpha_k == calibrate_trial(t).alpha_k > 1.0
    assert made.match.matched_sq_distance < made.match.unmatched_sq_distance
    assert made.match.self_share == 0
    assert 0.5 < made.match.same_class_share <= 1
    assert 0 < made.seconds.matching < made.seconds.total
    assert made.final_error == made.curves.test_error[-1]
    assert made.best_error == min(made.curves.test_error)
    assert len(made.curves.train_accuracy) == 3
    assert made.environment.versions["torch"]
    assert made.environment.processor
    assert "reconstruction" in made.note


def test_alpha_rules_are_ordered_and_keep_xi_when_exact():
    made = {rule: calibrate_trial(trial(k=4, alpha=0.1, alpha_rule=rule)) for rule in ("none", "sqrt", "exact")}
    assert made["none"].alpha_k == 0.1 < made["sqrt"].alpha_k < made["exact"].alpha_k
    assert made["exact"].xi_k == pytest.approx(made["exact"].xi, rel=1e-6)


def test_methods_without_matched_inputs_keep_alpha():
    assert calibrate_trial(trial(method="nearest-neighbour", k=8, alpha=0.3, alpha_rule="exact")).alpha_k == 0.3
    assert calibrate_trial(trial(method="erm")) is None


def test_nearest_neighbour_partners_are_among_the_k_nearest_others():
    t = Training(trial(method="nearest-neighbour", k=3, alpha=1.0))
    x, _ = next(iter(t.batches()))
    plan = t.method.plans(x.unsqueeze(0))
    distance = torch.cdist(x, x).fill_diagonal_(math.inf)
    third = distance.sort(1).values[:, 2]
    assert (distance.gather(1, plan.partner[:, None]).squeeze(1) <= third).all()


def test_train_size_uses_that_many_points_and_refuses_more():
    assert len(Training(trial(train_size=40)).data.x_train) == 40
    with pytest.raises(ValueError, match="train_size must be at most 130, got 131"):
        run(trial(train_size=131))


@pytest.mark.parametrize("method", ["erm", "k-mixup"])
def test_training_resumed_from_its_state_ends_at_the_same_numbers(method):
    settings = {"method": method, "epochs": 5} | ({"k": 8, "alpha": 1.0} if method == "k-mixup" else {})
    whole = run(trial(**settings))
    with torch.random.fork_rng():
        first = Training(trial(**settings))
        first.epoch()
        first.epoch()
        state = copy.deepcopy(first.state_dict())
        first.epoch()  # what was done after the checkpoint is lost
        second = Training(trial(**settings))
        second.load_state_dict(state)
        while not second.done:
            second.epoch()
        resumed = second.finish()
    assert numbers(resumed) == numbers(whole)


def test_normalise_standardises_channels():
    x = torch.rand(5, 3, 4, 4)
    mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3))
    torch.testing.assert_close(normalise(x, mean, std).mean((0, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(normalise(x, mean, std).std((0, 2, 3)), torch.ones(3))
    assert normalise(x, None, None) is x


def test_augmentation_sees_pixels_and_mixing_sees_normalised_data(monkeypatch):
    seen = []

    def augment(x, generator):
        seen.append(x)
        return x.flip(-1)

    x = torch.rand(64, 1, 2, 2)
    data = Data(x, torch.arange(64) % 2, x, torch.arange(64) % 2, 2, torch.tensor([0.5]), torch.tensor([0.1]), augment)
    monkeypatch.setitem(DATASETS, "four-bars", lambda data_dir, seed, n_train, n_test: data)
    t = Training(trial(method="mixup", alpha=1.0))
    batch, _ = next(iter(t.batches()))
    assert seen[0].min() >= 0
    torch.testing.assert_close(batch, (seen[0].flip(-1) - 0.5) / 0.1)


@pytest.mark.parametrize("hidden", [[130, 120], [120, 84], [120, 120, 84], [120, 120, 36, 84]])
def test_the_papers_networks_have_the_units_it_gives(hidden):
    layers = [module for module in fc((7,), 3, hidden=hidden) if isinstance(module, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [*hidden, 3]
    with pytest.raises(ValueError, match="hidden must be positive numbers of units"):
        fc((7,), 3, hidden=[0])


def test_every_method_trains_every_batch_once(monkeypatch):
    """Contract over the registry: whatever is registered makes finite steps and a plan that fits the batch."""
    x, y = torch.rand(64, 1, 8, 8), torch.arange(64) % 2
    monkeypatch.setitem(DATASETS, "four-bars", lambda data_dir, seed, n_train, n_test: Data(x, y, x, y, 2, None, None))
    for name in METHODS:
        if "manifold" in name:
            continue  # needs the names of layers: tested where it lives
        mixes = trial(method=name).mixes
        settings = {"method": name} | ({"alpha": 1.0} if mixes else {}) | ({"k": 4} if "k-" in name else {})
        t = Training(trial(**settings))
        for x, y in t.batches():
            step = t.step(x, y)
            assert step.loss.isfinite()
            assert 0 <= accuracy([step]) <= 1


def smoothed(share, **settings):
    return trial(method="label-smoothing", method_options={"smoothing": share}, **settings)


def test_label_smoothing_is_the_loss_against_targets_that_are_partly_uniform():
    t = Training(smoothed(0.2))
    x, y = next(t.batches())
    outputs = t.model(x).detach()
    targets = 0.8 * torch.eye(2)[y] + 0.2 / 2
    step = t.step(x, y)
    torch.testing.assert_close(step.loss, -(targets * outputs.log_softmax(1)).sum(1).mean())
    assert accuracy([step]) == (outputs.argmax(1) == y).float().mean()  # of the labels, not of the smoothed targets


def test_label_smoothing_of_no_share_is_erm_and_of_some_share_another_run():
    erm, none, some = (run(t) for t in (trial(method="erm"), smoothed(0.0), smoothed(0.2)))
    assert (none.curves, none.test) == (erm.curves, erm.test)
    assert (some.alpha_k, some.xi, some.match) == (None, None, None)
    assert some.test.nll != erm.test.nll
    assert some.id != smoothed(0.1).id
    assert smoothed(0.2, metric="euclidean", lam_per="sample").id == some.id  # there is nothing to match


def test_label_smoothing_refuses_what_it_cannot_mean():
    with pytest.raises(ValueError, match=r"method 'label-smoothing' mixes nothing, got k = 1, alpha = 1\.0"):
        smoothed(0.1, alpha=1.0)
    with pytest.raises(ValueError, match=r"smoothing must be in \[0, 1\), got 1.0"):
        Training(smoothed(1.0))


def test_k_cutmix_trains_on_boxes_of_matched_partners_and_says_what_it_needs(monkeypatch):
    settings = {"method": "k-cutmix", "k": 4, "alpha": 1.0, "lam_per": "sample"}
    with pytest.raises(ValueError, match=r"pastes boxes into images \[B, ..., H, W\], got \[32, 2\]"):
        run(trial(**settings))
    x, y = torch.rand(64, 1, 8, 8), torch.arange(64) % 2
    monkeypatch.setitem(DATASETS, "four-bars", lambda data_dir, seed, n_train, n_test: Data(x, y, x, y, 2, None, None))
    t = Training(trial(**settings))
    batch, _ = next(iter(t.batches()))
    plan = t.method.plans(batch.unsqueeze(0))
    assert torch.isin(plan.mix(batch), batch).all()  # pixels are copied, never averaged
    torch.testing.assert_close(64 * plan.lam, (64 * plan.lam).round())
    assert numbers(run(trial(**settings))) == numbers(run(trial(**settings)))


def test_xi_of_a_run_is_the_definition():
    made = run(trial(method="mixup", alpha=0.7))
    t = Training(trial(method="mixup", alpha=0.7))
    pairs = torch.cdist(t.data.x_train, t.data.x_train).square().mean().item()
    assert made.xi == pytest.approx(math.sqrt(min_lam_sq(0.7) * pairs), rel=1e-3)


def test_a_run_knows_its_data_its_options_and_the_core_that_matched():
    made = run(trial(method="erm", epochs=1))
    assert made.source == run(trial(method="erm", epochs=1, seed=5)).source != ""
    other = trial(method="erm", epochs=1, dataset_options={"n_train": 131, "n_test": 100})
    assert run(other).source != made.source
    assert made.options["model"] == {"hidden": [16], "input_scale": 1.0}  # a default, written out
    assert made.environment.core in ("native", "reference")
    assert made.seconds.cpu > 0


def test_the_commit_of_somebody_elses_repository_is_not_taken_for_kmixups(tmp_path):
    """A virtual environment lies in a project of the user's, with a repository of its own."""
    project = tmp_path / "project"
    installed = project / ".venv" / "kmixup"
    shutil.copytree(Path(kmixup.__file__).parent, installed, ignore=shutil.ignore_patterns("__pycache__"))
    (project / ".gitignore").write_text(".venv\n")
    identity = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "my own work"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    script = "from kmixup.experiments.provenance import commit; print(repr(commit()))"
    said = subprocess.run(
        [sys.executable, "-c", script],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(installed.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "''"


class Apple(TorchFunctionMode):
    """Stands for a device without float64: what is moved to mps stays on the CPU, and is refused in float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(function, "__name__", "")
        moved = name == "to" and any(str(each) == "mps" for each in (*args[1:], *kwargs.values()))
        if moved:
            if args[0].dtype == torch.float64 and torch.float32 not in args[1:]:
                raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
            args = tuple("cpu" if str(each) == "mps" else each for each in args)
            kwargs = {key: "cpu" if str(each) == "mps" else each for key, each in kwargs.items()}
        on_it = any(getattr(each, "on_apple", False) for each in args if isinstance(each, torch.Tensor))
        if on_it and (name == "double" or torch.float64 in (*args[1:], *kwargs.values())):
            raise TypeError("the MPS framework doesn't support float64")
        made = function(*args, **kwargs)
        if moved and made is args[0]:
            made = made.clone()
        for each in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(each, torch.Tensor) and (moved or on_it) and name not in ("cpu", "numpy", "item"):
                each.on_apple = True
        return made


@pytest.mark.parametrize("settings", [{"method": "erm"}, {"k": 4, "alpha": 1.0}, {"k": 64, "alpha": 1.0}])
@pytest.mark.filterwarnings("ignore:a batch of 32 is too small")
def test_a_device_without_float64_trains(settings):
    with Apple():
        refused = torch.zeros(2).to("mps")
        with pytest.raises(TypeError, match="float64"):
            refused.double()
        under_way = Training(trial(epochs=1, **settings), device="mps")
        under_way.epoch()
    assert len(under_way.state_dict()["curves"]["test_error"]) == 1


def test_points_held_out_are_training_points_that_are_not_trained_on():
    t = Training(trial(method="erm", validation=0.2))
    assert (len(t.data.x_train), len(t.points.x_validation)) == (104, 26)
    whole = Training(trial(method="erm")).data
    together = torch.cat([t.data.x_train, t.points.x_validation])
    torch.testing.assert_close(together.sort(0).values, whole.x_train.sort(0).values)
    torch.testing.assert_close(t.data.x_test, whole.x_test)
    with pytest.raises(ValueError, match=r"validation must leave points on both sides, got 0.001 of 130"):
        Training(trial(validation=0.001))


def test_a_run_with_points_held_out_has_figures_for_them_beside_those_of_the_test_points():
    made = run(trial(method="erm", validation=0.2, noise_sigmas=(0, 1.0)))
    assert made.validation.error == made.curves.validation_error[-1]
    assert made.test.error == made.final_error
    assert made.noise_error["0"] == made.final_error
    assert set(made.noise_error) == {"0", "1"}
    plain = run(trial(method="erm"))
    assert plain.validation is None
    assert plain.curves.validation_error == []


def test_the_engine_mixes_as_the_mixer_does_given_order_and_lam():
    """What produces a committed number is what users call."""
    mixer = KMixup(4, 1.0, lam_per="sample", generator=torch.Generator().manual_seed(5))
    x = torch.rand(3, 10, 2, generator=torch.Generator().manual_seed(6))
    plan = rolled(mixer)(x)
    for b, batch in enumerate(x):
        part = slice(10 * b, 10 * (b + 1))
        alone = mixer.meet(batch, torch.arange(10), plan.lam[part])
        assert torch.equal(plan.partner[part] - 10 * b, alone.partner)
        assert torch.equal(plan.unmatched[part] - 10 * b, alone.unmatched)
        assert torch.equal(plan.mix(x.flatten(0, 1))[part], alone.mix(batch))


@pytest.mark.parametrize("settings", [{"pairing": "shuffle"}, {"method": "nearest-neighbour"}, {"lam_per": "block"}])
def test_a_whole_epochs_plan_keeps_to_its_batches_whatever_the_method(settings):
    t = Training(trial(k=4, alpha=1.0, **settings))
    plan = t.method.plans(torch.rand(3, 32, 2))
    assert (plan.partner // 32 == torch.arange(96) // 32).all()
    assert (plan.unmatched // 32 == torch.arange(96) // 32).all()


def mixed(lam_per="batch", k=4, alpha=1.0, batches=3, size=10, d=2):
    mixer = KMixup(k, alpha, lam_per=lam_per, generator=torch.Generator().manual_seed(5))
    x = torch.rand(batches, size, d, generator=torch.Generator().manual_seed(6))
    targets = torch.eye(batches * size).view(batches, size, -1)  # each sample its own class: the mix is readable
    plan = InputMixing(rolled(mixer)).plans(x)
    x_mixed, targets_mixed = (plan.mix(each.flatten(0, 1)) for each in (x, targets))
    return x, x_mixed.view_as(x), targets_mixed.view(batches, size, batches, size)


@pytest.mark.parametrize(("k", "size"), [(1, 10), (4, 8), (4, 10), (5, 10), (16, 64)])
def test_a_whole_epochs_plan_is_the_plan_of_each_batch(k, size):
    """Oracle: KMixup on each batch, with the order of the batch as its random order."""
    x, x_mixed, mix = mixed(k=k, size=size)
    torch.testing.assert_close(torch.einsum("bicj,cjd->bid", mix, x), x_mixed)
    for b in range(len(x)):
        assert mix[b, :, [c for c in range(len(x)) if c != b]].sum() == 0  # partners come from the batch itself
        weights = mix[b, :, b]
        lam = weights.diagonal()
        assert (lam == lam[0]).all()
        partner = (weights - torch.diag(lam)).argmax(1)
        assert (partner.sort().values == torch.arange(size)).all()
        assert (partner != torch.arange(size)).all()
        candidate = torch.arange(size).roll(k)
        for start in range(0, size, k):
            rows, columns = torch.arange(size)[start : start + k], candidate[start : start + k]
            cost = cost_matrix(x[b, rows], x[b, columns])
            found = (x[b, rows] - x[b, partner[rows]]).square().sum(1).mean()
            torch.testing.assert_close(found, transport_cost(cost, assign(cost)))


@pytest.mark.parametrize(("lam_per", "different"), [("batch", 1), ("block", 3), ("sample", 10)])
def test_a_whole_epoch_draws_lam_as_often_as_asked(lam_per, different):
    _, _, mix = mixed(lam_per=lam_per)
    for b in range(3):
        assert len(mix[b, :, b].diagonal().unique()) == different


def test_a_whole_epochs_lam_follows_the_beta_distribution():
    _, _, mix = mixed(lam_per="sample", batches=40)
    lam = torch.stack([mix[b, :, b].diagonal() for b in range(40)]).flatten()
    sigma = (1 / (4 * (2 * 1.0 + 1)) / lam.numel()) ** 0.5
    assert abs(lam.mean().item() - 0.5) < 5 * sigma
    assert abs(torch.minimum(lam, 1 - lam).square().mean().item() - min_lam_sq(1.0)) < 5 * 0.08 / lam.numel() ** 0.5


def test_alpha_0_leaves_a_whole_epoch_unmixed():
    x, x_mixed, _ = mixed(alpha=0.0)
    assert torch.equal(x, x_mixed)


def test_a_batch_too_small_for_k_is_planned_on_its_own_with_a_warning():
    with pytest.warns(UserWarning, match="too small for k=20"):
        run(trial(method="k-mixup", k=20, alpha=1.0, epochs=1))
