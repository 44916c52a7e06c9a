"""Model definitions. Importing this package needs no torch; ``uhd.models.ultratinyod`` does."""

from __future__ import annotations

from uhd.models.config import UltraTinyODConfig
from uhd.models.families import FAMILIES, family_config, variants_config

__all__ = ["FAMILIES", "UltraTinyODConfig", "family_config", "variants_config"]
