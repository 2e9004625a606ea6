"""A classifier as ONNX graphs, for programs without Python's torch: `fec export-onnx`, docs/onnx.md."""

from fusion_classifier.onnx_export.graph_files import CHECKED_TEXTS, Exported, export_onnx

__all__ = ["CHECKED_TEXTS", "Exported", "export_onnx"]
