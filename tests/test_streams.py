"""Ranks and workers must not draw alike by accident, and can on purpose."""

import itertools

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

from kmixup import KMixup
from kmixup.streams import process_stream


class MixingCollate:
    """A picklable collate function, as spawned workers need."""

    def __init__(self, mixer: KMixup) -> None:
        self.mixer = mixer

    def __call__(self, samples: list) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, _y = default_collate(samples)
        plan = self.mixer.plan(x)
        return plan.mix(x), plan.partner, plan.lam


def loader(context: str, mixer: KMixup, seed: int = 0) -> DataLoader:
    data = TensorDataset(torch.randn(64, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(64))
    return DataLoader(
        data,
        batch_size=16,
        num_workers=2,
        collate_fn=MixingCollate(mixer),
        multiprocessing_context=context,
        generator=torch.Generator().manual_seed(seed),
    )


def seeded() -> KMixup:
    return KMixup(4, 1.0, generator=torch.Generator().manual_seed(3))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_draw_apart_epochs_too_and_reproducibly(context):
    lams = []
    for _ in range(2):
        batches = loader(context, seeded())
        lams.append([[float(lam) for _, _, lam in batches] for _ in range(2)])  # two epochs
    assert lams[0] == lams[1]
    drawn = [lam for epoch in lams[0] for lam in epoch]
    assert len(set(drawn)) == len(drawn) == 8


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("seeded", [True, False])
def test_ranks_draw_alike_when_asked_to_and_their_workers_apart_in_every_epoch(monkeypatch, seeded):
    monkeypatch.setenv("WORLD_SIZE", "2")
    lams = {}
    for rank, per_process in itertools.product((0, 1), (False, True)):
        monkeypatch.setenv("RANK", str(rank))
        generator = torch.Generator().manual_seed(3) if seeded else None
        batches = loader("fork", KMixup(4, 1.0, generator=generator, per_process=per_process))
        lams[rank, per_process] = [float(lam) for _ in range(2) for _, _, lam in batches]  # two epochs
    assert lams[0, False] == lams[1, False]
    assert not set(lams[0, True]) & set(lams[1, True])
    for drawn in lams.values():
        assert len(set(drawn)) == len(drawn) == 8


def test_alone_the_generator_itself_is_used():
    generator = torch.Generator()
    assert process_stream(generator) is generator
    assert process_stream(None) is None


def test_ranks_known_from_the_environment_draw_apart_and_advance_the_shared_generator(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    draws = {}
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        shared = torch.Generator().manual_seed(0)
        draws[rank] = [float(torch.rand((), generator=process_stream(shared))) for _ in range(3)]
    assert len({*draws["0"], *draws["1"]}) == 6


SCRIPT = """
import torch, torch.distributed as dist
from kmixup import KMixup
dist.init_process_group("gloo")
x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
for per_process in (True, False):
    torch.manual_seed(0)
    mixer = KMixup(8, 1.0, per_process=per_process)
    plan = mixer.plan(x)
    rows = [torch.empty(65, dtype=torch.float64) for _ in range(2)]
    dist.all_gather(rows, torch.cat([plan.partner.double(), plan.lam.double().view(1)]))
    if dist.get_rank() == 0:
        alike = torch.equal(rows[0], rows[1])
        print("alike" if alike else "apart", "lam alike" if rows[0][-1] == rows[1][-1] else "lam apart")
dist.destroy_process_group()
"""


def test_two_gloo_ranks_of_torchrun_draw_apart_from_one_seed_and_alike_on_request(on_two_ranks):
    assert on_two_ranks(SCRIPT).split("\n")[:2] == ["apart lam apart", "alike lam alike"]
