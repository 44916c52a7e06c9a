"""Where weights lie and how many cores work: times, what fits, which convolutions ESP-DL divides."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from uhd import zoo
from uhd.espdl.inspect import weight_bytes
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.host.__main__ import cli
from uhd.predict.chips import chip
from uhd.predict.latency import Placement, predict
from uhd.predict.memory import BOARDS
from uhd.predict.placement import choices, divided_convolutions, fastest
from uhd.predict.workload import workload

S3 = chip("esp32s3")


def shipped(letter: str, target: str = "esp32s3") -> EspdlModel:
    found = zoo.shipped_espdl(letter, target, "speed")
    assert found is not None
    return read_espdl(found.path, target)


@pytest.mark.parametrize("letter", "RYZA")
def test_times_are_those_of_the_prediction(letter: str) -> None:
    model = shipped(letter)
    found = {(choice.weights, choice.cores): choice for choice in choices(model, S3)}
    assert list(found)[0] == ("psram", 1)
    ops = workload(model)
    assert found["psram", 1].ms == pytest.approx(predict(ops, S3).total_ms)
    assert found["sram", 1].ms == pytest.approx(predict(ops, S3, Placement("sram")).total_ms)
    compute = sum(time.compute_ms for time in predict(ops, S3).ops if time.op.name in divided_convolutions(model))
    for weights in {weights for weights, _ in found}:
        assert found[weights, 1].ms - found[weights, 2].ms == pytest.approx(compute / 2)
        assert all(found[weights, cores].sram == found[weights, 1].sram for cores in (1, 2))


@pytest.mark.parametrize(("letter", "fits"), [("R", True), ("Y", True), ("Z", False), ("A", False)])
def test_what_fits_the_board(letter: str, fits: bool) -> None:
    model, room = shipped(letter), BOARDS["esp32s3"].sram
    found = {choice.weights: choice for choice in choices(model, S3) if choice.cores == 1}
    assert found["sram"].fits is fits is (found["sram"].sram <= room)
    assert weight_bytes(model) <= found["sram"].sram
    assert ("part in sram" in found) is not fits
    if not fits:
        part = found["part in sram"]
        assert found["sram"].ms < part.ms < found["psram"].ms and part.sram <= room and not part.offered
    best = fastest(choices(model, S3))
    assert best.cores == 2 and best.weights == ("sram" if fits else "psram")
    assert "does not fit" in str(found["sram"]) or fits


def test_a_part_is_chosen_by_what_it_saves() -> None:
    """The five filters of A that outgrow the cache are worth most, and there is room for all but a few KB of them."""
    found = {choice.weights: choice for choice in choices(shipped("A"), S3) if choice.cores == 1}
    times = predict(workload(shipped("A")), S3).ops
    swept = sum(time.fetch_ms for time in times if time.op.filter_bytes > 48 * 1024)
    saved = found["psram"].ms - found["part in sram"].ms
    assert 0.8 * swept < saved < sum(time.fetch_ms for time in times)


def test_esp_dl_divides_what_has_more_than_four_times_the_rows_of_the_kernel() -> None:
    divided = divided_convolutions(shipped("R"))
    for node in shipped("R").nodes:
        if node.op == "Conv":
            rows, kernel = shipped("R").tensors[node.inputs[0]].shape[1], node.attributes["kernel_shape"][0]
            assert (node.name in divided) is (rows > 4 * kernel), node.name
    assert "/backbone/block4/pw/conv/Conv" in divided, "1x1 on 8 rows"
    assert not any("box_tower" in name and "/dw/" in name for name in divided), "3x3 on 8 rows"


def test_the_command_says_which_is_fastest() -> None:
    found = zoo.shipped_espdl("Z", "esp32s3", "speed")
    assert found is not None
    out = CliRunner().invoke(cli, ["espdl", "predict", str(found.path)]).output
    (marked,) = [line for line in out.splitlines() if "fastest of those that fit" in line]
    assert marked.strip().startswith("weights in PSRAM, both cores: ") and "does not fit" in out
    said = json.loads(CliRunner().invoke(cli, ["espdl", "predict", str(found.path), "--json"]).stdout)
    assert [(p["weights"], p["cores"]) for p in said["placements"]] == [
        (weights, cores) for cores in (1, 2) for weights in ("psram", "part in sram", "sram")
    ]
