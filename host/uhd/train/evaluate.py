"""mAP of a model over a photo store, each photo seen as the device sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uhd.detect.coco import GroundTruth, MapResult, evaluate
from uhd.detect.heads import decode_head, suppression_iou
from uhd.detect.nms import Rows, detections
from uhd.train.augment.config import AugmentConfig
from uhd.train.batches import EvaluationBatch, evaluation_batch
from uhd.train.config import TrainConfig
from uhd.train.distributed import Team
from uhd.train.photos import PhotoStore

#: Suppression and limit of the COCO protocol as used here; every score counts.
NMS_IOU = 0.5
TOP_K = 100

#: Photos that are evaluated at a time.
BATCH = 96

Found = tuple[MapResult, list[Rows], list[GroundTruth]]
"""mAP, detections and boxes of all photos, in order."""


def decoded(model: Any, images: Tensor, topk: int | None = None) -> tuple[Tensor, Tensor]:
    """Scores [B,N,C] in 0..1 and boxes [B,N,4] of the model's candidates, float32; ``images`` [B,C,H,W].

    ``topk``: how many a centre-point head gives, None: all.
    """
    config = model.config
    maps = model.maps(images, config.maps_for(config.resolved_score_mode))
    return decode_head(
        config.head,
        {name: part.float() for name, part in maps.items()},
        anchors=getattr(model, "anchors", ()),
        wh_scale=getattr(model, "wh_scale", ()),
        score_mode=config.resolved_score_mode,
        quality_power=config.quality_power,
        topk=topk,
    )


@torch.no_grad()
def detect_batch(model: Any, images: Tensor, topk: int | None = None) -> list[Rows]:
    """Detections of each image, down to any score: [n,6] rows score, class, cx, cy, w, h; at most ``TOP_K``.

    ``topk``: candidates of a centre-point head, None: all.
    """
    scores, boxes = decoded(model, images, topk)
    return detections(scores, boxes, iou_threshold=suppression_iou(model.config.head, NMS_IOU), top_k=TOP_K)


def detect_photos(
    model: Any, store: PhotoStore, resize_mode: str, side: int | tuple[int, int], *, batch: int = BATCH
) -> list[Rows]:
    """Detections of every photo, in order. The model is put into evaluation mode and left there."""
    model.eval()
    size = (side, side) if isinstance(side, int) else side
    rows: list[Rows] = []
    for photos in torch.split(torch.arange(len(store)), batch):
        rows += detect_batch(model, evaluation_batch(store, photos, resize_mode, size, AugmentConfig()).images)
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


class Validation:
    """The photos of a store as the configuration evaluates them: whole, or through ``val_aug_config``.

    What an augmentation shows of a photo is the same in every evaluation.
    """

    def __init__(self, store: PhotoStore, config: TrainConfig) -> None:
        """Raises ``ConfigError`` for a ``val_aug_config`` that cannot be read."""
        self.store, self.config = store, config
        self.augment = AugmentConfig.load(config.val_aug_config) if config.val_aug_config else AugmentConfig()

    def __len__(self) -> int:
        return len(self.store)

    def batch(self, photos: Tensor) -> EvaluationBatch:
        """What the network sees of ``photos`` [B], and the boxes in it."""
        config = self.config
        return evaluation_batch(
            self.store, photos, config.resize_mode, config.input_size, self.augment, seed=config.seed
        )

    def detect(self, model: Any, photos: Tensor) -> list[tuple[Rows, GroundTruth]]:
        """Detections of ``photos`` and what is there. The model is put into evaluation mode and left there."""
        model.eval()
        pairs: list[tuple[Rows, GroundTruth]] = []
        for part in torch.split(photos, BATCH):
            batch = self.batch(part)
            rows = detect_batch(model, batch.images, self.config.topk)
            pairs += zip(rows, self._truth(part, batch), strict=True)
        return pairs

    def _truth(self, photos: Tensor, batch: EvaluationBatch) -> list[GroundTruth]:
        if not self.config.val_aug_config:
            sizes = self.store.sizes[photos].tolist()
            return [
                ((h, w), self._objects(self.store.truth(i))) for (h, w), i in zip(sizes, photos.tolist(), strict=True)
            ]
        targets = batch.targets.to("cpu")
        table = torch.cat([targets.label[:, None].float(), targets.boxes.float()], 1).numpy()
        image = targets.image.numpy()
        return [((h, w), self._objects(table[image == i])) for i, (h, w) in enumerate(batch.sizes.tolist())]

    def _objects(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rows of classes that are detected; those after them are attributes."""
        return rows[rows[:, 0] < len(self.config.det_ids)]

    def run(self, model: Any, team: Team) -> Found:
        """mAP, detections and boxes of all photos, which the processes share out; the same on each of them."""
        mine = self.detect(model, torch.arange(team.rank, len(self), team.size))
        parts = team.gather_objects(mine)
        pairs = [parts[i % team.size][i // team.size] for i in range(len(self))]
        rows, truth = [found for found, _ in pairs], [there for _, there in pairs]
        result = team.share(evaluate(truth, rows) if team.leads else None)
        assert result is not None
        return result, rows, truth


def figures(result: MapResult, config: TrainConfig) -> dict[str, float]:
    """The figures of a row of metrics: mAP, per class where there are several, and all of COCO's with ``coco_eval``."""
    found = {"map50": result.map50, "map50_95": result.map50_95}
    if config.coco_eval:
        scalars = {name: value for name, value in vars(result).items() if isinstance(value, float)}
        found |= {f"coco_{name}": value for name, value in scalars.items() if name not in found}
    if len(result.per_class) > 1 or config.coco_per_class:
        found |= {f"ap50_class{part.class_id}": part.ap50 for part in result.per_class}
    if config.coco_per_class:
        found |= {f"coco_ap_class{part.class_id}": part.ap50_95 for part in result.per_class}
    return found
