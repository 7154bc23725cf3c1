"""k-mixup in hidden layers, through hooks, for any `torch.nn.Module`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

from kmixup.lam import drawn_on
from kmixup.mixup import KMixup
from kmixup.plan import MixPlan
from kmixup.samples import mix_inputs
from kmixup.structure import batch_length, is_mixable, map_leaves, tensor_of


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
    checkpointed block. In eval mode and for alpha = 0 nothing is mixed.

    The plan is as long as what was mixed: after a pooling of graphs, one entry per graph.

    Args:
        model: Any module.
        layers: Names of submodules, as ``model.named_modules()`` gives them. Their output (a tensor, or a structure
            with one floating-point tensor) is mixed; in one pass only the first call of the layer is. Several parts of
            a hidden state are mixed with one plan where they come together: behind an ``nn.Identity``, for instance.
        mixer: Makes the plan, from the layer's own features; its generator also draws the layer.
        mix_input: Whether the input of the model is one of the places to draw from.
        on_nonfinite: What to do when hidden features hold NaN or inf. ``"raise"``; or ``"keep"``: match as if they were
            0 and leave them there, so that the loss is not finite and a ``GradScaler`` skips the step, as without
            mixing.

    Raises:
        TypeError: If ``layers`` is one name.
        ValueError: If there is no place to mix, a layer is named twice, the model has no such layer, or
            ``on_nonfinite`` is unknown.

    Paper: Section 5, k-manifold mixup.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[str],
        mixer: KMixup,
        *,
        mix_input: bool = True,
        on_nonfinite: Literal["raise", "keep"] = "raise",
    ) -> None:
        super().__init__()
        if isinstance(layers, str):  # a sequence of letters
            raise TypeError(f"layers must be a sequence of names, got {layers!r}. Use layers=[{layers!r}].")
        names = [name for name, _ in model.named_modules() if name]
        for layer in layers:
            if layer not in names:
                raise ValueError(f"the model has no layer {layer!r}. Its first layers are {', '.join(names[:8])}.")
        if len(set(layers)) < len(layers):
            raise ValueError(f"each layer must be named once, got {list(layers)}.")
        if not layers and not mix_input:
            raise ValueError("there must be a place to mix: name a layer, or leave mix_input=True.")
        if on_nonfinite not in ("raise", "keep"):
            raise ValueError(f"on_nonfinite must be one of raise, keep, got {on_nonfinite!r}.")
        self.model = model
        self.mixer = mixer
        self.layers = tuple(layers)
        self.mix_input = mix_input
        self.on_nonfinite = on_nonfinite

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, MixPlan]:
        """Run the model with one of its places mixed.

        Args:
            *args: What the model takes. Where the input is the place to mix, the first is mixed, by the rules of
                `KMixup` for structured batches.
            **kwargs: What the model takes by name; without ``*args`` they are the input that is mixed.

        Returns:
            The model's outputs, and the plan for the loss: ``plan.loss(loss_fn, outputs, y)``.

        Raises:
            RuntimeError: If the drawn layer was not seen in the pass.
            ValueError: If hidden features are not finite, and ``on_nonfinite="raise"``.
        """
        if not (self.training and self.mixer.mixes):
            outputs = self.model(*args, **kwargs)
            return outputs, self.mixer.identity(*batch_length(outputs))
        layer = self.draw()
        if layer is None:
            x = args[0] if args else kwargs
            plan = self.mixer.plan(x)
            mixed = self.mixer.mix(plan, x)
            outputs = self.model(mixed, *args[1:], **kwargs) if args else self.model(**mixed)
            return outputs, plan

        plans: list[MixPlan] = []

        def mix(module: nn.Module, inputs: Any, output: Any) -> Any:
            if plans:
                return output
            plans.append(self._plan(layer, output))
            return mix_inputs(plans[0], output, {})

        hook = self.model.get_submodule(layer).register_forward_hook(mix)
        try:
            outputs = self.model(*args, **kwargs)
        finally:
            hook.remove()
        if not plans:
            raise RuntimeError(f"layer {layer!r} was not called in this forward pass. {self._why_unseen()}")
        return outputs, plans[0]

    def _plan(self, layer: str, output: Any) -> MixPlan:
        if self.on_nonfinite == "keep":
            return self.mixer.plan(map_leaves(_finite, output))
        try:
            return self.mixer.plan(output)
        except ValueError as error:
            error.add_note(
                f"This is the output of layer {layer!r}. If a GradScaler is there to skip such steps, use "
                'KManifoldMixup(..., on_nonfinite="keep").'
            )
            raise

    def _why_unseen(self) -> str:
        if any(hasattr(m, "_orig_mod") or getattr(m, "_compiled_call_impl", None) for m in self.model.modules()):
            return (
                "A compiled network does not see hooks that come later: set "
                "torch._dynamo.config.skip_nnmodule_hook_guards = False before its first call, or do not compile it."
            )
        return "Leave it out of layers."

    def draw(self) -> str | None:
        """Draw the place to mix, all with equal probability: a layer's name, or None for the input."""
        generator = self.mixer.stream()
        places = [None, *self.layers] if self.mix_input else list(self.layers)
        return places[int(torch.randint(len(places), (), generator=generator, device=drawn_on(generator)))]

    def extra_repr(self) -> str:
        """What `print(manifold)` shows beside the submodules."""
        return f"layers={list(self.layers)}, mix_input={self.mix_input}"


def _finite(path: str, leaf: Any) -> Any:
    return torch.nan_to_num(tensor_of(leaf).detach(), 0.0, 0.0, 0.0) if is_mixable(leaf) else leaf
