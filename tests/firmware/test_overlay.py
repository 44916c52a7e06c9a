"""The display's renderer: pictures against a slow one, outlines and text, strips, boxes beyond the borders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from support.overlay import RGB565_BE, RGB565_LE, YUYV, Box, Job, build, render, slow_picture
from uhd.data.synthetic import make_scene
from uhd.image.yuyv import rgb_to_yuyv

YELLOW = (248, 220, 0)
#: Rows of the display that status text covers, by the size of a dot.
STATUS = 9


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("overlay"))


def noise(seed: int, height: int, stride: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, stride), dtype=np.uint8)


def grey(width: int = 64, height: int = 64, luma: int = 100) -> NDArray[np.uint8]:
    frame = np.full((height, 2 * width), 128, np.uint8)
    frame[:, ::2] = luma
    return frame


@pytest.mark.parametrize("pixels", [YUYV, RGB565_LE, RGB565_BE])
@pytest.mark.parametrize(("width", "height", "padding", "out"), [(96, 96, 0, (64, 80)), (50, 30, 7, (120, 96))])
def test_picture(program: Path, pixels: int, width: int, height: int, padding: int, out: tuple[int, int]) -> None:
    job = Job(noise(width + pixels, height, 2 * width + padding), width, pixels, out=out)
    [got] = render(program, job)
    expected = slow_picture(job)
    rows = slice(0, out[1] - STATUS)
    difference = np.abs(got[rows].astype(int) - expected[rows].astype(int))
    # RGB565 to the bit; YUV within what five and six bits drop and one for the integer weights.
    assert difference[..., [0, 2]].max() <= (8 if pixels == YUYV else 0)
    assert difference[..., 1].max() <= (4 if pixels == YUYV else 0)


def test_a_row_may_lack_its_padding(program: Path) -> None:
    frame = noise(3, 20, 70)
    whole, cut = render(program, Job(frame, 32, out=(64, 64)), Job(frame, 32, out=(64, 64), size=19 * 70 + 64))
    np.testing.assert_array_equal(whole, cut)


@pytest.mark.parametrize(
    "job",
    [Job(noise(1, 8, 16), 8, size=100), Job(noise(1, 8, 14), 7), Job(noise(1, 8, 16), 10), Job(noise(1, 1, 0), 0)],
    ids=["too short", "odd", "stride", "empty"],
)
def test_a_broken_picture_is_black(program: Path, job: Job) -> None:
    [got] = render(program, job)
    assert not got[:200].any()
    assert got[200:].any(), "pictures a second are still shown"


@pytest.mark.parametrize("strip", [1, 7, 20, 239, 240, 1000])
def test_strips_are_parts_of_the_whole(program: Path, strip: int) -> None:
    boxes = [Box(0.5, 0.5, 0.4, 0.6, 0.8), Box(0.1, 0.95, 0.5, 0.3, 0.3, 1), Box(0.99, 0.02, 0.2, 0.2, 1.0, 2)]
    frame = noise(5, 60, 160)
    whole, cut = (Job(frame, 80, boxes=boxes, fps_x10=123, threshold=0.35, strip=s) for s in (240, strip))
    first, second = render(program, whole, cut)
    np.testing.assert_array_equal(first, second)


def outline(got: NDArray[np.uint8], background: tuple[int, ...]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 (inclusive) of the pixels that differ from the background."""
    rows, columns = np.nonzero((got != background).any(-1))
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def test_a_box_where_it_belongs(program: Path) -> None:
    [plain, got] = render(program, Job(grey(), 64), Job(grey(), 64, boxes=[Box(0.5, 0.5, 0.5, 0.25, 0.87)]))
    background = tuple(int(v) for v in plain[0, 0])
    x0, y0, x1, y1 = 60, 90, 179, 149  # 240 * (0.5 -+ 0.25), 240 * (0.5 -+ 0.125)
    assert (got[y0, x0 : x1 + 1] == YELLOW).all() and (got[y1, x0 : x1 + 1] == YELLOW).all()
    assert (got[y0 : y1 + 1, x0] == YELLOW).all() and (got[y0 : y1 + 1, x1] == YELLOW).all()
    inside = got[y0 + 2 : y1 - 1, x0 + 2 : x1 - 1]
    assert (inside == background).all(), "two pixels of outline, nothing inside"
    left, top, right, bottom = outline(got[:200], background)
    assert (left, right, bottom) == (x0, x1, y1)
    assert top == y0 - 18, "the score stands above"


@pytest.mark.parametrize("edge", [(0.0, 0.5), (1.0, 0.5), (0.5, 0.0), (0.5, 1.0), (0.0, 0.0), (1.0, 1.0)])
def test_boxes_at_the_borders_keep_their_score(program: Path, edge: tuple[float, float]) -> None:
    plain, got = render(program, Job(grey(), 64), Job(grey(), 64, boxes=[Box(*edge, 0.3, 0.3, 0.42)]))
    changed = (plain != got).any(-1)
    assert changed.sum() > 300
    ink = (got == 0).all(-1) & changed
    letters = letters_of(ink)
    assert letters == LETTERS["42%"], "\n" + letters


def test_huge_and_far_boxes(program: Path) -> None:
    """Sizes up to 2**32 - 1 units: cut at the display, nothing wraps around."""
    far = (2**32 - 1) / 65535
    jobs = [
        Job(grey(), 64, boxes=[Box(x, y, w, h, 0.9)])
        for x, y in ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0))
        for w, h in ((far, far), (far, 0.0), (0.0, far), (0.0, 0.0), (2.5, 0.1))
    ]
    pictures = render(program, *jobs)
    [plain] = render(program, Job(grey(), 64))
    for job, got in zip(jobs, pictures, strict=True):
        box = job.boxes[0]
        if box.w == box.h == far:
            assert ((got == plain).all(-1)).mean() > 0.9, "the outline of a huge box is out of sight"
    wide = pictures[2 * 5 - 1]
    assert (wide[108, :] == YELLOW).all() and (wide[131, :] == YELLOW).all()
    assert (wide[112:128, 0] == wide[0, -1]).all(), "its ends are beyond the picture"


def test_the_best_box_is_on_top(program: Path) -> None:
    boxes = [Box(0.5, 0.5, 0.5, 0.5, 0.9, 0), Box(0.5, 0.5, 0.5, 0.5, 0.2, 1)]
    both, best = render(program, Job(grey(), 64, boxes=boxes), Job(grey(), 64, boxes=boxes[:1]))
    np.testing.assert_array_equal(both, best)


def test_many_boxes(program: Path) -> None:
    rng = np.random.default_rng(9)
    jobs = []
    for i in range(40):
        boxes = [
            Box(*rng.uniform(0, 1, 2), *rng.exponential(0.5, 2), float(rng.uniform()), int(rng.integers(256)))
            for _ in range(16)
        ]
        out = (int(rng.integers(1, 330)), int(rng.integers(1, 250)))
        frame = noise(i, int(rng.integers(1, 40)), 2 * int(width := 2 * rng.integers(1, 40)) + int(rng.integers(3)))
        strip = int(rng.integers(1, 60))
        jobs.append(Job(frame, int(width), i % 3, boxes, int(rng.integers(65536)), 1.0, out, strip))
    assert len(render(program, *jobs)) == 40  # the sanitizers are the oracle


def letters_of(ink: NDArray[np.bool_], dot: int = 2) -> str:
    """Dots as text, without empty rows and columns around them."""
    rows, columns = np.nonzero(ink)
    part = ink[rows.min() : rows.max() + 1 : dot, columns.min() : columns.max() + 1 : dot]
    return "\n".join("".join("#" if dot else "." for dot in row) for row in part)


LETTERS = {
    "42%": """
...#...###..##...
..##..#...#.##..#
.#.#......#....#.
#..#....##....#..
#####..#.....#...
...#..#.....#..##
...#..#####....##
""",
    "12.5 FPS": """
.#....###........#####.......#####.####...####
##...#...#.......#...........#.....#...#.#....
.#.......#.......####........#.....#...#.#....
.#.....##............#.......####..####...###.
.#....#..............#.......#.....#.........#
.#...#......##...#...#.......#.....#.........#
###..#####..##....###........#.....#.....####.
""",
    "MIN 35%": """
#...#..###..#...#.......####..#####.##...
##.##...#...##..#...........#.#.....##..#
#.#.#...#...#.#.#...........#.####.....#.
#.#.#...#...#..##........###......#...#..
#...#...#...#...#...........#.....#..#...
#...#...#...#...#...........#.#...#.#..##
#...#..###..#...#.......####...###.....##
""",
}
LETTERS = {text: drawing.strip() for text, drawing in LETTERS.items()}


@pytest.mark.parametrize(("text", "columns"), [("12.5 FPS", slice(0, 120)), ("MIN 35%", slice(120, 240))])
def test_status_text(program: Path, text: str, columns: slice) -> None:
    [got] = render(program, Job(grey(), 64, fps_x10=125, threshold=0.35))
    ink = (got[222:, columns] == (248, 252, 248)).all(-1)
    drawn = letters_of(ink)
    assert trimmed(drawn) == trimmed(LETTERS[text]), "\n" + drawn


def trimmed(drawing: str) -> list[str]:
    """Rows without the empty columns at the left."""
    rows = drawing.splitlines()
    cut = min(len(row) - len(row.lstrip(".")) for row in rows)
    return [row[cut:].rstrip(".") for row in rows]


def test_a_scene_is_recognisable(program: Path) -> None:
    """A scene through YUYV and the renderer is the scene, as far as a small display can show it."""
    rgb, _ = make_scene(4, (240, 240), max_people=2)
    [got] = render(program, Job(rgb_to_yuyv(rgb), 240))
    difference = np.abs(got[:222].astype(float) - rgb[:222].astype(float))
    assert difference.mean() < 8
