"""What holds for every adapter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kmixup.adapters

ADAPTERS = sorted(path.stem for path in Path(kmixup.adapters.__file__).parent.glob("[a-z]*"))

# What each adapter may import; the rest is made unimportable for it.
FRAMEWORKS = {
    "sklearn": {"sklearn"},
    "huggingface": {"transformers", "accelerate"},
    "lightning": {"pytorch_lightning", "lightning"},
    "timm": {"timm"},
}
ALL = sorted(set().union(*FRAMEWORKS.values()) | {"torchvision", "keras", "jax", "imblearn", "pandas", "polars"})


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def without(modules: list[str]) -> str:
    return "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in modules)


def test_every_adapter_says_what_it_needs() -> None:
    assert sorted(FRAMEWORKS) == ADAPTERS


def test_importing_kmixup_imports_no_framework() -> None:
    done = run(f"import kmixup, sys; print(sorted(set({ALL}) & set(sys.modules)))")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_needs_its_own_framework_and_no_other(adapter: str) -> None:
    others = [name for name in ALL if name not in FRAMEWORKS[adapter]]
    if adapter == "timm":
        others.remove("torchvision")  # timm itself requires it
    done = run(f"{without(others)}import kmixup.adapters.{adapter}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("adapter", ["huggingface", "sklearn"])
def test_a_missing_framework_is_named_with_the_extra_to_install(adapter: str) -> None:
    done = run(f"{without(sorted(FRAMEWORKS[adapter]))}import kmixup.adapters.{adapter}")
    assert "ImportError" in done.stderr
    assert f"pip install 'kmixup[{adapter}]'" in done.stderr
