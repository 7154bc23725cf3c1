"""The commands, in groups: plain functions of one file per family, made into a command line by typer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

import typer

from kmixup import __version__
from kmixup.cli import data, demo, diagnose, listing, runs, tables, trials, tune
from kmixup.cli.options import Help

_GROUPS: dict[str, tuple[Callable[..., bool | None], ...]] = {
    "Start here": (demo.demo, demo.playground, listing.list_names),
    "Your data": (diagnose.diagnose, tune.tune),
    "The paper's tables and figures, and your own": (
        tables.reproduce,
        tables.report,
        tables.curves,
        tables.claims,
        tables.cost,
        tables.export,
    ),
    "One trial": (trials.train, trials.attack),
}
_FOLDERS: dict[str, tuple[str, str, dict[str, Callable[..., bool | None]]]] = {
    "data": (
        "Data",
        "The data sets: which there are, and fetching them.",
        {"list": data.data_list, "fetch": data.data_fetch},
    ),
    "runs": ("Data", "Run files.", {"convert": runs.runs_convert}),
}


def _command(function: Callable[..., bool | None]) -> Callable[..., None]:
    """The function as typer takes it: positional parameters are arguments, keyword-only ones options; False exits 1."""

    def run(**given: Any) -> None:
        if function(**given) is False:
            raise typer.Exit(1)

    signature = inspect.signature(function, eval_str=True)
    parameters = [_parameter(parameter) for parameter in signature.parameters.values()]
    run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # pyright: ignore[reportFunctionMemberAccess]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = function.__name__, function.__doc__
    return run


def _parameter(parameter: inspect.Parameter) -> inspect.Parameter:
    assert get_origin(parameter.annotation) is Annotated, parameter
    kind, said = get_args(parameter.annotation)
    assert isinstance(said, Help), parameter
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
        flag = said.flag or "--" + parameter.name.replace("_", "-")
        shown = typer.Option(flag, help=said.text, min=said.min, max=said.max)
    else:
        shown = typer.Argument(help=said.text, min=said.min, max=said.max)
    return parameter.replace(annotation=Annotated[kind, shown], kind=inspect.Parameter.KEYWORD_ONLY)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kmixup {__version__}")
        raise typer.Exit


def _make() -> typer.Typer:
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

    @app.callback(help="k-mixup: the paper's experiments, and your own.")
    def options(
        version: Annotated[
            bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
        ] = False,
    ) -> None: ...

    for group, functions in _GROUPS.items():
        for function in functions:
            app.command(function.__name__.partition("_")[0], rich_help_panel=group)(_command(function))
    for name, (panel, help, commands) in _FOLDERS.items():
        folder = typer.Typer(no_args_is_help=True, help=help)
        for command, function in commands.items():
            folder.command(command)(_command(function))
        app.add_typer(folder, name=name, rich_help_panel=panel)
    return app


app = _make()
