"""H.264 by libx264: the encoder whose QPs a map can decide, and of whose stream they can be read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dvcc.codecs.bitstream import split_settings
from dvcc.codecs.encoder import BASE_QP, GivenQPs, Pass, SimpleRate, cpu_capabilities
from dvcc.codecs.ffmpeg import VideoCodec
from dvcc.errors import CodecError
from dvcc.media.format import VideoFormat

# The rest of rate control stands still and offsets become exact QPs. Strength 0.0001 changes no QP, but at 0, or with
# AQ off, x264 drops the offsets without a word.
EXACT_MAP = {
    "aq-mode": "1",
    "aq-strength": "0.0001",
    "mbtree": "0",
    "qcomp": "1",
    "ipratio": "1",
    "pbratio": "1",
    "scenecut": "0",
}
# What x264's own settings text must say for the map to have been obeyed.
_EXACT_SETTINGS = {
    **{"rc": "crf", "mbtree": "0", "qcomp": "1.00", "ip_ratio": "1.00", "pb_ratio": "1.00", "aq": "1:0.00"},
    **{"qpmin": "0", "qpmax": "69", "crf": f"{BASE_QP}.0"},
}
_MOVES_QPS = ("vbv_maxrate", "zones")


# libx264's AVX-512 code for mbtree reads memory it never wrote when the frame is not a multiple of 64 wide (build 165: up to 11
# different bitstreams in 24 runs of one clip), and at 640x272 and 1280x720 its answer is always the same and not that of AVX2,
# which costs 4 % more time and does not depend on the machine.
def _repeatable() -> dict[str, str]:
    """Return the parameter that keeps x264 from its AVX-512 code, none where it would not use that."""
    return {"asm": "AVX2"} if "AVX512" in cpu_capabilities() else {}


@dataclass(frozen=True)
class X264(VideoCodec):
    """H.264 by libx264, stock and unpatched.

    With x264's defaults left alone (psy, AQ, mbtree on) this is the baseline; `QPMap` and `QPOffsets` are honoured
    exactly or refused. Parameters and errors are those of `VideoCodec`.
    """

    name: ClassVar[str] = "x264"
    library: ClassVar = "libx264"
    coded_as: ClassVar = "h264"
    most_threads: ClassVar = 128
    retargets: ClassVar = True

    @classmethod
    def perspective(cls) -> X264:
        """Return the constant-QP settings of "A Perspective on Deep Vision Performance" (use with `CQP`).

        `-preset medium -g 8 -flags +cgop+mv4 -mbtree 0 -aq-mode 0 -b_strategy 0 -psy 0`; here on 4:2:0 planes,
        where the paper's command, given PNG frames, codes yuv444p.
        """
        return cls(flags="+cgop+mv4", params={"mbtree": "0", "aq-mode": "0", "b-adapt": "0", "psy": "0"})

    def own_params(self, rate: SimpleRate) -> dict[str, str]:
        """See `VideoCodec`. What is in `params` may add to those that make a map exact, not contradict them: `check_obeyed`."""
        return {**_repeatable(), **(EXACT_MAP if isinstance(rate, GivenQPs) else {})}

    def pass_options(self, number: Pass) -> tuple[dict[str, str], dict[str, str]]:
        """See `VideoCodec`."""
        return {"stats": number.stats, "flags": f"{self.flags}+pass{number.number}"}, {}

    def encoder_settings(self, packet: bytes, rate: SimpleRate, picture: VideoFormat) -> tuple[str | None, int]:
        """See `VideoCodec`."""
        return split_settings(packet)

    def check_obeyed(self, settings: str, *, exact: bool, options: dict[str, str]) -> None:
        """See `VideoCodec`."""
        reported = dict(word.split("=", 1) for word in settings.split("options:", 1)[-1].split() if "=" in word)
        wrong = {}
        if exact:
            wrong = {key: reported.get(key) for key, value in _EXACT_SETTINGS.items() if reported.get(key, value) != value}
            wrong |= {key: reported[key] for key in _MOVES_QPS if key in reported}
            if int(reported["subme"]) > 9:  # QPRD re-decides the QP of every macroblock
                wrong["subme"] = reported["subme"]
        elif "aq" not in reported:
            raise CodecError(
                f"x264 codes without loss and would ignore the offsets (options {options}): ask for a CRF of 1 or more"
            )
        elif reported["aq"] == "0" or reported["aq"].endswith(":0.00"):  # mbtree turns a refused aq=0 into 1:0.00
            wrong["aq"] = reported["aq"]
        if wrong:
            listed = ", ".join(f"{key}={value}" for key, value in wrong.items())
            raise CodecError(
                f"x264 would ignore or shift the QP map with {listed} (options {options}): "
                f"take a preset up to slower with AQ on, or override with params={{'subme': 9}}"
            )
