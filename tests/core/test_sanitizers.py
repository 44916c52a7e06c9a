"""The C++ tests once more, compiled with the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.shared import ROOT
from support.twinlib import SANITIZE
from uhd.device.compile import find_compiler

FILES = (
    "link/test_codec_cpp.py", "core/test_preprocess.py", "core/test_camera_picture.py", "core/test_decode_cpp.py",
    "core/test_device_loop.py",
)  # fmt: skip
#: Tests that are about the numbers, not about the memory: once is enough.
ONLY_NUMBERS = (
    "not float and not exact and not camera_sizes and not product and not cobs_package and not crc32"
    " and not every_rgb565_value and not (touch and 20000) and not (touch and 65535)"
)


def runtime_library(name: str) -> str:
    path = subprocess.run(
        [find_compiler(), f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(path).is_absolute():
        pytest.skip(f"the compiler has no {name}")
    return str(Path(path).resolve())


def sanitized(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "UHD_TEST_SANITIZE": "1",
        "LD_PRELOAD": f"{runtime_library('libasan.so')} {runtime_library('libubsan.so')}",
        # Python itself keeps memory until the end of the process.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.skipif(SANITIZE, reason="already inside")
def test_no_finding_in_the_cpp_tests() -> None:
    files = [str(ROOT / "tests" / name) for name in FILES]
    done = sanitized(["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", ONLY_NUMBERS, *files])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "passed" in done.stdout


@pytest.mark.skipif(SANITIZE, reason="already inside")
def test_the_sanitizers_would_find_something() -> None:
    """The set-up is not blind: one row more than there is room for is noticed."""
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import ctypes\n"
        "from support.twinlib import library\n"
        "out = (ctypes.c_uint8 * 4)()\n"
        "c = library().c\n"
        "libc = ctypes.CDLL(None); libc.malloc.restype = ctypes.c_void_p\n"
        "small = libc.malloc(ctypes.c_size_t(10))\n"
        "c.uhd_twin_network_to_input(bytes(8192), ctypes.c_void_p(small))\n"
    )
    done = sanitized(["-c", code])
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
