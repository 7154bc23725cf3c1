"""Training of images: methods that need the model, saved and resumed training, precision and layout."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys

import pytest
import torch

from kmixup.experiments.checkpoints import checkpoint_dir, checkpoint_path, model_path
from kmixup.experiments.datasets import DATASETS, Data
from kmixup.experiments.distributed import Place
from kmixup.experiments.files import parse_settings
from kmixup.experiments.kept import evaluate_run
from kmixup.experiments.recipe import make_trial, read_recipe
from kmixup.experiments.runs import RunStore
from kmixup.experiments.sweep import sweep
from kmixup.experiments.training import Training, run
from kmixup.experiments.trial import Trial


@pytest.fixture(autouse=True)
def _blobs(monkeypatch):
    """A data set of small colour images, in which the class is a brightness."""

    def blobs(data_dir=None, seed=0, *, augmented=False):
        generator = torch.Generator().manual_seed(seed)
        y = torch.arange(96) % 2
        x = (0.5 * torch.rand(96, 3, 16, 16, generator=generator) + 0.4 * y.view(-1, 1, 1, 1)).clamp(0, 1)
        flip = (lambda x, generator: x.flip(3)) if augmented else None
        moments = (torch.full((3,), 0.5), torch.full((3,), 0.25))
        return Data(x[:64], y[:64], x[64:], y[64:], 2, *moments, augment=flip, source="blobs")

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


# --- checkpoints ------------------------------------------------------------------------------------------------------


def settled(finished):
    """A run without what two runs of one trial may differ in."""
    return finished.model_dump(exclude={"seconds", "finished", "environment"})


def interrupted(trial, folder, after):
    def stop(training):
        if training.epochs_done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(trial, checkpoints=folder, save_every=0, on_epoch=stop)


@pytest.mark.parametrize("settings", [{}, {"dataset_options": {"augmented": True}}, {"lam_per": "sample"}])
def test_an_interrupted_training_resumes_to_the_same_numbers(tmp_path, settings):
    whole = trial(k=4, alpha=1.0, epochs=4, milestones=(0.5,), attack_epsilons=(4,), **settings)
    interrupted(whole, tmp_path, after=3)
    epochs = []
    resumed = run(whole, checkpoints=tmp_path, on_epoch=lambda training: epochs.append(training.epochs_done))
    assert epochs == [4]
    assert settled(resumed) == settled(run(whole))


def test_a_killed_sweep_resumes_a_trial_in_its_middle(tmp_path):
    whole = trial(k=4, alpha=1.0, epochs=3)
    interrupted(whole, checkpoint_dir(tmp_path), after=2)
    store = RunStore(tmp_path)
    assert sweep([whole], store).done == 1
    assert settled(store.get(whole)) == settled(run(whole))
    assert not checkpoint_dir(tmp_path).exists()


def test_a_checkpoint_of_another_trial_is_named_and_not_continued(tmp_path):
    one, other = trial(seed=1), trial(seed=2)
    interrupted(one, tmp_path, after=1)
    checkpoint_path(tmp_path, one).rename(checkpoint_path(tmp_path, other))
    with pytest.warns(UserWarning, match=r"belongs to another trial: training starts anew"):
        made = run(other, checkpoints=tmp_path)
    assert settled(made) == settled(run(other))


@pytest.mark.parametrize("content", [b"", b"half of a file", bytes(4096)], ids=["empty", "half", "zeros"])
def test_a_damaged_checkpoint_is_named_and_its_trial_trained_anew(tmp_path, content):
    """After a power failure a file may be there without its blocks."""
    one = trial(epochs=1)
    path = checkpoint_path(checkpoint_dir(tmp_path), one)
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"{path.name} is not a whole checkpoint .*: training starts anew"):
        result = sweep([one], RunStore(tmp_path))
    assert (result.done, result.failed) == (1, [])
    assert not path.exists()


def test_a_checkpoint_of_other_data_under_the_same_settings_is_not_continued(tmp_path, monkeypatch):
    one = trial(epochs=3)
    interrupted(one, tmp_path, after=2)
    blobs = DATASETS["blobs"]
    monkeypatch.setitem(DATASETS, "blobs", lambda data_dir, seed, *, augmented=False: _other(blobs(data_dir, seed)))
    with pytest.warns(UserWarning, match="belongs to another origin: training starts anew"):
        made = run(one, checkpoints=tmp_path)
    assert settled(made) == settled(run(one))


def _other(data):
    return dataclasses.replace(data, y_train=1 - data.y_train, source="other blobs")


def test_a_disk_that_is_full_for_checkpoints_costs_them_and_not_the_run(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    one = trial(epochs=2)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="training goes on without.*No space left"):
        made = run(one, checkpoints=tmp_path / "full", save_every=0)
    assert settled(made) == settled(run(one))
    assert list((tmp_path / "full").iterdir()) == []


def test_a_diverged_training_resumes_as_diverged(tmp_path):
    one = trial(lr=1e30, epochs=5)
    made = run(one, checkpoints=tmp_path, save_every=0)
    assert made.diverged
    again = run(one, checkpoints=tmp_path, save_every=1000)
    assert again.diverged
    assert len(again.curves.test_error) == len(made.curves.test_error)


def test_a_kept_model_is_attacked_and_disturbed_as_in_its_run(tmp_path):
    one = trial(k=4, alpha=1.0, attack_epsilons=(0, 8), noise_sigmas=(0.1, 2))
    finished = run(one, models=tmp_path)
    found = evaluate_run(RunStore(tmp_path).put(finished), epsilons=[0, 8], sigmas=[0.1, 2])
    assert found.attack_error == finished.attack_error
    assert found.noise_error == finished.noise_error
    assert finished.noise_error["2"] > finished.noise_error["0.1"]


def test_an_attack_needs_the_model(tmp_path):
    run_file = RunStore(tmp_path).put(run(trial(epochs=1)))
    with pytest.raises(FileNotFoundError, match="--keep"):
        evaluate_run(run_file)


def test_a_trial_that_diverged_has_no_model_to_attack(tmp_path):
    run_file = RunStore(tmp_path).put(run(trial(lr=1e18), models=tmp_path))
    with pytest.raises(ValueError, match="the trial diverged, so there is no trained model"):
        evaluate_run(run_file)


def test_a_kept_model_is_not_attacked_on_other_data_than_it_was_trained_on(tmp_path, monkeypatch):
    one = trial(epochs=1)
    run_file = RunStore(tmp_path).put(run(one, models=tmp_path))
    blobs = DATASETS["blobs"]
    monkeypatch.setitem(DATASETS, "blobs", lambda data_dir, seed, *, augmented=False: _other(blobs(data_dir, seed)))
    with pytest.raises(ValueError, match="was trained on other data"):
        evaluate_run(run_file)


def test_a_model_of_another_trial_is_not_attacked(tmp_path):
    one, other = trial(epochs=1), trial(epochs=1, seed=5)
    made, strange = run(one), run(other, models=tmp_path)
    run_file = RunStore(tmp_path).put(made)
    model_path(tmp_path, other, strange.origin).rename(model_path(tmp_path, one, made.origin))
    with pytest.raises(ValueError, match="belongs to trial"):
        evaluate_run(run_file)


# --- precision and several processes ----------------------------------------------------------------------------------


def test_bfloat16_trains_with_weights_in_float32():
    under_way = Training(trial(k=4, alpha=1.0, precision="bfloat16"))
    under_way.epoch()
    assert {parameter.dtype for parameter in under_way.model.parameters()} == {torch.float32}
    whole = run(trial(k=4, alpha=1.0, epochs=1))
    rounded = run(trial(k=4, alpha=1.0, epochs=1, precision="bfloat16"))
    gap = abs(whole.curves.train_loss[0] - rounded.curves.train_loss[0])
    assert 0 < gap < 0.05


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    # Without mixing and batch norm, the mean of two half batches' gradients is the batch's gradient.
    settings = [
        "dataset=iris",
        "model=fc",
        "model_options.hidden=[8]",
        "method=erm",
        "epochs=3",
        "batch_size=32",
        "lr=0.05",
    ]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "kmixup"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    arguments = ["train", *settings, "--out", str(tmp_path), "--keep"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    (together,) = RunStore(tmp_path).all()
    alone = run(make_trial(parse_settings(settings)))
    assert together.environment.processes == 2
    assert together.id == alone.id
    for name in ("train_loss", "train_accuracy", "test_error"):
        ours, theirs = torch.tensor(getattr(together.curves, name)), torch.tensor(getattr(alone.curves, name))
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert list(tmp_path.glob("*.safetensors"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_each_process_takes_its_part_of_every_batch():
    batch = torch.arange(12)
    shares = [Place(rank, 3).share(batch) for rank in range(3)]
    assert torch.cat(shares).tolist() == batch.tolist()
    with pytest.raises(ValueError, match="multiple of the number of processes, got 12 and 5"):
        Place(0, 5).share(batch)


@pytest.mark.slow
def test_processes_mix_with_draws_of_their_own(on_two_ranks, tmp_path):
    settings = "dataset=iris model=fc model_options.hidden=[8] k=4 alpha=1 alpha_rule=none epochs=1 batch_size=32"
    settings += " method=k-manifold-mixup"
    on_two_ranks(f"""
        import json, pathlib, torch
        from kmixup.experiments.distributed import here, process_group
        from kmixup.experiments.files import parse_settings
        from kmixup.experiments.recipe import make_trial
        from kmixup.experiments.training import Training

        with process_group("cpu"):
            training = Training(make_trial(parse_settings({settings.split()!r})))
            plans = [training.method.forward(training.network, x)[1] for x, _ in training.batches()]
            training.epoch()
            weights = torch.cat([each.detach().flatten() for each in training.model.parameters()])
            said = {{"lams": [float(plan.lam) for plan in plans], "weights": round(float(weights.sum()), 5)}}
            pathlib.Path(__file__).with_name(f"rank{{here().rank}}.json").write_text(json.dumps(said))
    """)
    said = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2)]
    lams, weights = ([one[name] for one in said] for name in ("lams", "weights"))
    assert lams[0] != lams[1]
    assert weights[0] == weights[1]


def test_table_2_is_made_of_the_cells_of_the_other_tables():
    summary = {cell.settings.id: cell.published for cell in read_recipe("table2").cells}
    for name in ("table3", "table4", "table9", "table10", "table11"):
        for cell in read_recipe(name).cells:
            assert summary.pop(cell.settings.id) == cell.published
    assert not summary
