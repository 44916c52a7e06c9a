"""Where events go besides websockets: JSON lines, and an MQTT broker."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass
from typing import IO, Any, Protocol

from uhd.bridge.events import Event
from uhd.bridge.hub import Hub
from uhd.errors import ConfigError, ToolMissingError

#: Pictures that wait for a file or broker that is held up for a moment.
_BACKLOG = 1000


class Sink(Protocol):
    """Something that takes events until it is closed."""

    def close(self) -> None:
        """Write what is there, and end."""
        ...


class _Pump:
    """A reader in a thread of its own; ``take`` gets each event."""

    def __init__(self, hub: Hub, name: str, *, images: bool = False, patient: bool = False) -> None:
        self.reader = hub.subscribe(images, pictures=_BACKLOG, patient=patient)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        for event in self.reader:
            if not self.take(event):
                self.reader.close()

    def take(self, event: Event) -> bool:
        """Use an event; False to end."""
        raise NotImplementedError

    def close(self) -> None:
        """Let it take what is there, for a moment, then end."""
        self.reader.finish()
        self._thread.join(5)
        self.reader.close()
        self._thread.join(5)


class JsonLines(_Pump):
    """One JSON object a line to ``stream``. ``broken``: the other side of the pipe is gone.

    ``patient``: a replay waits for it, so that nothing is dropped.
    """

    def __init__(self, hub: Hub, stream: IO[str], *, images: bool = False, patient: bool = False) -> None:
        super().__init__(hub, "json lines", images=images, patient=patient)
        self._stream = stream
        self.broken = threading.Event()
        self.error: OSError | None = None
        self.start()

    def take(self, event: Event) -> bool:
        """Write a line, at once."""
        try:
            self._stream.write(json.dumps(event.as_json(), separators=(",", ":")) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            self.broken.set()
            return False
        except OSError as error:
            self.error = error
            self.broken.set()
            return False
        return True


@dataclass(frozen=True)
class Broker:
    """Where an MQTT broker is, and what the topics begin with."""

    host: str
    port: int
    topic: str


def parse_broker(text: str) -> Broker:
    """``HOST[:PORT]/TOPIC``. Raises ``ConfigError`` for anything else, and for a topic with wildcards."""
    address, slash, topic = text.partition("/")
    host, colon, number = address.rpartition(":")
    host, number = (host, number) if colon else (address, "1883")
    topic = topic.strip("/")
    if not slash or not host or not topic or not number.isdecimal() or not 0 < int(number) < 65536:
        raise ConfigError(f"{text}: not a broker and topic", hint="write HOST[:PORT]/TOPIC")
    if set(topic) & set("+#\0"):
        raise ConfigError(f"{topic}: + and # have no place in a topic to publish to")
    return Broker(host.strip("[]"), int(number), topic)


class Mqtt(_Pump):
    """Publishes events as JSON at ``TOPIC/<kind>``, without pixels; what lasts (state, device, config) is retained.

    ``TOPIC/online`` is retained too: 1 while the bridge runs, 0 once it is gone in whatever way. While the broker is
    away events are dropped and counted (``dropped``); lasting ones are said again when it is back.
    """

    def __init__(self, hub: Hub, broker: Broker, *, user: str | None = None, password: str | None = None) -> None:
        """Raises ``ToolMissingError`` without paho-mqtt. An absent broker is no error: it is waited for."""
        try:
            from paho.mqtt import client as mqtt
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise ToolMissingError("MQTT needs paho-mqtt", hint="pip install 'paho-mqtt>=2.1'") from None
        super().__init__(hub, f"mqtt {broker.host}")
        self.dropped = self.published = 0
        self._broker = broker
        self._lasting: dict[str, Event] = {}
        self._lock = threading.Lock()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2)
        if user is not None:
            self._client.username_pw_set(user, password)
        self._client.reconnect_delay_set(1, 30)
        self._client.will_set(f"{broker.topic}/online", "0", qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.connect_async(broker.host, broker.port, keepalive=30)
        self._client.loop_start()
        self.start()

    @property
    def connected(self) -> bool:
        """Whether the broker is there now."""
        return bool(self._client.is_connected())

    def _connected(self, *arguments: Any) -> None:
        if arguments[3].is_failure:
            return
        self._client.publish(f"{self._broker.topic}/online", "1", qos=1, retain=True)
        with self._lock:
            lasting = list(self._lasting.values())
        for event in lasting:
            self._publish(event)

    def _publish(self, event: Event) -> Any:
        text = json.dumps(event.as_json(), separators=(",", ":"))
        retain = event.kind in ("state", "device", "config")
        return self._client.publish(f"{self._broker.topic}/{event.kind}", text, qos=0, retain=retain)

    def take(self, event: Event) -> bool:
        """Publish; waits until the broker's socket took it, so that nothing piles up here."""
        if event.kind in ("state", "device", "config"):
            with self._lock:
                self._lasting[event.kind] = event
        if not self.connected:
            self.dropped += 1
            return True
        sent = self._publish(event)
        try:
            sent.wait_for_publish(5)
            done = sent.is_published()
        except (ValueError, RuntimeError):  # the broker went away meanwhile
            done = False
        self.published += done
        self.dropped += not done
        return True

    def close(self) -> None:
        """See ``Sink``."""
        super().close()
        if self.connected:
            last = self._client.publish(f"{self._broker.topic}/online", "0", qos=1, retain=True)
            with contextlib.suppress(ValueError, RuntimeError):
                last.wait_for_publish(2)
        self._client.disconnect()
        self._client.loop_stop()
