"""Running .tflite files: of ours by their sidecar, of others by the shapes of their outputs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ConfigError, ModelError, ToolMissingError
from uhd.export.litert_interpreter import LiteRTInterpreter
from uhd.export.litert_manifest import sidecar_path
from uhd.export.litert_model import LiteRTModel, channels_first
from uhd.export.metadata import channel_names, input_name
from uhd.export.record import ROWS, ExportRecord, Flavour, Port
from uhd.image.resize import input_channels
from uhd.infer.engines import FloatEngine
from uhd.infer.options import ModelOptions, checked, choose_mode
from uhd.manifest import ModelManifest, ScoreMode, load_manifest
from uhd.models.base import HeadKind

#: Score maps by how many there are, and the mode that multiplies them all. Which is which does not matter then.
_SCORES: dict[int, tuple[tuple[str, ...], ScoreMode]] = {
    1: (("quality",), "quality"),
    2: (("quality", "cls"), "quality_cls"),
    3: (("obj", "quality", "cls"), "obj_quality_cls"),
}
#: What converters append to a model's name.
_KIND = re.compile(r"(_full)?(_float(16|32)|_integer_quant|_dynamic_range_quant)(_with_int16_act)?$")
_HINT = "convert it with `python -m uhd.host litert`, which writes what is needed beside it"

Pairs = NDArray[np.float32]
Run = Callable[[NDArray[np.float32]], Mapping[str, NDArray[np.float32]]]


class LiteRTNetwork:
    """An interpreter, which takes one picture at a time and one thread at a time."""

    batch: int | None = 1

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = threading.Lock()

    def __call__(self, images: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        with self._lock:
            return dict(self._run(np.ascontiguousarray(images.transpose(0, 2, 3, 1))))


@dataclass(frozen=True)
class Layout:
    """What the outputs of a foreign file are, in file order, and the score mode that they leave."""

    flavour: Flavour
    names: tuple[str, ...]
    score_mode: ScoreMode


def open_tflite(path: Path, options: ModelOptions) -> FloatEngine:
    """The engine of a .tflite file.

    Raises ``ToolMissingError`` without ai-edge-litert, ``ModelError`` for a damaged file and for outputs that are not
    understood, ``ConfigError`` for options that do not fit it.
    """
    head: HeadKind = "anchor"
    if sidecar_path(path).exists() and options.manifest is None:
        model = LiteRTModel(path)
        manifest: ModelManifest = model.manifest
        head = model.manifest.litert.head
        layout, run = Layout("parts", model.output_names, manifest.score_mode), model.run
        what = f"LiteRT, {model.manifest.litert.kind}"
    else:
        interpreter = _interpreter(path)
        anchors, wh_scale = (_pairs(path, name) for name in ("anchors", "wh_scale"))
        given = load_manifest(options.manifest) if options.manifest else None
        count = len(given.anchors) if given else 0 if anchors is None else len(anchors)
        layout = layout_of([output["shape"] for output in interpreter.outputs], count, path)
        manifest = given or _manifest(path, interpreter.input["shape"], options, layout, anchors, wh_scale)
        what = f"LiteRT, {interpreter.input['dtype']}"

        def run(image: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
            return dict(zip(layout.names, map(channels_first, interpreter.run(image)), strict=True))

    shape = [1, manifest.input_channels, manifest.input_height, manifest.input_width]
    record = ExportRecord(
        flavour=layout.flavour,
        head=head,
        input=Port(name=input_name(manifest.resize_mode), shape=shape),
        channels=channel_names(manifest.resize_mode),
        outputs=[Port(name=name, shape=[]) for name in layout.names],
        fields=list(layout.names) if layout.flavour == "parts" else [],
        score_maps=[],
    )
    return FloatEngine(LiteRTNetwork(run), record, checked(path, manifest, record, options), what)


def layout_of(shapes: Sequence[Sequence[int]], anchors: int, path: Path) -> Layout:
    """What outputs of these shapes are: rows [1,N,6]; or a map [1,h,w,4A] of boxes and up to three of scores.

    ``anchors``: A, 0 where unknown. Raises ``ModelError`` for anything else.
    """
    if len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][2] == 6:
        return Layout("post", (ROWS,), "obj_quality_cls")
    if not anchors:
        raise ModelError(f"{path}: without anchors, of which neither a sidecar nor {_stem(path)}_anchors.npy tells",
                         hint=_HINT)  # fmt: skip
    depths = [int(shape[-1]) if len(shape) == 4 else 0 for shape in shapes]
    scores = [place for place, depth in enumerate(depths) if depth != 4 * anchors]
    several = [place for place in scores if depths[place] > anchors]  # classes
    fits = all(depths[place] and depths[place] % anchors == 0 for place in scores) and len(several) <= 1
    if not fits or len(shapes) - len(scores) != 1 or len(scores) not in _SCORES:
        told = ", ".join(str(list(shape)) for shape in shapes[:4])
        raise ModelError(
            f"{path}: its outputs ({told}) are not the maps of a detector with {anchors} anchors", hint=_HINT
        )
    names, mode = _SCORES[len(scores)]
    if several:
        names, mode = (("cls",), "cls") if len(scores) == 1 else (names, mode)
        scores.sort(key=lambda place: place in several)  # classes last
    found = dict(zip(scores, names, strict=True))
    return Layout("parts", tuple(found.get(place, "box") for place in range(len(shapes))), mode)


def _interpreter(path: Path) -> LiteRTInterpreter:
    try:
        return LiteRTInterpreter(str(path))
    except ImportError:
        raise ToolMissingError(
            "ai-edge-litert is not installed, which runs .tflite files", hint="pip install ai-edge-litert"
        ) from None
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"{path}: LiteRT does not take it ({reason})", hint="convert or copy it again") from None


def _manifest(
    path: Path,
    shape: Sequence[int],
    options: ModelOptions,
    layout: Layout,
    anchors: Pairs | None,
    wh_scale: Pairs | None,
) -> ModelManifest:
    if len(shape) != 4:
        raise ModelError(f"{path}: its input {list(shape)} is no picture [1, H, W, C]", hint=_HINT)
    _, height, width, channels = shape
    mode = choose_mode(path, channels, None, options.resize_mode)
    if anchors is not None and wh_scale is None:
        wh_scale = np.ones_like(anchors)
    return ModelManifest(
        name=path.stem,
        input_height=height,
        input_width=width,
        input_channels=input_channels(mode),
        resize_mode=mode,
        anchors=_plain(anchors),
        wh_scale=_plain(wh_scale),
        score_mode=layout.score_mode,
    )


def _plain(pairs: Pairs | None) -> list[tuple[float, float]]:
    return [] if pairs is None else [(float(w), float(h)) for w, h in pairs]


def _stem(path: Path) -> str:
    """The model's name without what converters append."""
    return _KIND.sub("", path.stem)


def _pairs(path: Path, name: str) -> Pairs | None:
    """Pairs [A,2] in an array beside the file, as published programs keep them."""
    found = next((p for stem in (path.stem, _stem(path)) if (p := path.with_name(f"{stem}_{name}.npy")).exists()), None)
    if found is None:
        return None
    try:
        values = np.load(found, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{found}: not an array of NumPy ({error})", hint=_HINT) from None
    if values.ndim != 2 or values.shape[1] != 2 or not np.isfinite(values).all():
        raise ConfigError(f"{found}: not a list of (width, height) pairs", hint=_HINT)
    return np.asarray(values, np.float32)
