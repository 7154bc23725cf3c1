"""How fast the library is, beside its peers and beside what no implementation can avoid.

`make bench` measures and writes `results/`; `python -m benchmarks.page` renders docs/speed.md from that. Every figure
is
a ratio between things measured in turn, in one process, within the same second.
"""
