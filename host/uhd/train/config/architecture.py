"""Settings of the network. Their defaults hold where no ``variant`` fills them; see ``schema.TrainConfig``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from uhd.manifest import ScoreMode
from uhd.train.config.fields import Group, Numbers, Pairs, count, option, path, positive, switch, weight

Gate = Literal["none", "se", "ese"]
Region = Literal["backbone", "head", "both", "none"]
Activation = Annotated[Literal["relu", "swish"], BeforeValidator(lambda value: "swish" if value == "silu" else value)]
BackboneName = Annotated[
    Literal["microcspnet", "ultratinyresnet", "enhanced-shufflenet"] | None,
    BeforeValidator(lambda value: None if value == "none" else value),
]


class Architecture(Group):
    """Architecture"""

    variant: str | None = option(
        None, "letter of a published size, which fills all settings of this section: R Y Z A F P N T S C M L"
    )
    arch: Literal["cnn", "transformer", "ultratinyod"] = option("cnn", "model family")
    cnn_width: int = count(32, "channels of the stem", 1, 1024)
    activation: Activation = option("swish", "activation function")
    use_batchnorm: bool = switch("normalise after convolutions", True)
    output_stride: Literal[4, 8, 16] | None = option(
        None, "pixels of the input a cell of the output map; none: 8 for ultratinyod, else 16"
    )
    use_improved_head: bool = switch("ultratinyod: quality branch, context residual, learnt anchor scale")
    use_iou_aware_head: bool = switch("ultratinyod: towers of two blocks, quality branch, score quality * class")
    utod_residual: bool = switch("ultratinyod: skips around the last two blocks of the backbone")
    utod_head_ese: bool = switch("ultratinyod: squeeze-and-excitation gate in the head")
    utod_conv: Literal["dw", "std"] = option("dw", "ultratinyod: depthwise-separable or dense 3x3 blocks")
    utod_sppf_scale: Literal["none", "bn", "conv"] = option("none", "ultratinyod: scaling of the two pooled branches")
    utod_context_rfb: bool = switch("ultratinyod: receptive-field block in the head")
    utod_context_dilation: int = count(2, "ultratinyod: dilation of that block", 1, 16)
    utod_large_obj_branch: bool = switch("ultratinyod: branch at half resolution for large objects")
    utod_large_obj_depth: int = count(2, "ultratinyod: blocks of that branch", 1, 32)
    utod_large_obj_ch_scale: float = Field(
        default=1.0, description="ultratinyod: its channels, relative", ge=0.25, le=16, allow_inf_nan=False
    )
    utod_quant_arch: int = count(0, "ultratinyod: rewiring that suits quantization; 0 is off", 0, 11)
    use_anchor: bool = switch("cnn: anchor head instead of the centre-point head (ultratinyod always has one)")
    use_skip: bool = switch("cnn: add pooled early stages to the last")
    last_se: Gate = option("none", "cnn: gate after the last stage")
    last_width_scale: float = Field(
        default=1.0, description="cnn: channels of the last stage, relative", ge=1, le=16, allow_inf_nan=False
    )
    num_queries: int = count(10, "transformer: objects it can find", 1, 1000)
    d_model: int = count(64, "transformer: channels", 4, 4096)
    heads: int = count(4, "transformer: attention heads", 1, 64)
    layers: int = count(3, "transformer: layers of the encoder and of the decoder", 1, 64)
    dim_feedforward: int = count(128, "transformer: hidden channels", 1, 16384)
    use_fpn: bool = switch("transformer: tokens of four scales")
    disable_cls: bool = switch("no class branch (one class, anchor heads)")
    score_mode: ScoreMode | None = option(None, "which outputs multiply to a score; none: by the head")
    quality_power: float = positive(1.0, "exponent of the quality in a score")
    w_bits: int = count(0, "ultratinyod: bits of weights in forward passes; below 2 is off", 0, 16)
    a_bits: int = count(0, "ultratinyod: bits of activations in forward passes; below 2 is off", 0, 16)
    quant_target: Region = option("both", "part that w_bits and a_bits concern")
    lowbit_quant_target: Region | None = option(None, "part with few bits; none: quant_target")
    lowbit_w_bits: int | None = count(None, "its bits of weights; none: w_bits", 0, 16)
    lowbit_a_bits: int | None = count(None, "its bits of activations; none: a_bits", 0, 16)
    highbit_quant_target: Region = option("none", "part with more bits")
    highbit_w_bits: int = count(8, "its bits of weights", 0, 16)
    highbit_a_bits: int = count(8, "its bits of activations", 0, 16)


class Backbone(Group):
    """Backbone (arch cnn)"""

    backbone: BackboneName = option(None, "another backbone instead of the three built-in stages")
    backbone_channels: Numbers | None = option(None, "ultratinyresnet: channels of its stages, such as 16,24,32,48")
    backbone_blocks: Numbers | None = option(None, "ultratinyresnet: blocks of its stages, such as 1,1,2,1")
    backbone_se: Gate = option("none", "gate after the backbone")
    backbone_skip: bool = switch("long skips, added")
    backbone_skip_cat: bool = switch("long skips, concatenated")
    backbone_skip_shuffle_cat: bool = switch("long skips, strided, shuffled and concatenated")
    backbone_skip_s2d_cat: bool = switch("long skips, space to depth and concatenated")
    backbone_fpn: bool = switch("top-down feature pyramid")
    backbone_out_stride: int | None = option(None, "stride of the backbone's output: 2, 4, 8, 16, 32; none: its own")


class Anchors(Group):
    """Anchors"""

    anchors: Pairs = option("", "widths and heights as fractions of the input: 'w,h w,h'; overrules auto_anchors")
    num_anchors: int = count(3, "anchors a cell", 1, 64)
    auto_anchors: bool = switch("anchors from the training boxes; off: the published ones", True)
    auto_anchors_alg: Literal["kmeans", "logkmeans", "stratified", "stratified_large", "sml_fixed"] = option(
        "logkmeans", "how anchors are found"
    )
    auto_anchors_bias: float = weight(0.2, "stratified_large: below 1 more anchors for large boxes; 0: none more")
    auto_anchors_plot: bool = switch("draw the boxes' sizes and the anchors")
    auto_anchors_plot_path: str | None = path("file of that drawing; none: in the run folder")
