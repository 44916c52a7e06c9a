"""``platformio.ini`` says what the sdkconfig defaults say, and PlatformIO reads it where it is installed."""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.shared import ROOT

INI = ROOT / "platformio.ini"
FIRMWARE = ROOT / "firmware"
BOARDS = {"esp32s3_eye": "esp32s3", "esp32p4_function_ev": "esp32p4"}


def environment(name: str) -> dict[str, str]:
    config = configparser.ConfigParser(inline_comment_prefixes=None)
    config.read(INI)
    return {**config["env"], **config[f"env:{name}"]}


def sdkconfig(chip: str) -> dict[str, str]:
    text = (ROOT / "sdkconfig.defaults").read_text() + (ROOT / f"sdkconfig.defaults.{chip}").read_text()
    return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.M))


def test_there_is_one_environment_for_each_board() -> None:
    config = configparser.ConfigParser()
    config.read(INI)
    assert {s for s in config.sections() if s.startswith("env:")} == {f"env:{name}" for name in BOARDS}
    assert config["platformio"]["default_envs"] in BOARDS


@pytest.mark.parametrize(("name", "chip"), BOARDS.items())
def test_options_agree_with_the_defaults_of_the_chip(name: str, chip: str) -> None:
    ours, theirs = environment(name), sdkconfig(chip)
    assert ours["framework"] == "espidf"
    assert ours["board_build.mcu"] == chip
    assert theirs[f"ESPTOOLPY_FLASHSIZE_{ours['board_upload.flash_size']}"] == "y"
    assert theirs[f"ESPTOOLPY_FLASHMODE_{ours['board_build.flash_mode'].upper()}"] == "y"
    megahertz = int(ours["board_build.f_flash"].removesuffix("L")) // 1_000_000
    assert theirs[f"ESPTOOLPY_FLASHFREQ_{megahertz}M"] == "y"
    assert (FIRMWARE / ours["board_build.partitions"]).is_file()


@pytest.mark.parametrize(("name", "chip"), BOARDS.items())
def test_the_default_partition_table_is_the_same(name: str, chip: str) -> None:
    table = sdkconfig(chip)["PARTITION_TABLE_CUSTOM_FILENAME"].strip('"')
    assert environment(name)["board_build.partitions"] == table


def test_the_project_is_where_the_command_in_the_file_says() -> None:
    """``-d firmware``: main and components there, and the settings named by its own CMakeLists.txt."""
    text = INI.read_text()
    assert "pio run -d firmware -c $PWD/platformio.ini" in text
    assert "pio run -d firmware -c $PWD/platformio.ini" in (ROOT / "docs" / "flashing.md").read_text()
    config = configparser.ConfigParser()
    config.read(INI)
    assert (FIRMWARE / config["platformio"]["src_dir"] / "CMakeLists.txt").is_file()
    assert "../sdkconfig.defaults" in (FIRMWARE / "CMakeLists.txt").read_text()


def platformio() -> list[str]:
    if path := shutil.which("pio") or shutil.which("platformio"):
        return [path]
    if importlib.util.find_spec("platformio"):
        return [sys.executable, "-m", "platformio"]
    pytest.skip("PlatformIO is not installed")


def test_platformio_reads_it(tmp_path: Path) -> None:
    program = platformio()
    surroundings = {**os.environ, "PLATFORMIO_CORE_DIR": str(tmp_path), "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no"}
    command = [*program, "project", "config", "-d", str(ROOT)]
    lint = subprocess.run([*command, "--lint"], capture_output=True, text=True, env=surroundings)
    assert lint.returncode == 0 and "free from linting errors" in lint.stdout, lint.stdout + lint.stderr
    done = subprocess.run([*command, "--json-output"], capture_output=True, text=True, env=surroundings)
    assert done.returncode == 0, done.stderr
    sections = {name: dict(options) for name, options in json.loads(done.stdout)}
    for name in BOARDS:
        assert sections[f"env:{name}"]["framework"] == ["espidf"]
        assert sections[f"env:{name}"]["board"] == environment(name)["board"]
