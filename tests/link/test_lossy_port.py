"""The lossy line of the commands: how much it loses, that it repeats, that it delays, and that sessions survive it."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator

import click
import numpy as np
import pytest
from click.testing import CliRunner

from support.fakemodel import FakeModel
from support.twinlib import CppDevice, library
from uhd.device.client import DeviceClient
from uhd.device.counters import counter_lines, line_counters, link_counters
from uhd.device.lossy import Line, Loss, LossyPort
from uhd.device.ports import FdPort, socket_port
from uhd.errors import ConfigError, DeviceError
from uhd.host.loss import loss_options

MODEL = FakeModel()
DATA = random.Random(1).randbytes(1 << 17)
Pair = tuple[FdPort, FdPort]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    ports = socket_port(ours, "ours"), socket_port(theirs, "theirs")
    yield ports
    for port in ports:
        port.close()


@pytest.mark.parametrize("rate", [1e-3, 1e-2, 0.5])
def test_as_many_losses_as_asked_for(rate: float) -> None:
    dropping, flipping = Line(Loss(drop_rate=rate), 1), Line(Loss(flip_rate=rate), 1)
    assert len(dropping.carry(DATA)) == len(DATA) - dropping.counters.dropped
    flipped = flipping.carry(DATA)
    bits = np.unpackbits(np.frombuffer(DATA, np.uint8) ^ np.frombuffer(flipped, np.uint8)).sum()
    assert flipping.counters.flipped == bits
    for found, tries in ((dropping.counters.dropped, len(DATA)), (flipping.counters.flipped, 8 * len(DATA))):
        assert abs(found - rate * tries) < 5 * (rate * tries) ** 0.5  # five standard deviations


def test_the_ends_of_the_range() -> None:
    assert Line(Loss(drop_rate=1), 0).carry(DATA) == b""
    assert Line(Loss(flip_rate=1), 0).carry(DATA) == bytes(b ^ 0xFF for b in DATA)
    good = Line(Loss(), 0)
    assert good.carry(DATA) == DATA and (good.counters.dropped, good.counters.flipped) == (0, 0)
    for wrong in ({"drop_rate": 1.1}, {"flip_rate": -0.1}, {"delay_s": -1}, {"delay_s": 60}):
        with pytest.raises(ConfigError, match="give"):
            Loss(**wrong)  # type: ignore[arg-type]


def test_the_same_seed_loses_the_same_however_the_bytes_are_cut() -> None:
    loss = Loss(drop_rate=3e-3, flip_rate=1e-3)
    whole = Line(loss, 4).carry(DATA)
    cut, generator, pieces, position = Line(loss, 4), random.Random(2), [], 0
    while position < len(DATA):
        size = generator.randrange(2000)
        pieces.append(cut.carry(DATA[position : position + size]))
        position += size
    assert b"".join(pieces) == whole != Line(loss, 5).carry(DATA)


def test_both_ways_lose_and_count(pair: Pair) -> None:
    ours, theirs = pair
    lossy = LossyPort(ours, Loss(drop_rate=0.01, flip_rate=0.001))
    ways = ((lossy, theirs, lossy.to_device), (theirs, lossy, lossy.to_host))
    for sender, receiver, counters in ways:
        arrived = b""
        for start in range(0, 100_000, 10_000):
            sender.write(DATA[start : start + 10_000])
            arrived += receiver.read(1)
        assert (counters.bytes, len(arrived)) == (100_000, 100_000 - counters.dropped)
        assert counters.dropped > 500 and counters.flipped > 300
        assert arrived not in (DATA[:100_000], b"")


def test_a_good_line_is_no_line(pair: Pair) -> None:
    assert Loss().wrap(pair[0]) is pair[0]
    assert isinstance(Loss(delay_s=0.1).wrap(pair[0]), LossyPort)


def test_delay_each_way(pair: Pair) -> None:
    ours, theirs = pair
    lossy = LossyPort(ours, Loss(delay_s=0.2))
    started = time.monotonic()
    lossy.write(b"ping")
    assert theirs.read(0) == b"" and lossy.read(0) == b"", "it does not wait"
    while not (ping := theirs.read(0)):
        lossy.read(0.02)
    assert ping == b"ping" and time.monotonic() - started >= 0.2
    theirs.write(ping)
    sent = time.monotonic()
    assert lossy.read(10) == b"ping"
    assert time.monotonic() - sent >= 0.19


def test_what_is_on_its_way_leaves_before_the_end(pair: Pair) -> None:
    ours, theirs = pair
    lossy = LossyPort(ours, Loss(delay_s=0.1))
    lossy.write(b"last ")
    lossy.write(b"words")
    lossy.close()
    arrived = b""
    while len(arrived) < len(b"last words"):
        arrived += theirs.read(5)
    assert arrived == b"last words"


def test_a_device_that_goes_is_told_after_what_it_said(pair: Pair) -> None:
    ours, theirs = pair
    lossy = LossyPort(ours, Loss(delay_s=1))
    theirs.write(b"bye")
    assert lossy.read(0) == b""
    theirs.close()
    assert lossy.read(1) == b"bye"
    with pytest.raises(DeviceError, match="closed the link"):
        lossy.read(1)
    lossy.write(b"?")
    lossy.close()


@pytest.mark.parametrize("loss", [Loss(1e-3), Loss(0, 1e-4), Loss(3e-4, 3e-5, 0.002, 7)], ids=str)
def test_a_session_over_it_is_exact_and_both_ends_have_counted(loss: Loss) -> None:
    device = CppDevice(library(MODEL))
    client = DeviceClient(loss.wrap(device), timeout=0.02, retries=30, patience=5)
    client.configure(send_outputs=True, send_thumbnail=True)
    generator = np.random.default_rng(3)
    for _ in range(10):
        picture = generator.integers(0, 256, (64, 64, 2), dtype=np.uint8)
        result = client.infer_network(picture)
        np.testing.assert_array_equal(result.thumbnail, picture)
        np.testing.assert_array_equal(result.outputs["box"], MODEL.run(MODEL.input_of(picture))["box"])
        assert result.timings.inference_ticks > 0, "a lost TIMING is asked for again"
    counters = link_counters(client.connection, client.stats())
    ways = [counters[f"line to {end}"] for end in ("device", "host")]
    assert all(way["dropped"] + way["flipped"] > 5 for way in ways)
    bad = ("crc_errors", "malformed", "overlong")
    assert all(sum(counters[end][name] for name in bad) > 0 for end in ("device", "host"))
    assert counters["host"]["retries"] > 0 and counters["host"]["lost"] > 0
    lines = counter_lines(counters)
    assert [line.partition(":")[0] for line in lines] == ["host", "device", "line to device", "line to host"]
    assert f"retries {counters['host']['retries']}" in lines[0]
    assert line_counters(device) == {}
    device.close()


def test_switches() -> None:
    @click.command()
    @click.option("--other", default=1)
    @loss_options
    def command(other: int, loss: Loss) -> None:
        click.echo(json.dumps([other, loss.drop_rate, loss.flip_rate, loss.delay_s, loss.seed]))

    run = CliRunner().invoke
    assert json.loads(run(command, []).output) == [1, 0, 0, 0, 0]
    words = ["--drop-rate", "1e-3", "--flip-rate", "1e-5", "--delay-ms", "20", "--loss-seed", "4", "--other", "2"]
    assert json.loads(run(command, words).output) == [2, 1e-3, 1e-5, 0.02, 4]
    refused = run(command, ["--drop-rate", "1.5"])
    assert refused.exit_code == 2 and "1.5" in refused.output
