from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.photos import jpeg_with_orientation, random_rgb, save_png
from uhd.errors import DataError
from uhd.image.files import decode_rgb, is_image_name, list_images, read_rgb


def encoded(suffix: str, rgb: np.ndarray) -> bytes:
    ok, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    assert ok
    return data.tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_lossless_files_come_back(tmp_path: Path, suffix: str) -> None:
    rgb = random_rgb(1)
    path = tmp_path / f"Gruß 写真{suffix}"
    path.write_bytes(encoded(suffix, rgb))
    found = read_rgb(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, rgb)


def test_jpeg_is_close_and_in_rgb_order() -> None:
    rgb = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    np.testing.assert_allclose(decode_rgb(encoded(".jpg", rgb), "x").astype(int), rgb, atol=4)


def test_grey_sixteen_bits_and_transparency() -> None:
    rgb = random_rgb(2)
    grey = rgb[..., 0]
    _, data = cv2.imencode(".png", grey)
    np.testing.assert_array_equal(decode_rgb(data.tobytes(), "x"), grey[..., None].repeat(3, axis=2))
    _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode_rgb(data.tobytes(), "x"), rgb)
    _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA))
    np.testing.assert_array_equal(decode_rgb(data.tobytes(), "x"), rgb)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(1, lambda p: p), (3, lambda p: p[::-1, ::-1]), (6, lambda p: np.rot90(p, -1)), (8, lambda p: np.rot90(p, 1))],
)
def test_recorded_orientation_is_applied(orientation: int, turn: object) -> None:
    rgb = random_rgb(3, 24, 40)[..., :1].repeat(3, axis=2)  # grey: JPEG blurs colour
    found = decode_rgb(jpeg_with_orientation(rgb, orientation), "x")
    expected = turn(rgb)  # type: ignore[operator]
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 1.5


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.9, 0.99])
def test_cut_off_files_are_refused(suffix: str, part: float) -> None:
    data = encoded(suffix, np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="^photo: "):
        decode_rgb(data[: int(part * len(data))], "photo")


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), head=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF"]))
def test_garbage_is_refused_in_one_line(data: bytes, head: bytes) -> None:
    with pytest.raises(DataError) as caught:
        decode_rgb(head + data, "photo")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("photo: ")


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.jpg: cannot read the picture \(No such file"):
        read_rgb(tmp_path / "absent.jpg")
    with pytest.raises(DataError, match="cannot read the picture"):
        read_rgb(tmp_path)
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    with pytest.raises(DataError, match=r"text\.jpg: not a picture, or damaged; remove it, or convert"):
        read_rgb(text)


def test_list_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.txt", "d.jpeg"):
        save_png(tmp_path / "x.png", random_rgb(0)).rename(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG", "d.jpeg"]
    assert is_image_name(Path("x.WebP")) and not is_image_name(Path("x.gif"))
    with pytest.raises(DataError, match="cannot list the folder"):
        list_images(tmp_path / "absent")
