"""k-mixup in hidden layers, through hooks, for any `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from kmixup.mixup import KMixup
from kmixup.plan import MixPlan, batch_length


class KManifoldMixup(nn.Module):
    """Manifold mixup with k-batches: the output of a layer, drawn in every forward pass, is matched and mixed.

    Example::

        # The paper's coin flip: the input or the output of the first residual block.
        manifold = KManifoldMixup(model, ["blocks.0"], KMixup(k=16, alpha=1.0))
        for x, y in loader:
            outputs, plan = manifold(x)
            loss = plan.loss(F.cross_entropy, outputs, y)

    The hook lives for one forward pass and is removed after it, also when the pass raises; model and wrapper keep
    nothing of it. So it does not mix again what activation checkpointing recomputes later: do not mix inside a
    checkpointed block. In eval mode nothing is mixed.

    Args:
        model: Any module; its first argument is the batch, batch first.
        layers: Names of submodules, as ``model.named_modules()`` gives them. Their output (a tensor, or a structure
            with one floating-point tensor) is mixed; in one pass only the first call of the layer is.
        mixer: Makes the plan, from the layer's own features; its generator also draws the layer.
        mix_input: Whether the input of the model is one of the places to draw from.

    Raises:
        ValueError: If there is no place to mix, a layer is named twice, or the model has no such layer.

    Paper: Section 5, k-manifold mixup.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str], mixer: KMixup, *, mix_input: bool = True) -> None:
        super().__init__()
        names = [name for name, _ in model.named_modules() if name]
        for layer in layers:
            if layer not in names:
                raise ValueError(f"the model has no layer {layer!r}. Its first layers are {', '.join(names[:8])}.")
        if len(set(layers)) < len(layers):
            raise ValueError(f"each layer must be named once, got {list(layers)}.")
        if not layers and not mix_input:
            raise ValueError("there must be a place to mix: name a layer, or leave mix_input=True.")
        self.model = model
        self.mixer = mixer
        self.layers = tuple(layers)
        self.mix_input = mix_input

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> tuple[Any, MixPlan]:
        """Run the model with one of its places mixed.

        Args:
            x: The batch: what the model takes first, batch first.
            *args: Passed on to the model, not mixed.
            **kwargs: Passed on to the model, not mixed.

        Returns:
            The model's outputs, and the plan for the loss: ``plan.loss(loss_fn, outputs, y)``.

        Raises:
            RuntimeError: If the drawn layer was not called in the pass.
            ValueError: If the layer's output does not have the batch first.
        """
        if not self.training:
            batch, device = batch_length(x)
            return self.model(x, *args, **kwargs), MixPlan.identity(batch, device=device)
        layer = self.draw()
        if layer is None:
            plan = self.mixer.plan(x)
            return self.model(plan.mix(x), *args, **kwargs), plan

        plans: list[MixPlan] = []

        def mix(module: nn.Module, inputs: Any, output: Any) -> Any:
            if plans:
                return output
            plan = self.mixer.plan(output)
            batch, _ = batch_length(x)
            if len(plan) != batch:
                raise ValueError(
                    f"the output of layer {layer!r} must have the batch of {batch} first, got {len(plan)}. "
                    "Choose a layer that keeps the batch dimension."
                )
            plans.append(plan)
            return plan.mix(output)

        hook = self.model.get_submodule(layer).register_forward_hook(mix)
        try:
            outputs = self.model(x, *args, **kwargs)
        finally:
            hook.remove()
        if not plans:
            raise RuntimeError(f"layer {layer!r} was not called in this forward pass. Leave it out of layers.")
        return outputs, plans[0]

    def draw(self) -> str | None:
        """Draw the place to mix, all with equal probability: a layer's name, or None for the input."""
        generator = self.mixer.stream()
        places = [None, *self.layers] if self.mix_input else list(self.layers)
        on = generator.device if generator else None
        return places[int(torch.randint(len(places), (), generator=generator, device=on))]

    def extra_repr(self) -> str:
        """What `print(manifold)` shows beside the submodules."""
        return f"layers={list(self.layers)}, mix_input={self.mix_input}"
