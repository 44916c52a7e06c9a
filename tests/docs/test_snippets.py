"""Python in the README and in the guide to inference runs as it is shown."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from support.infer import sample_pictures
from support.photos import save_png
from support.shared import ROOT
from uhd import zoo
from uhd.device.build import float_onnx

DOCUMENTS = ("README.md", "docs/demo.md")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_python_runs(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    monkeypatch.chdir(tmp_path)
    (tmp_path / "host").symlink_to(ROOT / "host")
    shutil.copy(float_onnx(zoo.checkpoint_path("R")), "model.onnx")
    save_png(tmp_path / "photo.png", sample_pictures()[0]).rename("photo.jpg")
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, document, "exec"), names)  # noqa: S102 - our own documents
    boxes = names["boxes"]
    assert isinstance(boxes, list) and boxes and boxes[0].class_name == "person"
    if "print" in "".join(blocks):
        assert f"{boxes[0].score} person" in capsys.readouterr().out
