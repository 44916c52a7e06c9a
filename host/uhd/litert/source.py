"""The float model that becomes .tflite files: read from ONNX of any flavour, a checkpoint, or a shipped variant."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from uhd import zoo
from uhd.errors import ConfigError, ModelError
from uhd.export.metadata import channel_names, read_manifest
from uhd.export.record import ExportRecord, Port, read_record
from uhd.files import sha256_bytes
from uhd.manifest import ModelManifest
from uhd.models.base import HeadKind
from uhd.quantize.source import agreed_manifest, manifest_of, read_source
from uhd.variants import VARIANTS

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class FloatModel:
    """A float model with maps as outputs, constant ones left out. ``onnx``: the file's bytes; ``stem`` names files."""

    onnx: bytes
    stem: str
    record: ExportRecord
    manifest: ModelManifest
    notes: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Hash of ``onnx``."""
        return sha256_bytes(self.onnx)

    @functools.cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        return onnxruntime.InferenceSession(self.onnx, options, providers=["CPUExecutionProvider"])

    def run(self, pictures: FloatArray) -> dict[str, FloatArray]:
        """The maps [N,C,H,W] of ``pictures`` [N,C,H,W], by name, computed by ONNX Runtime on one thread."""
        names = self.record.fields
        ran = [self._session.run(names, {self.record.input.name: picture[None]}) for picture in pictures]
        return {name: np.concatenate(maps) for name, maps in zip(names, zip(*ran, strict=True), strict=True)}


def read_model(model: str, resize_mode: str | None = None) -> FloatModel:
    """``model``: an ``.onnx`` file, a checkpoint, or the letter of a shipped variant. The file is never written to.

    ``resize_mode`` is for ONNX files that do not say it. Raises ``ModelError`` for a file that is missing, damaged or
    without maps, ``ConfigError`` for another kind of file.
    """
    path = Path(model)
    if not path.exists():
        if model.upper() not in VARIANTS:
            raise ModelError(f"{model}: no such file", hint="give an .onnx file, a checkpoint, or a variant such as R")
        path = zoo.checkpoint_path(model.upper())
    if path.suffix == ".onnx":
        return _from_onnx(path, path.stem, resize_mode)
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise ConfigError(f"{path}: neither an .onnx file nor a checkpoint (.safetensors, .pt)")
    from uhd.export.onnx_export import export_onnx
    from uhd.models.checkpoint import load_checkpoint

    network, manifest = load_checkpoint(path)
    with tempfile.TemporaryDirectory(prefix="uhd-litert-") as folder:
        exported = Path(folder) / f"{path.stem}.onnx"
        export_onnx(network, manifest, exported, flavour="parts")
        return _from_onnx(exported, path.stem, None)


def _from_onnx(path: Path, stem: str, resize_mode: str | None) -> FloatModel:
    """Anchor heads by what quantization knows of files; others have no anchors, and only our own files have them."""
    other = _without_anchors(path, stem)
    if other is not None:
        return other
    source = read_source(path)
    manifest = agreed_manifest(source, manifest_of(source, resize_mode))
    if not manifest.anchors:
        raise ModelError(f"{path}: carries no anchors, so its boxes cannot be read", hint="export it again")
    return _model(source.onnx, stem, "anchor", (source.input_name, source.shape), source.maps, manifest, source.notes)


def _without_anchors(path: Path, stem: str) -> FloatModel | None:
    """A file of ours with a centre-point or DETR head; None for any other."""
    try:
        model = onnx.load(path)
        record = read_record(model, str(path))
    except (OSError, ValueError, DecodeError):  # whoever reads it next says what is wrong
        return None
    if record is None or record.head == "anchor":
        return None
    if record.flavour != "parts" or record.dynamic_resize or record.input.shape[0] != 1:
        raise ModelError(
            f"{path}: flavour {record.flavour}, resizing or several pictures at once cannot be converted",
            hint="export it with `python -m uhd.host export --flavour parts`",
        )
    manifest = read_manifest(model, str(path))
    if manifest is None:
        raise ModelError(f"{path}: carries no manifest", hint="export it again")
    maps = {port.name: tuple(port.shape) for port in record.outputs}
    given = record.input.name, tuple(record.input.shape)
    return _model(model.SerializeToString(deterministic=True), stem, record.head, given, maps, manifest)


def _model(
    data: bytes, stem: str, head: HeadKind, given: tuple[str, tuple[int, ...]], maps: dict[str, tuple[int, ...]],
    manifest: ModelManifest, notes: tuple[str, ...] = (),
) -> FloatModel:  # fmt: skip
    record = ExportRecord(
        flavour="parts",
        head=head,
        input=Port(name=given[0], shape=list(given[1])),
        channels=channel_names(manifest.resize_mode),
        outputs=[Port(name=name, shape=list(shape)) for name, shape in maps.items()],
        fields=list(maps),
        score_maps=[name for name in maps if name not in ("box", "boxes", "off", "wh", "attr")],
    )
    return FloatModel(data, stem, record, manifest, notes)
