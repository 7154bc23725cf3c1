"""Files: whole or absent, on any system."""

import errno
import os

import pytest

from kmixup.experiments import locks
from kmixup.experiments.files import parse_settings, type_settings, write_whole
from kmixup.experiments.locks import hold, is_held


def test_text_and_bytes_are_written_as_they_are_with_the_folders(tmp_path):
    write_whole(tmp_path / "a" / "b" / "text", "ä\n")
    write_whole(tmp_path / "bytes", b"\r\n\0")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "ä\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\r\n\0"
    assert not list(tmp_path.rglob("*.draft"))


def test_a_rename_that_windows_refuses_for_a_moment_is_tried_again(tmp_path, monkeypatch):
    replace, tries = os.replace, []

    def refused_twice(draft, path):
        tries.append(path)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "being used by another process")
        replace(draft, path)

    monkeypatch.setattr(os, "replace", refused_twice)
    write_whole(tmp_path / "x", "x")
    assert (tmp_path / "x").read_text() == "x"
    assert len(tries) == 3


def test_a_rename_that_stays_refused_is_an_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    write_whole(tmp_path / "x", "old")

    def refused(draft, path):
        raise PermissionError(errno.EACCES, "read-only")

    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(PermissionError, match="read-only"):
        write_whole(tmp_path / "x", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old"


def test_a_failed_rename_names_the_file_that_was_asked_for_and_no_draft(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match=r"Is a directory: '[^']*/x'$") as caught:
        write_whole(tmp_path / "x", "new")
    assert caught.value.filename == str(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_lock_leaves_nothing_behind(tmp_path):
    with hold(tmp_path / "locks" / "a") as mine:
        assert mine
        assert is_held(tmp_path / "locks" / "a")
    assert list((tmp_path / "locks").iterdir()) == []
    assert not is_held(tmp_path / "locks" / "a")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_costs_a_warning_and_no_more(tmp_path, monkeypatch, number):
    def refused(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", refused)
    with pytest.warns(UserWarning, match="has no locks"), hold(tmp_path / "a") as mine:
        assert mine
    assert list(tmp_path.iterdir()) == []


def test_another_error_of_a_lock_is_not_taken_for_a_system_without_locks(tmp_path, monkeypatch):
    def refused(file, how):
        raise OSError(errno.EIO, "broken disk")

    monkeypatch.setattr(locks.fcntl, "flock", refused)
    with pytest.raises(OSError, match="broken disk"), hold(tmp_path / "a"):
        pass


def test_without_locks_in_the_system_no_file_is_made_that_could_not_be_removed(tmp_path, monkeypatch):
    """Windows refuses to remove a file that is open."""
    monkeypatch.setattr(locks, "fcntl", None)
    with hold(tmp_path / "a") as mine:
        assert mine
        assert list(tmp_path.iterdir()) == []
    assert not is_held(tmp_path / "a")


@pytest.mark.parametrize(
    "settings",
    [
        {"k": 16, "alpha": 0.1, "metric": "euclidean", "channels_last": True},
        {"alpha": float("inf"), "group": "1", "model": "mine:f"},
        {"group": "a,b", "dataset": "true", "model_options": {"hidden": [120, 84], "widths": ["a", "1"]}},
        {"group": "", "dataset_options": {"path": 'with "quotes" and = signs.csv'}},
    ],
)
def test_settings_are_typed_as_they_are_read(settings):
    assert parse_settings(type_settings(settings)) == settings
