"""``release`` splits filters where that is predicted to pay, and says so."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from support.components import need_compiler
from support.qat_nets import quantizer_here
from support.quantize_nets import checkpoint_of
from support.scene_folder import write_scenes
from uhd import zoo
from uhd.espdl.reader import read_espdl
from uhd.files import sha256_file
from uhd.host import release
from uhd.host.__main__ import main
from uhd.manifest import load_manifest
from uhd.predict.chips import chip
from uhd.predict.latency import predict
from uhd.predict.workload import workload
from uhd.quantize.calibration import from_scenes

__all__ = ["quantizer_here"]


@pytest.mark.usefixtures("quantizer_here")
def test_a_release_with_split_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small network, which gains nothing: any gain is enough here."""
    need_compiler()
    monkeypatch.setattr(release, "TARGETS", ("esp32s3",))
    monkeypatch.setattr(release, "PRESETS", ("speed",))
    photos = str(write_scenes(tmp_path / "scenes", 4))
    words = ["release", "--variant", "R", "--checkpoint", str(checkpoint_of()), "--calibration", photos,
             "--val", photos, "--calibration-images", "2", "--data-name", "scenes", "--filter-limit", "1k"]  # fmt: skip

    monkeypatch.setattr(release, "LEAST_GAIN", 0.1)
    assert main([*words, "--output", str(tmp_path / "made"), "--json"]) == 0
    out = capsys.readouterr().out  # esp-ppq in this process adds its own
    rows = json.loads(out[out.rindex("\n[\n") :])
    assert [row["target"] for row in rows] == ["float", "esp32s3"] and rows[0]["predicted"] is None
    assert rows[1]["predicted"]["after_ms"] > 0
    path = tmp_path / "made" / "ultratinyod_r_esp32s3_speed.espdl"
    made = load_manifest(path.with_suffix(".json")).quantization
    assert made is not None and made.espdl_sha256 == sha256_file(path)
    assert len(made.rewrites) > 3 and made.rewrites[-1].startswith("predicted on esp32s3, weights in PSRAM: ")
    assert [(entry.engine, entry.map50) for entry in made.accuracy] == [("twin", rows[1]["map50"])]
    names = {node.name for node in read_espdl(path).nodes}
    assert {f"{line.split(':')[0]}_part1" for line in made.rewrites[:-1]} < names
    assert main([*words, "--output", str(tmp_path / "none"), "--no-split-filters"]) == 2
    assert "--filter-limit 1k without --split-filters" in capsys.readouterr().err and not (tmp_path / "none").exists()
    for wrong, says in (
        ("--calib-algorithm best", "unknown calibration algorithm"),
        ("--tqt-steps -1", "steps of TQT"),
    ):
        assert main([*words, "--output", str(tmp_path / "none"), *wrong.split()]) == 2
        assert says in capsys.readouterr().err and not (tmp_path / "none").exists(), "before anything is written"

    monkeypatch.setattr(release, "TARGETS", ("c",))
    words += ["--calib-algorithm", "minmax", "--use-layerwise-equalization", "--tqt-steps", "1", "--bias-correction"]
    assert main([*words, "--output", str(tmp_path / "other")]) == 0
    changed = load_manifest(tmp_path / "other" / "ultratinyod_r_c_speed.json").quantization
    assert changed is not None and changed.calibration_algorithm == "minmax"
    assert [line.split(":")[0] for line in changed.rewrites] == ["layerwise equalization", "TQT", "bias correction"]


def test_the_shipped_a_is_split_and_gains() -> None:
    shipped = zoo.shipped_espdl("A", "esp32s3", "speed")
    assert shipped is not None and shipped.manifest.quantization is not None
    line = shipped.manifest.quantization.rewrites[-1]
    found = re.fullmatch(r"predicted on esp32s3, weights in PSRAM: ([\d.]+) ms before, ([\d.]+) ms after", line)
    assert found is not None and float(found[1]) > 1.8 * float(found[2])
    model = read_espdl(shipped.path)
    assert predict(workload(model), chip("esp32s3")).total_ms == pytest.approx(float(found[2]), abs=0.06)
    assert max(t.data.nbytes for t in model.tensors.values() if t.data is not None) <= 48 * 1024


@pytest.mark.parametrize(("letter", "target"), [("A", "esp32s3"), ("Z", "esp32s3"), ("A", "esp32p4")])
def test_what_gains_nothing_is_left_alone(tmp_path: Path, letter: str, target: str) -> None:
    shipped = zoo.shipped_espdl(letter, target, "speed")
    assert shipped is not None
    data, path = shipped.path.read_bytes(), tmp_path / "model.espdl"
    path.write_bytes(data)
    pictures = from_scenes(shipped.manifest, 1).array
    assert release._split(path, shipped.manifest, pictures, 48 * 1024) == (shipped.manifest, None)
    assert path.read_bytes() == data


def test_what_is_split_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Z gains nothing: any gain is enough here."""
    monkeypatch.setattr(release, "LEAST_GAIN", 0.1)
    shipped = zoo.shipped_espdl("Z", "esp32s3", "speed")
    assert shipped is not None
    path = tmp_path / "model.espdl"
    path.write_bytes(shipped.path.read_bytes())
    pictures = from_scenes(shipped.manifest, 1).array
    manifest, found = release._split(path, shipped.manifest, pictures, 48 * 1024)
    assert found is not None and manifest.quantization is not None
    assert manifest.quantization.espdl_sha256 == sha256_file(path)
    assert manifest.quantization.rewrites[-1] == (
        f"predicted on esp32s3, weights in PSRAM: {found.before_ms:.1f} ms before, {found.after_ms:.1f} ms after"
    )
    assert max(t.data.nbytes for t in read_espdl(path).tensors.values() if t.data is not None) <= 48 * 1024
    assert release._split(path, manifest, pictures, 0) == (manifest, None), "--no-split-filters"
