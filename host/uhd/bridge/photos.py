"""A folder of photos, one after the other as the device gets them, with their labels."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uhd.bridge.pixels import photo_jpeg
from uhd.bridge.recording import DIGEST
from uhd.data.yolo import find_images, label_path, read_labels
from uhd.device.frames import Stimulus, check_injection, make_stimulus
from uhd.image.files import read_rgb
from uhd.manifest import ModelManifest

#: Prepared photos that are kept, for folders that go round.
_KEPT = 64


@dataclass(frozen=True)
class Shot:
    """A photo that is ready to go: what the device gets, what people see, and what is in it (None: no label file).

    ``name`` is unique; ``truth`` rows are class, cx, cy, w, h; sizes are the photo's own pixels.
    """

    name: str
    index: int
    height: int
    width: int
    truth: list[list[float]] | None
    stimulus: Stimulus
    jpeg: bytes
    digest: bytes


class PhotoFeed:
    """The pictures of a folder or list file in order. ``inject``: ``network`` or ``camera``."""

    def __init__(self, path: Path, *, inject: str = "network", loop: bool = False) -> None:
        """Raises ``DataError`` where there are none."""
        self.inject, self.loop = inject, loop
        self.paths = find_images(path)
        names = Counter(path.name for path in self.paths)
        self._names = [path.name if names[path.name] == 1 else str(path) for path in self.paths]
        self._next = 0
        self._manifest: ModelManifest | None = None
        self._shots: OrderedDict[int, Shot] = OrderedDict()

    def __len__(self) -> int:
        return len(self.paths)

    def prepare(self, manifest: ModelManifest) -> None:
        """The model that the photos are for. Raises ``ConfigError`` if they cannot be given to it that way."""
        check_injection(self.inject, manifest)
        if manifest != self._manifest:
            self._manifest = manifest
            self._shots.clear()

    def rewind(self) -> None:
        """Begin again with the first photo."""
        self._next = 0

    @property
    def ended(self) -> bool:
        """True after the last photo of a folder that does not go round."""
        return not self.loop and self._next >= len(self.paths)

    def peek(self) -> Shot:
        """The photo whose turn it is. Raises ``DataError`` for one that cannot be read."""
        index = self._next % len(self.paths)
        if index not in self._shots:
            self._shots[index] = self._make(index)
            while len(self._shots) > _KEPT:
                self._shots.popitem(last=False)
        return self._shots[index]

    def advance(self) -> None:
        """Go on to the next one."""
        self._next += 1

    def _make(self, index: int) -> Shot:
        assert self._manifest
        path = self.paths[index]
        rgb = read_rgb(path)
        labels = label_path(path)
        classes = tuple(range(len(self._manifest.class_names)))
        truth = read_labels(labels, classes).astype(np.float64).tolist() if labels.exists() else None
        jpeg = photo_jpeg(rgb)
        digest = hashlib.sha256(jpeg).digest()[:DIGEST]
        stimulus = make_stimulus(rgb, self._manifest, self.inject)
        return Shot(self._names[index], index, rgb.shape[0], rgb.shape[1], truth, stimulus, jpeg, digest)
