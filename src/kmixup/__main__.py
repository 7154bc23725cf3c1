"""``python -m kmixup``: the command line, also for torchrun."""

from kmixup.cli import main

main()
