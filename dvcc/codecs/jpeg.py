"""JPEG, frame by frame, by the libjpeg inside Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from dvcc._packaged import require
from dvcc.clip import Clip
from dvcc.codecs.base import Codec, EncodedClip, Quality, Rate
from dvcc.errors import CodecError
from dvcc.media.packets import packet_of
from dvcc.rgb_clip import RGBClip


@dataclass(frozen=True)
class JPEG(Codec):
    """JPEG with 4:2:0 subsampling and libjpeg's default quantisation tables. It has no QP per macroblock.

    optimised: Huffman tables made for the picture; the pixels stay the same. progressive: coarse to fine instead of baseline.
    """

    optimised: bool = False
    progressive: bool = False

    def encode(self, clip: Clip | RGBClip, rate: Rate) -> EncodedClip:
        """Encode every frame at `Quality(q)`. Raises `CodecError` for any other rate, QP maps included."""
        if not isinstance(rate, Quality):
            raise CodecError(f"JPEG takes a Quality as rate and would ignore {rate!r}: use X264 for it")
        require("PIL", wanted_by="JPEG")
        from PIL import Image

        images = []
        for frame in clip.frames.permute(0, 2, 3, 1).numpy():
            buffer = io.BytesIO()
            options = {"optimize": self.optimised, "progressive": self.progressive}
            Image.fromarray(frame).save(buffer, "JPEG", quality=rate.quality, subsampling="4:2:0", **options)
            images.append(buffer.getvalue())
        bits = np.array([8 * len(image) for image in images], np.int64)
        settings = f"libjpeg quality={rate.quality} subsampling=4:2:0"
        settings += " optimised" * self.optimised + " progressive" * self.progressive
        return EncodedClip(_mux(images, clip), bits, clip.fps, clip.height, clip.width, "mjpeg", settings)


def _mux(images: list[bytes], clip: Clip | RGBClip) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mjpeg", rate=clip.fps)
        stream.width, stream.height, stream.pix_fmt = clip.width, clip.height, "yuvj420p"
        for t, image in enumerate(images):
            packet = packet_of(image)
            packet.stream, packet.pts, packet.dts = stream, t, t
            packet.duration, packet.time_base, packet.is_keyframe = 1, 1 / Fraction(clip.fps), True
            container.mux(packet)
    return buffer.getvalue()
