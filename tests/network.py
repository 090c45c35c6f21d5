"""No test leaves this machine: what a command tries to reach is refused, and fails the test that ran it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

tried: list[str] = []
"""Hosts that were asked for since this was last emptied."""

_HERE = ("localhost", "127.0.0.1", "::1", "", None)


def _refuse(name: str) -> None:
    original = getattr(socket.socket, name)

    def guarded(self: socket.socket, *arguments: Any) -> Any:
        host = arguments[-1][0] if self.family in (socket.AF_INET, socket.AF_INET6) else None
        if host not in _HERE:
            tried.append(str(host))
            raise OSError(f"tests have no network, and {host} was asked for")
        return original(self, *arguments)

    setattr(socket.socket, name, guarded)


def close() -> None:
    """Refuse every connection of this process to another machine, and every name that would have to be looked up."""
    for name in ("connect", "connect_ex", "sendto"):
        _refuse(name)
    original = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        if (host.decode() if isinstance(host, bytes) else host) not in _HERE:
            tried.append(str(host))
            raise socket.gaierror(f"tests have no network, and {host} was asked for")
        return original(host, *arguments, **options)

    socket.getaddrinfo = look_up


@pytest.fixture(autouse=True)
def nothing_is_asked_of_the_network() -> Any:
    """See `close`. A test that means to ask empties `tried`."""
    yield
    asked = list(tried)
    tried.clear()
    assert not asked, f"the network was asked for {asked}"
