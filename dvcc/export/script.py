"""A shell script that encodes a video with the stock `ffmpeg` program: one command per GOP, each with a map of its own."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dvcc.export.base import MapFormat, Maps, decoded, raw_input
from dvcc.export.rectangles import filters
from dvcc.media.source import VideoSource

# Bash reads the script as it goes, so that one of hours needs no memory; and `head` takes from a pipe what it is told.
# A filter's text may exceed what a command line may hold, and releases of FFmpeg differ in the option that names a file.
_BEGIN = """\
#!/usr/bin/env bash
# Written by dvcc export. Takes the name of the coded file; FFMPEG=PATH names another ffmpeg.
set -euo pipefail
ffmpeg=${{FFMPEG:-ffmpeg}}
source={source}
out=${{1:-{coded}}}
case $out in /*) ;; *) out=./$out ;; esac
folder=${{out%/*}}/
said=; partial=; work=; decoder=; number=0; coded=0
fail() {{ said=$1; exit 2; }}
end() {{ # the exit status
  set +e
  exec 3<&-
  [ -z "$decoder" ] || wait "$decoder" 2> /dev/null # what it has to say comes before the sentence
  [ -z "$partial" ] || rm -f "$partial"
  [ -z "$work" ] || rm -rf "$work"
  case $1 in 0 | 130 | 143) exit "$1" ;; esac # done, or told to stop
  echo "error: ${{said:-coding stopped after $coded frames (status $1): see the lines above,\
 and whether $folder and ${{TMPDIR:-/tmp}} have space}}" >&2
  exit 2
}}
trap 'end $?' EXIT
trap 'exit 130' INT
command -v "$ffmpeg" > /dev/null || fail "there is no program $ffmpeg: set FFMPEG to its path"
[ -f "$source" ] || fail "$source is gone: export the video again"
[ ! "$out" -ef "$source" ] || fail "$out is the video itself: give another name"
[ ! -d "$out" ] || fail "$out is a folder: give the name of a file"
case $("$ffmpeg" -hide_banner -h full 2> /dev/null) in
  *-filter_script*) option=-filter_script:v ;;
  *-filter*) option=-/filter:v ;;
  *) fail "$ffmpeg does not run as ffmpeg does: set FFMPEG to the path of one" ;;
esac
made=$(mktemp "$out.XXXXXX" 2>&1) || fail "cannot write $out (${{made##*: }}): choose another folder for it"
partial=$made
made=$(mktemp -d 2>&1) || fail "cannot make a temporary folder (${{made##*: }}): set TMPDIR to a folder with space"
work=$made
exec 3< <({decode})
decoder=$!
encode() {{ # frames; their filters are the standard input
  cat > "$work/filters"
  head -c $(($1 * {bytes_per_frame})) <&3 | "$ffmpeg" -v error -y {raw} -i - "$option" "$work/filters" \\
    {options} -f mp4 "$work/$number.mp4"
  echo "file $number.mp4" >> "$work/list"
  number=$((number + 1))
  coded=$((coded + $1))
}}
"""
_END = """\
[ "$(head -c 1 <&3 | wc -c)" -eq 0 ] || fail "$source has more than the {frames} frames of the map: export it again"
"$ffmpeg" -v error -y -f concat -i "$work/list" -c copy -f mp4 {tag}"$partial"
frames=$("$ffmpeg" -v error -i "$partial" -map 0:v -c copy -f framecrc - | grep -vc '^#') || [ "$frames" = 0 ]
[ "$frames" -eq {frames} ] || fail "only $frames of the {frames} frames could be coded: export the video again"
chmod 644 "$partial"
mv -f "$partial" "$out"
echo "$out: $frames frames"
"""
_UNSAID = 2  # FFmpeg's number for a colour property


class Script(MapFormat):
    """A bash script with every rectangle of equal QPs as a filter `addroi`, for FFmpeg.

    FFmpeg hands it to the encoder as an offset on a constant rate factor while the rest of rate control stands still. The pieces
    are joined without coding them again.
    """

    takes = ("map",)
    step: int
    """QPs are rounded to multiples of it."""
    coded: str
    """What is put after a video's name for the name of the coded file."""

    @abstractmethod
    def options(self, gop: int) -> str:
        """Return the encoder's options."""

    tag = ""

    def write(self, file: BinaryIO, maps: Maps, *, source: VideoSource, out: Path, gop: int) -> str:
        """See `MapFormat.write`."""
        begin = _BEGIN.format(
            source=shlex.quote(str(source.path.resolve())),
            coded=shlex.quote(f"{source.path.stem}{self.coded}"),
            decode=decoded(source, program='"$ffmpeg"'),
            bytes_per_frame=source.picture.height * source.picture.width * 3 // 2,
            raw=raw_input(source),
            options=self.options(gop),
        )
        file.write(begin.encode())
        picture = source.picture
        colour = f"setparams=range={2 if picture.full_range else 1}:color_primaries={picture.primaries or _UNSAID}"
        colour += f":color_trc={picture.transfer or _UNSAID}:colorspace={picture.matrix}"
        shape = []
        if aspect := picture.pixel_aspect:
            shape = [f"setsar=r={aspect}:max={max(aspect.numerator, aspect.denominator)}"]
        frames = 0
        for qp in maps:
            chain = ",\n".join([colour, *shape, *filters(steady(qp.values, step=self.step))])
            file.write(f"encode {len(qp.values)} <<'END'\n{chain}\nEND\n".encode())
            frames += len(qp.values)
        file.write(_END.format(frames=frames, tag=self.tag).encode())
        return f"bash {shlex.quote(str(out.resolve()))} OUT.mp4"


def steady(values: np.ndarray, *, step: int) -> np.ndarray:
    """(h, w): the mean of QPs (T, h, w) over the frames, rounded to a multiple of `step`."""
    return np.asarray(step * np.rint(values.astype(float).mean(0) / step), np.int16)
