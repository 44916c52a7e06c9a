from __future__ import annotations

import os
import subprocess
import sys

MODULES = [
    "image.colour",
    "image.resize",
    "image.yuyv",
    "image.draw",
    "image.files",
    "data.yolo",
    "data.cache",
    "data.synthetic",
    "data.anchors",
    "detect.decode",
    "detect.heads",
    "detect.nms",
    "detect.coco",
]


def test_no_torch_and_no_hotcoco_until_they_are_used() -> None:
    imports = "; ".join(f"import uhd.{name}" for name in MODULES)
    program = f"{imports}; import sys; print(sorted({{'torch', 'hotcoco'}} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert found.stdout.strip() == "[]"
