"""Failures are one line that says what and where, and leave nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from support.quantize_nets import Plan, detector_onnx, manifest_for, pictures
from uhd.errors import ConfigError, ModelError, ToolMissingError, UhdError
from uhd.quantize import adapter, child
from uhd.quantize.adapter import quantize_onnx
from uhd.quantize.job import JobFolder
from uhd.quantize.settings import Settings

PICTURES = pictures(4, (2, 16, 16))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    plan = Plan()
    folder = tmp_path / "model"
    folder.mkdir()
    return plan.save(folder / "plain.onnx", plan.conv("/stem/Conv", "input", 2, 6), 6)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary folders and build products of the test go here."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "build"))
    return scratch


def attempt(onnx: Path, output: Path, **changes: object) -> None:
    arguments: dict[str, object] = {"target": "c", "calibration": PICTURES, "manifest": manifest_for(), **changes}
    quantize_onnx(onnx, output, **arguments)  # type: ignore[arg-type]


def assert_one_line(error: UhdError) -> None:
    assert "\n" not in str(error) and "Traceback" not in str(error)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": "esp32"}, "unknown target 'esp32'"),
        ({"algorithm": "kld"}, "unknown calibration algorithm 'kld'"),
        ({"int16_algorithm": "mse"}, "'mse' is not for int16"),
        ({"bits": 4}, "4 bits"),
        ({"bits": 16, "patterns": ["/stem"]}, "no meaning with 16 bits"),
        ({"patterns": ["("]}, "not a regular expression"),
        ({"preset": "turbo"}, "unknown preset 'turbo'"),
        ({"calibration": PICTURES[:0]}, "no calibration pictures"),
        ({"calibration": PICTURES[:, :1]}, r"shape \[4, 1, 16, 16\]"),
        ({"manifest": manifest_for(32)}, "32 input height"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(
    plain: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    def never(*_: object) -> child.Answer:
        raise AssertionError("the quantizing process was started")

    monkeypatch.setattr(adapter.child, "run", never)
    output = scratch / "out.espdl"
    with pytest.raises(UhdError, match=message) as caught:
        attempt(plain, output, **changes)
    assert_one_line(caught.value)
    assert list(scratch.iterdir()) == []


def test_the_output_must_be_an_espdl(plain: Path, scratch: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.espdl"):
        attempt(plain, plain)
    with pytest.raises(ModelError, match="damaged, truncated"):
        plain.write_bytes(plain.read_bytes()[:100])
        attempt(plain, scratch / "out.espdl")


def test_a_pattern_without_match_leaves_nothing(scratch: Path) -> None:
    path, manifest = detector_onnx()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"int16 pattern '/obj_conv/dw' matches none of \d+ operators") as caught:
        attempt(path, scratch / "out.espdl", manifest=manifest, calibration=pictures(2), patterns=["/obj_conv/dw"])
    assert_one_line(caught.value)
    assert str(path) in str(caught.value)
    assert list(scratch.iterdir()) == [] and path.read_bytes() == before


def test_an_operator_that_esp_ppq_lacks_is_named_and_the_old_output_kept(plain: Path, scratch: Path) -> None:
    plan = Plan()
    odd = plan.node("Hardmax", "/odd/Hardmax", plan.conv("/stem/Conv", "input", 2, 6))
    path = plan.save(plain.with_name("odd.onnx"), odd, 6)
    output = scratch / "out.espdl"
    output.write_bytes(b"the old file")
    with pytest.raises(ModelError, match="esp-ppq has no operator Hardmax, which /odd/Hardmax is; leave it") as caught:
        attempt(path, output)
    assert_one_line(caught.value)
    assert output.read_bytes() == b"the old file"
    assert list(scratch.iterdir()) == [output]


def test_what_nobody_foresaw_leaves_a_log(plain: Path, scratch: Path) -> None:
    with pytest.raises(ModelError, match="esp-ppq could not quantize it: FileNotFoundError") as caught:
        child.run(JobFolder(scratch), plain, None)  # without a job in the folder
    assert_one_line(caught.value)
    log = Path(str(caught.value).rsplit("its log is ", 1)[1])
    assert log.parent.name == "logs" and "Traceback" in log.read_text()


def test_an_overflow_of_the_s3_accumulator_is_refused(plain: Path, scratch: Path) -> None:
    """Ninety-six channels of one sign, all weights alike: the sum needs 21 bits."""
    plan = Plan()
    plan.constant("/wide/Conv.weight", np.full((96, 2, 1, 1), 0.49))
    plan.constant("/sum/Conv.weight", np.full((8, 96, 1, 1), 0.49))
    wide = plan.node("Relu", "/wide/Relu", plan.conv("/wide/Conv", "input", 2, 96, shift=1))
    path = plan.save(plain.with_name("loud.onnx"), plan.conv("/sum/Conv", wide, 96, 8), 8)
    with pytest.raises(ModelError, match=r"/sum/Conv: a sum reached [\d,]+ on 4 pictures, and a lane holds 524,287"):
        attempt(path, scratch / "out.espdl", target="esp32s3", algorithm="minmax")
    assert list(scratch.iterdir()) == []


def test_an_interruption_ends_the_process_and_leaves_nothing(plain: Path, scratch: Path) -> None:
    def interrupt(step: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(plain, scratch / "out.espdl", progress=interrupt)
    assert list(scratch.iterdir()) == []


def fake_python(folder: Path, body: str) -> str:
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("kill -9 $$", "the process was ended by SIGKILL"),
        ("echo 'No module named esp_ppq' >&2; exit 3", "the process ended with code 3"),
        ('echo \'{"step": "simplify", "done": 0, "total": 1}\'; exit 0', "the process ended with code 0"),
    ],
)
def test_a_process_that_breaks_down_is_explained(
    plain: Path, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    monkeypatch.setattr(child.sys, "executable", fake_python(tmp_path, body))
    with pytest.raises(ModelError, match=message) as caught:
        child.run(JobFolder(scratch), plain, None)
    log = Path(str(caught.value).rsplit("its log is ", 1)[1])
    assert log.exists()
    assert ("No module named" in log.read_text()) == ("No module named" in body)


@pytest.mark.parametrize("found", [None, "1.4.0"])
def test_another_esp_ppq_is_refused(
    plain: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    def version(name: str) -> str:
        if found is None:
            raise child.importlib.metadata.PackageNotFoundError(name)
        return found

    monkeypatch.setattr(child.importlib.metadata, "version", version)
    with pytest.raises(ToolMissingError, match=r"pip install esp-ppq==1\.3\.12"):
        attempt(plain, scratch / "out.espdl")
    assert list(scratch.iterdir()) == []


def pretend(answer: bytes) -> Callable[..., child.Answer]:
    """A quantizing process that leaves ``answer`` as its file."""

    def run(folder: JobFolder, source: Path, progress: object) -> child.Answer:
        folder.espdl.write_bytes(answer)
        return child.Answer((), (), ())

    return run


def test_a_file_that_cannot_be_read_back_is_refused(
    plain: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter.child, "run", pretend(b"EDL2 and nothing else"))
    with pytest.raises(ModelError, match="what esp-ppq made of it cannot be used") as caught:
        attempt(plain, scratch / "out.espdl")
    assert str(plain) in str(caught.value) and "<bytes>" not in str(caught.value)
    assert list(scratch.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(plain: Path, scratch: Path) -> None:
    blocked = scratch / "file"
    blocked.write_text("not a folder")
    with pytest.raises(ConfigError, match="file is not a folder"):
        attempt(plain, blocked / "deeper" / "out.espdl")
    assert list(scratch.iterdir()) == [blocked]


def test_files_are_written_all_or_none(scratch: Path) -> None:
    """A folder where the manifest should go: nothing new stays, and what was there keeps its content."""
    output = scratch / "out.espdl"
    output.with_suffix(".json").mkdir()
    settings = Settings("c", export_anchors=True)
    with pytest.raises(ConfigError, match=r"out\.espdl: cannot write it"):
        adapter.write_files(output, b"new", manifest_for(), settings)
    assert list(scratch.iterdir()) == [output.with_suffix(".json")]
    output.write_bytes(b"old")
    with pytest.raises(ConfigError, match="cannot write it"):
        adapter.write_files(output, b"new", manifest_for(), settings)
    assert sorted(path.name for path in scratch.iterdir()) == ["out.espdl", "out.json"]
    assert output.read_bytes() == b"old"
