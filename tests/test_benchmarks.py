"""The benchmarks: how ratios are taken, and that the page on speed says what was measured."""

from pathlib import Path

import pytest

page = pytest.importorskip("benchmarks.page", reason="the benchmarks are beside the sources, run from the repository")
timing = pytest.importorskip("benchmarks.timing")


def test_the_page_on_speed_is_what_the_results_render_to():
    assert (Path(page.DOCS) / "speed.md").read_text() == page.render()


def test_a_ratio_is_the_median_over_rounds_and_skips_rounds_without_the_slow_contender():
    times = {"slow": [8.0, None, 30.0, 4.0], "fast": [2.0, 1.0, 3.0, 2.0], "other": [2.0, 9.0, 3.0, 2.0]}
    assert timing.ratio(times, "slow", "fast") == 4
    assert timing.ratio(times, "slow", ["fast", "other"]) == 2


def test_contenders_run_in_turns_and_slow_ones_less_often():
    calls = []
    contenders = {name: lambda name=name: calls.append(name) for name in ("a", "b")}
    times = timing.in_turns(contenders, budget=0.0, rounds=(5, 5))
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b", "b", "a", "a", "b"]
    times = timing.in_turns(contenders, budget=0.0, rounds=(5, 5), rare=["b"])
    assert [t is None for t in times["b"]] == [False, False, False, True, True]
