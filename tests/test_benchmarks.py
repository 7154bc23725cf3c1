"""The benchmarks: how ratios are taken, and that the page on speed says what was measured."""

from pathlib import Path

import pytest

from kmixup.experiments.report.scorecard import fill

page = pytest.importorskip("benchmarks.page", reason="the benchmarks are beside the sources, run from the repository")
timing = pytest.importorskip("benchmarks.timing")


def test_the_page_on_speed_is_what_the_results_render_to():
    assert (Path(page.DOCS) / "speed.md").read_text() == page.render()


def test_the_comparison_with_c_mixup_is_what_its_results_render_to():
    regression = pytest.importorskip("benchmarks.regression")
    text = regression.PAGE.read_text()
    assert fill(text, "regression", regression.render()) == text


def test_a_ratio_is_the_median_over_rounds_and_skips_rounds_without_the_slow_contender():
    times = {"slow": [8.0, None, 30.0, 4.0], "fast": [2.0, 1.0, 3.0, 2.0], "other": [2.0, 9.0, 3.0, 2.0]}
    assert timing.ratio(times, "slow", "fast") == 4
    assert timing.ratio(times, "slow", ["fast", "other"]) == 2


def test_contenders_run_in_turns_and_slow_ones_less_often():
    calls = []
    contenders = {name: lambda name=name: calls.append(name) for name in ("a", "b", "c")}
    times = timing.in_turns(contenders, budget=0.0, rounds=(5, 5))
    rounds = [calls[start : start + 3] for start in range(0, len(calls), 3)]
    assert [sorted(names) for names in rounds] == [["a", "b", "c"]] * 6  # one to warm up
    assert len({tuple(names) for names in rounds}) > 3  # not one order that starts elsewhere each time
    times = timing.in_turns(contenders, budget=0.0, rounds=(5, 5), rare=["b"])
    assert [t is None for t in times["b"]] == [False, False, False, True, True]


def test_several_runs_are_read_as_their_median_with_their_extremes(tmp_path, monkeypatch):
    head = "run,section,B,k,d,kind,quantity,value,unit"
    values = {"library / torchvision": (1.2, 1.0, 1.5), "library": (3, 3, 3)}
    lines = [f"{n + 1},shapes,64,16,2,,{name},{v[n]},s" for n in range(3) for name, v in values.items()]
    (tmp_path / "shapes.csv").write_text("\n".join([head, *lines]) + "\n")
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    ratio, time = page.read("shapes")
    assert (ratio.quantity, ratio.value, str(ratio.value)) == ("library / torchvision", 1.2, "1.2 (1 to 1.5)")
    assert (time.case, str(time.value)) == ((64, 16, 2, ""), "3")
