"""JSON lines and MQTT: what arrives is what was published, whoever comes and goes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from support.mqtt_broker import free_port, mqtt_broker
from uhd.bridge import events
from uhd.bridge.hub import Hub
from uhd.bridge.sinks import Broker, JsonLines, Mqtt, parse_broker
from uhd.errors import ConfigError

READY = events.State(1.0, 2.0, "ready", "text", "port")


def picture(number: int) -> events.Picture:
    pixels = events.Image("rgb", bytes(12), 2, 2)
    return events.Picture(number, 0, number, "host", ((0.5, 0, 0.1, 0.2, 0.3, 0.4),), 1, None, None, None, pixels)


def test_json_lines_hold_every_event() -> None:
    hub, stream = Hub(), io.StringIO()
    lines = JsonLines(hub, stream)
    hub.publish(READY)
    for number in range(500):
        hub.publish(picture(number))
    hub.close()
    lines.close()
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert told[0] == {"kind": "state", "t": 1.0, "wall": 2.0, "state": "ready", "text": "text", "port": "port"}
    assert [event["frame_id"] for event in told[1:]] == list(range(500))
    assert all(event["image"] is None for event in told[1:])
    assert told[1]["boxes"] == [[0.5, 0, 0.1, 0.2, 0.3, 0.4]]


def test_json_lines_end_with_their_reader() -> None:
    hub = Hub()
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        lines = JsonLines(hub, stream, images=True)
        os.close(read)
        hub.publish(picture(1))
        assert lines.broken.wait(10) and lines.error is None
        lines.close()
        with contextlib.suppress(BrokenPipeError):
            stream.close()
    assert hub.readers == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("broker.local/home/door", Broker("broker.local", 1883, "home/door")),
        ("10.0.0.1:1999/x", Broker("10.0.0.1", 1999, "x")),
        ("[::1]:1999/x/", Broker("::1", 1999, "x")),
    ],
)
def test_brokers(text: str, expected: Broker) -> None:
    assert parse_broker(text) == expected


@pytest.mark.parametrize("text", ["", "host", "host/", "/topic", "host:x/topic", "host:0/t", "host/a/#", "host/+/b"])
def test_what_is_no_broker(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_broker(text)


class Subscriber:
    """Somebody else at the broker."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, Any, bool]] = []
        self._news = threading.Condition()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("door/#", qos=1)
        self.client.on_message = self._take
        subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: subscribed.set()
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert subscribed.wait(20)

    def _take(self, client: Any, data: Any, message: mqtt.MQTTMessage) -> None:
        with self._news:
            self.got.append((message.topic, json.loads(message.payload), bool(message.retain)))
            self._news.notify_all()

    def wait(self, good: Callable[[str, Any, bool], bool], seconds: float = 20.0) -> tuple[str, Any, bool]:
        with self._news:
            assert self._news.wait_for(lambda: any(good(*each) for each in self.got), seconds), self.got[-5:]
            return next(each for each in self.got if good(*each))

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@contextlib.contextmanager
def subscribed(port: int) -> Iterator[Subscriber]:
    made = Subscriber(port)
    try:
        yield made
    finally:
        made.close()


def wait_until(good: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_mqtt_publishes_and_keeps_what_lasts() -> None:
    port = free_port()
    hub = Hub()
    with mqtt_broker(port):
        sink = Mqtt(hub, Broker("127.0.0.1", port, "door"))
        wait_until(lambda: sink.connected)
        with subscribed(port) as other:
            other.wait(lambda topic, value, retained: topic == "door/online" and value == 1)
            hub.publish(READY)
            for number in range(50):
                hub.publish(picture(number))
            _, last, _ = other.wait(lambda topic, value, _: topic == "door/picture" and value["frame_id"] == 49)
            assert last["image"] is None and last["boxes"] == [[0.5, 0, 0.1, 0.2, 0.3, 0.4]]
            numbers = [value["frame_id"] for topic, value, _ in other.got if topic == "door/picture"]
            assert numbers == list(range(50))
        with subscribed(port) as late:
            _, state, _ = late.wait(lambda topic, value, retained: topic == "door/state" and retained)
            assert state["state"] == "ready"
            hub.close()
            sink.close()
            late.wait(lambda topic, value, _: topic == "door/online" and value == 0)
        assert sink.published == 51 and sink.dropped == 0


def test_mqtt_waits_for_a_broker_that_comes_later_and_goes() -> None:
    port = free_port()
    hub = Hub()
    sink = Mqtt(hub, Broker("127.0.0.1", port, "door"))
    hub.publish(READY)
    hub.publish(picture(1))
    wait_until(lambda: sink.dropped == 2)
    for _ in range(2):
        with mqtt_broker(port):
            wait_until(lambda: sink.connected, 40)
            with subscribed(port) as other:
                other.wait(lambda topic, value, _: topic == "door/state" and value["state"] == "ready")
                hub.publish(picture(2))
                other.wait(lambda topic, value, _: topic == "door/picture" and value["frame_id"] == 2)
        wait_until(lambda: not sink.connected, 40)
    hub.close()
    sink.close()
