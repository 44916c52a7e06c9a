"""Reading DINOv3 weights: ``.pth``, ``.pt`` or ``.safetensors``, in the published layout, that of the transformers
library, or inside a larger model. Only tensors and plain values are unpickled, nothing is executed."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from torch import Tensor

from uhd.errors import ModelError
from uhd.models.dinov3 import Norm, Style, VisionTransformer, ViTConfig
from uhd.models.weights import WeightReport, first_line, load_weights

Weights = dict[str, Tensor]

_PATCH = "patch_embed.proj.weight"
_ELSEWHERE_PATCH = "embeddings.patch_embeddings.weight"
_HINTED_HEADS = {"vits": 6, "vitb": 12}
#: Weights that a picture's features do not need.
_UNUSED = re.compile(r"mask_token|head\.|local_cls_norm\.|cls_norm\.")

#: Names in the transformers library -> published names.
_RENAMED = (
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."),
    (r"^embeddings\.register_tokens$", "storage_tokens"),
    (r"^embeddings\.", ""),
    (r"^(?:model\.|encoder\.)*layer\.", "blocks."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.gate_proj\.", ".mlp.w1."),
)


def load_dinov3(
    path: Path, hint: str | None = None, *, style: Style = "rotary", norm: Norm = "imagenet"
) -> VisionTransformer:
    """A vision transformer from a file, on the CPU, in evaluation mode; its sizes are those of its weights.

    ``hint`` (a text with vits or vitb in it) tells the number of attention heads. What the file lacks has no effect and
    stands in ``report``. Raises ``ModelError`` (one line) if the file cannot be read, holds no vision transformer, or
    one without its patch embedding or with incomplete blocks.
    """
    state = _published_layout(_vit_part(_read(path), str(path)))
    config = infer_config(state, str(path), hint, style, norm)
    _check_complete(state, config, str(path))
    _repair_masks(state, config)
    model = VisionTransformer(config)
    report = load_weights(model, state, str(path), strict=False)
    model.report = _told(report)
    return model.eval()


def infer_config(
    state: Mapping[str, Tensor], source: str, hint: str | None = None, style: Style = "rotary", norm: Norm = "imagenet"
) -> ViTConfig:
    """The sizes that weights of the published layout have. Raises ``ModelError`` naming ``source``."""
    shape = tuple(state[_PATCH].shape) if _PATCH in state else ()
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3]:
        raise ModelError(f"{source}: not a vision transformer of RGB pictures ({_PATCH} is {list(shape) or 'missing'})")
    dim, patch = shape[0], shape[3]
    blocks = [int(found[1]) for key in state if (found := re.match(r"blocks\.(\d+)\.", key))]
    if not blocks:
        raise ModelError(f"{source}: holds a patch embedding but no blocks")
    gated = "blocks.0.mlp.w3.weight" in state
    first = state.get(f"blocks.0.mlp.{'w1' if gated else 'fc1'}.weight")
    if first is None or first.ndim != 2:
        raise ModelError(f"{source}: block 0 has no MLP")
    storage = state.get("storage_tokens")
    return ViTConfig(
        embed_dim=dim,
        depth=max(blocks) + 1,
        heads=_heads(state, dim, hint, source),
        patch=patch,
        hidden=first.shape[0],
        gated=gated,
        storage_tokens=0 if storage is None else storage.shape[-2],
        style=style,
        norm=norm,
    )


def _heads(state: Mapping[str, Tensor], dim: int, hint: str | None, source: str) -> int:
    """Attention heads: as hinted, else by the periods of the rotation (four to a channel), else one to 64 channels."""
    periods = state.get("rope_embed.periods")
    told = next((heads for name, heads in _HINTED_HEADS.items() if name in (hint or "").lower()), None)
    shown = None if periods is None else max(1, dim // (4 * periods.numel()))
    heads = told or shown or max(1, dim // 64)
    if dim % (4 * heads) or (told and shown and told != shown):
        raise ModelError(
            f"{source}: {heads} attention heads do not fit its {dim} channels{f' and {shown} heads' if shown else ''}",
            hint="give the right teacher_backbone_arch, or none",
        )
    return heads


def _check_complete(state: Mapping[str, Tensor], config: ViTConfig, source: str) -> None:
    mlp = ("w1", "w2", "w3") if config.gated else ("fc1", "fc2")
    parts = ["norm1", "attn.qkv", "attn.proj", "norm2", *(f"mlp.{name}" for name in mlp)]
    wanted = [f"blocks.{index}.{part}.weight" for index in range(config.depth) for part in parts]
    if missing := [key for key in wanted if key not in state]:
        raise ModelError(f"{source}: its blocks are incomplete: {len(missing)} weights missing (e.g. {missing[0]})")


def _repair_masks(state: Weights, config: ViTConfig) -> None:
    """A mask that was never filled in (not finite) becomes the one it stands for: no bias of keys."""
    for key in [key for key in state if key.endswith("attn.qkv.bias_mask")]:
        if config.style == "rotary" and not bool(torch.isfinite(state[key]).all()):
            mask = torch.ones(3, config.embed_dim)
            mask[1] = 0
            state[key] = mask.flatten()


def _told(report: WeightReport) -> str:
    """One line about weights that are not there or unknown, leaving out those that need not be."""
    missing = [key for key in report.missing if not key.endswith((".bias_mask", "rope_embed.periods"))]
    unknown = [key for key in report.unexpected if not _UNUSED.match(key)]
    groups = (("missing", missing), ("unknown", unknown))
    return ", ".join(f"{len(keys)} {what} (e.g. {keys[0]})" for what, keys in groups if keys)


def _read(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the weights ({error.strerror})") from None
    if data[8:9] == b"{":
        try:
            return tensors_from_bytes(data)
        except (SafetensorError, ValueError, KeyError) as error:
            raise ModelError(f"{path}: damaged, truncated, or not a safetensors file ({first_line(error)})") from None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path}: holds more than weights and settings, not loaded ({first_line(error)})") from None
    except Exception as error:  # A damaged archive raises almost anything.
        raise ModelError(f"{path}: damaged or truncated ({first_line(error)})") from None


def _vit_part(stored: Any, source: str) -> Weights:
    """The vision transformer's weights, its prefix taken off, from whatever dictionary they lie in."""
    for state in _dictionaries(stored):
        for ending in (_PATCH, _ELSEWHERE_PATCH):
            prefixes = [key.removesuffix(ending) for key in state if key.endswith(ending)]
            if prefixes:
                prefix = min(prefixes, key=len)
                return {key[len(prefix) :]: value.float() for key, value in state.items() if key.startswith(prefix)}
    raise ModelError(f"{source}: holds no vision transformer ({_PATCH} is missing)")


def _dictionaries(stored: Any) -> Iterator[Weights]:
    """A dictionary's tensors, then those of the dictionaries in it."""
    if isinstance(stored, Mapping):
        yield {key: value for key, value in stored.items() if isinstance(key, str) and isinstance(value, Tensor)}
        for value in stored.values():
            yield from _dictionaries(value)


def _published_layout(state: Weights) -> Weights:
    """Weights under their published names."""
    if _ELSEWHERE_PATCH not in state:
        return {key.replace(".attn.qkv_bias_mask", ".attn.qkv.bias_mask"): value for key, value in state.items()}
    gated = any(".mlp.gate_proj." in key for key in state)
    renamed = [*_RENAMED, (r"\.mlp\.up_proj\.", ".mlp.w2." if gated else ".mlp.fc1."),
               (r"\.mlp\.down_proj\.", ".mlp.w3." if gated else ".mlp.fc2.")]  # fmt: skip
    result: Weights = {}
    for key, value in state.items():
        for pattern, name in renamed:
            key = re.sub(pattern, name, key)
        result[key] = value
    return _joined_attention(result)


def _joined_attention(state: Weights) -> Weights:
    """Separate projections to queries, keys and values as one; a bias that one of them lacks is zero."""
    result = {key: value for key, value in state.items() if ".attention." not in key}
    for key, query in state.items():
        if not key.endswith(".attention.q_proj.weight"):
            continue
        stem = key.removesuffix("q_proj.weight")
        others = [state.get(f"{stem}{part}_proj.weight") for part in "kv"]
        if any(other is None for other in others):
            continue  # reported as incomplete
        block = stem.removesuffix("attention.")
        result[f"{block}attn.qkv.weight"] = torch.cat([query, *(other for other in others if other is not None)])
        zero = query.new_zeros(len(query))
        result[f"{block}attn.qkv.bias"] = torch.cat([state.get(f"{stem}{part}_proj.bias", zero) for part in "qkv"])
    return result
