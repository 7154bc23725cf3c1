"""What a search found, on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kmixup.estimate import Estimate
from kmixup.experiments.report.terminal import print_table
from kmixup.experiments.tuned import RIVALS, SEARCHED, Step, Tuned, title

__all__ = ["print_tuned", "search_progress"]

_SHOWN = 8


@contextmanager
def search_progress(console: Console) -> Iterator[Callable[[Step], None]]:
    """What to call after each trial of a search: a bar on a terminal, a line for each trial elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("searching", total=None)

        def show(step: Step) -> None:
            line = f"{step.study}: {step.setting}"
            if console.is_terminal:
                bar.update(task, completed=step.done, total=step.total, description=line, refresh=True)
            else:
                error = "given up" if step.error is None else f"{100 * step.error:.2f} % validation error"
                console.out(f"[{step.done}/{step.total}] {line}: {error}", highlight=False)

        yield show


def print_tuned(tuned: Tuned, console: Console) -> None:
    """The best settings of all methods, the winners anew, what that shows, and the line to paste.

    Args:
        tuned: What was found.
        console: Where to print.
    """
    search = tuned.search
    judged = sorted(
        (attempt.error, SEARCHED.index(method), attempt.number, method, attempt)
        for method, attempts in tuned.attempts.items()
        for attempt in attempts
        if attempt.error is not None
    )
    rows = [
        (str(rank), {"method": title(method), "setting": attempt.words, "error %": f"{100 * error:.2f}"})
        for rank, (error, _, _, method, attempt) in enumerate(judged[:_SHOWN], 1)
    ]
    print_table("rank", ("method", "setting", "error %"), rows, console)
    count = sum(len(attempts) for attempts in tuned.attempts.values())
    console.print(
        f"The {len(rows)} best of {count} settings, {tuned.budget} to each method, by their validation error on "
        f"{search.splits} split{'s' * (search.splits > 1)}. The best of many looks better than it is; so the best of "
        f"each method, trained anew on {search.refits} fresh splits:\n",
        highlight=False,
    )
    columns = ("its best", "error %", "k-mixup's gain, points")
    winners = []
    for method in sorted(SEARCHED, key=lambda method: tuned.error(method).mean):
        gain = _interval(tuned.gain(method)) if method in RIVALS else ""
        error = tuned.error(method)
        entries = (tuned.winner(method).words, f"{error.mean:.2f} +- {error.std_error:.2f}", gain)
        winners.append((title(method), dict(zip(columns, entries, strict=True))))
    print_table("method", columns, winners, console)
    for sentence in tuned.findings():
        console.print(sentence, markup=False, highlight=False)
    console.print("No test point was looked at. To paste, and to test:")
    for line in (tuned.code(), tuned.command()):
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _interval(gain: Estimate) -> str:
    low, high = gain.interval()
    return f"{gain.mean:+.2f} ({low:+.2f} to {high:+.2f})"
