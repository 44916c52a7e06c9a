"""The settings: every flag of the reference is there, defaults depend on what is given, contradictions are refused."""

from __future__ import annotations

import json
import sys
from subprocess import run
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.shared import ROOT, shared_dir
from uhd.errors import ConfigError
from uhd.models import FAMILIES, UltraTinyODConfig, family_config, variants_config
from uhd.train.config import GROUPS, PLACES, TrainConfig, parse_class_ids, parse_size, parse_train_config
from uhd.train.config.describe import sections
from uhd.train.config.document import document
from uhd.train.config.texts import parse_pairs
from uhd.variants import REFERENCE_ANCHORS, VARIANTS


def reference_flags() -> list[dict[str, Any]]:
    flags: list[dict[str, Any]] = json.loads(shared_dir("spec", "cli_flags.json").read_text())["train"]
    return flags


def test_every_flag_of_the_reference_is_a_setting_with_its_choices() -> None:
    described = {setting.name: setting for group in sections().values() for setting in group}
    assert len(reference_flags()) == 140
    for flag in reference_flags():
        setting = described[flag["dest"]]
        if flag["kind"] == "StoreTrue":
            assert setting.kind == "switch", setting.name
        numbers = {"int": "int", "float": "float"}.get(flag["type"] or "")
        if numbers:
            assert setting.kind == numbers, setting.name
        for choice in flag["choices"] or ():
            if choice is None or (choice == "none" and setting.optional):
                assert setting.optional, setting.name
            elif setting.choices:
                assert str(choice) in setting.choices, setting.name
            else:
                parse_train_config({"arch": "ultratinyod", flag["dest"]: choice}, "x")


def test_the_reference_s_own_default_is_a_value_of_every_setting() -> None:
    values = {flag["dest"]: flag["default"] for flag in reference_flags()}
    given = {name: value for name, value in values.items() if value is not None}
    del given["exp_name"]
    config = parse_train_config({**given, "use_batchnorm": True}, "x")
    assert config.arch == "cnn" and config.head == "centernet" and config.variant is None
    assert all(getattr(config, name) in (value, 64) for name, value in given.items() if name != "use_batchnorm")


def test_the_document_is_the_one_that_the_settings_make() -> None:
    assert (ROOT / "docs" / "train-flags.md").read_text() == document(), (
        "run: python -m uhd.train.config.document docs/train-flags.md"
    )


def test_settings_need_no_torch() -> None:
    code = (
        "import sys, uhd.train.config, uhd.train.config.describe as d; d.sections(); sys.exit('torch' in sys.modules)"
    )
    assert run([sys.executable, "-c", code], check=False).returncode == 0


def test_groups_hold_each_setting_once() -> None:
    names = [name for group in GROUPS for name in group.model_fields]
    assert sorted(names) == sorted(set(names)) == sorted(TrainConfig.model_fields)
    assert set(names) >= PLACES and "seed" not in PLACES and "max_steps" not in PLACES
    assert not set(TrainConfig().settings()) & PLACES
    assert all(field.description for field in TrainConfig.model_fields.values())


@pytest.mark.parametrize("letter", VARIANTS)
def test_a_variant_fills_the_architecture(letter: str) -> None:
    config = TrainConfig(variant=letter.lower(), auto_anchors=False)
    arch, options = config.architecture()
    assert arch == "ultratinyod" and UltraTinyODConfig(**options) == variants_config(letter)
    assert config.variant == letter and config.resize_mode == "opencv_inter_nearest_yuv422"


def test_without_anything_it_is_variant_r() -> None:
    assert TrainConfig() == TrainConfig(variant="R") and TrainConfig().num_anchors == 8
    assert TrainConfig(epochs=3, resize_mode="torch_bilinear").variant == "R"
    assert TrainConfig(resize_mode="opencv_inter_nearest_y").architecture()[1]["in_channels"] == 1
    assert TrainConfig(disable_cls=True).cnn_width == 16


def test_a_setting_of_the_architecture_takes_the_reference_s_defaults_along() -> None:
    config = TrainConfig(arch="ultratinyod")
    assert (config.variant, config.cnn_width, config.num_anchors) == (None, 32, 3)
    assert (config.resize_mode, config.activation, config.use_batchnorm) == ("torch_bilinear", "swish", True)
    assert not config.use_improved_head and config.architecture()[1]["in_channels"] == 3
    assert TrainConfig(cnn_width=8).arch == "cnn"


def test_settings_beside_a_variant_win() -> None:
    config = TrainConfig(variant="Z", cnn_width=48, resize_mode="opencv_inter_nearest", num_anchors=5)
    options = config.architecture()[1]
    assert (options["width"], options["in_channels"], len(options["anchors"])) == (48, 3, 5)
    assert options["head_ese"] and config.variant == "Z"


@pytest.mark.parametrize("family", FAMILIES)
def test_families_by_their_flags(family: str) -> None:
    """Facts: uhd-reference.md, section J."""
    flags: dict[str, Any] = {"arch": "ultratinyod", "cnn_width": 24, "num_anchors": 8, "auto_anchors": False}
    flags |= {"utod_residual": True, "use_improved_head": True, "activation": "swish"}
    if "readme" in family:
        flags |= {"utod_sppf_scale": "conv", "disable_cls": True, "utod_large_obj_depth": 1}
    flags["utod_head_ese"] = not family.startswith(("readme", "legacy_noese"))
    flags["use_iou_aware_head"] = family not in ("legacy_noese_swish", "legacy_ese_swish")
    if family.endswith("relu") or family.startswith(("current", "readme")):
        flags["activation"] = "relu"
    if family.startswith(("current", "legacy_loese")) or family.endswith("_lo"):
        flags |= {"utod_large_obj_branch": True, "utod_large_obj_ch_scale": 1.25}
    else:
        flags.pop("utod_large_obj_depth", None)
    modes = {"current_yuv422": "opencv_inter_nearest_yuv422", "current_y": "opencv_inter_nearest_y"}
    flags["resize_mode"] = modes.get(family, "torch_bilinear")
    assert UltraTinyODConfig(**TrainConfig(**flags).architecture()[1]) == family_config(family, 24)


def test_anchors_given_over_searched_over_published() -> None:
    assert TrainConfig().searches_anchors and not TrainConfig(auto_anchors=False).searches_anchors
    config = TrainConfig(anchors="0.1,0.2 0.3,0.4")
    assert not config.searches_anchors and config.num_anchors == 2
    assert config.architecture()[1]["anchors"] == ((0.1, 0.2), (0.3, 0.4))
    assert config.architecture([[0.5, 0.5]])[1]["anchors"] == ((0.5, 0.5),)
    assert TrainConfig(auto_anchors=False).fixed_anchors == REFERENCE_ANCHORS
    assert TrainConfig(arch="ultratinyod").fixed_anchors == ((0.1, 0.1), (0.2, 0.2), (0.3, 0.3))
    assert TrainConfig(arch="transformer").searches_anchors is False


@given(number=st.integers(1, 64))
def test_published_anchors_for_any_number(number: int) -> None:
    anchors = TrainConfig(num_anchors=number, auto_anchors=False).fixed_anchors
    assert len(anchors) == number and list(anchors) == sorted(anchors, key=lambda pair: pair[0] * pair[1])
    if number > 1:
        assert (anchors[0], anchors[-1]) == (REFERENCE_ANCHORS[0], REFERENCE_ANCHORS[-1])


def test_a_setting_of_the_reference_s_loss_chooses_its_assigner_and_weights() -> None:
    assert TrainConfig().anchor_assigner == "aligned" and TrainConfig().loss_weight_box == 2.5
    config = TrainConfig(obj_target="iou", loss_weight_obj=16.0)
    assert (config.anchor_assigner, config.loss_weight_box, config.loss_weight_obj) == ("legacy", 1.0, 16.0)
    assert TrainConfig(anchor_assigner="simota").loss_weight_obj == 1.0
    assert TrainConfig(anchor_assigner="aligned", obj_target="iou").loss_weight_box == 2.5


def test_classes_and_attributes() -> None:
    config = TrainConfig(classes="0,3,1,7", multi_label_mode="separate", multi_label_attr_classes="7,3")
    assert (config.class_ids, config.det_ids, config.attr_ids) == ((0, 3, 1, 7), (0, 1), (7, 3))
    options = config.architecture()[1]
    assert (options["num_classes"], options["attr_classes"]) == (2, 2)
    other = TrainConfig(classes="0,3", multi_label_mode="separate", multi_label_det_classes="3")
    assert (other.det_ids, other.attr_ids) == ((3,), (0,))
    assert TrainConfig(classes="0,3", multi_label_mode="single").det_ids == (0, 3)


def test_other_architectures() -> None:
    arch, options = TrainConfig(
        arch="cnn", backbone="ultratinyresnet", backbone_channels="8,16", backbone_blocks="1,2", backbone_skip_cat=True
    ).architecture()
    assert arch == "cnn" and options["backbone_channels"] == (8, 16) and options["output_stride"] == 16
    assert "anchors" not in options
    assert len(TrainConfig(arch="cnn", use_anchor=True).architecture()[1]["anchors"]) == 3
    arch, options = TrainConfig(arch="transformer", d_model=32, use_fpn=True).architecture()
    assert arch == "transformer" and options["d_model"] == 32 and options["use_fpn"]
    assert TrainConfig(arch="transformer").head == "detr"


@pytest.mark.parametrize(
    ("value", "kept", "size"),
    [(64, 64, (64, 64)), ("64x64", 64, (64, 64)), ("48X96", "48x96", (48, 96)), ("96", 96, (96, 96))],
)
def test_sizes(value: Any, kept: Any, size: tuple[int, int]) -> None:
    config = TrainConfig(img_size=value)
    assert config.img_size == kept and config.input_size == size == parse_size(value)


#: Settings, and what the complaint must name.
CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"variant": "Q"}, "variant: unknown variant 'Q'"),
    ({"variant": "R", "arch": "cnn"}, "arch: variant R is an ultratinyod"),
    ({"train_list": "a.txt"}, "train_list: needs val_list"),
    ({"val_list": "a.txt"}, "val_list: needs train_list"),
    ({"images": "a"}, "images: needs val"),
    ({"val": "a"}, "val: needs images"),
    ({"images": "a", "val": "b", "train_list": "c", "val_list": "d"}, "train_list: images says the same"),
    ({"train_split": 0.9, "val_split": 0.2}, "val_split: train_split + val_split is 1.1"),
    ({"arch": "transformer", "use_anchor": True}, "use_anchor: a transformer has no anchors"),
    ({"arch": "transformer", "d_model": 30}, "d_model: 30 must be a multiple"),
    ({"arch": "cnn", "utod_residual": True}, "utod_residual: belongs to arch ultratinyod"),
    ({"arch": "ultratinyod", "use_skip": True}, "use_skip: belongs to arch cnn"),
    ({"arch": "cnn", "num_queries": 3}, "num_queries: belongs to arch transformer"),
    ({"arch": "cnn", "score_mode": "obj"}, "score_mode: only anchor heads"),
    ({"arch": "cnn", "disable_cls": True}, "disable_cls: only anchor heads"),
    ({"classes": "0,1", "disable_cls": True}, "disable_cls: works with one class"),
    ({"classes": "1,1"}, "classes '1,1' is not a comma-separated list"),
    ({"arch": "cnn", "backbone_fpn": True}, "backbone_fpn: needs a backbone"),
    ({"backbone": "microcspnet", "backbone_channels": "8"}, "backbone_channels: only the backbone ultratinyresnet"),
    ({"backbone": "ultratinyresnet", "backbone_channels": "8,x"}, "backbone_channels: '8,x' is not"),
    (
        {"backbone": "ultratinyresnet", "backbone_channels": "8,8", "backbone_blocks": "1"},
        "backbone_blocks: names 1 stages, backbone_channels 2; give as many of both",
    ),
    ({"backbone": "microcspnet", "backbone_out_stride": 5}, "backbone_out_stride: 5 is not"),
    ({"multi_label_attr_classes": "0"}, "multi_label_attr_classes: needs multi_label_mode"),
    ({"multi_label_mode": "separate", "classes": "0,1"}, "multi_label_mode: separate needs"),
    (
        {"multi_label_mode": "separate", "classes": "0,1", "multi_label_attr_classes": "2"},
        "multi_label_attr_classes: [2] is not in classes",
    ),
    (
        {
            "multi_label_mode": "separate",
            "classes": "0,1",
            "multi_label_det_classes": "0,1",
            "multi_label_attr_classes": "1",
        },
        "multi_label_attr_classes: [1] is in multi_label_det_classes too",
    ),
    (
        {"arch": "cnn", "multi_label_mode": "separate", "classes": "0,1", "multi_label_attr_classes": "1"},
        "multi_label_mode: separate belongs to arch ultratinyod",
    ),
    ({"anchors": "0.1"}, "anchors: '0.1' is not width,height"),
    ({"anchors": "0.1,-1"}, "anchors: '0.1,-1' is no size"),
    ({"anchors": "0.1,0.1", "num_anchors": 2}, "num_anchors: 2, but anchors lists 1"),
    ({"arch": "cnn", "anchors": "0.1,0.1"}, "anchors: this head has none"),
    ({"distill_kl": 1.0}, "distill_kl: needs a teacher"),
    ({"teacher_arch": "cnn"}, "teacher_arch: needs a teacher"),
    ({"teacher_ckpt": "t.pt"}, "teacher_ckpt: nothing is learnt"),
    ({"teacher_backbone": "d.pth", "distill_kl": 1.0}, "distill_kl: needs a teacher"),
    ({"arch": "cnn", "teacher_ckpt": "t.pt", "distill_obj": 1.0}, "distill_obj: needs an anchor head"),
    ({"arch": "cnn", "qat": True}, "qat: the chip's roundings"),
    ({"qat": True, "w_bits": 4}, "qat: w_bits and a_bits"),
    ({"qat_preset": "R-precision"}, "qat_preset: has no effect without qat"),
    ({"highbit_quant_target": "head"}, "low-bit and high-bit quantization both name head"),
    ({"resume": True, "ckpt": "x.pt"}, "ckpt: it starts a run"),
    ({"ckpt_non_strict": True}, "ckpt_non_strict: says how to read ckpt"),
    ({"val_only": True}, "val_only: needs a checkpoint"),
    ({"img_size": 65}, "img_size: height and width must be multiples of 8"),
    ({"img_size": "64x"}, "img_size: '64x' is not height x width"),
    ({"epochs": 0}, "epochs: Input should be greater than or equal to 1"),
    ({"lr": float("nan")}, "lr: "),
    ({"crop_min": float("nan")}, "crop_min: "),
    ({"use_ema": 1}, "use_ema: Input should be a valid boolean"),
    ({"iou_loss": "diou"}, "iou_loss: Input should be 'iou', 'giou' or 'ciou'"),
    ({"iuo_loss": "ciou"}, "'iuo_loss': unknown setting; did you mean iou_loss?"),
]


@pytest.mark.parametrize(
    ("values", "message"), CONTRADICTIONS, ids=lambda v: "+".join(v) if isinstance(v, dict) else ""
)
def test_contradictions_are_one_line_that_names_the_setting(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_train_config(values, "run.yaml")
    assert str(error.value).startswith(f"run.yaml: {message}"), str(error.value)
    assert "\n" not in str(error.value)


def test_values_in_other_spellings() -> None:
    config = parse_train_config(
        {
            "classes": 0,
            "arch": "ultratinyod",
            "activation": "silu",
            "resize_mode": "OpenCV-Inter-Nearest",
            "anchors": [[0.1, 0.2]],
        },
        "x",
    )
    assert config.classes == "0" and config.resize_mode == "opencv_inter_nearest" and config.anchors == "0.1,0.2"
    assert parse_train_config({"classes": [2, 0]}, "x").class_ids == (2, 0)
    assert parse_train_config({"arch": "cnn", "backbone": "none"}, "x").backbone is None
    stages = {"backbone": "ultratinyresnet", "backbone_channels": [8, 9], "backbone_blocks": [1, 1]}
    assert parse_train_config(stages, "x").backbone_channels == "8,9"


def test_mild_halves_the_changes() -> None:
    mild = TrainConfig(brightness=0.2, crop_min=0.4).mild()
    assert mild.brightness == pytest.approx(0.1) and mild.crop_min == pytest.approx(0.7)


@given(ids=st.lists(st.integers(0, 999), min_size=1, max_size=6, unique=True))
def test_class_ids(ids: list[int]) -> None:
    assert parse_class_ids(",".join(map(str, ids))) == tuple(ids)


@pytest.mark.parametrize("text", ["", "0,", "a", "-1", "1,1", "01,1", "²"])
def test_class_ids_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a comma-separated list"):
        parse_class_ids(text)


@given(pairs=st.lists(st.tuples(*[st.floats(1e-6, 16)] * 2), max_size=9))
def test_anchor_texts(pairs: list[tuple[float, float]]) -> None:
    assert parse_pairs(" ".join(f"{w!r},{h!r}" for w, h in pairs)) == tuple(pairs)
