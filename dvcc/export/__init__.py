"""QP maps for other programs. A format is one file and one line here."""

from dvcc.export.accmpeg import AccMPEG
from dvcc.export.base import MapFormat
from dvcc.export.ffmpeg import FFmpegX264
from dvcc.export.kvazaar import Kvazaar
from dvcc.export.npz import Npz
from dvcc.export.nvenc import NVENC
from dvcc.export.svtav1 import SVTAV1
from dvcc.export.x265 import FFmpegX265

FORMATS: dict[str, MapFormat] = {
    "npz": Npz(),
    "ffmpeg": FFmpegX264(),
    "accmpeg": AccMPEG(),
    "kvazaar": Kvazaar(),
    "svtav1": SVTAV1(),
    "nvenc": NVENC(),
    "x265": FFmpegX265(),
}

__all__ = ["FORMATS", "MapFormat"]
