"""Graphs of real exporters: operations, bytes and edges as counted by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.calibrate.graphs import GraphWriter, write_graph
from planner.calibrate.graphs_onnx import export_onnx
from planner.calibrate.graphs_torch import export_module
from planner.errors import WorkloadError
from planner.workload.operator_files import read_operators
from planner.workload.operators import OperatorGraph


def read(document: dict[str, Any], folder: Path) -> OperatorGraph:
    """Return the graph that an operators job reads from a written document."""
    write_graph(document, folder / "graph.json")
    return read_operators(folder / "graph.json").graph


def test_operators_that_share_a_parameter_stay_together(tmp_path: Path) -> None:
    """Readers of one parameter have one colour, also when it joins two colours; its bytes count once."""
    writer = GraphWriter()
    for key, names in (("a", ["w"]), ("b", ["v"]), ("c", ["w"]), ("d", ["v"]), ("e", ["v", "w"]), ("f", [])):
        held = dict.fromkeys(names, 10.0)
        writer.add(key, "op", flops=1, traffic=1, output=2, inputs=["a"] * (key > "a"), parameters=held)
    graph = read(writer.document(), tmp_path)
    colours = [op.colour for op in graph.operators]
    assert len(set(colours[:5])) == 1
    assert colours[5] is None
    assert [op.size for op in graph.operators] == [12.0, 12.0, 2.0, 2.0, 2.0, 2.0]
    assert not any(op.on_cpu for op in graph.operators)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_torch_module_is_exported(tmp_path: Path) -> None:
    """Two linear layers with tied weights: products of 2 m n k operations, views are no operators."""
    torch = pytest.importorskip("torch")

    class Tied(torch.nn.Module):  # type: ignore[misc, name-defined]
        """Two products with one weight matrix."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(16, 16, bias=False)
            self.head = torch.nn.Linear(16, 4)

        def forward(self, x: Any) -> Any:
            """Return the output."""
            return self.head(torch.relu(self.layer(self.layer(x))))

    graph = read(export_module(Tied(), (torch.zeros(8, 16),)), tmp_path)
    products = [op for op in graph.operators if op.flops > 8 * 16]
    assert [op.flops for op in products] == [2 * 8 * 16 * 16, 2 * 8 * 16 * 16, 2 * 8 * 16 * 4]
    first, second, head = products
    assert first.colour is not None
    assert first.colour == second.colour != head.colour
    assert first.size == 4 * (16 * 16 + 8 * 16)
    assert head.output == 4 * 8 * 4
    assert len(graph.edges) == 3


def onnx_model(path: Path, *, batch: int | str = 8) -> None:
    """Write a convolution, a view and a product."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], name="conv"),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Flatten", ["r"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], name="gemm"),
    ]
    tensors = {"k": [4, 3, 3, 3], "w": [4 * 6 * 6, 10], "b": [10]}
    weights = []
    for name, dims in tensors.items():
        size = 1
        for item in dims:
            size *= item
        weights.append(helper.make_tensor(name, kind, dims, [0.0] * size))
    inputs = [helper.make_tensor_value_info("x", kind, [batch, 3, 6, 6])]
    outputs = [helper.make_tensor_value_info("y", kind, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializer=weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def test_an_onnx_model_is_exported(tmp_path: Path) -> None:
    """Operations and bytes of a small convolutional model are those counted by hand."""
    onnx_model(tmp_path / "m.onnx")
    graph = read(export_onnx(tmp_path / "m.onnx"), tmp_path)
    conv, relu, gemm = graph.operators
    assert (conv.key, relu.key, gemm.key) == ("conv", "relu", "gemm")
    assert conv.flops == 2 * (8 * 4 * 6 * 6) * (3 * 3 * 3)
    assert relu.flops == 8 * 4 * 6 * 6
    assert gemm.flops == 2 * 8 * 10 * 144
    assert gemm.size == 4 * (144 * 10 + 10 + 8 * 10)
    assert conv.traffic == 4 * (8 * 3 * 36 + 4 * 27 + 8 * 4 * 36)
    assert graph.edges == ((0, 1), (1, 2))


def test_open_dimensions_are_given_or_named(tmp_path: Path) -> None:
    """A named dimension without a size is refused by name; with one the graph is that of the fixed model."""
    onnx_model(tmp_path / "open.onnx", batch="batch")
    with pytest.raises(WorkloadError, match="batch"):
        export_onnx(tmp_path / "open.onnx")
    onnx_model(tmp_path / "fixed.onnx")
    given = export_onnx(tmp_path / "open.onnx", {"batch": 8})
    assert json.dumps(given) == json.dumps(export_onnx(tmp_path / "fixed.onnx"))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    """Bytes that are no ONNX model, and a missing file, are errors that name the file."""
    pytest.importorskip("onnx")
    (tmp_path / "bad.onnx").write_bytes(b"\x00not a model")
    for name in ("bad.onnx", "absent.onnx"):
        with pytest.raises(WorkloadError, match=name):
            export_onnx(tmp_path / name)
