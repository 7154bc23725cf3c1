"""Several processes on one trial, as torchrun starts them (data-parallel training)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Place:
    """Which of the processes this is.

    Attributes:
        rank: From 0; rank 0 writes and prints.
        world: How many processes there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch of indices.

        Raises:
            ValueError: If the batch does not split evenly.
        """
        if len(batch) % self.world:
            raise ValueError(
                f"the batch size must be a multiple of the number of processes, got {len(batch)} and {self.world}."
            )
        return batch.chunk(self.world)[self.rank]

    def agree(self, value: Any) -> Any:
        """The first process's value, on all of them."""
        if self.world == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number over all processes; the same on all of them."""
        if self.world > 1:
            distributed.all_reduce(value)
            value = value / self.world
        return value


def here() -> Place:
    """This process's place; alone, rank 0 of 1."""
    if distributed.is_available() and distributed.is_initialized():
        return Place(distributed.get_rank(), distributed.get_world_size())
    return Place()


@contextmanager
def process_group(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; yields the device of this one.

    Args:
        device: As asked for: ``"cuda"`` becomes this process's own GPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    on_gpu = device.startswith("cuda")
    if on_gpu:
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def leave() -> None:
    """End a process that torchrun started, as a success, without tearing the interpreter down; alone, do nothing.

    A thread of gloo may still want the interpreter while it is torn down, and then aborts a process that has finished
    its work (torch 2.14 on CPU: one exit of four after `DistributedDataParallel`, now and then after any collective).
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
