"""What the commands show on a terminal: the plan, the progress, the report, what was written."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kmixup.experiments.costs import estimate_seconds
from kmixup.experiments.naming import row_name
from kmixup.experiments.points import calibrate_trial
from kmixup.experiments.provenance import Origins
from kmixup.experiments.recipe import Recipe
from kmixup.experiments.report import print_report, print_table, write_report
from kmixup.experiments.run import Run
from kmixup.experiments.runs import RunStore, read_lines, write_lines
from kmixup.experiments.summary import Report, make_report
from kmixup.experiments.sweep import Outcome, SweepResult, sweep
from kmixup.experiments.trial import Trial


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
    origins = Origins(data_dir)
    result = run_trials(
        recipe, store, origins=origins, jobs=jobs, data_dir=data_dir, device=device, ray=ray, console=console
    )
    print_report(make_report(beside, [run for run in store.all() if origins.fits(run)]), console)
    console.print(f"Runs: {store.folder}, {result.done} of them new.", soft_wrap=True, highlight=False)
    return not result.failed


def run_trials(
    recipe: Recipe,
    store: RunStore,
    *,
    origins: Origins | None = None,
    jobs: int,
    data_dir: Path | None = None,
    device: str = "cpu",
    ray: str | None = None,
    console: Console,
) -> SweepResult:
    """Run what is not finished; a progress bar, or a line per finished trial where the output is not a terminal.

    Arguments as for `reproduce`, and ``origins`` as for `kmixup.experiments.sweep.sweep`.

    Returns:
        How the sweep ended; failures are printed.
    """
    trials = recipe.all_trials()
    origins = origins or Origins(data_dir)

    def finished() -> int:
        return sum(store.get(trial, origins.of(trial)) is not None for trial in trials)

    # What cannot run is known before anything does.
    blocked = [trial for trial in trials if origins.of(trial) is None and store.get(trial) is None]
    runnable = [trial for trial in trials if trial.id not in {each.id for each in blocked}]
    left = len(runnable) - finished()
    store.all()
    print_broken(store, console)
    for dataset, reason in origins.unchecked.items():
        console.print(
            f"[yellow]{escape(dataset)} cannot be read:[/] its finished runs count as they are ({escape(reason)})",
            soft_wrap=True,
        )
    cannot = f", {len(blocked)} that cannot run" if blocked else ""
    done = len(runnable) - left
    console.print(f"{recipe.name}: {len(trials)} trials, {done} finished before, {left} to run{cannot}.")
    with _progress(recipe.name, left, jobs, store, origins, console) as show:
        try:
            result = sweep(
                runnable,
                store,
                origins=origins,
                data_dir=data_dir,
                device=device,
                jobs=jobs,
                ray=ray,
                on_outcome=show,
            )
        except KeyboardInterrupt:
            console.print(
                f"Interrupted: {finished()} of {len(trials)} trials are finished and kept in {store.folder}, those in "
                "progress are dropped. Run the same command again to resume."
            )
            raise SystemExit(130) from None
    result.failed += [Outcome(trial, "failed", origins.unchecked[trial.dataset]) for trial in blocked]
    for message, count in _counted([outcome.message for outcome in result.failed]):
        console.print(f"[bold red]{count} trials failed:[/] {escape(message)}")
    return result


@contextmanager
def _progress(
    name: str, left: int, jobs: int, store: RunStore, origins: Origins, console: Console
) -> Iterator[Callable[[Outcome], None]]:
    """What to call after each trial."""
    start, done = time.monotonic(), 0

    def remaining() -> str:
        # Trials end in rounds of as many as there are processes.
        rounds, rounds_left = max(math.ceil(done / jobs), 1), math.ceil((left - done) / jobs)
        return (
            f"about {_duration((time.monotonic() - start) / rounds * rounds_left)} left" if rounds_left else "the last"
        )

    if not console.is_terminal:

        def line(outcome: Outcome) -> None:
            nonlocal done
            done += 1
            name, ending = trial_name(outcome.trial), _ending(outcome, store, origins)
            console.out(f"[{done}/{left}] {name}: {ending}; {remaining()}", highlight=False)

        yield line
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[remaining]}"),
    )
    with Progress(*columns, console=console, transient=True, disable=not left) as bar:
        task = bar.add_task(name, total=left, remaining="")

        def advance(outcome: Outcome) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=1, remaining=remaining(), refresh=True)

        yield advance


def trial_name(trial: Trial) -> str:
    """A trial in words: its data, row, alpha and seed."""
    alpha = f", alpha = {trial.alpha:g}" if trial.alpha else ""
    return f"{trial.dataset}, {row_name(trial)}{alpha}, seed {trial.seed}"


def _ending(outcome: Outcome, store: RunStore, origins: Origins) -> str:
    if outcome.message:
        return f"{outcome.status}: {outcome.message}"
    run = store.get(outcome.trial, origins.of(outcome.trial))
    if run is None:
        return outcome.status
    error = "diverged" if run.final_error is None else f"{100 * run.final_error:.2f} % error"
    return f"{error} in {run.seconds.total:.1f} s"


def export(
    recipe: Recipe, store: RunStore, to: Path, *, points: int, replace: bool = False
) -> tuple[list[Path], int, int]:
    """Add a table's runs to its evidence, one JSON-lines file, and write its report beside it.

    Evidence only grows: runs that the file holds stay as they are, unless they are to be replaced.

    Args:
        recipe: The table.
        store: Where runs are.
        to: Folder of ``NAME.jsonl`` and ``NAME.md``.
        points: Entries of each learning curve to keep of the runs that are added.
        replace: Whether the file's own runs are dropped.

    Returns:
        The two files, how many runs they now rest on, and how many of them are new to the file.

    Raises:
        ValueError: If there is nothing to write, or the file holds runs of another table of that name, or another
            result of the same trial, or if a cell would have runs of different data, code or options.
    """
    path = to / f"{recipe.name}.jsonl"
    runs = _trusted(make_report(recipe, store.all()))
    if not runs:
        raise ValueError(f"no runs of {recipe.name} in {store.folder}, so nothing was written. Say where with --out.")
    kept = [] if replace or not path.exists() else list(read_lines(path))
    cells = {cell.settings.cell_id for cell in recipe.cells}
    strangers = sum(run.trial.cell_id not in cells for run in kept)
    if strangers:
        raise ValueError(
            f"{path} holds {strangers} runs of cells that {recipe.name} does not have here: other settings, or another "
            "table of that name. Write elsewhere with --to, or drop them with --replace."
        )
    held = {run.id: run for run in kept}
    for run in runs:
        if run.id in held and run.final_error != held[run.id].final_error:
            raise ValueError(
                f"{path} holds another result of {trial_name(run.trial)} ({run.id}). Move one of them away, or write "
                "these runs alone with --replace."
            )
    try:
        _trusted(make_report(recipe, [*kept, *runs]))
    except ValueError as error:
        raise ValueError(
            f"with the runs that {path} holds, {error} Or write these runs alone with --replace."
        ) from None
    added = [run.thinned(points) for run in runs if run.id not in held]
    write_lines(path, [*kept, *added])
    write_report([make_report(recipe, [*kept, *added])], path.with_suffix(".md"))
    return [path, path.with_suffix(".md")], len(kept) + len(added), len(added)


def _trusted(report: Report) -> list[Run]:
    """The runs of all cells, unless a cell is refused: evidence that leaves one out must not look whole."""
    for cell in report.cells:
        if cell.refused:
            raise ValueError(cell.refused)
    return [run for cell in report.cells for run in cell.runs]


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
    rows: list[tuple[str, dict[str, str]]] = []
    seconds: dict[str, float] = {}
    total = 0.0
    problems: list[str] = []
    origins = Origins(data_dir)
    for cell in recipe.cells:
        settings = cell.settings
        calibration, cost = None, None
        left = cell.trials
        try:
            seeds = (cell.trial(seed) for seed in range(cell.trials))
            left = sum(store.get(trial, origins.of(trial)) is None for trial in seeds)
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
        columns = {
            "alpha_k": "" if calibration is None else f"{calibration.alpha_k:.3g}",
            "xi": "" if calibration is None else f"{calibration.xi:.3g}",
            "xi/2": "" if calibration is None else f"{calibration.printed_xi:.3g}",
            "paper's": "" if printed is None else f"{printed:g}",
            "to run": f"{left}/{cell.trials}",
            "s each": "" if cost is None else f"{cost:.1f}",
        }
        if calibration is not None and not calibration.attainable:
            columns["alpha_k"] += " max"
        rows.append((f"{settings.dataset}, {row_name(settings)}, alpha = {settings.alpha:g}", columns))
    console.print(f"{recipe.name}: {recipe.title}", markup=False, highlight=False)
    print_table("cell", ("alpha_k", "xi", "xi/2", "paper's", "to run", "s each"), rows, console)
    if any(columns["alpha_k"].endswith("max") for _, columns in rows):
        console.print("max: no larger alpha_k is allowed (max_alpha), and the xi of k = 1 is out of reach.")
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
    by_reason: dict[str, list[Path]] = {}
    for path, reason in store.broken.items():
        by_reason.setdefault(reason, []).append(path)
    for reason, paths in by_reason.items():
        more = f" and {len(paths) - 1} more like it" if len(paths) > 1 else ""
        console.print(
            f"[yellow]not a run, counts as missing:[/] {escape(str(paths[0]))}{more} ({escape(reason)})", soft_wrap=True
        )


def _counted(messages: Sequence[str]) -> list[tuple[str, int]]:
    return [(message, messages.count(message)) for message in dict.fromkeys(messages)]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
