"""From a variant or checkpoint to a generated component: pick or make the .espdl, then generate code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from uhd import zoo
from uhd.errors import ConfigError, DataError, ModelError
from uhd.files import sha256_file, write_bytes
from uhd.manifest import ModelManifest
from uhd.paths import build_root, committed_component
from uhd.targets import quantization_target
from uhd.variants import get_variant

if TYPE_CHECKING:
    from uhd.codegen.describe import Description
    from uhd.quantize.rewrites.apply import Rewritten

#: Short preset names; the long form is ``<variant>-<preset>``.
DEFAULT_PRESET = "speed"

#: Name of the model package in a chip's build folder.
PACKAGE = "model.uhdm"

#: Scenes drawn for calibration when no photos are given.
SCENES = 256

Note = Callable[[str], None]

#: A quantized model: the .espdl, its manifest, the float checkpoint.
Selected = tuple[Path, ModelManifest, Path]


@dataclass(frozen=True)
class Request:
    """What to build. ``target`` is qemu, esp32s3 or esp32p4; ``preset`` as of ``uhd.quantize.presets``.

    The last four say what is changed in the quantized model before it is used, as in
    ``uhd.quantize.rewrites.apply.Options``: bytes of a filter above which it is split (0: none is), and whether
    channels are padded, names shortened and test vectors kept.
    """

    variant: str
    target: str
    preset: str = DEFAULT_PRESET
    checkpoint: Path | None = None
    calibration: Path | None = None
    calibration_images: int = 256
    filter_limit: int = 0
    pad_channels: bool = False
    short_names: bool = False
    test_vectors: bool = True

    @property
    def name(self) -> str:
        """Folder name of the build: ``R-esp32s3-speed``, ``A-esp32s3-speed-split48k``."""
        return "-".join([self.variant.upper(), self.target, short_preset(self.variant, self.preset), *self.rewrites])

    @property
    def rewrites(self) -> list[str]:
        """Short names of what is changed."""
        size = f"{self.filter_limit // 1024}k" if self.filter_limit % 1024 == 0 else str(self.filter_limit)
        found = {
            f"split{size}": self.filter_limit, "padded": self.pad_channels, "short": self.short_names,
            "bare": not self.test_vectors,
        }  # fmt: skip
        return [name for name, wanted in found.items() if wanted]


@dataclass(frozen=True)
class Component:
    """A generated component with what it was made from. ``package``: the same model as a file to flash, for chips."""

    folder: Path
    espdl: Path
    manifest: ModelManifest
    checkpoint: Path
    package: Path | None = None

    @property
    def espdl_sha256(self) -> str:
        """The hash that the device reports."""
        return sha256_file(self.espdl)

    def onnx(self) -> Path:
        """The float model as parts ONNX, exported once per checkpoint content."""
        return float_onnx(self.checkpoint)


def short_preset(variant: str, preset: str) -> str:
    """The preset's name within the variant: ``R-Speed``, ``speed`` and ``int8`` all give ``speed``.

    Raises ``ConfigError`` for an unknown preset and for one of another variant.
    """
    from uhd.quantize.presets import resolve_preset

    letter, dash, _ = preset.partition("-")
    if dash and len(letter) == 1 and letter.upper() != variant.upper():
        raise ConfigError(f"preset {preset} belongs to variant {letter.upper()}, not {variant.upper()}")
    resolved = resolve_preset(preset, get_variant(variant).letter)
    return resolved.name.partition("-")[2].lower() if resolved.operators else DEFAULT_PRESET


def float_onnx(checkpoint: Path) -> Path:
    """Parts ONNX of a checkpoint, in the build folder, made when its content has not been exported before."""
    path = build_root() / "onnx" / f"{checkpoint.stem}-{sha256_file(checkpoint)[:16]}.onnx"
    if not path.exists():
        from uhd.export.onnx_export import export_onnx
        from uhd.models.checkpoint import load_ultratinyod

        model, manifest = load_ultratinyod(checkpoint)
        path.parent.mkdir(parents=True, exist_ok=True)
        export_onnx(model, manifest, path, flavour="parts")
    return path


def select_espdl(request: Request, note: Note = lambda text: None) -> Selected:
    """The quantized model of a request: (.espdl, its manifest, the float checkpoint).

    The shipped file is used unless a checkpoint or calibration photos are given; then it is quantized afresh,
    and ``note`` hears on what. Either is rewritten as the request says, into the build folder.
    """
    found = quantized_espdl(request, note)
    return rewritten_espdl(request, found, note)[0] if request.rewrites else found


def quantized_espdl(request: Request, note: Note = lambda text: None) -> Selected:
    """The same before it is rewritten."""
    variant = get_variant(request.variant)
    target = quantization_target(request.target)
    preset = short_preset(variant.letter, request.preset)
    checkpoint = request.checkpoint or zoo.checkpoint_path(variant.letter)
    if request.checkpoint is None and request.calibration is None:
        shipped = zoo.shipped_espdl(variant.letter, target.name, preset)
        if shipped is not None:
            quantization = shipped.manifest.quantization
            note(f"shipped {shipped.path.name}, calibrated on {quantization.calibration if quantization else '?'}")
            return shipped.path, shipped.manifest, checkpoint
    return _quantize(request, checkpoint, preset, note)


def rewritten_espdl(request: Request, found: Selected, note: Note = lambda text: None) -> tuple[Selected, Rewritten]:
    """What ``quantized_espdl`` found, rewritten into the build folder, and what was done; ``note`` hears it, too.

    Needs no photos: the integers of both forms are compared one by one, and on generated scenes. Raises ``ModelError``
    if one differs; then nothing is written.
    """
    from uhd.quantize.rewrites.apply import Options, rewrite_file, rewrites_of, split_notes

    espdl, manifest, checkpoint = found
    output = build_root() / request.name / f"{'_'.join([espdl.stem, *request.rewrites])}.espdl"
    options = Options(request.filter_limit, request.pad_channels, request.short_names, request.test_vectors)
    made, rewritten = rewrite_file(espdl, manifest, output, options)
    for text in (*rewrites_of(made), *(split_notes(made.splits, request.filter_limit) if request.filter_limit else ())):
        note(text)
    if made.proof.pictures:
        note(f"equal: {made.proof}")
    return (output, rewritten, checkpoint), made


def _quantize(request: Request, checkpoint: Path, preset: str, note: Note) -> Selected:
    from uhd.models.checkpoint import load_ultratinyod
    from uhd.quantize import adapter, calibration
    from uhd.quantize.presets import resolve_preset

    if not checkpoint.exists():
        raise DataError(f"{checkpoint}: no such checkpoint", hint="pass a .safetensors written by `uhd.host train`")
    _, manifest = load_ultratinyod(checkpoint)
    if manifest.variant and manifest.variant.upper() != request.variant.upper():
        raise ConfigError(f"{checkpoint}: holds variant {manifest.variant}, but --variant is {request.variant}")
    if request.calibration is not None:
        images = calibration.from_photos(request.calibration, manifest, request.calibration_images)
    else:
        images = calibration.from_scenes(manifest, SCENES)
        note("calibrating on generated scenes; pass --calibration DIR with photos for the accuracy of a real model")
    target = quantization_target(request.target)
    output = build_root() / request.name / f"{checkpoint.stem}_{target.name}_{preset}.espdl"
    quantized = adapter.quantize_onnx(
        float_onnx(checkpoint),
        output,
        target=target.name,
        calibration=images.array,
        calibration_note=images.description,
        preset=resolve_preset(preset, request.variant),
        manifest=manifest,
    )
    note(f"quantized afresh on {images.description}")
    return output, quantized, checkpoint


def generate_component(
    request: Request,
    espdl: Path,
    manifest: ModelManifest,
    checkpoint: Path,
    folder: Path | None = None,
    note: Note = lambda text: None,
) -> Component:
    """Write the component for a quantized model, and for a chip its package into the build folder.

    For a chip it goes where ``idf.py`` finds it, the chip's folder in ``firmware/components/uhd_model``; for the
    emulator into the build folder, so that the committed components stay as they are. ``note`` hears why a model
    has no package.
    """
    from uhd.codegen import generate
    from uhd.espdl.reader import read_espdl

    emulated = request.target == "qemu"
    if folder is None:
        folder = build_root() / request.name / "uhd_model" if emulated else committed_component(request.target)
    data = espdl.read_bytes()
    model = read_espdl(data, quantization_target(request.target).name)
    about = generate(model, data, manifest, folder)
    package = None if emulated else _write_package(request, about, data, manifest, note)
    return Component(folder, espdl, manifest, checkpoint, package)


def _write_package(
    request: Request, about: Description, espdl_bytes: bytes, manifest: ModelManifest, note: Note
) -> Path | None:
    from uhd.codegen.package import package_bytes

    path = build_root() / request.name / PACKAGE
    try:
        write_bytes(path, package_bytes(about, espdl_bytes, manifest))
    except ModelError as error:
        path.unlink(missing_ok=True)  # an earlier model's
        note(f"no {PACKAGE}: {error}")
        return None
    return path


def prepare_component(request: Request, note: Note = lambda text: None, folder: Path | None = None) -> Component:
    """``select_espdl`` and ``generate_component`` in one step."""
    return generate_component(request, *select_espdl(request, note), folder=folder, note=note)
