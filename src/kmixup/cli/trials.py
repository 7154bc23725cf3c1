"""Commands about one trial: training it, attacking what it trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kmixup.cli.options import DataDir, Device, Help, Out, existing, usable

if TYPE_CHECKING:
    from kmixup.experiments.training import Training


def train(
    settings: Annotated[list[str], Help("Settings of the trial: dataset=iris k=16 alpha=1 ...")],
    *,
    recipe: Annotated[str | None, Help("Take other settings from the first cell that fits.")] = None,
    data_dir: DataDir = None,
    out: Out = Path("runs"),
    device: Device = "cpu",
    threads: Annotated[int, Help("CPU threads.", min=1)] = 1,
    keep: Annotated[bool, Help("Keep the trained model beside its run file, to attack it.", flag="--keep")] = False,
) -> None:
    """Train and test one trial, and write its run file. Killed, it resumes where it was half a minute before.

    Example: kmixup train dataset=iris model=fc model_options.hidden=[120,84] k=16 alpha=1 batch_size=32 lr=0.005

    On several devices: torchrun --nproc-per-node 2 -m kmixup train ...
    """
    from rich.console import Console
    from rich.progress import track

    from kmixup.experiments.checkpoints import checkpoint_dir, discard_checkpoint, model_path
    from kmixup.experiments.distributed import here, leave, process_group
    from kmixup.experiments.files import parse_settings
    from kmixup.experiments.provenance import Origins
    from kmixup.experiments.recipe import make_trial
    from kmixup.experiments.reproduce import print_broken, trial_name
    from kmixup.experiments.runs import RunStore
    from kmixup.experiments.training import run

    given = parse_settings(settings)
    existing(data_dir, "--data-dir")
    if recipe is None:
        _check_names(given)
    trial = make_trial(given, recipe)
    store = RunStore(out)
    with process_group(device) as device:
        console = Console(quiet=not here().first)
        usable(device)
        origin = Origins(data_dir).of(trial)
        path = store.path(trial, origin)
        before = store.get(trial, origin)
        lacks = keep and before and not before.diverged and not model_path(out, trial, before.origin).exists()
        if lacks:
            console.print("This trial was run before, and its model was not kept: it is trained again.")
        finished = here().agree(None if lacks else before)
        if finished is None:
            store.check_writable()
            print_broken(store, console)
            bar = iter(track(range(trial.epochs), description=trial_name(trial), console=console, transient=True))

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
                path = store.put(finished)
                discard_checkpoint(checkpoint_dir(out), trial)
        else:
            console.print("This trial was run before; nothing to do.")
        error = "diverged" if finished.final_error is None else f"test error {100 * finished.final_error:.2f} %"
        console.print(f"{trial_name(trial)}: {error} in {finished.seconds.total:.1f} s", highlight=False)
        if finished.alpha_k is not None and finished.alpha_k != trial.alpha:
            console.print(f"alpha_k = {finished.alpha_k:.4g}, by alpha_rule = {trial.alpha_rule}.", highlight=False)
        if not finished.attainable:
            console.print(f"No alpha_k up to max_alpha = {trial.max_alpha:g} reaches the xi of k = 1.", highlight=False)
        console.print(f"The run: {path}", soft_wrap=True, highlight=False)
    leave()


def attack(
    run_file: Annotated[Path, Help("Run file of a trial that was trained with --keep.")],
    *,
    epsilons: Annotated[
        str | None, Help("Sizes of FGSM in 1/255 of the pixel range; default: 0.5,1,2,4,8,16, without --noise none.")
    ] = None,
    noise: Annotated[str | None, Help("Gaussian noise: standard deviations in units of the inputs: 0.1,0.2.")] = None,
    data_dir: DataDir = None,
    device: Device = "cpu",
) -> None:
    """Attack a trained model with FGSM, or add Gaussian noise: its error on the test points, by size."""
    from rich.console import Console

    from kmixup.experiments.attacks import EPSILONS
    from kmixup.experiments.kept import evaluate_run
    from kmixup.experiments.report import print_table

    existing(run_file, "the run file")
    usable(device)
    attacks = EPSILONS if epsilons is None and noise is None else _sizes("--epsilons", epsilons)
    found = evaluate_run(run_file, epsilons=attacks, sigmas=_sizes("--noise", noise), data_dir=data_dir, device=device)
    errors = {"none": found.clean.error}
    errors |= {f"FGSM, {size}/255": error for size, error in found.attack_error.items()}
    errors |= {f"noise, {size}": error for size, error in found.noise_error.items()}
    print(f"Test error of {run_file}")
    rows = [(name, {"error %": f"{100 * error:.2f}"}) for name, error in errors.items()]
    print_table("attack", ("error %",), rows, Console())


def _sizes(option: str, text: str | None) -> list[float]:
    try:
        return [] if text is None else [float(size) for size in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} are numbers with commas between, such as 0.5,1,2, got {text!r}.") from None


def _check_names(given: Mapping[str, Any]) -> None:
    """Say what a trial must name, and which names there are."""
    from kmixup.experiments.datasets import DATASETS
    from kmixup.experiments.models import MODELS

    for name, registry in (("dataset", DATASETS), ("model", MODELS)):
        if name not in given:
            raise ValueError(
                f"{name} is missing: say {name}=NAME, one of {', '.join(sorted(registry))}, or take it from a table "
                "with --recipe table1."
            )
