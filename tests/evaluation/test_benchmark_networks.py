"""What networks are called, and what they are taken for."""

from dvcc.evaluation.benchmark.networks import short_names, taken_for
from dvcc.tasks import DetectionTask, ReconstructionTask, SegmentationTask


def test_a_file_goes_by_its_name_and_by_its_folder_where_two_share_one():
    assert short_names(["student", "a/b/net.onnx", "torchvision/resnet50"]) == ["student", "net", "torchvision/resnet50"]
    assert short_names(["a/x/net.onnx", "b/x/net.onnx", "b/other.v2.onnx"]) == ["a/x/net", "b/x/net", "other.v2"]
    assert short_names(["student", "/models/student.onnx"]) == ["student", "models/student"]


def test_a_network_is_taken_for_its_classes_and_grid(detector):
    assert taken_for(DetectionTask(model=str(detector))) == "3 classes on a grid of 4x4 for pictures of 64x64"
    assert taken_for(SegmentationTask()) == "20 classes"
    assert taken_for(ReconstructionTask()) == ""
