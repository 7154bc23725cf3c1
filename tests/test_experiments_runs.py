"""Run files: whole or absent, never trusted blindly."""

import json
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from kmixup.experiments.files import write_whole
from kmixup.experiments.run import UNKNOWN
from kmixup.experiments.runs import RunStore, convert, convert_file, one_origin, write_lines
from kmixup.experiments.training import run
from kmixup.experiments.trial import SCHEMA, Trial
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


def changed(**parts):
    return lambda text: json.dumps({**json.loads(text), **parts})


def curves_of(text, **parts):
    return json.dumps({**json.loads(text), "curves": {**json.loads(text)["curves"], **parts}})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: "[" * 100_000, "not whole JSON: recursion limit exceeded"),
        (lambda text: '{"trial":' * 100_000, "not whole JSON: recursion limit exceeded"),
        (lambda text: "[1, 2]", "not a run: "),
        (lambda text: "NaN", "not a run: "),
        (lambda text: '{"trial": {"a": 1}, "schema": "http://json-schema.org/draft-07"}', "not a run: "),
        (changed(schema=None), "not a run: schema: "),
        (changed(schema=[2]), "not a run: schema: "),
        (changed(schema="99"), "not a run: schema: "),
        (changed(final_error=float("nan")), "not a run: final_error: "),
        (changed(final_error="NaN"), "not a run: final_error: "),
        (changed(final_error=37), "not a run: final_error: "),
        (changed(best_error=-0.1), "not a run: best_error: "),
        (changed(attack_error={"big": 0.5}), "a size is a number >= 0, got 'big'"),
        (changed(noise_error={"-1": 0.5}), "a size is a number >= 0, got '-1'"),
        (changed(attack_error={"8": 1.5}), "a share is between 0 and 1, got 1.5"),
        (changed(xi="NaN"), "not a run: xi: "),
        (changed(seconds={"total": -1, "matching": 0}), "not a run: seconds.total: "),
        (changed(finished="yesterday"), "not a run: finished: "),
        (changed(note="\x1b]0;a title\x07\x1b[2J"), "a text in it holds signs that cannot be printed"),
        (changed(**{"\x1b[31m": 1}), "a text in it holds signs that cannot be printed"),
        (lambda text: curves_of(text, train_loss=[1.0]), "learning curves must have one length"),
        (changed(curves={"train_loss": [], "train_accuracy": [], "test_error": []}), "must have an entry at least"),
        (lambda text: curves_of(text, epochs=[1]), "learning curves must have one length"),
        (lambda text: curves_of(text, epochs=[1] * len(json.loads(text)["curves"]["test_error"])), "must rise from 1"),
    ],
)
def test_a_hostile_file_is_named_with_the_reason_and_never_believed(tmp_path, made, damage, reason):
    store = RunStore(tmp_path)
    path = store.put(made)
    path.write_text(damage(path.read_text()))
    assert store.all() == []
    assert reason in store.broken[path]
    with pytest.raises(ValueError, match=r"hostile\.json: "):
        convert_file(path.rename(tmp_path / "hostile.json"), RunStore(tmp_path / "new"))


@pytest.mark.parametrize("place", [lambda path: path.mkdir(), lambda path: path.symlink_to(path.name)])
def test_what_is_no_file_is_named_and_the_run_is_written_beside_a_folder(tmp_path, made, place):
    store = RunStore(tmp_path)
    place(store.path(made.trial))
    assert store.all() == []
    assert store.path(made.trial) in store.broken
    store.put(made)
    assert store.all() == [made]


def test_a_run_under_anothers_name_or_with_edited_settings_is_not_believed(tmp_path, made):
    store = RunStore(tmp_path)
    path = store.put(made)
    document = json.loads(path.read_text())
    document["trial"]["k"] = 8
    path.write_text(json.dumps(document))
    assert store.get(made.trial) is None
    assert store.broken[path] == "its id does not belong to its settings"
    path.write_text(path.read_text().replace('"k": 8', '"k": 4'))
    path.rename(tmp_path / "0123456789abcdef.json")
    assert store.all() == []
    assert store.broken[tmp_path / "0123456789abcdef.json"] == "its name does not belong to its settings"


def test_a_failed_write_leaves_the_old_file_and_no_draft(tmp_path, made, monkeypatch):
    store = RunStore(tmp_path)
    path = store.put(made)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.put(made)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_trial(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write to .*file/runs.* choose another folder with --out"):
        RunStore(tmp_path / "file" / "runs").check_writable()
    if os.geteuid() != 0:  # root writes anywhere
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
        with pytest.raises(OSError, match="cannot write to"):
            RunStore(tmp_path).check_writable()
        tmp_path.chmod(stat.S_IRWXU)


def test_a_full_disk_is_found_before_the_first_trial(tmp_path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as on a full disk, an empty file is still made
    try:
        with pytest.raises(OSError, match=r"cannot write to .* Make room, or choose another folder with --out\.$"):
            RunStore(tmp_path / "runs").check_writable()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "runs").iterdir()) == []


HOLD = """
import sys, time
from pathlib import Path
from kmixup.experiments.trial import Trial
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
    path.write_bytes(path.read_bytes().replace(b'{"id": 3}', b'{"id": "\xff"}'))
    with pytest.raises(ValueError, match=r"t.jsonl, line 2: not whole JSON: invalid unicode"):
        RunStore(tmp_path / "runs", also=[path])


# --- provenance -------------------------------------------------------------------------------------------------------


def test_a_run_file_holds_every_setting_defaults_included_and_the_schema(tmp_path, made):
    document = json.loads(RunStore(tmp_path).put(made).read_text())
    assert set(document["trial"]) == set(Trial.model_fields)
    assert document["schema"] == SCHEMA
    write_lines(tmp_path / "t.jsonl", [made], points=2)
    line = json.loads((tmp_path / "t.jsonl").read_text())
    assert set(line["trial"]) == set(Trial.model_fields)
    assert line["schema"] == SCHEMA


def test_the_same_settings_on_other_data_are_another_run_and_neither_is_taken_for_the_other(tmp_path, made):
    store = RunStore(tmp_path)
    one, other = (made.model_copy(update={"source": source, "note": source}) for source in ("a", "b"))
    assert store.put(one).name == f"{made.id}.json"
    assert store.put(other).name == f"{made.id}-{other.origin.tag}.json"
    assert store.path(made.trial, one.origin) == store.path(made.trial)
    assert store.path(made.trial, other.origin).name == f"{made.id}-{other.origin.tag}.json"
    assert store.get(made.trial, one.origin) == one
    assert store.get(made.trial, other.origin) == other
    for change in ({"source": "c"}, {"code": {"mine:net": "1"}}, {"options": {"model": {"hidden": [16]}}}):
        assert store.get(made.trial, replace(one.origin, **change)) is None
    assert store.all() == [one, other] or store.all() == [other, one]
    assert store.put(one).name == f"{made.id}.json"  # again, to the same file
    with pytest.raises(ValueError, match=rf"trial {made.id} has runs of different data, code or options"):
        store.get(made.trial)


def test_a_cell_of_two_origins_is_refused_by_name(made):
    one, other = (made.model_copy(update={"source": source}) for source in ("a", "b"))
    one_origin("cell", [one, one])
    with pytest.raises(ValueError, match=r"cell k=4 has runs of different data, code.*1 run, such as .*Move the"):
        one_origin("cell k=4", [one, other])


def own(**settings):
    return trial(dataset="csv", dataset_options={"path": "mine.csv"}, method="erm", **settings)


def test_a_converted_run_counts_for_the_papers_data_and_never_for_the_users_own(made):
    converted = made.model_copy(update={"source": UNKNOWN})
    assert converted.comes_from(made.origin)
    assert not converted.model_copy(update={"trial": own()}).comes_from(made.origin)


def test_a_run_that_knows_its_data_takes_the_place_of_a_converted_one(tmp_path, made):
    write_lines(tmp_path / "t.jsonl", [made.model_copy(update={"source": UNKNOWN})], points=3)
    store = RunStore(tmp_path / "runs", also=[tmp_path])
    assert [run.source for run in store.all()] == [UNKNOWN]
    store.put(made)
    assert store.all() == [made]
    assert store.get(made.trial) == made


def old(made):
    """The run as the last version of schema 1 wrote it."""
    document = json.loads(made.model_dump_json(exclude={"schema_number", "source", "code", "test", "validation"}))
    for name in ("validation", "noise_sigmas"):
        del document["trial"][name]
    for name in ("noise_error",):
        del document[name]
    del document["curves"]["validation_error"], document["seconds"]["cpu"], document["environment"]["core"]
    return {**document, "id": "0123456789abcdef"}


def test_a_run_file_of_an_older_schema_is_named_and_convertible(tmp_path, made):
    path = tmp_path / "old" / "0123456789abcdef.json"
    write_whole(path, json.dumps(old(made)))
    store = RunStore(tmp_path / "old")
    assert store.all() == []
    assert store.broken[path] == "a run of schema 1, this kmixup has 2. `kmixup runs convert` makes it one of this."
    new = RunStore(tmp_path / "new")
    convert_file(path, new)
    (run,) = new.all()
    assert run.trial == made.trial
    assert (run.source, run.environment.core, run.final_error) == (UNKNOWN, UNKNOWN, made.final_error)
    write_whole(tmp_path / "t.jsonl", json.dumps(old(made)))
    with pytest.raises(ValueError, match=r"t.jsonl, line 1: a run of schema 1"):
        RunStore(tmp_path / "new", also=[tmp_path / "t.jsonl"])


def test_a_setting_that_an_old_run_leaves_out_had_the_default_of_its_time(made):
    document = old(made)
    del document["trial"]["alpha_rule"]  # whose default was Algorithm 1, and is alpha itself now
    assert convert(document).trial.alpha_rule == "exact"


@pytest.mark.parametrize("damage", [{"trial": {}}, {"id": 3}, {"trial": {"k": 0}}])
def test_what_is_no_old_run_is_not_converted(tmp_path, made, damage):
    write_whole(tmp_path / "x.json", json.dumps({**old(made), **damage} if "id" not in damage else damage))
    with pytest.raises(ValueError, match=r"x.json: not a run"):
        convert_file(tmp_path / "x.json", RunStore(tmp_path / "new"))


def test_a_run_of_a_newer_kmixup_says_so(tmp_path, made):
    path = RunStore(tmp_path).put(made)
    path.write_text(path.read_text().replace('"schema": 2', '"schema": 3'))
    store = RunStore(tmp_path)
    assert store.all() == []
    assert store.broken[path] == "a run of schema 3, this kmixup has 2. Update kmixup to read it."


@pytest.mark.parametrize(("change", "message"), [('"k":4', '"k":8'), ('"schema":2', '"schema":1')])
def test_committed_lines_are_checked_like_run_files(tmp_path, made, change, message):
    write_lines(tmp_path / "t.jsonl", [made], points=3)
    text = (tmp_path / "t.jsonl").read_text()
    assert change in text
    (tmp_path / "t.jsonl").write_text(text.replace(change, message))
    with pytest.raises(ValueError, match=r"t.jsonl, line 1: (its id does not belong|a run of schema 1)"):
        RunStore(tmp_path / "runs", also=[tmp_path])
