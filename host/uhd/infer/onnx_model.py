"""Running ONNX files: of ours by their record, of others by what their outputs look like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from uhd.errors import ModelError
from uhd.export.metadata import read_manifest
from uhd.export.record import ExportRecord, read_record
from uhd.infer.engines import FloatEngine
from uhd.infer.options import ModelOptions, checked
from uhd.manifest import ModelManifest, load_manifest

onnxruntime.set_default_logger_severity(4)


@dataclass(frozen=True)
class Described:
    """A file to run: ``data`` in ONNX Runtime, fetching the outputs ``names`` (the file's name: the record's)."""

    data: bytes
    record: ExportRecord
    manifest: ModelManifest
    names: dict[str, str]


class OnnxNetwork:
    """An ONNX Runtime session on one thread; several pictures are run on several threads by the caller."""

    def __init__(self, described: Described, source: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(described.data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise ModelError(
                f"{source}: ONNX Runtime does not take it ({_one_line(error)})", hint="export it again"
            ) from None
        size = self._session.get_inputs()[0].shape[0]
        self.batch = size if isinstance(size, int) else None
        self._names = described.names
        self._source = source
        self._input = described.record.input.name

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        try:
            values = self._session.run(list(self._names), {self._input: images})
        except Exception as error:  # as above
            raise ModelError(f"{self._source}: does not run ({_one_line(error)})", hint="export it again") from None
        return dict(zip(self._names.values(), values, strict=True))


def open_onnx(path: Path, options: ModelOptions) -> FloatEngine:
    """The engine of an ONNX file of any flavour.

    Raises ``ModelError`` for a file that is damaged, or whose outputs are not understood; ``ConfigError`` for options
    that do not fit it.
    """
    data = path.read_bytes()
    model = parse_onnx(data, path)
    record, manifest = read_record(model, str(path)), read_manifest(model, str(path))
    if options.manifest is not None:
        manifest = load_manifest(options.manifest)
    if record is not None and manifest is not None:
        described = Described(data, record, manifest, {port.name: port.name for port in record.outputs})
        what = f"ONNX, {record.flavour}"
    else:
        from uhd.infer.onnx_foreign import describe  # loads what simplifies graphs, which takes a second

        described = describe(path, model, options)
        what = f"ONNX, {'rows' if described.record.rows else described.record.flavour}"
    manifest = checked(path, described.manifest, described.record, options)
    return FloatEngine(OnnxNetwork(described, str(path)), described.record, manifest, what)


def parse_onnx(data: bytes, path: Path) -> onnx.ModelProto:
    """The graph in ``data``. Raises ``ModelError`` where there is none."""
    model: onnx.ModelProto | None
    try:
        model = onnx.load_from_string(data)
    except (DecodeError, ValueError):
        model = None
    if model is None or not model.graph.node or not model.graph.output:
        raise ModelError(f"{path}: damaged, truncated, or not an ONNX file", hint="export it or copy it again")
    return model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
