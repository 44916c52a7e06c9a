"""What this machine has, and lacks, for each thing it may be asked to build."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from uhd.device import doctor_chips, doctor_host
from uhd.device.doctor_check import Check

__all__ = ["Check", "Report", "examine"]


@dataclass(frozen=True)
class Report:
    """All checks, and the target they are judged for."""

    target: str
    checks: tuple[Check, ...]

    def needed(self, check: Check) -> bool:
        """Whether the target cannot be built without it."""
        return self.target in check.targets

    @property
    def failed(self) -> tuple[Check, ...]:
        """Needed checks that are missing or broken."""
        return tuple(c for c in self.checks if self.needed(c) and c.status in ("missing", "broken"))

    @property
    def exit_code(self) -> int:
        """0: all that the target needs is there. 2: something is missing or broken. 3: only the vendor's SDK is."""
        if not self.failed:
            return 0
        return 3 if all(check.sdk and check.status == "missing" for check in self.failed) else 2

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = [{**asdict(c), "targets": list(c.targets), "needed": self.needed(c)} for c in self.checks]
        return {"target": self.target, "exit_code": self.exit_code, "checks": rows}


Examination = Callable[[], Iterable[Check]]

#: In the order they are shown.
EXAMINATIONS: tuple[Examination, ...] = (
    doctor_host.python,
    doctor_host.packages,
    doctor_host.compiler,
    doctor_host.emulator,
    doctor_chips.esp_idf,
    doctor_chips.toolchains,
    doctor_chips.components,
    doctor_chips.flasher,
    doctor_chips.platformio,
    doctor_chips.ports,
    doctor_host.disk,
)


def examine(target: str, examinations: Sequence[Examination] = EXAMINATIONS) -> Report:
    """Look at everything; nothing is changed and no network is used."""
    return Report(target, tuple(check for examination in examinations for check in examination()))
