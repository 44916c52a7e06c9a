"""The command, its page and its chart."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.photos import random_rgb, save_png
from support.report_runs import Page
from support.scene_folder import write_scenes
from uhd import zoo
from uhd.host.__main__ import main
from uhd.image.resize import RESIZE_MODES
from uhd.resizing.chart import shade
from uhd.resizing.cost import ModelCosts, PathCost
from uhd.resizing.page import render
from uhd.resizing.study import PUBLISHED, study
from uhd.resizing.ways import WAYS


def test_output_as_json_with_page_and_chart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        save_png(tmp_path / "photos" / f"{number}.png", random_rgb(number, 90, 120))
    arguments = ["--photos", str(tmp_path / "photos"), "--limit", "2", "--size", "32x48"]
    assert main(["compare-resize", *arguments, "--no-times", "--output", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["photos"]) == 2 and found["size"] == [32, 48] and found["times_ms"] == {}
    assert len(found["pairs"]) == len(WAYS) * (len(WAYS) - 1) // 2
    assert [row["published"]["max"] for row in found["published"]] == [1, 104, 104]
    assert set(found["deploy"]) == set(RESIZE_MODES)
    chart = cv2.imread(str(tmp_path / "out" / "resize.png"))
    assert chart is not None and chart.shape[0] > 44 * len(WAYS)
    page = Page((tmp_path / "out" / "resize.html").read_text())
    assert not page.errors and "script" not in page.tags and len(page.ids) == len(set(page.ids))
    assert all(link.startswith("data:image/png;base64,") for link in page.links), "the page needs no other file"
    assert page.tags.count("figure") == 2 * (len(WAYS) + 4) and page.tags.count("img") == 2 * (2 * len(WAYS) + 4)


def test_tables_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_png(tmp_path / "a.png", random_rgb(1, 90, 120))
    assert main(["compare-resize", "--photos", str(tmp_path), "--size", "16x16"]) == 0
    text = capsys.readouterr().out
    assert "1 photos to 16 x 16" in text and "ms on 120 x 90" in text
    assert all(row.text in text for row in PUBLISHED)


def test_costs_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes, letter = write_scenes(tmp_path / "scenes", 2), zoo.shipped_variants()[0]
    arguments = ["--photos", str(scenes), "--limit", "1", "--val", str(scenes), "--variants", letter.lower()]
    assert main(["compare-resize", *arguments, "--no-times"]) == 0
    text = capsys.readouterr().out
    assert f"ultratinyod_{letter.lower()}, trained with" in text and "as trained" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "64"], "size '64' is not two numbers from 1 to 4096; write it as 64x64"),
        (["--size", "0x64"], "is not two numbers"),
        (["--val", "nowhere", "--variants", "R,Q"], "no weights of variant Q are shipped"),
        (["--photos", "nowhere"], "nowhere"),
    ],
)
def test_refusals(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare-resize", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_names_on_the_page_are_escaped() -> None:
    rgb = random_rgb(1, 20, 30)
    costs = [ModelCosts("<b>", "torch_nearest", 1, 1, (PathCost("<i>", 0.5, 0.25, None),))]
    hostile = "<script>alert(1)</script>"
    page = Page(render(study([rgb], (7, 7)), {hostile: None}, costs, [(hostile + "\x07", rgb)], hostile))
    assert not page.errors and not {"script", "i"} & set(page.tags)
    text = " ".join(page.text)
    assert text.count(hostile) == 3 and "<i>" in text and "\x07" not in text


def test_shades_run_from_white_to_red() -> None:
    assert shade(0) == (255, 255, 255)
    values = [shade(mean) for mean in np.linspace(0, 40, 20)]
    assert values == sorted(values, reverse=True) and all(red >= blue for blue, _, red in values)
