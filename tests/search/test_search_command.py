"""The ``search`` command: killed, taken up again, and its winner made again from the command line it gives."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

from support.scene_folder import write_scenes
from support.search_nets import small_onnx
from support.shared import ROOT
from uhd.espdl.reader import read_espdl
from uhd.files import sha256_file
from uhd.host.__main__ import main
from uhd.manifest import load_manifest


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()[1:]] if path.exists() else []


def kill_when(command: list[str], path: Path, count: int) -> None:
    """Run ``command`` in a session of its own until ``path`` holds ``count`` candidates, then end its first process;
    all others have to end by themselves."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    process = subprocess.Popen(
        [sys.executable, "-m", "uhd.host", *command], env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    until = time.monotonic() + 300
    while len(lines(path)) < count and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while time.monotonic() < until:  # the others see it and end
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("processes of a killed search live on")


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx, _ = small_onnx(tmp_path / "small.onnx")
    photos = write_scenes(tmp_path / "scenes", 24, size=(60, 80))
    output = tmp_path / "found"
    words = [
        "search", "--checkpoint", str(onnx), "--target", "esp32s3", "--photos", str(photos), "--val", str(photos),
        "--output", str(output), "--calib-steps", "4", "--tqt-steps", "1", "--processes", "1", "--algorithms", "minmax",
        "--candidates", "15", "--max-ms", "5",
    ]  # fmt: skip
    journal = output / "candidates.jsonl"
    kill_when(words, journal, 3)
    before = lines(journal)
    assert 3 <= len(before) < 13 and (output / "work").exists() and not (output / "search.json").exists()
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    after = lines(journal)
    assert after[: len(before)] == before, "what was measured stays"
    keys = Counter(json.dumps([entry["base"], entry["int16"]]) for line in after if (entry := line["candidate"]))  # type: ignore[index]
    assert set(keys.values()) == {1}, "nothing is measured twice"
    titles = [candidate["title"] for candidate in said["candidates"]]
    assert len(titles) == len(after) >= 8 + 5 and titles[:2] == ["minmax", "minmax + equalization"]
    assert max(c["map50"] for c in said["candidates"] if c["predicted_ms"] <= 5) == said["winner"]["map50"]
    assert sorted(p.name for p in output.iterdir() if p.name != "winner.grid.json") == [
        "candidates.jsonl", "pareto.svg", "search.html", "search.json", "winner.espdl", "winner.json",
    ]  # fmt: skip
    winner = load_manifest(output / "winner.json").quantization
    assert winner is not None and winner.espdl_sha256 == said["winner"]["sha256"] == sha256_file(
        output / "winner.espdl"
    )
    assert winner.accuracy[0].engine == "twin" and winner.accuracy[0].map50 == pytest.approx(
        said["winner"]["map50"], abs=1e-6
    )
    first = (output / "search.json").read_bytes()

    again = tmp_path / "again.espdl"
    command = [*said["command"][:-1], str(again)]
    assert main(command) == 0
    assert again.read_bytes() == (output / "winner.espdl").read_bytes(), "the same bytes from the command line"
    assert read_espdl(again, "esp32s3").sha256 == said["winner"]["sha256"]

    capsys.readouterr()
    assert main(words) == 0, "all known: only the winner is made again"
    text = capsys.readouterr().out
    assert (output / "search.json").read_bytes() == first and len(lines(journal)) == len(after)
    assert "best int8" in text and shlex.join(said["command"]) in text and "chosen on one half" in text
    page = (output / "search.html").read_text()
    assert "predicted" in page and all(title in page for title in titles)
    drawn = ElementTree.parse(output / "pareto.svg").getroot().iter("{http://www.w3.org/2000/svg}circle")  # noqa: S314
    assert sum(1 for _ in drawn) == len(titles)
    assert main([*words, "--calib-steps", "5"]) == 2, "other pictures are another search"


def test_words_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["search", "--target", "esp32s3", "--photos", "a", "--val", "b", "--output", str(tmp_path / "o")]
    for words, what in (
        ([], "--variant or --checkpoint"), (["--variant", "R", "--checkpoint", "x.onnx"], "--variant or --checkpoint"),
        (["--variant", "R", "--max-sram", "much"], "300k"), (["--variant", "R", "--algorithms", "best"], "minmax"),
        (["--variant", "R", "--tqt-steps", "-2"], "steps of TQT"),
    ):  # fmt: skip
        assert main([*common, *words]) == 2
        assert what in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
