"""Reading a float ONNX file for quantization: what must hold before minutes are spent on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from uhd.detect.decode import score_factors
from uhd.errors import ConfigError, ModelError
from uhd.export.metadata import read_manifest
from uhd.manifest import ModelManifest, ResizeMode, ScoreMode
from uhd.quantize.maps import Cut, cut_at_maps, drop_input_resize

_EXPORT_HINT = "export it with `python -m uhd.host export --flavour parts`"


@dataclass(frozen=True)
class Source:
    """A checked float model. ``onnx`` is the file without what lies behind its maps.

    ``shape`` is the input's [1, C, H, W]; ``maps`` gives each output's [1, C, H, W]; ``anchors`` and ``wh_scale`` are
    [A, 2], or None where the file does not carry them. ``sizes`` [A, 2] is their product, which is all that a file
    with decoding has; ``notes`` says what was left out.
    """

    path: Path
    onnx: bytes
    input_name: str
    shape: tuple[int, int, int, int]
    maps: dict[str, tuple[int, ...]]
    anchors: NDArray[np.float32] | None
    wh_scale: NDArray[np.float32] | None
    metadata: dict[str, str]
    sizes: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()

    @property
    def anchor_count(self) -> int:
        return self.maps["box"][1] // 4


def read_source(path: Path, score_mode: str | None = None) -> Source:
    """Read and check an UltraTinyOD's ONNX of any flavour. The file itself is never written to.

    Flavours with something behind the maps are cut there (``uhd.quantize.maps``); ``score_mode`` (None: what the file
    says) then decides which maps stay. Raises ``ModelError`` if the file is missing, damaged, has no box map (another
    architecture), several inputs, or a shape that is not fixed.
    """
    model = _load(path)
    resized = drop_input_resize(model)
    try:
        cut = cut_at_maps(model, score_mode) or Cut()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}
    produced = {name for node in graph.node for name in node.output}
    for output in list(graph.output):
        if output.name not in produced:
            graph.output.remove(output)
    for unused in [value for value in graph.input if value.name in constants]:
        graph.input.remove(unused)
    outputs = [output.name for output in graph.output]
    if "box" not in outputs:
        found = ", ".join(outputs[:4]) or "none"
        raise ModelError(f"{path}: no box map among its outputs ({found})", hint=_EXPORT_HINT)
    if not {"obj", "quality", "cls"} & set(outputs):
        raise ModelError(f"{path}: no score map (obj, quality or cls) among its outputs", hint=_EXPORT_HINT)
    input_name, shape = _input(model, path)
    maps = _output_shapes(model, path)
    if maps["box"][1] % 4:
        raise ModelError(f"{path}: the box map has {maps['box'][1]} channels, not 4 for each anchor")
    return Source(
        path,
        model.SerializeToString(deterministic=True),
        input_name,
        shape,
        maps,
        _pairs(constants.get("anchors"), "anchors", path),
        _pairs(constants.get("wh_scale"), "wh_scale", path),
        {prop.key: prop.value for prop in model.metadata_props},
        cut.sizes,
        (*filter(None, [resized]), *cut.notes),
    )


def run_float(source: Source, picture: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The maps of the float model for one picture [C, H, W], by name.

    Raises ``ModelError`` if ONNX Runtime refuses it or a map holds values that are not finite.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    try:
        session = onnxruntime.InferenceSession(source.onnx, providers=["CPUExecutionProvider"])
        maps = session.run(list(source.maps), {source.input_name: picture[None]})
    except Exception as error:  # onnxruntime's own exceptions share no base class
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{source.path}: the float model does not run ({reason})", hint="export it again") from None
    for name, values in zip(source.maps, maps, strict=True):
        if not np.isfinite(values).all():
            raise ModelError(
                f"{source.path}: the float model's {name} map holds values that are not finite",
                hint="check the weights it was trained to",
            )
    return dict(zip(source.maps, maps, strict=True))


def _load(path: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror or error})", hint="check the path") from None
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{path}: damaged, truncated, or not an ONNX file", hint="export it again") from error
    # A text that is no UTF-8 comes as bytes.
    if any(isinstance(text, bytes) for prop in model.metadata_props for text in (prop.key, prop.value)):
        raise ModelError(f"{path}: damaged metadata", hint="export it again")
    if not model.graph.node:
        raise ModelError(f"{path}: damaged, truncated, or not an ONNX file (no operators)", hint="export it again")
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: not a sound ONNX model ({reason})", hint="export it again") from None
    return model


def _input(model: onnx.ModelProto, path: Path) -> tuple[str, tuple[int, int, int, int]]:
    inputs = model.graph.input
    if len(inputs) != 1:
        raise ModelError(f"{path}: {len(inputs)} inputs, but one picture is expected", hint=_EXPORT_HINT)
    dims = inputs[0].type.tensor_type.shape.dim
    if dims and not dims[0].dim_value:
        dims[0].dim_value = 1  # a symbolic batch
    shape = tuple(dim.dim_value for dim in dims)
    if len(shape) != 4 or not all(shape):
        raise ModelError(f"{path}: input {inputs[0].name} has no fixed shape [1, C, H, W]", hint=_EXPORT_HINT)
    if shape[0] != 1:
        raise ModelError(f"{path}: input {inputs[0].name} has a batch of {shape[0]}, not 1", hint=_EXPORT_HINT)
    return inputs[0].name, (shape[0], shape[1], shape[2], shape[3])


def _output_shapes(model: onnx.ModelProto, path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the outputs, inferred anew from the fixed input; they are written into ``model`` too."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: its shapes do not fit together ({reason})", hint="export it again") from None
    shapes: dict[str, tuple[int, ...]] = {}
    for output in inferred.graph.output:
        shape = tuple(dim.dim_value for dim in output.type.tensor_type.shape.dim)
        if len(shape) != 4 or not all(shape):
            raise ModelError(f"{path}: output {output.name} is not a map [1, C, H, W]", hint=_EXPORT_HINT)
        shapes[output.name] = shape
    del model.graph.output[:]
    model.graph.output.extend(inferred.graph.output)
    return shapes


def _pairs(constant: onnx.TensorProto | None, name: str, path: Path) -> NDArray[np.float32] | None:
    if constant is None:
        return None
    values = numpy_helper.to_array(constant)
    if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
        raise ModelError(f"{path}: {name} is not a list of (width, height) pairs", hint=_EXPORT_HINT)
    return values.astype(np.float32)


def manifest_of(source: Source, resize_mode: str | None = None) -> ModelManifest:
    """The manifest that the file carries, or one from the properties that published files carry.

    ``resize_mode`` is for files that carry neither. Raises ``ModelError`` if it is missing then, or contradicts what
    the file says; ``ConfigError`` for an unknown mode.
    """
    model = onnx.ModelProto()
    for key, value in source.metadata.items():
        model.metadata_props.add(key=key, value=value)
    manifest = read_manifest(model, str(source.path))
    modes: dict[str, ResizeMode] = {mode: mode for mode in get_args(ResizeMode)}
    if resize_mode and resize_mode not in modes:
        raise ConfigError(f"unknown resize mode {resize_mode!r}", hint=f"choose one of {', '.join(modes)}")
    mode = manifest.resize_mode if manifest else modes.get(source.metadata.get("resize_mode", ""))
    if mode and resize_mode and mode != resize_mode:
        raise ModelError(f"{source.path}: made for resize mode {mode}, not {resize_mode}", hint="leave the mode out")
    if manifest is not None:
        return manifest
    mode = mode or modes.get(resize_mode or "")
    if mode is None:
        raise ModelError(
            f"{source.path}: carries neither a manifest nor a resize mode, so how to feed it pictures is unknown",
            hint="pass --manifest FILE or --resize-mode MODE, or export it again",
        )
    _, channels, height, width = source.shape
    return ModelManifest(
        name=source.path.stem,
        options={"out_stride": height // source.maps["box"][2]},
        class_names=_class_names(source),
        input_height=height,
        input_width=width,
        input_channels=channels,
        resize_mode=mode,
        score_mode=_score_mode(source),
        quality_power=_number(source.metadata, "quality_power", 1.0),
    )


def _class_names(source: Source) -> list[str]:
    if "cls" not in source.maps:
        return ["person"]
    count = source.maps["cls"][1] // source.anchor_count
    return ["person"] if count == 1 else [f"class_{index}" for index in range(count)]


def _score_mode(source: Source) -> ScoreMode:
    """The file's score mode; published files leave it empty, and then the maps they kept say it."""
    modes: dict[str, ScoreMode] = {mode: mode for mode in get_args(ScoreMode)}
    stated = source.metadata.get("score_mode", "")
    kept = "_".join(name for name in ("obj", "quality", "cls") if name in source.maps)
    return modes.get(stated) or modes[kept]


def _number(metadata: Mapping[str, str], key: str, default: float) -> float:
    try:
        return float(metadata.get(key, default))
    except ValueError:
        return default


def agreed_manifest(source: Source, manifest: ModelManifest) -> ModelManifest:
    """``manifest`` with the file's anchors and wh_scale filled in where it has none.

    Raises ``ModelError`` where the two describe different models.
    """
    _, channels, height, width = source.shape
    for what, stated, found in (
        ("input channels", manifest.input_channels, channels),
        ("input height", manifest.input_height, height),
        ("input width", manifest.input_width, width),
    ):
        if stated != found:
            raise _disagree(source, f"{stated} {what}, the file has {found}")
    updates: dict[str, Any] = _agreed_sizes(source, manifest)
    for key, told, carried in (
        ("anchors", manifest.anchors, source.anchors),
        ("wh_scale", manifest.wh_scale, source.wh_scale),
    ):
        if not told and carried is not None:
            updates[key] = [(float(w), float(h)) for w, h in carried]
        elif carried is not None and not _close(told, carried):
            raise _disagree(source, f"other {key}")
        count = len(updates.get(key, told))
        if count and count != source.anchor_count:
            raise _disagree(source, f"{count} {key}, the box map has {source.anchor_count}")
    if "cls" in source.maps and source.maps["cls"][1] != source.anchor_count * len(manifest.class_names):
        raise _disagree(
            source, f"{len(manifest.class_names)} classes, the cls map has {source.maps['cls'][1]} channels"
        )
    score_factors(manifest.score_mode, frozenset(source.maps) - {"box"})
    return manifest.model_copy(update=updates)


def _agreed_sizes(source: Source, manifest: ModelManifest) -> dict[str, Any]:
    """Anchors of a file that has only their product with wh_scale, for a manifest without; or a check of the two."""
    if source.sizes is None or source.anchors is not None:
        return {}
    if not manifest.anchors:
        sizes = [(float(w), float(h)) for w, h in source.sizes]
        return {"anchors": sizes, "wh_scale": [(1.0, 1.0)] * len(sizes)}
    scales = manifest.wh_scale or [(1.0, 1.0)] * len(manifest.anchors)
    told = [(w * a, h * b) for (w, h), (a, b) in zip(manifest.anchors, scales, strict=True)]
    if not _close(told, source.sizes):
        raise _disagree(source, "other anchors")
    return {}


def _close(told: list[tuple[float, float]], carried: NDArray[np.float32]) -> bool:
    pairs = np.asarray(told, np.float64)
    return pairs.shape == carried.shape and bool(np.allclose(pairs, carried, rtol=1e-5, atol=1e-7))


def _disagree(source: Source, what: str) -> ModelError:
    return ModelError(
        f"{source.path}: not the model of its manifest, which says {what}", hint="give the manifest of this export"
    )
