"""TrainConfig: every setting of a training run. A field is the flag, the YAML key, the checkpoint entry, the help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import field_validator, model_validator

from uhd.errors import ConfigError
from uhd.train.config.architecture import Anchors, Architecture, Backbone
from uhd.train.config.build import architecture_of
from uhd.train.config.checks import check
from uhd.train.config.data import Augmentation, Data
from uhd.train.config.defaults import default_anchors, fill_defaults
from uhd.train.config.fields import Group
from uhd.train.config.objective import Assigner, Distillation, Loss
from uhd.train.config.texts import parse_class_ids, parse_pairs, parse_size
from uhd.train.config.training import Evaluation, Optimisation, Quantization, Run
from uhd.variants import get_variant

#: The sections, in the order of the help.
GROUPS: tuple[type[Group], ...] = (
    Architecture, Backbone, Anchors, Data, Augmentation, Loss, Assigner, Distillation, Optimisation, Quantization,
    Evaluation, Run,
)  # fmt: skip

#: Settings that say where a run reads and writes, on what, and what it prints. They do not decide its result: a run
#: may be moved, and resumed with others.
PLACES: frozenset[str] = (frozenset(Run.model_fields) - {"max_steps"}) | {
    "images", "val", "image_dir", "train_list", "val_list", "cache_dir", "num_workers", "strict_data",
    "auto_anchors_plot", "auto_anchors_plot_path", "coco_eval", "coco_per_class", "val_only", "val_count",
    "heatmap_mode", "conf_thresh",
}  # fmt: skip


class TrainConfig(
    Run, Evaluation, Quantization, Optimisation, Distillation, Assigner, Loss, Augmentation, Data, Anchors, Backbone,
    Architecture,
):  # fmt: skip
    """All settings of a run. Unknown keys and wrong types are errors; instances are immutable.

    With a ``variant`` (or no setting of the architecture at all: variant R) the published variant fills the
    architecture, settings given beside it win. Without one, the fields' own defaults hold.
    """

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        return fill_defaults(values) if isinstance(values, dict) else values

    @field_validator("variant")
    @classmethod
    def _known_variant(cls, letter: str | None) -> str | None:
        try:
            return None if letter is None else get_variant(letter).letter
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @field_validator("img_size", mode="before")
    @classmethod
    def _square_is_one_number(cls, value: Any) -> Any:
        if type(value) not in (int, str):
            return value
        height, width = parse_size(value)
        return height if height == width else f"{height}x{width}"

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        check(self)
        return self

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network input, pixels."""
        return parse_size(self.img_size)

    @property
    def head(self) -> Literal["anchor", "centernet", "detr"]:
        """Kind of the network's outputs."""
        if self.arch == "transformer":
            return "detr"
        return "anchor" if self.use_anchor or self.arch == "ultratinyod" else "centernet"

    @property
    def class_ids(self) -> tuple[int, ...]:
        """Ids of the label files that are kept, in the order in which boxes are numbered."""
        return parse_class_ids(self.classes)

    @property
    def attr_ids(self) -> tuple[int, ...]:
        """Ids of attributes: those of ``class_ids`` that the attribute branch learns (multi_label_mode separate)."""
        if self.multi_label_mode != "separate":
            return ()
        if self.multi_label_attr_classes is not None:
            return parse_class_ids(self.multi_label_attr_classes, "multi_label_attr_classes")
        return tuple(i for i in self.class_ids if i not in self.det_ids)

    @property
    def det_ids(self) -> tuple[int, ...]:
        """Ids of objects, in the order of the network's classes: ``class_ids`` without attributes."""
        if self.multi_label_mode == "separate":
            if self.multi_label_det_classes is not None:
                return parse_class_ids(self.multi_label_det_classes, "multi_label_det_classes")
            if self.multi_label_attr_classes is not None:
                attributes = parse_class_ids(self.multi_label_attr_classes, "multi_label_attr_classes")
                return tuple(i for i in self.class_ids if i not in attributes)
        return self.class_ids

    @property
    def searches_anchors(self) -> bool:
        """Whether anchors come from the training boxes (anchor heads; a list of anchors overrules it)."""
        return self.head == "anchor" and self.auto_anchors and not self.anchors

    @property
    def fixed_anchors(self) -> tuple[tuple[float, float], ...]:
        """The given anchors, else the published ones: what holds unless ``searches_anchors``."""
        return parse_pairs(self.anchors) or default_anchors(self.num_anchors, self.variant is not None)

    def architecture(self, anchors: Sequence[Sequence[float]] | None = None) -> tuple[str, dict[str, Any]]:
        """Name and options of the model for ``uhd.models.build_model``; ``anchors`` are those found by the search."""
        return self.arch, architecture_of(self, anchors)

    def settings(self) -> dict[str, Any]:
        """What decides the result, as plain JSON values: everything but ``PLACES``. For manifests, and for resuming."""
        return self.model_dump(mode="json", exclude=set(PLACES))

    def mild(self) -> TrainConfig:
        """The same with half the range of every random change, for the last epochs."""
        halves = ("crop_aspect", "brightness", "contrast", "saturation", "hue", "channel_gain", "grey_prob")
        update: dict[str, float] = {name: getattr(self, name) / 2 for name in halves}
        update |= {name: (1 + getattr(self, name)) / 2 for name in ("crop_min", "crop_max")}
        return self.model_copy(update=update)
