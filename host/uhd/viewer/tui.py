"""What the device sees, in a terminal: for machines that are reached by ssh."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from rich.console import Console, ConsoleOptions, RenderResult
from rich.layout import Layout
from rich.live import Live
from rich.table import Table
from rich.text import Text

from uhd.bridge.events import Image
from uhd.bridge.hub import Hub
from uhd.device.messages import LIMITS
from uhd.errors import ConfigError
from uhd.image.files import decode_rgb
from uhd.viewer.blocks import BOX, TRUTH, Blocks, draw_box, fit, resize
from uhd.viewer.watch import Watch

_FRAMES_A_SECOND = 10  # over ssh more is only traffic
_SIDE = 44  # columns of what is beside the picture
_CAMERA_FRAMES = LIMITS["CAMERA_FRAMES"][0]
_STEP = 0.05
_STATE_STYLES = {"ready": "green", "connecting": "yellow", "ended": "yellow"}


class Tui:
    """The view, and the keys q (end), p (pause), . (step), + and - (score threshold)."""

    def __init__(self, hub: Hub, title: str, console: Console | None = None) -> None:
        self._hub, self._title = hub, title
        self._console = console or Console()
        self._watch = Watch()
        self._paused = False
        self._asked: float | None = None
        self._pixels: tuple[Image | None, NDArray[np.uint8] | None] = (None, None)

    def run(self, ended: Callable[[], bool] = lambda: False) -> None:
        """Show until the user presses q, or ``ended`` says so. Raises ``ConfigError`` without a terminal."""
        if not (sys.stdin.isatty() and self._console.is_terminal):
            raise ConfigError("--tui needs a terminal", hint="leave it out, and open the page in a browser")
        reader = self._hub.subscribe(images=True)
        try:
            with _keys() as pressed, Live(console=self._console, screen=True, auto_refresh=False) as live:
                while not ended():
                    due = time.monotonic() + 1 / _FRAMES_A_SECOND
                    while (left := due - time.monotonic()) > 0:
                        self._watch.read(reader, left)
                    if any(not self._key(key) for key in pressed()):
                        return
                    live.update(self._layout(), refresh=True)
        finally:
            reader.close()

    def _key(self, key: str) -> bool:
        """Do what a key asks for; False to end."""
        if key in ("q", "\x03", "\x04"):
            return False
        if key == "p":
            self._paused = not self._paused
            self._command({"do": "pause", "on": self._paused})
        elif key == ".":
            self._command({"do": "step"})
        elif key in ("+", "=", "-") and self._watch.config:
            now = self._asked if self._asked is not None else self._watch.config.score_threshold
            self._asked = min(1.0, max(0.0, round(now + (-_STEP if key == "-" else _STEP), 2)))
            self._command({"do": "configure", "score_threshold": self._asked})
        return True

    def _command(self, command: dict[str, object]) -> None:
        answer = self._hub.command(command)
        if answer is not None:
            self._watch.take(answer)

    # ---- what is drawn

    def _layout(self) -> Layout:
        config = self._watch.config
        if config and self._asked is not None and abs(config.score_threshold - self._asked) < 1e-3:
            self._asked = None
        whole = Layout()
        body = Layout(name="body")
        body.split_row(Layout(_Picture(self), name="picture"), Layout(self._side(), size=_SIDE))
        whole.split_column(Layout(self._head(), size=2), body, Layout(self._foot(), size=1))
        return whole

    def _head(self) -> Text:
        state, device = self._watch.state, self._watch.device
        name = state.state if state else "connecting"
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f" {name} ", f"bold black on {_STATE_STYLES.get(name, 'red')}")
        text.append(f" {device.name if device else 'UHD'}", "bold")
        text.append(f"  {self._title}\n", "dim")
        text.append(state.text if state else "")
        return text

    def _foot(self) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("paused  " if self._paused else "", "bold yellow")
        return text.append("q end  p pause  . step  + - threshold", "dim")

    def _side(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for part in (self._figures(), self._stages(), self._detections()):
            table.add_row(part)
            table.add_row("")
        for fault in self._watch.faults.values():
            table.add_row(Text(f"{fault.code} {fault.name} {fault.text}", "red"))
        if self._watch.note:
            table.add_row(Text(self._watch.note, "dim", no_wrap=True, overflow="ellipsis"))
        return table

    def _figures(self) -> Text:
        stats, config = self._watch.stats, self._watch.config
        text = Text(f"{stats.fps:.1f} pictures/s" if stats else "- pictures/s", "bold")
        if config:
            asked = f" -> {self._asked:.2f}" if self._asked is not None else ""
            text.append(f"  threshold {config.score_threshold:.2f}{asked}, NMS {config.nms_iou:.2f}", "not bold")
        if stats:
            host = stats.host
            lost, errors = host.get("lost", 0), host.get("crc_errors", 0)
            text.append(f"\nlost {lost}  crc errors {errors}  not shown {stats.dropped}", "not bold dim")
        return text

    def _stages(self) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0))
        table.add_column("ms", style="dim")
        for name in ("min", "median", "max"):
            table.add_column(name, justify="right")
        for name, values in self._watch.stage_times().items():
            table.add_row(name, *(f"{value:.2f}" for value in values))
        return table

    def _detections(self) -> Table:
        table = Table(box=None, padding=(0, 1, 0, 0))
        for name in ("picture", "class", "score", "centre"):
            table.add_column(name, justify="left" if name == "class" else "right", no_wrap=True)
        for frame_id, (score, cls, cx, cy, _, _) in list(self._watch.detections)[:8]:
            number = frame_id - _CAMERA_FRAMES if frame_id >= _CAMERA_FRAMES else frame_id
            table.add_row(str(number), self._watch.class_name(cls), f"{score:.2f}", f"{cx:.2f},{cy:.2f}")
        return table

    def pixels(self, columns: int, lines: int) -> NDArray[np.uint8] | None:
        """The newest picture with its boxes, in the size of the terminal; None before the first."""
        picture = self._watch.picture
        if picture is None or picture.image is None:
            return None
        if picture.image is not self._pixels[0]:
            self._pixels = (picture.image, _rgb(picture.image))
        rgb = self._pixels[1]
        assert rgb is not None
        pixels = resize(rgb, *fit(rgb.shape[0], rgb.shape[1], columns, lines))
        for truth in picture.truth or ():
            draw_box(pixels, truth[1:], TRUTH, dashed=True)
        for box in reversed(picture.boxes):
            draw_box(pixels, box[2:], BOX)
        return pixels


class _Picture:
    """Asks for its pixels once it knows its size."""

    def __init__(self, tui: Tui) -> None:
        self._tui = tui

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        pixels = self._tui.pixels(options.max_width - 1, options.height or options.max_height)
        yield Text("no picture yet", "dim") if pixels is None else Blocks(pixels)


def _rgb(image: Image) -> NDArray[np.uint8]:
    if image.format == "jpeg":
        return decode_rgb(image.data, "picture")
    return np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[], str]]:
    """The keys pressed since the last call; the terminal gives them at once, without showing them."""
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:
        yield lambda: os.read(fd, 64).decode("ascii", "replace") if select.select([fd], [], [], 0)[0] else ""
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
