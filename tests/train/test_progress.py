"""What a run shows: lines, a bar with the time left, and the speed that ``bench train`` tells."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from support.scenes import scene_store, write_scenes
from support.train_runs import tiny
from uhd.host.bench import command as bench
from uhd.train.bench import describe_machine, time_training
from uhd.train.progress import Bar, Lines, Watcher, clock

ROW = {"epoch": 2, "lr": 0.01, "loss": 1.5, "box": 0.25, "map50": 0.125, "map50_95": 0.0625, "ap50_class0": 0.1}


@given(seconds=st.floats(-10, 1e6))
def test_clock_reads_back(seconds: float) -> None:
    parts = [int(part) for part in clock(seconds).split(":")]
    assert len(parts) in (2, 3) and all(0 <= part < 60 for part in parts[1:])
    total = sum(part * 60**place for place, part in enumerate(reversed(parts)))
    assert total == round(max(0.0, seconds))


def test_lines_hold_losses_and_map_but_not_the_rate() -> None:
    lines: list[str] = []
    watcher = Lines(lines.append)
    with watcher.running(4, 10, 10, 8):
        line = watcher.epoch(ROW, 123.4, ROW)
    assert lines == [line]
    losses, scores = r"loss 1\.5000  box 0\.2500", r"mAP@0\.5 0\.1250  mAP@0\.5:0\.95 0\.0625"
    assert re.fullmatch(rf"epoch 2/4  {losses}  {scores}  123 images/s  0:0\d left", line)
    assert "left" not in watcher.line({**ROW, "epoch": 4}, 1.0), "nothing is left after the last epoch"


def test_time_left_is_that_of_the_steps_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resumed after 100 of 400 steps; 50 more took 10 s, so 250 take 50 s."""
    now = [1000.0]
    monkeypatch.setattr("uhd.train.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    watcher = Watcher()
    with watcher.running(4, 100, 100, 8):
        now[0] += 10
        assert watcher.left(150) == pytest.approx(50)


def test_the_bar_tells_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr("uhd.train.progress.time", SimpleNamespace(monotonic=lambda: now[0]))
    out = io.StringIO()
    bar = Bar(Console(file=out, force_terminal=True, width=140, color_system=None), interval=5)
    with bar.running(2, 10, 0, 64):
        for step in range(1, 6):
            now[0] += 0.5
            bar.step(0, step, torch.tensor(2.5))
        bar._bar.refresh()
        bar.epoch(ROW, 100.0, ROW)
        now[0] += 2.5
        bar.step(1, 9, torch.tensor(9.0))  # not a multiple of the interval: not even looked at
        bar.step(1, 10, torch.tensor(1.25))
    text = out.getvalue()
    assert "epoch 1/2 step 5/10" in text and "loss 2.500" in text and "128 images/s" in text
    assert "best mAP 0.125" in text and "loss 1.250" in text and "0:08 left" in text and "9.000" not in text
    assert "mAP@0.5 0.1250" in text, "the line of the epoch stays"
    bar.step(1, 5, torch.tensor(0.0))  # after the end nothing is drawn and nothing fails


def test_speed_of_training_is_measured() -> None:
    torch.set_num_threads(1)
    found = time_training(scene_store(8, size=(48, 64)), tiny(batch_size=4), "cpu", steps=4)
    assert found["images_per_second"] >= found["images_per_second_median"] > 0
    assert found["batch"] == 4 and found["precision"] == "float32" and found["utilisation"] is None
    assert f"torch {torch.__version__}" in describe_machine(torch.device("cpu"))


def test_bench_train_prints_json(tmp_path: Path) -> None:
    photos = write_scenes(tmp_path / "photos", 4)
    arguments = ["train", "--images", str(photos), "--batch-size", "2", "--steps", "2", "--json", "--device", "cpu"]
    done = CliRunner().invoke(bench, arguments, catch_exceptions=False, env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["photos"]["count"] == 4 and found["training"]["variant"] == "R"
    assert found["data_path"]["images_per_second"] > 0 and found["map"]["best_seconds"] > 0
    assert {"aligned", "legacy", "simota"} <= found["loss_ms"].keys()
    assert "another machine" in found["reference"]["machine"] and "CPUs" in found["machine"]
