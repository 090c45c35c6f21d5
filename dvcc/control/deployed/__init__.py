"""What of a control is deployed: an ONNX graph without torch, and its memory from frame to frame."""
