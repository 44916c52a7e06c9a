"""What is traced where the file decodes by itself: boxes and scores, or the best of them as rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uhd.export.record import ROWS, MultiLabel
from uhd.models.detector import Detector


@dataclass(frozen=True)
class Decoded:
    """All candidates [B,A,h,w]. ``base``: product of objectness and quality, None where neither counts; ``cls``,
    ``attr`` [B,A,h,w,n]: probabilities of classes and attributes, None where there are none."""

    cx: Tensor
    cy: Tensor
    bw: Tensor
    bh: Tensor
    base: Tensor | None
    cls: Tensor | None
    attr: Tensor | None


class Decoder(nn.Module):
    """An anchor head's candidates, by the operators of published files in their order."""

    def __init__(self, model: Detector, *, attributes: bool = False, expand: bool = False) -> None:
        super().__init__()
        self.model = model
        self.names = list(model.config.maps_for())
        self.expand = expand
        if attributes and "attr" in model.config.map_names:
            self.names.append("attr")

    def decode(self, x: Tensor) -> Decoded:
        """The candidates of images [B,C,H,W]."""
        maps = self.model.maps(x, self.names)
        b, _, h, w = maps["box"].shape
        a = self.model.anchors.shape[0]
        box = maps["box"].view(b, a, 4, h, w).permute(0, 1, 3, 4, 2)
        tx, ty, tw, th = box[..., 0], box[..., 1], box[..., 2], box[..., 3]
        factors = base_factors(maps, (b, a, h, w))
        cls, attr = (
            maps[name].view(b, a, -1, h, w).permute(0, 1, 3, 4, 2).sigmoid() if name in maps else None
            for name in ("cls", "attr")
        )
        gx, gy = self._grid(h, w)
        cx = (tx.sigmoid() + gx.to(x.dtype)) / float(w)
        cy = (ty.sigmoid() + gy.to(x.dtype)) / float(h)
        size = anchor_sizes(self.model)
        bw = size[:, 0].view(1, a, 1, 1) * softplus(tw)
        bh = size[:, 1].view(1, a, 1, 1) * softplus(th)
        return Decoded(cx, cy, bw, bh, base_score(self.model, factors), cls, attr)

    def _grid(self, h: int, w: int) -> tuple[Tensor, Tensor]:
        """Column and row of every cell [1,1,h,w]. The two ways differ in how many operators come to have a number."""
        if self.expand:
            gx, gy = torch.arange(w).view(1, 1, 1, w), torch.arange(h).view(1, 1, h, 1)
            return gx.expand(1, 1, h, w), gy.expand(1, 1, h, w)
        gy, gx = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        return gx.view(1, 1, h, w), gy.view(1, 1, h, w)


class Primitive(Decoder):
    """Outputs boxes and scores of all cells, without sorting, selecting, stacking: ``cx``, ``cy``, ``bw``, ``bh``,
    ``score`` [B,A,h,w]; ``cls_scores``, ``attr_scores`` [B,A,h,w,n]. A detection's score is ``score * cls_scores``."""

    def __init__(self, model: Detector) -> None:
        super().__init__(model, attributes=True, expand=True)

    @property
    def output_names(self) -> list[str]:
        optional = [f"{name}_scores" for name in ("cls", "attr") if name in self.names]
        return ["cx", "cy", "bw", "bh", "score", *optional]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        d = self.decode(x)
        base = torch.ones_like(d.cx) if d.base is None else d.base
        return (d.cx, d.cy, d.bw, d.bh, base, *(part for part in (d.cls, d.attr) if part is not None))


class Post(Decoder):
    """Outputs rows, see ``ROWS``: the ``top_k`` cells with the highest score; no suppression, no clipping.

    Scores below ``conf`` are 0. With ``multi_label`` a cell may give a row for each class, and for each attribute,
    which are numbered behind the classes.
    """

    output_names = [ROWS]

    def __init__(self, model: Detector, top_k: int, *, conf: float = 0.0, multi_label: MultiLabel = "none") -> None:
        super().__init__(model, attributes=multi_label == "separate")
        self.top_k, self.conf = top_k, conf
        self.several = multi_label != "none"

    def forward(self, x: Tensor) -> Tensor:
        d = self.decode(x)
        columns = (d.cx, d.cy, d.bw, d.bh)
        b = d.cx.shape[0]
        parts = [part for part in (d.cls, d.attr) if part is not None]
        if d.base is not None:
            parts = [d.base.unsqueeze(-1) * part for part in parts]
        label: Tensor | None
        if self.several:
            scores = cut(torch.cat(parts, -1) if len(parts) > 1 else parts[0], self.conf)
            best, place = torch.topk(scores.reshape(b, -1), min(self.top_k, scores[0].numel()), 1)
            label, cell = place % scores.shape[-1], place // scores.shape[-1]
        else:
            score, labels = _best_class(cut(parts[0], self.conf)) if parts else (self._classless(d.base), None)
            best, cell = torch.topk(score, min(self.top_k, score.shape[1]), 1)
            label = None if labels is None else torch.gather(labels, 1, cell)
        gathered = [torch.gather(value.reshape(b, -1), 1, cell) for value in columns]
        shown = torch.zeros_like(best) if label is None else label.to(x.dtype)
        return torch.stack((best, shown, *gathered), -1)

    def _classless(self, base: Tensor | None) -> Tensor:
        assert base is not None, "a score mode names at least one map"
        return cut(base.reshape(base.shape[0], -1), self.conf)


def anchor_sizes(model: Detector) -> Tensor:
    """[A,2] what the heads' sizes are multiplied with; factors that are not learnt are ones, which graphs leave out."""
    return model.anchors * model.wh_scale if isinstance(model.wh_scale, nn.Parameter) else model.anchors


def base_factors(maps: Mapping[str, Tensor], shape: tuple[int, int, int, int]) -> dict[str, Tensor]:
    """Probabilities [B,A,h,w] of objectness and quality, as far as the score mode has them."""
    return {name: maps[name].view(shape).sigmoid() for name in ("obj", "quality") if name in maps}


def base_score(model: Detector, factors: Mapping[str, Tensor]) -> Tensor | None:
    """Their product, the quality raised to its power; None where there is neither."""
    power = model.config.quality_power
    raised = [part.pow(power) if name == "quality" and power != 1.0 else part for name, part in factors.items()]
    return math.prod(raised[1:], start=raised[0]) if raised else None


def cut(scores: Tensor, conf: float) -> Tensor:
    """Scores below ``conf`` as 0."""
    return torch.where(scores >= conf, scores, torch.zeros_like(scores)) if conf > 0 else scores


def softplus(x: Tensor) -> Tensor:
    """log(1+exp(x)), written so that it neither overflows nor needs an operator that runtimes lack."""
    positive = torch.relu(x)
    magnitude = positive + torch.relu(-x)
    return positive + torch.log(1.0 + torch.exp(-magnitude))


def _best_class(score: Tensor) -> tuple[Tensor, Tensor]:
    """Score and best class [B,N] of every cell, N = A*h*w, of scores [B,A,h,w,n]."""
    # One class: no maximum to take, and one node less in the file.
    best = score if score.shape[-1] == 1 else score.amax(-1)
    label = score.argmax(-1)
    return best.reshape(best.shape[0], -1), label.reshape(label.shape[0], -1)
