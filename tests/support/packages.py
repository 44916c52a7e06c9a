"""Model packages for tests: made, damaged, and opened by the device's own code."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import struct
import subprocess
from pathlib import Path

import numpy as np

from support.components import detector_manifest, made_component, made_detector
from uhd.codegen import generate
from uhd.codegen.describe import Description
from uhd.codegen.package import package_bytes
from uhd.device import compile as compiling
from uhd.device.compile import CORE
from uhd.espdl.reader import read_espdl
from uhd.manifest import ModelManifest

RUNNER = Path(__file__).with_name("package_runner.cpp")
STATUS = ("Ok", "InvalidArgument", "BufferTooSmall", "Incomplete", "Corrupt", "Unsupported", "Busy", "NotFound")
_TEXT = 1 << 22


def _sources() -> list[Path]:
    return [*(CORE / "src" / name for name in ("package.cpp", "sha256.cpp", "decode.cpp", "suppress.cpp")), RUNNER]


@functools.cache
def opener() -> ctypes.CDLL:
    """``open_package`` and a printer of models, as a library."""
    library = compiling.build(
        compiling.host_toolchain(), _sources(), "package-opener.so", includes=[CORE / "include"]
    )  # fmt: skip
    return ctypes.CDLL(str(library))


def sanitized(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program of ``package_runner.cpp`` under the sanitizers."""
    toolchain = compiling.host_toolchain(shared=False, sanitize=True)
    program = compiling.build(toolchain, _sources(), "package-fuzz", includes=[CORE / "include"])
    return subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True)


def opened(data: bytes, shift: int = 0) -> tuple[str, str]:
    """(status, the model as text or why there is none) of a package ``shift`` bytes behind an aligned address."""
    memory = np.full(len(data) + 32, 0xAA, np.uint8)
    start = -memory.ctypes.data % 16 + shift
    memory[start : start + len(data)] = np.frombuffer(data, np.uint8)
    text = ctypes.create_string_buffer(_TEXT)
    status = opener().open_and_print(
        ctypes.c_void_p(memory.ctypes.data + start), ctypes.c_size_t(len(data)), text, ctypes.c_size_t(_TEXT)
    )
    return STATUS[status], text.value.decode(errors="replace")


def compiled_info(component: Path) -> str:
    """What the compiled ``info.cpp`` of a component says, as text."""
    toolchain = compiling.host_toolchain()
    library = ctypes.CDLL(str(compiling.build(
        toolchain, [component / "info.cpp", component / "blobs.S"], "info.so", includes=[component],
        data=compiling.component_data(component),
    )))  # fmt: skip
    model_info = library._ZN3uhd10model_infoEv
    model_info.restype = ctypes.c_void_p
    text = ctypes.create_string_buffer(_TEXT)
    opener().print_info(ctypes.c_void_p(model_info()), text, ctypes.c_size_t(_TEXT))
    return text.value.decode(errors="replace")


def package_of(espdl: Path, target: str, manifest: ModelManifest, folder: Path) -> tuple[Description, bytes]:
    """The component of a quantized model, written to ``folder``, and its package."""
    content = espdl.read_bytes()
    about = generate(read_espdl(content, target), content, manifest, folder)
    return about, package_bytes(about, content, manifest)


def made_package(folder: Path, bits: int = 8, anchors: int = 1, head: bool = True) -> tuple[Description, bytes]:
    """The package of a small detector made by hand; without ``head`` nobody knows its outputs."""
    model, content = made_detector(0, "c", bits, 8, anchors)
    manifest = detector_manifest(model) if head else ModelManifest(name="plain", input_height=16, input_width=16)
    made_component(folder, model, content, manifest)
    about = generate(model, content, manifest, folder)
    return about, package_bytes(about, content, manifest)


def sealed(data: bytes | bytearray) -> bytes:
    """The same bytes with their size and SHA-256 in the header."""
    body = bytes(data)
    head = body[:8] + struct.pack("<I", len(body)) + body[12:16]
    return head + hashlib.sha256(body[48:]).digest() + body[48:]


def sections(data: bytes) -> dict[str, tuple[int, int, int]]:
    """(place of the entry in the list, offset, size) by kind."""
    (count,) = struct.unpack_from("<I", data, 48)
    found = {}
    for at in range(64, 64 + 16 * count, 16):
        kind, offset, size, _ = struct.unpack_from("<4sIII", data, at)
        found[kind.decode()] = (at, offset, size)
    return found
