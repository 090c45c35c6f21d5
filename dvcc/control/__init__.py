"""Stage 2: the control network, its objective and its training."""

from dvcc.control.network import ControlNetwork, load_control

__all__ = ["ControlNetwork", "load_control"]
