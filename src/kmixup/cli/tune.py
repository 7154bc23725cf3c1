"""The search for k and alpha on the user's data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kmixup.cli.options import DataDir, Device, Epochs, Help, Jobs, existing, reader_of, usable

if TYPE_CHECKING:
    from kmixup.experiments.trial import Trial


def tune(
    data: Annotated[str, Help("A table (.csv, .parquet, .npz, ...), a folder of images, or a name: kmixup data list.")],
    settings: Annotated[
        list[str] | None, Help("Settings that all methods share: lr=0.05 batch_size=64 model_options.hidden=[64] ...")
    ] = None,
    *,
    target: Annotated[str | None, Help("The table's class column, by name or number; default: the last.")] = None,
    model: Annotated[str, Help("A model, or your own: module:function.")] = "fc",
    recipe: Annotated[str, Help("heuristic, xi, grid (the paper's) or search.")] = "heuristic",
    budget: Annotated[int | None, Help("Settings that each method may try; default: the recipe's.", min=1)] = None,
    validation: Annotated[float, Help("Share of the training points that judges.")] = 0.2,
    splits: Annotated[int, Help("Validation splits that judge each setting.", min=1)] = 1,
    refits: Annotated[int, Help("Fresh splits that the winners are trained on anew.", min=2)] = 5,
    epochs: Epochs = None,
    seed: Annotated[int, Help("Of the data's own split, and of all that is drawn.", min=0)] = 0,
    sampler: Annotated[str, Help("Optuna's, for recipe search: tpe, random, gp or qmc.")] = "tpe",
    pruner: Annotated[str, Help("Optuna's: none, median, hyperband or halving.")] = "none",
    storage: Annotated[
        str | None, Help("A journal file or a database (sqlite:///tune.db); default: tune.journal in --out.")
    ] = None,
    jobs: Jobs = None,
    data_dir: DataDir = None,
    out: Annotated[Path, Help("Folder for the storage, the result and the picture.")] = Path("runs/tune"),
    device: Device = "cpu",
) -> None:
    """Search k and alpha on your data, beside no mixing, label smoothing and mixup with the same budget.

    Test points are never looked at. Killed or interrupted, run the same command again: finished trials are kept.
    """
    import optuna
    from joblib import cpu_count
    from pydantic import ValidationError
    from rich.console import Console

    from kmixup.experiments.files import parse_settings, write_whole
    from kmixup.experiments.pictures.tuned import search_picture
    from kmixup.experiments.report.tuned import print_tuned, search_progress
    from kmixup.experiments.trial import first_mistake
    from kmixup.experiments.tune import tune as search_on
    from kmixup.experiments.tuned import Search
    from kmixup.style import save

    existing(data_dir, "--data-dir")
    usable(device)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    asked = {"recipe": recipe, "budget": budget, "splits": splits, "refits": refits}
    shared = {"model": model, "validation": validation, "seed": seed, **({"epochs": epochs} if epochs else {})}
    trial = _trial(data, target, shared, parse_settings(settings or ()), data_dir)
    try:
        search = Search.model_validate({"trial": trial, **asked, "sampler": sampler, "pruner": pruner})
    except ValidationError as error:
        raise ValueError(first_mistake(error)) from None
    console = Console()
    with search_progress(console) as show:
        try:
            tuned = search_on(
                search,
                out=out,
                storage=storage,
                data_dir=data_dir,
                device=device,
                jobs=jobs or cpu_count(),
                on_step=show,
            )
        except KeyboardInterrupt:
            console.print("Interrupted: finished trials are kept. Run the same command again to resume.")
            raise SystemExit(130) from None
    print_tuned(tuned, console)
    write_whole(out / "tune.json", tuned.to_json())
    files = [str(file) for file in save(search_picture(tuned), out / "tune", endings=("png", "pdf"))]
    console.print(f"Written: {out / 'tune.json'}, {', '.join(files)}", soft_wrap=True, highlight=False)


def _trial(
    data: str, target: str | None, shared: dict[str, Any], given: dict[str, Any], data_dir: Path | None
) -> Trial:
    """What all methods share: the data as named or by path, ours where the user says nothing."""
    from kmixup.experiments.recipe import make_trial

    dataset = reader_of(data, data_dir)
    options: dict[str, Any] = {} if dataset == data else {"path": data}
    if dataset == "table" != data:
        options["class_column"] = -1 if target is None else target
    elif target is not None:
        raise ValueError(f"--target names a column of a table, got {target} for {data}.")
    values = {"dataset": dataset, "method": "erm", **shared, **given}
    values["dataset_options"] = {**options, **given.get("dataset_options", {})}
    if values["model"] == "fc":
        values["model_options"] = {"hidden": [128, 64], **given.get("model_options", {})}
    return make_trial(values)
