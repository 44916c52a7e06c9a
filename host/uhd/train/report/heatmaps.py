"""What every layer answers to a photo, as colours over it (``--with-heatmap-mean``, ``--with-heatmap-sum``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from uhd.files import write_bytes
from uhd.train.report.pictures import Rgb, blend

Reduce = Literal["mean", "sum"]
#: Photos whose heatmaps a validation writes.
LIMIT = 10


@dataclass(frozen=True)
class Heat:
    """The output of one leaf module: ``name`` its path, ``values`` [B,h,w] float32 reduced over channels."""

    name: str
    values: NDArray[np.float32]


@torch.no_grad()
def record(
    model: nn.Module, images: Tensor, reduce: Reduce, forward: Callable[[nn.Module, Tensor], Any] | None = None
) -> list[Heat]:
    """Run ``model`` on ``images`` [B,C,H,W] and keep what its leaf modules give, in the order they are called.

    ``forward`` is how it is run (default ``model.maps(images)``). Outputs that are no maps [B,c,h,w] are left out; a
    module that runs twice is kept twice. The model is in evaluation mode meanwhile, and as before afterwards.
    """
    found: list[Heat] = []
    batch = len(images)

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in _tensors(output):
                if tensor.ndim == 4 and len(tensor) == batch and tensor.is_floating_point():
                    reduced = tensor.float().mean(1) if reduce == "mean" else tensor.float().sum(1)
                    found.append(Heat(name, reduced.cpu().numpy()))

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if name and not any(module.children())]
    handles = [module.register_forward_hook(keep(name)) for name, module in leaves]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        if forward is None:
            model.maps(images)  # type: ignore[operator]
        else:
            forward(model, images)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes:
            module.training = training
    return found


def colours(values: NDArray[Any], size: tuple[int, int]) -> Rgb:
    """One map [h,w] as RGB of ``size`` (height, width): least to largest in OpenCV's inferno, bilinear.

    A map that is the same everywhere is the least colour; values that are not finite count as the least.
    """
    heat = np.asarray(values, np.float64)
    finite = np.isfinite(heat)
    low, high = (heat[finite].min(), heat[finite].max()) if finite.any() else (0.0, 0.0)
    part = (np.where(finite, heat, low) - low) / (high - low) if high > low else np.zeros_like(heat)
    large = cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    byte = np.rint(large * 255).astype(np.uint8)
    return np.asarray(cv2.applyColorMap(byte, cv2.COLORMAP_INFERNO)[:, :, ::-1], np.uint8)


def write_heatmaps(
    folder: Path, photos: Sequence[Rgb], heats: Sequence[Heat], names: Sequence[str], *, limit: int = LIMIT
) -> list[Path]:
    """Write ``<folder>/NN_<name>/heatmap_<index>_<module>.png`` of the first ``limit`` photos; returns the paths.

    ``photos``: RGB uint8 (with or without boxes drawn), photo i that of row i of every ``Heat``. ``index`` has four
    digits and counts the calls, the module's path has ``_`` for its dots. Blended 0.6 colours, 0.4 photo.
    """
    paths = []
    for i, rgb in enumerate(photos[:limit]):
        own = folder / f"{i:02d}_{Path(names[i]).stem}"
        for index, heat in enumerate(heats):
            mixed = blend(rgb, colours(heat.values[i], rgb.shape[:2]))
            path = own / f"heatmap_{index:04d}_{heat.name.replace('.', '_')}.png"
            write_bytes(path, cv2.imencode(".png", mixed[:, :, ::-1])[1].tobytes())
            paths.append(path)
    return paths


def _tensors(output: Any) -> Iterator[Tensor]:
    """All tensors in what a module gave."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for part in output.values():
            yield from _tensors(part)
    elif isinstance(output, list | tuple):
        for part in output:
            yield from _tensors(part)
