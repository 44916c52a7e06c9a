"""A detector that is trained and evaluated as the chip computes it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional

from uhd.errors import ModelError
from uhd.espdl.shapes import window
from uhd.quantize.trained import Trained, int16_patterns
from uhd.targets import TARGETS
from uhd.train.qat.layers import convolve, folded_bias, folded_weight, normalised
from uhd.train.qat.observe import OCTAVES, best_exponents, octave_moments, sampled
from uhd.train.qat.plan import Plan, Step, weight_key
from uhd.train.qat.rounding import fake_quantize
from uhd.train.qat.settings import QatSettings

#: Share of the past that a step of observation keeps.
_MEMORY = 0.99

#: Octaves by which a channel's exponent may lie below its filter's: finer ones change no output integer, but their
#: biases would leave the range of the accumulator.
_SPREAD = 8


class QatModel(nn.Module):
    """Runs ``model``'s weights through the steps of its .espdl, with every tensor on the chip's grid.

    In training mode in float32, with straight-through gradients. In evaluation mode in float64, where sums of integer
    products are exact: every map is then, value by value, integer times 2**exponent of the exported .espdl, on which
    ``uhd.espdl.oracle`` agrees. Autocasting is off inside, because bfloat16 cannot hold the grid.

    The state dict holds the model's own entries under ``model.`` and the exponents; ``on_epoch`` sets what epoch it is.
    Input [B, C, H, W] float 0..1 of the size the plan was made for.
    """

    exponents: Tensor
    weight_exponents: Tensor
    moments: Tensor
    bits: Tensor

    def __init__(self, model: nn.Module, plan: Plan, settings: QatSettings, features: str) -> None:
        super().__init__()
        self.model = model
        self.plan, self.settings, self._features = plan, settings, features
        self.rounding = TARGETS[settings.target].rounding
        self.register_buffer("exponents", torch.zeros(len(plan.bits), dtype=torch.int32))
        self.register_buffer("weight_exponents", torch.zeros(plan.filters, dtype=torch.int32))
        self.register_buffer("moments", torch.zeros(len(plan.bits), OCTAVES, 3, dtype=torch.float64))
        self.register_buffer("bits", torch.tensor(plan.bits, dtype=torch.int32), persistent=False)
        self.observing, self.bn_frozen, self.rounds = True, False, True

    @property
    def config(self) -> Any:
        """The model's configuration."""
        return self.model.config

    @property
    def anchors(self) -> Tensor:
        """[A,2] (w, h) as fractions of the input."""
        return self.model.anchors  # type: ignore[return-value]

    @property
    def wh_scale(self) -> Tensor:
        """[A,2] factors on the anchors."""
        return self.model.wh_scale  # type: ignore[return-value]

    def on_epoch(self, epoch: int) -> None:
        """Tell which epoch, counted from 1, begins; also after loading a state."""
        stop, freeze = self.settings.disable_observer_epoch, self.settings.freeze_bn_epoch
        self.observing = not stop or epoch < stop
        self.bn_frozen = bool(freeze) and epoch >= freeze

    def maps(self, x: Tensor, names: Collection[str] | None = None) -> dict[str, Tensor]:
        """The named maps (None: all), as the model's own ``maps``. Raises ``KeyError`` for a map it does not have."""
        order = [name for name in self.config.map_names if names is None or name in names]
        if unknown := set(names or ()) - set(order):
            raise KeyError(f"no map {', '.join(sorted(unknown))}; this model has {', '.join(self.config.map_names)}")
        values = self._run(x, order)
        return {name: values[name] for name in order}

    def features(self, x: Tensor) -> Tensor:
        """What the head reads, [B, C, h, w]."""
        return self._run(x, [self._features])[self._features]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """All maps."""
        return self.maps(x)

    def activations(self, x: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Any activations of the .espdl, by its tensor names, [B, C, h, w] real values."""
        return self._run(x, list(names))

    def trained(self) -> Trained:
        """The grid as it is now, for the manifest and the quantizer."""
        table = self.exponents.tolist()
        weights = self.weight_exponents.tolist()
        found = {key: (table[row],) for key, row in self.plan.keys.items()}
        found |= {weight_key(s): tuple(weights[s.weight]) for s in self.plan.steps if s.node.op == "Conv"}
        settings = self.settings.quantizer()
        return Trained(settings.target, settings.bits, int16_patterns(settings), found)

    def _run(self, x: Tensor, wanted: list[str]) -> dict[str, Tensor]:
        if tuple(x.shape[2:]) != self.plan.size:
            shown, made = ("x".join(map(str, size)) for size in (x.shape[2:], self.plan.size))
            raise ModelError(f"pictures of {shown} for a model that was prepared for {made}", hint="prepare it again")
        with torch.autocast(x.device.type, enabled=False):
            watching = self.training and self.observing and self.rounds
            if watching:
                self.moments.mul_(_MEMORY)
            x = x.float() if self.training else x.double()
            values = {self.plan.input: self._quantized(x, self.plan.grid_of[self.plan.input])}
            for step in self.plan.needed(wanted):
                values[step.output] = self._step(step, [values[name] for name in step.inputs])
            if watching:
                self.settle()
            return {name: values[name].float() if self.training else values[name] for name in wanted}

    def _step(self, step: Step, inputs: list[Tensor]) -> Tensor:
        if step.grid is None:
            return _COPIES[step.node.op](step, inputs)
        y = self._conv(step, inputs[0]) if step.layer is not None else _curve(step, inputs)
        return self._quantized(y, step.grid)

    def _quantized(self, x: Tensor, row: int) -> Tensor:
        if self.training and self.observing:
            with torch.no_grad():
                self.moments[row] += octave_moments(sampled(x))[0]
        if not self.rounds:
            return x
        # A saturated float32 sum may lie above what 32 bits hold exactly; the grid of 8 or 16 bits cuts it off.
        return fake_quantize(x, self.exponents[row], self.plan.bits[row], self.rounding)

    def _conv(self, step: Step, x: Tensor) -> Tensor:
        conv, norm = self.modules_of(step)
        weight = folded_weight(conv, norm)
        if self.training and self.observing:
            self._observe_weight(step, weight, folded_bias(conv, norm))
        grid = self.weight_exponents[step.weight]
        if self.rounds:
            # The quantizer rounds the filters of 8-bit operators in float32, those of 16-bit ones in float64.
            wide = step.node.bits == 16 and not self.training
            weight = weight.double() if wide else weight
            weight = fake_quantize(weight, grid.reshape(-1, 1, 1, 1), step.node.bits, self.rounding)
        weight = weight.to(x.dtype)
        if self.training and norm is not None and not self.bn_frozen and self.rounds:
            y = normalised(conv, norm, x, weight)
        else:
            y = convolve(conv, x, weight)
            bias = folded_bias(conv, norm)
            if bias is not None:
                y = y + self._bias(step, bias, grid).to(x.dtype).reshape(1, -1, 1, 1)
        return torch.relu(y) if step.node.attributes.get("activation") == "Relu" else y

    def _bias(self, step: Step, bias: Tensor, grid: Tensor) -> Tensor:
        if not self.rounds or self.training:  # float32 has no room for the bias's grid, which is finer than any other
            return bias
        bias = bias.double() if step.node.bits == 16 else bias
        return fake_quantize(bias, grid + self.exponents[self._grid(step)], self._bias_bits(step), self.rounding)

    def _bias_bits(self, step: Step) -> int:
        target = TARGETS[self.settings.target]
        return target.bias_bits_int8 if step.node.bits == 8 else target.bias_bits_int16

    def _grid(self, step: Step) -> int:
        return self.plan.grid_of[step.inputs[0]]

    def modules_of(self, step: Step) -> tuple[nn.Conv2d, nn.Module | None]:
        """The convolution of a step and the normalisation that is folded into it."""
        assert step.layer is not None
        conv = self.model.get_submodule(step.layer.conv)
        assert isinstance(conv, nn.Conv2d)
        return conv, None if step.layer.norm is None else self.model.get_submodule(step.layer.norm)

    @torch.no_grad()
    def _observe_weight(self, step: Step, weight: Tensor, bias: Tensor | None) -> None:
        count = step.weight.stop - step.weight.start
        bits = torch.full((count,), step.node.bits, device=weight.device)
        before = self.weight_exponents[step.weight]
        found = best_exponents(octave_moments(weight, count), bits, before - 1000)
        found = torch.maximum(found, found.max() - _SPREAD)
        if bias is not None:
            _, needed = torch.frexp(bias.abs().reshape(count, -1).amax(1).double())
            least = needed - self._bias_bits(step) + 1 - self.exponents[self._grid(step)]
            found = torch.where(bias.reshape(count, -1).any(1), torch.maximum(found, least.to(found)), found)
        self.weight_exponents[step.weight] = found.clamp_min(-100)

    @torch.no_grad()
    def settle(self) -> None:
        """Take the exponents that fit what was observed; the chip shifts right only, so none finer than its sums."""
        moments = self.moments
        if dist.is_available() and dist.is_initialized():  # each process saw its own rows
            moments = moments.clone()
            dist.all_reduce(moments)
        self.exponents.copy_(best_exponents(moments, self.bits, self.exponents))
        for step in self.plan.steps:
            if step.grid is None or step.node.op not in ("Conv", "Mul"):
                continue
            terms = [self.exponents[self.plan.grid_of[name]] for name in step.inputs]
            if step.node.op == "Conv":
                terms.append(self.weight_exponents[step.weight].max())
            self.exponents[step.grid] = torch.maximum(self.exponents[step.grid], terms[0] + terms[1])


def _max_pool(step: Step, inputs: list[Tensor]) -> Tensor:
    geometry = window(step.node)
    top, left, bottom, right = geometry.pads
    padded = functional.pad(inputs[0], (left, right, top, bottom), value=float("-inf"))
    return functional.max_pool2d(padded, geometry.kernel, geometry.strides, 0, geometry.dilations, geometry.ceil)


def _resize(step: Step, inputs: list[Tensor]) -> Tensor:
    """Nearest neighbour, source index floor(i * in / out), in integers."""
    (height, width), x = step.shape, inputs[0]
    rows = torch.arange(height, device=x.device) * x.shape[2] // height
    columns = torch.arange(width, device=x.device) * x.shape[3] // width
    return x[:, :, rows[:, None], columns[None, :]]


_COPIES: dict[str, Callable[[Step, list[Tensor]], Tensor]] = {
    "Concat": lambda step, inputs: torch.cat(inputs, 1),
    "MaxPool": _max_pool,
    "Resize": _resize,
}


def _curve(step: Step, inputs: list[Tensor]) -> Tensor:
    """Real value of an operator other than a convolution, before it is rounded."""
    x, op = inputs[0], step.node.op
    if op in ("Add", "Sub", "Mul"):
        return x + inputs[1] if op == "Add" else x - inputs[1] if op == "Sub" else x * inputs[1]
    if op in ("ReduceMean", "GlobalAveragePool"):
        return x.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3])
    if op == "RequantizeLinear":
        return x
    if op == "Relu":
        return torch.relu(x)
    # int8 curves are tables, which the quantizer computes in float32.
    narrow = x.float() if step.node.bits == 8 else x
    made = torch.sigmoid(narrow) if op in ("Sigmoid", "Swish") else torch.tanh(narrow)
    return (made * narrow if op == "Swish" else made).to(x.dtype)
