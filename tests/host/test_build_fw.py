"""``build-fw``: a clean start, and what it says is next."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from uhd.host.__main__ import cli
from uhd.host.build_fw import _next


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("IDF_PATH", "IDF_PYTHON_ENV_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize("clean", [False, True])
def test_clean_empties_this_build_and_no_other(root: Path, clean: bool) -> None:
    mine, other = root / "build" / "R-esp32s3-speed", root / "build" / "R-esp32p4-speed"
    for folder in (mine, other):
        folder.mkdir(parents=True)
        (folder / "sdkconfig").write_text("by hand")
    words = ["build-fw", "--variant", "R", "--target", "esp32s3", "--component", str(root / "uhd_model")]
    result = CliRunner().invoke(cli, [*words, *(["--clean"] if clean else [])], standalone_mode=False)
    assert result.return_value == 3, "no ESP-IDF here"
    assert (mine / "sdkconfig").exists() is not clean
    assert (other / "sdkconfig").exists()
    assert (root / "uhd_model" / "model.espdl").is_file()
    assert "next: python -m uhd.host doctor --target esp32s3" in result.output


def test_what_is_next_names_the_same_build() -> None:
    image = Path("uhd.elf")
    assert _next("R", "esp32p4", "precision", image, False) == [
        "next: python -m uhd.host flash --variant R --target esp32p4 --preset precision --monitor",
        "size: python -m uhd.host size --variant R --target esp32p4 --preset precision",
    ]
    assert _next("Z", "qemu", "speed", image, False)[0].startswith("next: python -m uhd.host demo --variant Z")
    assert _next("R", "esp32s3", "speed", None, False) == [], "--component-only"


@pytest.mark.parametrize("target", ["qemu", "esp32s3"])
@pytest.mark.parametrize("preset", ["speed", "precision"])
def test_every_option_of_a_hint_exists(target: str, preset: str) -> None:
    for line in _next("R", target, preset, Path("uhd.elf"), False):
        name, *words = line.split("python -m uhd.host ")[1].split()
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
