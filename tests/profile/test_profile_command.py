"""``profile`` from end to end. Boards' texts are constructed from the format of esp-dl 3.3.9, their times made up."""

from __future__ import annotations

import json
import os
import pty
import threading
import time
import tty
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support.core_bench import shipped
from support.espdl_profile import in_psram, logged, module_table, profile_text
from uhd import zoo
from uhd.errors import DataError, UhdError
from uhd.espdl.inspect import weight_bytes
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.host.espdl import command as espdl
from uhd.host.profile import command
from uhd.predict.chips import chip
from uhd.predict.latency import Chip, predict
from uhd.predict.workload import workload
from uhd.profile.board_log import parse
from uhd.profile.measured import join

SPEED = shipped("R", "esp32s3")
MODEL = read_espdl(SPEED)
S3 = chip("esp32s3")
#: A made-up board: other rates, and costs that the built-in ones do not have.
BOARD = replace(
    S3,
    rates=replace(S3.rates, mac=0.31, depthwise=8.0, unaligned=2.6, other=3.0, call=900.0),
    bandwidth={**S3.bandwidth, "psram": 41e6},
)

Rows = list[tuple[str, str, int]]


def made_up(model: EspdlModel, board: Chip = BOARD, factor: float = 1.0) -> Rows:
    """Rows of the profile that this board would print."""
    times = predict(workload(model), board).ops
    return [(t.op.name, t.op.kind, round(1000 * factor * t.total_ms)) for t in times]


def written(path: Path, rows: Rows, model: EspdlModel = MODEL) -> Path:
    path.write_text(profile_text(rows, in_psram(weight_bytes(model), 24_576), colour=True))
    return path


def run(*words: object) -> Result:
    done = CliRunner().invoke(command, [str(word) for word in words], standalone_mode=False)
    if done.exception:
        raise done.exception
    return done


def test_a_log_becomes_rates_that_predict(tmp_path: Path) -> None:
    rows = made_up(MODEL)
    log, rates = written(tmp_path / "log.txt", rows), tmp_path / "latency_esp32s3.json"
    told = json.loads(run(SPEED, "--log", log, "--output", rates, "--json").output)
    whole = sum(t for _, _, t in rows) / 1000
    assert told["measured_ms"] == pytest.approx(whole) and told["whole_profiles"] == 1
    assert told["joined_by"] == "name" and told["missing"] == told["unknown"] == [] and told["weights_in"] == "psram"
    assert told["before"]["operators"] > 0.2 > 0.005 > told["after"]["operators"]
    assert told["after"]["operators"] <= told["left_out"]["operators"] < 0.02
    source = json.loads(rates.read_text())["source"]
    assert source["sha256"] == MODEL.sha256 and source["operators"] == len(rows) and source["activations"] == "psram"

    done = CliRunner().invoke(espdl, ["predict", str(SPEED), "--rates", str(rates), "--json"])
    predicted = json.loads(done.output)
    assert predicted["total_ms"] == pytest.approx(whole, rel=0.01) and predicted["fitted"]
    assert predicted["basis"] == f"fitted to a board's profile of {SPEED.name}"
    again = json.loads(run(SPEED, "--rates", rates, "--json").output)
    assert again["predicted"]["ms"] == pytest.approx(predicted["total_ms"])
    assert sum(layer["milliseconds"] for layer in again["layers"]) == pytest.approx(predicted["total_ms"])
    judged = json.loads(run(SPEED, "--rates", rates, "--log", log, "--no-refit", "--json").output)
    assert judged["before"] == told["after"] and judged["rates"] is None


def test_what_it_says(tmp_path: Path) -> None:
    log, rates = written(tmp_path / "log.txt", made_up(MODEL)), tmp_path / "r.json"
    text = run(SPEED, "--log", log, "--output", rates, "--top", "3").output
    lines = text.splitlines()
    assert lines[0].endswith("a board's times beside predicted ones") and "refitted ms" in lines[1]
    assert "/backbone/block4/pw/conv/Conv" in lines[2], "the slowest first"
    assert "joined by name, 1 profile(s), 1 whole" in text and "(fitted to published figures)" in text
    assert "says nothing of them: requantize, int16" in text and f"rates: {rates}" in text


def test_median_of_several_profiles(tmp_path: Path) -> None:
    logs = [written(tmp_path / f"{i}.txt", made_up(MODEL, factor=f)) for i, f in enumerate((1.0, 1.02, 5.0))]
    told = json.loads(run(SPEED, *(w for log in logs for w in ("--log", log)), "--no-refit", "--json").output)
    assert told["profiles"] == 3
    assert told["measured_ms"] == pytest.approx(sum(t for _, _, t in made_up(MODEL, factor=1.02)) / 1000)


def test_a_cut_table(tmp_path: Path) -> None:
    log = written(tmp_path / "log.txt", made_up(MODEL))
    text = log.read_text()
    log.write_text(text[: int(0.7 * len(text))])
    shown = run(SPEED, "--log", log, "--output", tmp_path / "r.json").output
    assert "warning: no table is whole" in shown and "without a time: " in shown
    log.write_text(text[: text.index("/backbone/block1/pw")])
    shown = run(SPEED, "--log", log, "--output", tmp_path / "few.json").output
    assert "not fitted: 2 timed operators are too few" in shown and not (tmp_path / "few.json").exists()


def test_a_whole_table_is_preferred_to_cut_ones(tmp_path: Path) -> None:
    rows = made_up(MODEL)
    cut = logged(module_table([(name, kind, 9 * t) for name, kind, t in rows])[:40])
    (tmp_path / "log.txt").write_text(cut + profile_text(rows))
    told = json.loads(run(SPEED, "--log", tmp_path / "log.txt", "--no-refit", "--json").output)
    assert told["profiles"] == told["whole_profiles"] == 1
    assert told["measured_ms"] == pytest.approx(sum(t for _, _, t in rows) / 1000)


def test_joined_by_order_where_no_name_fits() -> None:
    rows = [(f"op{i}", kind, t) for i, (_, kind, t) in enumerate(made_up(MODEL))]
    found = join(parse(profile_text(rows)), MODEL, S3.clock_hz, "r")
    assert found.by == "order" and found.ms == {name: t / 1000 for name, _, t in made_up(MODEL)}
    with pytest.raises(DataError, match="another model: 0 of its 53 operators are in r"):
        join(parse(profile_text(sorted(rows, key=lambda row: row[2]))), MODEL, S3.clock_hz, "r")


def test_cycles() -> None:
    rows = [(name, kind, 240 * t) for name, kind, t in made_up(MODEL)]
    found = join(parse(logged(module_table(rows, "cycle"))), MODEL, 240e6, "r")
    assert found.total_ms == pytest.approx(sum(t for _, _, t in made_up(MODEL)) / 1000)


@pytest.mark.parametrize(("other", "preset"), [("A", "speed"), ("R", "precision")])
def test_another_variant_or_preset_is_refused(tmp_path: Path, other: str, preset: str) -> None:
    """Their operators have the same names: the bytes of the weights tell them apart."""
    flashed = read_espdl(shipped(other, "esp32s3", preset))
    log = written(tmp_path / "log.txt", made_up(flashed), flashed)
    with pytest.raises(DataError, match="KB of weights, .*: another variant; give the .espdl that was flashed"):
        run(SPEED, "--log", log, "--output", tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


WORDS: list[tuple[list[Any], str]] = [
    ([], "give a MODEL, or --all-variants"),
    ([SPEED, "--all-variants"], "give a MODEL, or --all-variants"),
    (["--all-variants", "--port", "x"], "need the MODEL"),
    ([zoo.checkpoint_path("R"), "--log", SPEED], "told and predicted of a .espdl only"),
    ([SPEED, "--size", "64x64"], "fixed size"),
    ([zoo.checkpoint_path("R"), "--size", "64"], "--size 64: not a size; write it as 64x64"),
    ([SPEED, "--log", "missing.txt"], "missing.txt: cannot read the log"),
    ([SPEED, "--log", SPEED], "no table of ESP-DL's profiler there; build the firmware with sdkconfig.profile"),
    ([SPEED, "--rates", SPEED], "not a file of rates"),
    ([SPEED, "--port", "/dev/not-there"], "no such port"),
]


@pytest.mark.parametrize(("words", "says"), WORDS)
def test_mistakes_are_told_in_a_line(words: list[Any], says: str) -> None:
    with pytest.raises(UhdError) as raised:
        run(*words)
    assert says in str(raised.value) and "\n" not in str(raised.value)


def test_transferred_rates_are_called_so() -> None:
    text = run(shipped("R", "esp32p4"), "--top", "1").output
    assert "on esp32p4, weights in psram (transferred from the ESP32-S3, nothing fitted)" in text


def test_a_board_on_a_port(tmp_path: Path) -> None:
    """A pseudo terminal prints a profile in pieces, behind the end of another text, as a board does after a reset."""
    board, host = pty.openpty()
    tty.setraw(board)
    rows = made_up(MODEL)
    text = ("ot:0x8 (SPI_FAST_FLASH_BOOT)\r\n" + profile_text(rows, in_psram(weight_bytes(MODEL), 24_576))).encode()

    def print_it() -> None:
        time.sleep(0.3)
        for start in range(0, len(text), 700):
            os.write(board, text[start : start + 700])
            time.sleep(0.002)

    thread = threading.Thread(target=print_it)
    thread.start()
    try:
        words = ("--port", os.ttyname(host), "--seconds", 30, "--output", tmp_path / "r.json", "--json")
        started = time.monotonic()
        done = run(SPEED, *words)
        assert time.monotonic() - started < 25, "it ends when the table is whole"
    finally:
        thread.join()
        os.close(board)
        os.close(host)
    told = json.loads(done.stdout)
    assert told["measured_ms"] == pytest.approx(sum(t for _, _, t in rows) / 1000)
    assert "press the board's reset button" in done.stderr and (tmp_path / "r.json").exists()
