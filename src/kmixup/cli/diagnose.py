"""The command that looks at your data before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kmixup.cli.options import DataDir, Help, reader_of

if TYPE_CHECKING:
    from rich.console import Console

    from kmixup.diagnosis import Diagnosis


def diagnose(
    source: Annotated[
        str,
        Help("A table (CSV and its kin, ARFF, Parquet, .npz), a folder of images, or a name of `kmixup data list`."),
    ],
    *,
    target: Annotated[str, Help("Column of the labels in a table, by name or number; default: the last.")] = "-1",
    classes: Annotated[bool, Help("Numbers in the target are classes, however many there are.", "--classes")] = False,
    k: Annotated[str | None, Help("Values of k, such as 1,4,16; default: powers of 2 that fit the data.")] = None,
    alpha: Annotated[str, Help("Values of alpha at k = 1.")] = "0.1,0.2,1",
    metric: Annotated[str, Help("Cost of the matching: sqeuclidean, euclidean or cosine.")] = "sqeuclidean",
    batch_size: Annotated[int, Help("Samples per batch.", min=2)] = 256,
    batches: Annotated[int, Help("Batches to draw for each k: more of them, smaller standard errors.", min=2)] = 16,
    seed: Annotated[int, Help("Draws the batches.", min=0, max=2**63 - 1)] = 0,
    settings: Annotated[
        list[str] | None, Help("An option of the reader, such as missing=mean or scaling=raw; repeatable.", "--set")
    ] = None,
    data_dir: DataDir = None,
    figure: Annotated[Path | None, Help("Draw it too: a file that ends in .png, .pdf or .svg.")] = None,
    json: Annotated[bool, Help("Print every number as JSON, and nothing else.", flag="--json")] = False,
) -> None:
    """What k and alpha will do to your data: distances, labels, intrusion, alpha_k, cost, and what follows from them.

    Measured on all rows of a table or a folder of images, standardised as for training; on the training points of a
    named data set. Nothing is trained.
    """
    import torch

    from kmixup.diagnostics import diagnose as measure
    from kmixup.experiments.files import parse_settings
    from kmixup.style import DATELESS, save

    if figure is not None and figure.suffix not in DATELESS:
        raise ValueError(f"--figure is a file that ends in {', '.join(DATELESS)}, got {figure.name!r}.")
    x, y = _read(source, target, classes, parse_settings(settings or []), data_dir)
    found = measure(
        x,
        y,
        ks=None if k is None else _numbers("--k", k, int),
        alphas=_numbers("--alpha", alpha, float),
        metric=metric,  # pyright: ignore[reportArgumentType]
        batch_size=batch_size,
        batches=batches,
        generator=torch.Generator().manual_seed(seed),
    )
    if json:
        print(found.to_json())
    else:
        _show(found)
    if figure is not None:
        save(found.plot(), figure.with_suffix(""), endings=(figure.suffix[1:],))


def _read(source: str, target: str, classes: bool, options: dict[str, Any], data_dir: Path | None) -> tuple[Any, Any]:
    from kmixup.experiments.datasets import load_data
    from kmixup.experiments.datasets.data import normalise
    from kmixup.experiments.datasets.table import whole_table

    reader = reader_of(source, data_dir)
    if reader == "table" != source:
        x, y = whole_table(source, target, options, data_dir)
        return x, y.astype(str) if classes else y
    if reader == "imagefolder" != source:
        options = {"path": source, **options}
    data = load_data(reader, data_dir, 0, options)
    return normalise(data.x_train, data.mean, data.std), data.y_train


def _numbers(option: str, text: str, kind: type) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} must be numbers with commas between them, got {text!r}.") from None


def _show(found: Diagnosis) -> None:
    from rich.console import Console

    console = Console()
    places = len(found.alphas)
    _print("What each k does to the data", [line[:-places] for line in found.table()], console)
    heads = [f"{rule} {alpha:g}" for rule in ("exact", "sqrt") for alpha in found.alphas]
    lines = [
        [str(row.k), *(f"{c.alpha_k:.3g}" + "*" * (not c.attainable) for r in ("exact", "sqrt") for c in row.rules[r])]
        for row in found.rows
    ]
    _print("alpha_k of each alpha, by both rules", [["k", *heads], *lines], console)
    if found.classes is not None:
        lines = [[str(row.k), *(f"{entropy:.2f}" for entropy in row.label_entropy or ())] for row in found.rows]
        heads = [f"alpha {alpha:g}" for alpha in found.alphas]
        _print("Entropy of the mixed labels at the exact alpha_k, nats", [["k", *heads], *lines], console)
    for text in (*found.remarks(), f"\n{found.recommendation}"):
        console.print(text, markup=False, highlight=False)


def _print(title: str, lines: Sequence[Sequence[str]], console: Console) -> None:
    from kmixup.experiments.report import print_table

    (_, *columns), *rows = lines
    console.print(title, style="italic", highlight=False)
    print_table("", columns, [(f"k = {k}", dict(zip(columns, row, strict=True))) for k, *row in rows], console)
