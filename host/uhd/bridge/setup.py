"""From what a user typed to a source: a port with its board, an emulator of our own, photos."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from uhd.bridge.commands import Settings
from uhd.bridge.photos import PhotoFeed
from uhd.bridge.source_live import LiveSource
from uhd.device.ports import DEFAULT_BAUD, Port, open_port
from uhd.device.serial_ports import check_access, choose_port, list_serial_ports, same_device
from uhd.errors import ConfigError, DeviceError


def port_opener(path: str, baud: int = DEFAULT_BAUD) -> Callable[[], Port]:
    """Opens ``path`` again and again, also under the new name that the same USB board may have after it was away.

    What is opened raises ``DeviceError`` while the board is not there.
    """
    known = None if "://" in path else next((p for p in list_serial_ports() if p.path == path), None)

    def open_again() -> Port:
        if "://" in path:
            return open_port(path, timeout=1.0)
        # Listing the ports costs more than a look at the path, which is where most boards come back.
        now = path if Path(path).exists() else same_device(known, list_serial_ports() if known else [], path)
        if now is None:
            raise DeviceError(f"{path}: not there")
        return open_port(now, baud=baud)

    return open_again


@contextlib.contextmanager
def emulated_port(
    variant: str = "R", preset: str = "speed", note: Callable[[str], None] = lambda text: None
) -> Iterator[str]:
    """Path of the serial port of an emulated device that runs a variant; it ends with the context.

    Raises ``ToolMissingError`` where the emulator or its compiler is not installed.
    """
    from uhd.device import build
    from uhd.device.qemu import QemuDevice, build_elf
    from uhd.paths import build_root

    request = build.Request(variant.upper(), "qemu", preset)
    component = build.prepare_component(request, note, folder=build_root() / request.name / "uhd_model")
    with QemuDevice(build_elf(component.folder, component.folder.parent), link="pty", open=False) as device:
        yield device.path


@contextlib.contextmanager
def live_source(
    *,
    port: str | None = None,
    baud: int = DEFAULT_BAUD,
    target: str | None = None,
    variant: str = "R",
    preset: str = "speed",
    photos: Path | None = None,
    inject: str = "network",
    loop: bool = False,
    rate: float | None = None,
    pictures: int | None = None,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    record: Path | None = None,
    record_folder: Path | None = None,
    through: Callable[[Port], Port] = lambda port: port,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[LiveSource]:
    """A source that is not started yet: the device on ``port``, or an emulator of its own for ``target`` ``qemu``.

    Without either the port is that of ``choose_port``. ``photos``, ``inject``, ``loop``, ``rate`` (at most so many a
    second), ``pictures`` (end after so many), ``record``: as in ``LiveSource`` and ``PhotoFeed``. ``through`` is put
    between port and device. The source is closed with the context.
    """
    feed = PhotoFeed(photos, inject=inject, loop=loop) if photos else None
    with contextlib.ExitStack() as stack:
        if target == "qemu" and port is None:
            if photos is None:
                raise ConfigError("an emulated device has no camera", hint="give it --photos DIR")
            path = stack.enter_context(emulated_port(variant, preset, note))
        else:
            path = choose_port(port)
            check_access(path)
        source = LiveSource(
            port_opener(path, baud), path, settings=settings, photos=feed, rate=rate, pictures=pictures,
            record=record, record_folder=record_folder, through=through,
        )  # fmt: skip
        stack.callback(source.close)
        yield source
