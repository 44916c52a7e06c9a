"""Which model a device runs: the manifest that goes with the hash it reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uhd.device.results import DeviceInfo
from uhd.errors import ConfigError, ModelError
from uhd.manifest import ModelManifest, ResizeMode, load_manifest
from uhd.paths import ZOO, build_root

#: How photos become network inputs of so many channels, unless a manifest says otherwise.
_MODES: dict[int, ResizeMode] = {
    1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422", 3: "opencv_inter_nearest",
}  # fmt: skip

#: Manifests of the build folder that are looked at, at most.
_MOST = 500


def _candidates() -> Iterator[Path]:
    yield from sorted(ZOO.glob("*.json"))
    root = build_root()
    if root.is_dir():
        newest = sorted(root.glob("*/*.json"), key=lambda p: p.stat().st_mtime, reverse=True)
        yield from sorted(root.glob("*/uhd_model/manifest.json"))
        yield from newest[:_MOST]


def find_manifest(model_hash: str) -> ModelManifest | None:
    """The manifest of the .espdl with this SHA-256, from the package or the build folder; None where it is unknown."""
    needle = model_hash.encode()
    for path in _candidates():
        try:
            if path.stat().st_size > 1 << 20 or needle not in path.read_bytes():
                continue
            manifest = load_manifest(path)
        except (OSError, ModelError):
            continue  # another file of the build folder, or one that is just being written
        if manifest.quantization and manifest.quantization.espdl_sha256 == model_hash:
            return manifest
    return None


def manifest_of(info: DeviceInfo) -> ModelManifest:
    """What a device's own words tell of an unknown model. Raises ``ConfigError`` if no photo fits its input."""
    _, height, width, channels = info.input.shape
    if channels not in _MODES:
        raise ConfigError(f"{info.name}: no photo fits an input of {channels} channels")
    return ModelManifest(
        name=info.name or "model", input_height=height, input_width=width, input_channels=channels,
        resize_mode=_MODES[channels], class_names=[f"class {i}" for i in range(info.class_count)],
    )  # fmt: skip
