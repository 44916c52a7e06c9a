"""``flash`` and ``erase``: what is read from a build, what esptool is asked, what is refused beforehand."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from support.idf_builds import image_bytes, write_build
from uhd.device import esptool_program, idf
from uhd.device.esptool_program import Esptool, explain, find_esptool, run_esptool
from uhd.device.flash import connect_arguments, erase_arguments, partition_image, write_arguments
from uhd.device.flash_plan import FlashPlan, read_plan
from uhd.errors import ConfigError, DataError, DeviceError, ToolMissingError
from uhd.host.__main__ import cli, main

V5, V4 = Esptool(("esptool",), (5, 1, 0)), Esptool(("esptool.py",), (4, 8, 1))

#: Stands in for esptool: notes what it was asked and says what it is told.
FAKE = """#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).resolve().parent
if sys.argv[1:] == ["version"]:
    print("esptool v{version}\\n{version}")
    sys.exit(0)
(here / "asked.json").write_text(json.dumps(sys.argv[1:]))
sys.stdout.write((here / "say").read_text())
sys.exit(int((here / "status").read_text()))
"""


@pytest.fixture
def build(tmp_path: Path) -> Path:
    return write_build(tmp_path / "build" / "idf")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake esptool 5.1.0, alone on PATH; ESP-IDF is not active."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "esptool"
    script.write_text(FAKE.format(python=sys.executable, version="5.1.0"))
    script.chmod(0o755)
    (folder / "say").write_text("Writing at 0x00010000... (12 %)\nHash of data verified.\n")
    (folder / "status").write_text("0")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "out"))
    for name in ("IDF_PATH", "IDF_PYTHON_ENV_PATH", "ESPPORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(esptool_program.importlib.util, "find_spec", lambda name: None)
    return folder


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), standalone_mode=False)


@pytest.mark.parametrize("words", ["-", "_"])
@pytest.mark.parametrize("chip", ["esp32s3", "esp32p4"])
def test_both_spellings_of_esp_idf_give_one_plan(tmp_path: Path, chip: str, words: str) -> None:
    plan = read_plan(write_build(tmp_path / "b", chip, words=words), chip)
    assert (plan.before, plan.after, plan.stub, plan.mode, plan.size) == (
        "default-reset",
        "hard-reset",
        True,
        "dio",
        "8MB",
    )
    boot = 0 if chip == "esp32s3" else 0x2000
    assert [(i.name, i.offset) for i in plan.images] == [
        ("bootloader", boot),
        ("partition-table", 0x8000),
        ("app", 0x10000),
    ]
    assert plan.flash_bytes == 8 << 20
    assert [p.name for p in plan.partitions()] == ["nvs", "phy_init", "factory", "model"]
    app = plan.app_partition()
    assert app is not None and app.name == "factory"


def test_the_idf_folder_is_found_below_the_build(build: Path) -> None:
    assert read_plan(build.parent, "esp32s3").folder == build
    with pytest.raises(DataError, match="build-fw"):
        read_plan(build / "bootloader", "esp32s3")


def test_a_build_for_another_chip_is_refused(build: Path) -> None:
    with pytest.raises(DataError, match="built for esp32s3, not for esp32p4; give --target esp32s3"):
        read_plan(build, "esp32p4")
    # flasher_args.json says one chip, the app's own header another
    (build / "uhd.bin").write_bytes(image_bytes("esp32p4", 1000))
    with pytest.raises(DataError, match=r"uhd\.bin: an image for esp32p4, not for esp32s3"):
        read_plan(build, "esp32s3")


def test_incomplete_and_damaged_builds_are_refused(build: Path) -> None:
    app = build / "uhd.bin"
    data = app.read_bytes()
    app.unlink()
    with pytest.raises(DataError, match=r"uhd\.bin: missing"):
        read_plan(build, "esp32s3")
    app.write_bytes(b"\0" * 100)
    with pytest.raises(DataError, match="not an image"):
        read_plan(build, "esp32s3")
    app.write_bytes(data + bytes(0x300000))
    with pytest.raises(DataError, match="larger than partition factory"):
        read_plan(build, "esp32s3")
    app.write_bytes(data)
    boot = build / "bootloader" / "bootloader.bin"
    boot.write_bytes(boot.read_bytes() + bytes(0x4000))
    with pytest.raises(DataError, match=r"bootloader\.bin .* reaches into partition-table\.bin"):
        read_plan(build, "esp32s3")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"flash_files": 3, "extra_esptool_args": {}}'])
def test_a_file_that_is_not_esp_idfs(build: Path, text: str) -> None:
    (build / "flasher_args.json").write_text(text)
    with pytest.raises(DataError, match=r"flasher_args\.json: not what ESP-IDF writes"):
        read_plan(build, "esp32s3")


def test_what_esptool_5_and_4_are_asked(build: Path) -> None:
    plan = read_plan(build, "esp32s3")
    files = [w for i in plan.images for w in (hex(i.offset), str(i.path))]
    assert connect_arguments(V5, plan, "/dev/ttyACM0", 460800) == (
        shlex.split("--chip esp32s3 --port /dev/ttyACM0 --baud 460800 --before default-reset --after hard-reset")
    )
    assert write_arguments(V5, plan, plan.images) == [
        *shlex.split("write-flash --flash-mode dio --flash-freq 80m --flash-size 8MB"), *files,
    ]  # fmt: skip
    assert connect_arguments(V4, plan, "P", 1)[-4:] == ["--before", "default_reset", "--after", "hard_reset"]
    assert write_arguments(V4, plan, plan.images)[:7] == shlex.split(
        "write_flash --flash_mode dio --flash_freq 80m --flash_size 8MB"
    )


def test_encryption_only_where_the_build_says_so(build: Path, tmp_path: Path) -> None:
    plain = read_plan(build, "esp32s3")
    with pytest.raises(ConfigError, match="no flash encryption"):
        write_arguments(V5, plain, plain.images, encrypt=True)
    plan = read_plan(write_build(tmp_path / "secret", encrypted=True), "esp32s3")
    assert "--encrypt-files" not in write_arguments(V5, plan, plan.images), "the first time, the bootloader encrypts"
    words = write_arguments(V4, plan, plan.images, encrypt=True)
    at = words.index("--encrypt-files")
    assert words[7:at] == ["0x8000", str(plan.images[1].path)], "the table stays readable"
    assert words[at + 1 :: 2] == ["0x0", "0x10000"]
    model = tmp_path / "model.bin"
    model.write_bytes(b"m" * 100)
    image = partition_image(plan, "model", model)
    assert write_arguments(V5, plan, [image], encrypt=True)[7:] == ["--encrypt", "0x310000", str(model)]
    assert not partition_image(plain, "model", model).encrypted


def test_one_partition(build: Path, tmp_path: Path) -> None:
    plan = read_plan(build, "esp32s3")
    model = tmp_path / "model.bin"
    for data in (b"", bytes(0x100001)):
        model.write_bytes(data)
        with pytest.raises(DataError, match="do not fit partition model of 1,048,576 bytes"):
            partition_image(plan, "model", model)
    model.write_bytes(bytes(0x100000))
    assert partition_image(plan, "model", model).offset == 0x310000
    with pytest.raises(DataError, match="no such file"):
        partition_image(plan, "model", tmp_path / "gone")


def test_erase_is_of_a_partition_or_of_everything(build: Path) -> None:
    nvs = read_plan(build, "esp32s3").partitions()[0]
    assert erase_arguments(V5, nvs) == ["erase-region", "0x9000", "0x6000"]
    assert erase_arguments(V4, None) == ["erase_flash"]


def test_esptool_is_found_and_asked_for_its_version(program: Path) -> None:
    assert find_esptool({"PATH": str(program)}) == Esptool((str(program / "esptool"),), (5, 1, 0))
    assert find_esptool({"PATH": str(program / "none")}) is None


def test_the_command_writes_and_says_what_is_next(program: Path, build: Path, tmp_path: Path) -> None:
    port = tmp_path / "ttyACM0"
    port.touch()
    result = run("flash", "--target", "esp32s3", "--build", str(build.parent), "--port", str(port))
    assert result.exception is None, result.output
    asked = json.loads((program / "asked.json").read_text())
    assert asked[:4] == ["--chip", "esp32s3", "--port", str(port)]
    assert asked[-2:] == ["0x10000", str(build / "uhd.bin")]
    assert f"next: python -m uhd.host monitor --port {port}" in result.output
    assert "Hash of data verified" in (tmp_path / "out" / "flash.log").read_text()


def test_dry_run_touches_nothing(program: Path, build: Path) -> None:
    result = run("flash", "--target", "esp32s3", "--build", str(build), "--port", "/dev/none", "--dry-run")
    assert not (program / "asked.json").exists()
    words = shlex.split(result.output.strip().splitlines()[-1])
    assert words[0] == str(program / "esptool") and "write-flash" in words


def test_json_of_a_dry_run(program: Path, build: Path) -> None:
    result = run("flash", "--target", "esp32s3", "--build", str(build), "--port", "/dev/none", "--dry-run", "--json")
    found = json.loads(result.output)
    assert found["written"] is False and found["chip"] == "esp32s3"
    assert [i["name"] for i in found["images"]] == ["bootloader", "partition-table", "app"]


def test_esptools_reason_is_one_line_with_a_way_out(program: Path, build: Path, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    port = tmp_path / "ttyACM0"
    port.touch()
    (program / "say").write_text(
        "Connecting......\n\nA fatal error occurred: Failed to connect to ESP32-S3: Timed out\n"
    )
    (program / "status").write_text("2")
    assert main(["flash", "--target", "esp32s3", "--build", str(build), "--port", str(port)]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: esptool failed (exit code 2): Failed to connect to ESP32-S3: Timed out; hold BOOT")
    assert "flash.log" in last


def test_explanations() -> None:
    assert explain(["A fatal error occurred: This chip is ESP32-P4, not ESP32-S3. Wrong chip argument?"]) == (
        "This chip is ESP32-P4, not ESP32-S3. Wrong chip argument?",
        "this board has another chip: give its --target",
    )
    assert explain([]) == ("it said nothing", "see what it said")


def test_a_stop_inside_the_progress_ends_esptool(program: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int, what: str) -> None:
        raise StopError

    with pytest.raises(StopError):
        run_esptool(find_esptool({"PATH": str(program)}), ["x"], tmp_path / "log", progress=stop)  # type: ignore[arg-type]


def test_erase_asks_first(program: Path, build: Path, tmp_path: Path) -> None:
    port = tmp_path / "ttyACM0"
    port.touch()
    arguments = ["erase", "--target", "esp32s3", "--build", str(build), "--region", "nvs", "--port", str(port)]
    asked = CliRunner().invoke(cli, arguments, input="n\n")
    assert "Erase partition nvs (24,576 B (24.0 KiB) at 0x9000)" in asked.output
    assert not (program / "asked.json").exists()
    CliRunner().invoke(cli, [*arguments, "--yes"])
    assert json.loads((program / "asked.json").read_text())[-3:] == ["erase-region", "0x9000", "0x6000"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["erase", "--target", "esp32s3"], "give either --region NAME or --all"),
        (["erase", "--target", "esp32s3", "--all", "--region", "nvs"], "give either --region NAME or --all"),
        (["flash", "--target", "esp32s3"], "give --variant, or --build FOLDER"),
        (["flash", "--target", "esp32s3", "--variant", "R", "--partition", "model"], "belong together"),
        (["flash", "--target", "esp32s3", "--variant", "Y"], "no firmware is built there"),
    ],
)
def test_mistakes_are_one_line(program: Path, arguments: list[str], said: str,
                               capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_without_esptool_idf_flashes(program: Path, build: Path, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    (program / "esptool").unlink()
    assert main(["flash", "--target", "esp32s3", "--build", str(build), "--port", "/dev/null"]) == 2
    script = program / "idf.py"
    script.write_text(FAKE.format(python=sys.executable, version="0"))
    script.chmod(0o755)
    result = run("flash", "--target", "esp32s3", "--build", str(build), "--port", "/dev/null")
    assert result.exception is None, result.output
    asked = json.loads((program / "asked.json").read_text())
    assert asked == idf.flash_arguments(build, "/dev/null", 460800)
    with pytest.raises(ToolMissingError, match="esptool is not installed"):
        model = tmp_path / "model.bin"
        model.write_bytes(b"m")
        words = ["flash", "--target", "esp32s3", "--build", str(build), "--partition", "model", "--image", str(model)]
        cli.main(words, standalone_mode=False)


def real_esptool() -> Esptool:
    found = find_esptool()
    if found is None:
        pytest.skip("esptool is not installed")
    return found


def test_real_esptool_knows_every_word(tmp_path: Path) -> None:
    """All options are read before the port is opened: the complaint must be about the port, not about them."""
    tool = real_esptool()
    plan = read_plan(write_build(tmp_path / "b", encrypted=True, stub=False), "esp32s3")
    port = str(tmp_path / "no-such-port")
    for words in (
        write_arguments(tool, plan, plan.images, encrypt=True),
        write_arguments(tool, plan, plan.images[:1], encrypt=True),
        erase_arguments(tool, plan.partitions()[0]),
        erase_arguments(tool, None),
    ):
        with pytest.raises(DeviceError, match="(?i)could not open|no-such-port"):
            run_esptool(tool, [*connect_arguments(tool, plan, port, 115200), *words], tmp_path / "log")
        said = (tmp_path / "log").read_text()
        assert not re.search(r"(?i)no such option|unrecognized|invalid (choice|value)|deprecated", said), said
    assert FlashPlan.bare("esp32p4").chip in subprocess.run(
        [*tool.command, "--help"], capture_output=True, text=True, env={"PATH": "", "COLUMNS": "400"}
    ).stdout.replace("\n", "").replace(" ", "").replace("│", "")
