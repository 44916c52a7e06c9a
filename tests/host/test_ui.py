"""Terminal output: plain where there is no terminal, JSON for machines."""

from __future__ import annotations

import json

import pytest

from uhd.host.ui import Steps, emit_json, human_bytes, print_table, track


def test_table_columns_align(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("sizes", [("a", 1), ("longer", 22)], ("name", "bytes"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "sizes"
    assert lines[1].split() == ["name", "bytes"]
    assert len({line.index(word) for line, word in zip(lines[1:], ("bytes", "1", "22"), strict=True)}) == 1


def test_steps_number_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps(2)
    steps.start("quantize")
    steps.note("on photos")
    steps.done("file")
    steps.start("build")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[0].startswith("[1/2] quantize")
    assert printed.err.splitlines()[-1].startswith("[2/2] build")


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps(1, quiet=True)
    steps.start("x")
    steps.done("y")
    assert list(track([1, 2, 3], "t", quiet=True)) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_track_yields_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(list(range(50)), "counting")) == list(range(50))
    assert "counting: 50 in" in capsys.readouterr().err


def test_json_is_sorted(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"b": 1, "a": [1, 2]})
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": [1, 2], "b": 1}
    assert text.index('"a"') < text.index('"b"')


def test_bytes_for_people() -> None:
    assert human_bytes(12) == "12 B"
    assert human_bytes(24576) == "24,576 B (24.0 KiB)"
