"""Rules of the house: rooms import downwards, files stay short, start-up is light, licences are permissive."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from support.shared import ROOT

HOST = ROOT / "host" / "uhd"

#: Shelf of each room. A room imports from lower shelves and from itself only.
SHELVES = {
    "image": 1,
    "data": 2,
    "detect": 3,
    "models": 3,
    "espdl": 3,
    "export": 4,
    "zoo": 4,
    "quantize": 5,
    "importing": 6,
    "litert": 6,
    "train": 6,
    "codegen": 6,
    "predict": 7,
    "device": 7,
    "bridge": 8,
    "explain": 8,
    "infer": 8,
    "profile": 8,
    "resizing": 9,
    "search": 9,
    "viewer": 9,
    "host": 10,
}


def room_of(module: str) -> str | None:
    """The room a dotted module belongs to; None for the shared modules on the floor (errors, files, ...)."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in SHELVES else None


def imported_modules(tree: ast.Module) -> set[str]:
    """Names of all ``uhd`` modules that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name == "uhd" or name.startswith("uhd.")}


@pytest.mark.parametrize("path", sorted(HOST.rglob("*.py")), ids=lambda p: str(p.relative_to(HOST)))
def test_rooms_import_downwards(path: Path) -> None:
    parts = path.relative_to(HOST).parts
    if parts == ("__init__.py",):  # the front door, which opens rooms on first use
        return
    room = parts[0] if parts[0] in SHELVES else None
    for module in imported_modules(ast.parse(path.read_text())):
        other = room_of(module)
        if other is None or other == room:
            continue
        assert room is not None, f"{path} is shared by all rooms but imports {module}"
        assert SHELVES[other] < SHELVES[room], f"{path} imports {module} from a higher or equal shelf"


def source_files() -> list[Path]:
    """Hand-written sources: Python, C++, templates; generated components and headers excluded."""
    generated = ROOT / "firmware" / "components" / "uhd_model"
    files = [*HOST.rglob("*.py")]
    for pattern in ("*.cpp", "*.hpp", "*.S"):
        files += [p for p in (ROOT / "firmware").rglob(pattern) if generated not in p.parents]
    return [p for p in files if not {"build", "managed_components"} & set(p.parts)]


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in source_files()}
    longest = max(lengths, key=lambda p: lengths[p])
    assert lengths[longest] <= 600, f"{longest} has {lengths[longest]} lines"
    assert statistics.median(lengths.values()) <= 150


def test_there_are_enough_tests() -> None:
    source = sum(len(p.read_text().splitlines()) for p in source_files())
    tests = sum(len(p.read_text().splitlines()) for p in (ROOT / "tests").rglob("*.py"))
    assert tests >= 0.5 * source, f"{tests} lines of tests for {source} of source"


def test_help_is_light_and_fast() -> None:
    code = (
        "import sys, uhd.host.__main__ as m\n"
        "m.main(['--help'])\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'cv2', 'esp_ppq', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    best = min(_timed_run(code) for _ in range(3))
    bare = min(_timed_run("import json") for _ in range(3))
    assert best < bare * 3 + 0.3, f"--help took {best:.2f} s (a bare interpreter {bare:.2f} s)"


def _timed_run(code: str) -> float:
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started


def test_every_command_has_help() -> None:
    from click.testing import CliRunner

    from uhd.host.__main__ import COMMANDS, cli

    for name in COMMANDS:
        result = CliRunner().invoke(cli, [name, "--help"])
        assert result.exit_code == 0, f"{name}: {result.output}"
        assert "xample" in result.output, f"{name} --help shows no example"


def test_no_unsafe_loading() -> None:
    for path in HOST.rglob("*.py"):
        text = path.read_text()
        assert "shell=True" not in text, path
        assert not re.search(r"\bpickle\.loads?\(|yaml\.load\(", text), path
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, f"{path}: {call}"


def test_licences_are_permissive() -> None:
    """Everything pyproject asks for, and what that pulls in, may be used without copyleft duties when imported."""
    wanted = ["uhd-workspace"]
    seen: set[str] = set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            info = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        for requirement in info.requires or ():
            if "extra ==" not in requirement:
                wanted.append(re.split(r"[ <>=!~;\[(]", requirement, maxsplit=1)[0])
        fields = info.metadata
        text = " ".join(
            [fields.get("License-Expression") or "", (fields.get("License") or "")[:80]]
            + [c for c in fields.get_all("Classifier") or () if c.startswith("License")]
        )
        lowered = text.replace("LGPL", "").replace("Lesser General Public", "")
        assert not re.search(r"\bA?GPL|General Public License", lowered), f"{name}: {text}"
