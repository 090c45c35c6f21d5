"""Large blocks that are freed go back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import numpy as np
from dvcc._memory import return_large_blocks

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) // 1024

if LIMITED:
    return_large_blocks(least=2**20, kept=2**25)
del_me = np.ones(30 * 2**20, np.uint8)
del del_me
before, large, small = resident(), [], []
for _ in range(24):
    large.append(np.ones(6 * 2**20, np.uint8))  # as pictures
    small.append(np.ones(2**17, np.uint8))  # as what a decoder keeps between them
del large
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_what_lies_between_small_blocks_is_given_back():
    def kept(limited: bool) -> int:
        code = _CODE.replace("LIMITED", str(limited))
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    if kept(False) < 100:
        pytest.skip("this C library gives memory back by itself")
    assert kept(True) < 20
