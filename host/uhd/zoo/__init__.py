"""The shipped models: weights with their manifest, and their .espdl for every target and preset.

Files: ``ultratinyod_<letter>.safetensors``/``.json`` and ``ultratinyod_<letter>_<target>_<preset>.espdl``/``.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uhd.errors import ModelError
from uhd.manifest import ModelManifest, load_manifest
from uhd.paths import ZOO
from uhd.variants import VARIANTS


@dataclass(frozen=True)
class ShippedEspdl:
    """A quantized model of the zoo: the file and its manifest."""

    path: Path
    manifest: ModelManifest


def shipped_variants() -> list[str]:
    """Letters of the variants whose weights are in the package, the smallest first."""
    return [letter for letter in VARIANTS if (ZOO / f"ultratinyod_{letter.lower()}.safetensors").exists()]


def checkpoint_path(variant: str) -> Path:
    """The shipped weights of a variant. Raises ``ModelError`` if the package has none."""
    path = ZOO / f"ultratinyod_{variant.lower()}.safetensors"
    if not path.exists():
        have = ", ".join(shipped_variants()) or "none"
        run = f"runs/{variant.lower()}"
        raise ModelError(
            f"no weights of variant {variant} are shipped (shipped: {have})",
            hint=f"train it: python -m uhd.host train --variant {variant} --images photos/train --val photos/val "
            f"--output {run}, then pass --checkpoint {run}/best.safetensors",
        )
    return path


def shipped_espdl(variant: str, target: str, preset: str) -> ShippedEspdl | None:
    """The shipped .espdl of a variant for a quantization target and preset ("speed", "precision"), or None."""
    path = ZOO / f"ultratinyod_{variant.lower()}_{target}_{preset.lower()}.espdl"
    if not path.exists():
        return None
    return ShippedEspdl(path, load_manifest(path.with_suffix(".json")))
