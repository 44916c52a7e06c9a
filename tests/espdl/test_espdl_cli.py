"""The commands ``espdl inspect`` and ``espdl run``."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from support.tiny_espdl import make_espdl
from uhd.espdl import oracle
from uhd.espdl.npz import load_npz, save_npz
from uhd.espdl.reader import read_espdl
from uhd.host.__main__ import main


@pytest.fixture
def model() -> Path:
    return make_espdl("c")


@pytest.fixture
def source(model: Path, tmp_path: Path) -> Path:
    """The model's own test input as a .npz."""
    path = tmp_path / "in.npz"
    np.savez(path, **read_espdl(model).test_inputs)
    return path


def test_inspect_prints_layers_summary_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["espdl", "inspect", str(make_espdl("esp32s3"))]) == 0
    text = capsys.readouterr().out
    assert "/stem/Conv" in text
    assert "peak live activations" in text
    assert "input [1, 16, 16, 2] int8 * 2^-6" in text
    assert "warning: 11 of 11 convolutions" in text
    assert "\x1b" not in text


def test_inspect_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["espdl", "inspect", str(model), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["target"] == "c"
    assert document["sha256"] == read_espdl(model).sha256
    assert len(document["layers"]) == len(read_espdl(model).nodes)


def test_run_writes_the_oracle_s_integers(
    model: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "deep" / "out.npz"
    assert main(["espdl", "run", str(model), "--input", str(source), "--output", str(output), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["engine"] == "oracle"
    assert document["outputs"]["box"]["shape"] == [1, 8, 8, 12]
    parsed = read_espdl(model)
    with np.load(output) as arrays:
        assert set(arrays.files) == set(parsed.outputs)
        for name in parsed.outputs:
            assert arrays[name].dtype == np.int8
            assert np.array_equal(arrays[name], parsed.test_outputs[name])


def test_run_prints_a_table(model: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["espdl", "run", str(model), "--input", str(source), "--output", str(tmp_path / "o.npz")]) == 0
    text = capsys.readouterr().out
    assert "oracle" in text
    assert "box" in text


@pytest.mark.parametrize("engine", ["twin", "qemu"])
def test_other_engines_get_the_parsed_model_and_fitted_inputs(
    engine: str, model: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def run_engine(parsed, data, inputs, chosen):  # type: ignore[no-untyped-def]
        calls.append((data, chosen, {n: (a.shape, a.dtype) for n, a in inputs.items()}))
        return {name: value + 0 for name, value in oracle.run(parsed, inputs).items()}

    monkeypatch.setitem(sys.modules, "uhd.device.engines", types.SimpleNamespace(run_engine=run_engine))
    output = tmp_path / "out.npz"
    arguments = ["espdl", "run", str(model), "--input", str(source), "--output", str(output), "--engine", engine]
    assert main(arguments) == 0
    assert calls == [(model.read_bytes(), engine, {"input": ((1, 16, 16, 2), np.dtype("int8"))})]
    assert set(load_npz(output)) == {"box", "cls"}


def refused(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command prints; exit code 2."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    printed = capsys.readouterr()
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1, printed.err
    assert lines[0].startswith("error: ")
    assert printed.out == ""
    return lines[0]


def test_bad_models_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path) -> None:
    data = model.read_bytes()
    cut, text = tmp_path / "cut.espdl", tmp_path / "text.espdl"
    cut.write_bytes(data[: len(data) // 2])
    text.write_text("hello")
    assert "promises" in refused(["espdl", "inspect", cut], capsys)
    assert "not an .espdl file" in refused(["espdl", "inspect", text], capsys)
    assert "cannot read the model" in refused(["espdl", "inspect", tmp_path / "none.espdl"], capsys)
    assert "Is a directory" in refused(["espdl", "inspect", tmp_path], capsys)
    assert "quantized for c, not for esp32p4" in refused(["espdl", "inspect", model, "--target", "esp32p4"], capsys)


def test_bad_inputs_are_refused_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path, source: Path
) -> None:
    good = source.read_bytes()
    x = load_npz(source)["input"]
    cases: dict[str, tuple[bytes | dict[str, np.ndarray], str]] = {
        "cut": (good[:-40], "not a .npz file"),
        "flipped": (good[:200] + bytes([good[200] ^ 1]) + good[201:], "not a sound .npz file"),
        "text": (b"hello", "not a .npz file"),
        "empty": (b"", "not a .npz file"),
        "renamed": ({"in_input": x}, "no input array 'input'; the model wants input [1, 16, 16, 2] int8"),
        "extra": ({"input": x, "other": x}, "unknown input array 'other'"),
        "nchw": ({"input": x.transpose(0, 3, 1, 2)}, "has shape [1, 2, 16, 16]"),
        "real": ({"input": x / 128}, "not integers"),
        "large": ({"input": x.astype(np.int32) * 3}, "holds values from"),
        "objects": ({"input": np.array([None])}, "not a sound .npz file"),
    }
    output = tmp_path / "never" / "out.npz"
    for name, (content, complaint) in cases.items():
        path = tmp_path / f"{name}.npz"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.savez(path, **content)
        message = refused(["espdl", "run", model, "--input", path, "--output", output], capsys)
        assert complaint in message
    assert not output.parent.exists()


def test_bad_outputs_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path, source: Path) -> None:
    run = ["espdl", "run", model, "--input", source, "--output"]
    assert "would replace what is read" in refused([*run, source], capsys)
    assert "would replace what is read" in refused([*run, model], capsys)
    (tmp_path / "folder").mkdir()
    assert "cannot write the arrays" in refused([*run, tmp_path / "folder"], capsys)
    assert "cannot write the arrays" in refused([*run, source / "below" / "out.npz"], capsys)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_npz_holds_any_name_and_is_deterministic(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3), "/a/b:0": np.zeros((2, 0), np.int16), "ä": np.array(5)}
    one, two = tmp_path / "1.npz", tmp_path / "2.npz"
    save_npz(one, arrays)
    save_npz(two, arrays)
    assert one.read_bytes() == two.read_bytes()
    loaded = load_npz(one)
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        assert np.array_equal(loaded[name], array)
