"""One picture on its way to a device and its results on their way back: pieces, credit, loss."""

from __future__ import annotations

import time

import numpy as np

from uhd.device.connection import Connection
from uhd.device.messages import MESSAGES, Message
from uhd.device.results import DeviceInfo, Result, Tensor, Wanted, result
from uhd.errors import DeviceError

#: Bytes of picture in one frame: a lost frame costs little, and the frame's overhead is below 4 %.
PIECE = 1024
#: Slowest link that is not called dead, in bytes a second: limits how long a picture may be under way.
SLOWEST = 4000


class Transfer:
    """Sends a picture under the device's credit, goes back when a piece is lost, and collects the results.

    ``head``: the fields of FRAME that every piece repeats. ``patience``: how many seconds one inference may take.
    """

    def __init__(
        self, connection: Connection, info: DeviceInfo, head: dict[str, int], data: bytes, patience: float
    ) -> None:
        self._connection, self._info, self._head, self._data = connection, info, head, data
        self._patience = patience
        self._acked = self._sent = 0
        self._credit = info.credit
        self._order = 0  # of the next piece; unlike the sequence number it does not wrap
        self._pieces: dict[int, tuple[int, int]] = {}  # sequence number -> order, offset
        self._news_from = 0  # a gap that an earlier piece reports is already being repaired
        self._outputs: dict[int, Tensor] = {}
        self._thumbnail: Tensor | None = None
        self._timing: Message | None = None
        self._expect_timing = False
        self._detections: Message | None = None

    def expect(self, wanted: Wanted, *, tensor: bool) -> None:
        """What comes with the boxes; a picture that is a ``tensor`` has no thumbnail."""
        self._expect_timing = wanted.timing
        if wanted.outputs:
            self._outputs = {i: Tensor(o.size_bytes) for i, o in enumerate(self._info.outputs)}
        if wanted.thumbnail(self._head["frame_id"]) and not tensor:
            self._thumbnail = Tensor(int(np.prod(self._info.input.shape)))

    def run(self) -> Result:
        """The result. Raises ``DeviceError`` if none comes or the device refuses, ``SessionLost`` after a restart."""
        started = time.monotonic()
        end = started + self._patience + len(self._data) / SLOWEST
        wait, silences = self._connection.timeout, 0
        while True:
            self._fill()
            message = self._connection.receive(min(end, time.monotonic() + wait))
            if time.monotonic() >= end:
                raise self._failed(f"no result within {end - started:.0f} s")
            if message is None:
                silences += 1
                if self._acked == len(self._data):
                    wait *= 2  # it may well be computing: ask ever more seldom
                elif silences > self._connection.retries:
                    raise self._failed(f"no answer, {self._acked} of {len(self._data)} bytes acknowledged")
                self._ask()
            elif self._take(message):
                wait, silences = self._connection.timeout, 0
                if self._detections and self._whole():
                    seconds = time.monotonic() - started
                    return result(self._detections, self._info, self._outputs, self._thumbnail, self._timing, seconds)
            else:
                self._connection.counters.stale += 1

    def _fill(self) -> None:
        while self._sent < len(self._data) and (room := self._acked + self._credit - self._sent) > 0:
            self._send(self._sent, self._data[self._sent : self._sent + min(PIECE, room)])

    def _ask(self) -> None:
        """The empty piece: its answer tells how far the picture has come, or brings the results again."""
        self._connection.counters.retries += 1
        self._send(len(self._data), b"")

    def _send(self, offset: int, piece: bytes) -> None:
        seq = self._connection.send("FRAME", piece, offset=offset, **self._head)
        self._pieces[seq] = (self._order, offset)
        self._order += 1
        if piece:
            self._sent = offset + len(piece)

    def _take(self, message: Message) -> bool:
        """Use a message; False if it is not about this picture."""
        refusal = message.name == "ERROR" and message["reply_type"] == MESSAGES["FRAME"].type
        if refusal and message["reply_to"] in self._pieces:
            self._connection.refused(message)
        if message.fields.get("frame_id") != self._head["frame_id"]:
            return False
        if message.name == "ACK" and message["reply_to"] in self._pieces:
            self._acknowledge(message)
        elif message.name == "OUTPUT" and message["index"] in self._outputs:
            return self._outputs[message["index"]].take(message)
        elif message.name == "THUMBNAIL" and self._thumbnail:
            return self._thumbnail.take(message)
        elif message.name == "TIMING":
            self._timing = message
        elif message.name == "DETECTIONS":
            self._detections = message
            self._acked = self._sent = len(self._data)
            if not self._whole():  # this is the last message of the results, so some were lost
                self._ask()
        else:
            return False
        return True

    def _acknowledge(self, message: Message) -> None:
        order, offset = self._pieces[message["reply_to"]]
        self._acked = min(message["next_offset"], len(self._data))
        self._credit = message["credit"]
        self._sent = max(self._sent, self._acked)
        if self._acked <= offset and self._acked < self._sent and order >= self._news_from:
            self._connection.counters.retries += 1
            self._sent = self._acked
            self._news_from = self._order

    def _whole(self) -> bool:
        tensors = [*self._outputs.values(), *([self._thumbnail] if self._thumbnail else [])]
        return all(tensor.complete for tensor in tensors) and (self._timing is not None or not self._expect_timing)

    def _failed(self, what: str) -> DeviceError:
        return DeviceError(
            f"{self._connection.port.name}: picture {self._head['frame_id']}: {what}", hint="is it alive?"
        )
