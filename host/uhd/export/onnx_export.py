"""ONNX export of UltraTinyOD: one function, three flavours, the same bytes for the same model.

Node names are a contract (int16 patterns address operators by them), so the TorchScript exporter is asked for by
name and what it made is compared with the names derived from the module tree.
"""

from __future__ import annotations

import copy
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch

from uhd import __version__
from uhd.errors import ConfigError, ModelError
from uhd.export import graph as passes
from uhd.export.metadata import input_name, properties, write_properties
from uhd.export.names import conv_nodes
from uhd.export.verify import TOLERANCE, largest_difference
from uhd.export.wrappers import Parts, Post, Raw
from uhd.files import write_bytes
from uhd.manifest import ModelManifest
from uhd.models.checkpoint import complete_manifest
from uhd.models.fakequant import bake_weights
from uhd.models.ultratinyod import UltraTinyOD

Flavour = Literal["parts", "raw", "post"]
FLAVOURS: tuple[Flavour, ...] = ("parts", "raw", "post")

#: Range that the TorchScript exporter and ONNX Runtime both handle for these graphs.
OPSETS = range(13, 21)
DEFAULT_OPSET = 17


@dataclass(frozen=True)
class ExportResult:
    """What an export made. ``outputs`` are (name, shape) in file order; ``parameters`` counts initializer elements."""

    path: Path
    flavour: Flavour
    opset: int
    nodes: int
    parameters: int
    size: int
    input: tuple[str, tuple[int, ...]]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    score_mode: str
    verified: bool


def export_onnx(
    model: UltraTinyOD,
    manifest: ModelManifest,
    path: Path,
    flavour: Flavour = "parts",
    *,
    opset: int = DEFAULT_OPSET,
    top_k: int | None = None,
    verify: bool = True,
) -> ExportResult:
    """Write ``model`` as ONNX with batch 1 and the input size of ``manifest``; ``model`` is left as it was.

    ``parts``: each map that the score mode needs is an output. ``raw``: those maps in one, the channels of an anchor
    following each other. ``post``: rows [score, class, cx, cy, w, h] of the ``top_k`` (default: the manifest's) best
    cells. The first two also output ``anchors`` and ``wh_scale``. ``verify`` runs the file in ONNX Runtime beside the
    model, on noise; models that round activations are left out, as they may differ by whole steps.

    Raises ``ConfigError`` for an option out of range, ``ModelError`` if model and manifest disagree, the exporter broke
    the naming contract, or outputs differ; nothing is written then.
    """
    onnx_model = build_onnx(model, manifest, flavour, opset=opset, top_k=top_k, verify=verify)
    data = onnx_model.SerializeToString(deterministic=True)
    try:
        write_bytes(path, data)
    except OSError as error:
        raise ConfigError(f"{path}: cannot write there ({error.strerror})") from None
    graph = onnx_model.graph
    return ExportResult(
        path,
        flavour,
        opset,
        len(graph.node),
        sum(_elements(tensor) for tensor in graph.initializer),
        len(data),
        _value(graph.input[0]),
        tuple(_value(output) for output in graph.output),
        model.config.resolved_score_mode,
        verify and not model.config.rounds_activations,
    )


def build_onnx(
    model: UltraTinyOD,
    manifest: ModelManifest,
    flavour: Flavour = "parts",
    *,
    opset: int = DEFAULT_OPSET,
    top_k: int | None = None,
    verify: bool = True,
) -> onnx.ModelProto:
    """As ``export_onnx``, without writing the file."""
    if flavour not in FLAVOURS:
        raise ConfigError(f"unknown flavour {flavour!r}", hint=f"choose one of {', '.join(FLAVOURS)}")
    if opset not in OPSETS:
        raise ConfigError(f"opset {opset} is not supported", hint=f"choose {OPSETS.start} to {OPSETS.stop - 1}")
    rows = manifest.top_k if top_k is None else top_k
    if rows < 1:
        raise ConfigError(f"top-k {rows} is below 1")
    manifest = complete_manifest(model, manifest).model_copy(update={"top_k": rows})
    model = copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)
    bake_weights(model)
    wrapper = (Post(model, rows) if flavour == "post" else Raw(model) if flavour == "raw" else Parts(model)).eval()
    example = torch.zeros(1, manifest.input_channels, manifest.input_height, manifest.input_width)
    onnx_model = passes.simplify(_trace(wrapper, example, input_name(manifest.resize_mode), opset))
    _check_names(onnx_model, conv_nodes(wrapper, example))
    passes.rename_depthwise(onnx_model.graph)
    if passes.decompose_batchnorm(onnx_model.graph):
        onnx_model = passes.simplify(onnx_model)
    passes.unshare_weights(onnx_model.graph)
    if flavour == "post" and model.config.class_count == 1:
        passes.name_class_scores(onnx_model.graph)
    onnx_model.producer_name, onnx_model.producer_version = "uhd", __version__
    write_properties(onnx_model, properties(model.config, manifest, flavour, wrapper.names))
    if passes.opset(onnx_model) != opset:
        raise ModelError(f"the exporter wrote opset {passes.opset(onnx_model)} instead of {opset}")
    onnx.checker.check_model(onnx_model)
    if verify and not model.config.rounds_activations:
        _check_outputs(wrapper, onnx_model, example)
    return onnx_model


def _trace(wrapper: Parts | Post, example: torch.Tensor, name: str, opset: int) -> onnx.ModelProto:
    stream = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter's advertising of its successor, and sizes becoming constants, which is intended.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            wrapper,
            (example,),
            stream,  # type: ignore[arg-type]
            opset_version=opset,
            input_names=[name],
            output_names=list(wrapper.output_names),
            dynamo=False,
            do_constant_folding=True,
        )
    return onnx.load_from_string(stream.getvalue())


def _check_names(model: onnx.ModelProto, expected: list[str]) -> None:
    found = sorted(node.name for node in model.graph.node if node.op_type == "Conv")
    if found != sorted(expected):
        first = sorted(set(found) ^ set(expected))[:1]
        raise ModelError(
            f"the exporter named convolutions in an unknown way ({', '.join(first) or 'twice the same'})",
            hint=f"this torch is {torch.__version__}; 2.13.0 is known to work",
        )


def _check_outputs(wrapper: Parts | Post, model: onnx.ModelProto, example: torch.Tensor) -> None:
    noise = np.random.default_rng(0).random(example.shape, dtype=np.float32)
    difference = largest_difference(wrapper, model, noise)
    if not difference <= TOLERANCE:
        raise ModelError(
            f"the exported graph differs from the model by {difference:.2g} (allowed {TOLERANCE:g})",
            hint="export without verification to look at the file",
        )


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count


def _value(info: onnx.ValueInfoProto) -> tuple[str, tuple[int, ...]]:
    return info.name, tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)
