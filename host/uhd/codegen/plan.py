"""The static memory plan: where in one arena every activation and every step's scratch lies.

Tensors live from the step that first writes them to the last that reads them; the graph's input from before the first
step, its outputs to the end. A result takes over the memory of an operand where the kernel allows and nobody needs
the operand any more. What remains are rectangles (time by bytes), placed largest first at the lowest free address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from uhd.codegen.steps import Program, Step
from uhd.espdl.model import EspdlModel

#: Addresses are multiples of this (kArenaAlignment).
ALIGNMENT = 16


@dataclass(frozen=True)
class Block:
    """Memory in use: ``size`` bytes at ``offset`` during steps [first, last] (-1: before the first step)."""

    names: tuple[str, ...]
    size: int
    first: int
    last: int
    offset: int = -1


@dataclass(frozen=True)
class MemoryPlan:
    """Byte offsets in the arena by tensor (those that own memory), and of each step's scratch (-1: none).

    ``arena_bytes`` is what the caller provides; ``peak_live_bytes`` the largest sum of tensors and scratch alive at
    once: no plan can do with less than the latter, in-place results counted once.
    """

    offsets: Mapping[str, int]
    scratch: tuple[int, ...]
    arena_bytes: int
    peak_live_bytes: int
    blocks: tuple[Block, ...]


def plan_memory(model: EspdlModel) -> MemoryPlan:
    """The plan for a model. Raises ``ModelError`` for a model that the runtime cannot run."""
    from uhd.codegen.lower import lower

    return plan_program(lower(model))


def plan_program(program: Program) -> MemoryPlan:
    """The plan for a lowered model: the smallest that a few orders of placement find."""
    candidates = [_place(_blocks(program, merge)) for merge in (True, False)]
    blocks = min(candidates, key=_extent)
    offsets = {name: block.offset for block in blocks for name in block.names if not name.startswith(_SCRATCH)}
    scratch = {name: block.offset for block in blocks for name in block.names if name.startswith(_SCRATCH)}
    return MemoryPlan(
        offsets=offsets,
        scratch=tuple(scratch.get(f"{_SCRATCH}{index}", -1) for index in range(len(program.steps))),
        arena_bytes=_extent(blocks),
        peak_live_bytes=_peak(blocks),
        blocks=tuple(blocks),
    )


#: Prefix of the names of scratch blocks; no tensor of a model has it, since names have no zero bytes.
_SCRATCH = "\0scratch "


def lifetimes(program: Program) -> dict[str, tuple[int, int]]:
    """(first, last) step of every tensor that owns memory."""
    last_step = len(program.steps)
    spans: dict[str, tuple[int, int]] = {}

    def touch(name: str, step: int) -> None:
        root = program.root(name)[0]
        first, last = spans.get(root, (step, step))
        spans[root] = (min(first, step), max(last, step))

    for name in program.inputs:
        touch(name, -1)
    for index, step in enumerate(program.steps):
        for name in (*step.reads, step.writes):
            touch(name, index)
    for name in program.outputs:
        touch(name, last_step)
    return spans


def _blocks(program: Program, merge: bool) -> list[Block]:
    """Tensors (merged where results are made in place) and scratch, not yet placed."""
    spans = lifetimes(program)
    owner = {name: name for name in spans}  # tensor -> the first tensor of its chain
    if merge:
        for index, step in enumerate(program.steps):
            source = _takes_over(program, spans, step, index)
            if source is not None:
                owner[program.root(step.writes)[0]] = owner[source]
    chains: dict[str, list[str]] = {}
    for name in spans:
        chains.setdefault(owner[name], []).append(name)
    blocks = [
        Block(
            tuple(chain),
            max(_aligned(program.values[name].size) for name in chain),
            min(spans[name][0] for name in chain),
            max(spans[name][1] for name in chain),
        )
        for chain in chains.values()
    ]
    blocks += [
        Block((f"{_SCRATCH}{index}",), _aligned(step.scratch_bytes), index, index)
        for index, step in enumerate(program.steps)
        if step.scratch_bytes
    ]
    return blocks


def _takes_over(program: Program, spans: Mapping[str, tuple[int, int]], step: Step, index: int) -> str | None:
    """The operand (its owner of memory) whose place the result of ``step`` may take, or None.

    The graph's input may lie outside the arena and is never written; a tensor that its owner shares with others, or
    that the step reads under two names, stays; so does one that the result would outgrow.
    """
    target = step.writes
    if target in program.inputs or spans[target][0] != index or program.values[target].source is not None:
        return None
    for name in step.in_place:
        root, offset = program.root(name)
        others = [other for other in step.reads if other != name and program.root(other)[0] == root]
        fits = program.values[target].size <= program.values[root].size and offset == 0
        if fits and not others and spans[root][1] == index and root not in program.inputs:
            return root
    return None


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _extent(blocks: Iterable[Block]) -> int:
    return max((block.offset + block.size for block in blocks), default=0)


def _place(blocks: list[Block]) -> list[Block]:
    """Give every block an offset; the best of three orders."""
    orders = (
        lambda b: (-b.size, b.first, b.names),
        lambda b: (b.first - b.last, -b.size, b.names),
        lambda b: (b.first, -b.size, b.names),
    )
    return min((_place_in_order(sorted(blocks, key=order)) for order in orders), key=_extent)


def _place_in_order(blocks: list[Block]) -> list[Block]:
    placed: list[Block] = []
    for block in blocks:
        offset = 0
        for other in sorted(placed, key=lambda b: b.offset):
            if other.last < block.first or other.first > block.last:
                continue
            if offset + block.size <= other.offset:
                break
            offset = max(offset, other.offset + other.size)
        placed.append(Block(block.names, block.size, block.first, block.last, offset))
    return placed


def _peak(blocks: Iterable[Block]) -> int:
    blocks = list(blocks)
    steps = {block.first for block in blocks}
    return max((sum(b.size for b in blocks if b.first <= step <= b.last) for step in steps), default=0)
