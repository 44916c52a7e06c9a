"""``build-fw --split-filters``: shipped weights without photos, the same integers in the component and in QEMU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.components import need_compiler
from support.emulated import need_emulator
from uhd import zoo
from uhd.device import build
from uhd.device.twin import Twin
from uhd.errors import ModelError
from uhd.espdl import oracle
from uhd.espdl.document import read_document, write_document
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.files import sha256_file
from uhd.host.__main__ import main
from uhd.manifest import load_manifest
from uhd.paths import build_root
from uhd.quantize.adapter import quantize_input
from uhd.quantize.calibration import from_scenes
from uhd.quantize.rewrites import apply

#: R has no filter beyond the cache; this cuts some of it.
LIMIT = "4k"


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "build"))
    return tmp_path


def shipped(target: str, preset: str = "speed") -> zoo.ShippedEspdl:
    found = zoo.shipped_espdl("R", target, preset)
    assert found is not None
    return found


def scene(model: EspdlModel, target: str) -> dict[str, NDArray[Any]]:
    return quantize_input(model, from_scenes(shipped(target).manifest, 3).array[2])


@pytest.mark.parametrize(("target", "preset"), [("qemu", "speed"), ("esp32s3", "precision"), ("esp32p4", "speed")])
def test_a_shipped_model_is_rewritten_without_photos_or_quantizing(root: Path, target: str, preset: str) -> None:
    plain = shipped("c" if target == "qemu" else target, preset)
    request = build.Request("R", target, preset, filter_limit=4096, test_vectors=False)
    said: list[str] = []
    espdl, manifest, _ = build.select_espdl(request, said.append)
    assert request.name == f"R-{target}-{preset}-split4k-bare" and espdl.parent == root / "build" / request.name
    before, after = read_espdl(plain.path), read_espdl(espdl)
    assert len(after.nodes) > len(before.nodes) + 4
    inputs = scene(before, before.target)
    for name, values in oracle.run(before, inputs).items():
        np.testing.assert_array_equal(oracle.run(after, inputs)[name], values)
        assert len(np.unique(values)) > 10
    old, new = plain.manifest.quantization, load_manifest(espdl.with_suffix(".json")).quantization
    assert old is not None and new is not None and manifest.quantization == new
    assert new.espdl_sha256 == sha256_file(espdl) == after.sha256 != old.espdl_sha256
    assert sum("split into" in line for line in new.rewrites) > 3
    assert ("repeated changes of width left out: 1" in new.rewrites) is (preset == "precision")
    assert new.rewrites[-1] == "test vectors left out" and not after.test_inputs
    changed = {"espdl_sha256", "rewrites", "int16_operators"}
    assert new.model_dump(exclude=changed) == old.model_dump(exclude=changed)
    assert manifest.model_copy(update={"quantization": None}) == plain.manifest.model_copy(
        update={"quantization": None}
    )
    assert any(line.startswith("equal: ") and line.endswith("on 2 pictures") for line in said)


@pytest.fixture
def component(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    words = ["build-fw", "--variant", "R", "--target", "qemu", "--split-filters", "--filter-limit", LIMIT]
    assert main([*words, "--short-names", "--component-only", "--component", str(root / "uhd_model")]) == 0
    monkeypatch.undo()  # what does not depend on the model is compiled once for all tests
    return root / "uhd_model"


def test_the_component_computes_the_shipped_models_integers(component: Path) -> None:
    need_compiler()
    model = read_espdl(shipped("c").path)
    inputs = scene(model, "c")
    found = Twin(component).run_in_arena(inputs)
    for name, values in oracle.run(model, inputs).items():
        np.testing.assert_array_equal(found[name].reshape(values.shape), values)


@pytest.mark.emu
def test_the_emulated_chip_does_too(component: Path) -> None:
    need_emulator()
    from uhd.device.qemu import run_tensor

    model = read_espdl(shipped("c").path)
    inputs = scene(model, "c")
    wanted = oracle.run(model, inputs)
    found = run_tensor(component, inputs, build_root() / "test-emulator")
    assert found.keys() == wanted.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values.reshape(wanted[name].shape), wanted[name])


def test_what_the_command_says(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build-fw", "--variant", "Z", "--target", "esp32s3", "--split-filters", "--component-only",
             "--component", str(root / "uhd_model")]  # fmt: skip
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["build"] == "Z-esp32s3-speed-split48k" and said["rewrites"] == 1
    assert len(said["split"]["operators"]) == 1 and said["split"]["compared"]["constants"] > 450_000
    assert said["split"]["predicted"]["before_ms"] == pytest.approx(said["split"]["predicted"]["after_ms"])
    manifest = load_manifest(root / "uhd_model" / "manifest.json")
    assert manifest.quantization is not None and len(manifest.quantization.rewrites) == 1
    assert manifest.quantization.espdl_sha256 == said["espdl_sha256"] == sha256_file(root / "uhd_model" / "model.espdl")
    assert Path(said["package"]).is_file()


def test_a_model_that_would_change_is_not_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(document: Any, limit: int) -> tuple[()]:
        bias = next(tensor for tensor in document["graph"]["constants"] if tensor["dtype"] == 6)
        bias["raw"] = bytes(len(bias["raw"]))
        return ()

    monkeypatch.setattr(apply, "split_filters", wrong)
    request = build.Request("R", "esp32s3", filter_limit=8192, test_vectors=False)
    with pytest.raises(ModelError, match="the rewritten model has another bias of .*; nothing was written"):
        build.select_espdl(request)
    assert not list(root.rglob("*.espdl"))


def test_a_file_within_the_limit_comes_back_as_it_is(root: Path) -> None:
    said: list[str] = []
    espdl, manifest, _ = build.select_espdl(build.Request("R", "esp32s3", filter_limit=1 << 20), said.append)
    assert espdl.read_bytes() == shipped("esp32s3").path.read_bytes() and manifest == shipped("esp32s3").manifest
    assert "no filter has more than 1048576 bytes: nothing was split" in said


def test_what_cannot_be_rewritten_says_what_to_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uhd.espdl import document

    fields = {name: field for name, field in document.SCHEMA["Graph"].items() if name != "test_inputs"}
    monkeypatch.setitem(document.SCHEMA, "Graph", fields)
    with pytest.raises(ModelError, match="a Graph with field 8, which cannot be rewritten; use it as it is"):
        build.select_espdl(build.Request("R", "esp32s3", filter_limit=8192))


def test_mistakes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build-fw", "--variant", "R", "--target", "qemu", "--filter-limit", "48k"]) == 2
    assert "--filter-limit 48k without --split-filters" in capsys.readouterr().err
    assert not (root / "build").exists()


def test_the_writer_leaves_shipped_files_shorter() -> None:
    data = shipped("esp32s3").path.read_bytes()
    assert len(write_document(read_document(data))) < len(data) - 30_000
