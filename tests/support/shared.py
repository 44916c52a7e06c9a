"""Where the golden fixtures are: ``$UHD_SHARED``, or ``../shared`` beside the workspace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def shared_dir(*parts: str) -> Path:
    """The fixture folder, or a path below it. Skips the test, with the reason, where it is absent."""
    base = Path(os.environ.get("UHD_SHARED", ROOT.parent / "shared"))
    path = base.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"fixtures not here: {path} (set UHD_SHARED to run this test)")
    return path
