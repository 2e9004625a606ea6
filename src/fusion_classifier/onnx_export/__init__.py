"""A classifier as ONNX graphs, for programs without Python's torch: `fec export-onnx`, docs/onnx.md."""
