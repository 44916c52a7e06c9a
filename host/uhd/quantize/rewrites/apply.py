"""Rewriting a .espdl file: integers in, the same integers out. No photos are needed, and nothing is quantized again."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ConfigError
from uhd.espdl.document import read_document, write_document
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.manifest import ModelManifest
from uhd.quantize.adapter import Progress, Report, check_output, quantize_with_report, write_files
from uhd.quantize.calibration import from_scenes
from uhd.quantize.rewrites.merge import merge_requantizations
from uhd.quantize.rewrites.names import Names, shorten_names
from uhd.quantize.rewrites.pad import pad_channels
from uhd.quantize.rewrites.proof import Proof, prove
from uhd.quantize.rewrites.split import DEFAULT_LIMIT, Split, split_filters
from uhd.quantize.settings import Settings

#: Pictures on which both forms of a model are compared, unless told otherwise: photos where there are some, ...
PROOF_PICTURES = 200
#: ... else generated scenes. The constants are compared in any case.
PROOF_SCENES = 2


@dataclass(frozen=True)
class Options:
    """``filter_limit``: bytes of a filter above which it is split (0: none is). ``pad_channels``: to whole vector
    registers. ``short_names``: numbers instead of names. ``test_vectors``: keep the embedded ones. With one of the
    first two, equal changes of width are merged, too."""

    filter_limit: int = 0
    pad_channels: bool = False
    short_names: bool = False
    test_vectors: bool = True


@dataclass(frozen=True)
class Rewritten:
    """``data``: the new file. ``after`` is what it holds; ``before``, what the old one held. ``padded``: the channels
    that padded tensors of ``before`` have there. ``merged``: tensors that are gone, and those equal to them.
    ``names``: empty unless shortened. ``proof``: what was compared."""

    data: bytes
    before: EspdlModel
    after: EspdlModel
    padded: Mapping[str, int]
    merged: Mapping[str, str]
    splits: tuple[Split, ...]
    names: Names
    proof: Proof


@dataclass(frozen=True)
class Outcome(Rewritten):
    """Of a quantization: ``report`` is that of the file written."""

    report: Report


def rewrite(
    data: bytes,
    target: str,
    options: Options,
    pictures: NDArray[np.float32],
    progress: Progress | None = None,
) -> Rewritten:
    """Rewrite a .espdl file, and compare both forms on ``pictures`` (float32 [N, C, H, W] in 0..1).

    Where nothing is to be done, the file comes back byte by byte. Raises ``ModelError`` if one integer differs, or if
    the file cannot be rewritten; ``ConfigError`` for no pictures or a limit that is none.
    """
    if not len(pictures):
        raise ConfigError("no pictures to compare the two models on", hint="give at least one")
    before = read_espdl(data, target)
    document = read_document(data)
    graph = document["graph"]
    merged = merge_requantizations(document) if options.filter_limit or options.pad_channels else {}
    padded = pad_channels(document, target) if options.pad_channels else {}
    splits = split_filters(document, options.filter_limit) if options.filter_limit else ()
    dropped = [] if options.test_vectors else [part for part in ("test_inputs", "test_outputs") if graph.pop(part, [])]
    names = shorten_names(document) if options.short_names else Names({}, {})
    if not (merged or padded or splits or dropped or options.short_names):
        return Rewritten(data, before, before, {}, {}, (), names, Proof(0, 0, 0))
    made = write_document(document)
    after = read_espdl(made, target)
    proof = prove(before, after, splits, pictures, progress, names, padded, merged)
    return Rewritten(made, before, after, padded, merged, splits, names, proof)


def rewritten_manifest(manifest: ModelManifest, made: Rewritten) -> ModelManifest:
    """The manifest of a model for its rewritten form. Operators keep the names by which the float model knows them."""
    plain = manifest.quantization
    assert plain is not None, "the model is quantized"
    parts = {split.operator: split.parts if split.merged else (*split.parts, split.concat) for split in made.splits}
    int16 = [new for name in plain.int16_operators for new in parts.get(name, (name,))]
    update = {
        "espdl_sha256": made.after.sha256,
        "int16_operators": int16,
        "rewrites": [*plain.rewrites, *rewrites_of(made)],
    }
    return manifest.model_copy(update={"quantization": plain.model_copy(update=update)})


def rewrites_of(made: Rewritten) -> list[str]:
    """What was done, one line each, for the manifest."""
    activations = [name for name in made.padded if made.before.tensors[name].data is None]
    lines = [f"channels of {len(activations)} activations padded to whole blocks"] if activations else []
    if made.merged:
        lines.append(f"repeated changes of width left out: {len(made.merged)}")
    lines += [
        f"{split.operator}: filter of {split.filter_bytes} bytes split into {len(split.parts)} convolutions"
        for split in made.splits
    ]
    if made.names.operators:
        lines.append(f"{len(made.names.operators)} operators and {len(made.names.tensors)} tensors have short names")
    if made.before.test_inputs and not made.after.test_inputs:
        lines.append("test vectors left out")
    return lines


def rewrite_file(
    espdl: Path, manifest: ModelManifest, output: Path, options: Options, progress: Progress | None = None
) -> tuple[Rewritten, ModelManifest]:
    """Rewrite ``espdl`` to ``output`` with its manifest beside it, compared on generated scenes; both, or neither."""
    check_output(output)
    assert manifest.quantization is not None, "the model is quantized"
    target = manifest.quantization.target
    made = rewrite(espdl.read_bytes(), target, options, from_scenes(manifest, PROOF_SCENES).array, progress)
    complete = rewritten_manifest(manifest, made)
    write_files(output, made.data, complete, Settings(target))
    return made, complete


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
    """Quantize ``source`` as ``quantize_with_report`` does, and split filters of more than ``limit`` bytes.

    ``pictures`` [N, C, H, W] (default: the first ``PROOF_PICTURES`` of ``calibration``) go through both forms.

    Raises ``ModelError`` if one integer differs, and whatever ``quantize_with_report`` raises; then nothing is written.
    """
    check_output(output)
    chosen = calibration[:PROOF_PICTURES] if pictures is None else pictures
    if not len(chosen):
        raise ConfigError("no pictures to compare the two models on", hint="give at least one")
    with tempfile.TemporaryDirectory(prefix="uhd-split-") as name:
        unwritten = dataclasses.replace(settings, export_anchors=False)
        plain = Path(name) / "plain.espdl"
        first = quantize_with_report(source, plain, calibration, manifest, unwritten, progress)
        made = rewrite(plain.read_bytes(), settings.target, Options(filter_limit=limit), chosen, progress)
    complete = rewritten_manifest(first.manifest, made)
    report = dataclasses.replace(
        first,
        espdl=output,
        manifest=complete,
        findings=tuple(f for f in first.findings if not _settled(f.rule, f.operator, made.splits, limit)),
        notes=(*first.notes, *split_notes(made.splits, limit)),
        size_bytes=len(made.data),
        extra_files=write_files(output, made.data, complete, settings),
    )
    return Outcome(**vars(made), report=report)


def split_notes(splits: Sequence[Split], limit: int) -> tuple[str, ...]:
    """What is left to say of a limit: that nothing exceeds it, or that a piece still does."""
    if not splits:
        return (f"no filter has more than {limit} bytes: nothing was split",)
    return tuple(
        f"{split.operator}: its smallest pieces still have {split.largest_bytes} bytes, beyond the limit of {limit}"
        for split in splits
        if split.largest_bytes > limit
    )


def _settled(rule: str, operator: str, splits: Sequence[Split], limit: int) -> bool:
    """Whether a finding is of a filter's size that is no more."""
    return rule == "filter-size" and any(s.operator == operator and s.largest_bytes <= limit for s in splits)
