from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from uhd.train.report.heatmaps import Heat, colours, record, write_heatmaps


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3))
        self.act = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flat = nn.Flatten()
        self.unused = nn.Conv2d(2, 2, 1)

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        y = self.drop(self.act(self.act(self.stem(x))))
        return {"box": y, "token": self.flat(self.pool(y))}


@pytest.mark.parametrize("reduce", ["mean", "sum"])
def test_every_leaf_in_the_order_of_its_calls(reduce: str) -> None:
    torch.manual_seed(0)
    model, images = Net().train(), torch.rand(3, 2, 8, 6)
    model.stem[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    heats = record(model, images, reduce)
    assert [heat.name for heat in heats] == ["stem.0", "stem.1", "act", "act", "drop", "pool"]
    with torch.no_grad():
        plain = model.eval().stem[0](images)
    wanted = plain.mean(1) if reduce == "mean" else plain.sum(1)
    assert torch.allclose(torch.from_numpy(heats[0].values), wanted, atol=1e-6)
    assert heats[3].values.shape == (3, 8, 6) and heats[3].values.min() >= 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_the_model_is_left_as_it_was() -> None:
    model = Net().train()
    model.stem[1].eval()
    record(model, torch.rand(1, 2, 4, 4), "mean")
    assert model.training and not model.stem[1].training and model.drop.training
    assert not any(module._forward_hooks for module in model.modules())

    def fails(net: nn.Module, x: Tensor) -> None:
        net.stem(x)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        record(model, torch.rand(1, 2, 4, 4), "sum", fails)
    assert model.training and not any(module._forward_hooks for module in model.modules())


def test_modules_that_give_several_maps() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            return x, {"half": x[:, :, ::2, ::2], "index": x.long()}

    heats = record(nn.Sequential(Two()), torch.rand(2, 3, 4, 4), "mean", lambda net, x: net(x))
    assert [(heat.name, heat.values.shape) for heat in heats] == [("0", (2, 4, 4)), ("0", (2, 2, 2))]


def test_colours_run_from_least_to_largest() -> None:
    ramp = np.linspace(-3, 5, 64)[None].repeat(2, axis=0)
    shown = colours(ramp, (2, 64))
    inferno = cv2.applyColorMap(np.array([[0, 255]], np.uint8), cv2.COLORMAP_INFERNO)[0, :, ::-1]
    assert shown[0, 0].tolist() == inferno[0].tolist() and shown[0, -1].tolist() == inferno[1].tolist()
    assert np.all(np.diff(shown[0].astype(int).sum(axis=-1)) >= -3)
    assert colours(np.full((3, 3), 7.0), (5, 9)).shape == (5, 9, 3)
    assert len(np.unique(colours(np.full((3, 3), 7.0), (5, 9)).reshape(-1, 3), axis=0)) == 1
    broken = colours(np.array([[np.nan, 1.0], [np.inf, 0.0]]), (2, 2))
    assert broken[0, 0].tolist() == inferno[0].tolist() and broken[0, 1].tolist() == inferno[1].tolist()


def test_files_are_named_and_blended(tmp_path: Path) -> None:
    photo = np.full((6, 8, 3), 50, np.uint8)
    values = np.stack([np.arange(12, dtype=np.float32).reshape(3, 4)] * 12)
    heats = [Heat("backbone.stem.conv", values), Heat("head.box", -values)]
    names = [f"dir/p{i}.jpg" for i in range(12)]
    paths = write_heatmaps(tmp_path, [photo] * 12, heats, names)
    assert len(paths) == 20 and paths[0] == tmp_path / "00_p0" / "heatmap_0000_backbone_stem_conv.png"
    assert paths[-1] == tmp_path / "09_p9" / "heatmap_0001_head_box.png"
    mixed = cv2.imread(str(paths[0]))[:, :, ::-1].astype(float)
    assert np.abs(mixed - (0.6 * colours(values[0], (6, 8)) + 0.4 * 50)).max() <= 0.5 + 1e-6


def test_of_a_detector(tmp_path: Path) -> None:
    from uhd.models import variants_config
    from uhd.models.ultratinyod import UltraTinyOD

    model = UltraTinyOD(variants_config("R", in_channels=2))
    heats = record(model, torch.rand(2, 2, 64, 64), "mean")
    leaves = [name for name, module in model.named_modules() if name and not any(module.children())]
    assert {heat.name for heat in heats} <= set(leaves) and len(heats) > 50
    assert all(heat.values.shape[0] == 2 and np.isfinite(heat.values).all() for heat in heats)
