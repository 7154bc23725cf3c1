"""k-mixup where a timm training script has ``timm.data.Mixup``. Needs no import of timm."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kmixup.mixup import KMixup

# Arguments of timm.data.Mixup by other names here, or with nothing in their place.
_TIMMS_OWN = {
    "mixup_alpha": "It is alpha here, beside k.",
    "prob": "It is p here.",
    "mode": 'It is lam_per here: "batch" for timm\'s "batch", "sample" for "elem"; "pair" has no counterpart.',
    "cutmix_alpha": "Nothing is pasted here: draw between timm's CutMix and this function in the loop.",
    "cutmix_minmax": "Nothing is pasted here: draw between timm's CutMix and this function in the loop.",
    "switch_prob": "Nothing is switched here: draw between timm's CutMix and this function in the loop.",
    "correct_lam": "lam needs no correction where nothing is pasted: leave it out.",
}


class TimmKMixup:
    r"""What `timm.data.Mixup` is to a training script, with k-mixup inside; batches of odd size included.

    .. math:: y \mapsto (1 - s)\, y + s / C, \qquad \text{multi-label: } (1 - s)\, y + s / 2

    Example::

        mixup_fn = TimmKMixup(k=16, alpha=1.0, num_classes=1000, label_smoothing=0.1)
        x, target = mixup_fn(x, target)
        loss = SoftTargetCrossEntropy()(model(x), target)

    Args:
        k: Points per k-batch, see `kmixup.KMixup`.
        alpha: Parameter of Beta(alpha, alpha); default 1, as in timm.
        num_classes: Number of classes C; default 1000, as in timm.
        label_smoothing: Smoothing s of the targets, in [0, 1]; also applied while mixing is disabled, as in timm.
        multi_label: Targets are dense multi-label indicators ``[B, C]``, smoothed towards 1/2.
        **options: Further arguments of `kmixup.KMixup`.

    Attributes:
        mixup_enabled: Set to False to stop mixing, as timm's scripts do after ``--mixup-off-epoch``.
        mixer: The `kmixup.KMixup` inside.

    Raises:
        TypeError: If an argument has the name it has in timm and another one here, or does not exist.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        k: int,
        alpha: float = 1.0,
        num_classes: int = 1000,
        *,
        label_smoothing: float = 0.1,
        multi_label: bool = False,
        **options: Any,
    ) -> None:
        for name in _TIMMS_OWN.keys() & options.keys():
            raise TypeError(f"TimmKMixup has no argument {name}. {_TIMMS_OWN[name]}")
        if not 0 <= label_smoothing <= 1:
            raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}.")
        self.mixer = KMixup(k, alpha, num_classes=num_classes, **options)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.multi_label = multi_label
        self.mixup_enabled = True

    def __repr__(self) -> str:
        return (
            f"TimmKMixup({self.mixer.extra_repr()}, label_smoothing={self.label_smoothing}, "
            f"multi_label={self.multi_label}, mixup_enabled={self.mixup_enabled})"
        )

    def __call__(self, x: Tensor, target: Tensor, *, where: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mix a batch.

        Args:
            x: Floating-point images, shape ``[B, ...]``; not changed in place.
            target: Class indices ``[B]``, or soft or multi-label targets ``[B, C]``.
            where: Rows to mix among themselves, a boolean mask ``[B]``; default: all.

        Returns:
            The mixed images and soft targets ``[B, C]``.

        Raises:
            ValueError: If ``multi_label`` is set and the targets are not of shape ``[B, C]``.
        """
        if self.multi_label and (target.ndim != 2 or target.shape[1] != self.num_classes):
            raise ValueError(
                f"multi-label targets must have shape [B, {self.num_classes}], got {list(target.shape)}. "
                "Use multi_label=False for class indices."
            )
        self.mixer.train(self.mixup_enabled)
        x, soft = self.mixer(x, target.float() if self.multi_label else target, where=where)
        smoothing = self.label_smoothing
        # Smoothing and mixing are both affine in the target, so their order does not matter.
        return x, soft * (1 - smoothing) + smoothing * (0.5 if self.multi_label else 1 / self.num_classes)
