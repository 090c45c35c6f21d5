"""The cache returns what the codec returned, and notices when it cannot."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dvcc import ABR, CRF, X264, QPMap, QPOffsets
from dvcc.codecs.cache import EncodeCache
from dvcc.surrogate.ladder import encode_ladder
from tests.conftest import make_scene


class CountingCodec:
    """The real codec, counting."""

    def __init__(self):
        self.codec, self.calls = X264(), 0

    def __repr__(self):
        return repr(self.codec)

    def encode(self, clip, rate):
        self.calls += 1
        return self.codec.encode(clip, rate)


@pytest.fixture
def codec():
    return CountingCodec()


def same(a, b) -> bool:
    fields = ("bitstream", "fps", "height", "width", "codec", "settings", "requested_qp", "num_encodes")
    return all(getattr(a, f) == getattr(b, f) for f in fields) and np.array_equal(a.bits_per_frame, b.bits_per_frame)


@pytest.mark.parametrize("rate", [CRF(30), ABR(100), QPMap(np.full((8, 4, 6), 30))], ids=repr)
def test_a_hit_is_the_encode_itself(rate, codec, scene, tmp_path):
    cache = EncodeCache(tmp_path)
    first, second = cache.encode(codec, scene, rate), cache.encode(codec, scene, rate)
    assert codec.calls == 1 and same(first, second) and same(first, X264().encode(scene, rate))


def test_content_settings_and_map_are_all_in_the_key(codec, scene, tmp_path):
    cache = EncodeCache(tmp_path)
    first, second = np.full((8, 4, 6), 30), np.full((8, 4, 6), 30)
    first[0, 0, 0], second[0, 0, 1] = 40, 40  # the same shape and range, so the same repr
    maps = [QPMap(values) for values in (first, second)]
    offsets = [QPOffsets(values - 30) for values in (first, second)]
    for rate in (*maps, ABR(100), *(ABR(100, offsets=offset) for offset in offsets)):
        cache.encode(codec, scene, rate)
    cache.encode(codec, make_scene(seed=1), QPMap(first))
    codec.codec = X264(gop=4)
    cache.encode(codec, scene, QPMap(first))
    assert codec.calls == 7


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_a_damaged_entry_is_encoded_again(damage, codec, scene, tmp_path):
    cache = EncodeCache(tmp_path)
    good = cache.encode(codec, scene, CRF(30))
    (entry,) = tmp_path.rglob("*.npz")
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 0xFF
    entry.write_bytes({"truncated": bytes(content[:300]), "flipped": bytes(content), "empty": b"", "foreign": b"PK"}[damage])
    assert same(cache.encode(codec, scene, CRF(30)), good) and codec.calls == 2
    assert same(cache.encode(codec, scene, CRF(30)), good) and codec.calls == 2


def test_many_writers_leave_one_whole_entry_and_no_litter(codec, scene, tmp_path):
    cache = EncodeCache(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: cache.encode(codec, scene, CRF(30)), range(8)))
    assert all(same(result, results[0]) for result in results)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_ladder_rungs_fall_in_bits_and_quality(scene, tmp_path):
    ladder = encode_ladder(EncodeCache(tmp_path), X264(), scene, (16, 28, 40))
    assert ladder.frames.shape == (3, 8, 3, 64, 96) and ladder.bits.shape == (3, 8)
    clip_bits = ladder.bits.sum(1)
    assert clip_bits[0] > clip_bits[1] > clip_bits[2]
    errors = (ladder.frames.float() - scene.frames.float()).square().mean((1, 2, 3, 4))
    assert errors[0] < errors[1] < errors[2]
