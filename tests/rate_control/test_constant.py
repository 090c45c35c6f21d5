"""A constant rate factor takes offsets and a cap, with the cache and without."""

import numpy as np
import pytest

from dvcc import CRF, X264, X265, CodecError, ConfigError, QPOffsets
from dvcc.codecs.cache import EncodeCache
from dvcc.control.eyes.painting import load_rule
from dvcc.rate_control.constant import ConstantRateFactor
from dvcc.rate_control.objects import Objects
from tests.rate_control.test_objects import Answers, boxes


@pytest.mark.parametrize("codec", [X264(), X265()], ids=["x264", "x265"])
def test_offsets_move_quality_and_none_are_the_encoder_itself(codec, scene):
    halves = np.where(np.arange(6) < 3, -6, 6) * np.ones((8, 4, 1))
    plain, moved = codec.encode(scene, CRF(28)), codec.encode(scene, CRF(28, offsets=QPOffsets(halves.astype(int))))
    error = [np.square(c.frames.float().numpy() - scene.frames.float().numpy()).mean((0, 1, 2)) for c in (plain, moved)]
    assert error[1][:48].mean() < 0.8 * error[0][:48].mean() and error[1][48:].mean() > 1.2 * error[0][48:].mean()
    none = codec.encode(scene, CRF(28, offsets=QPOffsets(np.zeros((8, 4, 6), int))))
    assert none.bitstream == plain.bitstream


def test_the_rule_under_a_searched_rate_factor_meets_the_target_and_caps_it(scene, tmp_path):
    control = Objects(Answers(boxes((0, 0, 0.33, 1, 0, 0.9))), load_rule())
    settings = {}
    for name, codec in (("kept", X264(cache=EncodeCache(tmp_path))), ("fresh", X264())):
        for peak in (None, 1.5):
            coded = ConstantRateFactor(codec, control=control, peak=peak).encode(scene, 150.0)
            settings[name, peak] = coded.settings
            assert 0.8 * 150 < coded.bitrate_kbps <= 150
    assert settings["kept", None] == settings["fresh", None] and settings["kept", 1.5] == settings["fresh", 1.5]
    assert "vbv_maxrate=225" in settings["kept", 1.5] and "vbv" not in settings["kept", None]
    alone = ConstantRateFactor(X264(cache=EncodeCache(tmp_path))).encode(scene, 150.0)
    ours = ConstantRateFactor(X264(cache=EncodeCache(tmp_path)), control=control).encode(scene, 150.0)
    error = [np.square(c.frames.float().numpy() - scene.frames.float().numpy()).mean((0, 1, 2)) for c in (alone, ours)]
    assert error[1][:32].mean() < 0.8 * error[0][:32].mean()


def test_offsets_on_a_lossless_encode_are_refused_and_a_search_keeps_above_it(scene):
    with pytest.raises(CodecError, match="codes without loss and would ignore the offsets .* ask for a CRF of 1 or more"):
        X264().encode(scene, CRF(0.9, offsets=QPOffsets(np.zeros((8, 4, 6), int))))
    control = Objects(Answers(boxes((0, 0, 0.33, 1, 0, 0.9))), load_rule())
    coded = ConstantRateFactor(X264(), control=control).encode(scene, 20000.0)
    assert "rc=crf" in coded.settings and coded.bitrate_kbps < 20000


def test_a_cap_is_positive():
    with pytest.raises(ConfigError, match=r"CRF\(vbv=...\) is \(maxrate kbit/s, buffer kbit\), both positive"):
        CRF(23, vbv=(0, 100))
