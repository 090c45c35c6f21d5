"""Segmentation networks of any source take pictures of any size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from dvcc.errors import ConfigError
from dvcc.networks.loading import Normalise
from dvcc.networks.segmentation import SegmentationNet, load_segmentation_net


def test_a_picture_of_odd_size_is_scaled_to_what_the_network_takes():
    net = load_segmentation_net("student").eval()
    images = torch.rand(1, 3, 33, 70)
    scaled = F.interpolate(images, (64, 96), mode="bilinear")
    expected = F.interpolate(net.net(Normalise()(scaled)), (33, 70), mode="bilinear")
    torch.testing.assert_close(net(images), expected, rtol=1e-4, atol=1e-4)


def test_a_coarse_answer_is_brought_to_the_pictures_size():
    pooled = SegmentationNet(torch.nn.AvgPool2d(4), num_classes=3)
    assert pooled(torch.zeros(2, 3, 40, 24)).shape == (2, 3, 40, 24)


def test_torchvisions_networks_have_random_weights_too():
    net = load_segmentation_net("lraspp_mobilenet_v3_large", random=True).eval()
    assert net(torch.randn(1, 3, 33, 50)).shape == (1, net.num_classes, 33, 50)


def test_unknown_names_list_the_choices():
    with pytest.raises(
        ConfigError,
        match="no segmentation model 'unet': choose one of student, espnetv2, espnetv2_s1, efficientvit_b0.*fcn_resnet50",
    ):
        load_segmentation_net("unet")
