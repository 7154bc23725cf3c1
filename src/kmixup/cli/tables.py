"""Commands about tables and figures: running, reporting, claims, costs, curves, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from kmixup.cli.options import (
    Also,
    DataDir,
    Device,
    Epochs,
    Help,
    Jobs,
    Name,
    Out,
    Reading,
    Set,
    Where,
    existing,
    usable,
)

if TYPE_CHECKING:
    from kmixup.experiments.recipe import Recipe
    from kmixup.experiments.run import Run
    from kmixup.experiments.runs import RunStore


def reproduce(
    name: Annotated[str, Help("table1, table1a, ..., figure1, figure2, figure3, theory, or a recipe's path (.toml).")],
    *,
    trials: Annotated[int | None, Help("Seeds per cell.", min=1)] = None,
    epochs: Epochs = None,
    where: Where = None,
    settings: Set = None,
    reading: Reading = None,
    jobs: Jobs = None,
    data_dir: DataDir = None,
    out: Out = Path("runs"),
    also: Also = None,
    device: Device = "cpu",
    ray: Annotated[str | None, Help("Address of a Ray cluster to run on: auto, local, host:port.")] = None,
    dry_run: Annotated[bool, Help("Print the cells and a time estimate; run nothing.", flag="--dry-run")] = False,
) -> bool:
    """Run a table's trials that are not finished yet, then report; or draw a picture, as PDF and PNG.

    Killed or interrupted, run the same command again: finished trials are kept.
    """
    if name == "theory" or (name.startswith("figure") and not name.endswith(".toml")):
        for_tables = {"trials": trials, "where": where, "set": settings, "reading": reading, "jobs": jobs}
        for_tables |= {"also": also, "ray": ray}
        refused = [f"--{option}" for option, value in {**for_tables, "dry-run": dry_run}.items() if value]
        _draw(name, out, epochs, refused)
        return True
    from joblib import cpu_count
    from rich.console import Console

    from kmixup.experiments import reproduce as command

    console, jobs = Console(), jobs or cpu_count()
    existing(data_dir, "--data-dir")
    if ray is None:  # whose workers may have what this machine lacks
        usable(device)
    whole = _recipe(name, where, settings, reading)
    recipe = whole.override(trials=trials, epochs=epochs)
    store = _store(out, also)
    if dry_run:
        command.show_plan(recipe, store, jobs=jobs, data_dir=data_dir, device=device, console=console)
        return True
    return command.reproduce(
        recipe, store, beside=whole, jobs=jobs, data_dir=data_dir, device=device, ray=ray, console=console
    )


def report(
    names: Annotated[
        list[str] | None, Help("table1, table1a, ..., or a recipe's path (.toml); default: every table.")
    ] = None,
    *,
    where: Where = None,
    settings: Set = None,
    reading: Reading = None,
    out: Out = Path("runs"),
    also: Also = None,
    measure: Annotated[str, Help("final, or best: the best epoch, chosen on the test data.")] = "final",
    to: Annotated[
        Path | None, Help("Write a file instead; its ending says what: .html (a page to explore), .md, .csv, .tex.")
    ] = None,
) -> None:
    """Show what the runs say beside what the paper says. Made from run files alone.

    The page: kmixup report --to report.html
    """
    from rich.console import Console

    from kmixup.experiments.recipe import recipe_names
    from kmixup.experiments.report import ENDINGS, print_report, write_page, write_report
    from kmixup.experiments.scorecard import make_scorecard
    from kmixup.experiments.summary import MEASURES, make_report

    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}.")
    if to is not None and to.suffix not in ENDINGS:
        raise ValueError(f"a report file ends in {', '.join(ENDINGS)}, got {to.name!r}.")
    page = to if to is not None and to.suffix == ".html" else None
    if page and reading is not None:
        raise ValueError("a page shows every reading that was run, side by side. Leave --reading out.")
    recipes = [_recipe(name, where, settings, reading) for name in names or recipe_names()]
    runs = _runs(_store(out, also))
    if page is not None:
        write_page(make_scorecard(recipes, runs, measure=measure), page)
        return _say_written([page])
    reports = [make_report(recipe, runs, measure=measure) for recipe in recipes]
    if to is not None:
        write_report(reports, to)
        return _say_written([to])
    for each in reports:
        print_report(each, Console())


def claims(
    names: Annotated[list[str] | None, Help("table1, table3, ...; default: every table.")] = None,
    *,
    out: Out = Path("runs"),
    also: Also = None,
    to: Annotated[Path | None, Help("Write a Markdown file instead.")] = None,
    into: Annotated[Path | None, Help("Fill the scorecard of a file that has its markers, such as PAPER.md.")] = None,
    readings: Annotated[bool, Help("Show only which reading explains the published numbers best.")] = False,
) -> None:
    """Say of every claim of the tables: held, contradicted, undecided, or not tested by these runs.

    Under the main reading of each table, and under each other one that it was run in; a scorecard comes first.
    """
    from kmixup.experiments.files import read_whole, write_whole
    from kmixup.experiments.recipe import recipe_names
    from kmixup.experiments.report import claims_to_markdown, fill_page, readings_to_markdown
    from kmixup.experiments.scorecard import make_scorecard

    runs = _runs(_store(out, also))
    made = make_scorecard([_recipe(name, None, None) for name in names or recipe_names()], runs)
    if into is not None:
        write_whole(into, fill_page(read_whole(into), made))
    text = readings_to_markdown(made) if readings else claims_to_markdown(made)
    if to is not None:
        write_whole(to, text)
    elif into is None:
        print(text)
    _say_written([file for file in (into, to) if file is not None])


def cost(
    names: Annotated[list[str], Help("table3, table9, ...: any image or speech tables.")],
    *,
    tflops: Annotated[float, Help("Speed that training reaches, in 10^12 operations per second.", min=1e-6)] = 10.0,
    settings: Set = None,
) -> None:
    """Count the floating-point operations of whole tables, and what hours they take at a given speed."""
    from rich.console import Console

    from kmixup.experiments.costs import recipe_costs
    from kmixup.experiments.report import print_table

    columns = ("trials", "10^15 per trial", "cost matrices", f"hours at {tflops:g} TFLOP/s, all trials")
    rows = []
    for name in names:
        for found in recipe_costs(_recipe(name, None, settings)):
            numbers = [f"{found.per_trial / 1e15:.3g}", f"{found.matching:.2%}", f"{found.hours(tflops * 1e12):.1f}"]
            entries = dict(zip(columns, [str(found.trials), *numbers], strict=True))
            rows.append((f"{name}: {found.title}", entries))
    print_table("table", columns, rows, Console())


def curves(
    name: Name,
    *,
    to: Annotated[Path, Help("Where, without ending: a PDF and a PNG are written.")],
    where: Where = None,
    settings: Set = None,
    out: Out = Path("runs"),
    also: Also = None,
) -> None:
    """Draw training curves from run files: mean and band over trials, a line per cell.

    The paper's Figure 4: kmixup curves table9 --where k=1,32 --where alpha=1,10 --to figure4
    """
    from kmixup.experiments.pictures.curves import training_curves
    from kmixup.experiments.summary import make_report
    from kmixup.style import save

    made = make_report(_recipe(name, where, settings), _runs(_store(out, also)))
    _say_written(save(training_curves(made), to))


def export(
    name: Annotated[str, Help("table1, or the path of a recipe (.toml).")],
    *,
    to: Annotated[Path, Help("Folder for NAME.jsonl and NAME.md.")] = Path("results"),
    settings: Set = None,
    reading: Reading = None,
    out: Out = Path("runs"),
    also: Also = None,
    points: Annotated[int, Help("Points of each learning curve to keep.", min=2)] = 12,
    replace: Annotated[bool, Help("Drop the runs that NAME.jsonl holds.", flag="--replace")] = False,
) -> None:
    """Add a table's runs to one JSON-lines file, a run a line, and write the report of all of them beside it."""
    from rich.console import Console

    from kmixup.experiments import reproduce as command

    recipe, store = _recipe(name, None, settings, reading), _store(out, also)
    _runs(store)
    files, runs, new = command.export(recipe, store, to, points=points, replace=replace)
    _say_written(files)
    Console().print(f"{runs} runs, {new} of them new.", highlight=False)


def _draw(name: str, out: Path, epochs: int | None, refused: list[str]) -> None:
    from rich.console import Console

    from kmixup.experiments.pictures import FROM_RUNS, PICTURES
    from kmixup.experiments.trial import unknown

    if name in FROM_RUNS:
        raise ValueError(f"{name} is drawn from runs. {FROM_RUNS[name]}")
    if name not in PICTURES:
        raise ValueError(unknown("picture", name, [*PICTURES, *FROM_RUNS]))
    if epochs is not None and name != "figure1":
        refused.append("--epochs")
    if refused:
        raise ValueError(f"{', '.join(refused)} does not apply to {name}. Leave it out.")
    with Console().status(f"drawing {name}"):
        files = PICTURES[name](out) if epochs is None else PICTURES[name](out, epochs=epochs)
    _say_written(files)


def _store(out: Path, also: list[Path] | None) -> RunStore:
    from kmixup.experiments.runs import RunStore

    for path in also or []:
        existing(path, "--also")
    return RunStore(out, also or [])


def _runs(store: RunStore) -> list[Run]:
    """All runs; files that are none are named."""
    from rich.console import Console

    from kmixup.experiments.reproduce import print_broken

    runs = store.all()
    print_broken(store, Console(stderr=True))
    return runs


def _say_written(files: list[Path]) -> None:
    for file in files:
        print(f"wrote {file}")


def _recipe(name: str, where: list[str] | None, settings: list[str] | None, reading: str | None = None) -> Recipe:
    from kmixup.experiments.files import parse_settings
    from kmixup.experiments.recipe import read_recipe

    recipe = read_recipe(name) if reading is None else read_recipe(name).read_as(reading)
    return recipe.where(**parse_settings(where or [])).override(**parse_settings(settings or []))
