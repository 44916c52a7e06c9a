"""``explain`` on the shipped R and drawn scenes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support.report_runs import Page
from support.scene_folder import write_scenes
from uhd import zoo
from uhd.host.__main__ import main

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def shipped(variant: str = "R", preset: str = "speed") -> Path:
    found = zoo.shipped_espdl(variant, "esp32s3", preset)
    assert found is not None
    return found.path


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 12, size=(96, 128))


def test_everything_as_json_and_page(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "explain.html"
    arguments = ["explain", str(shipped()), "--photos", str(scenes), "--limit", "3", "--map-photos", "4"]
    assert main([*arguments, "--json", "--report", str(page)]) == 0
    told = json.loads(capsys.readouterr().out)
    layers = told["layers"]
    assert told["without_partner"] == {} and told["photos"] == 3 and told["map"]["photos"] == 4
    assert [layer["number"] for layer in layers] == list(range(1, len(layers) + 1))
    assert told["map"]["boxes"] > 0 and told["map"]["float"]["map50"] >= 0
    for layer in layers:
        assert layer["integers"]["histogram"] and sum(layer["integers"]["histogram"]) == layer["integers"]["count"]
        assert layer["own_sqnr_db"] > 10, layer["name"]
        assert layer["cost"] is not None and layer["maps_sqnr_db"] > 5
        assert (layer["filter_sqnr_db"] is not None) == (layer["op"] == "Conv")
        assert (layer["accumulator"] is not None) == (layer["op"] == "Conv")
    assert sum(layer["predicted_ms"] for layer in layers) == pytest.approx(told["predicted"]["total_ms"])
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.errors == []
    shown = {value for value, _ in parsed.data}
    assert {repr(layer["sqnr_db"]) for layer in layers} <= shown
    if BROWSER:
        check_width(BROWSER, page, tmp_path)


def check_width(browser: str, page: Path, folder: Path) -> None:
    """In a real browser nothing is wider than a phone's or a desk's window."""
    probe = "<script>document.title = document.documentElement.scrollWidth - innerWidth</script></body>"
    (folder / "probe.html").write_text(page.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    frames = "".join(
        f'<iframe src="probe.html" width="{w}" height="900" frameborder="0"></iframe>' for w in (390, 1280)
    )
    collect = "[...document.querySelectorAll('iframe')].map(e => e.contentDocument.title).join()"
    frame = folder / "frame.html"
    frame.write_text(f"{frames}<script>onload = () => {{ document.title = {collect} }}</script>")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files"]
    command = [browser, *flags, f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", "--dump-dom"]
    dom = subprocess.run([*command, frame.as_uri()], capture_output=True, text=True, timeout=300, check=True).stdout
    assert dom.split("<title>")[1].split("</title>")[0] == "0,0"


def test_table_of_a_mixed_model(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Worst first, as many as asked for; the manifest beside the file and the shipped weights are found."""
    arguments = ["explain", str(shipped(preset="precision")), "--photos", str(scenes), "--limit", "2", "--no-map"]
    assert main([*arguments, "--top", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[2:7]]
    ratios = [float(row[6]) for row in rows]
    assert lines[0] == "ultratinyod_r on esp32s3, 2 photos, by sqnr" and ratios == sorted(ratios)
    assert lines[7].startswith("predicted: ")
    assert main([*arguments, "--sort", "graph"]) == 0
    text = capsys.readouterr().out
    assert "RequantizeLinear" in text and " of 16 " in text and text.index("stem/conv") < text.index("box_out")


def test_photos_without_labels(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(scenes / "scene_000.png", tmp_path / "only.png")
    assert main(["explain", str(shipped()), "--photos", str(tmp_path), "--map-photos", "1", "--top", "1"]) == 0
    assert "mAP not measured" in capsys.readouterr().out


def test_what_is_missing_or_wrong_is_said(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(*arguments: str) -> str:
        assert main(["explain", *arguments, "--limit", "1", "--no-map"]) == 2
        captured = capsys.readouterr()
        assert captured.err.count("error: ") == 1 and "Traceback" not in captured.err
        return captured.err

    photos = ["--photos", str(scenes)]
    lone = tmp_path / "lone.espdl"
    shutil.copy(shipped(), lone)
    assert "no manifest lone.json beside it; give its float model with --float" in error(str(lone), *photos)
    shutil.copy(shipped("Y").with_suffix(".json"), lone.with_suffix(".json"))
    assert "describes another .espdl" in error(str(lone), *photos)
    assert "no pictures here" in error(str(shipped()), "--photos", str(tmp_path))
    assert str(tmp_path / "none.onnx") in error(str(shipped()), *photos, "--float", str(tmp_path / "none.onnx"))
    other = str(zoo.checkpoint_path("Y"))
    assert "error" in error(str(shipped()), *photos, "--float", other)
    checkpoint = str(zoo.checkpoint_path("R"))
    assert main(["explain", str(lone), *photos, "--float", checkpoint, "--limit", "1", "--no-map", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["float"] == checkpoint


def test_another_float_model_is_doubted(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of the same shapes that are not those of the file."""
    from safetensors.numpy import load_file, save_file

    from uhd.files import sha256_file
    from uhd.manifest import load_manifest

    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "build"))
    source = zoo.checkpoint_path("R")
    weights = load_file(source)
    for name, value in weights.items():
        if value.ndim == 4:
            weights[name] = -value
    other = tmp_path / "other.safetensors"
    save_file(weights, other)
    manifest = load_manifest(source.with_suffix(".json"))
    manifest.model_copy(update={"weights_sha256": sha256_file(other)}).save(other.with_suffix(".json"))
    code = main(["explain", str(shipped()), "--photos", str(scenes), "--float", str(other), "--limit", "1", "--no-map"])
    assert code == 0
    assert "filters are not those of other.safetensors" in capsys.readouterr().out


def test_chips_differ_where_they_should(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An exponent for each channel (ESP32-P4) makes the stem's sums less noisy than one for all (ESP32-S3)."""
    ratios = {}
    for target in ("esp32s3", "esp32p4"):
        found = zoo.shipped_espdl("R", target, "speed")
        assert found is not None
        assert main(["explain", str(found.path), "--photos", str(scenes), "--limit", "2", "--no-map", "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["target"] == target
        ratios[target] = told["layers"][0]["sums_sqnr_db"]
    assert ratios["esp32p4"] > ratios["esp32s3"] + 3
