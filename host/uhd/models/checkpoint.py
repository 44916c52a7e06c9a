"""Checkpoints: safetensors with a manifest beside it; published ``.pt`` files load too."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from uhd.errors import ModelError
from uhd.files import sha256_bytes, write_bytes
from uhd.manifest import ModelManifest, load_manifest
from uhd.models.config import parse_config
from uhd.models.reference_checkpoint import import_reference
from uhd.models.ultratinyod import UltraTinyOD
from uhd.models.weights import complete_manifest, first_line, load_weights

__all__ = ["complete_manifest", "import_reference", "load_checkpoint", "manifest_path", "save_checkpoint"]

#: Files that ``torch.load`` reads: a zip archive, or the older plain stream.
_TORCH_MAGIC = (b"PK\x03\x04", b"\x80\x02")


def manifest_path(checkpoint: Path) -> Path:
    """The manifest that belongs to a checkpoint of ours: same place, suffix ``.json``."""
    return checkpoint.with_suffix(".json")


def save_checkpoint(path: Path, model: UltraTinyOD, manifest: ModelManifest) -> ModelManifest:
    """Write weights to ``path`` (safetensors) and the completed manifest beside it; returns that manifest.

    Both are replaced atomically, the manifest last; it holds the sha256 of the weights file.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    data = tensors_to_bytes(tensors)
    manifest = complete_manifest(model, manifest).model_copy(update={"weights_sha256": sha256_bytes(data)})
    write_bytes(path, data)
    manifest.save(manifest_path(path))
    return manifest


def load_checkpoint(path: Path) -> tuple[UltraTinyOD, ModelManifest]:
    """Read a checkpoint of ours, or a published ``.pt``, by content; the model is on the CPU, in evaluation mode.

    Raises ``ModelError`` (one line) if the file is missing, damaged, of another architecture, or at odds with its
    manifest.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the checkpoint ({error.strerror})") from None
    # A safetensors file starts with the size of its JSON header, which may begin with any byte.
    if data[8:9] != b"{" and data.startswith(_TORCH_MAGIC):
        return import_reference(path)
    try:
        tensors = tensors_from_bytes(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path}: damaged, truncated, or not a safetensors file ({first_line(error)})") from None
    manifest = load_manifest(manifest_path(path))
    if manifest.weights_sha256 != sha256_bytes(data):
        raise ModelError(
            f"{path}: its manifest {manifest_path(path).name} describes other weights (sha256 differs)",
            hint="restore the pair from one run",
        )
    model = UltraTinyOD(parse_config(manifest.options, str(manifest_path(path)), ModelError))
    load_weights(model, tensors, str(path))
    return model.eval(), manifest
