"""
What a match is not
===================

Several methods choose the partner of a sample: from another class, from the same one, the nearest neighbour. Most
change, beside the pairs, *how often each sample and each class is seen*, and some of their gain has been traced to that
alone (Teney et al. 2023 on selective mixup). A match of k-mixup chooses, too, but it is a bijection: every sample is a
partner exactly once, whatever the data, and no class is seen more or less often than it occurs.
"""

# %%
# One unbalanced data set, four rules
# -----------------------------------
#
# Three classes with shares of about 70, 25 and 5 percent. Each rule gives a sample its partner; what is learnt from is
# half the sample and half the partner, so that the share of a class is the mean of the two.
import matplotlib.pyplot as plt
import torch

from kmixup import KMixup
from kmixup.style import series, style

generator = torch.Generator().manual_seed(0)
classes = torch.multinomial(torch.tensor([0.70, 0.25, 0.05]), 4096, replacement=True, generator=generator)
x = torch.randn(4096, 8, generator=generator) + 2 * torch.nn.functional.one_hot(classes, 8)


def of_another_class(x, y):
    """Selective mixup: a partner drawn from another class, classes equally likely."""
    other = (y + torch.randint(1, 3, y.shape, generator=generator)) % 3
    return torch.stack([torch.multinomial((y == c).float(), 1, generator=generator)[0] for c in other.tolist()])


def nearest(x, y):
    """The nearest other sample of the batch."""
    return torch.cdist(x, x).fill_diagonal_(torch.inf).argmin(1)


def random(x, y):
    """Mixup: a random permutation."""
    return KMixup(k=1, alpha=1.0, generator=generator).plan(x).partner


def matched(x, y):
    """k-mixup."""
    return KMixup(k=64, alpha=1.0, generator=generator).plan(x).partner


rules = {"mixup": random, "k-mixup, k = 64": matched, "nearest neighbour": nearest, "another class": of_another_class}
seen = {}
for name, rule in rules.items():
    # Batches of 256, as in training.
    partner = torch.cat(
        [256 * b + rule(x[rows], classes[rows]) for b, rows in enumerate(torch.arange(4096).split(256))]
    )
    seen[name] = partner.bincount(minlength=4096)
    share = [
        100 * float(((classes == c).float().mean() + (classes[partner] == c).float().mean()) / 2) for c in range(3)
    ]
    distance = float((x - x[partner]).norm(dim=1).mean())
    never, most = 100 * float((seen[name] == 0).float().mean()), int(seen[name].max())
    print(
        f"{name:18} classes {share[0]:5.1f} {share[1]:5.1f} {share[2]:5.1f} %   never a partner {never:4.1f} %   "
        f"most often {most:3} times   distance {distance:.2f}"
    )
own = [100 * float((classes == c).float().mean()) for c in range(3)]
print(f"{'the data':18} classes {own[0]:5.1f} {own[1]:5.1f} {own[2]:5.1f} %")

# %%
# The first two rows have the classes of the data to the last digit, and no sample is left out or repeated; the match
# only brings partners closer. The other two rules see rare classes or central samples more often, whatever the mixing
# does beside that.
for name in ("mixup", "k-mixup, k = 64"):
    assert (seen[name] == 1).all()

with style():
    figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
    for (name, counts), look in zip(seen.items(), series(), strict=False):
        values = counts.sort(descending=True).values
        width = 4 if name == "mixup" else 1.5  # two of the lines lie on each other
        axes.plot(torch.arange(1, 4097), values.clamp(min=0.5), label=name, color=look.line["color"], linewidth=width)
    axes.set(xscale="log", yscale="log", xlabel="samples, the most frequent partner first", ylabel="times a partner")
    axes.set_yticks([0.5, 1, 10], ["never", "1", "10"])
    axes.legend()

# %%
# What follows
# ------------
#
# - A gain of k-mixup over mixup cannot come from resampling, and k-mixup does not mend an unbalanced data set: use a
#   sampler or class weights for that, before or beside it.
# - With one lam per batch the mean of the mixed targets is the mean of the targets, to rounding. With one per block or
#   sample it is so on average: a partner's weight is drawn independently of its class.
# - `Coupling` and `pairing="shuffle"` permute, too. Only partners of weight 0 (p < 1, a lam that rounds to 1) play no
#   part.
targets = torch.nn.functional.one_hot(classes[:256], 3).double()
for lam_per in ("batch", "block", "sample"):
    mixer = KMixup(k=64, alpha=1.0, lam_per=lam_per, generator=generator)
    gap = max(float((mixer.plan(x[:256]).mix(targets).mean(0) - targets.mean(0)).abs().max()) for _ in range(20))
    print(f"one lam per {lam_per:7} largest change of a class's share in 20 batches: {100 * gap:.4f} points")
