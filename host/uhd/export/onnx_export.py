"""ONNX export: one function, six flavours, the same bytes for the same model.

Node names are a contract (int16 patterns address operators by them), so the TorchScript exporter is asked for by
name and what it made is compared with the names derived from the module tree.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor

from uhd import __version__
from uhd.errors import ConfigError, ModelError
from uhd.export import graph as passes
from uhd.export.dynamic import insert_resize, resized
from uhd.export.flavours import Wrapper, check_architecture, frozen, multi_label_mode, wrap
from uhd.export.metadata import channel_names, input_name, properties, score_maps, write_properties
from uhd.export.names import conv_nodes
from uhd.export.options import DEFAULT_OPSET, OPSETS, ExportOptions
from uhd.export.postprocess import Post
from uhd.export.record import FLAVOURS, ExportRecord, Flavour, Port
from uhd.export.verify import TOLERANCE, largest_difference
from uhd.files import atomic_path
from uhd.image.deploy import check_deploy
from uhd.manifest import ModelManifest
from uhd.models.checkpoint import complete_manifest
from uhd.models.detector import Detector

__all__ = [
    "DEFAULT_OPSET", "FLAVOURS", "OPSETS", "Built", "ExportOptions", "ExportResult", "Flavour", "build",
    "build_onnx", "export_onnx",
]  # fmt: skip


@dataclass(frozen=True)
class Built:
    """An exported graph. ``difference``: largest one from the model on noise, None where it was not verified."""

    onnx: onnx.ModelProto
    manifest: ModelManifest
    record: ExportRecord
    difference: float | None


@dataclass(frozen=True)
class ExportResult:
    """What an export made. ``outputs`` are (name, shape) in file order; ``parameters`` counts initializer elements."""

    path: Path
    flavour: Flavour
    opset: int
    nodes: int
    parameters: int
    size: int
    input: tuple[str, tuple[int | str, ...]]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    score_mode: str
    difference: float | None

    @property
    def verified(self) -> bool:
        """Whether the file was run beside the model."""
        return self.difference is not None


def export_onnx(
    model: Detector,
    manifest: ModelManifest,
    path: Path,
    flavour: str = "parts",
    options: ExportOptions | None = None,
    *,
    verify: bool = True,
    inspect: Callable[[Path], None] = lambda path: None,
) -> ExportResult:
    """Write ``model`` as ONNX, with the input size of ``manifest``; ``model`` is left as it was.

    ``parts``: each map that the score mode needs is an output. ``raw``: those maps in one, the channels of an anchor
    following each other; ``whole``: the same with all maps, traced as one model. ``primitive``: boxes and scores of all
    cells. ``post``: rows [score, class, cx, cy, w, h] of the best cells, by the operators of published files;
    ``fast``: the same rows in fewer operators. The first three also output ``anchors`` and ``wh_scale`` of an anchor
    head. ``verify`` runs the graph in ONNX Runtime beside the model, on noise; models that round activations are left
    out, as they may differ by whole steps. ``inspect`` is given the file before it gets its name, and may raise.

    Raises ``ConfigError`` for an option out of range and for a Resize that cannot do what training did, ``ModelError``
    if model and manifest disagree, the model has no such flavour, the exporter broke the naming contract, or outputs
    differ; nothing is written then.
    """
    built = build(model, manifest, flavour, options, verify=verify)
    data = built.onnx.SerializeToString(deterministic=True)
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
            inspect(temporary)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot write there ({error.strerror or error})", hint="choose another --output"
        ) from None
    graph = built.onnx.graph
    return ExportResult(
        path,
        built.record.flavour,
        passes.opset(built.onnx),
        len(graph.node),
        sum(math.prod(tensor.dims) for tensor in graph.initializer),
        len(data),
        _value(graph.input[0]),
        tuple((port.name, tuple(port.shape)) for port in built.record.outputs),
        built.manifest.score_mode,
        built.difference,
    )


def build_onnx(
    model: Detector,
    manifest: ModelManifest,
    flavour: str = "parts",
    options: ExportOptions | None = None,
    *,
    verify: bool = True,
) -> onnx.ModelProto:
    """As ``export_onnx``, without writing the file."""
    return build(model, manifest, flavour, options, verify=verify).onnx


def build(
    model: Detector,
    manifest: ModelManifest,
    flavour: str = "parts",
    options: ExportOptions | None = None,
    *,
    verify: bool = True,
) -> Built:
    """As ``build_onnx``, with what was found out on the way."""
    options = options or ExportOptions()
    known = options.check(flavour)
    check_architecture(model.config, known, options.opset, manifest.name)
    if options.dynamic_resize and not options.allow_mismatch:
        check_deploy(manifest.resize_mode, "graph", manifest.name)
    rows = options.top_k or manifest.top_k
    manifest = complete_manifest(model, manifest).model_copy(update={"top_k": rows})
    model = frozen(model)
    multi_label = multi_label_mode(model.config, manifest)
    wrapper = wrap(model, known, rows, conf=options.conf, multi_label=multi_label)
    size = manifest.input_height, manifest.input_width
    example = torch.zeros(options.batch, manifest.input_channels, *size)
    name = input_name(manifest.resize_mode)
    onnx_model = _trace(wrapper, example, name, options)
    outputs = [Port(name=value.name, shape=list(_shape(value))) for value in onnx_model.graph.output]
    record = ExportRecord(
        flavour=known,
        head=model.config.head,
        input=Port(name=name, shape=list(example.shape)),
        channels=channel_names(manifest.resize_mode),
        dynamic_resize=options.dynamic_resize,
        outputs=outputs,
        fields=wrapper.names,
        score_maps=score_maps(model.config),
        top_k=rows if known in ("post", "fast") else None,
        conf_thresh=options.conf,
        multi_label=multi_label if known in ("primitive", "post", "fast") else "none",
    )
    if options.dynamic_resize:
        insert_resize(onnx_model, manifest.resize_mode)
    onnx_model.producer_name, onnx_model.producer_version = "uhd", __version__
    write_properties(onnx_model, properties(model.config, manifest, record))
    onnx.checker.check_model(onnx_model)
    difference = None
    if verify and not getattr(model.config, "rounds_activations", False):
        difference = _measure(wrapper, onnx_model, manifest, record)
    return Built(onnx_model, manifest, record, difference)


def _trace(wrapper: Wrapper, example: Tensor, name: str, options: ExportOptions) -> onnx.ModelProto:
    """The graph with its final names, batch and size fixed."""
    stream = io.BytesIO()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operator that ONNX does not have
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # The exporter's advertising of its successor, and sizes becoming constants, which is intended.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                wrapper,
                (example,),
                stream,  # type: ignore[arg-type]
                opset_version=options.opset,
                input_names=[name],
                output_names=list(wrapper.output_names),
                dynamo=False,
                do_constant_folding=True,
            )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    model = onnx.load_from_string(stream.getvalue())
    if options.simplify:
        model = passes.simplify(model)
    _check_names(model, conv_nodes(wrapper, example))
    passes.rename_depthwise(model.graph)
    if options.decompose_bn and passes.decompose_batchnorm(model.graph) and options.simplify:
        model = passes.simplify(model)
    passes.unshare_weights(model.graph)
    if isinstance(wrapper, Post) and wrapper.model.config.class_count == 1:
        passes.name_class_scores(model.graph)
    if passes.opset(model) != options.opset:
        raise ModelError(f"the exporter wrote opset {passes.opset(model)} instead of {options.opset}")
    return model


def _check_names(model: onnx.ModelProto, expected: list[str]) -> None:
    found = sorted(node.name for node in model.graph.node if node.op_type == "Conv")
    if found != sorted(expected):
        first = sorted(set(found) ^ set(expected))[:1]
        raise ModelError(
            f"the exporter named convolutions in an unknown way ({', '.join(first) or 'twice the same'})",
            hint=f"this torch is {torch.__version__}; 2.13.0 is known to work",
        )


def _measure(wrapper: Wrapper, model: onnx.ModelProto, manifest: ModelManifest, record: ExportRecord) -> float:
    """Largest difference between graph and model on noise. Raises ``ModelError`` if rounding does not explain it."""
    batch, channels, height, width = record.input.shape
    random = np.random.default_rng(0)
    if record.dynamic_resize:
        noise = random.random((batch, channels, 2 * height, 2 * width), dtype=np.float32)
        difference = largest_difference(wrapper, model, noise, resized(noise, manifest.resize_mode, (height, width)))
    else:
        difference = largest_difference(wrapper, model, random.random(record.input.shape, dtype=np.float32))
    if not difference <= TOLERANCE:
        raise ModelError(
            f"the exported graph differs from the model by {difference:.2g} (allowed {TOLERANCE:g})",
            hint="export without verification to look at the file",
        )
    return difference


def _shape(info: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim)


def _value(info: onnx.ValueInfoProto) -> tuple[str, tuple[int | str, ...]]:
    return info.name, tuple(dim.dim_param or dim.dim_value for dim in info.type.tensor_type.shape.dim)
