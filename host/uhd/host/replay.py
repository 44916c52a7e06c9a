"""``replay``: a recording of a link, once more."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.ui import emit_json, print_table

if TYPE_CHECKING:
    from uhd.bridge.recording_reader import RecordingReader

EPILOG = """\b
Examples:
  python -m uhd.host replay door.uhdr
  python -m uhd.host replay val.uhdr --map
  python -m uhd.host replay door.uhdr --json --speed max > events.jsonl
  python -m uhd.host replay door.uhdr --websocket 8765 --speed 2
"""


def _speed(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A factor; 0 stands for ``max``."""
    if value is None or value == "max":
        return None if value is None else 0.0
    try:
        factor = float(value)
    except ValueError:
        factor = -1.0
    if not 0 < factor <= 1000:
        raise click.BadParameter(f"{value} is no speed: give a number above 0, such as 2, or max")
    return factor


@click.command(epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--speed", metavar="FACTOR", callback=_speed,
              help="1 as it was, 2 twice as fast, max as fast as it goes.  [default: 1 for watchers, else max]",
              )  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Events as JSON lines on stdout; with --map, the figures.")
@click.option("--output", type=click.Path(path_type=Path), help="Events as JSON lines to this file.")
@click.option("--images", is_flag=True, help="Pixels, too, in JSON lines.")
@click.option("--websocket", metavar="[HOST:]PORT", help="Events as a websocket at ws://HOST:PORT/events.")
@click.option("--token", help="What readers from other machines must know; $UHD_TOKEN, or made up and printed.")
@click.option("--mqtt", metavar="HOST[:PORT]/TOPIC", help="Events to an MQTT broker.")
@click.option("--map", "as_map", is_flag=True, help="mAP of the recorded boxes against the labels noted with them.")
def command(file: Path, as_map: bool, **options: Any) -> int:
    """Play a recording: the same events, in the same order, with the same times as from the device.

    Alone it sums up what is in FILE. With --websocket it stays at the end, so that readers can go back; Ctrl-C ends it.
    """
    from uhd.bridge.recording_reader import RecordingReader

    plays = options["output"] or options["websocket"] or options["mqtt"]
    if as_map or not (plays or options["as_json"]):
        with RecordingReader(file) as reader:
            return _map(reader, options["as_json"]) if as_map else _summary(reader)
    return _play(file, options)


def _play(file: Path, options: dict[str, Any]) -> int:
    from uhd.bridge.hub import Hub
    from uhd.bridge.source_replay import ReplaySource
    from uhd.host.bridge import Sinks, run

    watched = bool(options["websocket"] or options["mqtt"])
    speed = options["speed"] if options["speed"] is not None else (1.0 if watched else 0.0)
    hub = Hub()
    source = ReplaySource(file, speed=speed, stay=bool(options["websocket"]))
    try:
        with Sinks(hub, options, patient=True) as sinks:
            source.start(hub)
            run(hub, source, sinks, None, options["as_json"])
    finally:
        source.close()
    if source.error:
        raise source.error
    for problem in source.reader.problems:
        click.echo(f"{file}: {problem}", err=True)
    return 1 if source.reader.problems else 0


def _map(reader: RecordingReader, as_json: bool) -> int:
    from uhd.bridge.recorded_map import map_of_recording

    found = map_of_recording(reader)
    if as_json:
        emit_json({"map50": found.result.map50, "map50_95": found.result.map50_95, "photos": found.photos,
                   "missing": found.missing, "problems": reader.problems})  # fmt: skip
        return 0
    rows = [("mAP@0.5", f"{found.result.map50:.4f}"), ("mAP@0.5:0.95", f"{found.result.map50_95:.4f}")]
    print_table(f"{found.photos} photos in {reader.path.name}", rows)
    if found.missing:
        click.echo(f"{found.missing} more without results: left out")
    _problems(reader)
    return 0


def _problems(reader: RecordingReader) -> None:
    for problem in reader.problems:
        click.echo(problem)


def _summary(reader: RecordingReader) -> int:
    from uhd.bridge import events
    from uhd.bridge.recording import KINDS
    from uhd.bridge.translate import Translator
    from uhd.errors import DataError

    header = reader.header
    translator = Translator(0.0, images=lambda: False)
    records: Counter[str] = Counter()
    photos: set[str] = set()
    boxes = last_us = 0
    states: list[str] = []
    device: events.Device | None = None
    counters: dict[str, int] = {}
    for place, record in reader.records():
        records[KINDS[record.kind]] += 1
        last_us = max(last_us, record.time_us)
        try:
            told = translator.take(record)
        except DataError as error:
            raise DataError(f"{reader.path}: at byte {place}: {error}") from None
        for event in told:
            if isinstance(event, events.Picture):
                boxes += len(event.boxes)
                photos |= {event.photo} if event.photo else set()
            elif isinstance(event, events.State):
                states.append(event.state)
            elif isinstance(event, events.Device):
                device = event
            elif isinstance(event, events.Stats):
                counters = dict(event.host)
    seconds = last_us / 1e6
    wall = header.get("wall")
    began = f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S} UTC" if isinstance(wall, int | float) else "?"
    rows: list[tuple[str, object]] = [
        ("recorded", f"{began}, by version {str(header.get('tool_version'))[:20]}"),
        ("protocol", str(header.get("protocol_version"))[:20]),
        ("length", f"{seconds:.1f} s, {sum(records.values())} records"),
        ("device", f"{device.name}, {device.backend} backend, .espdl {device.model_hash[:12]}" if device else "none"),
        ("states", " ".join(states) or "none"),
        ("pictures", f"{translator.pictures}, {translator.pictures / seconds:.1f} a second" if seconds else
                     translator.pictures),
        ("boxes", boxes),
        ("photos", len(photos)),
        ("console lines", records["console"]),
        *((f"link: {name.replace('_', ' ')}", value) for name, value in counters.items() if value and name != "frames"),
    ]  # fmt: skip
    print_table(reader.path.name, rows)
    _problems(reader)
    return 1 if reader.problems else 0
