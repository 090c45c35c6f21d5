"""How well a surrogate moves *with* the codec when the map changes: the control-variate view of fidelity.

A surrogate c of the real functional f (task loss, log bits) is a good source of gradients exactly when it is a good control
variate: when little variance is left in f - a c over maps (Grathwohl et al., ICLR 2018; that this makes a loss for the
surrogate before there is a control is our reading). Only maps of one clip at one mean QP are compared: across mean QPs
every predictor looks good.
"""

from __future__ import annotations

import torch

_LEAST_STD = 1e-4  # of f: below it the maps make no difference, and there is nothing to explain


def rho_squared(real: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """(B,): squared correlation over the N maps of `real` and `predicted`, both (B, N); differentiable in both.

    0 where either does not vary. By chance alone it is 1 / (N - 1). Raises `ValueError` for fewer than three maps.
    """
    if real.shape != predicted.shape or real.ndim != 2 or real.shape[1] < 3:
        raise ValueError(
            f"give values of at least 3 maps per clip, (B, N) twice, got {tuple(real.shape)}, {tuple(predicted.shape)}"
        )
    f, c = (x - x.mean(1, keepdim=True) for x in (real, predicted))
    covariance, var_f, var_c = (f * c).mean(1), f.square().mean(1), c.square().mean(1)
    return covariance.square() / (var_f.clamp(min=_LEAST_STD**2) * var_c.clamp(min=_LEAST_STD**2))


def control_variate_loss(real: torch.Tensor, predicted: torch.Tensor) -> torch.Tensor:
    """Scalar L_cv = Var[f - a c] / Var[f] with the best a = Cov(f, c) / Var[c], mean over clips; both (B, N).

    It equals 1 - rho^2, and ignores offset and scale of c: other losses hold these.
    """
    return (1 - rho_squared(real, predicted)).mean()
