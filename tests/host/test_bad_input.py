"""A user's mistake gives one line that says what, where and what to do; exit code 2; nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from support.shared import ROOT
from uhd import zoo
from uhd.host.__main__ import main

Run = Callable[..., str]


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command that must be refused; returns its one line of complaint."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "build"))

    def run(*arguments: object, code: int = 2) -> str:
        capsys.readouterr()
        before = {p for p in tmp_path.rglob("*") if p.is_file()}
        assert main([str(a) for a in arguments]) == code
        printed = capsys.readouterr()
        complaints = [line for line in printed.err.splitlines() if line.startswith(("error:", "Error:"))]
        assert len(complaints) == 1, printed.err
        assert "Traceback" not in printed.err
        new = {p for p in tmp_path.rglob("*") if p.is_file()} - before
        assert not [p for p in new if ".espdl" in p.name or p.suffix in {".npz", ".elf"}], new
        return complaints[0]

    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three good labelled pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        picture = np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)
        cv2.imwrite(str(folder / f"p{index}.jpg"), picture)
        (folder / f"p{index}.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    return folder


def test_broken_image_is_named(refuse: Run, photos: Path, tmp_path: Path) -> None:
    """The others are done all the same."""
    (photos / "p1.jpg").write_bytes((photos / "p1.jpg").read_bytes()[:40])
    message = refuse("demo", "--photos", photos, "--target", "onnx", "--output", tmp_path / "out")
    assert "p1.jpg" in message and "1 of 3" in message
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["contact_sheet.png", "p0.jpg", "p2.jpg"]


def test_label_out_of_range_names_file_and_line(refuse: Run, photos: Path) -> None:
    (photos / "p2.txt").write_text("0 0.5 0.5 0.25 0.5\n0 1.75 0.5 0.1 0.1\n")
    message = refuse("parity", "--photos", photos, "--engines", "twin")
    assert "p2.txt" in message and "2" in message and "1.75" in message


@pytest.mark.parametrize("command", ["demo", "parity"])
def test_missing_folder(refuse: Run, command: str) -> None:
    assert "no_such_folder" in refuse(command, "--photos", "no_such_folder")


def test_empty_folder(refuse: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty" in refuse("parity", "--photos", tmp_path / "empty")
    assert "empty" in refuse("demo", "--photos", tmp_path / "empty")


def test_unknown_names(refuse: Run) -> None:
    assert "Q" in refuse("build-fw", "--variant", "Q", "--target", "qemu")
    assert "esp32c3" in refuse("build-fw", "--variant", "R", "--target", "esp32c3")
    assert "slow" in refuse("build-fw", "--variant", "R", "--target", "qemu", "--preset", "slow")
    assert "belongs to variant Z" in refuse("build-fw", "--variant", "R", "--target", "qemu", "--preset", "Z-speed")


def test_wrong_usage_is_one_line_too(refuse: Run) -> None:
    message = refuse("build-fw", "--target", "qemu")
    assert "--variant" in message and "--help" in message
    assert "--frobnicate" in refuse("demo", "--frobnicate")
    assert "frobnicate" in refuse("frobnicate")


def test_a_folder_that_cannot_be_written(refuse: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    message = refuse("demo", "--photos", photos, "--target", "twin", "--output", tmp_path / "taken")
    assert "taken" in message


def test_a_reader_that_has_seen_enough() -> None:
    """``| head -1`` ends the command without a traceback."""
    shipped = zoo.shipped_espdl("R", "esp32s3", "speed")
    assert shipped is not None
    command = [sys.executable, "-m", "uhd.host", "espdl", "inspect", str(shipped.path)]
    done = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.stdout is not None and done.stderr is not None
    done.stdout.close()
    assert done.stderr.read() == ""
    done.wait()
    done.stderr.close()


def test_variant_without_shipped_weights(refuse: Run) -> None:
    message = refuse("build-fw", "--variant", "N", "--target", "qemu")
    assert "train" in message and "--checkpoint" in message


def test_engine_that_does_not_exist(refuse: Run, photos: Path) -> None:
    assert "abacus" in refuse("parity", "--photos", photos, "--engines", "twin,abacus")


def test_missing_checkpoint(refuse: Run) -> None:
    message = refuse("build-fw", "--variant", "R", "--target", "qemu", "--checkpoint", "none.safetensors")
    assert "none.safetensors" in message


def test_checkpoint_of_another_variant(refuse: Run, tmp_path: Path) -> None:
    path = tmp_path / "z.safetensors"
    path.write_bytes(zoo.checkpoint_path("R").read_bytes())
    manifest = json.loads(zoo.checkpoint_path("R").with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(manifest))
    message = refuse("build-fw", "--variant", "Z", "--target", "qemu", "--checkpoint", path)
    assert "variant R" in message and "Z" in message


def test_checkpoint_of_another_architecture(refuse: Run, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    path.write_bytes(zoo.checkpoint_path("R").read_bytes())
    manifest = json.loads(zoo.checkpoint_path("R").with_suffix(".json").read_text())
    manifest["options"]["width"] = 24
    manifest["options"].pop("cnn_width", None)
    path.with_suffix(".json").write_text(json.dumps(manifest))
    assert "other" in refuse("export", path, "--output", tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def espdl_copy(tmp_path: Path) -> Path:
    shipped = zoo.shipped_espdl("R", "esp32s3", "speed")
    assert shipped is not None
    path = tmp_path / "model.espdl"
    path.write_bytes(shipped.path.read_bytes())
    return path


def test_truncated_espdl(refuse: Run, tmp_path: Path) -> None:
    path = espdl_copy(tmp_path)
    path.write_bytes(path.read_bytes()[:5000])
    assert "model.espdl" in refuse("espdl", "inspect", path)
    path.write_bytes(b"")
    assert "model.espdl" in refuse("espdl", "inspect", path)
    path.write_bytes(b"\x00" * 1000)
    assert "model.espdl" in refuse("espdl", "inspect", path)


def test_espdl_run_wants_the_right_arrays(refuse: Run, tmp_path: Path) -> None:
    path = espdl_copy(tmp_path)
    np.savez(tmp_path / "in.npz", wrong=np.zeros((1, 64, 64, 2), np.int8))
    output = tmp_path / "out.npz"
    message = refuse("espdl", "run", path, "--input", tmp_path / "in.npz", "--output", output)
    assert "in.npz" in message and "input_yuv422 [1, 64, 64, 2] int8" in message
    assert not output.exists()
    assert "none.npz" in refuse("espdl", "run", path, "--input", tmp_path / "none.npz", "--output", output)


def test_regex_that_matches_nothing(refuse: Run, tmp_path: Path, photos: Path) -> None:
    output = tmp_path / "q.espdl"
    message = refuse(
        "quantize", zoo.checkpoint_path("R"), "--calibration", photos, "--target", "c",
        "--int16-op-pattern", "/no_such_operator/Conv", "--output", output,
    )  # fmt: skip
    assert "/no_such_operator/Conv" in message
    assert not output.exists()


def test_qemu_missing(tmp_path: Path) -> None:
    """A machine without emulator: the message names the package."""
    (tmp_path / "bin").mkdir()
    environment = {"PATH": str(tmp_path / "bin"), "UHD_BUILD": str(tmp_path / "build"), "HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(ROOT / "host")
    arguments = ["-m", "uhd.host", "build-fw", "--variant", "R", "--target", "qemu"]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error:") and "gcc-riscv64-unknown-elf" in last
    assert "Traceback" not in done.stderr
