"""Peak memory of one call, as the operating system counts it, each in a process of its own (Linux only)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CASES = [(512, k) for k in (1, 32, 256)] + [(batch, 32) for batch in (128, 2048)]


def peaks(counts: list[int], budget: float) -> Iterator[dict[str, Any]]:
    """Extra memory at the peak of a call on images of 3 x 32 x 32, in units of the batch's own size."""
    if not Path("/proc/self/clear_refs").exists():
        return
    # Freed blocks go back to the system at once, so that a peak is a peak of what is in use.
    tight = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_ARENA_MAX": "1"}
    for batch, k in CASES:
        command = [sys.executable, "-m", "benchmarks.memory", str(batch), str(k)]
        done = subprocess.run(command, env=os.environ | tight, capture_output=True, text=True, check=True)
        case = {"section": "memory", "threads": 1, "dtype": "float32", "B": batch, "k": k, "d": 3072}
        for who, extra in json.loads(done.stdout).items():
            yield {**case, "quantity": who, "value": extra / (batch * 3072 * 4), "unit": "batches"}


def _measure(batch: int, k: int) -> dict[str, int]:
    import numpy as np
    import torch
    from torchvision.transforms import v2

    from benchmarks.matching import CLASSES, images
    from benchmarks.peers import figure_5
    from kmixup import KMixup

    torch.set_num_threads(1)
    x, x2 = images(batch, (3, 32, 32), 0, torch.float32), images(batch, (3, 32, 32), 1, torch.float32)
    y = torch.randint(CLASSES, (batch,))
    mixer, mixup = KMixup(k, 1.0, num_classes=CLASSES), v2.MixUp(alpha=1.0, num_classes=CLASSES)
    arrays = (x.flatten(1).numpy(), torch.eye(CLASSES)[y].numpy(), x2.flatten(1).numpy(), torch.eye(CLASSES)[y].numpy())
    rng = np.random.default_rng(0)
    calls = {
        "library": lambda: mixer(x, y),
        "torchvision": lambda: mixup(x, y),
        "figure 5": lambda: figure_5(*arrays, k, 1.0, rng),
    }
    return {who: _extra(call) for who, call in calls.items()}


def _extra(call: Callable[[], Any]) -> int:
    call()  # loads what is loaded once
    call()
    Path("/proc/self/clear_refs").write_text("5")  # sets the recorded peak back to the present
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(_measure(int(sys.argv[1]), int(sys.argv[2]))))
