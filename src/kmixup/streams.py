"""Random streams that processes do not share by accident, and the one draw beside lam: the order of a batch."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor


def draw_order(batch: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """A random order of a batch.

    Args:
        batch: Number of samples, B.
        generator: Source of randomness; default: torch's global generator. The draw happens on its device.
        device: Where the order is needed.

    Returns:
        A uniform permutation, int64, shape ``[B]``.
    """
    return torch.randperm(batch, generator=generator, device=generator.device if generator else None).to(device)


def process_stream(generator: torch.Generator | None) -> torch.Generator | None:
    """The generator to draw from in this process, one call at a time.

    Ranks start from one seed and DataLoader workers from one copy of the generator: drawn from directly, they would all
    draw alike. Each derives its own stream from one draw of the shared one. Alone, the generator itself is used.

    Args:
        generator: The shared generator, or None for torch's global one.

    Returns:
        The generator itself (None for the global one), or one derived from it for this rank and worker.
    """
    worker = torch.utils.data.get_worker_info()
    rank = _rank()
    if rank is None and (worker is None or generator is None):
        return generator  # the workers' global generators are seeded apart already
    device = generator.device if generator is not None else torch.device("cpu")
    key = int(torch.randint(2**62, (), generator=generator, device=device))
    # A worker's seed changes with every epoch, though its copy of the generator starts anew each time.
    numbers = [key, 0 if rank is None else rank, 0 if worker is None else worker.seed]
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(seed)


def _rank() -> int | None:
    """This process's rank, None outside distributed runs. Spawned workers know it from torchrun's environment."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() if torch.distributed.get_world_size() > 1 else None
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return int(os.environ["RANK"])
    return None
