"""What one look at the machine gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "missing", "broken"]

ALL = ("qemu", "esp32s3", "esp32p4")
CHIPS = ("esp32s3", "esp32p4")


@dataclass(frozen=True)
class Check:
    """``found`` says what is there, ``purpose`` what it is for, ``fix`` how to get it (a command where there is one).

    ``targets``: those that cannot be built without it. ``sdk``: part of the vendor's SDK.
    """

    name: str
    status: Status
    found: str
    purpose: str
    fix: str = ""
    targets: tuple[str, ...] = ()
    sdk: bool = False
