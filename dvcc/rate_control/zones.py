"""Zones of a picture that always or never count, whatever a detector sees there: a PNG picture that a person paints."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from dvcc.errors import ConfigError, VideoError
from dvcc.media.container import LIMITS, open_container
from dvcc.media.format import VideoFormat
from dvcc.units import MACROBLOCK, macroblock_grid

_PNG = b"\x89PNG\r\n\x1a\n"
_BROKEN = "cannot be read as a picture: check that the file is complete"
_PAINT = "paint a PNG picture white where all counts, black where nothing does, and grey where the detector decides"
_BLACK, _WHITE = 63, 192  # grey levels up to which a pixel is black, and from which it is white
_COLOURED, _MOST_COLOURED = 32, 0.01  # between a pixel's red, green and blue; share of such pixels
_MOST_PIXELS = 139_264 * MACROBLOCK**2  # of the largest picture that H.264 has a level for: a kilobyte of PNG can say millions
_OTHER_SHAPE = 0.05  # relative difference of the sides' ratio


@dataclass(frozen=True, eq=False)
class Zones:
    """What a person painted.

    path: of the picture. kinds: int8 (H, W) of the upright picture, at a size of its own: 1 always counts, -1 never does, 0 is
    left to the detector.
    """

    path: Path
    kinds: np.ndarray

    def check_shape(self, picture: VideoFormat, *, quarter_turns: int = 0) -> None:
        """Raise `ConfigError` where the sides have another ratio than those of a video, as it is stored and as it is shown."""
        height, width = self.kinds.shape
        aspect = float(picture.pixel_aspect or 1)
        sides = (picture.height, picture.width), (picture.height, picture.width * aspect)
        upright = [pair if quarter_turns % 2 == 0 else pair[::-1] for pair in sides]
        if all(abs(width / height / (w / h) - 1) > _OTHER_SHAPE for h, w in upright):
            h, w = upright[0]
            raise ConfigError(
                f"{self.path} is {width}x{height} and the video {w:.0f}x{h:.0f}, which is another shape: paint the zones over a "
                "frame of this video, at any size"
            )

    def on_grid(
        self, height: int, width: int, *, quarter_turns: int = 0, mirrored: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the macroblocks of a stored H x W picture that always count, and those that never do.

        Both are bool (ceil(H/16), ceil(W/16)), by what covers most of each. quarter_turns: by which a player turns the stored
        picture anticlockwise. mirrored: whether it then mirrors it, left and right.
        """
        stored = np.rot90(self.kinds[:, ::-1] if mirrored else self.kinds, -quarter_turns)
        places = [((np.arange(n) + 0.5) * side / n).astype(int) for n, side in zip((height, width), stored.shape, strict=True)]
        pixels = stored[places[0]][:, places[1]]
        starts = [np.arange(count) * MACROBLOCK for count in macroblock_grid(height, width)]

        def pixels_of(kind: int) -> np.ndarray:
            return np.add.reduceat(np.add.reduceat((pixels == kind).astype(np.int32), starts[0], 0), starts[1], 1)

        always, never, left = map(pixels_of, (1, -1, 0))
        return (always > 0) & (always >= np.maximum(never, left)), never > np.maximum(always, left)


def load_zones(path: str | Path) -> Zones:
    """Read zones from a PNG picture of any size up to that of the largest videos.

    White always counts, black never does, grey and transparent pixels are left to the detector.

    Raises `ConfigError` where it cannot be read, is no PNG, is too large, has colours, or neither white nor black. Raises
    `VideoError` where it has more pixels than a service allows.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the zones {path} cannot be read ({error.strerror or error}): {_PAINT}") from error
    if not data.startswith(_PNG):
        raise ConfigError(f"{path} is no PNG picture: for zones, {_PAINT}")
    if data[12:16] != b"IHDR" or len(data) < 24:
        raise ConfigError(f"{path} {_BROKEN}")
    width, height = struct.unpack(">II", data[16:24])
    LIMITS.check_size(width, height, path)
    if width * height > _MOST_PIXELS:
        raise ConfigError(f"{path} is {width}x{height}, and zones have at most {_MOST_PIXELS} pixels: scale it down")
    try:
        with open_container(data, name=str(path)) as container:
            rgba = next(container.decode(video=0)).to_ndarray(format="rgba")
    except (av.FFmpegError, VideoError, OSError, ValueError, StopIteration, EOFError) as error:
        raise ConfigError(f"{path} {_BROKEN}") from error
    red, green, blue, opaque = np.moveaxis(rgba, 2, 0)
    painted = opaque >= 128
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    if (painted & (spread > _COLOURED)).mean() > _MOST_COLOURED:
        raise ConfigError(f"{path} has colours, which say nothing here: {_PAINT}")
    grey = red.astype(np.int16) + green + blue
    kinds = (painted & (grey >= 3 * _WHITE)).astype(np.int8) - (painted & (grey <= 3 * _BLACK))
    if not kinds.any():
        raise ConfigError(f"{path} has neither white nor black, so that nothing would change: {_PAINT}")
    return Zones(path, kinds.astype(np.int8))
