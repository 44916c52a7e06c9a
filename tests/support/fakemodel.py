"""A made-up model component: implements uhd/model.hpp with outputs that NumPy can predict, and real decode tables."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


@dataclass(frozen=True)
class FakeModel:
    """Every output element k of output o is ``input[(k * (2 * o + 3) + o) % n] * 3 + k``, wrapped to its type.

    ``maps`` names the head's factors besides the box. ``broken`` says what to get wrong: the "hash", the "run", or the
    decode description ("anchors", "table", "index").
    """

    bits: int = 8
    height: int = 64
    width: int = 64
    channels: int = 2
    grid_h: int = 8
    grid_w: int = 8
    anchors: int = 3
    classes: int = 1
    maps: tuple[str, ...] = ("quality", "cls")
    exponent: int = -4
    top_k: int = 100
    score_threshold: int = 9830
    nms_iou: int = 32768
    broken: str = ""
    head: bool = True
    name: str = "fake"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int8 if self.bits == 8 else np.int16)

    @property
    def espdl(self) -> bytes:
        return np.random.default_rng(5).bytes(3000)

    @property
    def hash(self) -> bytes:
        """What the component says it is; with ``broken="hash"`` not what it embeds."""
        return hashlib.sha256(self.espdl + (b"!" if self.broken == "hash" else b"")).digest()

    @property
    def anchor_sizes(self) -> Array:
        return np.linspace(0.1, 0.9, 2 * self.anchors).reshape(self.anchors, 2)

    @property
    def output_channels(self) -> dict[str, int]:
        per = {"obj": 1, "quality": 1, "cls": self.classes}
        return {"box": 4 * self.anchors, **{name: self.anchors * per[name] for name in self.maps}}

    def input_table(self) -> Array:
        top = 2 ** (self.bits - 1) - 1
        return np.clip(np.floor(np.arange(256) / 255 * 2.0 ** (self.bits - 1) + 0.5), -top - 1, top).astype(np.int16)

    def input_of(self, network: Array) -> Array:
        """Integers [1, H, W, C] of a uint8 network input."""
        return self.input_table()[network][None].astype(self.dtype)

    def run(self, tensor: Array) -> dict[str, Array]:
        """What the C++ below computes."""
        flat = tensor.reshape(-1).astype(np.int64)
        outputs = {}
        for o, (name, channels) in enumerate(self.output_channels.items()):
            k = np.arange(self.grid_h * self.grid_w * channels)
            values = flat[(k * (2 * o + 3) + o) % len(flat)] * 3 + k
            shape = (1, self.grid_h, self.grid_w, channels)
            outputs[name] = values.astype(np.uint64).astype(self.dtype).reshape(shape)
        return outputs

    def real(self, outputs: dict[str, Array]) -> dict[str, Array]:
        """Float maps [1, C, H, W] of integer outputs."""
        return {n: v.astype(np.float64).transpose(0, 3, 1, 2) * 2.0**self.exponent for n, v in outputs.items()}

    @property
    def score_mode(self) -> str:
        return "_".join(self.maps)

    def knots(self) -> Array:
        """The real values at which tables are sampled."""
        q = np.arange(-128, 128) if self.bits == 8 else np.arange(-32768, 32769, 64)
        return q * 2.0**self.exponent

    def write(self, folder: Path) -> Path:
        """Write the component and return its folder."""
        (folder / "src").mkdir(parents=True, exist_ok=True)
        (folder / "src" / "model.cpp").write_text(self.source())
        return folder

    def source(self) -> str:
        shift = 0 if self.bits == 8 else 6
        x = self.knots()
        sizes = [
            np.minimum(np.rint(65535 * size * softplus(x)), 4 * 65535).astype(np.int64)
            for size in self.anchor_sizes.reshape(-1)
        ]
        element = self.bits // 8
        input_bytes = self.height * self.width * self.channels * element
        offset, tensors = input_bytes + (-input_bytes) % 16, []
        for name, channels in self.output_channels.items():
            tensors.append(
                f'{{"{name}", {self.grid_h}, {self.grid_w}, {channels}, {element}, {self.exponent}, {offset}}}'
            )
            size = self.grid_h * self.grid_w * channels * element
            offset += size + (-size) % 16
        names = list(self.output_channels)
        index = {name: names.index(name) if name in names else -1 for name in ("box", "obj", "quality", "cls")}
        none = "{nullptr, 0}"
        factors = ", ".join(f"{{kSigmoid, {shift}}}" if n in self.maps else none for n in ("obj", "quality", "cls"))
        classes = self.classes if "cls" in self.maps else 1
        wh_names = ", ".join(f"{{kSize{i}, {shift}}}" for i in range(len(sizes)))
        ctype = f"int{self.bits}_t"
        return f"""
#include "uhd/model.hpp"
namespace uhd {{
namespace {{
alignas(16) constexpr uint8_t kEspdl[] = {{{_numbers(self.espdl)}}};
constexpr uint8_t kHash[] = {{{_numbers(self.hash)}}};
constexpr int16_t kInput[] = {{{_numbers(self.input_table())}}};
constexpr uint16_t kSigmoid[] = {{{_numbers(np.rint(65535 * sigmoid(x)).astype(np.int64))}}};
{"".join(f"constexpr uint32_t kSize{i}[] = {{{_numbers(v)}}};{chr(10)}" for i, v in enumerate(sizes))}
constexpr Table32 kSizes[] = {{{wh_names}}};
constexpr TensorInfo kOutputs[] = {{{", ".join(tensors)}}};
constexpr DecodeSpec kDecode = {{{self.anchors + (self.broken == "anchors")}, {classes}, {self.grid_h},
  {self.grid_w}, {self.top_k}, {9 if self.broken == "index" else index["box"]}, {index["obj"]},
  {index["quality"]}, {index["cls"]},
  {self.score_threshold}, {self.nms_iou},
  {{kSigmoid, {6 - shift if self.broken == "table" else shift}}}, kSizes, {factors}}};
constexpr ModelInfo kInfo = {{"{self.name}", "R", "c", kEspdl, sizeof(kEspdl), kHash, {offset},
  {{"input", {self.height}, {self.width}, {self.channels}, {element}, {1 - self.bits}, 0}},
  kOutputs, {len(names)}, kInput, {"&kDecode" if self.head else "nullptr"}}};
}}
const ModelInfo& model_info() {{ return kInfo; }}
Status model_run(const void* input, void* const* outputs, uint8_t* arena) {{
  if ({1 if self.broken == "run" else 0}) return Status::Corrupt;
  if (!input || !outputs || !arena) return Status::InvalidArgument;
  const auto* in = static_cast<const {ctype}*>(input);
  const uint32_t n = kInfo.input.elements();
  for (uint32_t o = 0; o < kInfo.output_count; o++) {{
    auto* out = static_cast<{ctype}*>(outputs[o]);
    for (uint32_t k = 0; k < kOutputs[o].elements(); k++) {{
      const uint32_t value = static_cast<uint32_t>(in[(k * (2 * o + 3) + o) % n]) * 3u + k;
      out[k] = static_cast<{ctype}>(value);
    }}
  }}
  return Status::Ok;
}}
}}
"""


def _numbers(values: Any) -> str:
    return ", ".join(str(int(v)) for v in values)
