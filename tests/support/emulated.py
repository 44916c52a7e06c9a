"""Firmware for the emulator with made-up models, and a skip that says why where it cannot be built or booted."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest

from support.fakemodel import FakeModel
from uhd.device.qemu import build_elf, emulator_missing
from uhd.paths import build_root


def need_emulator() -> None:
    """Skip the test where QEMU or the RISC-V toolchain is not installed."""
    reason = emulator_missing()
    if reason:
        pytest.skip(reason)


@functools.cache
def firmware(model: FakeModel | None = None) -> Path:
    """The ELF file of a made-up model, built once."""
    need_emulator()
    with tempfile.TemporaryDirectory() as folder:
        component = (model or FakeModel()).write(Path(folder) / "uhd_model")
        return build_elf(component, build_root() / "test-emulator")
