"""Where things are. Everything the tool writes goes below ``build/`` or where the user says."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parents[1]
FIRMWARE = ROOT / "firmware"
COMPONENTS = FIRMWARE / "components"
MODEL_COMPONENT = COMPONENTS / "uhd_model"
ZOO = PACKAGE / "zoo"


def build_root() -> Path:
    """Folder for build products: ``$UHD_BUILD`` or ``build/`` in the workspace."""
    return Path(os.environ.get("UHD_BUILD", ROOT / "build"))
