"""The node names that the trace must produce, derived from which modules the forward pass calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def conv_nodes(traced: nn.Module, example: Tensor) -> list[str]:
    """Names, in call order, of the Conv nodes of ``traced``: ``/`` joined scopes of the modules called on the way.

    A child of a Sequential or of a list is ``<its parent>.<index>``. Names are those before ``rename_depthwise``.
    """
    scopes = _scopes(traced)
    stack: list[str] = []
    names: list[str] = []

    def enter(module: nn.Module, _inputs: Any) -> None:
        stack.append(scopes[module])
        if isinstance(module, nn.Conv2d):
            names.append(f"/{'/'.join(stack)}/Conv")

    def leave(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        stack.pop()

    handles = [h for m in scopes for h in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    try:
        with torch.no_grad():
            traced(example)
    finally:
        for handle in handles:
            handle.remove()
    return names


def _scopes(root: nn.Module) -> dict[nn.Module, str]:
    scopes: dict[nn.Module, str] = {}
    for path, module in root.named_modules():
        if not path:
            continue
        parent_path, _, own = path.rpartition(".")
        parent = root.get_submodule(parent_path)
        inside = isinstance(parent, nn.Sequential | nn.ModuleList)
        scopes[module] = f"{scopes[parent]}.{own}" if inside else own
    return scopes
