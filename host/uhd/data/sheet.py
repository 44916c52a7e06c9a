"""Labelled pictures on one sheet, to look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from uhd.data.yolo import Sample
from uhd.errors import DataError
from uhd.image.draw import contact_sheet, draw_labels
from uhd.image.files import read_rgb
from uhd.image.resize import resize_image


def sheet_of(
    samples: Sequence[Sample], *, size: tuple[int, int] | None = None, columns: int = 6, cell: int = 256
) -> NDArray[np.uint8]:
    """Pictures with their boxes, BGR uint8. ``size`` (height, width) shows them as the network's nearest sampling does.

    Raises ``DataError`` without samples, and for a picture that cannot be read.
    """
    if not samples:
        raise DataError("no pictures to show")
    pictures = []
    for sample in samples:
        rgb = read_rgb(sample.image)
        if size is not None:
            rgb = np.asarray((resize_image(rgb, size, "opencv_inter_nearest") * 255).round(), dtype=np.uint8)
        pictures.append(draw_labels(rgb[..., ::-1], sample.boxes))
    return contact_sheet(pictures, columns=columns, cell=cell)
