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
from safetensors.numpy import load_file

from support.shared import ROOT
from uhd import zoo
from uhd.manifest import load_manifest
from uhd.variants import get_variant

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


SHIPPED_COLUMNS = [("esp32s3", "speed"), ("esp32s3", "precision"), ("esp32p4", "speed"), ("esp32p4", "precision")]


@pytest.mark.parametrize("letter", zoo.shipped_variants())
def test_accuracy_in_the_readme_is_the_manifests(letter: str) -> None:
    """Row of a variant: letter, width, parameters, float mAP@0.5 and mAP@0.5:0.95, then mAP@0.5 of the .espdl files."""
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(f"| {letter} |")]
    cells = [cell.strip() for cell in rows[-1].strip("|").split("|")]
    checkpoint = zoo.checkpoint_path(letter)
    accuracy = load_manifest(checkpoint.with_suffix(".json")).accuracy[0]
    expected = [letter, str(get_variant(letter).width), f"{parameters(checkpoint) / 1e6:.2f} M"]
    expected += [f"{accuracy.map50:.3f}", f"{accuracy.map50_95:.3f}"]
    for target, preset in SHIPPED_COLUMNS:
        shipped = zoo.shipped_espdl(letter, target, preset)
        assert shipped is not None and shipped.manifest.quantization is not None
        expected.append(f"{shipped.manifest.quantization.accuracy[0].map50:.3f}")
    assert cells == expected


def parameters(checkpoint: Path) -> int:
    """Weights that are learnt: statistics of normalisation and anchors are not."""
    fixed = ("running_mean", "running_var", "num_batches_tracked", "anchors")
    tensors = load_file(checkpoint).items()
    return sum(tensor.size for name, tensor in tensors if name.rpartition(".")[2] not in fixed)


def test_the_emulator_computes_what_the_table_says_of_c() -> None:
    """The parity example of the README shows variant R's figures."""
    shipped = zoo.shipped_espdl("R", "c", "speed")
    assert shipped is not None and shipped.manifest.quantization is not None
    measured = shipped.manifest.quantization.accuracy[0]
    rows = [line.split() for line in (ROOT / "README.md").read_text().splitlines()]
    for engine in ("twin", "qemu"):
        row = next(row for row in rows if row[:1] == [engine])
        assert row[1::2] == [f"{measured.map50:.4f}", f"{measured.map50_95:.4f}"]


def test_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
