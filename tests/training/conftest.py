"""A folder of tiny videos and the words that make a run tiny."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvcc import CRF, X264
from tests.conftest import make_scene


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(["a", "b", "test"]):
        (folder / f"{name}.mp4").write_bytes(X264().encode(make_scene(frames=12, seed=seed), CRF(12)).bitstream)
    return folder


@pytest.fixture(scope="session")
def tiny(videos, tmp_path_factory) -> list[str]:
    cache = tmp_path_factory.mktemp("cache")
    return [
        "data=folder",
        f"data.root={videos}",
        "data.test=[test.mp4]",
        "data.frames=4",
        "data.stride=1",
        "data.size=[64,96]",
        "data.rungs=[16,26,36,46]",
        f"data.cache={cache}",
    ]
