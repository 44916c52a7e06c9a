"""The detector that ``demo`` is asked for: a model file, or a variant on a target."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uhd.errors import ConfigError, ModelError
from uhd.infer.detector import Detector
from uhd.infer.options import ModelOptions


def open_demo_detector(stack: contextlib.ExitStack, options: Mapping[str, Any]) -> tuple[Detector, str]:
    """The detector, with the settings that are given, and what it runs on in one word; closed with ``stack``.

    Raises ``ConfigError`` for options that exclude each other.
    """
    chosen = ModelOptions(
        score_mode=options["score_mode"],
        quality_power=options["quality_power"],
        resize_mode=options["resize_mode"],
        size=_size(options["img_size"]),
        manifest=options["manifest"],
    )
    model: Path | None = options["model"]
    target = options["target"] or "qemu"
    if model is not None:
        if options["target"] or options["checkpoint"]:
            raise ConfigError("--model says what runs, so --target and --checkpoint have no meaning", hint="choose one")
        detector, name = Detector.load(model, options=chosen), model.suffix.lstrip(".").lower()
    elif target == "onnx":
        detector, name = Detector.load(_float_model(options), options=chosen), target
    else:
        detector, name = _on_target(stack, target, options, chosen), target
    detector.choose(
        threshold=options["threshold"], nms_iou=options["nms_iou"], nms=options["use_nms"], limit=options["topk"],
        second_look=options["use_dynamic_threshold"],
    )  # fmt: skip
    return detector, name


def _float_model(options: Mapping[str, Any]) -> Path:
    """The variant's float ONNX, exported when it is first wanted."""
    from uhd import zoo
    from uhd.device.build import float_onnx
    from uhd.variants import get_variant

    checkpoint = options["checkpoint"] or zoo.checkpoint_path(get_variant(options["variant"]).letter)
    if not checkpoint.exists():
        raise ModelError(f"{checkpoint}: no such checkpoint", hint="pass a .safetensors written by `uhd.host train`")
    return float_onnx(checkpoint)


def _on_target(stack: contextlib.ExitStack, target: str, options: Mapping[str, Any], chosen: ModelOptions) -> Detector:
    from uhd.device import build
    from uhd.infer.espdl_model import open_target
    from uhd.infer.options import check_integers

    request = build.Request(options["variant"].upper(), "qemu", options["preset"], options["checkpoint"])
    component = build.prepare_component(request)
    check_integers(component.espdl, component.manifest, chosen)
    return Detector(stack.enter_context(open_target(target, component)))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if min(size) < 1:
        raise ConfigError(f"--img-size {text} is no size", hint="give height x width, such as 64x64")
    return size
