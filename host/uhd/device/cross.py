"""Cross-compiling the emulator's firmware: objects are kept by the hash of everything that went into them."""

from __future__ import annotations

import concurrent.futures
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uhd.device.programs import content_digest, run_program
from uhd.errors import ToolMissingError, UhdError
from uhd.files import atomic_path
from uhd.paths import COMPONENTS, FIRMWARE, build_root

COMPILER = "riscv64-unknown-elf-g++"
LINKER = "riscv64-unknown-elf-gcc"  # g++ would add -lstdc++, which this toolchain does not have
EMULATOR = "qemu-system-riscv32"
PACKAGES = "sudo apt-get install qemu-system-misc gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf"

_MACHINE = ("-march=rv32imafc", "-mabi=ilp32f", "-mcmodel=medany", "--specs=picolibc.specs")
_WARNINGS = ("-Wall", "-Wextra")
_COMPILE = (*_MACHINE, "-g1", "-ffunction-sections", "-fdata-sections", *_WARNINGS)
_CXX = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-fno-use-cxa-atexit")
_LINK = (*_MACHINE, "-nostartfiles", "-Wl,--gc-sections")
#: Optimisation of the sources in which the time goes.
HOT = "-O2"
#: Those of uhd_core; the rest is compiled for size. Its CMakeLists.txt says the same to ESP-IDF.
_HOT_CORE = frozenset({"overlay", "preprocess", "suppress"})
_SUFFIXES = {".cpp", ".c", ".S"}
_HEADERS = {".hpp", ".h", ".inc"}


@dataclass(frozen=True)
class Unit:
    """A part of the firmware: a folder with sources (in ``src`` or in itself), and how it is optimised.

    ``inputs`` are files besides the headers that any of its objects may depend on. ``hot`` names the sources whose
    speed matters more than their size, compiled with ``HOT``.
    """

    folder: Path
    optimise: str
    inputs: tuple[Path, ...] = ()
    hot: frozenset[str] = frozenset()

    def optimisation(self, source: Path) -> str:
        """The flag for one of the sources."""
        return HOT if source.stem in self.hot else self.optimise

    @property
    def sources(self) -> list[Path]:
        """Files to compile, in a fixed order. Raises ``UhdError`` if there are none."""
        folder = self.folder / "src" if (self.folder / "src").is_dir() else self.folder
        found = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES) if folder.is_dir() else []
        if not found:
            raise UhdError(f"{self.folder}: no sources to compile", hint="generate the model component first")
        return found

    @property
    def include(self) -> Path:
        """Folder of the headers that others may use."""
        return self.folder / "include" if (self.folder / "include").is_dir() else self.folder


def find_tool(name: str) -> str:
    """Path of a program. Raises ``ToolMissingError`` saying how to install it."""
    path = shutil.which(name)
    if path is None:
        raise ToolMissingError(f"{name} is not installed", hint=f"on Debian: {PACKAGES}")
    return path


def emulator_missing() -> str:
    """Why the emulated device cannot be built or booted on this machine; "" if it can."""
    try:
        find_tool(EMULATOR)
        compiler_id()
    except ToolMissingError as error:
        return str(error)
    return ""


def compiler_id() -> str:
    """Version of the compiler, once all of the toolchain is known to be there (``ToolMissingError`` otherwise)."""
    find_tool(COMPILER)
    specs = run_program([find_tool(LINKER), "-print-file-name=picolibc.specs"], "find picolibc").strip()
    if not Path(specs).is_absolute():
        raise ToolMissingError("picolibc for RISC-V is not installed", hint=f"on Debian: {PACKAGES}")
    return run_program([COMPILER, "--version"], "ask the compiler for its version").splitlines()[0]


def units(component: Path) -> tuple[Unit, ...]:
    """What the emulator's firmware consists of, with the model in ``component``."""
    model_files = tuple(sorted(p for p in component.rglob("*") if p.is_file()))
    return (
        Unit(FIRMWARE / "emulator", "-O2"),
        Unit(COMPONENTS / "uhd_core", "-Os", hot=_HOT_CORE),
        Unit(COMPONENTS / "uhd_runtime", "-O3"),
        Unit(component, "-O3", model_files),
    )


@dataclass(frozen=True)
class _Job:
    """One source to compile."""

    source: Path
    base: list[str]
    includes: list[str]
    unit: Unit
    inputs: list[Path]

    @property
    def key(self) -> str:
        """Hash of all that the object depends on."""
        return content_digest(
            [*self.base, self.unit.optimisation(self.source), *self._language], [self.source, *self.inputs]
        )

    @property
    def _language(self) -> tuple[str, ...]:
        return _CXX if self.source.suffix == ".cpp" else ()

    def run(self) -> Path:
        """Compile it, unless that was done before; returns the object file."""
        target = build_root() / "objects" / f"{self.source.stem}-{self.key[:24]}.o"
        if not target.exists():
            flags = [*self.base[1:], *self.includes, self.unit.optimisation(self.source), *self._language]
            with atomic_path(target) as temporary:
                run_program(
                    [COMPILER, *flags, "-c", str(self.source), "-o", str(temporary)], f"compile {self.source.name}"
                )
        return target


def build_elf(component: Path, build: Path, *, extra_flags: Sequence[str] = ()) -> Path:
    """Compile and link the emulator's firmware around a model component; returns the ELF file in ``build``.

    The file's name carries the hash of everything it was made from, so an unchanged firmware is not built again.
    Raises ``ToolMissingError`` naming the packages if the toolchain is missing, ``UhdError`` if the build fails.
    """
    compiler = compiler_id()
    *common, model = units(component)
    base = [compiler, *_COMPILE, *extra_flags]
    headers = [p for unit in common for p in unit.folder.rglob("*") if p.suffix in _HEADERS]
    includes = [f"-I{unit.include}" for unit in common]
    # Only the model's own objects may depend on the model, so that the others serve every model.
    jobs = [_Job(source, base, includes, unit, headers) for unit in common for source in unit.sources]
    jobs += [
        _Job(source, base, [*includes, f"-I{model.include}"], model, [*headers, *model.inputs])
        for source in model.sources
    ]
    script = FIRMWARE / "emulator" / "link.ld"
    elf = build / f"uhd-{content_digest([*_LINK, *(job.key for job in jobs)], [script])[:16]}.elf"
    table = elf.with_suffix(".map")  # what `size` reads
    if elf.exists() and table.exists():
        return elf
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(_Job.run, jobs))
    with atomic_path(table) as its_map, atomic_path(elf) as temporary:
        words = [*_LINK, f"-T{script}", f"-Wl,-Map={its_map}", *map(str, objects), "-lm", "-o", str(temporary)]
        run_program([LINKER, *words], "link the firmware")
    return elf
