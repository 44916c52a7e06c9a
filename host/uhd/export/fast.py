"""What is traced for rows in few operators: rank the cells, then decode only the best of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from uhd.detect.heads import decode_head
from uhd.export.postprocess import anchor_sizes, base_factors, base_score, cut
from uhd.export.record import ROWS, MultiLabel
from uhd.models.detector import Detector


class Fast(nn.Module):
    """The rows of ``Post``, for every head. A DETR head's rows are its queries, a centre-point head's its cells."""

    output_names = [ROWS]

    def __init__(self, model: Detector, top_k: int, *, conf: float = 0.0, multi_label: MultiLabel = "none") -> None:
        super().__init__()
        self.model = model
        self.top_k, self.conf = top_k, conf
        self.anchored = model.config.head == "anchor"
        self.names = [*model.config.maps_for(), *(["attr"] if multi_label == "separate" else [])]
        self.several = multi_label != "none"

    def forward(self, x: Tensor) -> Tensor:
        maps = self.model.maps(x, self.names)
        if self.anchored:
            scores = self._scores(maps)
            best, label, cell = self._rank(scores)
            boxes = self._boxes(maps["box"], cell)
        else:
            scores, table = decode_head(self.model.config.head, maps)
            best, label, cell = self._rank(scores)
            boxes = _pick(table, cell)
        return torch.cat((best.unsqueeze(-1), label.to(x.dtype).unsqueeze(-1), boxes), -1)

    def _scores(self, maps: dict[str, Tensor]) -> Tensor:
        """[B,N,n] scores of an anchor head's cells by class (and attribute)."""
        b, channels, h, w = maps["box"].shape
        a = channels // 4
        base = base_score(self.model, base_factors(maps, (b, a, h, w)))
        parts = [maps[name] for name in ("cls", "attr") if name in maps]
        if not parts:
            assert base is not None, "a score mode names at least one map"
            return base.reshape(b, -1, 1)
        parts = [part if part.shape[1] == a else part.view(b, a, -1, h, w).permute(0, 1, 3, 4, 2) for part in parts]
        chances = [part.sigmoid().reshape(b, a * h * w, -1) for part in parts]
        together = torch.cat(chances, -1) if len(chances) > 1 else chances[0]
        return together if base is None else base.reshape(b, -1, 1) * together

    def _rank(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Score, class and cell [B,K] of the best of ``scores`` [B,N,n]."""
        scores = cut(scores, self.conf)
        b, n, classes = scores.shape
        count = min(self.top_k, n * classes if self.several else n)
        if classes == 1:
            best, cell = torch.topk(scores.reshape(b, n), count, 1)
            return best, torch.zeros_like(best), cell
        if self.several:
            best, place = torch.topk(scores.reshape(b, -1), count, 1)
            return best, place % classes, place // classes
        best, cell = torch.topk(scores.amax(-1), count, 1)
        return best, _pick(scores, cell).argmax(-1), cell

    def _boxes(self, box: Tensor, cell: Tensor) -> Tensor:
        """[B,K,4] boxes of the chosen cells of an anchor head's map [B,4A,h,w]."""
        b, channels, h, w = box.shape
        a, size = channels // 4, torch.tensor([w, h], dtype=box.dtype)
        logits = _pick(box.view(b, a, 4, h * w).transpose(2, 3).reshape(b, -1, 4), cell)
        grid = torch.stack((torch.arange(w).repeat(h), torch.arange(h).repeat_interleave(w)), -1) / size
        anchors = anchor_sizes(self.model).repeat_interleave(h * w, 0)
        constants = torch.cat((grid.repeat(a, 1), anchors), -1)[cell]
        centre = logits[..., :2].sigmoid() / size + constants[..., :2]
        return torch.cat((centre, functional.softplus(logits[..., 2:]) * constants[..., 2:]), -1)


def _pick(table: Tensor, cell: Tensor) -> Tensor:
    """Rows ``cell`` [B,K] of ``table`` [B,N,m]: [B,K,m]."""
    b, n, m = table.shape
    if b > 1:
        cell = cell + n * torch.arange(b).unsqueeze(1)
    return table.reshape(b * n, m)[cell]
