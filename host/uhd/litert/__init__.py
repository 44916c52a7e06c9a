"""TFLite files from ONNX files, by onnx2tf in an environment of its own, checked beside ONNX Runtime."""
