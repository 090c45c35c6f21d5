"""Teachers of random weights, as the training tests have them."""

from tests.training.conftest import espnetv2, fastestdet

__all__ = ["espnetv2", "fastestdet"]
