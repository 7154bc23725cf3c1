"""Random streams that processes do not share by accident, and the one draw beside lam: the order of a batch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kmixup.lam import drawn_on


def draw_order(batch: int, generator: torch.Generator | None, device: torch.device) -> Tensor:
    """A random order of a batch.

    Args:
        batch: Number of samples, B.
        generator: Source of randomness; default: torch's global generator. The draw happens on its device.
        device: Where the order is needed.

    Returns:
        A uniform permutation, int64, shape ``[B]``.
    """
    return torch.randperm(batch, generator=generator, device=drawn_on(generator)).to(device, non_blocking=True)


def process_stream(generator: torch.Generator | None, *, per_process: bool = True) -> torch.Generator | None:
    """The generator to draw from in this process, one call at a time.

    Ranks start from one seed and DataLoader workers from one copy of the generator: drawn from directly, they would all
    draw alike. Each derives its own stream from one draw of the shared one. Alone, the generator itself is used.

    Args:
        generator: The shared generator, or None for torch's global one.
        per_process: False for the same draws on every rank, given one state of the generator and, for workers, one base
            seed of their DataLoader. Workers draw apart all the same: they have different batches.

    Returns:
        The generator itself (None for the global one), or one derived from it for this rank and worker.
    """
    worker = torch.utils.data.get_worker_info()
    rank = _rank() if per_process else None
    if rank is None and (worker is None or generator is None):
        return generator  # the workers' global generators are seeded apart already
    device = drawn_on(generator)
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


class Streamed(nn.Module):
    """A module that draws from a generator of its own or from torch's global one; its state is the generator's.

    Args:
        generator: Source of all randomness; default: torch's global generator.
        per_process: Whether ranks draw apart, see `process_stream`.
    """

    def __init__(self, generator: torch.Generator | None = None, *, per_process: bool = True) -> None:
        super().__init__()
        self.generator = generator
        self.per_process = per_process

    def stream(self) -> torch.Generator | None:
        """The generator to draw from in this process, see `process_stream`."""
        return process_stream(self.generator, per_process=self.per_process)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """The generator's state, so that a resumed run continues the same stream; nothing without a generator."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.generator is not None:
            destination[f"{prefix}_extra_state"] = self.generator.get_state()

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Continue a saved stream; what cannot be continued is a missing or an unexpected key, as of any module."""
        key = f"{prefix}_extra_state"
        state = state_dict.get(key)
        saved = state is not None and len(state) > 0  # mixers without a generator used to save an empty one
        if state is not None and saved and self.generator is not None:
            self.generator.set_state(state.cpu())
        elif self.generator is not None:
            missing_keys.append(key)
        others = {
            name: value for name, value in state_dict.items() if name != key or (saved and self.generator is None)
        }
        super()._load_from_state_dict(others, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()  # without what torch does not copy, such as a compiled call
        if self.generator is not None:  # spawned workers need it by value: not every torch pickles a generator
            state["generator"] = (str(self.generator.device), self.generator.get_state().numpy())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if isinstance(self.generator, tuple):
            device, generator_state = self.generator
            self.generator = torch.Generator(device)
            self.generator.set_state(torch.from_numpy(generator_state))
