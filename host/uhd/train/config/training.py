"""Settings of the loop, of quantization-aware training, of evaluation and of the run itself."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from uhd.train.config.fields import Group, Texts, count, option, path, positive, switch, unit, weight


class Optimisation(Group):
    """Optimisation"""

    epochs: int = count(120, "passes over the training photos; length of the cosine")
    batch_size: int = count(64, "photos a step, of all processes together")
    optimizer: Literal["adamw", "sgd"] = option("adamw", "update rule")
    lr: float = positive(4e-3, "peak learning rate; without qat, ultratinyod with assigner aligned: 0.01")
    weight_decay: float = weight(0.02, "decay of convolution weights (never of biases and normalisation)")
    warmup_steps: int = count(300, "steps of linear warm-up", 0)
    final_lr: float = unit(0.01, "learning rate at the end, as a fraction of the peak")
    grad_clip_norm: float = weight(10.0, "largest gradient norm; 0 switches clipping off")
    use_ema: bool = switch("evaluate and keep an average of the weights", True)
    ema_decay: float = Field(default=0.9995, ge=0, lt=1, description="memory of that average")
    use_amp: bool = switch("forward passes in half the precision, on a GPU only")
    amp_dtype: Literal["bfloat16", "float16"] = option("bfloat16", "what use_amp computes in")
    seed: int = count(42, "decides initialisation, order, augmentation and split", 0)


class Quantization(Group):
    """Quantization-aware training"""

    qat: bool = switch("train with the roundings of the chip (ultratinyod)")
    qat_target: Literal["esp32s3", "esp32p4", "c"] = option("esp32s3", "chip whose roundings are trained with")
    qat_preset: str | None = option(None, "published list of int16 operators, such as R-precision")
    qat_int16_op_pattern: Texts = option((), "operators in int16, by name; may be repeated")
    qat_bits: Literal[8, 16] = option(8, "bits of every operator that ESP-DL can run so")
    qat_disable_observer_epoch: int = count(2, "epoch from which ranges are kept, from 1; 0: never", 0)
    qat_freeze_bn_epoch: int = count(3, "epoch from which normalisation is kept, from 1; 0: never", 0)
    qat_backend: Literal["fbgemm", "qnnpack"] = option("fbgemm", "accepted, without effect: the grid is the chip's")
    qat_fuse: bool = switch("accepted, without effect: normalisation is always folded, as on the chip")


class Evaluation(Group):
    """Evaluation"""

    eval_interval: int = count(5, "epochs between evaluations; the last is always evaluated")
    conf_thresh: float = unit(0.15, "least score of a box that is drawn; mAP counts all")
    topk: int = count(50, "centre-point head: boxes a photo", 1, 10000)
    coco_eval: bool = switch("log all twelve COCO metrics")
    coco_per_class: bool = switch("log the metrics of every class")
    val_only: bool = switch("evaluate a checkpoint (ckpt or resume), train nothing")
    val_count: int | None = count(None, "evaluate at most so many photos; none: all")
    heatmap_mode: Literal["mean", "sum"] | None = option(None, "draw every layer's output, reduced over channels so")


class Run(Group):
    """Run"""

    exp_name: str = Field(default="default", description="name of the run folder in runs/", min_length=1)
    output: str | None = path("run folder; none: runs/ and exp_name")
    resume: bool | str = option(False, "continue the run in the run folder, or the one of a file or folder")
    ckpt: str | None = path("start from the weights of a checkpoint, with its architecture")
    ckpt_non_strict: bool = switch("start from those weights of ckpt that fit the architecture given here")
    device: str = option("", "cpu, cuda or cuda:N; empty: cuda where there is one")
    threads: int | None = count(None, "CPU threads of the computation; none: all", 1, 4096)
    max_steps: int | None = count(None, "end every epoch after so many steps")
    log_interval: int = count(10, "steps between updates of the progress line")
