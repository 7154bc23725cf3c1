"""The playground: k-mixup on points of the plane, in a browser. One file that needs nothing else."""
