"""One cluster of Ray for all tests of a file: to begin takes it five seconds and more."""

from __future__ import annotations

import importlib.util

import pytest


@pytest.fixture(scope="module", autouse=True)
def cluster(request):
    """Engines join what has begun. Without the slow tests nobody asks for Ray."""
    wanted = any("ray" in item.name for item in request.session.items)
    if not wanted or importlib.util.find_spec("ray") is None:
        yield
        return
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    yield
    ray.shutdown()
