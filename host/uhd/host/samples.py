"""Pictures for a first look: public-domain photographs that installed libraries carry, and a generated scene.

Nothing is downloaded and no picture is part of this package.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: (package, path inside it, what it shows). Rights as the packages state them.
PHOTOGRAPHS = (
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "Grace Hopper, US Navy photograph, public domain"),
    ("skimage", "data/astronaut.png", "Eileen Collins, NASA photograph, public domain"),
    ("skimage", "data/camera.png", "photographer with tripod, CC0"),
    ("skimage", "data/rocket.jpg", "rocket launch without persons, CC0"),
)

SCENE_SEED = 7


def sample_photos() -> list[tuple[str, Path]]:
    """(description, path) of the photographs that are installed here; empty without the test extra."""
    found = []
    for package, inner, description in PHOTOGRAPHS:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            path = Path(spec.origin).parent / inner
            if path.exists():
                found.append((description, path))
    return found


def sample_scene() -> NDArray[np.uint8]:
    """The generated scene, RGB uint8 [240, 320, 3]."""
    from uhd.data.synthetic import make_scene

    picture, _ = make_scene(SCENE_SEED, (240, 320))
    return picture
