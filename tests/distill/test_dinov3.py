"""Vision transformers as teachers of features: against NumPy, from every layout of file, and with parts missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from support import tiny_vit
from support.tiny_vit import DEPTH, DIM, weights
from uhd.errors import ModelError
from uhd.models.dinov3_weights import infer_config, load_dinov3

torch.set_num_threads(1)


def saved(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


def picture(height: int = 12, width: int = 16) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("style", ["rotary", "additive"])
@pytest.mark.parametrize("norm", ["imagenet", "none"])
def test_features_against_numpy(tmp_path: Path, gated: bool, style: str, norm: str) -> None:
    state = weights(gated)
    hint = "tiny"
    model = load_dinov3(saved(tmp_path / "vit.pth", state), hint, style=style, norm=norm)  # type: ignore[arg-type]
    assert model.report == "" and not model.training
    assert (model.config.depth, model.config.heads, model.config.storage_tokens) == (DEPTH, tiny_vit.HEADS, 4)
    with torch.no_grad():
        found = model(picture())
    for index in range(2):
        expected = tiny_vit.features(
            state, picture()[index], additive=style == "additive", normalised=norm == "imagenet"
        )
        np.testing.assert_allclose(found[index].numpy(), expected, atol=2e-5)


def transformers_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names that the transformers library gives; keys have no bias there."""
    gated = "blocks.0.mlp.w3.weight" in state
    mlp = {"w1": "gate_proj", "w2": "up_proj", "w3": "down_proj"} if gated else {"fc1": "up_proj", "fc2": "down_proj"}
    result = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.register_tokens": state["storage_tokens"],
        "embeddings.mask_token": state["mask_token"],
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
    }
    for part in ("weight", "bias"):
        result[f"embeddings.patch_embeddings.{part}"] = state[f"patch_embed.proj.{part}"]
    for index in range(DEPTH):
        for part in ("weight", "bias"):
            for old, new in {"attn.proj": "attention.o_proj", "norm1": "norm1", "norm2": "norm2"}.items():
                result[f"layer.{index}.{new}.{part}"] = state[f"blocks.{index}.{old}.{part}"]
            for old, new in mlp.items():
                result[f"layer.{index}.mlp.{new}.{part}"] = state[f"blocks.{index}.mlp.{old}.{part}"]
            for name, value in zip("qkv", state[f"blocks.{index}.attn.qkv.{part}"].chunk(3), strict=True):
                if not (name == "k" and part == "bias"):
                    result[f"layer.{index}.attention.{name}_proj.{part}"] = value.clone()
        for scale in "12":
            result[f"layer.{index}.layer_scale{scale}.lambda1"] = state[f"blocks.{index}.ls{scale}.gamma"]
    return result


@pytest.mark.parametrize("gated", [False, True])
def test_every_layout_gives_the_same_features(tmp_path: Path, gated: bool) -> None:
    state = weights(gated)
    plain = load_dinov3(saved(tmp_path / "plain.pth", state), "tiny")(picture())
    prefixed = {f"backbone.dinov3._model.{key}": value for key, value in state.items()} | {"decoder.x": torch.ones(2)}
    old_mask = {key.replace("qkv.bias_mask", "qkv_bias_mask"): value for key, value in state.items()}
    for name, stored in (
        ("module", {"state_dict": {f"module.{key}": value for key, value in state.items()}}),
        ("nested", {"epoch": 3, "model": prefixed, "optimizer": {"lr": 0.1}}),
        ("old-mask", old_mask),
    ):
        model = load_dinov3(saved(tmp_path / f"{name}.pt", stored), "tiny")
        assert model.report == "" and torch.equal(model(picture()), plain), name
    save_file(state, tmp_path / "plain.safetensors")
    assert torch.equal(load_dinov3(tmp_path / "plain.safetensors")(picture()), plain)
    save_file(transformers_layout(state), tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="heads"):  # 24 channels do not tell that they are two heads
        load_dinov3(tmp_path / "other.safetensors", "dinov3_vitb16")
    wide = load_state_with_heads(tmp_path, transformers_layout(state))
    assert torch.allclose(wide, plain, atol=1e-5)


def load_state_with_heads(folder: Path, state: dict[str, Tensor]) -> Tensor:
    """Features of a layout that does not store the periods, which tell the heads of an odd size."""
    told = {**state, "rope_embed.periods": weights(False)["rope_embed.periods"]}
    save_file(told, folder / "told.safetensors")
    return load_dinov3(folder / "told.safetensors")(picture())


def test_heads_by_hint_periods_and_width() -> None:
    state = {key: value for key, value in weights(False).items() if key != "rope_embed.periods"}
    assert infer_config(state, "x", "dinov3_vits16").heads == 6
    with pytest.raises(ModelError, match="24 channels"):
        infer_config(state, "x", "dinov3_vitb16")
    assert infer_config(state, "x").heads == 1
    assert infer_config(weights(False), "x").heads == 2
    with pytest.raises(ModelError, match="teacher_backbone_arch"):
        infer_config(weights(False), "x", "vits")
    for dim, heads in ((384, 6), (768, 12), (1024, 16)):
        sized = {"patch_embed.proj.weight": torch.zeros(dim, 3, 16, 16), "blocks.0.mlp.fc1.weight": torch.zeros(8, dim)}
        assert infer_config(sized, "x").heads == heads


def test_what_is_missing_has_no_effect_and_is_told(tmp_path: Path) -> None:
    state = weights(False)
    dropped = [key for key in state if ".ls" in key or key.endswith("proj.bias") or key == "cls_token"]
    neutral = dict(state)
    for key in dropped:
        neutral[key] = torch.ones_like(state[key]) if ".ls" in key else torch.zeros_like(state[key])
    extra = {key: value for key, value in state.items() if key not in dropped} | {"blocks.0.extra": torch.ones(2)}
    model = load_dinov3(saved(tmp_path / "part.pth", extra))
    assert f"{len(dropped)} missing" in model.report and "1 unknown (e.g. blocks.0.extra)" in model.report
    np.testing.assert_allclose(
        model(picture())[0].detach().numpy(), tiny_vit.features(neutral, picture()[0]), atol=2e-5
    )


def test_mask_that_was_never_filled_in(tmp_path: Path) -> None:
    state = weights(True)
    damaged = {key: torch.full_like(v, float("nan")) if key.endswith("mask") else v for key, v in state.items()}
    found = load_dinov3(saved(tmp_path / "nan.pth", damaged))(picture())
    assert torch.equal(found, load_dinov3(saved(tmp_path / "good.pth", state))(picture()))


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        ("patch_embed.", "no vision transformer"),
        ("blocks.", "no blocks"),
        ("blocks.0.", "MLP"),
        ("blocks.1.attn.qkv.weight", "incomplete"),
        ("blocks.1.mlp.fc2.weight", "incomplete"),
    ],
)
def test_without_its_main_parts_it_is_refused(tmp_path: Path, drop: str, message: str) -> None:
    state = {key: value for key, value in weights(False).items() if not key.startswith(drop)}
    with pytest.raises(ModelError, match=message) as caught:
        load_dinov3(saved(tmp_path / "part.pth", state))
    assert "part.pth" in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_shapes_and_values_are_refused(tmp_path: Path) -> None:
    state = weights(False)
    with pytest.raises(ModelError, match="shape"):
        load_dinov3(saved(tmp_path / "a.pth", {**state, "blocks.1.norm1.weight": torch.ones(DIM + 1)}))
    with pytest.raises(ModelError, match="finite"):
        load_dinov3(saved(tmp_path / "b.pth", {**state, "norm.bias": torch.full((DIM,), float("inf"))}))
    with pytest.raises(ModelError, match="RGB"):
        load_dinov3(saved(tmp_path / "c.pth", {**state, "patch_embed.proj.weight": torch.ones(DIM, 1, 4, 4)}))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        load_dinov3(tmp_path / "absent.pth")
    (tmp_path / "noise.pth").write_bytes(b"\x80\x02 no such thing")
    with pytest.raises(ModelError, match="noise.pth"):
        load_dinov3(tmp_path / "noise.pth")
    whole = saved(tmp_path / "whole.pth", weights(False)).read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"cut\.pth"):
        load_dinov3(tmp_path / "cut.pth")
    save_file(weights(False), tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-9])
    with pytest.raises(ModelError, match=r"cut\.safetensors"):
        load_dinov3(tmp_path / "cut.safetensors")


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


def test_a_pickle_bomb_does_not_go_off(tmp_path: Path) -> None:
    marker = tmp_path / "went-off"
    with pytest.raises(ModelError, match="not loaded"):
        load_dinov3(saved(tmp_path / "bomb.pth", {"model": weights(False), "x": Bomb(marker)}))
    assert not marker.exists()


def test_pictures_of_any_size(tmp_path: Path) -> None:
    model = load_dinov3(saved(tmp_path / "vit.pth", weights(False)))
    odd = picture(10, 13)
    assert model(odd).shape == (2, DIM, 3, 4)
    enlarged = functional.interpolate(odd, size=(12, 16), mode="bilinear", align_corners=False)
    assert torch.equal(model(odd), model(enlarged))
    enlarged = functional.interpolate(picture(), size=(24, 28), mode="bilinear", align_corners=False)
    assert torch.equal(model(picture(), (6, 7)), model(enlarged))
    assert model(picture(), (3, 4)).shape == (2, DIM, 3, 4)
