"""Atomic writing and hashing."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uhd.files import atomic_path, sha256_bytes, sha256_file, write_bytes, write_text


def test_new_content_replaces_old(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "one")
    write_text(path, "two\n")
    assert path.read_bytes() == b"two\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_failure_keeps_old_content_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="half"), atomic_path(path) as temporary:
        temporary.write_bytes(b"new, half wri")
        raise RuntimeError("half")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_kill_during_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    code = (
        "import sys; from pathlib import Path; from uhd.files import write_bytes\n"
        "print('go', flush=True)\n"
        "n = 0\n"
        "while True:\n"
        "    write_bytes(Path(sys.argv[1]), bytes([n % 256]) * 200000); n += 1\n"
    )
    for delay in (0.02, 0.05, 0.11):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        deadline = time.monotonic() + 10
        while not path.exists() and time.monotonic() < deadline:
            os.sched_yield()
        time.sleep(delay)  # the moment of the kill is what varies, nothing waits for a result
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        content = path.read_bytes()
        assert len(content) == 200000 and len(set(content)) == 1


def test_hashes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    assert sha256_file(path) == sha256_bytes(data) == hashlib.sha256(data).hexdigest()
