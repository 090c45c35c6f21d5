"""NanoDet-Plus-m in torch is the network of the published file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from dvcc.errors import CheckpointError
from dvcc.networks.detectors.gfl import Nanodet
from dvcc.networks.nanodet_plus import BACKBONE_STRIDES, BACKBONE_WIDTHS, NECK_STRIDES, NECK_WIDTH, NanoDetPlus
from dvcc.networks.onnx_file import OnnxFile, probe_pictures
from dvcc.networks.sources import CHECKPOINTS

PUBLISHED = CHECKPOINTS / "nanodet_plus_m_416.onnx"


@pytest.fixture(scope="module")
def net():
    return NanoDetPlus.from_onnx(PUBLISHED)


@pytest.mark.parametrize("size", [(64, 96), (192, 320)])
def test_its_answers_are_those_of_onnxruntime(net, size):
    canvases = Nanodet.feed.normalised(probe_pictures(size), np)
    theirs = OnnxFile(PUBLISHED, threads=1).run(canvases)[0]
    ours = net(torch.from_numpy(canvases)).numpy()
    assert ours.shape == theirs.shape and np.ptp(theirs[..., :80]) > 0.02
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_features_from_inside_have_their_strides_and_a_gradient(net):
    images = torch.rand(1, 3, 64, 128, requires_grad=True)
    seen = net.see(images)
    assert [tuple(x.shape[1:]) for x in seen.backbone] == [
        (width, 64 // stride, 128 // stride) for width, stride in zip(BACKBONE_WIDTHS, BACKBONE_STRIDES, strict=True)
    ]
    assert [tuple(x.shape[1:]) for x in seen.neck] == [(NECK_WIDTH, 64 // stride, 128 // stride) for stride in NECK_STRIDES]
    seen.neck[0].square().mean().backward()
    assert images.grad.abs().sum() > 0
    torch.testing.assert_close(seen.answers, net(images))


def test_another_file_is_named_with_what_differs(tmp_path, detector):
    with pytest.raises(CheckpointError, match="there is no ONNX file at"):
        NanoDetPlus.from_onnx(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"text\.onnx is no whole ONNX file"):
        NanoDetPlus.from_onnx(tmp_path / "text.onnx")
    with pytest.raises(CheckpointError, match=r"convolutions, but NanoDet-Plus-m has 110"):
        NanoDetPlus.from_onnx(detector)
    model = onnx.load(PUBLISHED)
    second = [node for node in model.graph.node if node.op_type == "Conv"][1]
    next(item for item in second.attribute if item.name == "strides").ints[:] = [1, 1]
    onnx.save(model, tmp_path / "stride.onnx")
    with pytest.raises(CheckpointError, match=r"is another network than NanoDet-Plus-m.*backbone\.stages\.0\.0\.near\.0"):
        NanoDetPlus.from_onnx(tmp_path / "stride.onnx")
