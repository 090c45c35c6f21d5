"""What trained weights carry with them: the videos that they have seen, and the versions that they were made with."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av

import dvcc
from dvcc.datasets.clips import ClipDataset, JoinedClips, video_key
from dvcc.errors import ConfigError


def trained_on(clips: object, *begun_from: dict[str, Any]) -> list[str]:
    """Return names and sizes of the videos that `clips` are cut from: what an evaluation must not be about.

    Those that the checkpoints `begun_from` (their configs) have seen are among them.
    """
    seen = {video_key(span.video) for span in clips.spans} if isinstance(clips, ClipDataset | JoinedClips) else set()
    return sorted(seen.union(*(stored.get("trained_on", []) for stored in begun_from)))


def refuse_training_videos(path: str | Path, stored: dict[str, Any], videos: list[Path]) -> None:
    """Raise `ConfigError` when what is at `path` was trained on one of the test `videos`."""
    seen = {video_key(video) for video in videos} & set(stored.get("trained_on", []))
    if seen:
        raise ConfigError(f"{path} was trained on {', '.join(sorted(seen))}: test it on other videos, with data.test=[..]")


def versions() -> dict[str, str]:
    """Return what a run depends on: our commit, and the versions of the libraries and of FFmpeg."""
    root = Path(__file__).parents[2]
    git = ["git", "-C", str(root), "rev-parse", "--short", "HEAD"]
    # A machine that runs dvcc needs no git, and a copy without a repository has no commit.
    commit = (
        subprocess.run(git, capture_output=True, text=True).stdout.strip()
        if shutil.which("git") and (root / ".git").exists()
        else ""
    )
    return {
        "dvcc": dvcc.__version__,
        "commit": commit or "unknown",
        "torch": version("torch"),
        "lightning": version("lightning"),
        "av": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
    }
