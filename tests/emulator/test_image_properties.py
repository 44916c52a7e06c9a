"""What the linked firmware is made of: no heap, a stack of known depth, little code."""

from __future__ import annotations

import linecache
import re
import subprocess
from pathlib import Path

import pytest

from support.core_bench import linked_code, objects, shipped_component
from support.elf_stack import deepest, parse, read_elf
from support.emulated import need_emulator
from uhd.device import cross
from uhd.device.cross import build_elf
from uhd.paths import COMPONENTS, build_root

pytestmark = pytest.mark.emu

HEAP = re.compile(r"_?(malloc|calloc|realloc|reallocarray|memalign|posix_memalign|aligned_alloc|free|sbrk)(_r)?|"
                  r"_Zn[wa]\w*|_Zd[la]\w*|__cxa_(guard|throw|allocate)\w*")  # fmt: skip
POLL_LIMIT = 2048  # bytes of stack, everything below Device::poll included
MODEL_LIMIT = 1024
CODE_LIMIT = 12 * 1024  # bytes of instructions: the core of a device without a display and without packages
EXTRAS = {"overlay": 3_000, "package": 2_400}


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Variant R."""
    need_emulator()
    return shipped_component(tmp_path_factory.mktemp("model") / "r")


@pytest.fixture(scope="module")
def elf(component: Path) -> Path:
    """The emulator's firmware with it."""
    return build_elf(component, build_root() / "test-emulator")


def symbols(*paths: Path) -> set[str]:
    """All names that these files define or ask for."""
    done = subprocess.run(["riscv64-unknown-elf-nm", *map(str, paths)], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in done.stdout.splitlines() if line.split() and not line.endswith(":")}


def test_no_heap_in_the_linked_firmware(elf: Path) -> None:
    found = symbols(elf)
    assert "_ZN3uhd6Device4pollEv" in found
    assert not [name for name in found if HEAP.fullmatch(name)]


def test_no_heap_in_any_portable_object(component: Path) -> None:
    """The linker drops what this firmware does not call; the objects show what others would get."""
    names = symbols(*objects(component, "uhd_core", "uhd_runtime").values())
    assert {"memcpy", "_ZN3uhd6Device4pollEv"} <= names
    assert not [name for name in names if HEAP.fullmatch(name)]


@pytest.mark.parametrize("name", ["malloc", "_malloc_r", "free", "_Znwj", "_ZdlPvj", "_sbrk", "__cxa_guard_acquire"])
def test_heap_would_be_seen(name: str) -> None:
    assert HEAP.fullmatch(name)
    assert not HEAP.fullmatch(f"_ZN3uhd{len(name)}{name}Ev")


def test_code_size(component: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is flashed: the linker shortens most calls from eight bytes to four. It is told to keep what this firmware
    does not call (a camera's part, for one), so that nothing escapes the count.
    """
    sizes = linked_code(component, tmp_path)
    before = {name: code_bytes(path) for name, path in objects(component, "uhd_core").items()}
    assert all(0.85 * before[name] < sizes[name] <= before[name] for name in before), "something was dropped"
    base = sum(size for name, size in sizes.items() if name not in EXTRAS)
    with capsys.disabled():
        print(f"\n  uhd_core without {' and '.join(EXTRAS)}: {base:,} bytes of code;", end=" ")
        print(", ".join(f"{name} {size:,}" for name, size in sizes.items()), end="")
    assert 5_000 < base <= CODE_LIMIT
    assert {name: sizes[name] for name in EXTRAS if not 500 < sizes[name] <= EXTRAS[name]} == {}


def test_esp_idf_optimises_the_same_sources() -> None:
    """What uhd_core's CMakeLists.txt tells ESP-IDF is what the emulator's build does."""
    text = (COMPONENTS / "uhd_core" / "CMakeLists.txt").read_text(encoding="utf-8")
    unit = next(unit for unit in cross.units(Path("component")) if unit.folder.name == "uhd_core")
    hot = re.search(r"set\(hot ([^)]*)\)", text)
    assert hot is not None and {Path(word.strip('"')).stem for word in hot[1].split()} == unit.hot
    assert f"PROPERTIES COMPILE_OPTIONS {cross.HOT})" in text
    assert re.search(rf"PRIVATE [^)]*{unit.optimise}\b", text)


def code_bytes(path: Path) -> int:
    done = subprocess.run(["riscv64-unknown-elf-size", "-A", str(path)], capture_output=True, text=True, check=True)
    rows = (line.split() for line in done.stdout.splitlines())
    return sum(int(row[1]) for row in rows if len(row) == 3 and row[0].startswith(".text"))


def test_stack_is_bounded(elf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The deepest chain of calls has a fixed size: no recursion, no array of variable length."""
    functions = read_elf(elf)
    model = next(name for name in functions if "9model_run" in name)
    ports = [name for name in functions if re.match(r"_ZN8emulator8UartPort\d", name)]
    assert len(ports) >= 5
    to_model = set()

    def targets(path: str, line: int) -> list[str]:
        """Where a call through a pointer on this line leads: the model, a case of a switch, or the port."""
        text = " ".join(linecache.getline(path, number) for number in range(line, line + 2))
        if "run_(" in text or ".run(" in text:
            to_model.add((path, line))
            return [model]
        return [] if "switch" in linecache.getline(path, line) else ports

    poll, poll_path = deepest(functions, "_ZN3uhd6Device4pollEv", targets)
    inference, model_path = deepest(functions, model, targets)
    assert to_model, "no call of the model was recognised"
    with capsys.disabled():
        for title, depth, path in (("Device::poll", poll, poll_path), ("model_run", inference, model_path)):
            frames = " > ".join(f"{demangled(name)} {functions[name].frame}" for name in path)
            print(f"\n  {title}: {depth} bytes of stack (emulated build): {frames}", end="")
    assert 64 < inference <= MODEL_LIMIT
    assert inference < poll <= POLL_LIMIT


def demangled(name: str) -> str:
    done = subprocess.run(["riscv64-unknown-elf-c++filt", name], capture_output=True, text=True, check=True)
    return done.stdout.replace("(anonymous namespace)::", "").partition("(")[0].split(" ", 1)[-1].strip()


LISTING = """
80000000 <leaf>:
/src/a.cpp:3
80000000:\tadd\tsp,sp,-32
80000002:\tbnez\ta0,80000000 <leaf>
80000004:\tret
80000010 <outer>:
80000010:\tadd\tsp,sp,-16
80000012:\tjal\t80000000 <leaf>
/src/a.cpp:9 (discriminator 2)
80000016:\tjalr\ta5
80000018:\tj\t80000010 <outer>
8000001a:\tj\t80000030 <last>
80000030 <last>:
80000030:\tadd\tsp,sp,-8
80000040 <round>:
80000040:\tjal\t80000044 <again>
80000044 <again>:
80000044:\tjal\t80000040 <round>
80000050 <array>:
80000050:\tsub\tsp,sp,a0
""".splitlines()


def test_depth_of_a_listing() -> None:
    """The reading of a disassembly, on one made by hand."""
    functions = parse(LISTING)
    asked = []

    def targets(path: str, line: int) -> list[str]:
        asked.append((path, line))
        return ["last"]

    assert deepest(functions, "outer", targets) == (48, ["outer", "leaf"])
    assert asked == [("/src/a.cpp", 9)]
    with pytest.raises(AssertionError, match="recursion: round -> again -> round"):
        deepest(functions, "round", targets)
    with pytest.raises(AssertionError, match="only when it runs"):
        deepest(functions, "array", targets)
