"""Cnn: any combination of options builds, trains and keeps its promises about sizes and names."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.architectures import SMALL, small
from uhd.models import CnnConfig, build_model
from uhd.models.cnn import Cnn
from uhd.models.head import PRIOR_LOGIT

SKIPS = ("", "backbone_skip", "backbone_skip_cat", "backbone_skip_shuffle_cat", "backbone_skip_s2d_cat")

stages = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2)), min_size=1, max_size=4)


@st.composite
def configs(draw: st.DrawFn) -> CnnConfig:
    rows = draw(stages)
    options: dict[str, Any] = {
        "cnn_width": draw(st.integers(1, 5)),
        "in_channels": draw(st.integers(1, 3)),
        "num_classes": draw(st.integers(1, 3)),
        "activation": draw(st.sampled_from(["relu", "swish"])),
        "use_batchnorm": draw(st.booleans()),
        "use_skip": draw(st.booleans()),
        "last_se": draw(st.sampled_from(["none", "se", "ese"])),
        "last_width_scale": draw(st.floats(0.5, 2)),
        "output_stride": draw(st.sampled_from([4, 8, 16])),
        "backbone": draw(st.sampled_from([None, "ultratinyresnet", "ultratinyresnet"])),
        "backbone_channels": [channels for channels, _ in rows],
        "backbone_blocks": [blocks for _, blocks in rows],
        "backbone_se": draw(st.sampled_from(["none", "se", "ese"])),
        "backbone_fpn": draw(st.booleans()),
        "backbone_out_stride": draw(st.sampled_from([None, 4, 8, 16])),
        "use_anchor": draw(st.booleans()),
    }
    options |= {name: True for name in draw(st.sets(st.sampled_from(SKIPS[1:]), max_size=2))}
    if options["use_anchor"]:
        options["anchors"] = [[0.1 * (i + 1), 0.2] for i in range(draw(st.integers(1, 4)))]
        options["disable_cls"] = draw(st.booleans())
    return CnnConfig.model_validate(options)


@settings(max_examples=40, deadline=None)
@given(config=configs(), size=st.tuples(st.integers(17, 40), st.integers(17, 40)))
def test_any_combination_runs_forward_and_backward(config: CnnConfig, size: tuple[int, int]) -> None:
    """Output sizes follow from the configuration, and every trainable weight takes part in some output."""
    model = Cnn(config)
    x = torch.rand(2, config.in_channels, *size)
    grid = tuple(-(-n // config.out_stride) for n in size)
    assert model.eval().features(x).shape == (2, config.feature_channels, *grid)
    maps = model.maps(x)
    count, classes = config.anchor_count, config.class_count
    channels = {"box": 4 * count, "obj": count, "cls": count * classes, "hm": classes, "off": 2, "wh": 2}
    assert {k: tuple(v.shape) for k, v in maps.items()} == {k: (2, channels[k], *grid) for k in config.map_names}
    sum(value.square().sum() for value in maps.values()).backward()
    silent = [name for name, p in model.named_parameters() if (p.grad is None) == p.requires_grad]
    assert silent == []


@settings(max_examples=25, deadline=None)
@given(config=configs())
def test_names_depend_on_the_configuration_alone(config: CnnConfig) -> None:
    again = CnnConfig.model_validate_json(config.model_dump_json())
    assert again == config
    first, second = Cnn(config), build_model("cnn", config.options())
    assert {k: v.shape for k, v in first.state_dict().items()} == {k: v.shape for k, v in second.state_dict().items()}
    norms = [m for m in first.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert config.use_batchnorm or not norms


@pytest.mark.parametrize("backbone", ["microcspnet", "enhanced-shufflenet"])
@pytest.mark.parametrize("options", [{}, {"backbone_skip": True, "use_batchnorm": False}, {"backbone_se": "se"}])
def test_fixed_backbones(backbone: str, options: dict[str, Any]) -> None:
    model = build_model("cnn", {"backbone": backbone, "in_channels": 2, **options})
    x = torch.rand(2, 2, 24, 40)
    assert model.features(x).shape == (2, model.config.feature_channels, 3, 5)
    sum(value.sum() for value in model.maps(x).values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_frozen_weights_change_nothing() -> None:
    """What published checkpoints hold without use is neither trained nor read."""
    model = build_model(
        "cnn", {"backbone": "ultratinyresnet", "backbone_channels": [3, 4, 5], "backbone_blocks": [1, 1, 1],
                "backbone_skip_cat": True, "backbone_fpn": True},
    ).eval()  # fmt: skip
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert {name.split(".")[1] for name in frozen} == {"skip_proj", "skip_concat_reduce"}
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        before = model.maps(x)
        for name, parameter in model.named_parameters():
            if name in frozen:
                parameter.add_(1)
        after = model.maps(x)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_space_to_depth_of_odd_sizes_keeps_the_published_result_on_even_ones() -> None:
    """Where the size divides, nothing is resampled: moving one input pixel far from a cell leaves the cell alone."""
    model = small("resnet")
    assert model.features(torch.rand(1, 2, 17, 23)).shape == (1, 6, 5, 6)
    with torch.no_grad():
        calls: list[tuple[int, ...]] = []
        hook = torch.nn.functional.adaptive_avg_pool2d
        torch.nn.functional.adaptive_avg_pool2d = lambda x, size: calls.append(size) or hook(x, size)  # type: ignore
        try:
            model.features(torch.rand(1, 2, 16, 24))
            assert calls == []
            model.features(torch.rand(1, 2, 17, 24))
            assert calls == [(20, 24), (10, 12)]
        finally:
            torch.nn.functional.adaptive_avg_pool2d = hook


def test_raw_map_holds_the_maps() -> None:
    model = small("anchor", num_classes=2)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        raw, maps = model(x).view(2, 3, 7, 4, 4), model.maps(x)
    assert torch.equal(raw[:, :, :4].flatten(1, 2), maps["box"])
    assert torch.equal(raw[:, :, 4], maps["obj"])
    assert torch.equal(raw[:, :, 5:].flatten(1, 2), maps["cls"])


@pytest.mark.parametrize("name", ["cnn", "anchor", "detr"])
def test_named_maps(name: str) -> None:
    model = small(name)
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        everything = model.maps(x)
        for key in model.config.map_names:
            only = model.maps(x, [key])
            assert list(only) == [key]
            assert torch.equal(only[key], everything[key])
    with pytest.raises(KeyError, match="no map depth; this head has"):
        model.maps(x, ["depth"])


def test_initial_priors() -> None:
    centre = build_model("cnn", {"num_classes": 3})
    assert torch.allclose(centre.head_hm.bias.sigmoid(), torch.tensor(0.1))
    anchor = build_model("cnn", {"use_anchor": True, "num_classes": 2})
    bias = anchor.head.bias.detach().view(3, 7)
    assert not bias[:, :4].any()
    assert torch.equal(bias[:, 4:], torch.full((3, 3), PRIOR_LOGIT))


def test_anchors() -> None:
    model = small("anchor")
    assert torch.allclose(model.anchors, torch.tensor([[0.1, 0.1], [0.2, 0.2], [0.3, 0.3]]))
    assert torch.equal(model.wh_scale, torch.ones(3, 2))
    clone, weight = copy.deepcopy(model), model.head.weight
    model.set_anchors(torch.full((3, 2), 0.5))
    assert model.head.weight is weight
    assert model.config.anchors == ((0.5, 0.5),) * 3
    clone.set_anchors(torch.rand(2, 2) + 0.1)
    assert clone(torch.rand(1, 3, 16, 16)).shape[1] == clone.config.raw_channels == 12
    model.load_state_dict(small("anchor").state_dict())
    assert model.config == small("anchor").config.with_anchors(model.anchors.tolist())
    with pytest.raises(ValueError, match="has no anchors"):
        small("cnn").set_anchors(torch.rand(2, 2))
    assert small("cnn").anchors.shape == small("detr").wh_scale.shape == (0, 2)


@pytest.mark.parametrize("name", ["cnn", "anchor", "resnet", "detr", "fpn"])
def test_layout_and_half_precision(name: str) -> None:
    """Channels-last weights give the same numbers; under autocast probabilities stay in float32."""
    model = small(name)
    x = torch.rand(2, model.config.in_channels, 32, 32)
    with torch.no_grad():
        plain = model.maps(x)
        moved = model.to(memory_format=torch.channels_last).maps(x.contiguous(memory_format=torch.channels_last))
        assert all(torch.allclose(plain[key], moved[key], atol=1e-5) for key in plain)
        with torch.autocast("cpu", torch.bfloat16):
            half = model.maps(x)
        for key, value in half.items():
            assert torch.allclose(plain[key], value.float(), atol=0.1), key
            assert key not in ("hm", "boxes") or value.dtype == torch.float32


@pytest.mark.parametrize("name", SMALL)
def test_maps_and_features_of_one_pass(name: str) -> None:
    model = small(name)
    x = torch.rand(2, model.config.in_channels, 32, 24)
    chosen = [model.config.map_names[-1]]
    with torch.no_grad():
        maps, features = model.maps_and_features(x, chosen)
        assert list(maps) == chosen
        assert torch.equal(maps[chosen[0]], model.maps(x)[chosen[0]])
        assert torch.equal(features, model.features(x))
    stride = model.config.out_stride
    assert features.shape[2:] == (-(-32 // stride), -(-24 // stride))


@pytest.mark.parametrize("name", ["cnn", "anchor", "resnet", "detr", "fpn"])
def test_seed_decides_fresh_weights_and_dropout(name: str) -> None:
    arch, options = small(name).config.arch, small(name).config.options()
    results = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        model = build_model(arch, options).train()
        x = torch.linspace(0, 1, model.config.in_channels * 512).view(2, -1, 16, 16)
        results.append(model.maps(x))
    first, second, third = results
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], third[key]) for key in first)


def test_a_few_steps_reduce_a_loss() -> None:
    torch.manual_seed(0)
    for name in ("cnn", "anchor", "detr"):
        model = small(name).train()
        optimizer = torch.optim.Adam(model.parameters(), 3e-2)
        x = torch.rand(2, 3, 16, 16)
        targets = {key: torch.rand_like(value) for key, value in model.maps(x).items()}
        losses = []
        for _ in range(6):
            loss = sum((value - targets[key]).square().mean() for key, value in model.maps(x).items())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.9 * losses[0], name
