"""What the README and guides show is what the commands print.

A fenced block marked ``console`` holds ``$ command`` lines and what they print. Lines must match in order; ``...``
alone on a line stands for any lines, and inside a line for any text. Blocks marked ``sh`` are only shown.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.shared import ROOT
from uhd import zoo
from uhd.manifest import load_manifest

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@dataclass(frozen=True)
class Example:
    """One command of a document with the output shown for it."""

    document: Path
    line: int
    command: str
    output: tuple[str, ...]


def examples() -> list[Example]:
    found = []
    for document in DOCUMENTS:
        lines = document.read_text().splitlines()
        index = 0
        while index < len(lines):
            if lines[index].strip() != "```console":
                index += 1
                continue
            index += 1
            while lines[index].strip() != "```":
                assert lines[index].startswith("$ "), f"{document}:{index + 1}"
                start, command = index, lines[index][2:]
                index += 1
                while command.endswith("\\"):
                    command = command[:-1] + lines[index].strip()
                    index += 1
                output = []
                while lines[index].strip() != "```" and not lines[index].startswith("$ "):
                    output.append(lines[index].rstrip())
                    index += 1
                found.append(Example(document, start + 1, command, tuple(output)))
    return found


def shown_pattern(output: tuple[str, ...]) -> re.Pattern[str]:
    """The regular expression of a shown output."""
    parts = []
    for line in output:
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            text = re.sub(r"\s+", " ", line.strip())
            parts.append(".*?".join(re.escape(piece) for piece in text.split("...")) + r" ?\n")
    return re.compile("".join(parts))


def squeeze(text: str) -> str:
    """Runs of blanks as one, so that column widths do not matter."""
    return "".join(re.sub(r"\s+", " ", line.strip()) + "\n" for line in text.splitlines())


@pytest.mark.parametrize("example", examples(), ids=lambda e: f"{e.document.name}:{e.line}")
def test_example(example: Example, tmp_path_factory: pytest.TempPathFactory) -> None:
    scratch = tmp_path_factory.getbasetemp() / "readme"
    scratch.mkdir(exist_ok=True)
    words = shlex.split(example.command)
    if words[0] == "python":
        words[0] = sys.executable
    environment = os.environ | {"UHD_BUILD": str(scratch / "build"), "COLUMNS": "160"}
    link = scratch / "host"
    if not link.exists():
        link.symlink_to(ROOT / "host")
    done = subprocess.run(words, capture_output=True, text=True, cwd=scratch, env=environment)
    assert done.returncode == 0, done.stderr
    assert shown_pattern(example.output).fullmatch(squeeze(done.stdout)), (
        f"{example.document.name}:{example.line} shows something else than\n{done.stdout}"
    )


def test_there_are_examples() -> None:
    assert len([e for e in examples() if e.document.name == "README.md"]) >= 3


def test_accuracy_in_the_readme_is_the_manifests() -> None:
    text = (ROOT / "README.md").read_text()
    accuracy = load_manifest(zoo.checkpoint_path("R").with_suffix(".json")).accuracy[0]
    assert f"{accuracy.map50:.3f}" in text and f"{accuracy.map50_95:.3f}" in text
    for target in ("c", "esp32s3", "esp32p4"):
        for preset in ("speed", "precision"):
            shipped = zoo.shipped_espdl("R", target, preset)
            assert shipped is not None and shipped.manifest.quantization is not None
            measured = shipped.manifest.quantization.accuracy[0]
            row = next(line for line in text.splitlines() if line.startswith(f"| {target} {preset} |"))
            assert f"{measured.map50:.3f}" in row and f"{measured.map50_95:.3f}" in row


def test_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
