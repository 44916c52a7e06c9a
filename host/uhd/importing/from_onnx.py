"""A published ONNX file as a model of ours: weights and options from its graph, the rest from what it states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch

from uhd.errors import ModelError
from uhd.export.graph import simplify
from uhd.importing.findings import GRAPH, Finding
from uhd.importing.net import StrangerError
from uhd.importing.recover import Recovered, recover
from uhd.importing.stated import (
    Pairs,
    anchors_of,
    carried_manifest,
    class_names,
    colours_of,
    quality_power_of,
    score_mode_of,
)
from uhd.manifest import ModelManifest
from uhd.models.config import UltraTinyODConfig, parse_config
from uhd.models.reference import infer_from_weights
from uhd.models.reference_checkpoint import variant_of
from uhd.models.ultratinyod import UltraTinyOD
from uhd.models.weights import complete_manifest, load_weights
from uhd.quantize.source import Source

#: Keeps every map that the file has: those a score leaves out have weights too.
ALL_MAPS = "obj_quality_cls"


@dataclass
class OnnxModel:
    """A model made of a file, with what is known of it and how."""

    model: UltraTinyOD
    manifest: ModelManifest
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def folded(self) -> bool:
        """Whether the model has normalisations of which the file held only scale and shift."""
        return self.model.config.batchnorm


def model_from_onnx(source: Source, resize_mode: str | None = None) -> OnnxModel:
    """The model that the file ``source`` holds.

    Raises ``StrangerError`` for a graph that is not an UltraTinyOD's, ``ModelError`` for one that contradicts itself
    or carries no anchors, ``ConfigError`` for an unknown ``resize_mode``.
    """
    recovered = recover(_simplified(source).graph)
    carried = carried_manifest(source)
    anchors, wh_scale, anchors_how = anchors_of(source, carried)
    config, missing = _config(recovered, anchors, source)
    mode, mode_how = colours_of(source, resize_mode)
    score, score_how = score_mode_of(config, source, carried)
    power, power_how = quality_power_of(source, carried)
    default = config.resolved_score_mode == score
    config = config.model_copy(update={"score_mode": None if default else score, "quality_power": power})
    manifest = (carried or ModelManifest(name=source.path.stem)).model_copy(
        update={
            "variant": variant_of(config),
            "class_names": class_names(carried, config.class_count),
            "input_height": source.shape[2],
            "input_width": source.shape[3],
            "resize_mode": mode,
            "training": {**(carried.training if carried else {}), "imported_from": source.path.name},
            "quantization": None,
        }
    )
    model = _model(config, {**recovered.weights, "head.anchors": anchors, "head.wh_scale": wh_scale}, missing, source)
    result = OnnxModel(model, complete_manifest(model, manifest, str(source.path)), notes=list(source.notes))
    if missing:
        names = ", ".join(sorted(missing))
        result.notes.append(f"{names}: no branch in the file, as its score needs none; fresh weights")
    classes = f"{config.class_count or 'none: one class'} ({', '.join(manifest.class_names)})"
    result.findings = [
        Finding("input", f"{source.shape[1]} x {source.shape[2]} x {source.shape[3]}", GRAPH),
        Finding("resize mode", mode, mode_how),
        Finding("classes", classes, GRAPH),
        Finding("anchors", len(anchors), anchors_how),
        Finding("score mode", score, score_how),
        Finding("quality power", power, power_how),
        *(Finding(key, value, GRAPH) for key, value in options_told(config)),
    ]
    return result


def options_told(config: UltraTinyODConfig) -> list[tuple[str, Any]]:
    """The options of the architecture that a reader of an import wants to see."""
    names = ["width", "out_stride", "activation", "conv", "batchnorm", "residual", "sppf_scale", "improved_head"]
    names += ["iou_aware_head", "head_ese", "context_rfb", "large_obj_branch", "quant_arch"]
    if config.context_rfb:
        names.append("context_dilation")
    if config.large_obj_branch:
        names += ["large_obj_depth", "large_obj_ch_scale"]
    if config.attr_count:
        names.append("attr_classes")
    return [(name, getattr(config, name)) for name in names]


def _simplified(source: Source) -> onnx.ModelProto:
    """The cut graph with constants folded, whatever its exporter left."""
    model = onnx.load_from_string(source.onnx)
    for output in model.graph.output:
        kind = onnx.TensorProto.FLOAT
        output.CopyFrom(onnx.helper.make_tensor_value_info(output.name, kind, source.maps[output.name]))
    try:
        return simplify(model)
    except (RuntimeError, ModelError):
        return model  # as good as it was; what cannot be read of it is told


def _config(recovered: Recovered, anchors: Pairs, source: Source) -> tuple[UltraTinyODConfig, set[str]]:
    """The configuration, and the maps that it has and the file has not."""
    shapes = {key: value.shape for key, value in recovered.weights.items()}
    shapes.setdefault("head.obj_out.weight", (len(anchors), 4 * shapes["backbone.stem.conv.weight"][0], 1, 1))
    options = infer_from_weights(shapes, len(anchors), str(source.path))
    if len(recovered.activations) != 1:
        raise StrangerError("its blocks have different activations")
    options |= {
        "activation": next(iter(recovered.activations)),
        "out_stride": recovered.stride,
        "anchors": [[float(w), float(h)] for w, h in anchors],
        "quant_arch": options["quant_arch"] or (4 if recovered.clipped else 0),
    }
    if recovered.dilation is not None:
        options["context_dilation"] = recovered.dilation
    config = parse_config(options, str(source.path), ModelError)
    return config, set(config.map_names) - set(source.maps)


def _model(config: UltraTinyODConfig, weights: dict[str, Any], missing: set[str], source: Source) -> UltraTinyOD:
    """The model with the weights of the file, and fresh ones in branches that the file does not have."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = UltraTinyOD(config)
    state = {key: torch.from_numpy(np.array(value)) for key, value in weights.items()}
    try:
        report = load_weights(model, state, str(source.path), strict=False)
    except ModelError as error:
        raise StrangerError(str(error)) from None
    absent = [key for key in report.missing if not key.startswith(tuple(f"head.{name}_" for name in missing))]
    if report.unexpected or absent:
        raise StrangerError(f"its branches fit no architecture ({', '.join((*report.unexpected, *absent)[:2])})")
    return model.eval()
