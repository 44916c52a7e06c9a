"""A window for live pictures, and what its keys do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace

import cv2

from uhd.infer.detector import Detector
from uhd.infer.video import Frame

TITLE = "UHD (q quits, h shows the keys)"
#: Side that small pictures are enlarged to on the screen.
_SHOWN = 480
_STEP = 0.05
#: Qt ends the whole process where it reaches no display, so another one tries it first.
_PROBE = "import cv2; cv2.namedWindow('probe'); cv2.waitKey(1)"


def no_window() -> str:
    """Why no window can be shown here, in a few words; empty where one can."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "no display (DISPLAY is not set)"
    done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
    if done.returncode == 0:
        return ""
    headless = b"not implemented" in done.stderr
    return "this OpenCV has no windows (pip install opencv-python)" if headless else "the display does not answer"


@dataclass
class Controls:
    """What the user has pressed. ``save`` asks for one picture and is set back by whoever writes it."""

    detector: Detector
    quit: bool = False
    paused: bool = False
    help: bool = False
    save: bool = False

    def __post_init__(self) -> None:
        self._nms_iou = self.detector.settings.nms_iou
        if self._nms_iou is None:
            self._nms_iou = self.detector.manifest.nms_iou

    def press(self, key: str) -> bool:
        """Obey a key; returns whether boxes are to be found anew."""
        settings = self.detector.settings
        if key in ("q", "\x1b"):
            self.quit = True
        elif key == "s":
            self.save = True
        elif key == " ":
            self.paused = not self.paused
        elif key == "h":
            self.help = not self.help
        elif key == "n":
            settings = replace(settings, nms_iou=self._nms_iou if settings.nms_iou is None else None)
        elif key in ("+", "=", "-", "_"):
            moved = settings.threshold + (_STEP if key in "+=" else -_STEP)
            settings = replace(settings, threshold=round(min(max(moved, 0.01), 0.99), 2))
        changed = settings != self.detector.settings
        self.detector.settings = settings
        return changed


class Window:
    """Shows frames. Only for the main thread."""

    def __init__(self, width: int, height: int) -> None:
        """``width`` and ``height`` are those of the frames; small ones are shown enlarged."""
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
        factor = max(1, -(-_SHOWN // max(width, height)))
        cv2.resizeWindow(TITLE, width * factor, height * factor)

    def show(self, frame: Frame, wait_ms: int = 1) -> str:
        """Show a frame, wait for a key; the key, or "" for none. A closed window counts as ``q``."""
        cv2.imshow(TITLE, frame)
        code = cv2.waitKey(max(1, wait_ms))
        if cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return "q"
        return chr(code & 0xFF) if code >= 0 else ""

    def close(self) -> None:
        cv2.destroyAllWindows()
        cv2.waitKey(1)
