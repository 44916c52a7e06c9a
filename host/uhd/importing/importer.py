"""``import_file``: a model made elsewhere becomes a checkpoint of ours, or an ONNX file with a manifest in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from uhd.errors import ConfigError, ModelError
from uhd.export.metadata import MANIFEST_KEY
from uhd.files import write_bytes
from uhd.importing.findings import Finding
from uhd.importing.from_checkpoint import model_from_checkpoint
from uhd.importing.from_onnx import ALL_MAPS, model_from_onnx
from uhd.importing.net import StrangerError
from uhd.importing.stated import colours_of
from uhd.importing.statistics import measure_statistics
from uhd.importing.verify import Comparison, compare
from uhd.manifest import ModelManifest
from uhd.models.checkpoint import manifest_path, save_checkpoint
from uhd.models.reference_checkpoint import Which
from uhd.quantize.calibration import from_photos
from uhd.quantize.maps import MAPS, Graph
from uhd.quantize.source import Source, agreed_manifest, manifest_of, read_source, run_float

#: What to make of a file: a checkpoint, an ONNX file with a manifest, or the first that is possible.
Kind = Literal["auto", "checkpoint", "onnx"]

#: First bytes of files that look importable and are not.
_OTHERS = {
    b"EDL2": "an .espdl file, whose integers are final; import the .onnx or .pt it was made from",
    b"TFL3": "a LiteRT file; import the .onnx or .pt it was made from",
}


@dataclass(frozen=True)
class Imported:
    """What an import wrote. ``verified`` says in words what was compared, ``comparison`` by how much it differs."""

    source: Path
    output: Path
    kind: Literal["checkpoint", "onnx"]
    manifest: ModelManifest
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    verified: str
    comparison: Comparison | None = None


def import_file(
    path: Path,
    output: Path,
    *,
    kind: Kind = "auto",
    which: Which = "auto",
    resize_mode: str | None = None,
    heads: int | None = None,
    photos: Path | None = None,
    force: bool = False,
) -> Imported:
    """Import ``path``, a published ``.pt`` or ONNX file, into ``output``; what it is decides its content.

    A checkpoint goes to ``output`` (``.safetensors``) with its manifest beside it. An ONNX file whose weights have no
    place in an architecture of ours is copied to ``output`` with the suffix ``.onnx``, with a manifest in its metadata
    (always with ``kind`` onnx, never with ``kind`` checkpoint). ``which`` chooses among the weights of a ``.pt``.
    ``photos`` is a folder to measure folded normalisations on, for those who want to train on.

    Raises ``ConfigError`` for options that do not fit and for an output that exists (unless ``force``), ``ModelError``
    for a file that is damaged, of another project, or that the imported model does not agree with. Nothing is written
    then.
    """
    data = _head(path)
    suffix = ".onnx" if kind == "onnx" else ".safetensors"
    if output.suffix != suffix:
        raise ConfigError(f"{output}: its name must end in {suffix}", hint=f"try {output.with_suffix(suffix)}")
    _check_free(output, path, force)
    for magic, what in _OTHERS.items():
        if magic in (data[:4], data[4:8]):
            raise ModelError(f"{path}: {what}")
    if data[8:9] == b"{":
        raise ModelError(f"{path}: a safetensors file", hint="a checkpoint of ours needs no import")
    if data.startswith((b"PK\x03\x04", b"\x80")):
        if kind == "onnx":
            raise ConfigError(f"{path}: a checkpoint, not an ONNX file", hint="leave --as out")
        if photos:
            raise ConfigError(f"{path}: a checkpoint has its statistics", hint="leave --photos out")
        return _import_checkpoint(path, output, which, resize_mode, heads)
    if kind == "onnx" and photos:
        raise ConfigError("--photos is for the weights of a checkpoint", hint="leave --photos or --as out")
    if which != "auto" or heads:
        raise ConfigError(f"{path}: an ONNX file leaves no choice", hint="leave --weights and --heads out")
    source = _source(path)
    if kind != "onnx":
        try:
            return _import_weights(source, output, resize_mode, photos)
        except StrangerError as error:
            reason = f"no architecture of ours ({error})"
        if kind == "checkpoint":
            raise ModelError(f"{path}: {reason}", hint="keep the file as it is with --as onnx")
        output = output.with_suffix(".onnx")
        _check_free(output, path, force)
        return _copy_onnx(path, output, resize_mode, (f"{reason}: copied as ONNX instead",))
    return _copy_onnx(path, output, resize_mode, ())


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(16)
    except OSError as error:
        raise ModelError(f"{path}: cannot read it ({error.strerror})", hint="check the path") from None


def _check_free(output: Path, source: Path, force: bool) -> None:
    for path in (output, manifest_path(output)) if output.suffix == ".safetensors" else (output,):
        if path.exists() and path.resolve() == source.resolve():
            raise ConfigError(f"{path}: this would replace the file to import", hint="choose another --output")
        if path.exists() and not force:
            raise ConfigError(f"{path}: exists", hint="choose another --output, or replace it with --force")


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{output}: cannot write there ({error.strerror})") from None


def _source(path: Path) -> Source:
    """The file cut at its maps, all of them. Raises ``ModelError`` for files of other kinds and other projects."""
    try:
        return read_source(path, ALL_MAPS)
    except ModelError:
        try:
            graph = Graph(onnx.load(path).graph)
        except Exception:  # whatever it is, it is not ONNX; the first error says so
            graph = None
        if graph is None or not graph.makers or graph.heads() or set(MAPS) & set(graph.outputs):
            raise
        outputs = ", ".join(graph.outputs[:3]) or "none"
    raise ModelError(
        f"{path}: not an UltraTinyOD, as no convolutions make maps of boxes and scores behind its outputs ({outputs})",
        hint="import reads .pt and .onnx files of the published detector",
    )


def _import_checkpoint(path: Path, output: Path, which: Which, resize_mode: str | None, heads: int | None) -> Imported:
    found = model_from_checkpoint(path, which=which, resize_mode=resize_mode, heads=heads)
    with _writing(output):
        manifest = save_checkpoint(output, found.model, found.manifest)
    verified = f"all {found.weights} tensors are those of the file"
    return Imported(path, output, "checkpoint", manifest, tuple(found.findings), tuple(found.notes), verified)


def _import_weights(source: Source, output: Path, resize_mode: str | None, photos: Path | None) -> Imported:
    found = model_from_onnx(source, resize_mode)
    if photos:
        pictures = from_photos(photos, found.manifest)
        count = measure_statistics(found.model, pictures.array)
        found.notes.append(f"statistics of {count} normalisations measured on {pictures.description}")
    elif found.folded:
        found.notes.append("normalisations were folded into the convolutions; to train on, import with --photos DIR")
    difference = compare(found.model, source)
    with _writing(output):
        manifest = save_checkpoint(output, found.model, found.manifest)
    findings, notes = tuple(found.findings), tuple(found.notes)
    verified = "its maps are those of the file in ONNX Runtime"
    return Imported(source.path, output, "checkpoint", manifest, findings, notes, verified, difference)


def _copy_onnx(path: Path, output: Path, resize_mode: str | None, notes: tuple[str, ...]) -> Imported:
    source = read_source(path)
    mode, how = colours_of(source, resize_mode)
    manifest = agreed_manifest(source, manifest_of(source, mode))
    run_float(source, np.random.default_rng(0).random(source.shape[1:], dtype=np.float32))
    model = onnx.load(path)
    kept = [prop for prop in model.metadata_props if prop.key != MANIFEST_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=MANIFEST_KEY, value=manifest.dumps())
    with _writing(output):
        write_bytes(output, model.SerializeToString(deterministic=True))
    findings = (Finding("resize mode", mode, how), Finding("score mode", manifest.score_mode, "from the graph"))
    return Imported(
        path, output, "onnx", manifest, findings, (*notes, *source.notes), "the graph is copied as it is, and runs"
    )
