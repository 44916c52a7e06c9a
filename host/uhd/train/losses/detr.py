"""Loss of the query head (DETR, arXiv 2005.12872): each object is matched with one query, the rest learn background."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from uhd.train.losses.boxes import pair_giou, pair_iou
from uhd.train.losses.matching import greedy, hungarian
from uhd.train.losses.parts import LossMode, LossParts, combine
from uhd.train.targets import Targets

_L1, _IOU = 5.0, 2.0

#: Weight of the background class, of which most queries are examples.
_BACKGROUND = 0.1


@torch.no_grad()
def match_queries(logits: Tensor, boxes: Tensor, targets: Targets, mode: LossMode = "default") -> tuple[Tensor, Tensor]:
    """Object and query of each match, [M] int64. An image with more objects than queries matches as many as it can.

    ``default``: the cheapest matching by 5 L1 + 2 (1 - GIoU) - probability of the object's class. ``reference``: the
    cheapest pair first, by 5 L1 + 2 (1 - IoU).
    """
    predicted, truth = boxes[targets.image], targets.boxes[:, None]
    cost = _L1 * (predicted - truth).abs().sum(-1)
    if mode == "reference":
        cost = cost + _IOU * (1 - pair_iou(predicted, truth))
    else:
        probability = logits.softmax(-1)[targets.image]
        chance = probability.gather(2, targets.label[:, None, None].expand(-1, boxes.shape[1], 1))[:, :, 0]
        cost = cost + _IOU * (1 - pair_giou(predicted, truth)) - chance
    table = cost.double().cpu().numpy()
    order = targets.image.cpu().numpy()
    objects, queries = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for image in np.unique(order):
        mine = np.flatnonzero(order == image)
        rows, columns = (greedy if mode == "reference" else hungarian)(table[mine])
        objects.append(mine[rows])
        queries.append(columns)
    pair = [torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(boxes.device) for parts in (objects, queries)]
    return pair[0], pair[1]


def detr_loss(maps: Mapping[str, Tensor], targets: Targets, mode: LossMode = "default") -> LossParts:
    """``logits`` [B,Q,C+1], the last class being background, ``boxes`` [B,Q,4] in 0..1; labels below C.

    Parts: ``cls`` (cross entropy), ``l1`` and ``iou``, means over the matches; the total is cls + 5 l1 + 2 iou.
    ``default``: background weighs 0.1, ``l1`` sums the four coordinates as the matching does and ``iou`` is 1 - GIoU,
    which moves boxes that do not touch. ``reference``: no weights, ``l1`` is the mean of the four, ``iou`` 1 - IoU.
    """
    logits, boxes = maps["logits"].float(), maps["boxes"].float()
    batch, queries, classes = logits.shape
    objects, query = match_queries(logits.detach(), boxes.detach(), targets, mode)
    image = targets.image[objects]
    wanted = torch.full((batch, queries), classes - 1, device=logits.device)
    wanted[image, query] = targets.label[objects]
    count = max(len(objects), 1)
    chosen, truth = boxes[image, query], targets.boxes[objects]
    distance = (chosen - truth).abs()
    if mode == "reference":
        cls = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        l1, apart = distance.mean(1).sum() / count, (1 - pair_iou(chosen, truth)).sum() / count
    else:
        weight = torch.ones(classes, device=logits.device)
        weight[-1] = _BACKGROUND
        cls = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), weight)
        l1, apart = distance.sum() / count, (1 - pair_giou(chosen, truth)).sum() / count
    return combine({"cls": (1.0, cls), "l1": (_L1, l1), "iou": (_IOU, apart)})
