"""Running compilers and linkers, and naming what they made by what went in."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from uhd.errors import UhdError

#: What a compiler's or linker's line about the cause holds.
_TELLING = ("error:", "undefined", "ASSERT", "will not fit")


def content_digest(words: Iterable[str], files: Iterable[Path]) -> str:
    """SHA-256 (hexadecimal) over words in order and over names and contents of files, whatever their order."""
    digest = hashlib.sha256()
    for word in words:
        digest.update(word.encode() + b"\0")
    for path in sorted(set(files)):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def run_program(command: Sequence[str], what: str) -> str:
    """Run it and return what it printed. Raises ``UhdError`` ("cannot ``what``: ...") with its line about the cause."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.splitlines() or [f"exit status {done.returncode}"]
        telling = [line for line in lines if any(word in line for word in _TELLING)]
        raise UhdError(f"cannot {what}: {(telling or lines)[0].strip()}", hint=f"the command was: {' '.join(command)}")
    return done.stdout
