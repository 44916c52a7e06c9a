"""Behaviour of the model: which branches run, every option's gradient, anchors, initial values."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.models.head import PRIOR_LOGIT, interleave
from uhd.models.ultratinyod import UltraTinyOD, UltraTinyODConfig

torch.set_num_threads(1)

FULL = {
    "width": 2, "residual": True, "improved_head": True, "iou_aware_head": True, "head_ese": True, "attr_classes": 2,
    "large_obj_branch": True, "large_obj_ch_scale": 1.25, "num_classes": 3, "activation": "relu",
}  # fmt: skip


def build(**options: object) -> UltraTinyOD:
    torch.manual_seed(0)
    return UltraTinyOD(UltraTinyODConfig(**{**FULL, **options}))


OPTIONS = [
    {},
    *({"quant_arch": arch} for arch in range(1, 12)),
    {"iou_aware_head": False},
    {"improved_head": False},
    {"iou_aware_head": False, "improved_head": False, "residual": False},
    {"disable_cls": True},
    {"context_rfb": True, "context_dilation": 0},
    {"conv": "std", "context_rfb": True},
    {"conv": "std", "quant_arch": 2},
    {"sppf_scale": "bn"},
    {"sppf_scale": "conv", "batchnorm": False},
    {"out_stride": 4},
    {"out_stride": 16, "quant_arch": 10},
    {"large_obj_depth": 0, "large_obj_ch_scale": 0.0},
    {"w_bits": 4, "a_bits": 4},
    {"anchors": ((0.5, 0.5),)},
]


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: "-".join(f"{k}={v}" for k, v in options.items()) or "full"
)
def test_shapes_and_gradients(options: dict[str, object]) -> None:
    """Every parameter takes part in some output, and the maps have the sizes the configuration says."""
    model = build(**options)
    config = model.config
    x = torch.rand(2, 3, 52, 70, generator=torch.Generator().manual_seed(1))
    maps = model.maps(x)
    assert tuple(maps) == config.map_names
    a, height, width = config.anchor_count, -(-52 // config.out_stride), -(-70 // config.out_stride)
    channels = {"box": 4 * a, "obj": a, "quality": a, "cls": a * config.class_count, "attr": a * config.attr_count}
    assert {k: tuple(v.shape) for k, v in maps.items()} == {k: (2, channels[k], height, width) for k in maps}
    sum(value.square().sum() for value in maps.values()).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None and name != "head.wh_scale"]
    assert dead == []


def test_raw_map_interleaves_the_maps() -> None:
    model = build().eval()
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        maps, raw = model.maps(x), model(x)
    a, fields = model.config.anchor_count, 4 + 1 + 1 + 3
    assert raw.shape == (1, a * fields, 8, 8)
    for anchor in range(a):
        block = raw[:, anchor * fields : (anchor + 1) * fields]
        assert torch.equal(block[:, :4], maps["box"][:, 4 * anchor : 4 * anchor + 4])
        assert torch.equal(block[:, 4], maps["obj"][:, anchor])
        assert torch.equal(block[:, 5], maps["quality"][:, anchor])
        assert torch.equal(block[:, 6:], maps["cls"][:, 3 * anchor : 3 * anchor + 3])


@given(st.integers(1, 5), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_interleave_is_a_permutation(anchors: int, fields: list[int]) -> None:
    total = anchors * sum(fields)
    values = torch.arange(total, dtype=torch.float32).view(1, total, 1, 1)
    starts = list(itertools.accumulate([0, *(anchors * f for f in fields)]))
    maps = {str(i): values[:, lo:hi] for i, (lo, hi) in enumerate(itertools.pairwise(starts))}
    joined = interleave(maps, anchors).flatten().tolist()
    expected = [lo + a * f + i for a in range(anchors) for lo, f in zip(starts, fields, strict=False) for i in range(f)]
    assert joined == expected


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from(["box", "obj", "quality", "cls", "attr"])))
def test_only_named_branches_run(names: set[str]) -> None:
    model = build().eval()
    called: set[str] = set()
    for branch in ("box", "obj", "quality", "cls", "attr"):
        output = getattr(model.head, f"{branch}_out")
        output.register_forward_hook(lambda *_args, branch=branch: called.add(branch))
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        maps = model.maps(x, names)
        assert called == names == set(maps)
        everything = model.maps(x)
    assert all(torch.equal(maps[name], everything[name]) for name in names)


def test_a_map_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError, match="no map quality; this head has box, obj, cls"):
        build(iou_aware_head=False, improved_head=False, attr_classes=0).maps(torch.rand(1, 3, 32, 32), ["quality"])


def test_large_object_branch_odd_maps() -> None:
    """The branch halves and then restores maps of odd size too."""
    assert build().eval()(torch.rand(1, 3, 40, 56)).shape[2:] == (5, 7)


def test_initial_values() -> None:
    head = build().head
    for name in ("obj_out", "cls_out", "attr_out"):
        assert torch.allclose(getattr(head, name).bias.sigmoid(), torch.tensor(0.01))
    assert abs(PRIOR_LOGIT - torch.tensor(0.01, dtype=torch.float64).logit().item()) < 1e-12
    for name in ("box_out", "quality_out"):
        assert not getattr(head, name).bias.any()
    weight = UltraTinyOD(UltraTinyODConfig(width=64)).backbone.block4.pw.conv.weight
    assert weight.std().item() == pytest.approx((2 / weight.shape[0]) ** 0.5, rel=0.02)
    assert torch.equal(head.wh_scale, torch.ones(3, 2))
    assert isinstance(head.wh_scale, torch.nn.Parameter)
    assert not isinstance(build(improved_head=False).head.wh_scale, torch.nn.Parameter)


def test_new_anchors_of_the_same_count_keep_the_weights() -> None:
    model = build()
    before = copy.deepcopy(model.state_dict())
    model.set_anchors(torch.full((3, 2), 0.25))
    assert model.config.anchors == ((0.25, 0.25),) * 3
    changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert changed == ["head.anchors"]


@pytest.mark.parametrize("improved", [True, False])
def test_another_count_of_anchors_rebuilds_the_outputs(improved: bool) -> None:
    model = build(improved_head=improved)
    with torch.no_grad():
        model.head.wh_scale.fill_(2.0)
    model.set_anchors(torch.rand(5, 2) + 0.1)
    assert torch.equal(model.wh_scale, torch.ones(5, 2))
    assert isinstance(model.wh_scale, torch.nn.Parameter) == improved
    fresh = UltraTinyOD(model.config)
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in fresh.state_dict().items()}
    assert model(torch.rand(1, 3, 32, 32)).shape[1] == model.config.raw_channels == 5 * 9


def test_loaded_weights_bring_their_anchors() -> None:
    source, target = build(anchors=((0.125, 0.25),)), build(anchors=((0.5, 0.5),))
    target.load_state_dict(source.state_dict())
    assert target.config == source.config


def test_copies_are_independent() -> None:
    model = build()
    clone = copy.deepcopy(model)
    clone.set_anchors(torch.full((3, 2), 0.25))
    assert model.config.anchors != clone.config.anchors
    assert not torch.equal(model.anchors, clone.anchors)


def test_a_few_steps_reduce_a_loss() -> None:
    model = build(attr_classes=0).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    x, target = torch.rand(4, 3, 32, 32), torch.randn(4, model.config.raw_channels, 4, 4)
    losses = []
    for _ in range(12):
        loss = (model(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
