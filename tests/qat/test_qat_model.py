"""How a model that trains on a chip's grid behaves: gradients, epochs, copies, states, refusals."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from support.qat_nets import SIDE, network, prepared, quantizer_here, scenes, train
from uhd.errors import ConfigError, ModelError
from uhd.manifest import ModelManifest
from uhd.models.checkpoint import load_checkpoint, save_checkpoint
from uhd.quantize.trained import trained_of
from uhd.train.ema import EMA
from uhd.train.qat.model import QatModel
from uhd.train.qat.prepare import finish, prepare, with_record
from uhd.train.qat.settings import QatSettings

__all__ = ["quantizer_here"]
pytestmark = pytest.mark.usefixtures("quantizer_here")

_KEPT: dict[str, QatModel] = {}


@pytest.fixture
def model(quantizer_here: None) -> QatModel:
    """A fresh copy of one prepared model: preparing is slow."""
    if not _KEPT:
        _KEPT["c"] = prepared(QatSettings("c"))
    return copy.deepcopy(_KEPT["c"])


def test_it_stands_in_for_the_model(model: QatModel) -> None:
    plain = model.model
    images = torch.from_numpy(scenes(4))
    assert model.config is plain.config and model.anchors is plain.anchors and model.wh_scale is plain.wh_scale
    model.eval(), plain.eval()
    with torch.no_grad():
        mine, theirs = model.maps(images), plain.maps(images)
        features, wanted = model.features(images), plain.backbone(images)  # type: ignore[operator]
    assert list(mine) == list(theirs) == ["box", "obj", "quality", "cls"]
    for name, part in theirs.items():
        error = (mine[name] - part).square().mean() / part.var()
        assert 0 < error < 0.2, f"{name}: 8 bits lose a little, not {error}"
    assert (features - wanted).square().mean() / wanted.var() < 0.1
    assert list(model.maps(images, ["cls"])) == ["cls"]
    with pytest.raises(KeyError, match="mask"):
        model.maps(images, ["mask"])


@pytest.mark.parametrize("epoch", [1, 3])
def test_gradients_reach_every_weight(model: QatModel, epoch: int) -> None:
    model.on_epoch(epoch)
    model.train()
    torch.stack([part.square().mean() for part in model.maps(torch.from_numpy(scenes(4))).values()]).sum().backward()
    for name, parameter in model.named_parameters():
        if "wh_scale" not in name:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


def test_observers_stop_and_norms_freeze_at_their_epochs(model: QatModel) -> None:
    images = 3 * torch.from_numpy(scenes(4))  # brighter than anything so far
    norm = next(m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))

    def state() -> tuple[list[int], list[int], list[float]]:
        assert norm.running_mean is not None
        return model.exponents.tolist(), model.weight_exponents.tolist(), norm.running_mean.tolist()

    seen = []
    for epoch in (1, 2, 3):
        before = state()
        model.on_epoch(epoch)
        model.train()
        for _ in range(8 if epoch == 1 else 1):
            model.maps(images, ["box"])
        if epoch > 1:
            with torch.no_grad():
                model.modules_of(model.plan.steps[0])[0].weight.mul_(64)
        after = state()
        seen.append(tuple(a != b for a, b in zip(before, after, strict=True)))
    assert seen[0][0] and seen[0][2], "activations and statistics follow in epoch 1"
    assert seen[1] == (False, False, True), "the grid stands still from epoch 2"
    assert seen[2] == (False, False, False), "the statistics stand still from epoch 3"


def test_zero_means_never(model: QatModel) -> None:
    model.settings = QatSettings("c", disable_observer_epoch=0, freeze_bn_epoch=0)
    model.on_epoch(1000)
    assert model.observing and not model.bn_frozen


def test_evaluation_changes_nothing(model: QatModel) -> None:
    model.on_epoch(1)
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.maps(torch.from_numpy(scenes(2)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_state_round_trip_and_average(model: QatModel) -> None:
    average = EMA(model, 0.5)
    train(model, epochs=2)
    average.update()
    other = copy.deepcopy(_KEPT["c"])
    other.load_state_dict(model.state_dict())
    images = torch.from_numpy(scenes(3))
    model.eval(), other.eval(), average.model.eval()
    with torch.no_grad():
        mine, theirs, mean = (m.maps(images)["box"] for m in (model, other, average.model))
    assert torch.equal(mine, theirs)
    assert torch.equal(average.model.exponents, model.exponents) and not torch.equal(mean, mine)
    restored, resumed = copy.deepcopy(_KEPT["c"]), copy.deepcopy(model)
    restored.load_state_dict(model.state_dict())
    assert train(restored, epochs=1) == train(resumed, epochs=1), "a resumed run goes on to the bit"


def test_the_checkpoint_is_an_ordinary_one_with_a_record(model: QatModel, tmp_path: Path) -> None:
    plain, trained = finish(model)
    manifest = ModelManifest(name="x", input_height=SIDE, input_width=SIDE)
    save_checkpoint(tmp_path / "best.safetensors", plain, with_record(manifest, trained))
    loaded, manifest = load_checkpoint(tmp_path / "best.safetensors")
    assert list(loaded.state_dict()) == list(network().state_dict())
    record = trained_of(manifest)
    assert record is not None and record == trained
    assert record.target == "c" and record.exponents["input"] in ((-7,), (-6,)) and record.exponents["/box_out/Conv:1"]


def test_another_picture_size_is_refused(model: QatModel) -> None:
    with pytest.raises(ModelError, match="48x32 for a model that was prepared for 32x32"):
        model.maps(torch.zeros(1, 2, 48, 32))


def test_low_bit_options_and_unknown_patterns_are_refused() -> None:
    with pytest.raises(ConfigError, match="w_bits"):
        prepared(QatSettings("c"), w_bits=4)
    with pytest.raises(ConfigError, match="matches none"):
        prepared(QatSettings("c", ("no_such_operator",)))
    with pytest.raises(ConfigError, match="ultratinyod"):
        prepare(torch.nn.Conv2d(1, 1, 1), QatSettings("c"), scenes(1))  # type: ignore[arg-type]


def test_operands_that_others_read_too_keep_a_grid_of_their_own(model: QatModel) -> None:
    """Only what esp-ppq ties is tied, not what happened to have equal scales."""
    grids = model.plan.grid_of
    assert grids["/context/pw/act/Relu_output_0"] != grids["/Add_output_0"]  # read by the next block as well
    assert grids["/context_res/context_res.2/pw/act/Relu_output_0"] == grids["/Add_output_0"]
    assert model.plan.keys["/Add:0"] == grids["/Add_output_0"]
