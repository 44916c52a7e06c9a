"""mAP of a model over a photo store, each photo seen as the device sees it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from uhd.detect.coco import GroundTruth, MapResult, evaluate
from uhd.detect.decode import decode_maps
from uhd.detect.nms import Rows, detections
from uhd.models.ultratinyod import UltraTinyOD
from uhd.train.batches import plain_batch
from uhd.train.photos import PhotoStore

#: Suppression and limit of the COCO protocol as used here; every score counts.
NMS_IOU = 0.5
TOP_K = 100


@torch.no_grad()
def detect_photos(model: UltraTinyOD, store: PhotoStore, resize_mode: str, side: int, *, batch: int = 96) -> list[Rows]:
    """Detections of every photo, in order: [n,6] rows score, class, cx, cy, w, h; at most ``TOP_K``, down to any score.

    The model is put into evaluation mode and left there.
    """
    model.eval()
    mode = model.config.resolved_score_mode
    names = model.config.maps_for(mode)
    rows: list[Rows] = []
    for first in range(0, len(store), batch):
        photos = torch.arange(first, min(first + batch, len(store)))
        images = plain_batch(store, photos, resize_mode, side)
        maps = {name: part.float() for name, part in model.maps(images, names).items()}
        scores, boxes = decode_maps(maps, model.anchors, model.wh_scale, mode, model.config.quality_power)
        rows += detections(scores, boxes, iou_threshold=NMS_IOU, top_k=TOP_K)
    return rows


def ground_truth(store: PhotoStore) -> list[GroundTruth]:
    """Sizes and boxes of all photos as ``uhd.detect.coco.evaluate`` wants them."""
    sizes = store.sizes.tolist()
    return [((sizes[i][0], sizes[i][1]), store.truth(i)) for i in range(len(store))]


def map_of(store: PhotoStore, rows: Sequence[Rows], photos: Sequence[int] | None = None) -> MapResult:
    """mAP of detections ``rows`` of all photos of the store, or of some of them."""
    truth = ground_truth(store)
    chosen = range(len(store)) if photos is None else photos
    return evaluate([truth[i] for i in chosen], [rows[i] for i in chosen])
