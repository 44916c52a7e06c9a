"""``uhd.device.idf``: finding ESP-IDF, what it is asked to do, and what its failures look like to the user."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uhd.device import idf, progress
from uhd.errors import ConfigError, SdkMissingError, UhdError
from uhd.paths import FIRMWARE

#: Stands in for the command line of ESP-IDF's idf.py: notes what it was asked, prints, builds or fails.
FAKE = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path(__file__).resolve().parent
arguments = sys.argv[1:]
(here / "asked.json").write_text(json.dumps([arguments, dict(os.environ)]))
print((here / "say").read_text(), end="", flush=True)
folder = pathlib.Path(arguments[arguments.index("-B") + 1])
config = [a.partition("=")[2] for a in arguments if a.startswith("-DSDKCONFIG=")][0]
status = int((here / "status").read_text())
pathlib.Path(config).touch()
if status == 0 and (here / "builds").exists():
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "uhd.elf").write_bytes(b"ELF")
sys.exit(status)
"""


class FakeIdf:
    """An ESP-IDF tree whose ``idf.py`` only records."""

    def __init__(self, root: Path, version: tuple[int, int, int] = (5, 4, 1)) -> None:
        self.root = root
        self.tools = root / "tools"
        (self.tools / "cmake").mkdir(parents=True)
        lines = [f"set(IDF_VERSION_{n} {v})" for n, v in zip(("MAJOR", "MINOR", "PATCH"), version, strict=True)]
        (self.tools / "cmake" / "version.cmake").write_text("\n".join(lines))
        script = self.tools / "idf.py"
        script.write_text(FAKE.format(python=sys.executable))
        script.chmod(0o755)
        (self.tools / "builds").touch()
        self.behave("", 0)
        self.environment = {"PATH": f"{self.tools}:/usr/bin:/bin", "IDF_PATH": str(root), "PYTHONPATH": "/somewhere"}

    def behave(self, say: str, status: int) -> None:
        (self.tools / "say").write_text(say)
        (self.tools / "status").write_text(str(status))

    @property
    def asked(self) -> tuple[list[str], dict[str, str]]:
        arguments, environment = json.loads((self.tools / "asked.json").read_text())
        return arguments, environment


@pytest.fixture
def fake(tmp_path: Path) -> FakeIdf:
    return FakeIdf(tmp_path / "esp-idf")


@pytest.fixture
def component(tmp_path: Path) -> Path:
    folder = tmp_path / "uhd_model"
    folder.mkdir()
    (folder / "CMakeLists.txt").touch()
    return folder


def test_find_idf(fake: FakeIdf, tmp_path: Path) -> None:
    script = str(fake.tools / "idf.py")
    assert idf.find_idf({"PATH": "/usr/bin"}) is None
    assert idf.find_idf({"PATH": "/usr/bin", "IDF_PATH": str(tmp_path / "gone")}) is None
    on_path = idf.find_idf({"PATH": str(fake.tools)})
    by_variable = idf.find_idf({"PATH": "/usr/bin", "IDF_PATH": str(fake.root)})
    assert on_path == by_variable == idf.IdfEnvironment((script,), fake.root, (5, 4, 1))


def test_idf_runs_in_its_own_python(fake: FakeIdf, tmp_path: Path) -> None:
    """An environment activated later must not hide it: a link that is not there is not used."""
    python = tmp_path / "idf_env" / "bin" / "python"
    environment = {**fake.environment, "IDF_PYTHON_ENV_PATH": str(tmp_path / "idf_env")}
    found = idf.find_idf(environment)
    assert found is not None and found.command == (str(fake.tools / "idf.py"),)
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    found = idf.find_idf(environment)
    assert found is not None and found.command == (str(python), str(fake.tools / "idf.py"))


@pytest.mark.parametrize(("variable", "version"), [("5.5", (5, 5)), ("v6.1.0-dev", (6, 1, 0)), ("", ()), ("none", ())])
def test_version_without_a_tree(tmp_path: Path, variable: str, version: tuple[int, ...]) -> None:
    (tmp_path / "idf.py").write_text("#!/bin/sh\n")
    (tmp_path / "idf.py").chmod(0o755)
    found = idf.find_idf({"PATH": str(tmp_path), "ESP_IDF_VERSION": variable})
    assert found is not None and found.version == version


def test_missing_sdk_is_one_line_with_the_way_out(component: Path, tmp_path: Path) -> None:
    with pytest.raises(SdkMissingError) as caught:
        idf.build("R", "esp32s3", tmp_path / "out", model_dir=component, environment={"PATH": "/usr/bin"})
    text = str(caught.value)
    assert caught.value.exit_code == 3
    assert "\n" not in text
    for part in (str(component), "install ESP-IDF 5.4 or later", "export.sh", "--component-only"):
        assert part in text
    assert not (tmp_path / "out").exists()


def test_an_old_sdk_counts_as_missing(tmp_path: Path, component: Path) -> None:
    old = FakeIdf(tmp_path / "old", (5, 3, 9))
    with pytest.raises(SdkMissingError, match=r"5\.3\.9 .* is too old"):
        idf.build("R", "esp32s3", tmp_path / "out", model_dir=component, environment=old.environment)


def test_what_idf_is_asked(fake: FakeIdf, component: Path, tmp_path: Path) -> None:
    out = tmp_path / "R-esp32p4"
    elf = idf.build("R", "esp32p4", out, model_dir=component, environment=fake.environment)
    arguments, environment = fake.asked
    assert elf == out / "idf" / "uhd.elf" and elf.is_file()
    assert arguments == [
        *("-C", str(FIRMWARE), "-B", str(out / "idf"), "-DIDF_TARGET=esp32p4"),
        *(f"-DSDKCONFIG={out / 'sdkconfig'}", f"-DUHD_MODEL_DIR={component}", "build"),
    ]
    assert environment["IDF_TARGET"] == "esp32p4", "a target left in the environment would stop idf.py"
    assert "PYTHONPATH" not in environment, "our packages would shadow those of ESP-IDF's Python"


def test_the_committed_component_is_the_default(fake: FakeIdf, component: Path, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(idf, "committed_component", {"linux": component}.__getitem__)
    idf.build("R", "linux", tmp_path / "out", environment=fake.environment)
    arguments, _ = fake.asked
    assert arguments[0] == "--preview", "linux is a preview target of ESP-IDF"
    assert not any("UHD_MODEL_DIR" in argument for argument in arguments)


@pytest.mark.parametrize(("target", "chip"), [("esp32p4", "esp32p4"), ("linux", "esp32s3")])
def test_a_missing_component_is_named(fake: FakeIdf, tmp_path: Path, target: str, chip: str) -> None:
    with pytest.raises(UhdError, match=rf"no model component; run build-fw --variant Y --target {chip} --component-on"):
        idf.build("Y", target, tmp_path / "out", model_dir=tmp_path / "none", environment=fake.environment)


def test_a_component_of_another_name_is_refused(fake: FakeIdf, component: Path, tmp_path: Path) -> None:
    """ESP-IDF would not find it, and would say so in words of its own."""
    renamed = component.rename(tmp_path / "mine")
    with pytest.raises(ConfigError, match=r"asks for uhd_model; generate it as --component .*mine/uhd_model"):
        idf.build("R", "esp32s3", tmp_path / "out", model_dir=renamed, environment=fake.environment)


def test_unknown_target(fake: FakeIdf, component: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="esp32s3, esp32p4, linux"):
        idf.build("R", "qemu", tmp_path / "out", model_dir=component, environment=fake.environment)


def test_output_goes_to_the_log_and_steps_to_the_caller(fake: FakeIdf, component: Path, tmp_path: Path) -> None:
    said = "Executing action: all\n[1/12] Building C object a.o\nnote\n[12/12] Linking uhd.elf\n"
    fake.behave(said, 0)
    steps: list[tuple[int, int, str]] = []
    idf.build("R", "esp32s3", tmp_path / "out", model_dir=component, environment=fake.environment,
              progress=lambda *step: steps.append(step))  # fmt: skip
    assert (tmp_path / "out" / "idf.log").read_text() == said
    assert steps == [(1, 12, "Building C object a.o"), (12, 12, "Linking uhd.elf")]


NINJA = """[7/90] Building CXX object app_main.cpp.o
FAILED: esp-idf/main/app_main.cpp.o
/w/app_main.cpp:9:3: \x1b[31merror: \x1b[0m'foo' was not declared in this scope
    9 |   foo();
ninja: build stopped: subcommand failed.
ninja failed with exit code 1, output of the command is in the log
"""
CMAKE = """CMake Error at tools/cmake/build.cmake:380 (message):
  Failed to resolve component 'uhd_model'

-- Configuring incomplete, errors occurred!
cmake failed with exit code 1
"""
LINKER = """/x/ld: region `dram0_0_seg' overflowed by 1234 bytes
collect2: error: ld returned 1 exit status
"""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (NINJA, "/w/app_main.cpp:9:3: error: 'foo' was not declared in this scope"),
        (CMAKE, "CMake Error at tools/cmake/build.cmake:380 (message): Failed to resolve component 'uhd_model'"),
        (LINKER, "/x/ld: region `dram0_0_seg' overflowed by 1234 bytes"),
        ("cmake: command not found\n", "cmake: command not found"),
        ("one\ntwo\n\n", "two"),
        ("", "it said nothing"),
    ],
)
def test_failure_names_the_log_and_the_reason(
    fake: FakeIdf, component: Path, tmp_path: Path, output: str, expected: str
) -> None:
    fake.behave(output, 2)
    with pytest.raises(UhdError) as caught:
        idf.build("R", "esp32s3", tmp_path / "out", model_dir=component, environment=fake.environment)
    text = str(caught.value)
    assert caught.value.exit_code == 2 and "\n" not in text
    assert expected in text and "exit code 2" in text
    assert str(tmp_path / "out" / "idf.log") in text


@given(st.text())
def test_last_error_is_one_line_of_the_output(output: str) -> None:
    found = idf.last_error(output)
    assert found and len(found.splitlines()) == 1


def test_success_without_an_image_is_a_failure(fake: FakeIdf, component: Path, tmp_path: Path) -> None:
    (fake.tools / "builds").unlink()
    with pytest.raises(UhdError, match=r"left no .*uhd\.elf"):
        idf.build("R", "esp32s3", tmp_path / "out", model_dir=component, environment=fake.environment)


def test_an_sdk_that_does_not_start(fake: FakeIdf, component: Path, tmp_path: Path) -> None:
    (fake.tools / "idf.py").write_text("#!/no/such/python\n")
    with pytest.raises(UhdError, match="does not start"):
        idf.build("R", "esp32s3", tmp_path / "out", model_dir=component, environment=fake.environment)


def test_a_config_of_other_defaults_is_set_aside(
    fake: FakeIdf, component: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ESP-IDF prefers an old sdkconfig to new defaults; settings made by hand stay as long as the defaults do."""
    root, out = tmp_path / "root", tmp_path / "out"
    root.mkdir()
    monkeypatch.setattr(idf, "ROOT", root)

    def build() -> None:
        idf.build("R", "esp32s3", out, model_dir=component, environment=fake.environment)

    (root / "sdkconfig.defaults").write_text("CONFIG_A=y\n")
    build()
    (out / "sdkconfig").write_text("by hand")
    build()
    assert (out / "sdkconfig").read_text() == "by hand"
    assert not (out / "sdkconfig.old").exists()
    (root / "sdkconfig.defaults.esp32s3").write_text("CONFIG_B=y\n")
    build()
    assert (out / "sdkconfig").read_text() == ""
    assert (out / "sdkconfig.old").read_text() == "by hand"


def test_printer_writes_a_line_at_most_every_ten_seconds_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = io.StringIO()
    printer = progress.Printer(stream)
    for second in range(25):
        now = 100.0 + second
        printer(second, 25, "Building")
    assert stream.getvalue() == "      10/25 Building\n      20/25 Building\n"


def test_real_idf_understands_our_arguments(tmp_path: Path) -> None:
    """Every option exists in the installed idf.py: --dry-run reads all arguments and executes nothing."""
    found = idf.find_idf()
    if found is None:
        pytest.skip("ESP-IDF is not active")
    ours = idf._arguments("linux", tmp_path, tmp_path)
    environment = {**idf._clean(os.environ), "IDF_TARGET": "linux"}
    done = subprocess.run([*found.command, "--dry-run", *ours], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = [*found.command, "--dry-run", "--no-such-option", *ours]
    assert subprocess.run(wrong, capture_output=True, text=True, env=environment).returncode != 0
