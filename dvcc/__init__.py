"""dvcc: learned control of standard video codecs for vision models.

`import dvcc` is light; what needs torch is imported at first use.
"""

from dvcc.clip import Clip
from dvcc.codecs import ABR, CQP, CRF, JPEG, X264, X265, EncodedClip, Quality
from dvcc.errors import CheckpointError, CodecError, ConfigError, DvccError, VideoError
from dvcc.media.clips import read_clip
from dvcc.qp import QPMap, QPOffsets

__version__ = "0.1.0"

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
    "QPMap",
    "QPOffsets",
    "Quality",
    "VideoError",
    "read_clip",
]
