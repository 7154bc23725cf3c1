"""Keras 3 without TensorFlow: the page of the docs under its other backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "adapters" / "keras.md"


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    """What the page gives with the JAX backend, and lam of each batch of two epochs as forked workers draw it."""
    code = f"""
import copy, json, sys
sys.modules["tensorflow"] = None
from pathlib import Path
import keras, numpy as np, torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from kmixup import KMixup
keras.utils.set_random_seed(0)  # weights, order and the seeds of batches; the JAX part draws from torch
torch.manual_seed(0)
for example in Sybil([PythonCodeBlockParser()]).parse(Path({str(PAGE)!r})).examples():
    example.evaluate()
page = example.namespace
mixer = KMixup(k=4, alpha=1.0, num_classes=3, generator=torch.Generator())
batches = page["Mixed"](page["x"], page["y"], mixer)
def lam(i):
    batches.mixer = copy.deepcopy(mixer)
    weights = batches[i][1]
    return float(weights[(weights > 0) & (weights < 1)].max())
epochs = [[lam(i) for i in range(4)], [lam(i) for i in range(4)]]
batches.on_epoch_end()
epochs.append([lam(i) for i in range(4)])
print(json.dumps({{"backend": keras.backend.backend(), "accuracy": float(page["accuracy"]), "lam": epochs}}))
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_keras_page_runs_with_the_jax_backend_and_no_tensorflow(run: dict[str, Any]) -> None:
    assert run["backend"] == "jax"
    assert run["accuracy"] > 0.6


def test_batches_and_epochs_differ_though_all_workers_start_from_one_copy_of_the_mixer(run: dict[str, Any]) -> None:
    first, again, second = run["lam"]
    assert first == again
    assert len({*first, *second}) == 8
