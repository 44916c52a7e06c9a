"""Checkpoints: safetensors with a manifest beside it; published ``.pt`` files load too."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from uhd.errors import ModelError
from uhd.files import sha256_bytes, write_bytes
from uhd.manifest import ModelManifest, load_manifest
from uhd.models.architectures import parse_options
from uhd.models.build import model_of
from uhd.models.detector import Detector
from uhd.models.reference_checkpoint import import_reference, read_reference
from uhd.models.ultratinyod import UltraTinyOD
from uhd.models.weights import WeightReport, complete_manifest, first_line, load_weights

__all__ = [
    "WeightReport",
    "complete_manifest",
    "import_reference",
    "load_checkpoint",
    "load_ultratinyod",
    "load_weights",
    "manifest_path",
    "read_weights",
    "save_checkpoint",
]

#: Files that ``torch.load`` reads: a zip archive, or the older plain stream.
_TORCH_MAGIC = (b"PK\x03\x04", b"\x80\x02")


def manifest_path(checkpoint: Path) -> Path:
    """The manifest that belongs to a checkpoint of ours: same place, suffix ``.json``."""
    return checkpoint.with_suffix(".json")


def save_checkpoint(path: Path, model: Detector, manifest: ModelManifest) -> ModelManifest:
    """Write weights to ``path`` (safetensors) and the completed manifest beside it; returns that manifest.

    Both are replaced atomically, the manifest last; it holds the sha256 of the weights file.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    data = tensors_to_bytes(tensors)
    manifest = complete_manifest(model, manifest).model_copy(update={"weights_sha256": sha256_bytes(data)})
    write_bytes(path, data)
    manifest.save(manifest_path(path))
    return manifest


def load_checkpoint(path: Path, *, heads: int | None = None, strict: bool = True) -> tuple[Detector, ModelManifest]:
    """Read a checkpoint of ours, or a published ``.pt``, by content; the model is on the CPU, in evaluation mode.

    ``heads`` is the number of attention heads of a published transformer, whose file does not tell it (None: 4). Not
    ``strict``, weights may be missing (those of the model stay random) or unknown.
    Raises ``ModelError`` (one line) if the file is missing, damaged, of an unknown architecture, or at odds with its
    manifest.
    """
    data = _read(path)
    if _is_torch(data):
        return import_reference(path, heads=heads, strict=strict)
    tensors = _tensors(data, path)
    manifest = load_manifest(manifest_path(path))
    if manifest.weights_sha256 != sha256_bytes(data):
        raise ModelError(
            f"{path}: its manifest {manifest_path(path).name} describes other weights (sha256 differs)",
            hint="restore the pair from one run",
        )
    config = parse_options(manifest.architecture, manifest.options, str(manifest_path(path)), ModelError)
    model = model_of(config)
    load_weights(model, tensors, str(path), strict=strict)
    return model.eval(), manifest


def load_ultratinyod(path: Path) -> tuple[UltraTinyOD, ModelManifest]:
    """``load_checkpoint`` for those who quantize and deploy. Raises ``ModelError`` for other architectures."""
    model, manifest = load_checkpoint(path)
    if not isinstance(model, UltraTinyOD):
        raise ModelError(f"{path}: holds architecture {model.config.arch!r}", hint="only 'ultratinyod' goes to devices")
    return model, manifest


def read_weights(path: Path) -> dict[str, Tensor]:
    """The weights alone of a checkpoint of ours or a published ``.pt`` (the averaged ones where it has them).

    For ``load_weights(..., strict=False)`` into another model; no manifest is needed. Raises ``ModelError``.
    """
    data = _read(path)
    return read_reference(path).weights if _is_torch(data) else _tensors(data, path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: cannot read the checkpoint ({error.strerror})", hint="give a .safetensors or a published .pt"
        ) from None


def _is_torch(data: bytes) -> bool:
    # A safetensors file starts with the size of its JSON header, which may begin with any byte.
    return data[8:9] != b"{" and data.startswith(_TORCH_MAGIC)


def _tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        return tensors_from_bytes(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(
            f"{path}: damaged, truncated, or not a safetensors file ({first_line(error)})",
            hint="copy it again; a checkpoint is a .safetensors or a published .pt",
        ) from None
