"""The metrics of a run for TensorBoard: one event file, written and flushed an epoch at a time."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from uhd.errors import ToolMissingError
from uhd.train.report.metrics import Row, epoch_of, is_number, split_row


class Board:
    """Writes rows of ``metrics.jsonl`` as scalars ``train/NN_name`` and ``val/NN_name``; the step is the epoch.

    NN numbers the figures of each part in the order of logs, from 00; a figure that comes later gets the next number,
    so a name never changes within a run. Learning rate and throughput are ``run/lr`` and ``run/images_per_second``.
    Records are written by the calling thread and flushed, so a full disk is an ``OSError`` here and not a hung run.
    A resumed run opens a second file; TensorBoard joins them.
    """

    def __init__(self, folder: Path, *, history: list[dict[str, Any]] | None = None) -> None:
        """``folder`` is created. ``history``: the rows of a resumed run, whose numbering goes on.

        Raises ``ToolMissingError`` where tensorboardX is not installed.
        """
        try:
            from tensorboardX.proto import event_pb2, summary_pb2
            from tensorboardX.record_writer import RecordWriter
        except ImportError:
            raise ToolMissingError(
                "TensorBoard events need the package tensorboardX", hint="pip install tensorboardX"
            ) from None
        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        self._numbers: dict[str, dict[str, int]] = {"train": {}, "val": {}}
        for row in history or []:
            self._tags(row)
        folder.mkdir(parents=True, exist_ok=True)
        host = "".join(c if c.isalnum() or c in "-_" else "-" for c in socket.gethostname()) or "host"
        started = time.time()
        self.path = folder / f"events.out.tfevents.{started:017.6f}.{host}.{os.getpid()}"
        self._writer = RecordWriter(str(self.path.resolve()))
        self._write(self._event(wall_time=started, file_version="brain.Event:2"))

    def row(self, row: Row) -> None:
        """Write one epoch's figures. Values that are not finite are written as they are: TensorBoard shows them."""
        step = int(epoch_of(row, 0))
        values = [self._summary.Value(tag=tag, simple_value=_float(value)) for tag, value in self._tags(row).items()]
        if values:
            self._write(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def close(self) -> None:
        """Close the file; nothing was held back."""
        with contextlib.suppress(OSError):
            self._writer.close()

    def __enter__(self) -> Board:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tags(self, row: Row) -> dict[str, float]:
        tags = {f"run/{name}": float(row[name]) for name in ("lr", "images_per_second") if is_number(row.get(name))}
        for part, values in zip(("train", "val"), split_row(row), strict=True):
            numbers = self._numbers[part]
            for name, value in values.items():
                tags[f"{part}/{numbers.setdefault(name, len(numbers)):02d}_{name}"] = value
        return tags

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())
        self._writer.flush()


def _float(value: float) -> float:
    """Within single precision, where the record keeps it: larger values become infinite rather than an error."""
    return value if abs(value) < 3.4e38 or not math.isfinite(value) else math.copysign(math.inf, value)
