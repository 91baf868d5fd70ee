"""The operator graph of an ONNX file."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from planner.calibrate.graphs import GraphWriter
from planner.errors import PlannerError, WorkloadError

Shape = Sequence[int]
_VIEWS = ("Reshape", "Identity", "Squeeze", "Unsqueeze", "Flatten")
"""Operators that only look at their first input differently: consumers read the input itself."""


def export_onnx(path: str | Path, sizes: dict[str, int] | None = None) -> dict[str, Any]:
    """Return the operator graph of an ONNX model in the JSON form.

    Operations are counted for MatMul, Gemm and Conv; every other operator counts one for each element of its
    outputs.

    Parameters
    ----------
    sizes
        Values of the named dimensions of the model's inputs, such as ``{"batch": 8}``.

    Raises
    ------
    PlannerError
        If the package ``onnx`` is missing.
    WorkloadError
        If the file is no ONNX model, or the shape of something that an operator reads cannot be worked out.
    """
    try:
        import onnx
    except ImportError as error:
        raise PlannerError(
            "reading ONNX models needs the package onnx: pip install 'planner[onnx]'"
        ) from error
    try:
        model = onnx.load(str(path))
        _fix_sizes(model, sizes or {})
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (OSError, ValueError, _decode_error(), onnx.shape_inference.InferenceError) as error:
        raise WorkloadError(f"{path}: not a usable ONNX model: {error}") from error
    return _Reader(model.graph, str(path)).read()


def _decode_error() -> type[Exception]:
    """Return what the format's own reader raises for bytes that are none of it."""
    found: type[Exception] = importlib.import_module("google.protobuf.message").DecodeError
    return found


def _fix_sizes(model: Any, sizes: dict[str, int]) -> None:
    for value in model.graph.input:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in sizes:
                dimension.dim_value = sizes[dimension.dim_param]


class _Reader:
    """Walks the nodes of a graph, which ONNX keeps in an order in which they can run."""

    def __init__(self, graph: Any, path: str) -> None:
        self.graph, self.path = graph, path
        self.writer = GraphWriter()
        self.constants: dict[str, tuple[tuple[int, ...], float]] = {
            item.name: (tuple(item.dims), math.prod(item.dims) * _element(item.data_type))
            for item in graph.initializer
        }
        values = (*graph.input, *graph.value_info, *graph.output)
        self.values = {value.name: value.type.tensor_type for value in values}
        self.source: dict[str, str] = {}

    def read(self) -> dict[str, Any]:
        for number, node in enumerate(self.graph.node):
            self._read(node, node.name or f"{node.op_type}-{number}")
        return self.writer.document()

    def _read(self, node: Any, key: str) -> None:
        reads = [name for name in node.input if name]
        if node.op_type == "Constant":
            for item in node.attribute:
                if item.name == "value":
                    shape = tuple(item.t.dims)
                    self.constants[node.output[0]] = shape, math.prod(shape) * _element(item.t.data_type)
            return
        if node.op_type in _VIEWS and reads[0] not in self.constants:
            if reads[0] in self.source:
                self.source[node.output[0]] = self.source[reads[0]]
            return
        output = sum(self._size(name) for name in node.output if name)
        self.writer.add(
            key,
            node.op_type,
            flops=self._flops(node),
            traffic=output + sum(self._size(name) for name in reads),
            output=output,
            inputs=[self.source[name] for name in reads if name in self.source],
            parameters={name: self.constants[name][1] for name in reads if name in self.constants},
        )
        self.source |= dict.fromkeys((name for name in node.output if name), key)

    def _shape(self, name: str) -> tuple[int, ...]:
        if name in self.constants:
            return self.constants[name][0]
        dims = self.values[name].shape.dim if name in self.values else None
        if dims is None or not all(item.HasField("dim_value") for item in dims):
            open_ = sorted({item.dim_param for item in dims or () if item.dim_param})
            hint = f"; give sizes for {', '.join(open_)}" if open_ else ""
            raise WorkloadError(f"{self.path}: the shape of {name!r} is open{hint}")
        return tuple(item.dim_value for item in dims)

    def _size(self, name: str) -> float:
        if name in self.constants:
            return self.constants[name][1]
        return math.prod(self._shape(name)) * _element(self.values[name].elem_type)

    def _flops(self, node: Any) -> float:
        whole = float(sum(math.prod(self._shape(name)) for name in node.output if name))
        if node.op_type == "MatMul":
            return 2.0 * whole * self._shape(node.input[0])[-1]
        if node.op_type == "Gemm":
            across = next((item.i for item in node.attribute if item.name == "transA"), 0)
            return 2.0 * whole * self._shape(node.input[0])[0 if across else 1]
        if node.op_type == "Conv":
            return 2.0 * whole * math.prod(self._shape(node.input[1])[1:])
        return whole


def _element(data_type: int) -> float:
    """Return the bytes of an element of an ONNX type."""
    from onnx import helper

    try:
        return float(helper.tensor_dtype_to_np_dtype(data_type).itemsize)
    except (KeyError, TypeError) as error:
        raise WorkloadError(f"an ONNX tensor has the unknown data type {data_type}") from error
