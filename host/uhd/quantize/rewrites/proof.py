"""Two forms of a quantized model compute the same integers: shown by their constants, and on pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ModelError
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel, Node, Tensor
from uhd.quantize.adapter import quantize_input
from uhd.quantize.rewrites.names import Names
from uhd.quantize.rewrites.split import Split

_HINT = "nothing was written; quantize without the rewrite, and report the model"


@dataclass(frozen=True)
class Proof:
    """``constants``: integers of filters, biases and tables compared. ``pictures`` were run through both forms, and
    ``values`` integers of outputs and activations between were compared; none differed.
    """

    constants: int
    pictures: int
    values: int

    def __str__(self) -> str:
        return (
            f"{self.constants:,} integers of constants, and {self.values:,} of activations on {self.pictures} pictures"
        )


def prove(
    before: EspdlModel,
    after: EspdlModel,
    splits: Sequence[Split],
    pictures: NDArray[np.float32],
    progress: Callable[[str, int, int], None] | None = None,
    names: Names | None = None,
    padded: Collection[str] = (),
    merged: Mapping[str, str] | None = None,
) -> Proof:
    """Compare a model with its rewritten form, ``pictures`` being float32 [N, C, H, W] in 0..1.

    Constants are compared one by one, because equal ones on an equal grid give equal sums whatever the picture shows;
    the pictures test how the pieces are put together. ``names``: those of ``after``, where they were shortened.
    ``padded``: tensors of ``before`` that have more channels in ``after``; what was added to constants must be 0.
    ``merged``: tensors of ``before`` that are gone, each with one that must be equal to it.
    Raises ``ModelError`` at the first integer or exponent that differs.
    """
    names, merged = names or Names({}, {}), merged or {}
    ends = [(model.target, model.inputs, model.outputs) for model in (before, after)]
    if ends[0] != ends[1]:
        raise ModelError("the rewritten model has other inputs or outputs", hint=_HINT)
    constants = _compare_constants(before, after, splits, names, padded, merged)
    shared = _shared(before, after, splits, names, padded, merged)
    values = 0
    for index, picture in enumerate(pictures):
        if progress is not None:
            progress("compare", index, len(pictures))
        inputs = quantize_input(before, picture)
        old, new = (oracle.run(model, inputs, keep_all=True) for model in (before, after))
        for name, parts in shared.items():
            found = new[parts[0]] if len(parts) == 1 else np.concatenate([new[part] for part in parts], axis=-1)
            if name in padded:
                found = found[..., : old[name].shape[-1]]
            wrong = int(np.count_nonzero(old[name] != found))
            if wrong:
                raise ModelError(
                    f"the rewritten model differs in {wrong} of {old[name].size} integers of {name} on picture {index}",
                    hint=_HINT,
                )
            values += old[name].size
    return Proof(constants, len(pictures), values)


def _shared(
    before: EspdlModel,
    after: EspdlModel,
    splits: Sequence[Split],
    names: Names,
    padded: Collection[str],
    merged: Mapping[str, str],
) -> dict[str, tuple[str, ...]]:
    """The activations of ``before``, each with the tensor or the pieces that ``after`` has for it."""
    old, new = ({name for node in model.nodes for name in node.outputs} for model in (before, after))
    pieces = {split.output: split.part_outputs for split in splits if split.merged}
    shared = {
        name: tuple(names.tensors.get(part, part) for part in pieces.get(name, (merged.get(name, name),)))
        for name in sorted(old)
    }
    lost = [part for parts in shared.values() for part in parts if part not in new]
    if lost:
        raise ModelError(f"the rewritten model lacks {', '.join(lost[:3])}", hint=_HINT)
    for name, parts in shared.items():
        whole, found = before.tensors[name], [after.tensors[part] for part in parts]
        channels = sum(part.shape[-1] for part in found) if whole.shape else 0
        same = all((part.dtype, part.exponents) == (whole.dtype, whole.exponents) for part in found)
        alike = all(part.shape[:-1] == whole.shape[:-1] for part in found)
        wanted = whole.shape[-1] if whole.shape else 0
        if not (same and alike and (channels > wanted if name in padded else channels == wanted)):
            raise ModelError(f"the rewritten model has another shape, type or exponent of {name}", hint=_HINT)
    return shared


def _compare_constants(
    before: EspdlModel,
    after: EspdlModel,
    splits: Sequence[Split],
    names: Names,
    padded: Collection[str],
    merged: Mapping[str, str],
) -> int:
    """Constants of every operator, those of pieces joined; returns how many numbers were compared."""
    parts = {split.operator: split.parts for split in splits}
    nodes = {node.name: node for node in after.nodes}
    compared = 0
    for node in before.nodes:
        if node.outputs[0] in merged:
            continue
        wanted = [names.operators.get(name, name) for name in parts.get(node.name, (node.name,))]
        pieces = [nodes[name] for name in wanted if name in nodes]
        grown = not {*node.inputs, *node.outputs}.isdisjoint(padded)
        if len(pieces) != len(wanted) or any(not _alike(node, piece, grown) for piece in pieces):
            raise ModelError(f"the rewritten model lacks a piece of {node.name}", hint=_HINT)
        if node.op in ("Concat", "Resize"):  # inputs and sizes may be others; values are compared where they are made
            continue
        tables = [node.attributes["lut"]] if isinstance(node.attributes.get("lut"), str) else []
        for index, name in enumerate([*node.inputs, *tables]):
            whole = before.tensors.get(name)
            if whole is None or whole.data is None:
                continue
            found = [after.tensors[_constant(piece, index)] for piece in pieces]
            if not (_same_integers(whole, found, grown) and _same_exponents(whole, found, grown)):
                what = ("input", "filter", "bias")[index] if node.op == "Conv" else "constant"
                raise ModelError(f"the rewritten model has another {what} of {node.name}", hint=_HINT)
            compared += math.prod(whole.shape)
    return compared


def _alike(node: Node, piece: Node, padded: bool) -> bool:
    """Whether two nodes do the same: a Concat may have more inputs, a table another name, a padded one more groups."""
    free = ("lut", "group") if padded and node.attributes.get("group", 1) > 1 else ("lut",)
    old, new = ({key: v for key, v in n.attributes.items() if key not in free} for n in (node, piece))
    return old == new and node.op == piece.op and (node.op == "Concat" or len(node.inputs) == len(piece.inputs))


def _constant(node: Node, index: int) -> str:
    """The name of a node's input, or behind the last one, of its table."""
    return node.inputs[index] if index < len(node.inputs) else str(node.attributes["lut"])


def _same_integers(whole: Tensor, pieces: Sequence[Tensor], padded: bool) -> bool:
    """Whether the pieces, joined, are the whole; where channels were padded, with zeros behind it."""
    values = [piece.data for piece in pieces if piece.data is not None]
    if whole.data is None or len(values) != len(pieces):
        return False
    joined = values[0] if len(values) == 1 else np.concatenate(values)  # output channels: a dense filter's first axis
    kept = joined[tuple(slice(size) for size in whole.shape)] if padded else joined
    zeros = np.count_nonzero(joined) == np.count_nonzero(kept)
    return zeros and joined.dtype == whole.data.dtype and np.array_equal(kept, whole.data)


def _same_exponents(whole: Tensor, pieces: Sequence[Tensor], padded: bool) -> bool:
    """Whether the pieces' exponents are the whole's, be they one or one a channel."""
    if len(whole.exponents) == 1:
        return all(piece.exponents == whole.exponents for piece in pieces)
    spread = [piece.exponents * (piece.shape[0] if len(piece.exponents) == 1 else 1) for piece in pieces]
    joined = sum(spread, ()) if len(pieces) > 1 else pieces[0].exponents
    return (joined[: len(whole.exponents)] if padded else joined) == whole.exponents
