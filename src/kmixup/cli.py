"""The command line: one function a command, each a thin layer over a function of the library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kmixup.experiments.recipe import Recipe
    from kmixup.experiments.training import Training

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="k-mixup: the paper's experiments, and your own.",
)

data_app = typer.Typer(no_args_is_help=True, help="The data sets: which there are, and fetching them.")
app.add_typer(data_app, name="data")

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder with the data files.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of run files.")]
Also = Annotated[list[Path] | None, typer.Option("--also", help="JSON-lines files or folders whose runs count too.")]
Where = Annotated[
    list[str] | None, typer.Option("--where", help="Only these cells, such as k=1,16 or group=a; repeatable.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Another setting for all cells, such as metric=euclidean.")
]
Epochs = Annotated[int | None, typer.Option(min=1, help="Another number of epochs: a reduced protocol, and marked so.")]
Device = Annotated[str, typer.Option(help="Where to train: cpu, cuda, cuda:1, mps.")]


def main() -> None:
    """Run the command line; a mistake of the user's is one line, not a traceback."""
    from rich.console import Console
    from rich.markup import escape

    try:
        app(standalone_mode=True)
    except (ValueError, OSError, ImportError) as error:
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise SystemExit(1) from None


@app.command()
def train(
    settings: Annotated[list[str], typer.Argument(help="Settings of the trial: dataset=iris k=16 alpha=1 ...")],
    recipe: Annotated[str | None, typer.Option(help="Take other settings from the first cell that fits.")] = None,
    data_dir: DataDir = None,
    out: Out = Path("runs"),
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the trained model beside its run file, to attack it.")
    ] = False,
) -> None:
    """Train and test one trial, and write its run file. Killed, it resumes where it was half a minute before.

    Example: kmixup train dataset=iris model=fc model_options.hidden=[120,84] k=16 alpha=1 batch_size=32 lr=0.005

    On several devices: torchrun --nproc-per-node 2 -m kmixup train ...
    """
    from rich.console import Console
    from rich.progress import track

    from kmixup.experiments.checkpoints import checkpoint_dir, discard_checkpoint
    from kmixup.experiments.distributed import here, leave, process_group
    from kmixup.experiments.recipe import make_trial, parse_settings
    from kmixup.experiments.runs import RunStore
    from kmixup.experiments.training import run

    trial = make_trial(parse_settings(settings), recipe)
    store = RunStore(out)
    with process_group(device) as device:
        console = Console(quiet=not here().first)
        finished = store.get(trial)
        if finished is None:
            store.check_writable()
            bar = iter(track(range(trial.epochs), description=trial.id, console=console, transient=True))

            def advance(training: Training) -> None:
                next(bar, None)

            finished = run(
                trial,
                data_dir=data_dir,
                device=device,
                threads=threads,
                checkpoints=checkpoint_dir(out),
                models=out if keep else None,
                on_epoch=advance,
            )
            if here().first:
                store.put(finished)
                discard_checkpoint(checkpoint_dir(out), trial)
        else:
            console.print("This trial was run before; nothing to do.")
        error = "diverged" if finished.final_error is None else f"test error {100 * finished.final_error:.2f} %"
        console.print(f"{error} in {finished.seconds.total:.1f} s, {store.path(trial)}")
    leave()


@app.command()
def attack(
    run_file: Annotated[Path, typer.Argument(help="Run file of a trial that was trained with --keep.")],
    epsilons: Annotated[str, typer.Option(help="Sizes in 1/255 of the pixel range.")] = "0.5,1,2,4,8,16",
    data_dir: DataDir = None,
    device: Device = "cpu",
) -> None:
    """Attack a trained model with FGSM: its error on the test images, by the size of the attack."""
    from rich.console import Console
    from rich.table import Table

    from kmixup.experiments.attacks import attack_run

    errors = attack_run(run_file, [float(text) for text in epsilons.split(",")], data_dir=data_dir, device=device)
    table = Table(title=f"FGSM, {run_file.stem}")
    table.add_column("epsilon / (1/255)", justify="right")
    table.add_column("error %", justify="right")
    for epsilon, error in errors.items():
        table.add_row(f"{epsilon:g}", f"{100 * error:.2f}")
    Console().print(table)


@data_app.command("list")
def data_list() -> None:
    """Data sets by name, with what their loaders say, and which can be fetched."""
    from rich.console import Console
    from rich.table import Table

    from kmixup.experiments.datasets import DATASETS
    from kmixup.experiments.datasets.fetch import FETCHABLE

    table = Table()
    table.add_column("name", no_wrap=True)
    table.add_column("fetch")
    table.add_column("what")
    for name, loader in DATASETS.items():
        summary = " ".join((loader.__doc__ or "").partition("\n\n")[0].split())
        table.add_row(name, "yes" if name in FETCHABLE else "", summary)
    Console().print(table)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A data set that `kmixup data list` marks.")],
    into: Annotated[Path | None, typer.Option(help="Folder; default: kmixup's cache, where the loader looks.")] = None,
) -> None:
    """Fetch a data set: with checksums, resumed if broken off. Nothing else in kmixup uses the network."""
    from rich.console import Console

    from kmixup.experiments.datasets.fetch import fetch_dataset

    Console().print(f"{name} is in {fetch_dataset(name, into)}", soft_wrap=True)


@app.command()
def reproduce(
    name: Annotated[
        str,
        typer.Argument(help="table1, table1a, ..., figure1, figure2, figure3, theory, or a recipe's path (.toml)."),
    ],
    trials: Annotated[int | None, typer.Option(min=1, help="Seeds per cell.")] = None,
    epochs: Epochs = None,
    where: Where = None,
    settings: Set = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per CPU core.")] = None,
    data_dir: DataDir = None,
    out: Out = Path("runs"),
    also: Also = None,
    device: Device = "cpu",
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster to run on: auto, local, host:port.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells and a time estimate; run nothing.")
    ] = False,
) -> None:
    """Run a table's trials that are not finished yet, then report; or draw a picture, as PDF and PNG.

    Killed or interrupted, run the same command again: finished trials are kept.
    """
    if name == "theory" or name.startswith("figure"):
        table_only = {
            "--trials": trials,
            "--where": where,
            "--set": settings,
            "--jobs": jobs,
            "--also": also,
            "--ray": ray,
        }
        _draw(name, out, epochs, [option for option, value in table_only.items() if value] + ["--dry-run"] * dry_run)
        return
    from joblib import cpu_count
    from rich.console import Console

    from kmixup.experiments import reproduce as command
    from kmixup.experiments.runs import RunStore

    console, jobs = Console(), jobs or cpu_count()
    whole = _recipe(name, where, settings)
    recipe = whole.override(trials=trials, epochs=epochs)
    store = RunStore(out, also or [])
    if dry_run:
        command.show_plan(recipe, store, jobs=jobs, data_dir=data_dir, device=device, console=console)
        return
    succeeded = command.reproduce(
        recipe, store, beside=whole, jobs=jobs, data_dir=data_dir, device=device, ray=ray, console=console
    )
    if not succeeded:
        raise typer.Exit(1)


@app.command()
def report(
    name: Annotated[str, typer.Argument(help="table1, table1a, ..., or the path of a recipe (.toml).")],
    where: Where = None,
    settings: Set = None,
    out: Out = Path("runs"),
    also: Also = None,
    measure: Annotated[str, typer.Option(help="final, or best: the best epoch, chosen on the test data.")] = "final",
    to: Annotated[
        Path | None, typer.Option(help="Write a file instead; its ending says what: .md, .csv, .html.")
    ] = None,
) -> None:
    """Show what the runs say beside what the paper says. Made from run files alone."""
    from rich.console import Console

    from kmixup.experiments.report import MEASURES, make_report, print_report, write_report
    from kmixup.experiments.reproduce import print_broken
    from kmixup.experiments.runs import RunStore

    if measure not in MEASURES:
        raise ValueError(f"measure must be one of {', '.join(MEASURES)}, got {measure!r}.")
    store = RunStore(out, also or [])
    made = make_report(_recipe(name, where, settings), store.all(), measure=measure)
    print_broken(store, Console(stderr=True))
    if to is None:
        print_report(made, Console())
    else:
        write_report(made, to)


@app.command()
def claims(
    names: Annotated[list[str] | None, typer.Argument(help="table1, table3, ...; default: every table.")] = None,
    out: Out = Path("runs"),
    also: Also = None,
    to: Annotated[Path | None, typer.Option(help="Write a Markdown file instead.")] = None,
) -> None:
    """Say of every claim of the tables: held, not held, or not tested by these runs.

    They are the paper's sentences, but for those of recipes with a dash in the name: our small versions and checks.
    """
    from rich.console import Console

    from kmixup.experiments.recipe import recipe_names
    from kmixup.experiments.report import claims_to_markdown, make_report
    from kmixup.experiments.reproduce import print_broken
    from kmixup.experiments.runs import RunStore, write_whole

    store = RunStore(out, also or [])
    runs = list(store.all())
    print_broken(store, Console(stderr=True))
    text = claims_to_markdown([make_report(_recipe(name, None, None), runs) for name in names or recipe_names()])
    if to is None:
        typer.echo(text)
    else:
        write_whole(to, text)


@app.command()
def cost(
    names: Annotated[list[str], typer.Argument(help="table3, table9, ...: any image or speech tables.")],
    tflops: Annotated[
        float, typer.Option(min=1e-6, help="Speed that training reaches, in 10^12 operations per second.")
    ] = 10.0,
    settings: Set = None,
) -> None:
    """Count the floating-point operations of whole tables, and what hours they take at a given speed."""
    from rich.console import Console
    from rich.table import Table

    from kmixup.experiments.cost import recipe_costs

    table = Table("table", "trials", "10^15 per trial", "cost matrices", f"hours at {tflops:g} TFLOP/s, all trials")
    for name in names:
        for found in recipe_costs(_recipe(name, None, settings)):
            numbers = [f"{found.per_trial / 1e15:.3g}", f"{found.matching:.2%}", f"{found.hours(tflops * 1e12):.1f}"]
            table.add_row(f"{name}: {found.title}", str(found.trials), *numbers)
    Console().print(table)


@app.command()
def curves(
    name: Annotated[str, typer.Argument(help="table9, or another table, or the path of a recipe (.toml).")],
    to: Annotated[Path, typer.Option(help="Where, without ending: a PDF and a PNG are written.")],
    where: Where = None,
    settings: Set = None,
    out: Out = Path("runs"),
    also: Also = None,
) -> None:
    """Draw training curves from run files: mean and band over trials, a line per cell.

    The paper's Figure 4: kmixup curves table9 --where k=1,32 --where alpha=1,10 --to figure4
    """
    from rich.console import Console

    from kmixup.experiments.curves import training_curves
    from kmixup.experiments.figures import save
    from kmixup.experiments.report import make_report
    from kmixup.experiments.runs import RunStore

    made = make_report(_recipe(name, where, settings), RunStore(out, also or []).all())
    for file in save(training_curves(made), to):
        Console().print(str(file), soft_wrap=True)


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="table1, or the path of a recipe (.toml).")],
    to: Annotated[Path, typer.Option(help="Folder for NAME.jsonl and NAME.md.")] = Path("results"),
    settings: Set = None,
    out: Out = Path("runs"),
    also: Also = None,
    points: Annotated[int, typer.Option(min=2, help="Points of each learning curve to keep.")] = 12,
) -> None:
    """Write a table's runs to one JSON-lines file, a run a line, and its report beside it."""
    from kmixup.experiments.report import make_report, write_report
    from kmixup.experiments.runs import RunStore, write_lines

    recipe = _recipe(name, None, settings)
    made = make_report(recipe, RunStore(out, also or []).all())
    write_lines(to / f"{recipe.name}.jsonl", [run for cell in made.cells for run in cell.runs], points)
    write_report(made, to / f"{recipe.name}.md")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the run files and the picture.")] = Path("runs/demo"),
    trials: Annotated[int | None, typer.Option(min=1, help="Seeds per method.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default: one per CPU core.")] = None,
) -> None:
    """No mixup, mixup and k-mixup on 5,000 real digits: a table and a picture."""
    from joblib import cpu_count
    from rich.console import Console

    from kmixup.experiments import demo as command

    if not command.demo(out, jobs=jobs or cpu_count(), trials=trials, epochs=epochs, console=Console()):
        raise typer.Exit(1)


def _draw(name: str, out: Path, epochs: int | None, refused: list[str]) -> None:
    from rich.console import Console

    from kmixup.experiments.gallery import PICTURES
    from kmixup.experiments.recipe import unknown

    if name not in PICTURES:
        raise ValueError(unknown("picture", name, PICTURES))
    if epochs is not None and name != "figure1":
        refused.append("--epochs")
    if refused:
        raise ValueError(f"{', '.join(refused)} does not apply to {name}. Leave it out.")
    console = Console()
    with console.status(f"drawing {name}"):
        files = PICTURES[name](out) if epochs is None else PICTURES[name](out, epochs=epochs)
    for file in files:
        console.print(str(file), soft_wrap=True)


def _recipe(name: str, where: list[str] | None, settings: list[str] | None) -> Recipe:
    from kmixup.experiments.recipe import parse_settings, read_recipe

    return read_recipe(name).where(**parse_settings(where or [])).override(**parse_settings(settings or []))
