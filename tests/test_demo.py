"""The demo, small, as a user runs it."""

import pytest
from typer.testing import CliRunner

from kmixup.cli.app import app


@pytest.mark.slow
def test_the_demo_prints_its_table_and_draws_its_picture(tmp_path, monkeypatch):
    monkeypatch.setenv("KMIXUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ["demo", "--out", str(tmp_path / "demo"), "--trials", "2", "--epochs", "1", "--jobs", "1"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    lines = [line.strip() for line in result.output.splitlines()]
    for method in ("no mixup", "mixup", "k-mixup, k=16"):
        assert any(line.startswith(method) and "+-" in line for line in lines)
    assert "…" not in result.output
    assert (tmp_path / "demo" / "demo.png").stat().st_size > 10_000
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "6 finished before, 0 to run" in again.output
