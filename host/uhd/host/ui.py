"""What every command prints with: numbered steps, tables and progress, plain text where there is no terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

import click

T = TypeVar("T")


def emit_json(value: Any) -> None:
    """Print one JSON document on stdout, for machines."""
    click.echo(json.dumps(value, indent=2, sort_keys=True))


class Steps:
    """Numbered progress lines on stderr: ``[2/3] codegen   12 files  0.4 s``."""

    def __init__(self, total: int, quiet: bool = False) -> None:
        self.total = total
        self.quiet = quiet
        self.number = 0
        self._started = time.monotonic()
        self._open = False

    def start(self, title: str) -> None:
        """Announce the next step."""
        self.number += 1
        self._started = time.monotonic()
        self._line(f"[{self.number}/{self.total}] {title} …")

    def note(self, text: str) -> None:
        """A line below the running step."""
        self._line(f"      {text}")

    def done(self, text: str) -> None:
        """Say what the running step produced, with the time it took."""
        self._line(f"      {text}  ({time.monotonic() - self._started:.1f} s)")

    def _line(self, text: str) -> None:
        if not self.quiet:
            click.echo(text, err=True)


def print_table(title: str, rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> None:
    """A table on stdout: drawn with lines on a terminal, aligned columns otherwise."""
    cells = [[str(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, show_header=bool(header), title_justify="left")
        for column in range(max(len(row) for row in (*cells, list(header)))):
            table.add_column(header[column] if header else "", overflow="fold")
        for row in cells:
            table.add_row(*row)
        Console().print(table)
        return
    lines = ([list(header)] if header else []) + cells
    columns = max(len(row) for row in lines)
    widths = [max(len(row[i]) for row in lines if i < len(row)) for i in range(columns)]
    click.echo(title)
    for row in lines:
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())


def track(items: Iterable[T], title: str, quiet: bool = False, total: int | None = None) -> Iterable[T]:
    """Iterate with a progress bar and ETA on stderr; a line every ten seconds where there is no terminal.

    ``total``: how many there are, for ``items`` without a length; where neither is known there is no ETA.
    """
    if quiet:
        return items
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        return rich_track(items, description=title, total=total, console=Console(stderr=True))
    return _plain_track(items, title, total)


def _plain_track(items: Iterable[T], title: str, total: int | None) -> Iterator[T]:
    started = last = time.monotonic()
    count = 0
    for index, item in enumerate(items):
        now = time.monotonic()
        if index and now - last >= 10:
            last = now
            remaining = f"/{total}, {(now - started) / index * (total - index):.0f} s left" if total else ""
            click.echo(f"{title}: {index}{remaining}", err=True)
        count = index + 1
        yield item
    click.echo(f"{title}: {count} in {time.monotonic() - started:.1f} s", err=True)


def counter(what: str, quiet: bool = False) -> Callable[[int, int], None]:
    """A function of (done, total) that tells it on stderr: one changing line on a terminal, else a line every 10 s."""
    last = time.monotonic()

    def tell(done: int, total: int) -> None:
        nonlocal last
        if quiet:
            return
        if sys.stderr.isatty():
            if done == total or done % 50 == 0:
                click.echo(f"\r{done}/{total} {what}", err=True, nl=done == total)
        elif done == total or time.monotonic() - last >= 10:
            last = time.monotonic()
            click.echo(f"{done}/{total} {what}", err=True)

    return tell


def human_bytes(count: int) -> str:
    """``12,345 B`` with thousands separators and the KiB value beside it when larger than 1 KiB."""
    return f"{count:,} B" if count < 1024 else f"{count:,} B ({count / 1024:.1f} KiB)"
