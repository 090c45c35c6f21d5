"""dvcc: learned control of standard video codecs for vision models.

`import dvcc` is light; what needs torch is imported at first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dvcc.clip import Clip
from dvcc.codecs import ABR, CQP, CRF, JPEG, X264, X265, EncodedClip, Quality
from dvcc.errors import CheckpointError, CodecError, ConfigError, DvccError, VideoError
from dvcc.media.clips import read_clip
from dvcc.qp import QPMap, QPOffsets

if TYPE_CHECKING:
    from dvcc.encoding.frames import EncodedPacket, encode
    from dvcc.encoding.target import LiveTarget

__version__ = "0.1.0"

_AT_FIRST_USE = {"EncodedPacket": "frames", "encode": "frames", "LiveTarget": "target"}  # by module of dvcc.encoding

__all__ = [
    "ABR",
    "CQP",
    "CRF",
    "JPEG",
    "X264",
    "X265",
    "CheckpointError",
    "Clip",
    "CodecError",
    "ConfigError",
    "DvccError",
    "EncodedClip",
    "EncodedPacket",
    "LiveTarget",
    "QPMap",
    "QPOffsets",
    "Quality",
    "VideoError",
    "encode",
    "read_clip",
]


def __getattr__(name: str) -> Any:
    """Import what needs onnxruntime at its first use."""
    if name in _AT_FIRST_USE:
        return getattr(import_module(f"dvcc.encoding.{_AT_FIRST_USE[name]}"), name)
    raise AttributeError(f"module 'dvcc' has no attribute {name!r}")
