"""What was measured, one JSON line a candidate, so that a search that was killed goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from uhd.errors import ConfigError
from uhd.search.candidate import Candidate, candidate_of


@dataclass(frozen=True)
class Measured:
    """One candidate. mAP is that of the host twin on all validation photos; ``refused`` says why there is none.

    ``left_out``: mAP@0.5 without each tenth of the photos; ``halves``: on the even and on the odd ones. ``map_error``:
    squared difference of the output maps from the float model's, relative to their variance, mean over the maps.
    ``predicted_ms``, ``sram_bytes``: predicted. ``seconds``: what it took to find out.
    """

    candidate: Candidate
    sha256: str = ""
    size_bytes: int = 0
    map50: float = 0.0
    map50_95: float = 0.0
    left_out: tuple[float, ...] = ()
    halves: tuple[float, float] = (0.0, 0.0)
    map_error: float = 0.0
    predicted_ms: float = 0.0
    sram_bytes: int = 0
    refused: str = ""
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measured_of(record: Mapping[str, Any]) -> Measured:
    """The inverse of ``as_dict``. Raises ``KeyError`` or ``TypeError`` for anything else."""
    known = {field.name for field in fields(Measured)}
    values = {key: record[key] for key in known}
    values["candidate"] = candidate_of(values["candidate"])
    values |= {key: tuple(values[key]) for key in ("left_out", "halves")}
    return Measured(**values)


class Journal:
    """The file. ``run`` names what all measurements depend on."""

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        """Read what is there; a last line that was cut off is dropped.

        Raises ``ConfigError`` if the file is of another search.
        """
        self.path = path
        self.known: dict[str, Measured] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        lines = whole.decode("utf-8").splitlines()
        if not lines:
            whole = (json.dumps({"run": dict(run)}, sort_keys=True) + "\n").encode()
        elif json.loads(lines[0]) != {"run": dict(run)}:
            raise ConfigError(
                f"{path}: of a search with another model, other photos or settings", hint="choose another --output"
            )
        if whole != text:
            path.write_bytes(whole)
        for line in lines[1:]:
            found = measured_of(json.loads(line))
            self.known[found.candidate.key] = found

    def add(self, measured: Measured) -> None:
        """Append a line, on the disk before this returns."""
        self.known[measured.candidate.key] = measured
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(measured.as_dict(), sort_keys=True) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
