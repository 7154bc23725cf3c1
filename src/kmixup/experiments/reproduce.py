"""What `kmixup reproduce` shows on a terminal: the plan, the progress, the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from kmixup.experiments.recipe import Recipe
from kmixup.experiments.report import print_report
from kmixup.experiments.runs import RunStore
from kmixup.experiments.summary import make_report, row_name
from kmixup.experiments.sweep import Outcome, SweepResult, estimate_seconds, sweep
from kmixup.experiments.training import calibrate_trial


def reproduce(
    recipe: Recipe,
    store: RunStore,
    *,
    beside: Recipe,
    jobs: int,
    data_dir: Path | None = None,
    device: str = "cpu",
    ray: str | None = None,
    console: Console,
) -> bool:
    """Run what is not finished, with a progress bar, and print the report.

    Args:
        recipe: What to run.
        store: Where runs are and go.
        beside: The table as the paper has it, for the report to say where ``recipe`` is smaller.
        jobs: Processes.
        data_dir: Where data files are.
        device: Where to train.
        ray: Address of a Ray cluster to use instead of processes.
        console: Where to print.

    Returns:
        Whether every trial succeeded.
    """
    result = run_trials(recipe, store, jobs=jobs, data_dir=data_dir, device=device, ray=ray, console=console)
    print_report(make_report(beside, store.all()), console)
    return not result.failed


def run_trials(
    recipe: Recipe,
    store: RunStore,
    *,
    jobs: int,
    data_dir: Path | None = None,
    device: str = "cpu",
    ray: str | None = None,
    console: Console,
) -> SweepResult:
    """Run what is not finished, with a progress bar; arguments as for `reproduce`.

    Returns:
        How the sweep ended; failures are printed.
    """
    trials = recipe.all_trials()
    left = sum(store.get(trial) is None for trial in trials)
    print_broken(store, console)
    console.print(f"{recipe.name}: {len(trials)} trials, {len(trials) - left} finished before, {left} to run.")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=console, transient=True, speed_estimate_period=600) as progress:
        task = progress.add_task(recipe.name, total=left)

        def show(outcome: Outcome) -> None:
            progress.advance(task)

        try:
            result = sweep(trials, store, data_dir=data_dir, device=device, jobs=jobs, ray=ray, on_outcome=show)
        except KeyboardInterrupt:
            done = sum(store.get(trial) is not None for trial in trials)
            console.print(
                f"Interrupted: {done} of {len(trials)} trials are finished and kept in {store.folder}, those in "
                "progress are dropped. Run the same command again to resume."
            )
            raise SystemExit(130) from None
    for message, count in _counted([outcome.message for outcome in result.failed]):
        console.print(f"[bold red]{count} trials failed:[/] {escape(message)}")
    return result


def show_plan(
    recipe: Recipe, store: RunStore, *, jobs: int, data_dir: Path | None = None, device: str = "cpu", console: Console
) -> None:
    """Print the cells with alpha_k and xi, and a measured estimate of the time; train nothing.

    Args:
        recipe: The table.
        store: Where finished runs are.
        jobs: Processes, for the estimate.
        data_dir: Where data files are.
        device: Where to train.
        console: Where to print.
    """
    table = Table(title=f"{recipe.name}: {recipe.title}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("cell", "alpha", "alpha_k", "xi", "xi/2", "paper's", "to run", "s each"):
        table.add_column(name, justify="left" if name == "cell" else "right", no_wrap=True)
    seconds: dict[str, float] = {}
    total = 0.0
    problems: list[str] = []
    for cell in recipe.cells:
        settings = cell.settings
        left = sum(store.get(cell.trial(seed)) is None for seed in range(cell.trials))
        calibration, cost = None, None
        try:
            calibration = calibrate_trial(cell.trial(0), data_dir)
            # One measurement serves all alphas: they cost the same.
            kind = settings.model_copy(update={"alpha": min(settings.alpha, 1.0)}).id
            if kind not in seconds:
                seconds[kind] = estimate_seconds(settings, data_dir=data_dir, device=device)
            cost = seconds[kind]
            total += cost * left
        except (OSError, ValueError, ImportError) as error:
            problems.append(f"{settings.dataset}: {error}")
        printed = cell.published.xi
        table.add_row(
            f"{settings.dataset}, {row_name(settings)}",
            f"{settings.alpha:g}",
            "" if calibration is None else f"{calibration.alpha_k:.3g}" + ("" if calibration.attainable else " max"),
            "" if calibration is None else f"{calibration.xi:.3g}",
            "" if calibration is None else f"{calibration.printed_xi:.3g}",
            "" if printed is None else f"{printed:g}",
            f"{left}/{cell.trials}",
            "" if cost is None else f"{cost:.1f}",
        )
    console.print(table)
    console.print(
        "xi is the root mean squared perturbation by the paper's definition. Its tables print half of that, as the "
        "released code measures |0.5 (x - x')|^2: compare xi/2 with the paper's."
    )
    for message, count in _counted(problems):
        console.print(f"[yellow]{count} cells cannot run yet:[/] {escape(message)}")
    console.print(
        f"About {_duration(total / jobs)} with {jobs} {'process' if jobs == 1 else 'processes'} "
        f"({_duration(total)} of one core; measured just now, on a machine that may be busy with other work)."
    )


def print_broken(store: RunStore, console: Console) -> None:
    """Name the files that were met and are no runs."""
    for path, reason in store.broken.items():
        console.print(
            f"[yellow]not a run, counts as missing:[/] {escape(str(path))} ({escape(reason)})", soft_wrap=True
        )


def _counted(messages: Sequence[str]) -> list[tuple[str, int]]:
    return [(message, messages.count(message)) for message in dict.fromkeys(messages)]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
