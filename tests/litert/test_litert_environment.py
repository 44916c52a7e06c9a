"""The environment of onnx2tf: where it is, when it counts as complete, how it is made."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from support.litert_rig import empty, real_environment
from uhd.errors import ConfigError, ToolMissingError
from uhd.host.__main__ import main
from uhd.litert import environment
from uhd.litert.environment import Environment, default_folder, find_environment, install


@pytest.fixture(autouse=True)
def build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "build"))
    return tmp_path / "build"


def wheel(folder: Path, name: str, version: str) -> Path:
    """An installable package with nothing in it."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("UHD_LITERT", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/ann")
    assert default_folder() == Path("/home/ann/.cache/uhd/litert")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/ann")
    assert default_folder() == Path("/var/cache/ann/uhd/litert")
    monkeypatch.setenv("UHD_LITERT", "/opt/litert")
    assert default_folder() == Path("/opt/litert")


@pytest.mark.parametrize("stamp", [None, "", "onnx2tf==1.0.0"])
def test_an_interrupted_or_older_one_is_not_complete(tmp_path: Path, stamp: str | None) -> None:
    made = empty(tmp_path / "env")
    assert find_environment(made.folder) == made
    if stamp is None:
        (made.folder / ".uhd-litert").unlink()
    else:
        (made.folder / ".uhd-litert").write_text(stamp)
    with pytest.raises(ToolMissingError, match=r"is not complete.* --install --environment .*env` \(about 2\.8 GB\)"):
        find_environment(made.folder)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something else than a Python environment"):
        install(tmp_path)
    with pytest.raises(ConfigError, match="holds something else"):
        install(tmp_path / "thesis.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_too_little_room_is_said_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "FREE", 1 << 60)
    with pytest.raises(ToolMissingError, match="GB free, the environment needs .*name another folder"):
        install(tmp_path / "env")
    assert not (tmp_path / "env" / "bin").exists()


def test_it_is_made_and_completed(
    tmp_path: Path, build_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With venv and pip as they are, and a small package in the place of onnx2tf."""
    place = tmp_path / "env"
    monkeypatch.setattr(environment, "REQUIREMENT", str(tmp_path / "absent-1-py3-none-any.whl"))
    with pytest.raises(ToolMissingError, match="cannot install .*absent.*; the log is .*litert-install.log"):
        install(place)
    assert not Environment(place).complete and (place / "pyvenv.cfg").exists()
    assert "absent" in (build_folder / "logs" / "litert-install.log").read_text()

    monkeypatch.setattr(environment, "REQUIREMENT", str(wheel(tmp_path, "onnx2tf", "9.8")))
    assert main(["litert", "--install", "--environment", str(place)]) == 0
    assert "onnx2tf 9.8; 0.0 GB" in capsys.readouterr().err
    made = find_environment(place)
    assert made.versions() == {"onnx2tf": "9.8"}
    (build_folder / "logs" / "litert-install.log").unlink()
    assert main(["litert", "--install", "--environment", str(place)]) == 0
    assert "it is there already" in capsys.readouterr().err
    assert not (build_folder / "logs" / "litert-install.log").exists(), "nothing is installed twice"


def test_its_programs_see_nothing_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    found = Environment(tmp_path).variables()
    assert "PYTHONPATH" not in found and found["PATH"].startswith(f"{tmp_path}/bin:")


def test_licences_of_the_real_one_are_permissive() -> None:
    """What TensorFlow brings is as free to use as what this package asks for."""
    for found in real_environment().distributions():
        words = [found.metadata.get("License-Expression") or "", (found.metadata.get("License") or "")[:80]]
        words += [c for c in found.metadata.get_all("Classifier") or () if c.startswith("License")]
        assert "GPL" not in " ".join(words).upper() and "General Public" not in " ".join(words), found.name
