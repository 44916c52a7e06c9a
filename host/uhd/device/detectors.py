"""One interface over everything that can run a model: float ONNX, integer oracle, host twin, emulator or board.

``detect`` takes the uint8 network input [H, W, C] of one picture and returns a ``Detection``; the rows are
[score, class, cx, cy, w, h], normalised to the picture, best first, and ``outputs`` the raw output maps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from uhd.device.build import Component
from uhd.device.frames import CameraFrame
from uhd.device.ports import Port
from uhd.device.results import Result
from uhd.errors import ConfigError
from uhd.manifest import ModelManifest

#: Score below which no detection is reported when mAP is measured (the smallest step of the link's scores).
EVERY_SCORE = 1 / 65535

ENGINES = ("onnx", "oracle", "twin", "qemu", "device")


@dataclass(frozen=True)
class Settings:
    """Decode settings: scores are 0..1, ``top_k`` candidates enter NMS, ``limit`` rows leave it."""

    score_threshold: float
    nms_iou: float = 0.5
    top_k: int = 1024
    limit: int = 100


@dataclass(frozen=True)
class Detection:
    """What one engine found in one picture.

    ``network``: the network input that it made of a camera frame, if it tells; ``timings``: a device's own (µs, and
    ``round_trip_s``); ``link``: what the transfer took, as counts by name.
    """

    rows: NDArray[np.float64]
    outputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    network: NDArray[np.uint8] | None = None
    timings: dict[str, float] = field(default_factory=dict)
    link: dict[str, int] = field(default_factory=dict)


class Detector(Protocol):
    """Something that finds boxes in a network input."""

    name: str

    def detect(self, network_input: NDArray[np.uint8]) -> Detection: ...


@runtime_checkable
class FrameDetector(Protocol):
    """A detector that makes the network input of a camera frame itself."""

    def detect_frame(self, frame: CameraFrame) -> Detection: ...


def decode_float(maps: dict[str, NDArray[Any]], manifest: ModelManifest, settings: Settings) -> NDArray[np.float64]:
    """Rows from float maps [1, C, H, W], by the one Python decoder."""
    from uhd.detect.decode import decode_maps
    from uhd.detect.nms import detections

    scores, boxes = decode_maps(
        maps,
        np.asarray(manifest.anchors, np.float32),
        np.asarray(manifest.wh_scale, np.float32),
        manifest.score_mode,
        manifest.quality_power,
    )
    rows = detections(
        scores,
        boxes,
        score_threshold=settings.score_threshold,
        iou_threshold=settings.nms_iou,
        top_k=settings.limit,
    )[0]
    return np.asarray(rows, np.float64)


class OnnxDetector:
    """The float model through ONNX Runtime, on one thread."""

    name = "onnx"

    def __init__(self, onnx: Path, manifest: ModelManifest, settings: Settings) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._outputs = [o.name for o in self._session.get_outputs() if o.name not in ("anchors", "wh_scale")]
        self._manifest, self._settings = manifest, settings

    def detect(self, network_input: NDArray[np.uint8]) -> Detection:
        planes = network_input.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255)
        maps = dict(zip(self._outputs, self._session.run(self._outputs, {self._input: planes}), strict=True))
        return Detection(decode_float(maps, self._manifest, self._settings), maps)


class OracleDetector:
    """The integer oracle, decoded in floating point: the longest way from the device's own code."""

    name = "oracle"

    def __init__(self, component: Component, settings: Settings) -> None:
        from uhd.espdl.reader import read_espdl

        self._model = read_espdl(component.espdl)
        self._manifest, self._settings = component.manifest, settings
        tensor = self._model.tensors[self._model.inputs[0]]
        self._table = quantize_input_table(component.manifest.resize_mode, tensor.exponent, tensor.dtype)

    def detect(self, network_input: NDArray[np.uint8]) -> Detection:
        from uhd.espdl import oracle

        outputs = oracle.run(self._model, {self._model.inputs[0]: self._table[network_input][None]})
        maps = {
            name: (value.astype(np.float64) * 2.0 ** self._model.tensors[name].exponent).transpose(0, 3, 1, 2)
            for name, value in outputs.items()
        }
        return Detection(decode_float(maps, self._manifest, self._settings), outputs)


def quantize_input_table(resize_mode: str, exponent: int, dtype: str = "int8") -> NDArray[np.int64]:
    """Integer of each of the 256 network input bytes: value (0..1) over 2**exponent, rounded half up, saturated."""
    from uhd.image.resize import network_values

    top = np.iinfo(np.dtype(dtype)).max
    value = np.floor(network_values(resize_mode).astype(np.float64) * 2.0**-exponent + 0.5)
    return np.clip(value, -top - 1, top).astype(np.int64)


class TwinDetector:
    """The device's own code compiled for this machine."""

    name = "twin"

    def __init__(self, component: Component, settings: Settings) -> None:
        from uhd.device.twin import Twin

        self._twin = Twin(component.folder)
        self._settings = settings

    def detect(self, network_input: NDArray[np.uint8]) -> Detection:
        s = self._settings
        rows, outputs = self._twin.detect(network_input, s.score_threshold, s.nms_iou, s.top_k, s.limit)
        return Detection(rows, outputs)

    def detect_frame(self, frame: CameraFrame) -> Detection:
        size = self._twin.info.input.shape[1:3]
        network = self._twin.camera_to_network(frame.data, frame.width, frame.height, frame.stride, (size[0], size[1]))
        return replace(self.detect(network), network=network)


class DeviceDetector:
    """A device on a link: an emulator or a board."""

    def __init__(
        self, client: Any, name: str, settings: Settings, *, want_outputs: bool, want_input: bool = False
    ) -> None:
        self.name = name
        self.client = client
        client.configure(
            score_threshold=settings.score_threshold,
            nms_iou=settings.nms_iou,
            top_k=settings.top_k,
            limit=settings.limit,
            send_outputs=want_outputs,
            send_thumbnail=want_input,
        )

    def detect(self, network_input: NDArray[np.uint8]) -> Detection:
        return self._detection(self.client.infer_network(network_input))

    def detect_frame(self, frame: CameraFrame) -> Detection:
        return self._detection(self.client.infer_camera(frame.data, frame.width, frame.height, frame.stride))

    def _detection(self, result: Result) -> Detection:
        return Detection(result.rows, result.outputs, result.thumbnail, asdict(result.timings))


def check_engines(names: Sequence[str]) -> list[str]:
    """The names without blanks. Raises ``ConfigError`` for an unknown one and for one given twice."""
    known = [name.strip() for name in names]
    for name in known:
        if name not in ENGINES:
            raise ConfigError(f"unknown engine {name!r}", hint=f"choose one of {', '.join(ENGINES)}")
        if known.count(name) > 1:
            raise ConfigError(f"engine {name} is given twice")
    return known


@contextlib.contextmanager
def open_detector(
    engine: str,
    component: Component,
    settings: Settings,
    *,
    want_outputs: bool = False,
    want_input: bool = False,
    port: str | None = None,
    through: Callable[[Port], Port] = lambda port: port,
) -> Iterator[Detector]:
    """A ready detector of that engine; an emulator is booted and ended again. ``port``: that of the engine ``device``.

    ``want_outputs``, ``want_input``: a device sends its output maps, and the network input it made of a camera frame.
    ``through`` is put between a device and its port. Raises ``ConfigError`` for an unknown engine, and for a device
    without a port.
    """
    (engine,) = check_engines([engine])
    if engine == "onnx":
        yield OnnxDetector(component.onnx(), component.manifest, settings)
    elif engine == "oracle":
        yield OracleDetector(component, settings)
    elif engine == "twin":
        yield TwinDetector(component, settings)
    elif engine == "device":
        from uhd.device.client import DeviceClient
        from uhd.device.ports import open_port

        if port is None:
            raise ConfigError("engine device needs a port", hint="give --port, such as /dev/ttyACM0")
        link = open_port(port)
        try:
            client = DeviceClient(through(link))
            client.hello(expect_hash=component.espdl_sha256)
            yield DeviceDetector(client, "device", settings, want_outputs=want_outputs, want_input=want_input)
        finally:
            link.close()
    else:
        from uhd.device.client import DeviceClient
        from uhd.device.qemu import QemuDevice, build_elf

        with QemuDevice(build_elf(component.folder, component.folder.parent)) as device:
            client = DeviceClient(through(device.port))
            client.hello(expect_hash=component.espdl_sha256)
            yield DeviceDetector(client, "qemu", settings, want_outputs=want_outputs, want_input=want_input)
