"""The training state on disk: one file that a run continues from, and the one before it.

A state is a safetensors file, so reading it executes nothing. Its header carries a digest of everything in it, so
damage anywhere is noticed, and the generation before is used instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from uhd.errors import ModelError, UhdError
from uhd.files import atomic_path

STATE = "state.safetensors"
PREVIOUS = "state.previous.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class TrainState:
    """``tensors`` by name, ``info`` plain JSON values, ``source`` the file, ``skipped``: why no newer one."""

    tensors: dict[str, Tensor]
    info: dict[str, Any]
    source: Path
    skipped: str = ""


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    summary = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        summary.update(f"{name}:{value.dtype}:{tuple(value.shape)};".encode())
        summary.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return summary.hexdigest()


def save_state(folder: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> Path:
    """Write a new state; the present one becomes the previous. A crash at any moment leaves at least one of them.

    Raises ``UhdError`` when the folder cannot be written (disk full, no permission); the states there stay.
    """
    path = folder / STATE
    held = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    text = json.dumps({"format": FORMAT, **info}, sort_keys=True)
    data = save(held, metadata={"state": text, "sha256": _digest(held, text)})
    try:
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
            if path.exists():
                path.replace(folder / PREVIOUS)
    except OSError as error:
        raise UhdError(f"{path}: cannot write the training state ({error.strerror})") from None
    return path


def _read(path: Path) -> TrainState:
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: not a readable training state ({error})") from None
    text = metadata.get("state", "")
    if metadata.get("sha256") != _digest(tensors, text):
        raise ModelError(f"{path}: the training state is damaged (its digest differs)")
    info = json.loads(text)
    if info.pop("format") != FORMAT:
        raise ModelError(
            f"{path}: the training state has another format", hint="continue with the version that wrote it"
        )
    return TrainState(tensors, info, path)


def load_state(folder: Path) -> TrainState:
    """The newest intact state of a run. Raises ``ModelError`` when there is none."""
    reasons = []
    for name in (STATE, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = _read(path)
        except ModelError as error:
            reasons.append(str(error))
        else:
            return TrainState(state.tensors, state.info, path, "; ".join(reasons))
    if reasons:
        raise ModelError("; ".join(reasons))
    raise ModelError(f"{folder}: no training state to resume from", hint="leave --resume out to start a new run")


def pack(parts: Mapping[str, Mapping[str, Tensor]], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """State dictionaries by part name, and the optimiser's tensors, as one flat dictionary."""
    tensors = {f"{part}/{name}": value for part, state in parts.items() for name, value in state.items()}
    for number, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{number}/{name}"] = value
    return tensors


def unpack(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    """The state dictionary of one part."""
    prefix = f"{part}/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put packed tensors back. Rates and decay stay those of ``optimizer``, which come from the configuration.

    What is as large as its parameter also gets its memory layout: the fused update walks both in memory order.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in unpack(tensors, "optimizer").items():
        number, slot = name.split("/")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        slots.setdefault(int(number), {})[slot] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
