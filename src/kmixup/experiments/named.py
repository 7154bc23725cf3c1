"""What a name stands for, a registry's entry or a user's own ``module:function``, and what its options mean.

One mechanism for data sets, models and methods: options are read by the signature of the function that takes them, so
``augment="False"``, as a sweep agent writes it, means what ``augment=False`` means, and a misspelt option is an error.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import inspect
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from kmixup.experiments.trial import unknown

__all__ = ["is_own", "own", "read_options", "unknown"]

_imported: dict[str, str] = {}  # hash of each own module's file when it was imported


def is_own(name: str) -> bool:
    """Whether a name is a user's own ``module:function`` rather than an entry of a registry."""
    return ":" in name


def own(name: str) -> tuple[Callable[..., Any], str]:
    """A user's own function, and a hash of its module's file.

    The current folder comes first on the module path from here on, as with ``python -m``. A module that was edited
    since it was imported is imported again, so that the hash is that of what runs.

    Args:
        name: ``"module:function"``; the module lies in the current folder, or is installed.

    Raises:
        ValueError: If there is no such module or function.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute.isidentifier() or module_name.endswith(".py"):
        raise ValueError(
            "a name of your own must be module:function, such as mine:load for the function load in mine.py, got "
            f"{name!r}."
        )
    module, digest = _module(module_name)
    function = getattr(module, attribute, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise ValueError(unknown(f"function of {module.__file__}", attribute, functions))
    return function, digest


def _module(name: str) -> tuple[ModuleType, str]:
    folder = str(Path.cwd())
    if sys.path[0] != folder:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()  # the file may be younger than the listing of its folder
    package = name.partition(".")[0]
    here = importlib.machinery.PathFinder.find_spec(package, [folder])
    if here and here.origin and here.origin != getattr(sys.modules.get(package), "__file__", here.origin):
        for loaded in [key for key in sys.modules if f"{key}.".startswith(f"{package}.")]:
            del sys.modules[loaded]  # of the same name, from a folder that was current before
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; one that it imports is not
        raise ValueError(
            f"no module {name!r} in {folder} or among the installed ones. Run in the folder of {name}.py."
        ) from error
    if module.__file__ is None:
        raise ValueError(f"{name!r} must be a module with a file, got a folder or a built-in module.")
    code = Path(module.__file__).read_bytes()
    digest = hashlib.sha256(code).hexdigest()
    if _imported.setdefault(name, digest) != digest:
        # Not by importlib.reload: it trusts bytecode of the same second and size.
        exec(compile(code, module.__file__, "exec"), vars(module))
        _imported[name] = digest
    return module, digest


def read_options(
    kind: str, name: str, function: Callable[..., Any], options: Mapping[str, Any], *, given: Collection[str]
) -> dict[str, Any]:
    """Every option of a call, defaults included, each as the function's signature says that it is meant.

    Args:
        kind: ``"dataset"``, ``"model"`` or ``"method"``; options are typed as ``<kind>_options.<option>=...``.
        name: Of the data set, model or method.
        function: What takes the options, as keyword arguments. An option with a type (or a default that is true or
            false) is read as pydantic reads that type; one without is passed on as it is.
        options: As typed.
        given: Arguments that are no options.

    Returns:
        Keyword arguments: a record of what the call will do, should a default change one day.

    Raises:
        ValueError: If an option is unknown, missing, or not of its type.
    """
    parameters = _signature(function).parameters
    absent = [argument for argument in given if argument not in parameters and not _takes_any(parameters)]
    if absent:
        raise ValueError(f"{kind} {name!r} must take {' and '.join(given)}; it lacks {' and '.join(absent)}.")
    known = {
        key: parameter
        for key, parameter in parameters.items()
        if key not in given and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    for key in options:
        if key in given:
            raise ValueError(f"{key} is no option of {kind} {name!r}: it is given by the trial.")
        if key not in known and not _takes_any(parameters):
            if not known:
                raise ValueError(f"{kind} {name!r} has no options, got {key!r}. Leave it out.")
            raise ValueError(unknown(f"option of {kind} {name!r}:", key, known))
    read = dict(options)
    for key, parameter in known.items():
        if key in options:
            read[key] = _read(f"{kind}_options.{key}", parameter, options[key])
        elif parameter.default is parameter.empty:
            raise ValueError(f"{kind} {name!r} needs the option {key}: {kind}_options.{key}=...")
        else:
            read[key] = parameter.default
    return read


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:  # annotations that only a type checker can read: options stay as typed
        signature = inspect.signature(function)
        bare = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
        return signature.replace(parameters=bare)


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _read(where: str, parameter: inspect.Parameter, value: Any) -> Any:
    kind = parameter.annotation
    if kind is parameter.empty:
        if not isinstance(parameter.default, bool):
            return value
        kind = bool
    try:
        adapter = TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:  # a type that is its own judge
        adapter = TypeAdapter(kind)
    try:
        read = adapter.validate_python([value] if _means_a_list_of_one(kind, value) else value)
    except ValidationError as error:
        wanted = dict.fromkeys(part["msg"].replace("Input should", "must", 1) for part in error.errors())
        raise ValueError(f"{where} {' or '.join(wanted)}, got {value!r}.") from None
    if isinstance(value, bool) and type(read) in (int, float):
        raise ValueError(f"{where} must be a number, got {value!r}.")
    return read


def _means_a_list_of_one(kind: Any, value: Any) -> bool:
    origins = [get_origin(part) for part in (kind, *get_args(kind))]
    return isinstance(value, str | int | float) and any(origin in (Sequence, list, tuple) for origin in origins)
