"""What the tests of the benchmark share."""

from __future__ import annotations

import pytest

from tests.evaluation.benchmarks import write_pictures


@pytest.fixture
def words(tmp_path):
    pictures = write_pictures(tmp_path / "pictures")
    return [f"data.root={pictures}", f"data.cache={tmp_path / 'cache'}", f"out={tmp_path / 'out'}"]
