"""What is traced: a detector with the outputs of one ONNX flavour that leaves decoding to its reader.

The model's own ``forward`` is not called, but in ``Whole``. Calling parts of the model, and then methods, keeps
``/model`` and ``/head`` out of the node names, which published int16 operator patterns rely on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uhd.models.detector import Detector
from uhd.models.head import Head
from uhd.models.ultratinyod import UltraTinyOD


class Parts(nn.Module):
    """Outputs each needed map by itself, then ``anchors`` and ``wh_scale`` [A,2] of an anchor head."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self.anchored = config.head == "anchor"
        self.names = list(config.maps_for())
        self.attr = "attr" in config.map_names

    @property
    def output_names(self) -> list[str]:
        return [*self.names, *(["attr"] if self.attr else []), *(["anchors", "wh_scale"] if self.anchored else [])]

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The maps that the score mode needs, and the attribute map if there is one."""
        return self.model.maps(x, [*self.names, "attr"] if self.attr else self.names)

    def constants(self) -> tuple[Tensor, ...]:
        """What an anchor head's maps are to be decoded with."""
        return (self.model.anchors, self.model.wh_scale) if self.anchored else ()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (*self.maps(x).values(), *self.constants())


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
        return (raw, *attr, *self.constants())


class Whole(nn.Module):
    """As ``Raw`` with all maps of the head, needed or not; traced as one model: names begin with ``/model``."""

    def __init__(self, model: UltraTinyOD) -> None:
        super().__init__()
        self.names = [name for name in model.config.map_names if name != "attr"]
        self.model = _WholeModel(model)
        # Published under these names, also where there is no quality beside classes.
        fields = "obj_quality_cls" if "cls" in self.names else "_".join(self.names[1:])
        attr = ["attr_logits"] if model.config.attr_count else []
        self.output_names = [f"txtywh_{fields}_x8", *attr, "anchors", "wh_scale"]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        head = self.model.head.inner
        return (*self.model(x), head.anchors, head.wh_scale)


class _WholeModel(nn.Module):
    """An UltraTinyOD whose head is called as a module."""

    def __init__(self, model: UltraTinyOD) -> None:
        super().__init__()
        self.backbone = model.backbone
        self.head = _WholeHead(model.head)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.head(self.backbone(x))


class _WholeHead(nn.Module):
    """All maps, joined and then put in the order of anchors by one Gather, as in published files."""

    order: Tensor

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.inner = head
        config, a = head.config, head.anchors.shape[0]
        starts = torch.arange(a)
        columns = [starts[:, None] * 4 + torch.arange(4)]
        first = 4 * a
        for count in (1, *([1] if config.has_quality else []), *([config.class_count] if config.class_count else [])):
            columns.append(first + starts[:, None] * count + torch.arange(count))
            first += a * count
        self.register_buffer("order", torch.cat(columns, 1).flatten(), persistent=False)

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        maps = self.inner.maps(features)
        attr = [maps.pop("attr")] if "attr" in maps else []
        return (torch.cat(list(maps.values()), 1)[:, self.order], *attr)
