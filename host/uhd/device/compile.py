"""Compiling a model component with the portable firmware, for this machine or as a bare program for the emulator.

Objects and results are kept in the build folder under the hash of everything that went into them: sources, headers,
flags, compiler, and the processor, since the twin is made for the one at hand. Nothing half-written is ever found.
"""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from uhd.device.programs import content_digest, run_program
from uhd.errors import ToolMissingError, UhdError
from uhd.files import atomic_path
from uhd.paths import COMPONENTS, build_root

RUNTIME = COMPONENTS / "uhd_runtime"
CORE = COMPONENTS / "uhd_core"

#: Folders whose sources include nothing that was generated.
_PLAIN = (RUNTIME / "src", CORE / "src", CORE / "host")

_CXX = ("-std=c++17", "-fno-exceptions", "-fno-rtti")
_HEADERS = {".hpp", ".h"}
#: Where QEMU's `virt` machine has memory: code and constants first, data after 64 MiB.
_MEMORY = ("__flash=0x80000000", "__flash_size=0x4000000", "__ram=0x84000000", "__ram_size=0x4000000")


@dataclass(frozen=True)
class Toolchain:
    """A compiler, a linker, and how to call them. ``key`` is what decides the code besides flags and sources."""

    compiler: str
    linker: str
    key: str
    flags: tuple[str, ...]
    link: tuple[str, ...]


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


def host_toolchain(*, shared: bool = True, sanitize: bool = False) -> Toolchain:
    """For this machine: a shared library or a program, as fast as it gets or with the sanitizers.

    Raises ``ToolMissingError`` without a C++ compiler.
    """
    compiler = find_compiler()
    key, native = _machine()
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all") if sanitize else ("-O3", *native)
    return Toolchain(compiler, compiler, key, ("-fPIC", *flags), ("-shared", "-Wl,-Bsymbolic") if shared else ())


def bare_toolchain() -> Toolchain:
    """For a program on the emulated RISC-V machine that prints through semihosting.

    Raises ``ToolMissingError`` naming the packages if it is not installed.
    """
    from uhd.device import cross

    machine = ("-march=rv32imafc", "-mabi=ilp32f", "-mcmodel=medany", "--specs=picolibc.specs")
    flags = (*machine, "-O3", "-ffunction-sections", "-fdata-sections", "-fno-threadsafe-statics")
    link = ("--oslib=semihost", "--crt0=hosted", "-Wl,--gc-sections", *(f"-Wl,--defsym={m}" for m in _MEMORY))
    return Toolchain(cross.COMPILER, cross.LINKER, cross.compiler_id(), flags, link)


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
    toolchain: Toolchain, sources: Sequence[Path], output: str, *, includes: Sequence[Path] = (),
    data: Iterable[Path] = (), defines: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Compile and link ``sources`` with the runtime's headers in reach; returns the library or program.

    Args:
        toolchain: what with and what for.
        sources: C++ and assembler files.
        output: what the result is called, with its suffix; its file name gets the content's hash.
        includes: more folders of headers.
        data: files that a source embeds.
        defines: preprocessor names, for all sources.

    Raises:
        UhdError: a source does not compile.
    """
    folders = [*includes, RUNTIME / "include"]
    headers = [p for f in {*folders, *(s.parent for s in sources)} for p in f.rglob("*") if p.suffix in _HEADERS]
    plain = [p for p in headers if RUNTIME in p.parents or CORE in p.parents or _shadows(p, includes)]
    flags = [*toolchain.flags, *(f"-D{name}" for name in defines)]
    base = content_digest([toolchain.key, *flags], [])
    store = build_root() / "twin"
    objects = []
    for source in sources:
        # Runtime and core know no model, so their objects serve all of them.
        seen = plain if source.parent in _PLAIN else [*headers, *data]
        target = store / "objects" / f"{source.stem}-{content_digest([base], [source, *seen])[:24]}.o"
        if not target.exists():
            language = _CXX if source.suffix == ".cpp" else ()
            reach = (f"-I{folder}" for folder in folders)
            with atomic_path(target) as temporary:
                run_program(
                    [toolchain.compiler, *flags, *language, *reach, "-c", str(source), "-o", str(temporary)],
                    f"compile {source.name}",
                )
        objects.append(target)
    key = content_digest([base, *toolchain.link, *(o.name for o in objects)], [])[:24]
    name, dot, suffix = output.partition(".")
    result = store / f"{name}-{key}{dot}{suffix}"
    if not result.exists():
        with atomic_path(result) as temporary:
            run_program(
                [toolchain.linker, *toolchain.flags, *toolchain.link, *map(str, objects), "-o", str(temporary)],
                f"link {name}",
            )
        result.chmod(0o755)
    return result


def _shadows(header: Path, includes: Sequence[Path]) -> bool:
    """Whether a header in one of ``includes`` is found before one of the core or the runtime with its name."""
    names = [header.relative_to(folder) for folder in includes if folder in header.parents]
    return any((room / "include" / name).exists() for room in (RUNTIME, CORE) for name in names)


def component_data(component: Path) -> list[Path]:
    """The files that a generated component embeds."""
    return sorted(p for p in component.iterdir() if p.suffix in (".bin", ".espdl"))


def compile_twin(component: Path) -> Path:
    """The host twin of a generated component: a shared library of its model, the runtime and the core.

    Raises ``ToolMissingError`` without a C++ compiler, ``UhdError`` for a folder that is no component.
    """
    sources = [*component_sources(component), *runtime_sources(), *twin_sources()]
    includes = [component, CORE / "include"]
    return build(host_toolchain(), sources, "uhd-twin.so", includes=includes, data=component_data(component))
