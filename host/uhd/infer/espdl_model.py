"""Running .espdl files: the device's own code compiled for this machine, or the integer oracle without a compiler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uhd.codegen import generate
from uhd.device import detectors as device
from uhd.device.build import Component
from uhd.errors import ModelError, ToolMissingError
from uhd.espdl.reader import read_espdl
from uhd.files import sha256_bytes
from uhd.infer.engines import DeviceEngine
from uhd.infer.options import ModelOptions, check_integers
from uhd.manifest import ModelManifest, load_manifest
from uhd.paths import build_root

_WHAT = {
    "twin": "integers, device code on this machine",
    "oracle": "integers, oracle",
    "qemu": "integers, emulated device",
}


def open_espdl(path: Path, options: ModelOptions) -> DeviceEngine:
    """The engine of a quantized model, whose manifest lies beside it.

    Raises ``ModelError`` for a damaged file and one without its manifest, ``ConfigError`` for options that do not fit,
    ``ToolMissingError`` if the twin is asked for and there is no compiler.
    """
    data = path.read_bytes()
    model = read_espdl(path)
    manifest = _manifest(path, options.manifest)
    stated = manifest.quantization.espdl_sha256 if manifest.quantization else ""
    if stated and stated != sha256_bytes(data):
        raise ModelError(f"{path}: its manifest describes another file (sha256 differs)", hint="copy the pair again")
    check_integers(path, manifest, options)
    component = Component(build_root() / "infer" / sha256_bytes(data)[:16] / "uhd_model", path, manifest, path)
    if options.integers != "oracle":
        generate(model, data, manifest, component.folder)
        try:
            device.TwinDetector(component, device.Settings(0.5))  # compiles
            return DeviceEngine(lambda settings: device.TwinDetector(component, settings), manifest, _WHAT["twin"])
        except ToolMissingError:
            if options.integers == "twin":
                raise
    return DeviceEngine(lambda settings: device.OracleDetector(component, settings), manifest, _WHAT["oracle"])


@contextmanager
def open_target(target: str, component: Component) -> Iterator[DeviceEngine]:
    """The engine of a generated component on ``twin``, ``oracle`` or ``qemu``; an emulator is booted and ended."""
    manifest, what = component.manifest, _WHAT[target]
    if target == "twin":
        yield DeviceEngine(lambda settings: device.TwinDetector(component, settings), manifest, what)
    elif target == "oracle":
        yield DeviceEngine(lambda settings: device.OracleDetector(component, settings), manifest, what)
    else:
        with device.open_detector(target, component, device.Settings(manifest.score_threshold)) as emulated:
            assert isinstance(emulated, device.DeviceDetector)
            client, name = emulated.client, emulated.name
            yield DeviceEngine(
                lambda settings: device.DeviceDetector(client, name, settings, want_outputs=False), manifest, what
            )


def _manifest(path: Path, given: Path | None) -> ModelManifest:
    if given is not None:
        return load_manifest(given)
    try:
        return load_manifest(path.with_suffix(".json"))
    except ModelError as error:
        raise ModelError(
            f"{path}: without the manifest that tells its anchors and score ({error})",
            hint="`quantize` writes it beside the .espdl; copy both, or give --manifest FILE",
        ) from None
