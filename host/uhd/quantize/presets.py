"""Which operators compute in int16: the published lists, by name.

Source: the quantization commands in the reference's README (commit 4731a49). Two of its profiles carry a title,
"maximum speed" (no int16 operator) and "minimize quantization error" (the 22 operators of variant R); the other
variants have one list each, given with the command for the distilled YUV 4:2:2 model. Here the first is ``speed``,
the list that minimizes the error of a variant is ``precision``, and R's short list is ``distill``.

The README names operators of two kinds of graph: ``/model/head/...`` where the whole model was traced, and
``/...`` where backbone and head were. Its exporter further puts ``/depthwiseconv`` before depthwise convolutions.
The lists below hold the part that all of these share, and a preset matches it as the end of an operator's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from uhd.errors import ConfigError
from uhd.variants import VARIANTS, get_variant


@dataclass(frozen=True)
class Preset:
    """A named choice of int16 operators. ``operators`` are ends of operator names; empty: everything is int8."""

    name: str
    purpose: str
    operators: tuple[str, ...] = ()

    @property
    def patterns(self) -> tuple[str, ...]:
        """``operators`` as regular expressions for ``re.search``."""
        return tuple(f"{re.escape(name)}$" for name in self.operators)


def _depthwise(*blocks: str) -> tuple[str, ...]:
    """Names of the depthwise halves of blocks."""
    return tuple(f"{block}/dw/conv/Conv" for block in blocks)


_CONTEXT_0 = "/context_res/context_res.0"
_CONTEXT_2 = "/context_res/context_res.2"
_LARGE_0 = "/large_obj_blocks/large_obj_blocks.0"
_LARGE_1 = "/large_obj_blocks/large_obj_blocks.1"
_BOX_0 = "/box_tower/box_tower.0"
_BOX_1 = "/box_tower/box_tower.1"
_QUALITY_0 = "/quality_tower/quality_tower.0"
_QUALITY_1 = "/quality_tower/quality_tower.1"
_BLOCK_1 = "/backbone/block1"

_MINIMIZE_ERROR_R = (
    "/box_out/Conv",
    "/large_obj_down/large_obj_down.3/conv/Conv",
    "/large_obj_down/large_obj_down.3/act/Relu",
    "/backbone/block1/pw/conv/Conv",
    "/backbone/block1/pw/act/Relu",
    "/backbone/block2/dw/conv/Conv",
    "/backbone/block2/dw/act/Relu",
    "/backbone/block3_skip/conv/Conv",
    "/backbone/block2/pw/conv/Conv",
    "/backbone/block2/pw/act/Relu",
    "/backbone/block1/dw/conv/Conv",
    "/backbone/block1/dw/act/Relu",
    "/backbone/sppf/cv1/conv/Conv",
    "/backbone/sppf/cv1/act/Relu",
    "/backbone/stem/conv/Conv",
    "/backbone/stem/act/Relu",
    "/large_obj_fuse/conv/Conv",
    "/large_obj_fuse/act/Relu",
    "/large_obj_blocks/large_obj_blocks.1/pw/conv/Conv",
    "/large_obj_blocks/large_obj_blocks.0/pw/act/Relu",
    "/large_obj_blocks/large_obj_blocks.0/pw/conv/Conv",
    "/large_obj_blocks/large_obj_blocks.1/pw/act/Relu",
)

#: The list of the distilled YUV 4:2:2 model of each variant, in the README's order.
_DISTILLED: dict[str, tuple[str, ...]] = {
    "R": _depthwise(_BLOCK_1, _CONTEXT_2, _LARGE_0, _LARGE_1),
    "Y": _depthwise(_CONTEXT_0, _BOX_1, _QUALITY_1, _LARGE_0, _LARGE_1),
    "Z": _depthwise(_CONTEXT_0, _CONTEXT_2, _LARGE_0, _LARGE_1, _BOX_1, _QUALITY_1, "/obj_conv"),
    "A": (
        *_depthwise(_BLOCK_1, _CONTEXT_2),
        "/large_obj_down/large_obj_down.0/Conv",
        *_depthwise(_LARGE_0, _LARGE_1, _BOX_0, "/obj_conv", _QUALITY_0, _BOX_1, _QUALITY_1, _CONTEXT_0),
    ),
    "F": _depthwise(_BLOCK_1, "/context", _CONTEXT_2, _LARGE_0, _LARGE_1, _BOX_1, _QUALITY_1),
    "P": _depthwise(_CONTEXT_0, _CONTEXT_2, _LARGE_1, _BOX_1, _QUALITY_1, _LARGE_0),
    "N": _depthwise(_CONTEXT_2, _LARGE_0, _LARGE_1, _BOX_1, _QUALITY_1),
    "T": _depthwise(_CONTEXT_2, _LARGE_1, _BOX_1),
}


def _table() -> dict[str, Preset]:
    rows = [Preset("int8", "every operator in int8")]
    for letter in VARIANTS:
        rows.append(Preset(f"{letter}-speed", f"maximum speed of variant {letter}: every operator in int8"))
    rows.append(Preset("R-precision", "smallest quantization error of variant R", _MINIMIZE_ERROR_R))
    rows.append(Preset("R-distill", "published with the distilled variant R", _DISTILLED["R"]))
    for letter, operators in _DISTILLED.items():
        if letter != "R":
            rows.append(Preset(f"{letter}-precision", f"smallest quantization error of variant {letter}", operators))
    return {preset.name: preset for preset in rows}


#: All presets by full name: ``int8``, ``R-speed``, ``R-precision``, ...
PRESETS: dict[str, Preset] = _table()


def resolve_preset(name: str, variant: str | None = None) -> Preset:
    """The preset of a full name (``R-precision``) or, with the variant's letter known, a short one (``precision``).

    Case does not matter. Raises ``ConfigError`` for a name that is not in the table, and for a short name where the
    variant is unknown or has no published list of that name.
    """
    by_name = {key.lower(): preset for key, preset in PRESETS.items()}
    wanted = name.strip().lower()
    if wanted in by_name:
        return by_name[wanted]
    short_names = sorted({key.partition("-")[2] for key in PRESETS if "-" in key})
    if wanted not in short_names:
        raise ConfigError(f"unknown preset {name!r}", hint=f"choose one of {', '.join(PRESETS)}")
    if variant is None:
        if wanted == "speed":
            return PRESETS["int8"]
        raise ConfigError(f"preset {name!r} depends on the variant", hint=f"name it in full, for example R-{wanted}")
    letter = get_variant(variant).letter
    if f"{letter}-{wanted}" not in PRESETS:
        have = ", ".join(key for key in PRESETS if key.startswith(f"{letter}-"))
        raise ConfigError(f"no {wanted} list is published for variant {letter}", hint=f"choose one of {have}")
    return PRESETS[f"{letter}-{wanted}"]
