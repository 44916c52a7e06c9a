"""Building the emulator's firmware and running QEMU: caching, messages, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from support.emulated import firmware, need_emulator
from support.fakemodel import FakeModel
from support.shared import ROOT, shared_dir
from uhd.device import cross
from uhd.device.client import DeviceClient
from uhd.device.cross import build_elf, emulator_missing
from uhd.device.qemu import QemuDevice, run_tensor
from uhd.errors import DeviceError, ToolMissingError, UhdError

pytestmark = pytest.mark.emu


@pytest.fixture(autouse=True)
def _emulator() -> None:
    need_emulator()


@pytest.fixture
def component(tmp_path: Path) -> Path:
    return FakeModel().write(tmp_path / "uhd_model")


def run_size(elf: Path) -> str:
    return subprocess.run(["riscv64-unknown-elf-readelf", "-hlA", str(elf)], capture_output=True, text=True).stdout


def test_same_content_is_built_once(component: Path, tmp_path: Path) -> None:
    first = build_elf(component, tmp_path / "a")
    stamp = first.stat().st_mtime_ns
    assert build_elf(component, tmp_path / "a") == first
    assert first.stat().st_mtime_ns == stamp
    other = build_elf(component, tmp_path / "b")
    assert other.name == first.name
    assert other.read_bytes() == first.read_bytes()
    assert {p.name for p in (tmp_path / "a").iterdir()} == {first.name, first.with_suffix(".map").name}


def test_another_model_is_another_file(component: Path, tmp_path: Path) -> None:
    first = build_elf(component, tmp_path)
    source = component / "src" / "model.cpp"
    source.write_text(source.read_text().replace('"fake"', '"renamed by a test"'))
    second = build_elf(component, tmp_path)
    assert second != first
    assert b"renamed by a test" in second.read_bytes()
    assert b"renamed by a test" not in first.read_bytes()


def test_the_image_is_for_the_emulated_chip(component: Path, tmp_path: Path) -> None:
    text = run_size(build_elf(component, tmp_path))
    assert "RISC-V" in text
    assert "single-float ABI" in text
    assert "Entry point address:               0x80000000" in text


def test_firmware_compiles_without_warnings(component: Path, tmp_path: Path) -> None:
    flags = ["-Werror", "-Wshadow", "-Wconversion", "-Wnon-virtual-dtor"]
    common, include = cross.units(component)[:2], [f"-I{u.include}" for u in cross.units(component)]
    for source in [s for unit in common for s in unit.sources if s.suffix == ".cpp"]:
        command = [cross.COMPILER, *cross._COMPILE, *cross._CXX, *include, "-O2", *flags, "-c", str(source)]
        done = subprocess.run([*command, "-o", str(tmp_path / "x.o")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_portable_sources_include_c_headers_only() -> None:
    allowed = {"stddef.h", "stdint.h", "string.h", "math.h"}
    for folder in ("components/uhd_core/src", "components/uhd_core/include", "emulator"):
        for path in (ROOT / "firmware" / folder).rglob("*.[ch]pp"):
            for line in path.read_text().splitlines():
                if line.startswith("#include <"):
                    assert line.split("<")[1].rstrip(">") in allowed, f"{path}: {line}"
                elif line.startswith("#include"):
                    name = line.split('"')[1]
                    assert name.startswith("uhd/") or (path.parent / name).is_file(), f"{path}: {line}"


def test_source_that_does_not_compile(component: Path, tmp_path: Path) -> None:
    (component / "src" / "model.cpp").write_text("int main( {\n")
    with pytest.raises(UhdError, match=r"cannot compile model.cpp: .*error: ") as caught:
        build_elf(component, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_model_without_an_implementation(component: Path, tmp_path: Path) -> None:
    (component / "src" / "model.cpp").write_text("int nothing;\n")
    with pytest.raises(UhdError, match=r"cannot link the firmware: .*undefined reference"):
        build_elf(component, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_empty_component(tmp_path: Path) -> None:
    with pytest.raises(UhdError, match="no sources to compile; generate the model component"):
        build_elf(tmp_path / "absent", tmp_path)


@pytest.mark.parametrize("missing", ["riscv64-unknown-elf-g++", "riscv64-unknown-elf-gcc", "qemu-system-riscv32"])
def test_missing_tools_name_the_packages(
    missing: str, component: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elf, real = firmware(), cross.shutil.which
    monkeypatch.setattr(cross.shutil, "which", lambda name: None if name == missing else real(name))
    assert f"{missing} is not installed" in emulator_missing()
    with pytest.raises(ToolMissingError, match=f"{missing.replace('+', '.')} is not installed.*qemu-system-misc"):  # noqa: SIM117
        if missing == cross.EMULATOR:
            with QemuDevice(elf):
                pass
        else:
            build_elf(component, tmp_path)


def children() -> list[str]:
    """Names of our child processes."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)
        except OSError:
            continue
        if int(fields[1].split()[1]) == os.getpid():
            found.append(fields[0].split("(", 1)[1])
    return found


def open_files() -> list[str]:
    return sorted(str(p.readlink()) for p in Path("/proc/self/fd").iterdir() if p.exists())


@pytest.mark.parametrize("link", ["socket", "pty"])
def test_nothing_is_left_behind(link: str) -> None:
    elf = firmware()
    before = (open_files(), threading.active_count())
    for _ in range(3):
        with QemuDevice(elf, link=link) as device:  # type: ignore[arg-type]
            DeviceClient(device.port).hello()
            assert any(name.startswith("qemu-system") for name in children())
        device.close()
    with pytest.raises(ZeroDivisionError), QemuDevice(elf, link=link):  # type: ignore[arg-type]
        _ = 1 / 0
    assert not any(name.startswith("qemu-system") for name in children())
    assert (open_files(), threading.active_count()) == before


def test_file_that_is_no_firmware(tmp_path: Path) -> None:
    bad = tmp_path / "bad.elf"
    with pytest.raises(DeviceError, match=r"qemu-system-riscv32 does not start: .*bad.elf"), QemuDevice(bad):
        pass
    assert not any(name.startswith("qemu-system") for name in children())


def test_emulator_that_dies_is_noticed() -> None:
    with QemuDevice(firmware()) as device:
        client = DeviceClient(device.port, timeout=1)
        client.hello()
        client.shutdown()
        assert device.wait(10) == 0
        with pytest.raises(DeviceError, match="emulator: the (device closed the link|link is gone)"):
            client.stats()


def test_run_tensor(component: Path, tmp_path: Path) -> None:
    model = FakeModel()
    tensor = np.random.default_rng(2).integers(-128, 128, (1, 64, 64, 2)).astype(np.int8)
    outputs = run_tensor(component, {"input": tensor}, tmp_path)
    expected = model.run(tensor)
    assert outputs.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(outputs[name], value)
    with pytest.raises(DeviceError, match="input is input, not picture"):
        run_tensor(component, {"picture": tensor}, tmp_path)


@pytest.mark.parametrize("name", ["w16_yuv_c", "w16_yuv_esp32s3", "w16_yuv_esp32s3_mixhp"])
def test_real_models_equal_the_oracle_and_the_recorded_outputs(name: str) -> None:
    from uhd.device.engines import run_engine
    from uhd.espdl import oracle
    from uhd.espdl.reader import read_espdl

    path = shared_dir() / "fixtures" / "espdl" / f"{name}.espdl"
    data = path.read_bytes()
    model = read_espdl(data)
    recorded = np.load(path.with_suffix(".npz"))
    tensor = recorded[f"in_{model.inputs[0]}"]
    outputs = run_engine(model, data, {model.inputs[0]: tensor}, "qemu")
    for output in model.outputs:
        np.testing.assert_array_equal(outputs[output], oracle.run(model, {model.inputs[0]: tensor})[output])
        np.testing.assert_array_equal(outputs[output], recorded[f"out_{output}"])
