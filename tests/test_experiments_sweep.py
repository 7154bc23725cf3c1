"""Sweeps: nothing lost, nothing done twice."""

import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from kmixup.experiments.provenance import Origins
from kmixup.experiments.runs import RunStore
from kmixup.experiments.sweep import sweep
from kmixup.experiments.training import run
from kmixup.experiments.trial import Trial
from test_experiments_training import numbers, trial

# A sweep in a process of its own, that can be killed: folder, jobs, trials as JSON.
SWEEP = """
import json, sys, time
from pathlib import Path
from kmixup.experiments.runs import RunStore
from kmixup.experiments.sweep import sweep
from kmixup.experiments.trial import Trial

if __name__ == "__main__":
    trials = [Trial.model_validate(settings) for settings in json.loads(sys.argv[3])]
    print("started", flush=True)
    result = sweep(trials, RunStore(Path(sys.argv[1])), jobs=int(sys.argv[2]))
    print(result.done, result.found, flush=True)
"""


def command(folder: Path, trials: list[Trial], jobs: int) -> list[str]:
    settings = "[" + ",".join(each.model_dump_json() for each in trials) + "]"
    script = folder.parent / "sweep_script.py"
    script.write_text(SWEEP)
    return [sys.executable, str(script), str(folder), str(jobs), settings]


def some_trials(n: int, **settings):
    return [trial(method="k-mixup", k=4, alpha=1.0, seed=seed, **settings) for seed in range(n)]


def files(folder: Path) -> dict[str, object]:
    return {run.id: numbers(run) for run in RunStore(folder).all()}


def test_a_sweep_runs_each_trial_once_and_a_second_sweep_runs_none(tmp_path):
    store, trials = RunStore(tmp_path), some_trials(3)
    first = sweep(trials, store)
    assert (first.done, first.found) == (3, 0)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    second = sweep(trials, store)
    assert (second.done, second.found) == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")} == written
    assert numbers(store.get(trials[1])) == numbers(run(trials[1]))


def test_finished_results_elsewhere_count_as_found(tmp_path):
    trials = some_trials(2)
    sweep(trials[:1], RunStore(tmp_path / "old"))
    from kmixup.experiments.runs import write_lines

    write_lines(tmp_path / "results" / "t.jsonl", RunStore(tmp_path / "old").all(), points=2)
    result = sweep(trials, RunStore(tmp_path / "new", also=[tmp_path / "results"]))
    assert (result.done, result.found) == (1, 1)


def test_a_broken_file_is_run_again(tmp_path):
    store, trials = RunStore(tmp_path), some_trials(2)
    sweep(trials, store)
    store.path(trials[0]).write_text('{"id": ')
    (tmp_path / "notes.json").write_text("{}")
    result = sweep(trials, store)
    assert (result.done, result.found) == (1, 1)
    assert store.get(trials[0]) is not None
    assert (tmp_path / "notes.json").read_text() == "{}"


def test_a_folder_in_the_place_of_a_run_is_named_and_costs_nothing(tmp_path):
    trials = some_trials(2)
    RunStore(tmp_path).path(trials[0]).mkdir()
    for done in (2, 0):
        store = RunStore(tmp_path)
        result = sweep(trials, store)
        assert (result.done, result.found, result.failed) == (done, 2 - done, [])
        assert list(store.broken) == [tmp_path / f"{trials[0].id}.json"]


# --- data and code that change under one name -------------------------------------------------------------------------


def table(path: Path, seed: int) -> None:
    rng = random.Random(seed)
    rows = (f"{rng.gauss(3 * (i % 2), 1):.3f},{rng.random():.3f},{'ab'[i % 2]}" for i in range(60))
    path.write_text("\n".join(rows) + "\n")


def on_table(**settings) -> Trial:
    return trial(method="erm", dataset="csv", dataset_options={"path": "mine.csv"}, **settings)


def test_a_table_that_changed_is_trained_again_and_both_runs_are_kept(tmp_path):
    store, settings = RunStore(tmp_path / "runs"), on_table()
    table(tmp_path / "mine.csv", 0)
    assert sweep([settings], store, data_dir=tmp_path).done == 1
    assert sweep([settings], store, data_dir=tmp_path).found == 1
    (tmp_path / "mine.csv").touch()  # other times, same bytes
    assert sweep([settings], store, data_dir=tmp_path).found == 1
    table(tmp_path / "mine.csv", 1)
    assert sweep([settings], store, data_dir=tmp_path).done == 1
    assert sweep([settings], store, data_dir=tmp_path).found == 1
    assert len(store.all()) == 2
    assert len({run.source for run in store.all()}) == 2
    with pytest.raises(ValueError, match="has runs of different data"):
        store.get(settings)


def test_another_folder_with_a_table_of_that_name_is_other_data(tmp_path):
    store = RunStore(tmp_path / "runs")
    for seed, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        table(tmp_path / folder / "mine.csv", seed)
        assert sweep([on_table()], store, data_dir=tmp_path / folder).done == 1


def test_a_converted_run_is_not_taken_for_a_run_of_the_users_own_table(tmp_path):
    table(tmp_path / "mine.csv", 0)
    store = RunStore(tmp_path / "runs")
    store.put(run(on_table(), data_dir=tmp_path).model_copy(update={"source": "unknown", "options": {}}))
    assert sweep([on_table()], store, data_dir=tmp_path).done == 1


def test_finished_runs_of_data_that_are_not_here_count_and_are_said_to_be_unchecked(tmp_path):
    table(tmp_path / "mine.csv", 0)
    store = RunStore(tmp_path / "runs")
    sweep([on_table()], store, data_dir=tmp_path)
    origins = Origins(tmp_path / "elsewhere")
    result = sweep([on_table(), on_table(seed=1)], store, origins=origins, data_dir=tmp_path / "elsewhere")
    assert result.found == 1
    assert "mine.csv" in origins.unchecked["csv"]
    assert "mine.csv" in result.failed[0].message


OWN = """
import torch
from kmixup.experiments.datasets import Data

def spots(data_dir, seed, *, n: int = 40):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(2 * n) % 2
    x = torch.randn(2 * n, 2, generator=generator) + 3 * y[:, None]
    return Data(x[:n], y[:n], x[n:], y[n:], 2, source="spots")

def straight(input_shape, num_classes):
    return torch.nn.Linear(*input_shape, num_classes)

def neighbours(model, mixer):
    return mixer.plan
"""


def write_own(folder: Path, monkeypatch, text: str = OWN) -> Trial:
    (folder / "my_work.py").write_text(text)
    monkeypatch.chdir(folder)
    names = {"dataset": "my_work:spots", "model": "my_work:straight", "method": "my_work:neighbours"}
    return Trial.model_validate({**names, "k": 4, "alpha": 1.0, "epochs": 2, "batch_size": 16})


def test_data_model_and_method_of_ones_own_are_named_and_their_file_is_hashed(tmp_path, monkeypatch):
    settings = write_own(tmp_path, monkeypatch)
    assert sweep([settings], RunStore(Path("runs"))).done == 1
    (made,) = RunStore(Path("runs")).all()
    assert set(made.code) == {"my_work:spots", "my_work:straight", "my_work:neighbours"}
    assert made.options["dataset"] == {"n": 40}
    assert made.alpha_k == 1.0
    assert sweep([settings], RunStore(Path("runs"))).found == 1
    write_own(tmp_path, monkeypatch, OWN.replace("n: int = 40", "n: int = 50"))
    assert sweep([settings], RunStore(Path("runs"))).done == 1
    assert len(RunStore(Path("runs")).all()) == 2


def test_reading_a_run_imports_no_code_of_the_users(tmp_path, monkeypatch):
    settings = write_own(tmp_path, monkeypatch)
    sweep([settings], RunStore(Path("runs")))
    (tmp_path / "my_work.py").unlink()
    script = "import sys; from pathlib import Path; from kmixup.experiments.runs import RunStore\n"
    script += "print(len(RunStore(Path('runs')).all()), 'my_work' in sys.modules, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.split()[:2] == ["1", "False"]


@pytest.mark.slow
def test_worker_processes_find_modules_and_tables_of_the_current_folder(tmp_path, monkeypatch):
    settings = write_own(tmp_path, monkeypatch)
    trials = [settings.model_copy(update={"seed": seed}) for seed in range(2)]
    assert sweep(trials, RunStore(Path("runs")), jobs=2).done == 2


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_trial_that_raises_is_reported_and_the_others_go_on(tmp_path):
    bad = trial(method="erm", train_size=10_000)
    result = sweep([bad, *some_trials(1)], RunStore(tmp_path))
    assert result.done == 1
    assert [outcome.trial for outcome in result.failed] == [bad]
    assert "train_size must be at most 130" in result.failed[0].message
    assert RunStore(tmp_path).get(bad) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "irsi"}, "unknown dataset 'irsi'. Did you mean 'iris'"),
        ({"model": "lenett"}, "unknown model 'lenett'. Did you mean 'lenet'"),
        ({"method": "kmixup"}, "unknown method 'kmixup'. Did you mean"),
    ],
)
def test_a_name_that_does_not_exist_is_an_error_before_the_first_trial(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        sweep([*some_trials(1), trial(**settings)], RunStore(tmp_path))
    assert RunStore(tmp_path).all() == []


def test_a_diverged_trial_is_a_run_and_is_not_repeated(tmp_path):
    diverging = trial(method="erm", lr=1e30)
    assert sweep([diverging], RunStore(tmp_path)).done == 1
    assert sweep([diverging], RunStore(tmp_path)).found == 1
    assert RunStore(tmp_path).get(diverging).final_error is None


def test_a_full_disk_ends_the_sweep_and_keeps_what_was_finished(tmp_path, monkeypatch):
    trials, put, calls = some_trials(3), RunStore.put, []

    def put_twice(store, made):
        calls.append(made.id)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return put(store, made)

    monkeypatch.setattr(RunStore, "put", put_twice)
    with pytest.raises(OSError, match=r"cannot write to .*No space left on device"):
        sweep(trials, RunStore(tmp_path))
    assert len(RunStore(tmp_path).all()) == 1
    monkeypatch.setattr(RunStore, "put", put)
    assert sweep(trials, RunStore(tmp_path)).found == 1


def test_a_trial_that_another_sweep_holds_is_waited_for(tmp_path):
    store, (held, free) = RunStore(tmp_path), some_trials(2)
    done = []
    with store.claim(held):

        def finish_elsewhere(outcome):
            done.append(outcome.trial)
            if outcome.trial == free:
                store.put(run(held))

        result = sweep([held, free], store, poll_seconds=0.01, on_outcome=finish_elsewhere)
    assert (result.done, result.found) == (1, 1)
    assert done == [free, held]


@pytest.mark.slow
def test_a_sweep_killed_at_random_moments_ends_with_the_files_of_an_uninterrupted_one(tmp_path):
    trials = some_trials(6, epochs=200)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    sweep(trials, RunStore(whole))
    rng = random.Random(0)
    for kill in range(10):
        process = subprocess.Popen(command(killed, trials, jobs=1 + kill % 2), stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "started\n"
        time.sleep(2 * rng.random() * (1 + kill % 2))  # processes of their own take longer to start
        process.send_signal(signal.SIGKILL)
        process.communicate()
    subprocess.run(command(killed, trials, jobs=1), check=True, stdout=subprocess.DEVNULL)
    # Orphans of the last kill stop by themselves, at the end of an epoch.
    _wait_until(lambda: not any(RunStore(killed).is_claimed(each) for each in trials))
    assert files(killed) == files(whole)
    assert [path.name for path in killed.iterdir() if path.suffix not in (".json", ".draft")] == [".locks"]


def _wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_two_sweeps_on_one_folder_share_the_work_and_do_nothing_twice(tmp_path):
    trials = some_trials(4, epochs=20)
    both = [
        subprocess.Popen(command(tmp_path / "runs", trials, 1), stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    done = [int(process.communicate(timeout=300)[0].split()[1]) for process in both]
    assert sum(done) == 4
    assert len(RunStore(tmp_path / "runs").all()) == 4


@pytest.mark.slow
def test_processes_give_the_same_runs_as_one(tmp_path):
    trials = some_trials(3)
    sweep(trials, RunStore(tmp_path / "one"))
    result = sweep(trials, RunStore(tmp_path / "two"), jobs=2)
    assert result.done == 3
    assert files(tmp_path / "two") == files(tmp_path / "one")


@pytest.fixture
def cluster(tmp_path):
    """Two workers of one core, started in a folder of their own."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ray_cluster_that_loses_a_worker_gives_the_same_runs_from_relative_folders(tmp_path, monkeypatch, cluster):
    (tmp_path / "data").mkdir()
    table(tmp_path / "data" / "mine.csv", 0)
    own = write_own(tmp_path, monkeypatch)
    trials = [on_table(epochs=100), *some_trials(3, epochs=100), own]
    sweep(trials, RunStore(Path("local")), data_dir=Path("data"))
    killed = []

    def kill_one(outcome):
        if not killed:
            killed.append(outcome)
            cluster.remove_node(cluster.workers[0], allow_graceful=False)

    result = sweep(trials, RunStore(Path("ray")), data_dir=Path("data"), ray=cluster.address, on_outcome=kill_one)
    assert len(killed) == 1
    assert (result.done, result.failed) == (5, [])
    assert files(Path("ray")) == files(Path("local"))
    with pytest.raises(ValueError, match=r"a task needs .*'GPU': 1.*Add a node, or change --device"):
        sweep(some_trials(1, epochs=9), RunStore(Path("ray")), device="cuda", ray=cluster.address)
    with pytest.raises(ValueError, match="device must be 'cuda', got 'cuda:1'"):
        sweep(some_trials(1, epochs=9), RunStore(Path("ray")), device="cuda:1", ray=cluster.address)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ray_sweep_runs_what_stands_behind_trials_that_another_sweep_holds(tmp_path, monkeypatch, cluster):
    monkeypatch.chdir(tmp_path)
    store, trials = RunStore(tmp_path / "runs"), some_trials(7, epochs=9)
    held = trials[:5]  # more than two to a core, which is what Ray is given at once
    free = []

    def finish_elsewhere(outcome):
        free.append(outcome.trial)
        if len(free) == 2:
            for each in held:
                store.put(run(each))

    with ExitStack() as claims:
        for each in held:
            claims.enter_context(store.claim(each))
        result = sweep(trials, store, ray=cluster.address, poll_seconds=0.01, on_outcome=finish_elsewhere)
    assert {each.id for each in free[:2]} == {each.id for each in trials[5:]}
    assert (result.done, result.found, result.failed) == (2, 5, [])


SAYS_ITS_GPU = """
import os

def data(data_dir, seed):
    raise ValueError("this task sees GPU " + str(os.environ.get("CUDA_VISIBLE_DEVICES")))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ray_task_on_cuda_asks_for_a_gpu_and_sees_its_own(tmp_path, monkeypatch, cluster):
    cluster.add_node(num_cpus=1, num_gpus=1)  # claimed: nothing trains here
    (tmp_path / "gpus.py").write_text(SAYS_ITS_GPU)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    settings = trial(method="erm", dataset="gpus:data", dataset_options={})
    result = sweep([settings], RunStore(Path("runs")), device="cuda", ray=cluster.address)
    assert [outcome.message for outcome in result.failed] == ["ValueError: this task sees GPU 0"]
