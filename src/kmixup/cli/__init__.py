"""The command line's entry point: what is missing, wrong or unprintable becomes one line, never a traceback."""

from __future__ import annotations

import codecs
import io
import os
import sys

_EXTRAS = {"ray": "ray", "optuna": "tune", "plotly": "report", "transformers": "huggingface"}
_PLAIN = {
    "\u2014": "-",
    "\u2013": "-",
    "±": "+-",
    "…": "...",
    "\u00d7": "x",
    "²": "^2",
    "₂": "_2",
}  # dashes, times


def main() -> None:
    """Run the command line."""
    # Files are drawn, not windows: a notebook's backend, inherited, need not exist here.
    os.environ["MPLBACKEND"] = "agg"
    codecs.register_error("kmixup-plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="kmixup-plain")
    try:
        from kmixup.cli.app import app

        app()
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "kmixup"):
            raise
        extra = _EXTRAS.get(package, "experiments")
        _stop(f"this needs {package}, which is not installed. Run: pip install 'kmixup[{extra}]'")
    except (ValueError, OSError, ImportError) as error:
        _stop(_sentence(error))


def _stop(message: str) -> None:
    bold, end = ("\x1b[1;31m", "\x1b[0m") if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else ("", "")
    print(f"{bold}error:{end} {message}", file=sys.stderr)
    raise SystemExit(1)


def _sentence(error: Exception) -> str:
    """What went wrong; a bare system error names its file."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Encoding-error handler: the nearest that any code page has, such as ``+-``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in text), error.end
