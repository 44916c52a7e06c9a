"""``bridge``: what a device sees, for other programs."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.loss import loss_options
from uhd.host.source_options import source_options

if TYPE_CHECKING:
    from uhd.bridge.hub import Hub, Source
    from uhd.bridge.server import EventServer
    from uhd.bridge.sinks import JsonLines, Mqtt
    from uhd.device.lossy import Loss

EPILOG = """\b
Examples:
  python -m uhd.host bridge --port /dev/ttyACM0
  python -m uhd.host bridge --port /dev/ttyACM0 --json | jq -c 'select(.kind == "picture") | .boxes'
  python -m uhd.host bridge --target qemu --photos val/ --record val.uhdr
  python -m uhd.host bridge --port /dev/ttyACM0 --websocket 8765 --mqtt broker.local/home/door
  python -m uhd.host bridge --port socket://127.0.0.1:5444 --output events.jsonl --seconds 60
"""


@click.command(epilog=EPILOG)
@source_options
@click.option("--loop", is_flag=True, help="Begin again after the last photo.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Photos a second, at most.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Lowest score.  [default: the model's own]")
@click.option("--nms-iou", type=click.FloatRange(0, 1), help="Overlap from which the weaker of two boxes is dropped.")
@click.option("--top-k", type=click.IntRange(1, 1024), help="Candidates that enter suppression.")
@click.option("--thumbnail-every", type=click.IntRange(0, 65535), default=1, show_default=True,
              help="What the network sees, of every n-th picture; 0: never.")  # fmt: skip
@click.option("--results-every", type=click.IntRange(1, 65535), default=1, show_default=True,
              help="The results of every n-th picture of its camera.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout.")
@click.option("--output", type=click.Path(path_type=Path), help="Events as JSON lines to this file.")
@click.option("--images", is_flag=True, help="Pixels, too, in JSON lines.")
@click.option("--websocket", metavar="[HOST:]PORT", help="Events as a websocket at ws://HOST:PORT/events.")
@click.option("--token", help="What readers from other machines must know; $UHD_TOKEN, or made up and printed.")
@click.option("--mqtt", metavar="HOST[:PORT]/TOPIC", help="Events to an MQTT broker; $MQTT_USER and $MQTT_PASSWORD.")
@click.option("--record", type=click.Path(path_type=Path), help="Everything on the link to this .uhdr file.")
@click.option("--record-folder", type=click.Path(path_type=Path, file_okay=False), default=Path(), show_default=True,
              help="Where recordings go that readers ask for.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long.")
@click.option("--pictures", type=click.IntRange(min=1), help="End after so many pictures.")
@loss_options
def command(loss: Loss, **options: Any) -> int:
    """Pass on what a device sees: as JSON lines, websocket, MQTT messages and recordings.

    Shows the device's own camera, or with --photos what it makes of photos. When the device is unplugged, restarts or
    falls silent it is waited for. Ends with Ctrl-C, or by itself: see --seconds, --pictures, --photos.
    """
    from uhd.bridge.commands import Settings
    from uhd.bridge.hub import Hub
    from uhd.bridge.setup import live_source
    from uhd.errors import ConfigError

    if options["target"] and options["port"]:
        raise ConfigError("--port and --target qemu exclude each other")
    if (options["loop"] or options["rate"]) and not options["photos"]:
        raise ConfigError("--loop and --rate are for --photos")
    quiet = options["as_json"]
    hub = Hub()
    settings = Settings(*(options[name] for name in ("threshold", "nms_iou", "top_k", "thumbnail_every",
                                                     "results_every")))  # fmt: skip
    names = ("port", "baud", "target", "variant", "preset", "photos", "inject", "loop", "rate", "pictures", "record",
             "record_folder")  # fmt: skip
    with (
        live_source(
            **{name: options[name] for name in names},
            settings=settings,
            through=loss.wrap,
            note=lambda text: say(text, quiet),
        ) as source,
        Sinks(hub, options) as sinks,
    ):
        source.start(hub)
        run(hub, source, sinks, options["seconds"], quiet)
        if source.error:
            raise source.error
    return 0


def say(text: str, quiet: bool = False) -> None:
    """A line on stderr."""
    if not quiet:
        click.echo(text, err=True)


class Sinks:
    """Where the events go, as the options say; a context manager. Shared by ``bridge`` and ``replay``."""

    def __init__(self, hub: Hub, options: dict[str, Any], *, patient: bool = False) -> None:
        self.lines: JsonLines | None = None
        self.server: EventServer | None = None
        self.broker: Mqtt | None = None
        self._writers: list[JsonLines] = []
        self._hub, self._options, self._patient = hub, options, patient
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Sinks:
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def _open(self, stack: contextlib.ExitStack) -> None:
        from uhd.bridge.sinks import JsonLines

        options, hub = self._options, self._hub
        images = bool(options.get("images"))
        if options.get("output"):
            stream = stack.enter_context(options["output"].open("w", encoding="utf-8"))
            self._writers.append(JsonLines(hub, stream, images=images, patient=self._patient))
            stack.callback(self._writers[-1].close)
        if options.get("as_json"):
            self.lines = JsonLines(hub, sys.stdout, images=images, patient=self._patient)
            self._writers.append(self.lines)
            stack.callback(self.lines.close)
        if options.get("websocket"):
            self.server = self._serve(stack, options["websocket"], options.get("token"))
        if options.get("mqtt"):
            from uhd.bridge.sinks import Mqtt, parse_broker

            self.broker = Mqtt(hub, parse_broker(options["mqtt"]), user=os.environ.get("MQTT_USER"),
                               password=os.environ.get("MQTT_PASSWORD"))  # fmt: skip
            stack.callback(self.broker.close)

    def _serve(self, stack: contextlib.ExitStack, address: str, token: str | None) -> EventServer:
        import secrets

        from uhd.bridge.server import EventServer, is_loopback, parse_address

        host, port = parse_address(address)
        token = token or os.environ.get("UHD_TOKEN") or (None if is_loopback(host) else secrets.token_urlsafe(16))
        server = stack.enter_context(EventServer(self._hub, host, port, token))
        say(f"events at {server.events_url}")
        return server

    @property
    def broken(self) -> bool:
        """Whether nobody reads stdout any more."""
        return self.lines is not None and self.lines.broken.is_set()

    @property
    def dropped(self) -> int:
        """Events that files, stdout and broker did not get because they were held up."""
        written = sum(lines.reader.dropped for lines in self._writers)
        return written + (self.broker.dropped + self.broker.reader.dropped if self.broker else 0)

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)


@contextlib.contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has come, inside; neither ends the program by itself."""
    asked: list[int] = []
    before = {number: signal.signal(number, lambda n, _: asked.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(hub: Hub, source: Source, sinks: Sinks, seconds: float | None, quiet: bool) -> None:
    """Until the source is done, the time is over, the user ends it, or nobody reads any more; with a status line."""
    reader = hub.subscribe()
    status = Status(hub, sinks, quiet)
    end = time.monotonic() + seconds if seconds else float("inf")
    try:
        with asked_to_end() as asked:
            while not asked() and not sinks.broken and time.monotonic() < end:
                event = reader.get(0.1)
                if event is not None:
                    status.take(event)
                elif source.done.is_set():
                    break
                status.show()
    finally:
        source.close()
        hub.close()
        while (event := reader.get(0)) is not None:
            status.take(event)
        status.end(source.pictures)


class Status:
    """One changing line on a terminal; elsewhere a line for each state, and one every ten seconds."""

    def __init__(self, hub: Hub, sinks: Sinks, quiet: bool) -> None:
        self._hub, self._sinks, self._quiet = hub, sinks, quiet
        self._terminal = sys.stderr.isatty()
        self._state, self._text, self._boxes, self._fps = "", "", 0, 0.0
        self._link: Mapping[str, int] = {}
        self._next = 0.0

    def take(self, event: Any) -> None:
        """Learn from an event."""
        if event.kind == "state":
            self._state, self._text = event.state, event.text
            self._line(f"{event.state}: {event.text}")
        elif event.kind == "picture":
            self._boxes = len(event.boxes)
        elif event.kind == "stats":
            self._fps, self._link = event.fps, event.host
        elif event.kind == "fault":
            self._line(f"fault {event.code} {event.name}: {event.text if event.stands else 'over'}")
        elif event.kind == "recording":
            self._line(f"{'recording to' if event.on else 'recorded'} {event.path}{event.text and f' ({event.text})'}")

    def show(self) -> None:
        """The line, if it is time."""
        now = time.monotonic()
        if self._quiet or now < self._next:
            return
        first, self._next = self._next == 0, now + (0.2 if self._terminal else 10.0)
        if first and not self._terminal:
            return
        readers = self._sinks.server.readers if self._sinks.server else 0
        parts = [self._state, f"{self._fps:.1f} pictures/s", f"{self._boxes} boxes"]
        if self._sinks.server:
            parts.append(f"{readers} reader{'' if readers == 1 else 's'}")
        if self._sinks.broker:
            parts.append("broker here" if self._sinks.broker.connected else "broker away")
        parts.append(f"{self._sinks.dropped} dropped")
        line = "  ".join(parts)
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()

    def _line(self, text: str) -> None:
        if not self._quiet:
            sys.stderr.write(("\r\x1b[K" if self._terminal else "") + f"{text}\n")
            sys.stderr.flush()

    def end(self, pictures: int) -> None:
        """The last line: how much there was, and what the link did to it."""
        wrong = [
            f"{value} {name.replace('_', ' ')}" for name, value in self._link.items() if value and name != "frames"
        ]
        self._line(f"{pictures} pictures; link: {', '.join(wrong) or 'nothing lost, nothing sent again'}")
