"""k-mixup: mixup along exact optimal transport matchings."""

from kmixup.transport import assign, cost_matrix, transport_cost

__version__ = "0.1.0"

__all__ = ["assign", "cost_matrix", "transport_cost"]
