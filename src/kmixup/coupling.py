"""Couplings of two sets of samples: noise with data for flow matching, one domain with another."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, distributed

from kmixup.arguments import Checked
from kmixup.assignment import Solver
from kmixup.cost import Metric, cost_matrix, widest_float
from kmixup.lam import drawn_on
from kmixup.matching import largest, match_blocks
from kmixup.plan import MixPlan
from kmixup.samples import points_of
from kmixup.streams import draw_order
from kmixup.structure import batch_length, describe, map_leaves, tensor_of


class Coupling(Checked):
    r"""Pairs the samples of two sets along exact matchings of k with k: minibatch optimal transport.

    .. math:: \sigma = \arg\min_\sigma \sum_i c(x_i, x'_{\sigma(i)}) + w\, \|c_i - c'_{\sigma(i)}\|^2

    Example::

        coupling = Coupling(k=256)
        plan = coupling(noise, data)                                # a partner in data and a time for each sample
        x_t, velocity = plan.mix(noise, data), plan.partner_of(noise, data) - noise
        loss = F.mse_loss(model(x_t, 1 - plan.lam), velocity)       # lam is the weight of the noise: time is 1 - lam

    Each sample of the first set gets one partner. Of sets of one length each sample is a partner exactly once: a
    coupling permutes, and nothing is lost or doubled, as it is where pairs are sampled from a transport plan. A longer
    second set is cut at random, to others in each call, and a shorter one repeated, each sample as often as any other
    or once more: the choice does not ask for the cost, so that it shifts neither set's law. (The min(n, m) best pairs
    of two sets, which does shift it, is `kmixup.match`.)

    Blocks of k are drawn at random; two sets of one length, at most k, are one block. It couples in eval mode, too:
    this is no augmentation. In place of torchcfm's ``OTPlanSampler``: ``matcher.ot_sampler = coupling``.

    Args:
        k: Samples that are matched with one another, >= 1. 1 pairs at random; k >= the batch is optimal for the batch.
        metric: Cost of a pair, see `kmixup.KMixup`.
        weight: Weight w >= 0 of the squared distance of conditions.
        generator: Source of all randomness; default: torch's global generator.
        group: Ranks whose batches are coupled as one: a `torch.distributed` process group, or ``"world"`` for all. Its
            first rank solves; all get the partners of their own samples.
        per_process: False to draw the same on every rank, see `kmixup.KMixup`.
        solver: Assignment solver, see `kmixup.assign`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of range.

    Paper: Figure 5, k-mixup implementation.
    """

    def __init__(
        self,
        k: int,
        *,
        metric: Metric = "sqeuclidean",
        weight: float = 1.0,
        generator: torch.Generator | None = None,
        group: distributed.ProcessGroup | Literal["world"] | None = None,
        per_process: bool = True,
        solver: Solver = "auto",
    ) -> None:
        super().__init__(generator, per_process=per_process)
        self.k = k
        self.metric: Metric = metric
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight must be >= 0 and finite, got {weight}. Use weight=0 to ignore conditions.")
        self.weight = weight
        self.group = group
        self.solver: Solver = solver

    def forward(self, x0: Any, x1: Any, conditions0: Any = None, conditions1: Any = None) -> MixPlan:
        """Partners of the samples of one set in another, and a time for each.

        Args:
            x0: Samples, floating point, batch first, shape ``[n, ...]``.
            x1: Samples of the same shape but for their number, ``[m, ...]``.
            conditions0: What should be alike in a pair, floating point, shape ``[n, ...]``: class indices as one-hot.
            conditions1: The same for the second set; both or none.

        Returns:
            A plan with partners from ``x1``; lam = 1 - t is uniform, one for each sample. With a group the rank's part
            of the plan for the joined batch, to be used on ``gather(x0)`` and ``gather(x1)``.

        Raises:
            TypeError: If samples or conditions are not floating point.
            ValueError: If shapes do not fit, rows hold NaN or inf, or conditions are missing.
            RuntimeError: If a group is asked for where `torch.distributed` was not initialised.
        """
        joined = [None if x is None else self.gather(x) for x in (x0, x1, conditions0, conditions1)]
        return self._part(self._plan(*joined), x0)

    def sample_plan(self, x0: Tensor, x1: Tensor, replace: bool = False) -> tuple[Tensor, Tensor]:
        """The samples with their partners, as torchcfm's ``OTPlanSampler`` returns them: all of ``x0``, in their order.

        Args:
            x0: Samples, shape ``[n, ...]``.
            x1: Samples of the second set, shape ``[m, ...]``.
            replace: Has to be False: nothing is drawn with replacement.

        Returns:
            ``x0`` and the partner of each, shape ``[n, ...]``; with a group those of this rank's samples.

        Raises:
            ValueError: If ``replace`` is True, or as for a call.
        """
        return self.sample_plan_with_labels(x0, x1, replace=replace)[:2]

    def sample_plan_with_labels(
        self, x0: Tensor, x1: Tensor, y0: Any = None, y1: Any = None, replace: bool = False
    ) -> tuple[Tensor, Tensor, Any, Any]:
        """`sample_plan`, and the labels of both.

        Args:
            x0: Samples, shape ``[n, ...]``.
            x1: Samples of the second set, shape ``[m, ...]``.
            y0: Labels of ``x0``, batch first, or None. They play no part in the matching.
            y1: Labels of ``x1``.
            replace: Has to be False.

        Returns:
            ``x0``, partners, ``y0`` and the partners' labels.

        Raises:
            ValueError: If ``replace`` is True, or as for a call.
        """
        if replace:
            raise ValueError("replace=True draws pairs from a transport plan; a coupling keeps every sample instead.")
        all0, all1 = self.gather(x0), self.gather(x1)
        plan = self._part(self._plan(all0, all1), x0)
        return x0, plan.partner_of(all0, all1), y0, None if y1 is None else plan.partner_of(all0, self.gather(y1))

    def gather(self, x: Any) -> Any:
        """The joined batch of all ranks of the group, in their order; ``x`` itself without a group.

        Args:
            x: A tensor or a structure of tensors, batch first; ranks may have batches of different lengths.

        Returns:
            The same structure, without gradients, on every rank.
        """
        if self.group is None:
            return x
        return map_leaves(lambda _, leaf: _gathered(tensor_of(leaf).detach(), self._group()), x)

    def extra_repr(self) -> str:
        """What `print(coupling)` shows."""
        return f"k={self.k}, metric={self.metric!r}, weight={self.weight:g}"

    def _group(self) -> distributed.ProcessGroup:
        if not (distributed.is_available() and distributed.is_initialized()):
            raise RuntimeError("group needs torch.distributed: call torch.distributed.init_process_group first.")
        group = distributed.group.WORLD if isinstance(self.group, str) else self.group
        assert group is not None
        return group

    def _part(self, plan: MixPlan, x0: Any) -> MixPlan:
        """The rows of a joined plan that belong to this rank's samples."""
        if self.group is None:
            return plan
        length, device = batch_length(x0)
        group = self._group()
        start = sum(_lengths(length, device, group)[: distributed.get_rank(group)])
        return plan[start : start + length]

    def _plan(self, x0: Any, x1: Any, conditions0: Any = None, conditions1: Any = None) -> MixPlan:
        if (conditions0 is None) != (conditions1 is None):
            raise ValueError("conditions0 and conditions1 go together: give both, or none.")
        (points, split, dtype), (others, _, dtype1) = (
            self._points(side, x, c) for side, x, c in (("0", x0, conditions0), ("1", x1, conditions1))
        )
        if points.shape[1:] != others.shape[1:]:
            raise ValueError(
                f"x0 and x1 (and their conditions) must be of one shape but for their number, got "
                f"{points.shape[1]} and {others.shape[1]} coordinates. Couple features of both that can be compared."
            )
        dtype, joined = torch.promote_types(dtype, dtype1), torch.promote_types(points.dtype, others.dtype)
        points, others = points.to(joined), others.to(joined)
        metric = self.metric if split == points.shape[1] else self._with_conditions(split, dtype)
        draws = self._draws(len(points), len(others), points.device)  # on each rank: their generators stay in step

        def meet() -> MixPlan:
            return self._meet(points, others, metric, *draws)

        return meet() if self.group is None else _of_first_rank(meet, len(points), points.device, self._group())

    def _points(self, side: str, x: Any, conditions: Any) -> tuple[Tensor, int, torch.dtype]:
        """What is matched, ``[n, d]``, how many of its coordinates are the samples', before conditions, and their type.

        With conditions in the widest float: under a large weight the distances of samples are its last digits.
        """
        points = points_of(x, None, name=f"x{side}")
        points = points.reshape(len(points), -1)
        largest(points, f"x{side}")  # what is not finite is refused by its row, before blocks are drawn
        if conditions is None:
            return points, points.shape[1], points.dtype
        alike = tensor_of(conditions)
        if not (isinstance(alike, Tensor) and alike.is_floating_point() and alike.shape[:1] == points.shape[:1]):
            raise ValueError(
                f"conditions{side} must be floating point, {len(points)} rows as x{side} has, got {describe(alike)}. "
                "Class indices go as one-hot: torch.nn.functional.one_hot(y).float()."
            )
        alike = alike.detach().reshape(len(points), -1)
        largest(alike, f"conditions{side}")
        wide = widest_float(points.device)
        return torch.cat([points.to(wide), alike.to(wide)], 1), points.shape[1], points.dtype

    def _with_conditions(self, split: int, dtype: torch.dtype) -> Metric:
        """The cost of joined points, of which the first ``split`` coordinates are the samples', of this type."""

        def cost(x: Tensor, y: Tensor) -> Tensor:
            samples = x[..., :split], y[..., :split]
            if callable(self.metric):  # such as a network, which takes what the samples are
                samples = samples[0].to(dtype), samples[1].to(dtype)
            return cost_matrix(*samples, self.metric) + self.weight * cost_matrix(x[..., split:], y[..., split:])

        return cost

    def _draws(self, n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Orders in which the two sets are cut into blocks, of n samples each; and lam."""
        generator = self.stream()
        order = order2 = torch.arange(n, device=device)
        if not n == m <= self.k:
            order = draw_order(n, generator, device)
            order2 = torch.cat([draw_order(m, generator, device) for _ in range(-(-n // m))])[:n]
        lam = torch.rand(n, generator=generator, device=drawn_on(generator), dtype=torch.float64)
        lam = lam.to(widest_float(device)).to(device, non_blocking=True)
        return order, order2, lam

    def _meet(
        self, points: Tensor, others: Tensor, metric: Metric, order: Tensor, order2: Tensor, lam: Tensor
    ) -> MixPlan:
        """The plan that draws lead to."""
        k = min(self.k, len(points))
        with torch.no_grad():  # a metric of the caller's own may hold what has gradients
            sigma = match_blocks(points[order], others[order2], k, metric=metric, solver=self.solver)
        partner, unmatched = (torch.empty_like(order).scatter_(0, order, at) for at in (order2[sigma], order2))
        return MixPlan(partner, lam, unmatched, from_second=True)


def _lengths(length: int, device: torch.device, group: distributed.ProcessGroup) -> list[int]:
    """The length on each rank."""
    lengths = [torch.empty((), dtype=torch.int64, device=device) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(lengths, torch.tensor(length, device=device), group=group)
    return [int(each) for each in lengths]


def _gathered(x: Tensor, group: distributed.ProcessGroup) -> Tensor:
    """The rows of all ranks; sent padded, since ranks may differ in length."""
    lengths = _lengths(len(x), x.device, group)
    padded = x.new_zeros(max(lengths), *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in lengths]
    distributed.all_gather(parts, padded, group=group)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def _of_first_rank(
    meet: Callable[[], MixPlan], length: int, device: torch.device, group: distributed.ProcessGroup
) -> MixPlan:
    """The first rank's plan, on all ranks: other processors might break ties in another way."""
    told, error = torch.full((3, length), -1, device=device), None
    if distributed.get_rank(group) == 0:
        try:
            plan = meet()
            told = torch.stack([plan.partner, plan.unmatched, plan.lam.double().view(torch.int64)])
        except Exception as failure:  # the others wait for an answer all the same
            error = failure
    distributed.broadcast(told, distributed.get_global_rank(group, 0), group=group)
    if error is not None:
        raise error
    if length and told[0, 0] < 0:
        raise RuntimeError("the first rank of the group could not couple the joined batch: its own error says why.")
    return MixPlan(told[0], told[2].view(torch.float64), told[1], from_second=True)
