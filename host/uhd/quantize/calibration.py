"""Pictures for calibration: what the network will see, as it will see it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from uhd.data.yolo import find_images, load_split
from uhd.errors import ConfigError, DataError
from uhd.image.files import read_rgb
from uhd.image.resize import resize_image
from uhd.manifest import ModelManifest

#: Suffixes of what counts as a photo, in lower case.
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})

DEFAULT_COUNT = 256
_SPLIT_SEED = 42


@dataclass(frozen=True)
class Calibration:
    """``array``: float32 [N, C, H, W], network inputs in 0..1. ``description`` says in words what they are."""

    array: NDArray[np.float32]
    description: str

    @property
    def sha256(self) -> str:
        """Hash of the array's bytes."""
        return array_sha256(self.array)


def array_sha256(array: NDArray[np.float32]) -> str:
    """Lower-case hexadecimal SHA-256 of the values, little-endian float32 in C order."""
    return hashlib.sha256(np.ascontiguousarray(array, dtype="<f4").tobytes()).hexdigest()


def list_photos(folder: Path) -> list[Path]:
    """The photos directly in ``folder``, by name. Raises ``DataError`` if it is no folder or holds none."""
    if not folder.is_dir():
        what = "not a folder" if folder.exists() else "no such folder"
        raise DataError(f"{folder}: {what}", hint="give a folder of photos")
    photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not photos:
        raise DataError(f"{folder}: no photos directly in it", hint=f"give a folder with {', '.join(sorted(SUFFIXES))}")
    return photos


def chosen_photos(
    folder: Path,
    *,
    list_path: Path | None = None,
    labelled: bool = False,
    class_ids: Sequence[int] = (0,),
    split: Literal["train", "val", "all"] = "all",
    val_split: float = 0.0,
) -> list[Path]:
    """The photos of ``folder``, or those that the list file ``list_path`` names, with paths relative to ``folder``.

    ``labelled``: only those with an object of ``class_ids`` in their YOLO labels; of these, in an order that is always
    the same, the first ``1 - val_split`` are ``train`` and the rest ``val``. Raises ``DataError`` where none is left.
    """
    if not labelled:
        return list_photos(folder) if list_path is None else list(find_images(list_path, folder))
    samples = load_split(list_path or folder, folder if list_path else None, tuple(class_ids), problems=[])
    photos = [sample.image for sample in samples if len(sample.boxes)]
    if split != "all":
        random.Random(_SPLIT_SEED).shuffle(photos)
        first = round(len(photos) * (1 - val_split))
        photos = sorted(photos[:first] if split == "train" else photos[first:])
    if not photos:
        raise DataError(
            f"{list_path or folder}: no labelled photos to calibrate on", hint="see --split and --class-ids"
        )
    return photos


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` indices below ``count``, evenly spread and in order."""
    if wanted >= count:
        return list(range(count))
    return [(2 * index + 1) * count // (2 * wanted) for index in range(wanted)]


def from_photos(
    folder: Path,
    manifest: ModelManifest,
    count: int = DEFAULT_COUNT,
    progress: Callable[[str, int, int], None] | None = None,
    *,
    photos: Sequence[Path] | None = None,
) -> Calibration:
    """Network inputs from photos, resized and coloured as ``manifest`` says.

    ``count`` photos are taken evenly from the folder in the order of their names, or from ``photos`` as they come, so
    equal folders give equal arrays.
    Raises ``DataError`` for a folder without photos or a photo that cannot be read, ``ConfigError`` for a count
    below 1.
    """
    if count < 1:
        raise ConfigError(f"{count} calibration photos", hint="take at least 1; 100 to 500 are usual")
    photos = list_photos(folder) if photos is None else photos
    chosen = [photos[index] for index in spread(len(photos), count)]
    pictures = []
    for index, path in enumerate(chosen):
        pictures.append(network_input(read_rgb(path), manifest))
        if progress is not None:
            progress("photos", index + 1, len(chosen))
    noun = "photo" if len(chosen) == 1 else "photos"
    return Calibration(np.stack(pictures), f"{len(chosen)} {noun} of {folder.resolve().name}")


def from_scenes(manifest: ModelManifest, count: int = DEFAULT_COUNT) -> Calibration:
    """Network inputs from generated scenes, for where there are no photos; the description says so."""
    from uhd.data.synthetic import make_scene

    if count < 1:
        raise ConfigError(f"{count} calibration scenes", hint="take at least 1")
    size = (4 * manifest.input_height, 4 * manifest.input_width)
    scenes = [network_input(make_scene(seed, size=size)[0], manifest) for seed in range(count)]
    return Calibration(np.stack(scenes), f"{count} generated scenes")


def network_input(rgb: NDArray[np.uint8], manifest: ModelManifest) -> NDArray[np.float32]:
    """One picture, uint8 [h, w, 3], as the network's float32 [C, H, W] in 0..1."""
    size = (manifest.input_height, manifest.input_width)
    image = resize_image(rgb, size, manifest.resize_mode)
    return np.ascontiguousarray(np.atleast_3d(image).transpose(2, 0, 1), dtype=np.float32)


def check_array(array: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """``array`` as contiguous float32 [N, C, H, W] for a network input ``shape`` [1, C, H, W].

    Raises ``ConfigError`` if it is empty, has another shape, too many pictures for esp-ppq, or values that are not
    finite.
    """
    given = np.asarray(array)
    if given.ndim != 4 or tuple(given.shape[1:]) != tuple(shape[1:]):
        wanted = f"[N, {', '.join(map(str, shape[1:]))}]"
        raise ConfigError(f"calibration pictures have shape {list(given.shape)}", hint=f"the model wants {wanted}")
    if len(given) == 0:
        raise ConfigError("no calibration pictures", hint="give at least one; 100 to 500 are usual")
    if len(given) > 5000:
        raise ConfigError(f"{len(given)} calibration pictures", hint="esp-ppq takes at most 5000")
    if given.dtype.kind != "f" or not np.isfinite(given).all():
        raise ConfigError("calibration pictures hold values that are not finite numbers", hint="values are 0 to 1")
    return np.ascontiguousarray(given, dtype=np.float32)
