"""The chips that a prediction is for."""

from __future__ import annotations

import functools
from pathlib import Path

from uhd.errors import ConfigError
from uhd.predict.fit import fit
from uhd.predict.latency import Chip, Rates
from uhd.predict.published import published

#: Before fitting: clock, data cache, and bandwidths beside PSRAM's, which is fitted (flash: quad SPI at 80 MHz;
#: SRAM: a vector load a cycle). The factors of unaligned, int16 and depthwise convolutions were chosen by the error on
#: points left out, among 1, 1.4, 2 and 2, 3 and 1, 6, 10.
_S3 = Chip(
    "esp32s3",
    240e6,
    64 * 1024,
    {"psram": 60e6, "flash": 40e6, "sram": 16 * 240e6},
    Rates(0.2, 30.0),
    True,
    "fitted to published figures",
)

#: No latency of these models on an ESP32-P4 is published. ESP-DL's kernel benchmark gives about the same
#: multiply-accumulates a cycle as on the S3; the level 2 cache of 256 KB takes the place of the S3's 64 KB, and PSRAM
#: is 16 bits wide at 200 MHz, of which the same share is assumed to be reached.
_P4_CACHE, _P4_CLOCK, _P4_PSRAM = 256 * 1024, 360e6, 5.0


@functools.cache
def chip(name: str) -> Chip:
    """``esp32s3`` (fitted) or ``esp32p4`` (transferred). Raises ``ConfigError`` for another name."""
    if name == "esp32s3":
        return fit(published(), _S3).chip
    if name == "esp32p4":
        base = chip("esp32s3")
        bandwidth = {**base.bandwidth, "psram": _P4_PSRAM * base.bandwidth["psram"], "sram": 16 * _P4_CLOCK}
        basis = "transferred from the ESP32-S3, nothing fitted"
        return Chip("esp32p4", _P4_CLOCK, _P4_CACHE, bandwidth, base.rates, False, basis)
    raise ConfigError(f"no latency model for {name}", hint="choose esp32s3 or esp32p4")


def chip_with(name: str, rates: Path | None) -> Chip:
    """``chip(name)``, or what a file of rates says of it (``uhd.predict.rates``). Raises ``ConfigError`` for a file
    that is none, or is of another chip."""
    if rates is None:
        return chip(name)
    from uhd.predict.rates import load_rates

    found = load_rates(rates).chip
    if found.name != name:
        raise ConfigError(f"{rates}: rates of an {found.name}, not of an {name}", hint="give --target, or other rates")
    return found
