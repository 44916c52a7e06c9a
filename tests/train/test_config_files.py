"""Settings from files, from several places at once, and from anything at all."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from uhd.errors import ConfigError
from uhd.manifest import ModelManifest
from uhd.models import variants_config
from uhd.train.config import TrainConfig, combine, parse_train_config, read_settings, save_yaml, to_yaml
from uhd.train.config.adopt import adopt_checkpoint
from uhd.train.config.yaml_file import parse_yaml, plain_settings

TEXTS = st.one_of(
    st.sampled_from(
        ["1e-3", "on", "null", "0x1F", "~", ".5", "- a", "#x", "a: b", "", "0,2", "1:20", "=", "2001-01-01"]
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
)


def text_of(config: TrainConfig) -> TrainConfig:
    return parse_train_config(plain_settings(parse_yaml(to_yaml(config), "x"), "x"), "x")


@settings(max_examples=60, deadline=None)
@given(
    lr=st.floats(1e-12, 1e3),
    name=TEXTS.filter(bool),
    patterns=st.lists(TEXTS, max_size=3),
    seed=st.integers(0, 2**70),
    size=st.tuples(st.integers(4, 128), st.integers(4, 128)),
    variant=st.sampled_from([None, "R", "l"]),
)
def test_a_written_configuration_reads_back_equal(
    lr: float, name: str, patterns: list[str], seed: int, size: tuple[int, int], variant: str | None
) -> None:
    config = TrainConfig(
        lr=lr, exp_name=name, qat=True, qat_int16_op_pattern=tuple(patterns), seed=seed, aug_config=name,
        img_size=f"{8 * size[0]}x{8 * size[1]}", variant=variant,
    )  # fmt: skip
    assert text_of(config) == config
    assert parse_train_config(config.model_dump(mode="json"), "x") == config


@pytest.mark.parametrize("values", [{"arch": "cnn"}, {"arch": "transformer"}, {"cnn_width": 8, "arch": "ultratinyod"}])
def test_other_architectures_read_back_equal(values: dict[str, Any]) -> None:
    config = parse_train_config(values, "x")
    assert text_of(config) == config and config.variant is None


def test_numbers_are_read_as_they_are_written() -> None:
    text = "a: 1e-3\nb: on\nc: 010\nd: 2001-01-01\ne: 1:20\nf: ~\ng: '1'\nh: .5\ni: true\nj: -.inf\nk: 0o17"
    assert parse_yaml(text, "x") == {
        "a": 1e-3, "b": "on", "c": 10, "d": "2001-01-01", "e": "1:20", "f": None, "g": "1", "h": 0.5, "i": True,
        "j": -math.inf, "k": "0o17",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 1\nlr: 2", "run.yaml:2: not YAML (the key 'lr' comes twice)"),
        ("iou_loss: iou\niou-loss: ciou", "run.yaml: iou_loss: comes twice"),
        ("lr: [", "run.yaml:1: not YAML"),
        ("- lr", "run.yaml: not settings"),
        ("a: !!python/object:os.system x", "run.yaml:1: not YAML"),
        ("[" * 50_000, "run.yaml: nested too deeply"),
        ("seed: " + "9" * 5000, "run.yaml: not YAML"),
        ("a: &a [x]\n? *a\n: 1", "run.yaml:1: not YAML (found unhashable key)"),
    ],
    ids=range(8),
)
def test_broken_files(tmp_path: Path, text: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        read_settings(Path("run.yaml"))
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\xd8")
    (tmp_path / "empty").write_text("")
    for name in ("missing", "binary", "."):
        with pytest.raises(ConfigError, match="cannot read|not a text file"):
            read_settings(tmp_path / name)
    assert read_settings(tmp_path / "empty") == {}


def test_saved_file(tmp_path: Path) -> None:
    config = TrainConfig(variant="Y", lr=0.01)
    save_yaml(tmp_path / "config.yaml", config)
    assert combine([("x", read_settings(tmp_path / "config.yaml"))]) == config
    assert "# Optimisation" in (tmp_path / "config.yaml").read_text()


def test_later_places_win_and_complaints_name_the_place() -> None:
    config = combine([("a.yaml", {"lr": 0.1, "epochs": 3}), ("train", {"lr": 0.2})])
    assert (config.lr, config.epochs) == (0.2, 3)
    with pytest.raises(ConfigError, match=r"^a\.yaml: lr: "):
        combine([("a.yaml", {"lr": -1.0}), ("train", {"epochs": 3})])
    with pytest.raises(ConfigError, match=r"^train: lr: "):
        combine([("a.yaml", {"lr": 1.0}), ("train", {"lr": -1.0})])
    with pytest.raises(ConfigError, match=r"^a\.yaml: 'epoch': unknown setting; did you mean epochs\?"):
        combine([("a.yaml", {"epoch": 3}), ("train", {})])


def test_a_variant_replaces_the_architecture_of_a_file() -> None:
    file = TrainConfig(arch="ultratinyod", cnn_width=64, lr=0.1).model_dump(mode="json")
    config = combine([("a.yaml", file), ("train", {"variant": "Z"})])
    assert config.architecture()[1] == TrainConfig(variant="Z").architecture()[1] and config.lr == 0.1
    same = TrainConfig(variant="Z", num_anchors=4).model_dump(mode="json")
    assert combine([("a.yaml", same), ("train", {"variant": "Z"})]).num_anchors == 4
    lists = TrainConfig(train_list="a", val_list="b").model_dump(mode="json")
    assert combine([("a.yaml", lists), ("train", {"images": "c", "val": "d"})]).train_list is None


def adopt(values: dict[str, Any], letter: str, **manifest: Any) -> tuple[TrainConfig, list[str]]:
    mode = manifest.pop("resize_mode", "opencv_inter_nearest_yuv422")
    model = variants_config(letter, anchors=((0.1, 0.2), (0.3, 0.4)))
    told = ModelManifest(name="m", resize_mode=mode, **manifest)
    return adopt_checkpoint(parse_train_config(values, "x"), values, model, told, "m.pt")


def test_a_checkpoint_brings_its_architecture() -> None:
    config, notes = adopt({"epochs": 3}, "Z", input_height=96)
    assert (config.variant, config.cnn_width, config.epochs, notes) == ("Z", 32, 3, [])
    assert config.img_size == "96x64" and not config.searches_anchors
    assert config.architecture()[1]["anchors"] == ((0.1, 0.2), (0.3, 0.4))


def test_flags_that_do_not_fit_the_checkpoint_are_told() -> None:
    config, notes = adopt({"arch": "ultratinyod", "cnn_width": 64, "score_mode": "quality"}, "Z")
    assert config.cnn_width == 32 and config.score_mode == "quality"
    assert notes == ["cnn_width: 32, as in m.pt, not 64"]
    with pytest.raises(ConfigError, match=r"m\.pt is no variant R"):
        adopt({"variant": "R"}, "Z")
    with pytest.raises(ConfigError, match="gives 3 channels, m.pt reads 2"):
        adopt({"resize_mode": "torch_bilinear"}, "Z")
    with pytest.raises(ConfigError, match="classes: 0,1 names 2, m.pt has 1"):
        adopt({"classes": "0,1"}, "Z")


def test_a_file_of_settings_and_a_checkpoint() -> None:
    file = parse_train_config({"arch": "ultratinyod", "cnn_width": 64, "w_bits": 4}, "x").model_dump()
    told = ModelManifest(name="m")
    file["resize_mode"] = "opencv_inter_nearest_yuv422"
    config, notes = adopt_checkpoint(parse_train_config(file, "x"), file, variants_config("R"), told, "m.pt", flags=())
    assert (config.variant, config.w_bits) == ("R", 0) and "cnn_width: 16, as in m.pt, not 64" in notes


SETTINGS = st.sampled_from(sorted(TrainConfig.model_fields))
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 70), st.integers(), st.floats(), st.floats(0, 1), TEXTS,
    st.sampled_from(["none", "R", "cnn", "transformer", "ultratinyod", "legacy", "0,1", "0.1,0.2", "separate"]),
    st.lists(st.integers(-1, 9), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.binary(max_size=3), st.builds(object),
)  # fmt: skip


@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.dictionaries(st.one_of(SETTINGS, SETTINGS, SETTINGS, st.text(max_size=8)), VALUES, max_size=5))
@example(values={"classes": "9" * 5000})
@example(values={"img_size": "²x²"})
@example(values={"anchors": ["0.1", None]})
@example(values={"variant": ["R"]})
def test_anything_gives_a_configuration_or_one_line_that_names_the_key(values: dict[str, Any]) -> None:
    try:
        config = parse_train_config(values, "run.yaml")
    except ConfigError as error:
        text = str(error)
        assert "\n" not in text and text.startswith("run.yaml: ")
        named = text.removeprefix("run.yaml: ")
        assert any(named.startswith((name, repr(name)[:8])) for name in (*values, *TrainConfig.model_fields)), text
    else:
        assert parse_train_config(config.model_dump(mode="json"), "x") == config


@settings(max_examples=300, deadline=None)
@given(text=st.one_of(st.text(max_size=60), st.text("abc:-[]{}&*!|>'\"#%@,? \n0.e", max_size=40)))
def test_any_text_is_settings_or_one_line(text: str) -> None:
    try:
        plain_settings(parse_yaml(text, "run.yaml"), "run.yaml")
    except ConfigError as error:
        assert "\n" not in str(error) and str(error).startswith("run.yaml")
