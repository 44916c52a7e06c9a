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


def committed_component(idf_target: str) -> Path:
    """The generated component that ``firmware/components/uhd_model`` takes for a chip, or for ESP-IDF's ``linux``."""
    return MODEL_COMPONENT / ("esp32s3" if idf_target == "linux" else idf_target)


def build_root() -> Path:
    """Folder for build products: ``$UHD_BUILD`` or ``build/`` in the workspace."""
    return Path(os.environ.get("UHD_BUILD", ROOT / "build"))
