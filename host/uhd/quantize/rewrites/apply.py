"""From a float ONNX file to a .espdl whose filters fit the cache, equal in every integer to the plain one."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from uhd.errors import ConfigError
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.export.graph import simplify
from uhd.manifest import ModelManifest
from uhd.quantize.adapter import Progress, Report, check_output, quantize_with_report, write_files
from uhd.quantize.rewrites.grid import exponents_of, int16_patterns_of, split_exponents
from uhd.quantize.rewrites.proof import Proof, prove
from uhd.quantize.rewrites.split import DEFAULT_LIMIT, Split, split_filters
from uhd.quantize.settings import Settings
from uhd.quantize.source import agreed_manifest, read_source

#: Pictures on which both forms are compared, unless told otherwise.
PROOF_PICTURES = 200


@dataclass(frozen=True)
class Outcome:
    """``report`` is that of the file written. ``before`` is the plain model, ``after`` the written one: the same where
    no filter exceeds the limit (``splits`` is empty then, and nothing had to be proved).
    """

    report: Report
    before: EspdlModel
    after: EspdlModel
    splits: tuple[Split, ...]
    proof: Proof


def quantize_split(
    source: Path,
    output: Path,
    calibration: NDArray[np.float32],
    manifest: ModelManifest,
    settings: Settings,
    progress: Progress | None = None,
    *,
    limit: int = DEFAULT_LIMIT,
    pictures: NDArray[np.float32] | None = None,
) -> Outcome:
    """Quantize ``source`` as ``quantize_with_report`` does, then again with filters of at most ``limit`` bytes.

    The second time every exponent is imposed that the first found. ``pictures`` [N, C, H, W] (default: the first
    ``PROOF_PICTURES`` of ``calibration``) go through both models.

    Raises ``ModelError`` if one integer differs, and whatever ``quantize_with_report`` raises; then nothing is written.
    """
    check_output(output)
    if settings.equalize:
        raise ConfigError(
            "filters cannot be split after layerwise equalization, which would balance the pieces differently",
            hint="leave out one of the two",
        )
    chosen = calibration[:PROOF_PICTURES] if pictures is None else pictures
    if not len(chosen):
        raise ConfigError("no pictures to compare the two models on", hint="give at least one")
    unwritten = dataclasses.replace(settings, export_anchors=False)
    with tempfile.TemporaryDirectory(prefix="uhd-split-") as name:
        folder = Path(name)
        first = quantize_with_report(source, folder / "plain.espdl", calibration, manifest, unwritten, progress)
        before = read_espdl(first.espdl, settings.target)
        checked = read_source(source)
        model = simplify(onnx.load_from_string(checked.onnx))
        bits = {node.name: node.bits for node in before.nodes if node.op == "Conv"}
        splits = split_filters(model, bits, limit)
        if not splits:
            note = f"no filter has more than {limit} bytes: nothing was split"
            return Outcome(_written(output, first, first, (note,), settings), before, before, (), Proof(0, 0, 0))
        onnx.save(model, folder / "split.onnx")
        again = dataclasses.replace(
            unwritten,
            patterns=int16_patterns_of(before, splits) if settings.bits == 8 else (),
            preset=None,
            exponents=split_exponents(exponents_of(before), splits),
        )
        second = quantize_with_report(
            folder / "split.onnx",
            folder / "split.espdl",
            calibration,
            agreed_manifest(checked, manifest),
            again,
            progress,
        )
        after = read_espdl(second.espdl, settings.target)
        proof = prove(before, after, splits, chosen, progress)
        report = _written(output, first, second, _notes(splits, limit), settings, _rewrites(splits))
    return Outcome(report, before, after, splits, proof)


def _rewrites(splits: Sequence[Split]) -> tuple[str, ...]:
    return tuple(
        f"{split.operator}: filter of {split.filter_bytes} bytes split into {len(split.parts)} convolutions"
        for split in splits
    )


def _notes(splits: Sequence[Split], limit: int) -> tuple[str, ...]:
    return tuple(
        f"{split.operator}: its smallest pieces still have {split.largest_bytes} bytes, beyond the limit of {limit}"
        for split in splits
        if split.largest_bytes > limit
    )


def _written(
    output: Path, first: Report, second: Report, notes: tuple[str, ...], settings: Settings,
    rewrites: tuple[str, ...] = (),
) -> Report:  # fmt: skip
    """Write the second model with what the first's manifest says of its making; the report of that."""
    made, plain = second.manifest.quantization, first.manifest.quantization
    assert made is not None and plain is not None
    quantization = made.model_copy(
        update={
            "preset": plain.preset,
            "calibration_algorithm": plain.calibration_algorithm,
            "rewrites": [*plain.rewrites, *rewrites],
        }
    )
    manifest = first.manifest.model_copy(update={"quantization": quantization})
    extra = write_files(output, second.espdl.read_bytes(), manifest, settings)
    return dataclasses.replace(
        second,
        espdl=output,
        manifest=manifest,
        notes=(*first.notes, *notes),
        seconds=first.seconds + (second.seconds if second is not first else 0.0),
        extra_files=extra,
    )
