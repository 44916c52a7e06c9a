"""Compiling a model component with the portable firmware for this machine.

Objects and results are kept in the build folder under the hash of everything that went into them: sources, headers,
flags, compiler, and the processor, since the code is made for the one at hand. Nothing half-written is ever found.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from uhd.errors import ToolMissingError, UhdError
from uhd.files import atomic_path
from uhd.paths import COMPONENTS, build_root

RUNTIME = COMPONENTS / "uhd_runtime"
CORE = COMPONENTS / "uhd_core"

_CXX = ("-std=c++17", "-fno-exceptions", "-fno-rtti")
_FAST = ("-O3", "-fPIC", "-ffp-contract=off")
_SANITIZE = ("-O1", "-g", "-fPIC", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
_HEADERS = {".hpp", ".h"}


@functools.cache
def find_compiler() -> str:
    """Path of a C++17 compiler: ``$CXX``, g++ or clang++. Raises ``ToolMissingError`` where there is none."""
    for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++"):
        path = shutil.which(name) if name else None
        if path:
            return path
    raise ToolMissingError("no C++ compiler found", hint="install one (Debian: apt-get install g++) or set CXX")


@functools.cache
def _machine() -> tuple[str, tuple[str, ...]]:
    """(what decides the code: compiler and processor, flags that make code for this processor)."""
    compiler = find_compiler()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.partition("\n")[0]
    probe = subprocess.run(
        [compiler, "-march=native", "-x", "c++", "-fsyntax-only", os.devnull], capture_output=True, text=True
    )
    if probe.returncode != 0:
        return f"{version} {platform.machine()}", ()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        processor = platform.processor()
    return f"{version} {platform.machine()} {processor}", ("-march=native",)


def component_sources(component: Path) -> list[Path]:
    """The sources of a generated component, in a fixed order. Raises ``UhdError`` if there are none."""
    found = sorted(p for p in component.glob("*") if p.suffix in (".cpp", ".S"))
    if not found:
        raise UhdError(f"{component}: no generated component", hint="run `python -m uhd.host build-fw` first")
    return found


def runtime_sources() -> list[Path]:
    """The kernels."""
    return sorted((RUNTIME / "src").glob("*.cpp"))


def twin_sources() -> list[Path]:
    """The portable core with its C interface."""
    return sorted([*(CORE / "src").glob("*.cpp"), *(CORE / "host").glob("*.cpp")])


def build(
    sources: Sequence[Path], output: str, *, includes: Sequence[Path] = (), data: Iterable[Path] = (),
    shared: bool = True, sanitize: bool = False, flags: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Compile and link ``sources`` with the runtime's headers in reach; returns the library or program.

    Args:
        output: what the result is called; its file name gets the content's hash.
        includes: more folders of headers.
        data: files that a source embeds.
        shared: a shared library, otherwise a program.
        sanitize: with the address and undefined-behaviour sanitizers, for tests.
        flags: for the compiler, such as ``-DNAME``.

    Raises:
        ToolMissingError: no C++ compiler.
        UhdError: a source does not compile.
    """
    compiler = find_compiler()
    machine, native = _machine()
    folders = [*includes, RUNTIME / "include"]
    own = {source.parent for source in sources}
    headers = [p for folder in {*folders, *own} for p in folder.rglob("*") if p.suffix in _HEADERS]
    chosen = [*(_SANITIZE if sanitize else (*_FAST, *native)), *flags]
    base = _digest([machine, *chosen], [])
    store = build_root() / "twin"
    objects = []
    for source in sources:
        # The runtime knows no model, so its objects serve all of them.
        seen = [p for p in headers if RUNTIME in p.parents] if RUNTIME in source.parents else [*headers, *data]
        target = store / "objects" / f"{source.stem}-{_digest([base], [source, *seen])[:24]}.o"
        if not target.exists():
            language = _CXX if source.suffix == ".cpp" else ()
            with atomic_path(target) as temporary:
                _run(
                    [
                        compiler,
                        *chosen,
                        *language,
                        *(f"-I{f}" for f in folders),
                        "-c",
                        str(source),
                        "-o",
                        str(temporary),
                    ]
                )
        objects.append(target)
    suffix = ".so" if shared else ""
    result = store / f"{output}-{_digest([base, str(shared), *(o.name for o in objects)], [])[:24]}{suffix}"
    if not result.exists():
        link = ["-shared", "-Wl,-Bsymbolic"] if shared else []
        with atomic_path(result) as temporary:
            _run([compiler, *chosen, *link, *map(str, objects), "-o", str(temporary)])
            if not shared:
                temporary.chmod(0o755)
        result.chmod(0o755)
    return result


def compile_twin(component: Path, *, sanitize: bool = False) -> Path:
    """The host twin of a generated component: a shared library of its model, the runtime and the core.

    Raises as ``build``.
    """
    sources = [*component_sources(component), *runtime_sources(), *twin_sources()]
    data = sorted(p for p in component.iterdir() if p.suffix in (".bin", ".espdl"))
    return build(sources, "uhd-twin", includes=[component, CORE / "include"], data=data, sanitize=sanitize)


def _digest(words: Iterable[str], files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for word in words:
        digest.update(word.encode() + b"\0")
    for path in sorted(set(files)):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.splitlines() or [f"exit status {done.returncode}"]
        telling = next((line for line in lines if "error" in line.lower()), lines[-1])
        raise UhdError(
            f"the host twin does not compile: {telling.strip()}", hint=f"the command was: {' '.join(command)}"
        )
