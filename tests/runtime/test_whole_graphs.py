"""Random graphs: lowered, planned and run with the compiled kernels, against the integer oracle, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support.made_models import Maker, random_inputs
from support.program_runner import Runner
from uhd.codegen.lower import lower
from uhd.codegen.plan import plan_program
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel

TARGETS = ["c", "esp32s3", "esp32p4"]


def random_model(seed: int, target: str, bits: int, steps: int) -> EspdlModel:
    """A random directed graph of supported operators; every result that nobody reads is an output."""
    make = Maker(seed, target, bits)
    rng = make.rng
    size = int(rng.integers(1, 12)), int(rng.integers(1, 12))
    alive = [make.input(*size, int(rng.integers(1, 10)))]
    for _ in range(steps):
        x = alive[int(rng.integers(len(alive)))]
        alive.append(grow(make, x, alive))
    read = {name for node in make.nodes for name in node.inputs}
    outputs = [name for name in alive if name not in read and name not in make.inputs]
    return make.model(*dict.fromkeys(outputs))


def grow(make: Maker, x: str, alive: list[str]) -> str:
    rng = make.rng
    _, height, width, channels = make.shape(x)
    spread = float(rng.choice([0.02, 0.2, 0.6, 9.0]))
    relu = bool(rng.integers(2))
    kind = int(rng.integers(12))
    if kind <= 1:
        return make.conv(x, int(rng.integers(1, 14)), relu=relu, spread=spread, bias=bool(rng.integers(4)))
    if kind <= 4:
        kernel = tuple(int(v) for v in rng.integers(1, 6 if kind == 4 else 4, 2))
        strides = tuple(int(v) for v in rng.integers(1, 4, 2))
        dilations = tuple(int(v) for v in rng.integers(1, 3, 2))
        pads = tuple(int(v) for v in rng.integers(0, 3, 4))
        reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        if height + pads[0] + pads[2] < reach[0] or width + pads[1] + pads[3] < reach[1]:
            return make.same("Relu", [x])
        group = channels if kind >= 3 and channels > 1 else 1
        outputs = channels if group > 1 else int(rng.integers(1, 9))
        return make.conv(x, outputs, kernel, strides=strides, pads=pads, dilations=dilations, group=group, relu=relu,
                         spread=spread)  # fmt: skip
    if kind == 5:
        return make.pool(x, int(rng.integers(1, 4)), int(rng.integers(1, 3)), 1) if min(height, width) > 1 else x
    if kind == 6:
        return make.gate(x)
    if kind == 7:
        return make.resize(x, height + int(rng.integers(4)), 2 * width, int(rng.integers(-1, 2)))
    if kind == 8:
        return make.requantize(x, int(rng.integers(-2, 4)))
    partners = [y for y in alive if make.shape(y)[:3] == make.shape(x)[:3]
                and make.tensors[y].exponent == make.tensors[x].exponent]  # fmt: skip
    if kind == 9:
        other = make.conv(x, int(rng.integers(1, 8)), relu=relu)
        make.tensors[other] = type(make.tensors[other])(
            other, make.shape(other), make.tensors[other].dtype, (make.tensors[x].exponent,)
        )
        return make.concat([x, other, partners[int(rng.integers(len(partners)))]])
    same = [y for y in partners if make.shape(y) == make.shape(x)]
    return make.same(["Add", "Sub"][kind % 2], [x, same[int(rng.integers(len(same)))]])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 1 << 30), st.sampled_from(TARGETS), st.sampled_from([8, 16]), st.integers(1, 12), st.booleans())
@example(119678419, "c", 8, 3, False)  # a pooling window in the padding, below what its input can be
def test_equals_the_oracle(seed: int, target: str, bits: int, steps: int, scalar: bool) -> None:
    model = random_model(seed, target, bits, steps)
    if not model.outputs:
        return
    program = lower(model)
    runner = Runner(program, plan_program(program), scalar=scalar)
    for kind in ("random", "ends", "low"):
        inputs = random_inputs(model, np.random.default_rng(seed), kind)
        wanted = oracle.run(model, inputs)
        for inside in (True, False):
            made = runner.run(inputs, inside=inside)
            for name in model.outputs:
                np.testing.assert_array_equal(made[name], wanted[name], err_msg=f"{name} ({kind}, inside={inside})")


@pytest.mark.parametrize("bits", [8, 16])
def test_random_graphs_reach_every_kernel(bits: int) -> None:
    """The generator above would otherwise prove little."""
    used = {
        step.kernel.partition("<")[0] for seed in range(60) for step in lower(random_model(seed, "c", bits, 12)).steps
    }
    table = "lookup8" if bits == 8 else "lookup16"
    assert used >= {"conv_gemm", "conv_depthwise", "add", "subtract", "multiply", "requantize", "max_pool",
                    "spatial_mean", "resize_nearest", "move", table}  # fmt: skip
