"""The operator graph of a torch module, by ``torch.export``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from planner.calibrate.graphs import GraphWriter

_VIEWS = (
    "view", "_unsafe_view", "reshape", "permute", "transpose", "t", "expand", "squeeze", "unsqueeze", "slice",
    "select", "split", "split_with_sizes", "alias", "detach", "getitem", "as_strided", "clone_view",
)  # fmt: skip
"""Operators that only look at their input differently: consumers read the input itself."""


def export_module(module: Any, inputs: tuple[Any, ...]) -> dict[str, Any]:
    """Return the operator graph of a module's forward pass, for inputs of given shapes, in the JSON form.

    The module is traced with ``torch.export`` and broken down to core operators. Operations are those of
    ``torch.utils.flop_counter`` where it knows the operator, else one for every element of the output.

    Parameters
    ----------
    module
        A ``torch.nn.Module`` that ``torch.export`` can trace.
    inputs
        Its positional arguments.
    """
    import torch

    program = torch.export.export(module, inputs).run_decompositions()
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return _Reader(names).read(program.graph.nodes)


class _Reader:
    """Walks the nodes of an exported graph; ``means`` says which operator or parameters a node stands for."""

    def __init__(self, parameters: dict[str, str]) -> None:
        self.parameters = parameters
        self.writer = GraphWriter()
        self.constants: dict[str, dict[str, float]] = {}
        self.source: dict[str, str | None] = {}

    def read(self, nodes: Any) -> dict[str, Any]:
        for node in nodes:
            if node.op == "placeholder":
                self.source[node.name] = None
                if node.name in self.parameters:
                    self.constants[node.name] = {self.parameters[node.name]: size_of(node.meta["val"])}
            elif node.op == "call_function":
                self._call(node)
        return self.writer.document()

    def _call(self, node: Any) -> None:
        kind = _kind(node.target)
        reads = list(node.all_input_nodes)
        if kind in _VIEWS and len(reads) == 1:
            (looked_at,) = reads
            self.source[node.name] = self.source[looked_at.name]
            if looked_at.name in self.constants:
                self.constants[node.name] = self.constants[looked_at.name]
            return
        held = {name: size for read in reads for name, size in self.constants.get(read.name, {}).items()}
        output = size_of(node.meta.get("val"))
        self.writer.add(
            node.name,
            kind,
            flops=_flops(node),
            traffic=output + sum(size_of(read.meta.get("val")) for read in reads),
            output=output,
            inputs=[key for read in reads if (key := self.source[read.name]) is not None],
            parameters=held,
        )
        self.source[node.name] = node.name


def _kind(target: Any) -> str:
    """Return the name of an operator: ``addmm`` of ``aten.addmm.default``."""
    packet = getattr(target, "overloadpacket", None)
    return str(getattr(packet, "__name__", None) or getattr(target, "__name__", target))


def _tensors(value: Any) -> Iterator[Any]:
    if hasattr(value, "element_size"):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def size_of(value: Any) -> float:
    """Return the bytes of a tensor, or of all tensors of a result."""
    return float(sum(tensor.numel() * tensor.element_size() for tensor in _tensors(value)))


def _flops(node: Any) -> float:
    from torch.utils.flop_counter import flop_registry

    count = flop_registry.get(getattr(node.target, "overloadpacket", None))
    result = node.meta.get("val")
    if count is None:
        return float(sum(tensor.numel() for tensor in _tensors(result)))
    return float(count(*_values(node.args), **_named(node.kwargs), out_val=result))


def _values(arguments: Any) -> list[Any]:
    return [_value(argument) for argument in arguments]


def _named(arguments: Any) -> dict[str, Any]:
    return {name: _value(argument) for name, argument in arguments.items()}


def _value(argument: Any) -> Any:
    if isinstance(argument, list | tuple):
        return [_value(item) for item in argument]
    return argument.meta.get("val") if hasattr(argument, "meta") else argument
