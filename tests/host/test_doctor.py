"""``doctor``: the verdict for each target, version ranges against the packaging library, machines that lack things."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from support.shared import ROOT
from uhd.device import doctor_chips, doctor_host
from uhd.device.doctor import EXAMINATIONS, Report, examine
from uhd.device.doctor_check import ALL, CHIPS, Check, Status
from uhd.device.serial_ports import SerialPort
from uhd.device.versions import parse_version, satisfies
from uhd.host.__main__ import cli


def one(checks: Iterator[Check], name: str = "") -> Check:
    found = [check for check in checks if name in check.name]
    assert len(found) == 1, found
    return found[0]


def check(status: Status, targets: tuple[str, ...] = ALL, sdk: bool = False) -> Check:
    return Check("x", status, "found", "purpose", "fix", targets, sdk)


@pytest.mark.parametrize(
    ("checks", "target", "code"),
    [
        ([], "qemu", 0),
        ([check("ok"), check("warning")], "qemu", 0),
        ([check("missing", CHIPS, sdk=True)], "qemu", 0),
        ([check("missing", CHIPS, sdk=True)], "esp32p4", 3),
        ([check("missing", ("esp32s3",), sdk=True)], "esp32p4", 0),
        ([check("missing", CHIPS, sdk=True), check("missing", CHIPS)], "esp32s3", 2),
        ([check("broken", CHIPS, sdk=True)], "esp32s3", 2),
        ([check("missing", ())], "qemu", 0),
        ([check("missing", ("qemu",))], "qemu", 2),
    ],
)
def test_exit_code(checks: list[Check], target: str, code: int) -> None:
    assert Report(target, tuple(checks)).exit_code == code


RANGES = ["==", "!=", ">=", "<=", ">", "<", "~="]


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.lists(st.integers(0, 12), min_size=2, max_size=4),
    st.sampled_from(RANGES),
)
def test_ranges_mean_what_packaging_says(found: list[int], wanted: list[int], operator: str) -> None:
    version, clause = ".".join(map(str, found)), operator + ".".join(map(str, wanted))
    assert satisfies(version, clause) == SpecifierSet(clause).contains(version), f"{version} {clause}"


def test_ranges_of_component_manifests() -> None:
    for version, ranges, expected in (
        ("1.2.3", "^1.0", True), ("2.0.0", "^1.0", False), ("0.3.9", "^0.3.1", True), ("0.4.0", "^0.3.1", False),
        ("1.4.9", "~1.4.2", True), ("1.5.0", "~1.4.2", False), ("3.3.9", "*", True), ("3.3.9", "3.3.9", True),
        ("3.3.9", ">=3.3,<3.4", True), ("3.4.0~1", ">=3.3,<3.4", False), ("5.4", ">=5.4", True), ("", "*", False),
        ("2.1.16", "2.1.*", True), ("2.2.0", "2.1.*", False), ("1.0", "", True),
    ):  # fmt: skip
        assert satisfies(version, ranges) is expected, f"{version} {ranges}"
    with pytest.raises(ValueError, match="no version range"):
        satisfies("1.0", "latest")
    assert parse_version("2.13.0+cpu") == (2, 13, 0) and parse_version("v6.1-dev") == (6, 1)


def test_packages_here_are_judged_as_packaging_judges_them() -> None:
    lines = [Requirement(line) for line in doctor_host.project()["dependencies"]]  # type: ignore[union-attr]
    assert [(r.name, str(r.specifier)) for r in lines] != []
    good = all(r.specifier.contains(importlib.metadata.version(r.name), prereleases=True) for r in lines)
    assert (one(doctor_host.packages()).status == "ok") is good
    names = {name for name, _ in doctor_host.requirements()}
    assert names == {r.name for r in lines}


def test_wrong_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [("numpy", ">=1000"), ("no-such-package-of-ours", ">=1"), ("click", ">=1")]
    monkeypatch.setattr(doctor_host, "requirements", lambda: wanted)
    found = one(doctor_host.packages())
    assert found.status == "broken"
    assert "numpy" in found.found and "wanted >=1000" in found.found
    assert "no-such-package-of-ours is missing" in found.found and "click" not in found.found
    assert "pip install" in found.fix


def test_every_complaint_has_a_way_out_and_every_check_a_purpose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with nothing at all."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("IDF_PATH", raising=False)
    monkeypatch.delenv("IDF_PYTHON_ENV_PATH", raising=False)
    doctor_host.find_compiler.cache_clear()
    try:
        reports = {target: examine(target) for target in ALL}
    finally:
        doctor_host.find_compiler.cache_clear()
    checks = {c.name: c for c in reports["qemu"].checks}
    for name in ("RISC-V gcc", "picolibc", "QEMU", "ESP-IDF", "compiler for esp32s3", "C++ compiler"):
        assert checks[name].status == "missing", name
    for found in checks.values():
        assert found.purpose and found.found and "\n" not in found.found + found.fix
        assert bool(found.fix) == (found.status != "ok"), found
    assert reports["qemu"].exit_code == 2
    assert reports["esp32s3"].exit_code == 3 if checks["Python packages"].status == "ok" else 2


def fake(folder: Path, name: str, says: str, status: int = 0) -> None:
    script = folder / name
    script.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    script.chmod(0o755)


def test_an_old_or_broken_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    fake(tmp_path, "riscv64-unknown-elf-gcc", "picolibc.specs")  # what gcc says of a file that it does not have
    fake(tmp_path, "riscv64-unknown-elf-g++", "riscv64-unknown-elf-g++ 12.2.0")
    fake(tmp_path, "qemu-system-riscv32", "QEMU emulator version 6.2.0 (Debian)")
    found = {c.name: c for c in doctor_host.emulator()}
    assert found["RISC-V gcc"].status == "ok"
    assert found["picolibc"].status == "missing"
    assert found["QEMU"].status == "warning" and found["QEMU"].found.startswith("6.2.0")
    fake(tmp_path, "qemu-system-riscv32", "", 127)
    assert one(doctor_host.emulator(), "QEMU").status == "broken"


def test_esp_idf_that_is_there_but_old_or_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    (tools / "cmake").mkdir(parents=True)
    fake(tools, "idf.py", "")
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:{programs}")
    monkeypatch.setenv("IDF_PATH", str(tmp_path))
    table = tools / "cmake" / "version.cmake"
    for minor, status in ((3, "missing"), (4, "ok")):
        table.write_text(f"set(IDF_VERSION_MAJOR 5)\nset(IDF_VERSION_MINOR {minor})\nset(IDF_VERSION_PATCH 1)\n")
        found = {c.name: c for c in doctor_chips.esp_idf()}
        assert found["ESP-IDF"].status == status
        assert found["ESP-IDF"].found == f"5.{minor}.1 at {tmp_path}"
    assert found["ESP-IDF's tools"].status == "missing"
    fake(programs, "cmake", "")
    assert one(doctor_chips.esp_idf(), "tools").found == "no ninja"
    fake(programs, "xtensa-esp-elf-gcc", "")
    chips = {c.name: c.status for c in doctor_chips.toolchains()}
    assert chips == {"compiler for esp32s3": "ok", "compiler for esp32p4": "missing"}


def test_locked_components(tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    manifest = tmp_path / "main" / "idf_component.yml"
    manifest.write_text('dependencies:\n  idf: ">=5.4"\n')
    assert list(doctor_chips.components(tmp_path)) == []
    manifest.write_text(
        'dependencies:\n  idf: ">=5.4"\n  espressif/esp-dl: "==3.3.9"\n  esp32-camera: "^2.0.0"\n'
        "  uhd_model:\n    path: ../components/uhd_model\n  p4/only:\n    version: '*'\n"
    )
    assert one(doctor_chips.components(tmp_path)).found == "3 wanted, none locked yet"
    lock = tmp_path / "dependencies.lock"
    text = "dependencies:\n  espressif/esp-dl:\n    version: {}\n  espressif/esp32-camera:\n    version: 2.0.15\n"
    lock.write_text(text.format("3.3.9"))
    assert one(doctor_chips.components(tmp_path)).status == "ok"
    lock.write_text(text.format("3.2.0"))
    found = one(doctor_chips.components(tmp_path))
    assert found.status == "warning" and "espressif/esp-dl 3.2.0 (wanted ==3.3.9)" in found.found


def test_our_own_manifests_can_be_read() -> None:
    for name, ranges in doctor_chips.manifests().items():
        assert "/" in name
        satisfies("1.0.0", ranges)


def test_ports_and_what_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = tmp_path / "ttyACM0"
    port.touch()
    boards = [SerialPort(str(port), "USB JTAG", 0x303A, 0x1001), SerialPort("/dev/ttyS0", "n/a")]
    monkeypatch.setattr(doctor_chips, "list_serial_ports", lambda: boards)
    for number, name in ((1, "init"), (77, "ModemManager")):
        (tmp_path / "proc" / str(number)).mkdir(parents=True)
        (tmp_path / "proc" / str(number) / "comm").write_text(f"{name}\n")
    assert doctor_chips.running_programs(tmp_path / "proc") == {"init", "ModemManager"}
    assert doctor_chips.running_programs(tmp_path / "none") == set()
    monkeypatch.setattr(doctor_chips, "running_programs", lambda: {"ModemManager"})
    found = list(doctor_chips.ports())
    assert [(c.name, c.status) for c in found] == [("serial port", "ok"), ("ModemManager", "warning")]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert one(doctor_chips.ports(), "serial port").status == "broken"


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "not" / "yet"))
    usage = shutil.disk_usage(tmp_path)
    for free, status in ((10 << 30, "ok"), (2 << 30, "warning"), (1 << 20, "broken")):
        monkeypatch.setattr(doctor_host.shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        assert one(doctor_host.disk()).status == status


def test_the_command_is_quick_and_imports_little() -> None:
    code = (
        "import sys, uhd.host.__main__ as m\n"
        "m.main(['doctor'])\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'cv2', 'esp_ppq', 'numpy', 'esptool'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    times = []
    for _ in range(2):
        started = time.process_time(), os.times().children_user + os.times().children_system
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        times.append(os.times().children_user + os.times().children_system - started[1])
        assert done.returncode == 0, done.stderr
    # Time of the processor, so that a busy machine does not count; wall time on an idle one is hardly more.
    assert min(times) < 1.5


def test_plain_text_and_json_say_the_same() -> None:
    runner = CliRunner()
    text = runner.invoke(cli, ["doctor", "--target", "esp32p4"], standalone_mode=False)
    found = json.loads(runner.invoke(cli, ["doctor", "--target", "esp32p4", "--json"], standalone_mode=False).output)
    assert found["target"] == "esp32p4" and found["exit_code"] == text.return_value
    rows = [line for line in text.output.splitlines() if line.split()[0] in ("ok", "warning", "missing", "broken")]
    assert [row.split()[0] for row in rows] == [c["status"] for c in found["checks"]]
    assert len(found["checks"]) >= len(EXAMINATIONS) - 1
    assert any(c["needed"] for c in found["checks"])


def test_a_terminal_gets_a_table() -> None:
    program = shutil.which("script")
    if program is None:
        pytest.skip("needs the program script, which makes a terminal")
    command = [program, "-qec", f"{sys.executable} -m uhd.host doctor", "/dev/null"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "140", "TERM": "xterm"}
    )
    assert "This machine, for qemu" in done.stdout and "┃" in done.stdout


def test_esptool_is_never_imported() -> None:
    for path in (ROOT / "host").rglob("*.py"):
        assert "import esptool" not in path.read_text().replace("import esptool_", ""), path
    assert importlib.util.find_spec("uhd.device.esptool") is None
