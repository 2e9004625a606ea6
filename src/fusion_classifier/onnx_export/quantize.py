"""Encoders' graphs with weights of 8 bits.

    int8           weights in blocks of 64 with a scale each; the inputs of a product are rounded in blocks, too, for
                   each token by itself (ONNX Runtime's MatMulNBits), so that a text does not depend on its neighbours
    int8-dynamic   weights of 7 bits, one scale per column; inputs with one scale for the whole batch (MatMulInteger)

Embeddings of tokens, the larger half of a small model, have one scale per row in both. A head stays in float32: it is
small, and its answers are what is measured.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fusion_classifier.config import Precision
from fusion_classifier.onnx_export.graphs import ONE_FILE_BYTES, quiet

# ruff: noqa: PLC0415 - onnx and onnxruntime are an extra

BLOCK = 64  # divides the widths of most models
INT8_PRODUCTS = 4  # ONNX Runtime's accuracy level for products of 8-bit numbers
LARGE = 2**20  # minimum number of values in an embedding table for quantization


def quantize_encoder(source: Path, target: Path, precision: Precision) -> None:
    """Write an encoder's float32 graph in another precision, int8 or int8-dynamic."""
    import onnx

    with quiet():
        model = onnx.load(source)
        _round_embeddings(model.graph)
        model = _in_blocks(model) if precision == "int8" else _dynamic(model)
    onnx.save(model, target, save_as_external_data=model.ByteSize() > ONE_FILE_BYTES, location=f"{target.name}.data")


def _in_blocks(model: Any) -> Any:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        model,
        bits=8,
        block_size=BLOCK,
        is_symmetric=True,
        accuracy_level=INT8_PRODUCTS,
        op_types_to_quantize=("MatMul",),
    )
    quantizer.process()
    return quantizer.model.model


def _dynamic(model: Any) -> Any:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory() as folder:  # the function reads and writes files
        source, target = Path(folder) / "source.onnx", Path(folder) / "target.onnx"
        onnx.save(model, source, save_as_external_data=model.ByteSize() > ONE_FILE_BYTES)
        quantize_dynamic(
            source,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            # 7 bits: on processors without VNNI, sums of two products of 8 bits overflow 16 bits and are cut off.
            # https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html#when-to-use-reduce-range-and-per-channel-quantization
            reduce_range=True,
            op_types_to_quantize=["MatMul", "Gemm"],
            use_external_data_format=model.ByteSize() > ONE_FILE_BYTES,
        )
        return onnx.load(target)


def _round_embeddings(graph: Any) -> None:
    """Store each large table that a Gather reads in 8 bits, with one scale per row."""
    from onnx import helper, numpy_helper

    tables = {one.name: one for one in graph.initializer}
    users = [name for node in graph.node for name in node.input]
    nodes = []
    for node in graph.node:
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        axis = next((one.i for one in node.attribute if one.name == "axis"), 0)
        if table is None or axis != 0 or len(table.dims) != 2 or np.prod(table.dims) < LARGE or table.data_type != 1:
            nodes.append(node)
            continue
        values, name, ids = numpy_helper.to_array(table), node.output[0], node.input[1]
        scales = np.maximum(np.abs(values).max(1, keepdims=True), 1e-12).astype(np.float32) / 127
        graph.initializer.extend(
            [
                numpy_helper.from_array(np.rint(values / scales).astype(np.int8), f"{name}_rows"),
                numpy_helper.from_array(scales, f"{name}_scales"),
            ]
        )
        nodes += [
            helper.make_node("Gather", [f"{name}_rows", ids], [f"{name}_rounded"], axis=0),
            helper.make_node("Cast", [f"{name}_rounded"], [f"{name}_float"], to=1),
            helper.make_node("Gather", [f"{name}_scales", ids], [f"{name}_scale"], axis=0),
            helper.make_node("Mul", [f"{name}_float", f"{name}_scale"], [name]),
        ]
        if users.count(table.name) == 1:
            graph.initializer.remove(table)
    del graph.node[:]
    graph.node.extend(nodes)
