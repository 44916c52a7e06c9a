"""Costs of a model in PyTorch: run once on shapes alone, without a weight in memory."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

from uhd.models.architectures import ModelConfig
from uhd.models.build import model_of
from uhd.models.checkpoint import load_checkpoint
from uhd.models.config import UltraTinyODConfig
from uhd.models.detector import Detector
from uhd.profile.cost import LayerCost, ModelCost, peak_live_bytes

#: ATen's name -> name of the ONNX operator, FLOPs an output value. SiLU is exported as a sigmoid and a product.
_ELEMENTWISE = {
    "add": ("Add", 1), "sub": ("Sub", 1), "mul": ("Mul", 1), "div": ("Div", 1), "pow": ("Pow", 1),
    "relu": ("Relu", 1), "sigmoid": ("Sigmoid", 1), "tanh": ("Tanh", 1), "leaky_relu": ("LeakyRelu", 1),
    "gelu": ("Gelu", 1), "silu": ("Silu", 2),
}  # fmt: skip
_NORMS = ("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training")


def checkpoint_cost(path: Path, size: tuple[int, int] | None = None) -> ModelCost:
    """Costs of a checkpoint (ours, or a published ``.pt``), all maps computed. ``size``: another height and width of
    the input. Raises ``ModelError`` for a file that cannot be read."""
    model, manifest = load_checkpoint(path)
    return config_cost(model.config, str(path), size or (manifest.input_height, manifest.input_width))


def config_cost(config: ModelConfig, source: str, size: tuple[int, int] = (64, 64)) -> ModelCost:
    """Costs of a model with these options, rounding of weights and activations left out."""
    if isinstance(config, UltraTinyODConfig):
        off = {name: 0 for name in ("w_bits", "a_bits", "highbit_w_bits", "highbit_a_bits")}
        config = config.model_copy(update={**off, "lowbit_w_bits": None, "lowbit_a_bits": None})
    with torch.device("meta"):
        model = model_of(config).eval().requires_grad_(False)
        image = torch.empty(1, config.in_channels, *size)
    with torch.no_grad(), _plain_attention(), _Counter(model) as counter, counter.modules:
        outputs = [counter.key(t) for t in tree_leaves(model(image)) if isinstance(t, Tensor)]
    layers = [*counter.layers]
    rest = sum(counter.unread.values())
    if rest:
        layers.append(LayerCost("(other weights)", "", (), rest, 4 * rest, 0, 0, 0))
    peak = peak_live_bytes(counter.steps, counter.sizes, [counter.key(image)], outputs)
    return ModelCost(source, "checkpoint", tuple(layers), peak)


@contextlib.contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as the operators that it consists of, not as one of PyTorch's own."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down what each operator costs. A tensor's key is its storage, so that views are what they look at."""

    def __init__(self, model: Detector) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.modules = ModuleTracker()
        self.layers: list[LayerCost] = []
        self.steps: list[tuple[list[str], list[str]]] = []
        self.sizes: dict[str, int] = {}
        self._alive: list[Tensor] = []  # a storage that were freed could give its address to another
        self._convolutions: dict[str, int] = {}
        self._same: dict[str, str] = {}
        # Files carry the anchors and their factors, too.
        carried = [b for name, b in model.named_buffers() if name.endswith((".anchors", ".wh_scale"))]
        self.unread = {self._raw_key(w): w.numel() for w in (*model.parameters(), *carried)}

    @staticmethod
    def _raw_key(tensor: Tensor) -> str:
        return str(tensor.untyped_storage()._cdata)

    def key(self, tensor: Tensor) -> str:
        """Which activation or weight it is; a folded normalisation's output is that of its convolution."""
        key = self._raw_key(tensor)
        return self._same.get(key, key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")  # relu_ is relu
        if name in _NORMS:  # running it would take most of the time
            out: Any = (torch.empty_like(args[0]), args[0].new_empty(0), args[0].new_empty(0))
        else:
            out = func(*args, **(kwargs or {}))
        results = [t for t in tree_leaves(out) if isinstance(t, Tensor) and t.numel()]
        if results:
            reads = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
            self._alive += results
            if name in _NORMS:
                self._fold(reads, results[0])
            else:
                self._take(func, name, args, kwargs or {}, reads, out, results)
        return out

    def _take(
        self, func: Any, name: str, args: Any, kwargs: Any, reads: list[Tensor], out: Any, results: list[Tensor]
    ) -> None:
        read, written = [self.key(t) for t in reads], [self.key(t) for t in results]
        if set(written) <= set(read):
            if name not in _ELEMENTWISE:
                return  # a view
            self._same[self._raw_key(results[0])] = f"{written[0]}'"  # in place here, as no exported file has it
            written = [self.key(t) for t in results]
        first = results[0]
        flops = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) if _counted(func) else 0
        macs, kind = flops // 2, {"convolution": "Conv", "addmm": "Gemm"}.get(name, name)
        if name == "convolution" and args[2] is not None:
            flops += first.numel()
        elif name in _ELEMENTWISE and first.is_floating_point():
            kind, each = _ELEMENTWISE[name]
            flops = each * first.numel()
        elif name.startswith(("max_pool2d", "avg_pool2d")):
            kind = "MaxPool" if name.startswith("max") else "AveragePool"
            flops = first.numel() * math.prod(args[1])
        parameters = sum(self.unread.pop(key, 0) for key in read)
        if name == "convolution":
            self._convolutions[written[0]] = len(self.layers)
        self.steps.append((read, written))
        self.sizes |= {self.key(t): t.untyped_storage().nbytes() for t in results}
        own_bytes = sum(t.numel() * t.element_size() for t in results)
        self.layers.append(
            LayerCost(self._module(), kind, tuple(first.shape), parameters, 4 * parameters, macs, flops, own_bytes)
        )

    def _fold(self, reads: list[Tensor], result: Tensor) -> None:
        """A normalisation behind a convolution becomes its bias when exported, any other a product and a sum."""
        source, channels = self.key(reads[0]), result.shape[1]
        for tensor in reads[1:]:
            self.unread.pop(self._raw_key(tensor), None)
        index = self._convolutions.get(source)
        if index is None:
            self.steps.append(([source], [self.key(result)]))
            self.sizes[self.key(result)] = result.numel() * result.element_size()
            count = result.numel()
            for kind in ("Mul", "Add"):
                self.layers.append(
                    LayerCost(self._module(), kind, tuple(result.shape), channels, 4 * channels, 0, count, 4 * count)
                )
            return
        self._same[self._raw_key(result)] = source
        layer = self.layers[index]
        if layer.flops == 2 * layer.macs:  # it had no bias yet
            self.layers[index] = LayerCost(
                layer.name, layer.kind, layer.output_shape, layer.parameters + channels,
                layer.weight_bytes + 4 * channels, layer.macs, layer.flops + result.numel(), layer.output_bytes,
            )  # fmt: skip

    def _module(self) -> str:
        return max(self.modules.parents, key=len).partition(".")[2]


def _counted(func: Any) -> bool:
    return func.overloadpacket in flop_registry
