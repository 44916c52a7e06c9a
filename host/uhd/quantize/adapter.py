"""From a float ONNX file and pictures to a .espdl file with its manifest: esp-ppq behind one function.

Facts about esp-ppq 1.3.12 that this room hides: it overwrites its input file, its bytes depend on Python's hash seed,
its float32 simulation of int16 is off by up to 3 units (the float64 mode is exact), and it prints without end.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd import __version__
from uhd.errors import ConfigError, ModelError, UhdError
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl
from uhd.files import atomic_path
from uhd.manifest import ModelManifest, Quantization, TensorSpec
from uhd.quantize import accumulators, child, lints
from uhd.quantize.calibration import array_sha256, check_array
from uhd.quantize.job import Job, JobFolder
from uhd.quantize.lints import Finding
from uhd.quantize.presets import Preset, resolve_preset
from uhd.quantize.settings import Settings
from uhd.quantize.source import agreed_manifest, read_source, run_float
from uhd.quantize.trained import Exponents, choose_exponents, require_exponents, without_exponents
from uhd.targets import TARGETS

#: Called with a step's name, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]

_OTHER_PLACE = "choose another output"

#: Pictures on which the sums of a 20-bit accumulator are measured.
RANGE_PICTURES = 8


@dataclass(frozen=True)
class Report:
    """What came out. ``vectors`` counts the integers of the embedded test vectors that the oracle was compared with
    (0: none embedded, or not runnable), ``mismatches`` those that differ.
    """

    espdl: Path
    manifest: ModelManifest
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    vectors: int
    mismatches: int
    seconds: float
    size_bytes: int = 0
    extra_files: tuple[Path, ...] = field(default=())


def quantize_onnx(
    onnx: Path,
    output: Path,
    *,
    target: str,
    calibration: NDArray[np.float32],
    manifest: ModelManifest,
    patterns: Sequence[str] = (),
    algorithm: str = "kl",
    bits: int = 8,
    preset: Preset | str | None = None,
    calibration_note: str = "",
    progress: Progress | None = None,
    int16_algorithm: str = "minmax",
    equalize: bool = False,
    test_vectors: bool = True,
    export_anchors: bool = False,
    exponents: Exponents | None = None,
) -> ModelManifest:
    """Quantize an ONNX file of any flavour; write ``output`` (.espdl) and its manifest ``<output stem>.json``.

    ``calibration`` is float32 [N, C, H, W] in 0..1; its first picture becomes the embedded test vector. ``preset`` is
    a ``Preset`` or its name. The other arguments are the fields of ``Settings``. Equal inputs give equal bytes.

    Returns ``manifest`` with its ``quantization`` filled in. Raises ``ConfigError`` or ``ModelError``, and then
    leaves nothing behind; a file that was there before keeps its content.
    """
    if isinstance(preset, str):
        preset = resolve_preset(preset, manifest.variant)
    settings = Settings(
        target, tuple(patterns), preset, algorithm, int16_algorithm, bits, equalize, test_vectors, export_anchors,
        calibration_note, exponents,
    )  # fmt: skip
    return quantize_with_report(onnx, output, calibration, manifest, settings, progress).manifest


def quantize_with_report(
    onnx: Path,
    output: Path,
    calibration: NDArray[np.float32],
    manifest: ModelManifest,
    settings: Settings,
    progress: Progress | None = None,
    *,
    structure_only: bool = False,
) -> Report:
    """As ``quantize_onnx``, and also says what the lints and the comparison with the oracle found.

    ``structure_only`` is for those who look at which tensors share a scale: scales that need not be equal differ, so
    that every possible RequantizeLinear is there, and the numbers mean nothing. Nothing is checked then.
    """
    started = time.monotonic()
    settings.check()
    check_output(output)
    source = read_source(onnx, manifest.score_mode)
    pictures = check_array(calibration, source.shape)
    manifest = agreed_manifest(source, manifest)
    expected = run_float(source, pictures[0])
    exponents, chosen = choose_exponents(manifest, settings)
    with tempfile.TemporaryDirectory(prefix="uhd-quantize-") as name:
        folder = JobFolder(Path(name))
        folder.write(_job(settings, manifest, exponents, structure_only), source.onnx, pictures, expected)
        answer = child.run(folder, onnx, progress)
        data = folder.espdl.read_bytes()
    try:
        model = read_espdl(data, settings.target)
    except ModelError as error:
        reason = str(error).removeprefix("<bytes>: ")
        raise ModelError(f"{onnx}: what esp-ppq made of it cannot be used: {reason}") from None
    if exponents is not None:
        require_exponents(model, exponents, str(onnx))
    findings = [] if structure_only else _findings(model, pictures, progress)
    vectors, mismatches, remark = compare_vectors(model)
    if mismatches:
        findings.append(Finding(
            "warning", "", f"{mismatches} of {vectors} integers of esp-ppq's simulation differ from the file's meaning",
            "trust the file: the device computes what the oracle does", "simulation",
        ))  # fmt: skip
    _refuse_errors(onnx, findings)
    complete = _extend(manifest, settings, model, pictures, answer.rewrites, exponents is not None)
    written = write_files(output, data, complete, settings)
    return Report(
        output,
        complete,
        tuple(lints.sort_findings(findings)),
        source.notes + answer.notes + tuple(text for text in (chosen, remark) if text),
        vectors,
        mismatches,
        time.monotonic() - started,
        len(data),
        written,
    )


def _job(settings: Settings, manifest: ModelManifest, exponents: Exponents | None, structure_only: bool) -> Job:
    metadata = {"uhd_name": manifest.name, "uhd_target": settings.target, "uhd_weights_sha256": manifest.weights_sha256}
    return Job(
        settings.target,
        settings.patterns,
        settings.preset,
        settings.algorithm,
        settings.int16_algorithm,
        settings.bits,
        settings.equalize,
        settings.test_vectors,
        {key: value for key, value in metadata.items() if value},
        exponents,
        structure_only,
        settings.bias_correction,
        settings.tqt_steps,
        settings.tqt_rate,
    )


def _findings(model: EspdlModel, pictures: NDArray[np.float32], progress: Progress | None) -> list[Finding]:
    findings = [*lints.check(model), *accumulators.bound_findings(model)]
    if pictures.min() < 0 or pictures.max() > 1:
        findings.append(Finding(
            "warning", "", f"calibration values reach from {pictures.min():g} to {pictures.max():g}",
            "network inputs are 0 to 1: divide 8-bit pictures by 255", "calibration-range",
        ))  # fmt: skip
    if any(finding.severity == "error" for finding in findings):
        return findings  # sums of a model that cannot run are beside the point
    limited = list(accumulators.limited_convolutions(model))
    if not limited:
        return findings
    chosen = pictures[:: max(1, len(pictures) // RANGE_PICTURES)][:RANGE_PICTURES]
    inputs = [quantize_input(model, picture) for picture in chosen]
    if progress is not None:
        progress("check sums", 0, len(inputs))
    try:
        ranges = accumulators.measure(model, inputs, lambda m, i: oracle.run(m, i, keep_all=True))
    except ModelError as error:
        findings.append(Finding(
            "warning", "", f"the sums could not be measured ({error})", "check them on the device", "accumulator-range",
        ))  # fmt: skip
        return findings
    return findings + accumulators.range_findings(model, ranges, len(inputs))


def quantize_input(model: EspdlModel, picture: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """A network input [C, H, W] as the model's integers [1, H, W, C], by input name."""
    tensor = model.tensors[model.inputs[0]]
    scaled = picture.transpose(1, 2, 0)[None].astype(np.float64) * 2.0**-tensor.exponent
    half_up = TARGETS[model.target].rounding == "half_up"
    rounded = np.floor(scaled + 0.5) if half_up else np.rint(scaled)
    limits = np.iinfo(tensor.dtype)
    return {tensor.name: rounded.clip(limits.min, limits.max).astype(tensor.dtype)}


def compare_vectors(model: EspdlModel) -> tuple[int, int, str]:
    """(integers compared, integers that differ, remark) of the oracle against the embedded test vectors."""
    if not model.test_inputs or not model.test_outputs:
        return 0, 0, ""
    try:
        results = oracle.run(model, model.test_inputs, keep_all=True)
    except UhdError as error:
        return 0, 0, f"not compared with the oracle: {error}"
    compared = sum(vector.size for vector in model.test_outputs.values())
    differ = sum(
        int(np.count_nonzero(results[name].reshape(-1) != vector.reshape(-1)))
        for name, vector in model.test_outputs.items()
    )
    return compared, differ, ""


def _refuse_errors(onnx: Path, findings: Sequence[Finding]) -> None:
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        where = f"{errors[0].operator}: " if errors[0].operator else ""
        raise ModelError(f"{onnx}: {where}{errors[0].message}{more}", hint=errors[0].way_out)


def _spec(model: EspdlModel, name: str) -> TensorSpec:
    tensor = model.tensors[name]
    if tensor.dtype == "int8":
        return TensorSpec(name=name, shape=list(tensor.shape), dtype="int8", exponent=tensor.exponent)
    if tensor.dtype == "int16":
        return TensorSpec(name=name, shape=list(tensor.shape), dtype="int16", exponent=tensor.exponent)
    raise ModelError(f"tensor {name} is {tensor.dtype} after quantization", hint="export the model without that part")


def _extend(
    manifest: ModelManifest,
    settings: Settings,
    model: EspdlModel,
    pictures: NDArray[np.float32],
    rewrites: tuple[str, ...],
    trained: bool,
) -> ModelManifest:
    int16 = [node.name for node in model.nodes if node.bits == 16 and node.op != "RequantizeLinear"]
    algorithm = settings.algorithm
    if int16 and settings.int16_algorithm != algorithm:
        algorithm = f"{algorithm}, int16 {settings.int16_algorithm}"
    if trained:
        algorithm = "none: exponents " + ("found by training" if settings.exponents is None else "given")
    quantization = Quantization(
        target=settings.target,
        preset=settings.preset.name if settings.preset else None,
        bits=settings.bits,
        int16_operators=int16,
        calibration=settings.calibration_note or f"{len(pictures)} pictures",
        calibration_algorithm=algorithm,
        calibration_sha256=array_sha256(pictures),
        calibration_images=len(pictures),
        inputs=[_spec(model, name) for name in model.inputs],
        outputs=[_spec(model, name) for name in model.outputs],
        espdl_sha256=model.sha256,
        rewrites=[*rewrites, *settings.weight_changes],
    )
    manifest = without_exponents(manifest)
    return manifest.model_copy(update={"quantization": quantization, "tool_version": __version__})


def write_files(output: Path, data: bytes, manifest: ModelManifest, settings: Settings) -> tuple[Path, ...]:
    """All files, or none: every one is complete under a temporary name before the first gets its own."""
    arrays: dict[Path, NDArray[np.float32]] = {}
    if settings.export_anchors:
        for key, pairs in (("anchors", manifest.anchors), ("wh_scale", manifest.wh_scale)):
            if pairs:
                folder = settings.anchors_folder or output.parent
                arrays[folder / f"{output.stem}_{key}.npy"] = np.asarray(pairs, np.float32)
    files = (output, output.with_suffix(".json"), *arrays)
    new = [path for path in files if not path.exists()]
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(atomic_path(output)).write_bytes(data)
            stack.enter_context(atomic_path(output.with_suffix(".json"))).write_text(manifest.dumps(), "utf-8")
            for path, values in arrays.items():
                with stack.enter_context(atomic_path(path)).open("wb") as stream:
                    np.save(stream, values, allow_pickle=False)
    except OSError as error:
        for path in new:
            path.unlink(missing_ok=True)
        raise ConfigError(f"{output}: cannot write it ({error.strerror or error})", hint=_OTHER_PLACE) from error
    return tuple(arrays)


def check_output(output: Path) -> None:
    """Raises ``ConfigError`` if ``output`` is not a place for a .espdl file; minutes pass before it is written."""
    if output.suffix != ".espdl":
        raise ConfigError(f"{output}: the output's name must end in .espdl")
    folder = next(parent for parent in output.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ConfigError(f"{output}: cannot write it ({folder} is not a folder)", hint=_OTHER_PLACE)
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{output}: cannot write it (no permission in {folder})", hint=_OTHER_PLACE)
