"""Reading models made elsewhere: published checkpoints and ONNX files become checkpoints of ours."""
