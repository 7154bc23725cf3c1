"""Sweeps: nothing lost, nothing done twice."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kmixup.experiments.runs import RunStore
from kmixup.experiments.sweep import sweep
from kmixup.experiments.training import run
from kmixup.experiments.trial import Trial
from test_experiments_training import numbers, trial

# A sweep in a process of its own, that can be killed: folder, jobs, trials as JSON.
SWEEP = """
import json, sys, time
from pathlib import Path
from kmixup.experiments.trial import Trial
from kmixup.experiments.runs import RunStore

if __name__ == "__main__":
    trials = [Trial.model_validate(settings) for settings in json.loads(sys.argv[3])]
    print("started", flush=True)
    result = module.sweep(trials, RunStore(Path(sys.argv[1])), jobs=int(sys.argv[2]))
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_ray_cluster_that_loses_a_worker_gives_the_same_runs(tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    trials = some_trials(4, epochs=100)
    sweep(trials, RunStore(tmp_path / "local"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        killed = []

        def kill_one(outcome):
            if not killed:
                killed.append(outcome)
                cluster.remove_node(workers[0], allow_graceful=False)

        result = sweep(trials, RunStore(tmp_path / "ray"), ray=cluster.address, on_outcome=kill_one)
        assert len(killed) == 1
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert result.done == 4
    assert files(tmp_path / "ray") == files(tmp_path / "local")
