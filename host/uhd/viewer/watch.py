"""The newest of everything that a source said, for views that draw at their own pace."""

from __future__ import annotations

from collections import deque
from statistics import median

from uhd.bridge.events import Box, Config, Console, Device, Event, Fault, Picture, Recording, Refused, State, Stats
from uhd.bridge.hub import Reader
from uhd.device.messages import ENUMS, LIMITS

_FIRST_FAULT = LIMITS["FIRST_FAULT"][0]
STAGES = ("receive", "preprocess", "inference", "decode")


class Watch:
    """Takes events; holds the latest state, device, config, stats and picture, and short histories of the rest."""

    def __init__(self, pictures: int = 120, detections: int = 50) -> None:
        self.state: State | None = None
        self.device: Device | None = None
        self.config: Config | None = None
        self.stats: Stats | None = None
        self.picture: Picture | None = None
        self.recording: Recording | None = None
        self.note = ""  # the newest line that people should read
        self.faults: dict[int, Fault] = {}
        self.timings: deque[dict[str, float]] = deque(maxlen=pictures)
        self.detections: deque[tuple[int, Box]] = deque(maxlen=detections)

    def read(self, reader: Reader, seconds: float) -> None:
        """Take what is there, after waiting up to ``seconds`` for the first event."""
        event = reader.get(seconds)
        while event is not None:
            self.take(event)
            event = reader.get(0)

    def take(self, event: Event) -> None:
        """Remember one event."""
        match event:
            case State():
                self.state = event
            case Device():
                self.device = event
            case Config():
                self.config = event
            case Stats():
                self.stats = event
                self._fault_mask(event)
            case Recording():
                self.recording = event
                self.note = event.text or f"{'recording to' if event.on else 'recorded'} {event.path}"
            case Fault():
                self.faults.pop(event.code, None)
                if event.stands:
                    self.faults[event.code] = event
            case Console() | Refused():
                self.note = event.text
            case Picture():
                self._picture(event)

    def _fault_mask(self, stats: Stats) -> None:
        """STATS tells of faults that began before anyone looked."""
        mask = stats.device.get("faults", 0)
        for name, code, meaning in ENUMS["ErrorCode"]:
            if code < _FIRST_FAULT:
                continue
            if not mask >> (code - _FIRST_FAULT) & 1:
                self.faults.pop(code, None)
            elif code not in self.faults:
                self.faults[code] = Fault(stats.t, stats.wall, name, code, meaning, True)

    def _picture(self, event: Picture) -> None:
        if event.image is None and self.picture is not None:
            self.picture = Picture(**{**vars(event), "image": self.picture.image})  # the pixels come less often
        else:
            self.picture = event
        self.detections.extendleft((event.frame_id, box) for box in reversed(event.boxes))
        if event.timing:
            self.timings.append({name: event.timing.get(f"{name}_us", 0) / 1000 for name in STAGES})

    def stage_times(self) -> dict[str, tuple[float, float, float]]:
        """Minimum, median and maximum of each stage over the last pictures, in milliseconds; empty without any."""
        if not self.timings:
            return {}
        columns = {name: [row[name] for row in self.timings] for name in STAGES}
        return {name: (min(values), median(values), max(values)) for name, values in columns.items()}

    def class_name(self, cls: int) -> str:
        """The name of a class, as far as it is known."""
        names = self.device.class_names if self.device else []
        return names[cls] if 0 <= cls < len(names) else f"class {cls}"
