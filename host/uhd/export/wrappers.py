"""What is traced: an UltraTinyOD with the outputs of one ONNX flavour.

The model's own ``forward`` is not called. Calling the backbone and then methods of the head keeps ``/model`` and
``/head`` out of the node names, which published int16 operator patterns rely on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uhd.models.ultratinyod import UltraTinyOD


class Parts(nn.Module):
    """Outputs each needed map [1,C,h,w] by itself, then ``anchors`` and ``wh_scale`` [A,2]."""

    def __init__(self, model: UltraTinyOD) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self.names = list(config.maps_for())
        self.attr = "attr" in config.map_names

    @property
    def output_names(self) -> list[str]:
        return [*self.names, *(["attr"] if self.attr else []), "anchors", "wh_scale"]

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The maps that the score mode needs, and the attribute map if there is one."""
        features = self.model.backbone(x)
        return self.model.head.maps(features, [*self.names, "attr"] if self.attr else self.names)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (*self.maps(x).values(), self.model.anchors, self.model.wh_scale)


class Raw(Parts):
    """Outputs one map in which the channels of an anchor follow each other: tx,ty,tw,th,(obj),(quality),cls..."""

    @property
    def output_names(self) -> list[str]:
        # The suffix is part of the published name, whatever the stride.
        attr = ["attr_logits"] if self.attr else []
        return [f"txtywh_{'_'.join(self.names)}_x8", *attr, "anchors", "wh_scale"]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = self.maps(x)
        attr = [maps.pop("attr")] if self.attr else []
        b, _, h, w = maps["box"].shape
        a = self.model.anchors.shape[0]
        per_anchor = [part.view(b, a, part.shape[1] // a, h, w) for part in maps.values()]
        raw = torch.cat(per_anchor, 2).reshape(b, -1, h, w)
        return (raw, *attr, self.model.anchors, self.model.wh_scale)


class Post(nn.Module):
    """Outputs rows [score, class, cx, cy, w, h], best first: the ``top_k`` cells with the highest score.

    Boxes are fractions of the input. No suppression, no threshold, no clipping.
    """

    output_names = ["score_classid_cxcywh"]

    def __init__(self, model: UltraTinyOD, top_k: int) -> None:
        super().__init__()
        self.model = model
        self.top_k = top_k
        self.names = list(model.config.maps_for())

    def forward(self, x: Tensor) -> Tensor:
        maps = self.model.head.maps(self.model.backbone(x), self.names)
        b, _, h, w = maps["box"].shape
        a = self.model.anchors.shape[0]
        box = maps["box"].view(b, a, 4, h, w).permute(0, 1, 3, 4, 2)
        tx, ty, tw, th = box[..., 0], box[..., 1], box[..., 2], box[..., 3]
        base = self._base_score(maps, (b, a, h, w))
        cls = None
        if "cls" in maps:
            cls = maps["cls"].view(b, a, -1, h, w).permute(0, 1, 3, 4, 2).sigmoid()
        gy, gx = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        cx = (tx.sigmoid() + gx.view(1, 1, h, w).to(x.dtype)) / float(w)
        cy = (ty.sigmoid() + gy.view(1, 1, h, w).to(x.dtype)) / float(h)
        # Without the improved head the factors are a buffer of ones, which published graphs leave out.
        size = self.model.anchors * self.model.wh_scale if self.model.config.improved_head else self.model.anchors
        bw = size[:, 0].view(1, a, 1, 1) * softplus(tw)
        bh = size[:, 1].view(1, a, 1, 1) * softplus(th)
        score, label = _best_class(base, cls)
        best, cell = torch.topk(score, min(self.top_k, score.shape[1]), 1)
        columns = [torch.gather(value.reshape(b, -1), 1, cell) for value in (cx, cy, bw, bh)]
        label = torch.zeros_like(best) if label is None else torch.gather(label, 1, cell).to(x.dtype)
        return torch.stack((best, label, *columns), -1)

    def _base_score(self, maps: dict[str, Tensor], shape: tuple[int, int, int, int]) -> Tensor | None:
        """Product of objectness and quality, as far as the score mode has them: [1,A,h,w]."""
        factors = [maps[name].view(shape).sigmoid() for name in ("obj", "quality") if name in maps]
        power = self.model.config.quality_power
        if "quality" in maps and power != 1.0:
            factors[-1] = factors[-1].pow(power)
        if not factors:
            return None
        return factors[0] if len(factors) == 1 else factors[0] * factors[1]


def softplus(x: Tensor) -> Tensor:
    """log(1+exp(x)), written so that it neither overflows nor needs an operator that runtimes lack."""
    positive = torch.relu(x)
    magnitude = positive + torch.relu(-x)
    return positive + torch.log(1.0 + torch.exp(-magnitude))


def _best_class(base: Tensor | None, cls: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Score [1,N] of every cell, N = A*h*w, with its best class [1,N], or None when there are no classes."""
    if cls is None:
        assert base is not None
        return base.reshape(base.shape[0], -1), None
    score = cls if base is None else base.unsqueeze(-1) * cls
    # One class: no maximum to take, and one node less in the file.
    best = score if score.shape[-1] == 1 else score.amax(-1)
    label = score.argmax(-1)
    return best.reshape(best.shape[0], -1), label.reshape(label.shape[0], -1)
