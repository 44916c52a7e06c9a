"""The memory plan: nothing alive is ever overwritten, and little is wasted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.components import made_detector
from support.made_models import Maker
from support.shared import shared_dir
from uhd.codegen.lower import lower
from uhd.codegen.plan import ALIGNMENT, MemoryPlan, lifetimes, plan_memory, plan_program
from uhd.codegen.steps import Program, Ref, Step, Value
from uhd.espdl.inspect import peak_activation_bytes
from uhd.espdl.reader import read_espdl


def program(sizes: list[int], steps: list[tuple[list[int], int, int, bool]]) -> Program:
    """Tensors t0 (the input), t1, ...; steps (reads, writes, scratch bytes, may take over its first operand)."""
    values = {f"t{i}": Value(f"t{i}", (1, 1, 1, size), 1, -128, 127) for i, size in enumerate(sizes)}
    made = [
        Step(f"n{i}", "Op", "kernel", tuple(Ref(f"t{r}") for r in reads), tuple(f"t{r}" for r in reads), f"t{write}",
             scratch_bytes=scratch, in_place=(f"t{reads[0]}",) if in_place else ())
        for i, (reads, write, scratch, in_place) in enumerate(steps)
    ]  # fmt: skip
    return Program(tuple(made), values, b"", ("t0",), (f"t{steps[-1][1]}",))


@st.composite
def programs(draw: st.DrawFn) -> Program:
    count = draw(st.integers(1, 14))
    sizes = [draw(st.integers(1, 300)) for _ in range(count + 1)]
    steps = []
    for write in range(1, count + 1):
        reads = draw(st.lists(st.integers(0, write - 1), min_size=1, max_size=3, unique=True))
        steps.append((reads, write, draw(st.sampled_from([0, 0, 16, 100])), draw(st.booleans())))
    return program(sizes, steps)


def check(plan: MemoryPlan, made: Program) -> None:
    """What every plan owes its program, found out by replaying it."""
    spans = lifetimes(made)
    places = {name: (plan.offsets[name], plan.offsets[name] + made.values[name].size) for name in spans}
    for start, end in places.values():
        assert start % ALIGNMENT == 0 and 0 <= start <= end <= plan.arena_bytes
    holds: dict[str, tuple[int, int]] = {name: places[name] for name in made.inputs}  # what is valid in memory
    for index, step in enumerate(made.steps):
        for name in step.reads:
            assert made.root(name)[0] in holds, f"step {index} reads {name}, which was overwritten"
        written = [places[made.root(step.writes)[0]]]
        if step.scratch_bytes:
            start = plan.scratch[index]
            assert start >= 0 and start % ALIGNMENT == 0 and start + step.scratch_bytes <= plan.arena_bytes
            written.append((start, start + step.scratch_bytes))
            assert written[1][0] >= written[0][1] or written[1][1] <= written[0][0], "scratch lies in the result"
            for name in step.reads:
                a, b = places[made.root(name)[0]]
                assert b <= written[1][0] or a >= written[1][1], "scratch lies in an operand"
        for name in step.reads:  # a result over an operand only where the kernel allows
            a, b = places[made.root(name)[0]]
            overlap = a < written[0][1] and written[0][0] < b
            if overlap and made.root(name)[0] != made.root(step.writes)[0]:
                assert name in step.in_place and a == written[0][0], f"step {index} destroys {name} while reading"
        holds = {n: p for n, p in holds.items() if all(p[1] <= a or p[0] >= b for a, b in written)}
        root = made.root(step.writes)[0]
        holds[root] = places[root]
    for name in made.outputs:
        assert made.root(name)[0] in holds, f"output {name} is overwritten before the end"


@settings(max_examples=300, deadline=None)
@given(programs())
def test_random_programs(made: Program) -> None:
    plan = plan_program(made)
    check(plan, made)
    assert (
        plan.peak_live_bytes
        <= plan.arena_bytes
        <= sum(-(-v.size // 16) * 16 for v in made.values.values()) + 116 * len(made.steps)
    )


def test_a_chain_needs_two_tensors() -> None:
    made = program([160] * 6, [([i], i + 1, 0, False) for i in range(5)])
    assert plan_program(made).arena_bytes == 320


def test_a_chain_in_place_needs_one_but_keeps_the_input() -> None:
    """The graph's input may be the caller's, so its memory is never a result's; all others are one."""
    made = program([160] * 6, [([i], i + 1, 0, True) for i in range(5)])
    plan = plan_program(made)
    assert plan.arena_bytes == 320
    assert len({plan.offsets[f"t{i}"] for i in range(1, 6)}) == 1


def test_an_operand_that_is_needed_again_stays() -> None:
    made = program([160] * 4, [([0], 1, 0, False), ([1], 2, 0, True), ([2, 1], 3, 0, True)])
    plan = plan_program(made)
    check(plan, made)
    assert plan.offsets["t1"] != plan.offsets["t2"]


def test_views_keep_their_owner_alive() -> None:
    """A view is read long after its owner's last own use."""
    made = program([160] * 4, [([0], 1, 0, False), ([0], 2, 0, False), ([1, 2], 3, 0, False)])
    values = dict(made.values)
    values["v"] = Value("v", (1, 10, 1, 16), 1, -128, 127, source=("t1", 0))
    steps = [*made.steps[:2], Step("n", "Op", "kernel", (), ("v", "t2"), "t3")]
    made = Program(tuple(steps), values, b"", made.inputs, made.outputs)
    plan = plan_program(made)
    check(plan, made)
    assert lifetimes(made)["t1"] == (0, 2)


def test_an_operand_read_under_two_names_stays() -> None:
    """A result made in place would change what the other name is still to give."""
    made = program([160] * 3, [([0], 1, 0, False), ([1], 2, 0, True)])
    values = dict(made.values)
    values["v"] = Value("v", (1, 10, 1, 16), 1, -128, 127, source=("t1", 0))
    twice = replace(made.steps[1], reads=("t1", "v"))
    made = Program((made.steps[0], twice), values, b"", made.inputs, made.outputs)
    plan = plan_program(made)
    assert plan.offsets["t1"] != plan.offsets["t2"]


def test_golden_file_reaches_the_bound() -> None:
    """R needs 24,576 bytes of live activations; what the plan adds is the scratch of the step at the peak."""
    model = read_espdl(shared_dir("fixtures", "espdl", "w16_yuv_c.espdl"))
    plan = plan_memory(model)
    check(plan, lower(model))
    assert peak_activation_bytes(model) == 24576
    assert plan.arena_bytes == plan.peak_live_bytes <= 25 * 1024


@pytest.mark.parametrize("bits", [8, 16])
def test_detector(bits: int) -> None:
    made = lower(made_detector(1, "c", bits)[0])
    check(plan_program(made), made)


def test_concat_is_made_in_place() -> None:
    make = Maker(2)
    x = make.input(8, 8, 16)
    a, b = make.conv(x, 16), make.conv(x, 16)
    model = make.model(make.conv(make.concat([a, b]), 8))
    made = lower(model)
    assert [step.kernel.partition("<")[0] for step in made.steps] == ["conv_gemm"] * 3
    plan = plan_program(made)
    check(plan, made)
    assert plan.arena_bytes < 1024 + 2048 + 512 + 512 + 1


def test_concat_copies_what_others_read() -> None:
    make = Maker(3)
    x = make.input(4, 4, 8)
    a = make.conv(x, 8)
    b = make.conv(a, 8)
    b = make.requantize(b, make.tensors[a].exponent - make.tensors[b].exponent)
    made = lower(make.model(make.concat([a, b, a])))
    assert [step.kernel for step in made.steps if step.op == "Concat"] == ["move<int8_t>"] * 3
    check(plan_program(made), made)
