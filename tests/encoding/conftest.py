"""Videos of every kind, and an untrained control."""

from tests.videos import control, make_video

__all__ = ["control", "make_video"]
