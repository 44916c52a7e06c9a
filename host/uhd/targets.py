"""The chips a model is quantized for, as data.

Facts: ESP-DL 3.3.9 and esp-ppq 1.3.12 (arithmetic, layouts), Espressif datasheets (clocks, memories).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from uhd.errors import ConfigError

Rounding = Literal["half_up", "half_even"]


@dataclass(frozen=True)
class Target:
    """How a chip computes: what decides the integers of a quantized model.

    ``rounding``: of right shifts. ``lanes_int8``/``lanes_int16``: output channels per filter block in the file
    (1: plain layout). ``bias_bits_int8``/``bias_bits_int16``: bits of the quantized bias. ``per_channel_weights``:
    one weight exponent per output channel. ``accumulator_bits_int8``: lane width that an int8 sum must fit.
    """

    name: str
    title: str
    rounding: Rounding
    lanes_int8: int
    lanes_int16: int
    bias_bits_int8: int
    bias_bits_int16: int
    accumulator_bits_int8: int
    per_channel_weights: bool
    idf_target: str | None


TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("c", "portable C (host twin, QEMU)", "half_up", 1, 1, 32, 64, 32, False, None),
        Target("esp32s3", "ESP32-S3", "half_up", 16, 8, 20, 40, 20, False, "esp32s3"),
        Target("esp32p4", "ESP32-P4", "half_even", 16, 8, 32, 40, 32, True, "esp32p4"),
    )
}

#: What ``build-fw --target`` accepts: ``qemu`` runs the model quantized for ``c`` on an emulated RISC-V machine.
BUILD_TARGETS = ("qemu", "esp32s3", "esp32p4")


def quantization_target(build_target: str) -> Target:
    """The target whose arithmetic a build target uses. Raises ``ConfigError`` for an unknown name."""
    name = "c" if build_target == "qemu" else build_target
    try:
        return TARGETS[name]
    except KeyError:
        known = ", ".join(("qemu", *TARGETS))
        raise ConfigError(f"unknown target {build_target!r}", hint=f"choose one of {known}") from None
