"""k-mixup where users already are: one thin module per framework, imported on demand.

Nothing here is imported by ``import kmixup``; each module needs its own framework and no other.
"""
