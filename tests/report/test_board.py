from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from support.event_file import crc32c, read_events
from uhd.errors import ToolMissingError
from uhd.train.report.board import Board


def test_the_reader_knows_the_checksum() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C


def test_scalars_read_back(tmp_path: Path) -> None:
    with Board(tmp_path / "run") as board:
        board.row({"epoch": 1, "lr": 0.5, "cls": 2.0, "loss": 1.5, "box": 0.25, "obj": 4.0})
        board.row({"epoch": 2, "lr": 0.25, "loss": 1.0, "map50": 0.125, "AP@0.5_class0": 0.0625, "val_loss": 3.0})
        path = board.path
    assert path.parent == tmp_path / "run" and path.name.startswith("events.out.tfevents.")
    version, scalars = read_events(path)
    assert version == "brain.Event:2"
    assert scalars == [
        (1, "run/lr", 0.5),
        (1, "train/00_loss", 1.5), (1, "train/01_obj", 4.0), (1, "train/02_cls", 2.0), (1, "train/03_box", 0.25),
        (2, "run/lr", 0.25),
        (2, "train/00_loss", 1.0),
        (2, "val/00_loss", 3.0), (2, "val/01_map50", 0.125), (2, "val/02_AP@0.5_class0", 0.0625),
    ]  # fmt: skip


def test_a_row_is_on_disk_when_it_has_been_written(tmp_path: Path) -> None:
    board = Board(tmp_path)
    for epoch in range(1, 4):
        board.row({"epoch": epoch, "loss": float(epoch)})
        assert read_events(board.path)[1][-1] == (epoch, "train/00_loss", float(epoch))
    board.close()
    board.close()


def test_numbers_stay_when_a_figure_comes_later_and_when_a_run_is_resumed(tmp_path: Path) -> None:
    first = {"epoch": 1, "loss": 1.0, "box": 1.0}
    with Board(tmp_path) as board:
        board.row(first)
        board.row({"epoch": 2, "loss": 1.0, "obj": 1.0, "box": 1.0})
        old = {tag for _, tag, _ in read_events(board.path)[1]}
    assert old == {"train/00_loss", "train/01_box", "train/02_obj"}
    with Board(tmp_path, history=[first]) as board:
        board.row({"epoch": 2, "loss": 1.0, "obj": 1.0, "box": 1.0})
        assert {tag for _, tag, _ in read_events(board.path)[1]} == old
    assert len(list(tmp_path.glob("events*"))) == 2


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        board.row({"epoch": 7, "loss": math.nan, "box": math.inf, "cls": 1e300, "note": "text", "on": True})
        values = {tag: value for _, tag, value in read_events(board.path)[1]}
    assert math.isnan(values.pop("train/00_loss"))
    assert values == {"train/01_cls": math.inf, "train/02_box": math.inf}


def test_a_missing_package_is_told_and_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX.record_writer", None)
    with pytest.raises(ToolMissingError, match="pip install tensorboardX"):
        Board(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:  # unbuffered, so that closing has nothing left to write
        monkeypatch.setattr("tensorboardX.record_writer.open_file", lambda path: full)
        with pytest.raises(OSError, match="No space left"):
            Board(tmp_path)
