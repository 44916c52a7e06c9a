from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from uhd.image.resize import RESIZE_MODES, resize_image
from uhd.train.report.pictures import blend, draw, input_picture, prune_samples, sheet, side_by_side, write_samples

BOX = np.array([[0, 0.5, 0.5, 0.5, 0.5]], np.float32)
ROW = np.array([[0.8, 0, 0.5, 0.5, 0.4, 0.4], [0.1, 0, 0.2, 0.2, 0.2, 0.2]], np.float32)


def photos(count: int) -> list[np.ndarray]:
    return [np.full((40, 60, 3), 10 * i, np.uint8) for i in range(count)]


def test_names_limit_and_sheet(tmp_path: Path) -> None:
    folder = tmp_path / "samples" / "0005"
    names = [f"sub/photo{i}.jpg" for i in range(12)]
    paths = write_samples(folder, photos(12), [BOX] * 12, [ROW] * 12, names=names)
    assert [p.name for p in paths] == [*(f"{i:02d}_photo{i}.png" for i in range(10)), "sheet.png"]
    assert all(cv2.imread(str(p)) is not None for p in paths)
    assert [p.name for p in folder.parent.iterdir()] == ["0005"]  # nothing temporary is left


def test_boxes_are_drawn_from_the_threshold_on(tmp_path: Path) -> None:
    [path, _] = write_samples(tmp_path / "a", photos(1), [BOX[:0]], [ROW])
    with_box = cv2.imread(str(path))
    assert np.array_equal(with_box, draw(photos(1)[0], ROW[:1], BOX[:0], ["person"]))
    [path, _] = write_samples(tmp_path / "a", photos(1), [BOX[:0]], [ROW], score_threshold=0.05)
    assert not np.array_equal(with_box, cv2.imread(str(path)))
    [path, _] = write_samples(tmp_path / "a", photos(1), [BOX[:0]], [ROW], score_threshold=0.95)
    assert cv2.imread(str(path)).max() == 0


def test_a_folder_is_replaced_as_a_whole_or_stays(tmp_path: Path) -> None:
    folder = tmp_path / "best"
    write_samples(folder, photos(3), [BOX] * 3, [ROW] * 3)
    write_samples(folder, photos(1), [BOX], [ROW])
    assert sorted(p.name for p in folder.iterdir()) == ["00_0000.png", "sheet.png"]
    with pytest.raises(IndexError):
        write_samples(folder, photos(2), [BOX], [ROW])
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["00_0000.png", "best", "sheet.png"]
    assert write_samples(tmp_path / "none", [], [], []) == []


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_the_network_input_can_be_looked_at(mode: str, tmp_path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    rgb = np.stack([2 * y + 40, 60 + 2 * x, 120 + 0 * x], axis=-1).astype(
        np.uint8
    )  # smooth: chroma pairs hardly matter
    values = np.moveaxis(resize_image(rgb, (64, 64), mode), -1, 0)
    seen = input_picture(values, mode)
    assert seen.shape == (64, 64, 3) and seen.dtype == np.uint8
    if values.shape[0] == 1:
        assert np.array_equal(seen[..., 0], seen[..., 1]) and np.abs(seen[..., 0] / 255 - values[0]).max() < 0.003
    else:
        assert np.abs(seen.astype(int) - rgb).max() <= (4 if values.shape[0] == 2 else 0)
    with pytest.raises(ValueError, match="channels"):
        input_picture(values[:0], mode)
    wide = write_samples(tmp_path / "s", [rgb], [BOX], [ROW], inputs=[values], resize_mode=mode)[0]
    plain = draw(rgb, ROW[:1], BOX, ["person"])
    both = cv2.imread(str(wide))
    assert np.array_equal(both[:, : plain.shape[1]], plain) and both.shape[1] > 1.9 * plain.shape[1]


def test_side_by_side_and_sheet_sizes() -> None:
    left, right = np.zeros((100, 50, 3), np.uint8), np.full((10, 20, 3), 255, np.uint8)
    both = side_by_side(left, right)
    assert both.shape == (100, 50 + 6 + 200, 3) and both[:, -200:].min() == 255
    table = sheet([left, right, right], 2, width=400)
    assert table.shape[1] == 400 and table[4 + 50, 4 + 50].max() == 0 and table[10, 210].min() == 255
    assert sheet([right], 4, width=100).shape == (4 + 46 + 4, 100, 3)


def test_blend_and_prune(tmp_path: Path) -> None:
    assert blend(np.full((2, 2, 3), 100, np.uint8), np.full((2, 2, 3), 200, np.uint8)).tolist() == [[[160] * 3] * 2] * 2
    for name in ("0005", "0010", "0100", "9", "val_only"):
        (tmp_path / name).mkdir()
    prune_samples(tmp_path, 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0010", "0100", "val_only"]
