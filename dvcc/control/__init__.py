"""The control: its network, the relaxation that trains it, the objective."""

from dvcc.control.network import ControlNetwork, load_control
from dvcc.control.objective import DualAscent, Lagrangian, lagrangian
from dvcc.control.relaxation import gaussian_logits, sample_qp

__all__ = ["ControlNetwork", "DualAscent", "Lagrangian", "gaussian_logits", "lagrangian", "load_control", "sample_qp"]
