"""Which operators of a graph compute in int16, chosen by regular expressions over their names.

The rule is the reference's: ``re.search(pattern, name)`` over the names of all operators of all types, so a pattern
is found anywhere in a name. Here the graph is the one that esp-ppq works on, after its simplifier.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from uhd.errors import ConfigError
from uhd.quantize.presets import Preset

#: Activations that ESP-DL runs as part of the convolution before them: both compute in the same precision.
FUSED_ACTIVATIONS = frozenset({"Relu", "Clip"})
FUSING_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

#: ESP-DL 3.3.9 has no code behind these in int16: the output buffer keeps whatever it held.
NO_INT16 = frozenset({"Resize"})

#: Computed through a 256-entry table in int8, and with a float function per element in int16.
TABLE_ACTIVATIONS = frozenset(
    {"Sigmoid", "Swish", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Gelu", "LeakyRelu", "Exp", "Log", "PRelu"}
)


#: Blocks of the head's branches. Exports leave out a branch that the score does not use.
_BRANCH = re.compile(r"(?<![a-z_])(obj|quality|cls)_(conv|tower|reduce|out)(?![a-z_])")

#: What a graph of the whole model has before the names that a graph of backbone and head has.
_WRAPPED = re.compile(r"^/model(/head)?(?=/)")


@dataclass(frozen=True)
class Operator:
    """A node of the graph: ``consumers`` are the names of the operators that read its output."""

    name: str
    type: str
    consumers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Selection:
    """``int16``: names in graph order. ``int8``: names kept at int8 although the rest is int16. ``notes``: remarks."""

    int16: tuple[str, ...]
    int8: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """The compiled expression. Raises ``ConfigError`` if it is empty or not a regular expression."""
    if not pattern:
        raise ConfigError("an int16 pattern is empty", hint="an empty expression matches every operator; write '.'")
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"int16 pattern {pattern!r} is not a regular expression ({error})") from None


def nearest_names(pattern: str, names: Sequence[str], count: int = 3) -> list[str]:
    """The names most like a pattern, best first."""
    plain = re.sub(r"\\(.)", r"\1", pattern).strip("^$")
    tail = plain.rsplit("/", 1)[0] or plain
    found = difflib.get_close_matches(plain, names, n=count, cutoff=0.5)
    found += [n for n in difflib.get_close_matches(tail, names, n=count, cutoff=0.3) if n not in found]
    return (found or sorted(names))[:count]


def select(
    operators: Sequence[Operator], patterns: Sequence[str], preset: Preset | None = None, bits: int = 8
) -> Selection:
    """Decide the precision of every operator.

    A convolution and the Relu fused into it count as one: if either is matched, both compute in int16. ``preset``
    entries that name an operator which this graph lacks, and patterns for a branch of the head that it lacks
    altogether, are dropped with a note as long as others match.
    With ``bits=16`` everything is int16 but what ESP-DL cannot do, or only slowly and inexactly, in int16.

    Raises:
        ConfigError: a pattern is malformed or matches nothing, no entry of the preset matches, or a pattern asks for
            an int16 operator that ESP-DL does not have.
    """
    names = [operator.name for operator in operators]
    if bits == 16:
        return _all_but_impossible(operators, patterns)
    notes: list[str] = []
    chosen: set[str] = set()
    absent: list[str] = []
    for pattern in patterns:
        expression = compile_pattern(pattern)
        found = {name for name in names if expression.search(name)}
        if not found and (bare := _WRAPPED.sub("", pattern)) not in ("", pattern):
            found = {name for name in names if compile_pattern(bare).search(name)}
            if found:
                notes.append(f"{pattern} is written for a graph of the whole model: taken as {bare}")
        branch = _BRANCH.search(pattern)
        if not found and branch and not any(branch[1] == b[1] for b in map(_BRANCH.search, names) if b):
            absent.append(pattern)
            notes.append(f"{pattern}: the graph has no {branch[1]} branch, which its score does not use")
        elif not found:
            near = ", ".join(nearest_names(pattern, names))
            raise ConfigError(f"int16 pattern {pattern!r} matches none of {len(names)} operators", hint=f"near: {near}")
        chosen |= found
    if absent and not chosen:
        raise ConfigError(
            f"int16 pattern {absent[0]!r} matches none of {len(names)} operators: the graph has no such branch",
            hint="leave the pattern out, or export the branch",
        )
    if preset is not None:
        chosen |= _preset_names(preset, names, notes)
    for operator in operators:
        if operator.name in chosen and operator.type in NO_INT16:
            raise ConfigError(
                f"operator {operator.name} cannot be int16: ESP-DL's int16 {operator.type} is an empty function",
                hint="narrow the pattern so that it leaves this operator out",
            )
    return Selection(_close_over_fusion(operators, chosen), notes=tuple(notes))


def _preset_names(preset: Preset, names: Sequence[str], notes: list[str]) -> set[str]:
    chosen: set[str] = set()
    missing: list[str] = []
    for entry, pattern in zip(preset.operators, preset.patterns, strict=True):
        expression = re.compile(pattern)
        found = {name for name in names if expression.search(name)}
        chosen |= found
        if not found:
            missing.append(entry)
    if preset.operators and not chosen:
        raise ConfigError(
            f"no operator of preset {preset.name} is in this model",
            hint=f"use another preset, or patterns; the model's names are like {names[0] if names else '(none)'}",
        )
    if missing:
        notes.append(f"preset {preset.name}: the model has no {', '.join(missing)}")
    return chosen


def _close_over_fusion(operators: Sequence[Operator], chosen: set[str]) -> tuple[str, ...]:
    by_name = {operator.name: operator for operator in operators}
    closed = set(chosen)
    for operator in operators:
        if operator.type not in FUSING_OPERATORS or len(operator.consumers) != 1:
            continue
        consumer = by_name.get(operator.consumers[0])
        if consumer is None or consumer.type not in FUSED_ACTIVATIONS:
            continue
        if {operator.name, consumer.name} & closed:
            closed |= {operator.name, consumer.name}
    return tuple(operator.name for operator in operators if operator.name in closed)


def _all_but_impossible(operators: Sequence[Operator], patterns: Sequence[str]) -> Selection:
    if patterns:
        raise ConfigError("int16 patterns have no meaning with 16 bits", hint="leave out either the patterns or --bits")
    kept = tuple(o.name for o in operators if o.type in NO_INT16 | TABLE_ACTIVATIONS)
    notes = (f"kept at int8: {', '.join(kept)}",) if kept else ()
    return Selection(tuple(o.name for o in operators if o.name not in kept), int8=kept, notes=notes)
