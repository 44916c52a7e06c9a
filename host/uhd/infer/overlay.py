"""What is drawn on frames of a stream: boxes, how fast it goes, which keys there are."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from uhd.image.draw import draw_boxes, draw_labels
from uhd.infer.detector import Detector
from uhd.infer.video import Frame

_FONT = cv2.FONT_HERSHEY_SIMPLEX
HELP = (
    "q, ESC   quit",
    "s   save this picture",
    "space   pause",
    "n   suppression on or off",
    "+ -   threshold",
    "h   this help",
)


def drawn(frame: Frame, rows: NDArray[np.float32], detector: Detector, *, actual_size: bool = False) -> Frame:
    """A frame with boxes; ``actual_size``: as large as the network's input, where labels have no room."""
    if not actual_size:
        return draw_boxes(frame, rows, class_names=detector.manifest.class_names, min_side=1)
    size = (detector.manifest.input_width, detector.manifest.input_height)
    small = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    return draw_labels(small, rows[:, 1:], min_side=1)


def status_text(detector: Detector, latency_ms: float, fps: float) -> str:
    """``4.1 ms  29.8 fps  threshold 0.15  NMS 0.50``."""
    settings = detector.settings
    nms = "off" if settings.nms_iou is None else f"{settings.nms_iou:.2f}"
    return f"{latency_ms:.1f} ms  {fps:.1f} fps  threshold {settings.threshold:.2f}  NMS {nms}"


def write_lines(frame: Frame, lines: Sequence[str]) -> None:
    """Lines of text on a darkened plate in the upper left corner, in place."""
    scale = min(max(0.4, frame.shape[1] / 1400), 1.2)
    stroke = max(1, round(scale * 1.2))
    sizes = [cv2.getTextSize(line, _FONT, scale, stroke)[0] for line in lines]
    step, margin = round(sizes[0][1] * 1.9), round(8 * scale)
    right = min(frame.shape[1], max(width for width, _ in sizes) + 2 * margin)
    plate = frame[: min(frame.shape[0], step * len(lines) + margin), :right]
    plate[:] = plate // 3
    for number, line in enumerate(lines):
        place = (margin, step * (number + 1) - margin // 2)
        cv2.putText(frame, line, place, _FONT, scale, (255, 255, 255), stroke, cv2.LINE_AA)
