"""Run files: whole or absent, never trusted blindly."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from kmixup.experiments import runs
from kmixup.experiments.runs import RunStore, write_lines, write_whole
from kmixup.experiments.training import run
from test_experiments_training import numbers, trial


@pytest.fixture(scope="module")
def made():
    return run(trial(method="k-mixup", k=4, alpha=1.0))


def test_a_run_survives_its_file_exactly(tmp_path, made):
    store = RunStore(tmp_path / "runs")
    store.put(made)
    assert store.get(made.trial) == made
    assert store.all() == [made]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [f"{made.id}.json"]


def test_nothing_else_is_found(tmp_path, made):
    store = RunStore(tmp_path)
    store.put(made)
    assert store.get(trial(method="k-mixup", k=4, alpha=1.0, seed=1)) is None
    assert RunStore(tmp_path / "none").all() == []


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "", lambda text: '{"a": 1}'])
def test_a_truncated_or_foreign_file_is_reported_and_counts_as_not_run(tmp_path, made, damage):
    store = RunStore(tmp_path)
    path = store.put(made)
    path.write_text(damage(path.read_text()))
    assert store.get(made.trial) is None
    assert store.all() == []
    assert path in store.broken
    store.put(made)
    assert RunStore(tmp_path).get(made.trial) == made


def test_a_run_under_anothers_name_or_with_edited_settings_is_not_believed(tmp_path, made):
    store = RunStore(tmp_path)
    path = store.put(made)
    document = json.loads(path.read_text())
    document["trial"]["k"] = 8
    path.write_text(json.dumps(document))
    assert store.get(made.trial) is None
    assert store.broken[path] == "its name does not belong to its settings"


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path, made, monkeypatch):
    store = RunStore(tmp_path)
    path = store.put(made)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.put(made)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_trial(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*file/runs.* Choose another folder with --out"):
        RunStore(tmp_path / "file" / "runs").check_writable()
    if os.geteuid() != 0:  # root writes anywhere
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(OSError, match="cannot write to"):
            RunStore(tmp_path).check_writable()
        tmp_path.chmod(stat.S_IRWXU)


HOLD = """
import sys, time
from pathlib import Path
from kmixup.experiments.recipe import Trial
from kmixup.experiments.runs import RunStore

with RunStore(Path(sys.argv[1])).claim(Trial.model_validate_json(sys.argv[2])) as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_a_trial_is_claimed_by_one_process_until_it_lets_go_or_dies(tmp_path):
    store, settings = RunStore(tmp_path), trial(method="erm")
    command = [sys.executable, "-c", HOLD, str(tmp_path), settings.model_dump_json()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "True\n"
        assert store.is_claimed(settings)
        with store.claim(settings) as mine:
            assert not mine
        holder.kill()
    assert not store.is_claimed(settings)
    for _ in range(2):
        with store.claim(settings) as mine:
            assert mine


def test_no_two_hold_a_trial_while_claims_come_and_go(tmp_path):
    settings = trial(method="erm")
    inside, together, held = [], [], []

    def claim_often(name):
        store = RunStore(tmp_path)
        for _ in range(1500):
            with store.claim(settings) as mine:
                if mine:
                    inside.append(name)
                    held.append(name)
                    together.extend([list(inside)] if len(inside) > 1 else [])
                    inside.remove(name)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # between any two steps of a claim another one comes in
    try:
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(claim_often, range(6)))
    finally:
        sys.setswitchinterval(interval)
    assert len(held) > 1000
    assert together == []


def test_exported_lines_are_read_back_with_thinned_curves(tmp_path, made):
    long = run(trial(method="erm", epochs=30))
    write_lines(tmp_path / "results" / "t.jsonl", [made, long, made], points=5)
    store = RunStore(tmp_path / "runs", also=[tmp_path / "results"])
    assert store.get(long.trial).curves.epochs == [1, 8, 15, 23, 30]
    assert len(store.get(long.trial).curves.test_error) == 5
    assert store.get(long.trial).final_error == long.final_error
    short = numbers(store.get(made.trial))
    assert short.match == made.match
    assert len(store.all()) == 2
    assert not (tmp_path / "runs").exists()


def test_a_line_that_is_no_run_is_an_error_that_names_it(tmp_path, made):
    path = tmp_path / "t.jsonl"
    write_lines(path, [made], points=5)
    write_whole(path, path.read_text() + '{"id": 3}\n')
    with pytest.raises(ValueError, match=r"t.jsonl, line 2: not a run"):
        RunStore(tmp_path / "runs", also=[path])
