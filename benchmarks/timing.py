"""Timing in turns: what runs beside what changes from second to second on any machine, so only neighbours compare."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter, thread_time
from typing import Any

import torch

from kmixup.config import config

Times = dict[str, list[float]]

_BESIDE = ("torchvision", "lapcpp", "lapx", "POT", "torchcfm")


def in_turns(
    contenders: Mapping[str, Callable[[], Any]],
    *,
    budget: float,
    rounds: tuple[int, int] = (9, 400),
    rare: Sequence[str] = (),
    wall: bool = False,
) -> Times:
    """Seconds of every call of every contender, one call each per round, every round in a new random order.

    In one fixed order a contender would always find in the caches what the one before it had left there.

    Args:
        contenders: What to time, by name.
        budget: Seconds to spend, about.
        rounds: Rounds at least and at most.
        rare: Slow contenders: called until they have used half of the budget, three times at least. A round without
            them holds None in their place.
        wall: Use the clock on the wall, for work in several processes, instead of the processor's clock of this thread.
    """
    tick = perf_counter if wall else thread_time
    names = list(contenders)
    for name in names:
        contenders[name]()
    times: dict[str, list[Any]] = {name: [] for name in names}
    begin, spent_rarely, order = perf_counter(), 0.0, Random(0)
    for turn in range(rounds[1]):
        if turn >= rounds[0] and perf_counter() - begin > budget:
            break
        for name in order.sample(names, len(names)):
            if name in rare and turn >= 3 and spent_rarely > budget / 2:
                times[name].append(None)
                continue
            start = tick()
            contenders[name]()
            times[name].append(tick() - start)
            spent_rarely += times[name][-1] if name in rare else 0.0
    return times


def ratio(times: Times, above: str, below: str | Sequence[str]) -> float:
    """Median over the rounds of one contender's time divided by another's, or by the sum of several."""
    below = [below] if isinstance(below, str) else below
    rows = zip(times[above], *(times[name] for name in below), strict=True)
    return median(row[0] / sum(row[1:]) for row in rows if None not in row)


def seconds(times: Times, name: str) -> float:
    """Median time of one call."""
    return median(t for t in times[name] if t is not None)


@contextmanager
def threads(count: int):
    """torch with this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def environment() -> dict[str, str]:
    """What the numbers depend on."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                processor = line.split(":", 1)[1].strip()
                break
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg()) if hasattr(os, "getloadavg") else "unknown"
    return {
        "processor": f"{processor}, {os.cpu_count()} cores",
        **config(),
        **{package: metadata.version(package) for package in _BESIDE if _has(package)},
        "load average at the end (1, 5, 15 minutes)": load,
    }


def _has(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
