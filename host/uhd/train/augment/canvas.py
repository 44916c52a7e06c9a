"""Where the pixels of a batch come from, planned before any is read.

Each sample is a canvas of so many pixels, painted with layers: windows of photos, possibly mirrored, in front of each
other. Crops, shifts and mirrors change the windows; nothing is resampled until ``uhd.train.augment.render`` reads each
output pixel once.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from uhd.train.photos import GREY, PhotoStore
from uhd.train.targets import Targets

#: Boxes that a crop leaves with less than this part of the picture are dropped, as the reference does.
MIN_AREA = 1e-6


class Canvas:
    """The plan of ``count`` samples; pairs are (x, y), lengths float64.

    ``size`` [b,2]: pixels of each canvas. Layers, in the order of painting: ``row`` [n] the sample, ``photo`` [n],
    ``low`` and ``span`` [n,2] the window in pixels of the photo that fills the whole canvas, ``flip`` [n,2] whether it
    is mirrored, ``seen_low`` and ``seen_high`` [n,2] the part of the photo that shows, ``alpha`` [n] its opacity.
    ``background`` [b,3] 0..255 is what shows where no layer does. Boxes: ``box_row`` and ``box_label`` [T] int64,
    ``box_low`` and ``box_high`` [T,2] corners in canvas pixels.
    """

    def __init__(self, store: PhotoStore, photos: Tensor) -> None:
        """Whole photos ``photos`` [b] of the store, with all their boxes."""
        self.store, self.photos = store, photos
        self.count = len(photos)
        self.size = store.sizes[photos].flip(1).double()
        self.row = torch.arange(self.count)
        self.photo = photos
        self.low, self.span = torch.zeros_like(self.size), self.size
        self.flip = torch.zeros(self.count, 2, dtype=torch.bool)
        self.seen_low, self.seen_high = self.low, self.size
        self.alpha = torch.ones(self.count)
        self.background = torch.full((self.count, 3), float(GREY))
        self.box_row, rows = store.boxes_of(photos)
        self.box_label = store.labels[rows]
        self.box_low, self.box_high = _corners(store, rows, self.size[self.box_row])

    def crop(
        self, low: Tensor, span: Tensor, *, min_visible: float | Tensor = 0.0, min_area: float | Tensor = 0.0
    ) -> None:
        """Make the window ``low``, ``span`` [b,2] (canvas pixels; it may reach beyond) the whole canvas.

        Boxes are clipped to it. One stays if at least ``min_visible`` of its area, at least ``min_area`` of the window
        and more than nothing lies in the window; both may differ by sample [b].
        """
        scale = self.span / self.size[self.row]
        low_of, span_of = low[self.row], span[self.row]
        near = torch.where(self.flip, self.size[self.row] - low_of - span_of, low_of)
        self.low, self.span = self.low + near * scale, span_of * scale
        self.seen_low = torch.maximum(self.seen_low, self.low)
        self.seen_high = torch.minimum(self.seen_high, self.low + self.span)
        self.size = span
        low_of, span_of = low[self.box_row], span[self.box_row]
        box_low, box_high = self.box_low - low_of, self.box_high - low_of
        area = (box_high - box_low).prod(1)
        self.box_low = torch.minimum(box_low.clamp(min=0), span_of)
        self.box_high = torch.minimum(box_high.clamp(min=0), span_of)
        seen = (self.box_high - self.box_low).prod(1)
        least = torch.maximum(_of(min_visible, self.box_row) * area, _of(min_area, self.box_row) * span_of.prod(1))
        self.keep_boxes((seen > 0) & (seen >= least))

    def mirror(self, chosen: Tensor, axis: int, swap: Mapping[int, int]) -> None:
        """Mirror the samples ``chosen`` [b] bool along x (``axis`` 0) or y (1); ``swap`` renames their labels."""
        self.flip = self.flip.clone()
        self.flip[:, axis] ^= chosen[self.row]
        side, turned = self.size[self.box_row, axis], chosen[self.box_row]
        low, high = self.box_low[:, axis], self.box_high[:, axis]
        self.box_low, self.box_high = self.box_low.clone(), self.box_high.clone()
        self.box_low[:, axis] = torch.where(turned, side - high, low)
        self.box_high[:, axis] = torch.where(turned, side - low, high)
        label = self.box_label.clone()
        for old, new in swap.items():
            label[turned & (self.box_label == old)] = new
        self.box_label = label

    def rescale(self, width: int, height: int) -> None:
        """Count the canvas in other pixels; what it shows stays the same."""
        size = torch.tensor([width, height], dtype=torch.float64).expand(self.count, 2)
        factor = (size / self.size)[self.box_row]
        self.box_low, self.box_high, self.size = self.box_low * factor, self.box_high * factor, size

    def paint(self, rows: Tensor, photos: Tensor, low: Tensor, alpha: float = 1.0, *, min_visible: float = 0.0) -> None:
        """Paint photos ``photos`` [m], stretched to the size of the canvas, and their boxes over samples ``rows`` [m].

        ``low`` [m,2]: pixel of the photo at the canvas' corner. Boxes are clipped; hardly visible ones are dropped.
        """
        extent = self.store.sizes[photos].flip(1).double()
        self.add_layers(rows, photos, low, extent, torch.zeros_like(extent), extent, alpha)
        place, found = self.store.boxes_of(photos)
        near, far = _corners(self.store, found, extent[place])
        scale = (self.size[rows] / extent)[place]
        near, far = (near - low[place]) * scale, (far - low[place]) * scale
        self.add_boxes(rows[place], self.store.labels[found], near, far, min_visible)

    def add_layers(
        self, rows: Tensor, photos: Tensor, low: Tensor, span: Tensor, seen_low: Tensor, seen_high: Tensor,
        alpha: float = 1.0,
    ) -> None:  # fmt: skip
        """Put layers in front; all [m] or [m,2]. What would fall outside the canvas is never seen."""
        self.row, self.photo = torch.cat([self.row, rows]), torch.cat([self.photo, photos])
        self.low, self.span = torch.cat([self.low, low]), torch.cat([self.span, span])
        self.seen_low = torch.cat([self.seen_low, torch.maximum(seen_low, low)])
        self.seen_high = torch.cat([self.seen_high, torch.minimum(seen_high, low + span)])
        self.flip = torch.cat([self.flip, torch.zeros(len(rows), 2, dtype=torch.bool)])
        self.alpha = torch.cat([self.alpha, torch.full((len(rows),), alpha)])

    def add_boxes(self, rows: Tensor, labels: Tensor, low: Tensor, high: Tensor, min_visible: float = 0.0) -> None:
        """Add boxes (corners in canvas pixels), clipped to the canvas; what is hardly seen is dropped."""
        size = self.size[rows]
        area = (high - low).prod(1)
        low, high = torch.minimum(low.clamp(min=0), size), torch.minimum(high.clamp(min=0), size)
        seen = (high - low).prod(1)
        keep = (seen > 0) & (seen >= MIN_AREA * size.prod(1)) & (seen >= min_visible * area)
        self.box_row, self.box_label = torch.cat([self.box_row, rows[keep]]), torch.cat([self.box_label, labels[keep]])
        self.box_low, self.box_high = torch.cat([self.box_low, low[keep]]), torch.cat([self.box_high, high[keep]])

    def keep_boxes(self, keep: Tensor) -> None:
        """Drop the boxes that are not in ``keep`` [T] bool."""
        if not bool(keep.all()):
            self.box_row, self.box_label = self.box_row[keep], self.box_label[keep]
            self.box_low, self.box_high = self.box_low[keep], self.box_high[keep]

    @property
    def shown(self) -> Tensor:
        """Height and width [b,2] of the part of its photo that each sample's lowest layer spreads over the canvas."""
        return self.span[: self.count].flip(1)

    def box_areas(self) -> Tensor:
        """Area of every box as a part of its canvas, [T]."""
        return ((self.box_high - self.box_low) / self.size[self.box_row]).prod(1)

    def targets(self) -> Targets:
        """The boxes, normalised to the canvas, by sample. None is empty or reaches beyond the canvas."""
        size = self.size[self.box_row]
        low, high = (self.box_low / size).clamp(0, 1), (self.box_high / size).clamp(0, 1)
        boxes = torch.cat([(low + high) / 2, high - low], 1).float()
        keep = torch.nonzero((boxes[:, 2:] > 0).all(1))[:, 0]
        order = keep[torch.argsort(self.box_row[keep], stable=True)]
        return Targets(self.box_row[order], self.box_label[order], boxes[order])


def _of(value: float | Tensor, rows: Tensor) -> Tensor:
    return value[rows] if isinstance(value, Tensor) else torch.full((len(rows),), value, dtype=torch.float64)


def _corners(store: PhotoStore, rows: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Corners of boxes ``rows`` [T] of the store in pixels of their photos, whose ``size`` [T,2] is given."""
    box = store.boxes[rows].double()
    centre, half = box[:, :2] * size, box[:, 2:] * size / 2
    return centre - half, centre + half
