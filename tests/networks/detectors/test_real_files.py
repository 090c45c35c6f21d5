"""Published files, as they are: a person alone in a corridor."""

from __future__ import annotations

import numpy as np
import pytest

from dvcc import read_clip
from dvcc.networks.coco import COCO_NAMES
from dvcc.networks.detectors import load_detector

FILES = {
    "nanodet": "nanodet_plus_m_416.onnx",
    "picodet": "picodet_s_416.onnx",
    "deim": "deimv2_atto_320.onnx",
    "fastestdet": "fastestdet_coco80_352.onnx",
}


@pytest.mark.parametrize("layout", FILES)
def test_the_person_is_where_all_files_see_it(layout, assets):
    detector = load_detector(assets / "models/detection" / FILES[layout], threads=1)
    assert detector.layout.name == layout and detector.num_classes == 80
    clip = read_clip(assets / "videos/intel_one-by-one-person-detection.mp4", frames=1, start=278, size=(288, 512))
    (boxes,) = detector.detect(np.ascontiguousarray(clip.frames[0].permute(1, 2, 0)), least_score=detector.layout.object_score)
    best = boxes.corners[0]
    assert COCO_NAMES[boxes.labels[0]] == "person" and boxes.scores[0] > 0.6
    np.testing.assert_allclose(best, [0.497, 0.01, 0.707, 0.875], atol=0.03)
