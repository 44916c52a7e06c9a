"""Run folders as training leaves them, of generated scenes and made-up detections, for tests of the report."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from uhd.data.synthetic import make_scene
from uhd.manifest import ModelManifest
from uhd.train.report.evaluation import Evaluation, measure, save

SIZE = (72, 96)


def scenes(count: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Photos, ground truth and detections of ``count`` scenes; some detections near the boxes, some elsewhere."""
    rng = np.random.default_rng(5)
    photos, truth, rows = [], [], []
    for seed in range(count):
        rgb, boxes = make_scene(seed, SIZE)
        photos.append(rgb)
        truth.append((SIZE, boxes))
        near = boxes[rng.random(len(boxes)) < 0.7]
        near = near * np.concatenate([np.ones((len(near), 1)), rng.normal(1, 0.05, (len(near), 4))], axis=1)
        noise = np.concatenate([np.zeros((3, 1)), rng.uniform(0.1, 0.6, (3, 4))], axis=1)
        both = np.concatenate([near, noise])
        score = np.concatenate([rng.uniform(0.3, 0.95, len(near)), rng.uniform(0.01, 0.6, 3)])
        rows.append(np.concatenate([score[:, None], both], axis=1).astype(np.float32))
    return photos, truth, rows


def make_evaluation(count: int = 12, **options: Any) -> tuple[Evaluation, list[Any]]:
    """An evaluation of ``count`` scenes and their photos."""
    photos, truth, rows = scenes(count)
    names = [f"scene <{i}> & co.jpg" for i in range(count)]
    return measure(truth, rows, names=names, info={"epoch": 3, "data": "made/val"}, **options), photos


def metrics_rows(epochs: int) -> list[dict[str, Any]]:
    """Rows of ``metrics.jsonl``, evaluated every second epoch."""
    rows: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        row = {"epoch": epoch, "lr": 0.004 / epoch, "loss": 5 / epoch, "box": 0.6 / epoch, "cls": 2.0 / epoch}
        if epoch % 2 == 0:
            row |= {"map50": 0.01 * epoch, "map50_95": 0.004 * epoch}
        rows.append(row)
    return rows


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    """``metrics.jsonl``."""
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run(folder: Path, *, photos: int = 12, epochs: int = 6) -> Evaluation:
    """A finished run in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    evaluation, pictures = make_evaluation(photos)
    save(folder, evaluation, picture=lambda i: pictures[i])
    write_rows(folder, metrics_rows(epochs))
    manifest = ModelManifest(
        name="ultratinyod_r",
        variant="R",
        anchors=[(0.1, 0.2), (0.3, 0.6)],
        training={"data": {"photos": 321, "boxes": 654}, "epoch": 3},
    )
    manifest.save(folder / "best.json")
    (folder / "best.safetensors").write_bytes(b"\0" * 4321)
    (folder / "config.yaml").write_text(f"epochs: {epochs}\nlr: 0.00321\nvariant: R\nseed: 42\n")
    log = ["2026-01-01 10:00:00 uhd 0.1.0, torch, cpu"]
    log += [f"2026-01-01 10:{m:02d}:00 epoch {m}/{epochs}  loss 1.0  {400 + m} images/s" for m in range(1, epochs + 1)]
    (folder / "train.log").write_text("\n".join(log) + "\n")
    return evaluation


class Page(HTMLParser):
    """A parsed report: checks that elements nest, and collects what tests look for."""

    VOID = {"meta", "img", "br", "hr", "link", "input"}

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.errors: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.data: list[tuple[str, str]] = []
        """(machine value, shown text) of every ``data`` element."""
        self._value: str | None = None
        self.feed(text)
        self.close()
        if self.stack:
            self.errors.append(f"never closed: {self.stack}")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.append(tag)
        self.links += [
            value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "action", "srcset")
        ]
        if "id" in named:
            self.ids.append(named["id"] or "")
        if tag == "data":
            self._value = named["value"]
        if tag not in self.VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack[-1] != tag:
            self.errors.append(f"</{tag}> inside {self.stack[-3:]}")
        else:
            self.stack.pop()

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] in ("style", "script"):
            return
        self.text.append(data)
        if self._value is not None:
            self.data.append((self._value, data))
            self._value = None

    @property
    def words(self) -> str:
        """All text, white space collapsed."""
        return " ".join(" ".join(self.text).split())

    @property
    def values(self) -> list[float]:
        """The machine values, in order, those that are not empty."""
        return [float(value) for value, _ in self.data if value]
