"""What networks are called, and what they are taken for."""

from dvcc.evaluation.benchmark.networks import short_names, taken_for
from dvcc.tasks import DetectionTask, ReconstructionTask, SegmentationTask


def test_a_file_goes_by_its_name_and_by_its_folder_where_two_share_one():
    assert short_names(["student", "a/b/net.onnx", "torchvision/resnet50"]) == ["student", "net", "torchvision/resnet50"]
    assert short_names(["a/x/net.onnx", "b/x/net.onnx", "b/other.v2.onnx"]) == ["a/x/net", "b/x/net", "other.v2"]
    assert short_names(["student", "/models/student.onnx"]) == ["student", "models/student"]


def test_a_network_is_taken_for_its_classes_and_is_said_to_be_fed(detector):
    assert taken_for(DetectionTask(model=str(detector))) == "3 classes, layout fastestdet, stretched, BGR 0..1, at 64x64"
    feed = "stretched, RGB 0..1, mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225, at the pictures' size"
    assert taken_for(SegmentationTask()) == f"20 classes, logits, {feed}"
    assert taken_for(ReconstructionTask()) == ""
