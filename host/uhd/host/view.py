"""``view``: what a device sees, live, in the browser or in the terminal."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.source_options import source_options

if TYPE_CHECKING:
    from uhd.bridge.hub import Hub
    from uhd.bridge.server import EventServer
    from uhd.bridge.source_live import LiveSource
    from uhd.bridge.source_replay import ReplaySource

EPILOG = """\b
Examples:
  python -m uhd.host view --port /dev/ttyACM0
  python -m uhd.host view --target qemu --photos val/
  python -m uhd.host view --recording door.uhdr
  python -m uhd.host view --port /dev/ttyACM0 --tui
  python -m uhd.host view --port /dev/ttyACM0 --http 0.0.0.0:8470 --no-open
"""

_ADDRESS = "127.0.0.1:8470"


@click.command(epilog=EPILOG)
@source_options
@click.option("--loop/--once", default=True, show_default=True, help="Begin again after the last photo.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Photos a second, at most.")
@click.option("--recording", type=click.Path(path_type=Path, dir_okay=False), help="Play this .uhdr file instead.")
@click.option("--record-folder", type=click.Path(path_type=Path, file_okay=False), default=Path(), show_default=True,
              help="Where recordings go that are begun on the page.")  # fmt: skip
@click.option("--http", metavar="[HOST:]PORT", help=f"Where the page is.  [default: {_ADDRESS}, or any free port]")
@click.option("--token", help="What other machines must know to see the page; $UHD_TOKEN, or made up and printed.")
@click.option("--no-open", is_flag=True, help="Print the page's address, but do not open a browser.")
@click.option("--tui", is_flag=True, help="Show it in this terminal; the page is there only with --http.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so long.")
def command(**options: Any) -> int:
    """Show what a device sees: the picture with its boxes, scores, times, counters and faults.

    Opens a page in the browser, on this machine only unless --http names another address. Without --photos the
    device's own camera is shown. When the device is unplugged or restarts it is waited for. Ends with Ctrl-C.
    """
    from uhd.bridge.hub import Hub
    from uhd.host.bridge import asked_to_end

    check(options)
    hub = Hub()
    with _source(options) as (source, title), asked_to_end() as asked, contextlib.ExitStack() as stack:
        stack.callback(hub.close)
        end = time.monotonic() + options["seconds"] if options["seconds"] else float("inf")
        server = None if options["tui"] and not options["http"] else stack.enter_context(serve(hub, options, title))
        source.start(hub)
        if options["tui"]:
            from uhd.viewer.tui import Tui

            Tui(hub, title).run(lambda: asked() or time.monotonic() >= end)
        else:
            assert server
            url = reachable(server.url)
            click.echo(f"page at {url}  (Ctrl-C ends)", err=True)
            if not options["no_open"]:
                open_browser(url)
            tell(hub, lambda: asked() or time.monotonic() >= end)
        source.close()
        if source.error:
            raise source.error
    return 0


def check(options: dict[str, Any]) -> None:
    """Raises ``ConfigError`` for options that contradict each other."""
    from uhd.errors import ConfigError

    given = [f"--{name}" for name in ("port", "target", "recording") if options[name]]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} exclude each other", hint="choose one source")
    if options["recording"] and options["photos"]:
        raise ConfigError("--photos are for a device, not for a --recording")
    if options["rate"] and not options["photos"]:
        raise ConfigError("--rate is for --photos")
    if options["tui"] and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("--tui needs a terminal", hint="leave it out, and open the page in a browser")


@contextlib.contextmanager
def _source(options: dict[str, Any]) -> Iterator[tuple[LiveSource | ReplaySource, str]]:
    """The source that the options name, not started yet, and a line that says what it is."""
    if options["recording"]:
        from uhd.bridge.source_replay import ReplaySource

        replay = ReplaySource(options["recording"], stay=True)
        with contextlib.closing(replay):
            yield replay, str(options["recording"])
        return
    from uhd.bridge.setup import live_source

    names = ("port", "baud", "target", "variant", "preset", "photos", "inject", "rate", "record_folder")
    loop = bool(options["loop"] and options["photos"])
    with live_source(**{name: options[name] for name in names}, loop=loop, note=_note) as source:
        device = "emulated device" if options["target"] else source.name
        yield source, f"{options['photos']} on {device}" if options["photos"] else device


def _note(text: str) -> None:
    click.echo(text, err=True)


def serve(hub: Hub, options: dict[str, Any], title: str) -> EventServer:
    """The page and its events. Any free port where the usual one is taken and none was asked for."""
    import secrets

    from uhd.bridge.server import EventServer, is_loopback, parse_address
    from uhd.errors import DeviceError
    from uhd.viewer.page import page_files

    host, port = parse_address(options["http"] or _ADDRESS)
    token = options["token"] or os.environ.get("UHD_TOKEN") or None
    if not is_loopback(host):
        token = token or secrets.token_urlsafe(16)
        title = ""  # names of folders are nobody else's business
    files = page_files(title)
    try:
        return EventServer(hub, host, port, token, files)
    except DeviceError:
        if options["http"]:
            raise
        return EventServer(hub, host, 0, token, files)


def reachable(url: str) -> str:
    """The URL with this machine's name instead of the address that stands for all of its own."""
    import socket

    for every in ("//0.0.0.0:", "//[::]:"):
        url = url.replace(every, f"//{socket.gethostname()}:", 1)
    return url


def open_browser(url: str) -> None:
    """Open the page where there is a desktop: a text browser would take this terminal."""
    import webbrowser

    desktop = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if desktop:
        webbrowser.open(url)


def tell(hub: Hub, ended: Callable[[], bool]) -> None:
    """A line on stderr whenever things change, until the end. A recording that is over can be played again."""
    last = ""
    reader = hub.subscribe()
    with contextlib.closing(reader):
        while not ended():
            event: Any = reader.get(0.1)
            line = ""
            if event is None:
                continue
            if event.kind == "state":
                line = f"{event.state}: {event.text}"
            elif event.kind == "fault":
                line = f"fault {event.code} {event.name}: {event.text if event.stands else 'over'}"
            elif event.kind == "recording":
                line = event.text or f"{'recording to' if event.on else 'recorded'} {event.path}"
            if line and line != last:
                click.echo(line, err=True)
                last = line
