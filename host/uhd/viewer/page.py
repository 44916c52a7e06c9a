"""The files of the page, and what it must know about its source before the first event."""

from __future__ import annotations

import json
from pathlib import Path

from uhd import __version__
from uhd.device.messages import ENUMS, LIMITS

FOLDER = Path(__file__).parent / "page"

#: Types by suffix; browsers refuse modules of another type.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def known_faults() -> dict[int, dict[str, str]]:
    """Name and meaning of each fault by its number, from the message table."""
    first = LIMITS["FIRST_FAULT"][0]
    return {value: {"name": name, "meaning": meaning} for name, value, meaning in ENUMS["ErrorCode"] if value >= first}


def page_files(title: str) -> dict[str, tuple[str, bytes]]:
    """Path -> (content type, bytes) of all that the page loads. ``title`` says in one line what is looked at."""
    files = {
        f"/{path.name}": (TYPES[path.suffix], path.read_bytes())
        for path in sorted(FOLDER.iterdir())
        if path.suffix in TYPES
    }
    files["/"] = files["/index.html"]
    source = {"title": title, "version": __version__, "faults": known_faults()}
    files["/source.json"] = ("application/json", json.dumps(source).encode())
    return files
