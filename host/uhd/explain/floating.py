"""The float model with some of its layers in integers: all of them beside it, or one of them in it.

A layer "alone in integers" means: the convolution multiplies with the filter and bias of the .espdl, its input is the
float model's, and its output is rounded to the .espdl's exponent and saturated. Any other operator keeps its float
inputs and has its output rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from uhd.errors import ModelError
from uhd.espdl import shapes
from uhd.espdl.model import EspdlModel, Node, Tensor
from uhd.explain.partners import Partner, find_partners
from uhd.targets import TARGETS

_PREFIX = "uhd.explain/"


class Session:
    """An ONNX graph, ready to run one picture at a time on one thread."""

    def __init__(self, model: onnx.ModelProto, outputs: Sequence[str]) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(4)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions share no base class
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"the float model does not run ({reason})", hint="export it again") from None
        self._input = self._session.get_inputs()[0].name
        self._outputs = list(outputs)

    def run(self, planes: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Outputs by name for [1, C, H, W]."""
        return dict(zip(self._outputs, self._session.run(self._outputs, {self._input: planes}), strict=True))


@dataclass(frozen=True)
class Beside:
    """A session that gives, beside the float model's tensors, what each layer alone would make of them.

    ``alone``: name of that tensor by the name of the layer's output. ``sums``: the same before it is rounded, for
    convolutions: what their filter and bias alone change.
    """

    session: Session
    alone: dict[str, str]
    sums: dict[str, str]


class FloatModel:
    """The float graph beside its .espdl. ``partners``: by the name of a layer's output."""

    def __init__(self, proto: onnx.ModelProto, model: EspdlModel) -> None:
        """Raises ``ModelError`` if the shapes of ``proto`` do not fit together."""
        try:
            self._proto = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"the float model's shapes do not fit together ({reason})") from None
        self._model = model
        self._rounding = TARGETS[model.target].rounding
        self.partners: dict[str, Partner] = find_partners(model, self._proto.graph)
        self._constants = {t.name: t for t in self._proto.graph.initializer}
        self.maps = [output.name for output in self._proto.graph.output if output.name not in self._constants]

    def with_all_beside(self) -> Beside:
        """All partner tensors, and every layer that has one alone in integers, in one session."""
        proto = self._copy()
        alone: dict[str, str] = {}
        sums: dict[str, str] = {}
        for number, layer in enumerate(self._model.nodes):
            partner = self.partners[layer.outputs[0]]
            if partner.reason:
                continue
            source, alone[layer.outputs[0]] = partner.tensor, f"{_PREFIX}alone/{number}"
            if self._float_filter(layer) is not None:
                source = sums[layer.outputs[0]] = f"{_PREFIX}sum/{number}"
                conv = onnx.NodeProto()
                conv.CopyFrom(next(node for node in proto.graph.node if node.name == layer.name))
                conv.name = source
                conv.output[0] = f"{source}/linear"
                self._give_integers(proto.graph, conv, layer)
                proto.graph.node.append(conv)
                kind = "Relu" if layer.attributes.get("activation") == "Relu" else "Identity"
                proto.graph.node.append(helper.make_node(kind, [conv.output[0]], [source]))
            proto.graph.node.extend(self._rounded(proto.graph, layer, source, alone[layer.outputs[0]]))
        wanted = sorted({p.tensor for p in self.partners.values() if not p.reason} | {*alone.values(), *sums.values()})
        self._ask_for(proto, wanted)
        return Beside(Session(proto, wanted), alone, sums)

    def unchanged(self) -> Session:
        """The float model."""
        proto = self._copy()
        self._ask_for(proto, self.maps)
        return Session(proto, self.maps)

    def with_one(self, layer: Node) -> Session:
        """The float model with ``layer`` alone in integers. It must have a partner of its own name."""
        partner = self.partners[layer.outputs[0]]
        proto = self._copy()
        graph = proto.graph
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            if node.name == layer.name and self._float_filter(layer) is not None:
                self._give_integers(graph, node, layer)
            if partner.tensor in node.output:
                raw = f"{_PREFIX}raw"
                node.output[list(node.output).index(partner.tensor)] = raw
                nodes += [node, *self._rounded(graph, layer, raw, partner.tensor)]
            else:
                nodes.append(node)
        copies = []
        for node in nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copies.append(copy)
        del graph.node[:]
        graph.node.extend(copies)
        self._ask_for(proto, self.maps)
        return Session(proto, self.maps)

    def can_stand_alone(self, layer: Node) -> bool:
        """Whether ``with_one`` can do it: the layer has a partner, and an operator of its own in the float graph."""
        partner = self.partners[layer.outputs[0]]
        return not partner.reason and partner.node is not None

    def filters(self, layer: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """The float filter and the .espdl's as real values, both [N, C, H, W]; None where they cannot be compared."""
        wanted = self._float_filter(layer)
        if wanted is None:
            return None
        found = onnx_filter(layer, self._model.tensors[layer.inputs[1]])
        return (wanted, found) if wanted.shape == found.shape else None

    def _float_filter(self, layer: Node) -> NDArray[np.float64] | None:
        """[N, C, H, W] of the float convolution of this name; None if the layer is none, or its filter is computed."""
        if layer.op != "Conv":
            return None
        for node in self._proto.graph.node:
            if node.name == layer.name and node.op_type == "Conv" and node.input[1] in self._constants:
                return numpy_helper.to_array(self._constants[node.input[1]]).astype(np.float64)
        return None

    def _copy(self) -> onnx.ModelProto:
        copy = onnx.ModelProto()
        copy.CopyFrom(self._proto)
        return copy

    def _give_integers(self, graph: onnx.GraphProto, conv: onnx.NodeProto, layer: Node) -> None:
        """Filter, bias and groups of the .espdl for a float convolution; one that was written out stays so."""
        tensors = self._model.tensors
        values = [onnx_filter(layer, tensors[layer.inputs[1]])]
        if len(layer.inputs) > 2 and layer.inputs[2]:
            bias = tensors[layer.inputs[2]]
            assert bias.data is not None
            values.append(bias.data.reshape(-1).astype(np.float64) * 2.0 ** np.array(bias.exponents, np.float64))
        names = [f"{_PREFIX}{conv.name}/{place}" for place in range(len(values))]
        graph.initializer.extend(
            numpy_helper.from_array(value.astype(np.float32), name) for value, name in zip(values, names, strict=True)
        )
        del conv.input[1:]
        conv.input.extend(names)
        kept = [attribute for attribute in conv.attribute if attribute.name != "group"]
        del conv.attribute[:]
        conv.attribute.extend([*kept, helper.make_attribute("group", shapes.integer(layer, "group", 1))])

    def _rounded(self, graph: onnx.GraphProto, layer: Node, source: str, target: str) -> list[onnx.NodeProto]:
        """Operators that put ``source`` on the grid of the layer's output, as ``target``."""
        tensor = self._model.tensors[layer.outputs[0]]
        limits = np.iinfo(tensor.dtype)
        numbers = {
            "per": 2.0**-tensor.exponent, "step": 2.0**tensor.exponent, "half": 0.5,
            "low": float(limits.min), "high": float(limits.max),
        }  # fmt: skip
        at = f"{_PREFIX}{target}/"
        graph.initializer.extend(
            numpy_helper.from_array(np.array(value, np.float32), at + name) for name, value in numbers.items()
        )
        nodes = [helper.make_node("Mul", [source, at + "per"], [at + "scaled"])]
        if self._rounding == "half_up":
            nodes.append(helper.make_node("Add", [at + "scaled", at + "half"], [at + "raised"]))
            nodes.append(helper.make_node("Floor", [at + "raised"], [at + "whole"]))
        else:
            nodes.append(helper.make_node("Round", [at + "scaled"], [at + "whole"]))
        nodes.append(helper.make_node("Clip", [at + "whole", at + "low", at + "high"], [at + "cut"]))
        nodes.append(helper.make_node("Mul", [at + "cut", at + "step"], [target]))
        return nodes

    def _ask_for(self, proto: onnx.ModelProto, names: Sequence[str]) -> None:
        """Make exactly ``names`` the outputs."""
        known = {output.name: output for output in self._proto.graph.output}
        del proto.graph.output[:]
        proto.graph.output.extend(
            known.get(name) or helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
        )


def onnx_filter(layer: Node, weight: Tensor) -> NDArray[np.float64]:
    """A .espdl's filter as real values in ONNX's order, [N, C / group, H, W]."""
    assert weight.data is not None
    depthwise = shapes.is_depthwise(layer, weight)
    order = (3, 0, 1, 2) if depthwise else (0, 3, 1, 2)
    data = weight.data.astype(np.float64).transpose(order)
    return data * 2.0 ** np.array(weight.exponents, np.float64).reshape(-1, 1, 1, 1)


def as_planes(values: NDArray[Any], exponent: int) -> NDArray[np.float64]:
    """Integers [1, H, W, C] of a .espdl as the real [1, C, H, W] of the float graph; other ranks keep their order."""
    real = values.astype(np.float64) * 2.0**exponent
    return real.transpose(0, 3, 1, 2) if real.ndim == 4 else real
