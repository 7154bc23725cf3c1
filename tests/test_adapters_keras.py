"""Keras 3 without TensorFlow: the page of the docs under its other backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "adapters" / "keras.md"


def test_the_keras_page_runs_with_the_jax_backend_and_no_tensorflow() -> None:
    code = f"""
import sys
sys.modules["tensorflow"] = None
from pathlib import Path
import keras, torch
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
keras.utils.set_random_seed(0)  # weights and order; the mixing draws from torch
torch.manual_seed(0)
for example in Sybil([PythonCodeBlockParser()]).parse(Path({str(PAGE)!r})).examples():
    example.evaluate()
print("backend", keras.backend.backend(), float(example.namespace["accuracy"]))
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    _, backend, accuracy = done.stdout.strip().splitlines()[-1].split()
    assert backend == "jax"
    assert float(accuracy) > 0.6
