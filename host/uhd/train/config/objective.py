"""Settings of what is learnt: losses, assigner, teacher."""

from __future__ import annotations

from typing import Literal

from uhd.train.config.architecture import Activation
from uhd.train.config.fields import Group, count, option, path, positive, switch, weight


class Loss(Group):
    """Loss"""

    loss_mode: Literal["default", "reference"] = option(
        "default", "reference: with the defects of the reference's losses, to compare with it"
    )
    score_loss: Literal["product", "separate"] = option(
        "product", "aligned: train the deployed product of scores as one, or each factor on its own"
    )
    iou_loss: Literal["iou", "giou", "ciou"] = option("ciou", "box loss")
    anchor_cls_loss: Literal["bce", "vfl", "ce"] = option("bce", "legacy, simota: class loss")
    obj_loss: Literal["bce", "smoothl1"] = option("bce", "legacy, simota: objectness loss")
    obj_target: Literal["auto", "binary", "iou"] = option(
        "auto", "legacy, simota: what objectness learns; auto: the IoU where there is a quality branch"
    )
    loss_weight_box: float = weight(2.5, "weight of the box loss")
    loss_weight_obj: float = weight(0.1, "weight of the objectness loss (aligned: where the score does not use it)")
    loss_weight_cls: float = weight(1.0, "weight of the class loss (aligned: of the score loss)")
    loss_weight_quality: float = weight(1.0, "weight of the quality loss (aligned: separate only)")
    multi_label_attr_weight: float = weight(1.0, "weight of the attribute loss")
    loss_weight_range: float = weight(1.0, "weight of the squares by which head outputs exceed logit_limit")
    logit_limit: float = positive(8.0, "outputs beyond it cost int8 resolution")
    positive_weighting: bool = switch("aligned: weight a positive's score loss by its target", True)
    background_weight: float = weight(0.75, "aligned: weight of the background in the score loss, times score squared")


class Assigner(Group):
    """Assigner"""

    anchor_assigner: Literal["aligned", "legacy", "simota"] = option(
        "aligned", "which candidates learn an object: by score and IoU, the best anchor of its cell, or SimOTA"
    )
    assign_topk: int = count(10, "aligned: candidates an object takes at most")
    assign_radius: int = count(1, "aligned: cells round an object's centre that may take it", 0, 8)
    assign_score_power: float = weight(0.5, "aligned: exponent of the score in the alignment")
    assign_iou_power: float = weight(4.0, "aligned: exponent of the IoU in the alignment")
    simota_topk: int = count(10, "simota: candidates an object takes at most")


class Distillation(Group):
    """Distillation"""

    teacher_ckpt: str | None = path("checkpoint of the teacher")
    teacher_arch: Literal["cnn", "transformer", "ultratinyod"] | None = option(
        None, "its model family; none: as its checkpoint says"
    )
    teacher_num_queries: int | None = count(None, "transformer teacher: objects; none: as its checkpoint says")
    teacher_d_model: int | None = count(None, "transformer teacher: channels", 4)
    teacher_heads: int | None = count(None, "transformer teacher: attention heads")
    teacher_layers: int | None = count(None, "transformer teacher: layers")
    teacher_dim_feedforward: int | None = count(None, "transformer teacher: hidden channels")
    teacher_use_skip: bool = switch("cnn teacher: it has skips")
    teacher_activation: Activation | None = option(None, "activation of the teacher; none: as its checkpoint says")
    teacher_use_fpn: bool = switch("transformer teacher: tokens of four scales")
    teacher_backbone: str | None = path("weights of a DINOv3 vision transformer, whose features are learnt")
    teacher_backbone_arch: str | None = option(None, "its size: vits or vitb; none: by its weights")
    teacher_backbone_norm: Literal["imagenet", "none"] = option("imagenet", "how its input is normalised")
    override_from_teacher_anchors: bool = switch("take the anchors of the teacher")
    distill_kl: float = weight(0.0, "weight of the teacher's classes")
    distill_box_l1: float = weight(0.0, "weight of the teacher's boxes")
    distill_obj: float = weight(0.0, "weight of the teacher's objectness")
    distill_quality: float = weight(0.0, "weight of the teacher's quality")
    distill_feat: float = weight(0.0, "weight of the teacher's features")
    distill_temperature: float = positive(1.0, "softens the teacher's scores")
    distill_cosine: bool = switch("weights rise from 0 along a cosine")
