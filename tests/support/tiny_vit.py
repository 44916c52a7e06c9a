"""Random vision transformers in the published layout, and their features by plain matrix algebra in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

DIM, HEADS, PATCH, DEPTH, HIDDEN = 24, 2, 4, 2, 40
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
Array = NDArray[np.float64]


def weights(gated: bool, seed: int = 0, storage: int = 4) -> dict[str, Tensor]:
    """A state dictionary with all that a published file has."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * (0.3 if len(shape) < 2 else 1 / math.sqrt(shape[-1]))

    mask = torch.ones(3, DIM)
    mask[1] = 0
    state = {
        "cls_token": normal(1, 1, DIM),
        "storage_tokens": normal(1, storage, DIM),
        "mask_token": normal(1, DIM),
        "patch_embed.proj.weight": normal(DIM, 3, PATCH, PATCH),
        "patch_embed.proj.bias": normal(DIM),
        "rope_embed.periods": 100.0 ** (torch.arange(3) / 3),
        "norm.weight": 1 + normal(DIM),
        "norm.bias": normal(DIM),
    }
    mlp = {"w1": (HIDDEN, DIM), "w2": (HIDDEN, DIM), "w3": (DIM, HIDDEN)} if gated else {
        "fc1": (HIDDEN, DIM), "fc2": (DIM, HIDDEN)
    }  # fmt: skip
    for index in range(DEPTH):
        linear = {"attn.qkv": (3 * DIM, DIM), "attn.proj": (DIM, DIM), **{f"mlp.{k}": v for k, v in mlp.items()}}
        for name, sizes in linear.items():
            state[f"blocks.{index}.{name}.weight"], state[f"blocks.{index}.{name}.bias"] = (
                normal(*sizes),
                normal(sizes[0]),
            )
        for name in ("norm1", "norm2"):
            state[f"blocks.{index}.{name}.weight"], state[f"blocks.{index}.{name}.bias"] = 1 + normal(DIM), normal(DIM)
        for name in ("ls1", "ls2"):
            state[f"blocks.{index}.{name}.gamma"] = normal(DIM)
        state[f"blocks.{index}.attn.qkv.bias_mask"] = mask.flatten().clone()
    return state


def features(state: dict[str, Tensor], picture: Any, *, additive: bool = False, normalised: bool = True) -> Array:
    """[3,H,W] in 0..1 -> [DIM,h,w], token by token."""
    w = {key: value.double().numpy() for key, value in state.items()}
    picture = np.asarray(picture, np.float64)
    if normalised:
        picture = (picture - MEAN[:, None, None]) / STD[:, None, None]
    rows, columns = picture.shape[1] // PATCH, picture.shape[2] // PATCH
    kernel = w["patch_embed.proj.weight"].reshape(DIM, -1)
    tokens = [w["cls_token"][0, 0]] + ([] if additive else list(w["storage_tokens"][0]))
    first = len(tokens)
    for y, x in np.ndindex(rows, columns):
        patch = picture[:, y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH]
        token = kernel @ patch.flatten() + w["patch_embed.proj.bias"]
        if additive:
            steps = [10000.0 ** -(k / (DIM / 2)) for k in range(DIM // 4)]
            token = token + np.array([f(place * s) for place in (x, y) for f in (math.sin, math.cos) for s in steps])
        tokens.append(token)
    stream = np.stack(tokens)
    angles = None if additive else _angles(w["rope_embed.periods"], rows, columns)
    gated = "blocks.0.mlp.w3.weight" in w
    for index in range(DEPTH):
        b = {
            key.removeprefix(f"blocks.{index}."): value
            for key, value in w.items()
            if key.startswith(f"blocks.{index}.")
        }
        stream = stream + b["ls1.gamma"] * _attention(
            b, _norm(stream, b["norm1.weight"], b["norm1.bias"]), angles, first
        )
        inner = _norm(stream, b["norm2.weight"], b["norm2.bias"])
        stream = stream + b["ls2.gamma"] * _mlp(b, inner, gated, additive)
    stream = _norm(stream, w["norm.weight"], w["norm.bias"])
    return stream[first:].T.reshape(DIM, rows, columns)


def _norm(x: Array, gain: Array, bias: Array) -> Array:
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * gain + bias


def _gelu(x: Array) -> Array:
    return np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)


def _mlp(b: dict[str, Array], x: Array, gated: bool, additive: bool) -> Array:
    def line(name: str, v: Array) -> Array:
        return v @ b[f"mlp.{name}.weight"].T + b[f"mlp.{name}.bias"]

    if not gated:
        return line("fc2", _gelu(line("fc1", x)))
    gate = line("w1", x)
    return line("w3", (_gelu(gate) if additive else gate / (1 + np.exp(-gate))) * line("w2", x))


def _angles(periods: Array, rows: int, columns: int) -> Array:
    """[rows*columns, 6]: three angles of the row, then three of the column."""
    found = []
    for y, x in np.ndindex(rows, columns):
        places = (2 * (y + 0.5) / rows - 1, 2 * (x + 0.5) / columns - 1)
        found.append([2 * math.pi * place / period for place in places for period in periods])
    return np.array(found)


def _attention(b: dict[str, Array], x: Array, angles: Array | None, first: int) -> Array:
    mask = b["attn.qkv.bias_mask"]
    bias = b["attn.qkv.bias"] + mask if angles is None else b["attn.qkv.bias"] * mask
    mixed = x @ b["attn.qkv.weight"].T + bias
    query, key, value = (mixed[:, part * DIM : (part + 1) * DIM] for part in range(3))
    outputs = []
    for head in range(HEADS):
        span = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
        q, k, v = query[:, span].copy(), key[:, span].copy(), value[:, span]
        if angles is not None:
            for part in (q, k):
                low, high = part[first:, :6].copy(), part[first:, 6:].copy()
                part[first:, :6] = low * np.cos(angles) - high * np.sin(angles)
                part[first:, 6:] = high * np.cos(angles) + low * np.sin(angles)
        logits = q @ k.T / math.sqrt(DIM / HEADS)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        outputs.append(shares / shares.sum(1, keepdims=True) @ v)
    return np.concatenate(outputs, 1) @ b["attn.proj.weight"].T + b["attn.proj.bias"]
