"""ONNX files that carry no record of ours: how they are fed, and what their outputs are.

Rows and decoded boxes are taken as the file gives them. Files with raw maps are cut at the convolutions that make the
maps (``uhd.quantize.maps``), since published files join their channels in several orders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from uhd.errors import ModelError
from uhd.export.metadata import channel_names
from uhd.export.record import ROWS, ExportRecord, Flavour, Port
from uhd.image.resize import input_channels
from uhd.importing.findings import size_in_name
from uhd.infer.onnx_model import Described
from uhd.infer.options import ModelOptions, choose_mode
from uhd.manifest import ModelManifest, load_manifest
from uhd.models.base import HeadKind
from uhd.quantize.source import Source, agreed_manifest, manifest_of, read_source

#: Outputs of a file that decodes boxes and leaves ranking to its reader.
_PRIMITIVE = ("cx", "cy", "bw", "bh", "score")
#: Maps of heads without anchors.
_HEADS: dict[HeadKind, tuple[str, ...]] = {"centernet": ("hm", "off", "wh"), "detr": ("logits", "boxes")}
_HINT = "this reads person detectors of this workspace and of UHD; others need their own program"


def describe(path: Path, model: onnx.ModelProto, options: ModelOptions) -> Described:
    """What the file at ``path`` is. Raises ``ModelError`` where its outputs are not understood, ``ConfigError`` for a
    resize mode that does not fit."""
    outputs = {value.name: _dims(value) for value in model.graph.output}
    source, reason = _cut(path, options.score_mode)
    flavour: Flavour = "parts"
    head: HeadKind = "anchor"
    data = model.SerializeToString()
    if set(_PRIMITIVE) <= set(outputs):
        flavour = "primitive"
        names = {name: name for name in (*_PRIMITIVE, "cls_scores") if name in outputs}
    elif found := [name for name, dims in outputs.items() if len(dims) == 3 and dims[2] == 6]:
        flavour, names = "post", {found[0]: ROWS}
    elif source is not None:
        data, names = source.onnx, {name: name for name in source.maps}
    elif kind := next((kind for kind, maps in _HEADS.items() if set(maps) <= set(outputs)), None):
        head, names = kind, {name: name for name in _HEADS[kind]}
    else:
        told = ", ".join(f"{name} {list(dims)}" for name, dims in list(outputs.items())[:3])
        raise ModelError(f"{path}: its outputs are not understood ({told})", hint=reason or _HINT)
    manifest = _manifest(path, model, source, options)
    shape = [_batch(model), manifest.input_channels, manifest.input_height, manifest.input_width]
    record = ExportRecord(
        flavour=flavour,
        head=head,
        input=Port(name=_picture(path, model).name, shape=shape),
        channels=channel_names(manifest.resize_mode),
        outputs=[Port(name=name, shape=[]) for name in names.values()],
        fields=list(names) if flavour == "parts" else [],
        score_maps=[],
    )
    return Described(data, record, manifest, names)


def _cut(path: Path, score_mode: str | None) -> tuple[Source | None, str]:
    """The file cut at its maps, or None and what stands against it where it is a detector all the same."""
    try:
        return read_source(path, score_mode), ""
    except ModelError as error:
        text = str(error).removeprefix(f"{path}: ")
        return None, "" if "no box map" in text else text


def _manifest(path: Path, model: onnx.ModelProto, source: Source | None, options: ModelOptions) -> ModelManifest:
    """Given, carried, or made of what the file says of itself."""
    if options.manifest is not None:
        given = load_manifest(options.manifest)
        return agreed_manifest(source, given) if source is not None else given
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    channels = source.shape[1] if source is not None else _dims(_picture(path, model))[1]
    mode = choose_mode(path, int(channels or 3), metadata.get("resize_mode"), options.resize_mode)
    if source is not None:
        stated = "resize_mode" in metadata or "uhd_manifest" in metadata
        return agreed_manifest(source, manifest_of(source, None if stated else mode))
    height, width = _size(path, model, metadata)
    return ModelManifest(
        name=path.stem, input_height=height, input_width=width, input_channels=input_channels(mode), resize_mode=mode
    )


def _size(path: Path, model: onnx.ModelProto, metadata: dict[str, str]) -> tuple[int, int]:
    """Height and width of the network: of the input, of a Resize behind it, as stated, or as in the file's name."""
    picture = _picture(path, model)
    dims = _dims(picture)[2:]
    if all(dims):
        return int(dims[0]), int(dims[1])
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Resize" and node.input[0] == picture.name and node.input[-1] in constants:
            sizes = numpy_helper.to_array(constants[node.input[-1]]).reshape(-1)
            if sizes.size == 4 and sizes.dtype.kind == "i":
                return int(sizes[2]), int(sizes[3])
    text = metadata.get("img_size") or size_in_name(path) or ""
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ModelError(f"{path}: takes pictures of any size, and says nowhere which it works with", hint=_HINT)
    return int(parts[0]), int(parts[1])


def _picture(path: Path, model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The one input [B,C,H,W]."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or len(_dims(inputs[0])) != 4:
        raise ModelError(f"{path}: {len(inputs)} inputs, but one picture [1, C, H, W] is expected", hint=_HINT)
    return inputs[0]


def _batch(model: onnx.ModelProto) -> int:
    return int(_dims(model.graph.input[0])[0] or 1)


def _dims(value: Any) -> tuple[int, ...]:
    """Dimensions of a value, 0 where one is open."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
