"""A classifier as ONNX graphs, for programs without torch: `fec optimize`, docs/onnx.md."""
