"""The distiller: runs the teacher on a batch and compares the student with it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from uhd.detect.decode import decode_scores
from uhd.errors import ConfigError
from uhd.models.detector import Detector
from uhd.models.dinov3 import VisionTransformer
from uhd.train.distill import reference, terms
from uhd.train.distill.maps import AnchorShape
from uhd.train.distill.pair import check_heads, check_pair, feature_channels, lacking
from uhd.train.distill.pictures import colour_of, from_rgb
from uhd.train.distill.settings import DistillSettings
from uhd.train.distill.teacher import Teacher, frozen

#: Output maps that a term compares, by head.
_TERM_MAPS: dict[str, dict[str, tuple[str, ...]]] = {
    "anchor": {
        "distill_kl": ("cls",), "distill_box_l1": ("box",), "distill_obj": ("obj",), "distill_quality": ("quality",),
    },
    "centernet": {"distill_kl": ("hm",), "distill_box_l1": ("off", "wh")},
    "detr": {"distill_kl": ("logits",), "distill_box_l1": ("boxes",)},
}  # fmt: skip
_FEATURES = "features"


class Distiller:
    """What a student learns from a teacher, as weighted loss terms.

    In one process ``losses`` does everything. Several processes that compute the loss of a whole batch call ``targets``
    and ``project`` on their own rows, gather both, and then ``compare``. Attributes say what a step must supply:
    ``map_names`` of the student's outputs, its features if ``needs_features``, RGB pictures if ``needs_rgb``.
    """

    def __init__(
        self,
        settings: DistillSettings,
        teacher: Teacher | Detector | None,
        student: Detector,
        *,
        backbone: VisionTransformer | None = None,
        resize_mode: str | None = None,
    ) -> None:
        """``backbone`` gives the features instead of the teacher; ``resize_mode`` is the student's.

        Raises ``ConfigError`` (one line) for a pair that cannot be compared, or a weight without a teacher for it. A
        pair that differs in classes or anchors does not stop ``loss_mode: reference``: ``warnings`` tells what is left
        out.
        """
        self.settings = settings
        self.teacher = Teacher(teacher) if isinstance(teacher, Detector) else teacher
        self.backbone = backbone
        self.student = student
        self.warnings: list[str] = []
        self._weights = self._usable_weights()
        head = student.config.head
        names = [name for term in self._weights for name in _TERM_MAPS[head].get(term, ())]
        self.map_names = frozenset(names)
        self.needs_features = settings.distill_feat > 0
        self.adapter: nn.Module = nn.Identity()
        if self.needs_features:
            own, theirs = feature_channels(student.config), self._feature_channels()
            if own != theirs:
                self.adapter = nn.Conv2d(own, theirs, 1)
        own_colour = colour_of(resize_mode, student.config.in_channels)
        self._teacher_colour = own_colour
        if self.teacher is not None:
            frozen(self.teacher.model)
            self._teacher_colour = colour_of(self.teacher.resize_mode, self.teacher.model.config.in_channels)
        if backbone is not None:
            frozen(backbone)
            if backbone.report:
                self.warnings.append(f"weights of teacher_backbone: {backbone.report}")
        self._asks_teacher = self.teacher is not None and bool(self._weights or (self.needs_features and not backbone))
        self._teacher_rgb = self._asks_teacher and self._teacher_colour != own_colour
        self._backbone_rgb = backbone is not None and self.needs_features and own_colour != "rgb"
        self.needs_rgb = self._teacher_rgb or self._backbone_rgb

    def _usable_weights(self) -> dict[str, float]:
        """Weights of the terms on outputs. Raises ``ConfigError`` where one cannot be computed; see ``__init__``."""
        weights = self.settings.output_weights
        if not weights:
            return {}
        if self.teacher is None:
            raise ConfigError(f"{next(iter(weights))}: needs a teacher", hint="give teacher_ckpt")
        theirs, own, name = self.teacher.model.config, self.student.config, self.teacher.name
        # by now the student has the anchors that it is going to have
        settled = dataclasses.replace(self.settings, override_from_teacher_anchors=False)
        if self.settings.loss_mode == "default":
            check_pair(settled, theirs, own, name)
        else:
            try:
                check_heads(settled, theirs, own, name)
            except ConfigError as error:
                self.warnings.append(f"left out: {', '.join(weights)} ({error})")
                return {}
            for term in [term for term in weights if lacking(term, theirs, own)]:
                self.warnings.append(f"left out: {term} ({lacking(term, theirs, own)})")
                del weights[term]
        anchors = self.teacher.model.anchors.cpu(), self.student.anchors.cpu()
        if own.head == "anchor" and not torch.allclose(*anchors, atol=1e-4):
            self.warnings.append(f"{name} has other anchors; override_from_teacher_anchors takes them over")
        return weights

    def _feature_channels(self) -> int:
        if self.backbone is not None:
            return self.backbone.config.embed_dim
        if self.teacher is None:
            raise ConfigError("distill_feat: needs a teacher", hint="give teacher_ckpt or teacher_backbone")
        return feature_channels(self.teacher.model.config)

    def to(self, device: torch.device) -> Distiller:
        """Move teacher, backbone and adapter."""
        if self.teacher is not None:
            self.teacher.model.to(device)
        if self.backbone is not None:
            self.backbone.to(device)
        self.adapter.to(device)
        return self

    def parameters(self) -> Iterator[nn.Parameter]:
        """The adapter's: to be optimised and clipped together with the student's."""
        return self.adapter.parameters()

    def state_dict(self) -> dict[str, Tensor]:
        """The adapter's weights (``weight``, ``bias``), empty where student and teacher have as many channels."""
        return dict(self.adapter.state_dict())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore ``state_dict``. Raises ``ConfigError`` if it belongs to another pair."""
        try:
            self.adapter.load_state_dict(dict(state))
        except RuntimeError:
            raise ConfigError("the saved feature adapter belongs to another teacher or student") from None

    def losses(
        self,
        student_maps: Mapping[str, Tensor],
        student_features: Tensor | None,
        images: Tensor,
        epoch: int,
        epochs: int,
        rgb: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Weighted terms by name, scalars with gradient; their sum is added to the student's own loss.

        ``student_maps`` are the student's outputs for ``images`` [B,C,h,w] (at least ``map_names``),
        ``student_features`` its features [B,C,h',w'], ``rgb`` the same pictures as [B,3,h,w] in 0..1. ``epoch`` counts
        from 0.
        """
        projected = None if student_features is None else self.project(student_features)
        return self.compare(student_maps, projected, self.targets(images, rgb), epoch, epochs)

    @torch.no_grad()
    def targets(self, images: Tensor, rgb: Tensor | None = None) -> dict[str, Tensor]:
        """The teacher's output maps and ``features`` for a batch, each [B,...]."""
        if self.needs_rgb and rgb is None:
            raise ValueError("the teacher sees other colours than the student: rgb is needed")
        found: dict[str, Tensor] = {}
        if self._asks_teacher:
            assert self.teacher is not None
            model = self.teacher.model
            seen = images
            if self._teacher_rgb:
                assert rgb is not None
                seen = from_rgb(rgb, self._teacher_colour)
            if self._weights:
                found.update(model.maps(seen, self._teacher_names()))
            if self.needs_features and self.backbone is None:
                found[_FEATURES] = model.features(seen)
        if self.needs_features and self.backbone is not None:
            seen = images if rgb is None or not self._backbone_rgb else rgb
            stride = self.student.config.out_stride
            grid = (math.ceil(seen.shape[2] / stride), math.ceil(seen.shape[3] / stride))
            found[_FEATURES] = self.backbone(seen, grid if self.settings.teacher_backbone_upsample else None)
        return found

    def _teacher_names(self) -> frozenset[str]:
        """The maps that the terms compare, and those that the teacher's score is made of."""
        assert self.teacher is not None
        config = self.teacher.model.config
        names = set(self.map_names)
        if self.settings.loss_mode == "default":
            names |= set(config.maps_for()) if config.head == "anchor" else set(config.map_names)
        return frozenset(names)

    def project(self, features: Tensor) -> Tensor:
        """The student's features [B,C,h,w] with as many channels as the teacher's; float32."""
        with torch.autocast(features.device.type, enabled=False):
            projected: Tensor = self.adapter(features.float())
        return projected

    def compare(
        self,
        student_maps: Mapping[str, Tensor],
        projected: Tensor | None,
        targets: Mapping[str, Tensor],
        epoch: int,
        epochs: int,
    ) -> dict[str, Tensor]:
        """Weighted terms from the student's maps, its projected features, and ``targets``; see ``losses``."""
        scale = self.settings.scale(epoch, epochs)
        device = next(iter(targets.values())).device.type if targets else "cpu"
        with torch.autocast(device, enabled=False):
            wanted = {name: value.detach().float() for name, value in targets.items()}
            found: dict[str, Tensor] = {}
            if self._weights:
                mine = {name: student_maps[name].float() for name in sorted(self.map_names)}
                raw = self._output_terms(mine, wanted)
                found = {name: weight * scale * raw[name] for name, weight in self._weights.items() if name in raw}
            if self.needs_features:
                if projected is None:
                    raise ValueError("distill_feat needs the student's features")
                term = terms.feature_term(projected.float(), wanted[_FEATURES])
                found["distill_feat"] = self.settings.distill_feat * scale * term
        return found

    def _output_terms(self, mine: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        temperature, plain = self.settings.distill_temperature, self.settings.loss_mode == "default"
        head = self.student.config.head
        if head == "centernet":
            return terms.centre_terms(mine, wanted, temperature) if plain else reference.centre_terms(mine, wanted)
        if head == "detr":
            return (terms if plain else reference).query_terms(mine, wanted, temperature)
        assert self.teacher is not None
        teacher = self.teacher.model
        own, theirs = (AnchorShape(model.anchors, model.wh_scale) for model in (self.student, teacher))
        if not plain:
            return reference.anchor_terms(mine, wanted, own, theirs, temperature)
        config = teacher.config
        score = decode_scores(wanted, len(theirs.anchors), config.resolved_score_mode, config.quality_power)
        height, width = wanted["box"].shape[2:]
        best = score.amax(2).view(len(score), len(theirs.anchors), height, width)
        return terms.anchor_terms(mine, wanted, own, theirs, best, temperature)
