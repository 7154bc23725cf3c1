"""Training of images: methods that need the model, saved and resumed training, precision and layout."""

from __future__ import annotations

import pytest
import torch

from kmixup.experiments.datasets import DATASETS, Data
from kmixup.experiments.recipe import Trial, read_recipe
from kmixup.experiments.training import Training, run


@pytest.fixture(autouse=True)
def _blobs(monkeypatch):
    """A data set of small colour images, in which the class is a brightness."""

    def blobs(data_dir=None, seed=0, *, augmented=False):
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(96) % 2
        x = (0.5 * torch.rand(96, 3, 16, 16, generator=generator) + 0.4 * y.view(-1, 1, 1, 1)).clamp(0, 1)
        flip = (lambda x, generator: x.flip(3)) if augmented else None
        moments = (torch.full((3,), 0.5), torch.full((3,), 0.25))
        return Data(x[:64], y[:64], x[64:], y[64:], 2, *moments, augment=flip)

    monkeypatch.setitem(DATASETS, "blobs", blobs)


def trial(**settings):
    base = {
        "dataset": "blobs",
        "model": "preact-resnet18",
        "model_options": {"width": 8},
        "epochs": 2,
        "batch_size": 16,
        "lr": 0.05,
    }
    return Trial.model_validate({**base, **settings})


def trackers(model):
    return {int(m.num_batches_tracked) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)}


@pytest.mark.parametrize("method", ["k-mixup", "k-manifold-mixup", "erm"])
def test_batch_norm_sees_each_batch_once_per_step(method):
    mixing = {} if method == "erm" else {"k": 4, "alpha": 1.0}
    options = {"layers": ["layer1.0"]} if method == "k-manifold-mixup" else {}
    under_way = Training(trial(method=method, method_options=options, alpha_rule="none", **mixing))
    under_way.epoch()
    assert trackers(under_way.model) == {4}


@pytest.mark.parametrize(("k", "passes"), [(1, 4), (4, 8)])
def test_the_released_codes_extra_pass_is_taken_for_k_above_one_in_the_ablation_alone(k, passes):
    under_way = Training(trial(method="k-mixup-release", k=k, alpha=1.0))
    under_way.epoch()
    assert trackers(under_way.model) == {passes}


def test_manifold_mixup_leaves_no_hooks_and_finishes():
    finished = run(
        trial(method="k-manifold-mixup", method_options={"layers": ["layer1.0"]}, k=4, alpha=1.0, alpha_rule="none")
    )
    assert finished.final_error is not None
    assert finished.alpha_k == 1.0


def test_errors_under_attack_start_at_the_clean_error_and_grow():
    finished = run(trial(method="k-mixup", k=4, alpha=1.0, epochs=3, attack_epsilons=(0, 4, 16, 64)))
    errors = list(finished.attack_error.values())
    assert errors[0] == finished.final_error
    assert errors[-1] >= errors[0]


def test_channels_last_changes_rounding_only():
    plain, last = (run(trial(k=4, alpha=1.0, channels_last=value, epochs=1)) for value in (False, True))
    torch.testing.assert_close(
        torch.tensor(plain.curves.train_loss), torch.tensor(last.curves.train_loss), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", ["table3", "table4", "table6", "table7", "table8", "table9", "table10", "table11"])
def test_every_cell_of_the_image_and_speech_tables_has_a_published_number(name):
    recipe = read_recipe(name)
    for cell in recipe.cells:
        assert cell.published.error is not None or cell.published.attack
        assert cell.published.confidence is not None
        if cell.settings.method == "k-mixup" and not cell.published.attack:
            assert cell.published.xi is not None


def test_tables_3_and_7b_share_their_runs():
    ids = {cell.settings.id for cell in read_recipe("table3").cells}
    shared = [cell.settings.id in ids for cell in read_recipe("table7b").cells]
    assert all(shared)
    ids = {cell.settings.id for cell in read_recipe("table9").cells}
    assert all(cell.settings.id in ids for cell in read_recipe("table7a").cells)
