"""Attributes of objects: further classes of a box, learnt where the box is learnt.

In a label file an attribute is a line of its own, with the box of the object it belongs to (``2 .5 .5 .2 .4``: whatever
is detected there is also an adult). ``split_targets`` takes those lines apart from the objects, and ``attribute_loss``
brings each to the object whose box it overlaps most.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from uhd.train.losses.boxes import pair_iou
from uhd.train.losses.grid import Matches
from uhd.train.targets import Targets

#: Boxes of one image that overlap this much are one object, labelled several times.
SAME_OBJECT = 0.9
#: An attribute belongs to an object only from this overlap on.
BELONGS = 0.5


def split_targets(targets: Targets, class_count: int, attr_count: int) -> tuple[Targets, Targets | None]:
    """Objects, and attributes with labels from 0 (None without attribute classes).

    Labels 0 .. class_count - 1 are classes that are detected, the next ``attr_count`` attributes; others are dropped.
    Without classes (``class_count`` 0) every target is an object of the only class, 0.
    """
    if class_count == 0:
        return Targets(targets.image, torch.zeros_like(targets.label), targets.boxes), None
    objects = _where(targets, (targets.label >= 0) & (targets.label < class_count), 0)
    if attr_count == 0:
        return objects, None
    last = class_count + attr_count
    return objects, _where(targets, (targets.label >= class_count) & (targets.label < last), class_count)


def _where(targets: Targets, chosen: Tensor, first: int) -> Targets:
    return Targets(targets.image[chosen], targets.label[chosen] - first, targets.boxes[chosen])


def coinciding(targets: Targets) -> Tensor:
    """Whether two targets label one and the same object, [T,T] bool: same image, nearly the same box."""
    iou = pair_iou(targets.boxes[:, None], targets.boxes[None])
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.boxes.device)
    return itself | ((iou >= SAME_OBJECT) & (targets.image[:, None] == targets.image[None]))


@torch.no_grad()
def attributes_of(targets: Targets, attributes: Targets, count: int) -> Tensor:
    """Which of ``count`` attributes each object has, [T,count] in {0,1}.

    An attribute goes to the object of its image that its box overlaps most, if the overlap is at least ``BELONGS``;
    objects with the same box get it all.
    """
    if not len(targets) or not len(attributes):
        return targets.boxes.new_zeros(len(targets), count)
    iou = pair_iou(attributes.boxes[:, None], targets.boxes[None])
    iou = torch.where(attributes.image[:, None] == targets.image[None], iou, -1.0)
    best = iou.amax(1, keepdim=True)
    belongs = (iou == best) & (best >= BELONGS)
    kind = functional.one_hot(attributes.label, count).to(iou.dtype)
    return (belongs.to(iou.dtype).t() @ kind).clamp(max=1)


def attribute_loss(
    logits: Tensor, row: Tensor, target: Tensor, keep: Tensor, targets: Targets, attributes: Targets
) -> Tensor:
    """Binary cross entropy of all attributes, mean over the positives whose object has at least one.

    ``logits`` [rows,n]; ``row``, ``target`` and ``keep`` [S] are the positives of the detection loss. An object without
    any attribute teaches none: nobody has labelled it.
    """
    truth = attributes_of(targets, attributes, logits.shape[1]).index_select(0, target)
    known = keep & truth.bool().any(1)
    at = logits.index_select(0, row)
    entropy = functional.binary_cross_entropy_with_logits(at, truth, reduction="none").sum(1)
    return (entropy * known).sum() / known.sum().clamp(min=1)


def attribute_loss_reference(logits: Tensor, found: Matches, attributes: Targets) -> Tensor:
    """The reference's: attributes go to the cell and anchor of their own box, whoever learns a box there."""
    row = found.row[:, 0]
    truth = torch.zeros_like(logits).index_put_((row, attributes.label), torch.ones_like(row, dtype=logits.dtype))
    keep = found.keep[:, 0]
    entropy = functional.binary_cross_entropy_with_logits(logits[row], truth[row], reduction="none").sum(1)
    return (entropy * keep).sum() / keep.sum().clamp(min=1)
