"""Where boards are plugged in."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """Where the board shows up."""
    return tmp_path / "ttyACM0"
