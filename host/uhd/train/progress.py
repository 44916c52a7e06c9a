"""What a run shows while it works: a bar with the time left on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

Row = Mapping[str, Any]


class Watcher:
    """Hears what happens and shows nothing; the base of those that do."""

    def __init__(self) -> None:
        self.epochs = self.steps = self.first = self.batch = 0
        self.started = 0.0

    def say(self, text: str) -> None:
        """A message of one line."""

    @contextmanager
    def running(self, epochs: int, steps: int, done: int, batch: int) -> Iterator[None]:
        """Round a run of ``epochs`` of ``steps`` of ``batch`` photos, of which ``done`` steps are done already."""
        self.epochs, self.steps, self.first, self.batch = epochs, steps, done, batch
        self.started = time.monotonic()
        yield

    def step(self, epoch: int, step: int, loss: Tensor) -> None:
        """``step`` steps of ``epoch`` (from 0) are done; ``loss`` is on the device."""

    def epoch(self, row: Row, images_per_second: float, best: Row) -> str:
        """An epoch is finished; returns the line that tells about it."""
        line = self.line(row, images_per_second)
        self.say(line)
        return line

    def left(self, done: int) -> float:
        """Seconds to the end, when ``done`` steps of the whole run are done."""
        spent = time.monotonic() - self.started
        return spent / max(1, done - self.first) * (self.epochs * self.steps - done)

    def line(self, row: Row, images_per_second: float) -> str:
        """``epoch 3/60  loss 1.2345  box 0.5000 ...  mAP@0.5 0.1234  450 images/s  0:12:34 left``."""
        parts = [f"epoch {row['epoch']}/{self.epochs}"]
        parts += [f"{name} {row[name]:.4f}" for name in row if not name.startswith(_OTHERS)]
        if "map50" in row:
            parts.append(f"mAP@0.5 {row['map50']:.4f}  mAP@0.5:0.95 {row['map50_95']:.4f}")
        parts.append(f"{images_per_second:.0f} images/s")
        if row["epoch"] < self.epochs:
            parts.append(f"{clock(self.left(row['epoch'] * self.steps))} left")
        return "  ".join(parts)


#: Columns of a row that are no losses.
_OTHERS = ("epoch", "lr", "map", "ap50", "coco", "score_threshold")


class Lines(Watcher):
    """A line for every epoch and message, where there is no terminal."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self.write = write

    def say(self, text: str) -> None:
        self.write(text)


class Bar(Watcher):
    """A bar over the whole run with epoch, step, loss, speed, best mAP and the time left; messages above it."""

    def __init__(self, console: Any, interval: int = 10) -> None:
        """``console`` a ``rich.console.Console``; ``interval``: steps between updates."""
        super().__init__()
        self.console, self.interval = console, interval
        self._bar: Any = None
        self._task: Any = None
        self._best = ""
        self._since = (0.0, 0)

    def say(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def running(self, epochs: int, steps: int, done: int, batch: int) -> Iterator[None]:
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[state]}"),
        )
        shown = Progress(*columns, console=self.console, transient=True)
        with super().running(epochs, steps, done, batch), shown as bar:
            self._bar = bar
            self._task = bar.add_task("training", total=epochs * steps, completed=done, state="")
            self._since = (time.monotonic(), done)
            try:
                yield
            finally:
                self._bar = None

    def step(self, epoch: int, step: int, loss: Tensor) -> None:
        if self._bar is None or (step % self.interval and step != self.steps):
            return
        done, now = epoch * self.steps + step, time.monotonic()
        before, counted = self._since
        speed = f"{(done - counted) * self.batch / max(1e-9, now - before):,.0f} images/s" if done > counted else ""
        self._since = (now, done)
        state = f"loss {float(loss):.3f}  {speed}{self._best}  {clock(self.left(done))} left"
        place = f"epoch {epoch + 1}/{self.epochs} step {step}/{self.steps}"
        self._bar.update(self._task, completed=done, description=place, state=state)

    def epoch(self, row: Row, images_per_second: float, best: Row) -> str:
        if best:
            self._best = f"  best mAP {best['map50']:.3f}"
        return super().epoch(row, images_per_second, best)


def clock(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` under an hour."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
