"""A batch is a function of seed, epoch, step and place; shards are rows of it; evaluation repeats."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from support.painted import boxes_valid
from support.scenes import scene_store
from uhd.image.resize import RESIZE_MODES, input_channels
from uhd.train.augment.bench import time_data_path
from uhd.train.augment.blur import CLAHE
from uhd.train.augment.config import AugmentConfig
from uhd.train.augment.noise import ImageCompression
from uhd.train.augment.op import CanvasOp
from uhd.train.augment.preview import preview
from uhd.train.augment.registry import OPS
from uhd.train.batches import Batch, BatchMaker, evaluation_batch, plain_batch
from uhd.train.config import TrainConfig
from uhd.train.photos import PhotoStore


@cache
def store() -> PhotoStore:
    return scene_store(12)


def everything() -> AugmentConfig:
    """All operations at once, each for half of the photos."""
    ops = [kind.model_validate({"prob": 0.5}) for kind in OPS.values()]
    return AugmentConfig(
        tuple(op for op in ops if isinstance(op, CanvasOp)), tuple(op for op in ops if not isinstance(op, CanvasOp))
    )


def same(a: Batch, b: Batch) -> bool:
    names = ("image", "label", "boxes")
    equal = [torch.equal(getattr(a.targets, name), getattr(b.targets, name)) for name in names]
    return torch.equal(a.images, b.images) and all(equal)


@pytest.mark.parametrize("augment", [None, everything(), AugmentConfig.load("aug")], ids=["default", "all", "aug"])
def test_shards_are_rows_of_the_whole_batch(augment: AugmentConfig | None) -> None:
    config = TrainConfig(variant="R", batch_size=10, single_chroma=0.3)
    maker = BatchMaker(store(), config, augment)
    order = maker.order(1)
    whole = maker.batch(order, 1, 0)
    boxes_valid(whole.targets)
    assert same(whole, BatchMaker(store(), config, augment).batch(order, 1, 0))
    assert not same(whole, maker.batch(order, 2, 0))
    for rows in (slice(0, 4), slice(4, 10), slice(1, 10, 3), slice(0, 0)):
        part = maker.batch(order, 1, 0, rows)
        places = list(range(10))[rows]
        # a kernel's speed decides how sums of many terms are grouped, so a byte may be rounded the other way
        assert part.images.shape[0] == len(places)
        if not places:
            assert len(part.targets) == 0
            continue
        assert ((part.images - whole.images[places]).abs() > 1e-6).float().mean() < 1e-3
        kept = [torch.nonzero(whole.targets.image == place)[:, 0] for place in places]
        assert torch.equal(part.targets.boxes, whole.targets.boxes[torch.cat(kept)])
        assert torch.equal(part.targets.label, whole.targets.label[torch.cat(kept)])
        assert part.targets.image.tolist() == [i for i, rows_of in enumerate(kept) for _ in rows_of]


def test_batches_may_be_made_in_threads() -> None:
    maker = BatchMaker(store(), TrainConfig(variant="R", batch_size=6), everything())
    order = maker.order(0)
    expected = [maker.batch(order, epoch, 0) for epoch in range(6)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda epoch: maker.batch(order, epoch, 0), range(6)))
    assert all(same(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize("mode", ["opencv_inter_nearest_yuv422", "torch_bilinear", "opencv_inter_nearest_y_tri"])
def test_pixels_stay_on_their_device(mode: str) -> None:
    """Tensors of torch's device without memory stand for a GPU's: whatever mixes them with others fails."""
    away = store().to("meta")
    config = TrainConfig(variant="R", resize_mode=mode, batch_size=6)
    augment = everything()
    augment = replace(augment, post=tuple(op for op in augment.post if not isinstance(op, (CLAHE, ImageCompression))))
    batch = BatchMaker(away, config, augment).batch(torch.arange(12), 0, 0)
    assert batch.images.device.type == "meta" and batch.targets.boxes.device.type == "meta"
    assert batch.images.shape == (6, input_channels(mode), 64, 64)


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_every_resize_mode_trains(mode: str) -> None:
    config = TrainConfig(variant="R", resize_mode=mode, batch_size=4, img_size="48x64")
    for augment in (None, everything()):
        images = BatchMaker(store(), config, augment).batch(torch.arange(12), 0, 0).images
        assert images.shape == (4, input_channels(mode), 48, 64) and images.dtype == torch.float32
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert images.min() >= 0 and images.max() <= 1 and images.std() > 0.01


@pytest.mark.parametrize("name", ["aug_val_s", "aug_val_l"])
def test_evaluation_repeats_and_does_not_look_at_labels(name: str) -> None:
    augment, mode = AugmentConfig.load(name), "opencv_inter_nearest"
    photos = torch.arange(12)
    all_at_once = evaluation_batch(store(), photos, mode, (64, 64), augment)
    apart = [evaluation_batch(store(), photos[i : i + 5], mode, (64, 64), augment) for i in (0, 5, 10)]
    assert torch.equal(all_at_once.images, torch.cat([part.images for part in apart]))
    assert torch.equal(all_at_once.targets.boxes, torch.cat([part.targets.boxes for part in apart]))
    assert all_at_once.sizes.tolist() == [[96, 96]] * 12, "the square that is shown, not the photo"
    none = torch.zeros(0, dtype=torch.int64)
    blind = replace(store(), box_start=torch.zeros(13, dtype=torch.int64), labels=none, boxes=torch.zeros(0, 4))
    assert torch.equal(all_at_once.images, evaluation_batch(blind, photos, mode, (64, 64), augment).images)
    whole = plain_batch(store(), photos, mode, 64)
    assert not torch.equal(all_at_once.images, whole)
    assert torch.equal(plain_batch(store(), photos, mode, 64, augment), all_at_once.images)
    centre = store().pixels[int(store().start[0]) :][: 96 * 128].view(96, 128, 3)[:, 16:112]
    index = (torch.arange(64) * 96) // 64
    expected = centre[index][:, index].permute(2, 0, 1) / 255
    assert torch.equal(all_at_once.images[0], expected) == (name == "aug_val_s")


def test_speed_is_measured_and_pictures_are_shown() -> None:
    config = TrainConfig(variant="R", batch_size=4, img_size=32)
    result = time_data_path(store(), config, batches=2, runs=2)
    assert result["images_per_second"] >= result["images_per_second_median"] > 0 and result["images_per_cpu_second"] > 0
    assert (result["batch"], result["photos"], result["device"]) == (4, 12, "cpu")
    sheet = preview(store(), config, 7, columns=4, augment=everything())
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3 and sheet.shape[1] > 4 * 200 and sheet.shape[0] > 2 * 200
    assert sheet.std() > 10
    assert np.array_equal(sheet, preview(store(), config, 7, columns=4, augment=everything()))
