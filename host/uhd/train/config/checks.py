"""Settings that contradict each other. Every message names the setting and says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import ValidationError

from uhd.models.architectures import CONFIGS
from uhd.train.config.architecture import Architecture, Backbone
from uhd.train.config.build import architecture_of
from uhd.train.config.objective import Distillation
from uhd.train.config.texts import parse_class_ids, parse_counts, parse_pairs

if TYPE_CHECKING:
    from uhd.train.config.schema import TrainConfig

#: Settings of one model family: (prefix or names, families that have them).
_CNN_ONLY = ("use_skip", "last_se", "last_width_scale", *Backbone.model_fields)
_UTOD_ONLY = (
    "use_improved_head", "use_iou_aware_head", *(n for n in Architecture.model_fields if n.startswith("utod_")),
    "w_bits", "a_bits", "lowbit_w_bits", "lowbit_a_bits",
)  # fmt: skip
_TRANSFORMER_ONLY = ("num_queries", "d_model", "heads", "layers", "dim_feedforward", "use_fpn")


def check(config: TrainConfig) -> None:
    """Raise ``ValueError`` for the first contradiction."""
    for kind in (_architecture, _backbone, _classes, _anchors, _data, _teacher, _quantization, _run):
        for message in kind(config):
            raise ValueError(message)
    try:
        CONFIGS[config.arch].model_validate(architecture_of(config, None))
    except ValidationError as failure:
        first = failure.errors()[0]
        where = f"{first['loc'][0]}: " if first["loc"] else ""
        raise ValueError(where + first["msg"].removeprefix("Value error, ")) from None


def _changed(config: TrainConfig, names: tuple[str, ...]) -> Iterator[str]:
    """Those of ``names`` that are not at their default."""
    for name in names:
        if getattr(config, name) != type(config).model_fields[name].default:
            yield name


def _architecture(config: TrainConfig) -> Iterator[str]:
    arch = config.arch
    if config.variant is not None and arch != "ultratinyod":
        yield f"arch: variant {config.variant} is an ultratinyod; leave out variant or arch"
    for family, names in (("cnn", _CNN_ONLY), ("ultratinyod", _UTOD_ONLY), ("transformer", _TRANSFORMER_ONLY)):
        if arch != family:
            for name in _changed(config, names):
                yield f"{name}: belongs to arch {family}, not {arch}; leave it out or give arch {family}"
    if config.use_anchor and arch == "transformer":
        yield "use_anchor: a transformer has no anchors; leave it out or give arch cnn or ultratinyod"
    if config.score_mode is not None and config.head != "anchor":
        yield "score_mode: only anchor heads have several scores; leave it out or give use_anchor"
    if arch == "transformer" and (config.d_model % config.heads or config.d_model % 4):
        yield f"d_model: {config.d_model} must be a multiple of heads ({config.heads}) and of 4"
    if config.disable_cls:
        if config.head != "anchor":
            yield "disable_cls: only anchor heads can do without classes; leave it out or give use_anchor"
        if len(config.class_ids) > 1 or config.multi_label_mode != "none":
            yield "disable_cls: works with one class and no multi_label_mode; give one id in classes"


def _backbone(config: TrainConfig) -> Iterator[str]:
    if config.backbone is None:
        for name in _changed(config, tuple(name for name in Backbone.model_fields if name != "backbone")):
            yield f"{name}: needs a backbone; give backbone microcspnet, ultratinyresnet or enhanced-shufflenet"
    lengths = dict.fromkeys(("backbone_channels", "backbone_blocks"), 4)  # stages unless said otherwise
    for name in ("backbone_channels", "backbone_blocks"):
        text = getattr(config, name)
        if text is None:
            continue
        if config.backbone != "ultratinyresnet":
            yield f"{name}: only the backbone ultratinyresnet has it; leave it out"
        try:
            lengths[name] = len(parse_counts(text))
        except ValueError as error:
            yield f"{name}: {error}"
    channels, blocks = lengths.values()
    if channels != blocks:
        yield f"backbone_blocks: names {blocks} stages, backbone_channels {channels}; give as many of both"
    stride = config.backbone_out_stride
    if stride is not None and stride not in (2, 4, 8, 16, 32):
        yield f"backbone_out_stride: {stride} is not 2, 4, 8, 16 or 32"


def _classes(config: TrainConfig) -> Iterator[str]:
    kept = set(parse_class_ids(config.classes))
    mode = config.multi_label_mode
    parts = {}
    for name in ("multi_label_det_classes", "multi_label_attr_classes"):
        text = getattr(config, name)
        if text is None:
            continue
        if mode == "none":
            yield f"{name}: needs multi_label_mode; give multi_label_mode single or separate"
        parts[name] = set(parse_class_ids(text, name))
        if not parts[name] <= kept:
            yield f"{name}: {sorted(parts[name] - kept)} is not in classes {config.classes!r}; add it there"
    if len(parts) == 2 and set.intersection(*parts.values()):
        both = sorted(set.intersection(*parts.values()))
        yield f"multi_label_attr_classes: {both} is in multi_label_det_classes too; a class is one or the other"
    if mode == "separate":
        if config.arch != "ultratinyod":
            yield f"multi_label_mode: separate belongs to arch ultratinyod, not {config.arch}; give single"
        if not parts:
            yield "multi_label_mode: separate needs multi_label_det_classes or multi_label_attr_classes"
        if not config.det_ids or not config.attr_ids:
            yield "multi_label_mode: separate needs at least one class and one attribute in classes"


def _anchors(config: TrainConfig) -> Iterator[str]:
    try:
        pairs = parse_pairs(config.anchors)
    except ValueError as error:
        yield f"anchors: {error}"
        return
    if pairs and len(pairs) != config.num_anchors:
        yield f"num_anchors: {config.num_anchors}, but anchors lists {len(pairs)}; leave num_anchors out"
    if pairs and config.head != "anchor":
        yield "anchors: this head has none; leave it out or give use_anchor"


def _data(config: TrainConfig) -> Iterator[str]:
    if (config.train_list is None) != (config.val_list is None):
        given, other = ("train_list", "val_list") if config.val_list is None else ("val_list", "train_list")
        if not (config.val_only and given == "val_list"):
            yield f"{given}: needs {other} too; give both lists, or image_dir alone"
    if config.images is not None and config.val is None:
        yield "images: needs val too; give both, or image_dir, which is split"
    if config.val is not None and config.images is None and not config.val_only:
        yield "val: needs images too; give both, or image_dir, which is split"
    if config.train_list is not None and config.images is not None:
        yield "train_list: images says the same; give one of them"
    if config.val_list is not None and config.val is not None:
        yield "val_list: val says the same; give one of them"
    if config.train_split + config.val_split > 1 + 1e-9:
        yield f"val_split: train_split + val_split is {config.train_split + config.val_split:g}, more than 1"


def _teacher(config: TrainConfig) -> Iterator[str]:
    names = tuple(Distillation.model_fields)
    weights = ("distill_kl", "distill_box_l1", "distill_obj", "distill_quality", "distill_feat")
    if config.teacher_ckpt is None:
        backbone = ("teacher_backbone", "teacher_backbone_arch", "teacher_backbone_norm", "distill_feat")
        allowed = (*backbone, "distill_cosine", "distill_temperature") if config.teacher_backbone else ()
        for name in _changed(config, tuple(name for name in names if name not in allowed)):
            yield f"{name}: needs a teacher; give teacher_ckpt"
    if (config.teacher_ckpt or config.teacher_backbone) and not any(getattr(config, name) for name in weights):
        yield f"teacher_ckpt: nothing is learnt from it; give one of {', '.join(weights)} a weight"
    if config.teacher_backbone and not config.distill_feat:
        yield "teacher_backbone: only its features are learnt; give distill_feat a weight"
    if config.head != "anchor":
        for name in _changed(config, ("distill_obj", "distill_quality", "override_from_teacher_anchors")):
            yield f"{name}: needs an anchor head; leave it out or give use_anchor"


def _quantization(config: TrainConfig) -> Iterator[str]:
    if config.qat and config.arch != "ultratinyod":
        yield f"qat: the chip's roundings are known for arch ultratinyod, not {config.arch}; leave it out"
    if config.qat and any(bits and bits >= 2 for bits in (config.w_bits, config.a_bits)):
        yield "qat: w_bits and a_bits round too; give one or the other"
    if not config.qat:
        for name in _changed(config, ("qat_preset", "qat_int16_op_pattern", "qat_bits")):
            yield f"{name}: has no effect without qat; add qat or leave it out"


def _run(config: TrainConfig) -> Iterator[str]:
    if config.resume and config.ckpt is not None:
        yield "ckpt: it starts a run and resume continues one; give one of them"
    if config.ckpt_non_strict and config.ckpt is None:
        yield "ckpt_non_strict: says how to read ckpt; give ckpt too"
    if config.val_only and config.ckpt is None and not config.resume:
        yield "val_only: needs a checkpoint; give ckpt or resume"
