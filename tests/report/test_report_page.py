from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest

from support.report_runs import Page, make_evaluation, make_run, metrics_rows, write_rows
from uhd.errors import DataError
from uhd.train.report import write_report
from uhd.train.report.evaluation import load, measure, save
from uhd.train.report.page import duration, human_size


def page_of(folder: Path) -> tuple[Page, str]:
    text = write_report(folder).read_text(encoding="utf-8")
    page = Page(text)
    assert page.errors == []
    return page, text


def test_values_of_the_page_are_those_of_the_run(tmp_path: Path) -> None:
    evaluation = make_run(tmp_path)
    page, _ = page_of(tmp_path)
    result = evaluation.result
    wanted = [
        result.map50, result.map50_95, result.map75, result.map_small, result.map_medium, result.map_large,
        result.recall1, result.recall10, result.recall100, result.recall_small, result.recall_medium,
        result.recall_large, result.images, 321, 6, 403.5, 360.0,
        *(value for item in result.per_class for value in (item.boxes, item.detections, item.ap50, item.ap75)),
        *(float(evaluation.losses[i]) for i in evaluation.worst), 4321,
    ]  # fmt: skip
    for value in wanted:
        assert any(value == shown for shown in page.values), value
    for exact, shown in page.data:  # what people read is the value, rounded
        if re.fullmatch(r"0\.\d{3}", shown):
            assert float(exact) == pytest.approx(float(shown), abs=5.1e-4)
    best = evaluation.curve.best
    assert best is not None
    assert f"best F1 {evaluation.curve.f1[best]:.3f} at score {evaluation.threshold:.3f}" in page.words
    assert "6:00" in page.words  # six minutes, by the log
    assert {"summary", "curves", "evaluation", "worst", "settings", "files", "next", "log"} <= set(page.ids)
    assert "missing" not in page.ids


def test_needs_nothing_from_outside_and_escapes_what_it_shows(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "a<b>.txt").write_text("x")
    (tmp_path / "train.log").write_text("<img src=x onerror=alert(1)>\n")
    page, text = page_of(tmp_path)
    assert all(link.startswith("data:image/") for link in page.links) and page.links
    assert not re.search(r"https?://|@import|url\(", text)
    assert "script" not in page.tags and "img" not in page.tags
    assert "<img src=x onerror=alert(1)>" in page.words and "a<b>.txt" in page.words
    assert "scene <3> & co.jpg" in page.words


def test_every_worst_photo_is_there_with_its_boxes(tmp_path: Path) -> None:
    evaluation = make_run(tmp_path)
    page, text = page_of(tmp_path)
    worst = text[text.index('id="worst"') : text.index('id="settings"')]
    assert worst.count("data:image/jpeg;base64,") == len(evaluation.worst) > 3
    boxes = sum(len(evaluation.truth[i][1]) for i in evaluation.worst)
    assert len(re.findall(r'<rect class="(?:truth|missed)"', worst)) == boxes
    drawn = sum(int((evaluation.rows[i][:, 0] >= evaluation.threshold).sum()) for i in evaluation.worst)
    assert len(re.findall(r'<rect class="(?:hit|alarm)"', worst)) == drawn
    hits = sum(
        int((evaluation.matches.hits[i] & (evaluation.rows[i][:, 0] >= evaluation.threshold)).sum())
        for i in evaluation.worst
    )
    assert len(re.findall(r'<rect class="hit"', worst)) == hits


def test_settings_that_differ_from_the_default_stand_out(tmp_path: Path) -> None:
    make_run(tmp_path)
    _, text = page_of(tmp_path)
    changed = {m[1] for m in re.finditer(r'<tr class="changed"><th scope="row"><code>(\w+)</code>', text)}
    assert "lr" in changed and "seed" not in changed
    assert "0.00321" in text


def test_commands_to_go_on_can_be_pasted(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    make_run(folder)
    page, _ = page_of(folder)
    assert f"python -m uhd.host export '{folder}/best.safetensors' --output '{folder}/model.onnx'" in page.words
    assert "build-fw --variant R" in page.words and "quantize" in page.words


def test_lines_of_the_charts_end_where_the_data_ends(tmp_path: Path) -> None:
    make_run(tmp_path, epochs=6)
    _, text = page_of(tmp_path)
    chart = next(svg for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL) if 'aria-label="Learning rate"' in svg)
    points = [tuple(map(float, p.split(","))) for p in re.search(r'points="([^"]*)"', chart)[1].split()]
    assert len(points) == 6 and points == sorted(points)
    rates = np.array([row["lr"] for row in metrics_rows(6)])
    heights = np.array([y for _, y in points])
    assert np.corrcoef(rates, heights)[0, 1] == pytest.approx(-1, abs=1e-4)  # SVG counts downwards
    assert chart.count("<circle") == 6


@pytest.mark.parametrize(
    ("removed", "told"),
    [
        ("metrics.jsonl", "metrics.jsonl is missing"),
        ("evaluation.npz", "evaluation.npz is missing"),
        ("best.json", "best.json is missing"),
        ("config.yaml", "config.yaml is missing"),
    ],
)
def test_what_is_missing_is_told(tmp_path: Path, removed: str, told: str) -> None:
    make_run(tmp_path)
    (tmp_path / removed).unlink()
    page, _ = page_of(tmp_path)
    assert told.lower() in page.words.lower() and "What is missing" in page.words


def test_an_empty_folder_gives_a_page(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path)
    for name in ("metrics.jsonl", "evaluation.npz", "best.json", "config.yaml"):
        assert f"{name} is missing".lower() in page.words.lower()
    with pytest.raises(DataError, match="no run folder"):
        write_report(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_run_that_stopped_at_nan(tmp_path: Path) -> None:
    write_rows(tmp_path, [*metrics_rows(3), {"epoch": 4, "lr": 0.1, "loss": float("nan"), "box": float("inf")}])
    page, text = page_of(tmp_path)
    assert "not finite" in page.words and "epoch 4" in page.words
    assert not re.search(r'="[^"]*\b(nan|inf)\b', text, re.IGNORECASE)
    (tmp_path / "config.yaml").write_text("epochs: 9\n")
    write_rows(tmp_path, metrics_rows(3))
    (tmp_path / "nan_batch.npz").write_bytes(b"x")
    page, _ = page_of(tmp_path)
    assert "nan_batch.npz holds the batch" in page.words and "3 of 9 epochs are done" in page.words


def test_damaged_files_are_told_and_do_not_stop_the_report(tmp_path: Path) -> None:
    make_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1, "loss": 1.5}\n{"epoch": 2, "lo')
    (tmp_path / "evaluation.npz").write_bytes(b"PK\x03\x04 nonsense")
    (tmp_path / "best.json").write_text("{")
    (tmp_path / "config.yaml").write_text("a: [")
    page, _ = page_of(tmp_path)
    assert "1 damaged line of metrics.jsonl" in page.words
    assert "damaged evaluation" in page.words and "best.json: manifest key" in page.words and "not YAML" in page.words


def test_the_evaluation_of_a_checkpoint_alone(tmp_path: Path) -> None:
    evaluation, _ = make_evaluation(4)
    object.__setattr__(evaluation, "info", {"checkpoint": "good.safetensors", "data": "val"})
    save(tmp_path, evaluation)
    (tmp_path / "config.yaml").write_text("epochs: 9\n")
    page, _ = page_of(tmp_path)
    assert "good.safetensors" in page.words
    assert "missing" not in page.ids and "Throughput" not in page.words


def test_no_boxes_and_no_detections(tmp_path: Path) -> None:
    nothing = np.zeros((0, 5)), np.zeros((0, 6))
    save(tmp_path, measure([((10, 10), nothing[0])] * 3, [nothing[1]] * 3))
    page, _ = page_of(tmp_path)
    assert "no box was found at any threshold" in page.words and "The worst 0 photos" in page.words
    save(tmp_path, measure([], []))
    page_of(tmp_path)


def test_many_photos_many_classes_quickly(tmp_path: Path) -> None:
    """960 photos with 100 detections each."""
    rng = np.random.default_rng(0)
    truth = []
    for _ in range(960):
        classes = rng.integers(0, 3, (2, 1)).astype(float)
        truth.append(((480, 640), np.concatenate([classes, rng.uniform(0.2, 0.6, (2, 4))], axis=1)))
    rows = [
        np.concatenate([rng.uniform(size=(100, 1)), rng.integers(0, 3, (100, 1)), rng.uniform(0.1, 0.6, (100, 4))], 1)
        for _ in truth
    ]
    photo = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)
    save(tmp_path, measure(truth, rows, class_names=["a", "b"]), picture=lambda i: photo)
    write_rows(tmp_path, metrics_rows(400))
    started = time.process_time()
    page, _ = page_of(tmp_path)
    assert time.process_time() - started < 10
    assert "class 2" in page.words and len(load(tmp_path).worst) == 32
    assert (tmp_path / "report.html").stat().st_size < 8e6


def test_small_things() -> None:
    assert [duration(s) for s in (7, 123.4, 3723)] == ["0:07", "2:03", "1:02:03"]
    assert [human_size(n) for n in (0, 999, 1000, 2_500_000, 3_000_000_000)] == [
        "0 B", "999 B", "1.0 KB", "2.5 MB", "3.0 GB",
    ]  # fmt: skip
