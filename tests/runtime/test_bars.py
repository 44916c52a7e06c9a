"""What the reference backend may cost: emulated instructions of an inference, and memory beside what is alive at once.

Instructions are counted on an emulated rv32imafc machine: a figure to compare versions by, no chip's time. The bars
are the product's; the tighter watch on growth is in test_bench.py and test_model_sizes.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.components import made_component
from support.core_bench import shipped
from uhd.codegen.plan import plan_memory
from uhd.device import runtime_bench as bench
from uhd.device.cross import emulator_missing
from uhd.espdl.reader import read_espdl
from uhd.paths import PACKAGE

#: The plan does not depend on the target.
SHIPPED = sorted(path.name for path in (PACKAGE / "zoo").glob("*_c_*.espdl"))

#: Millions of instructions: R (width 16) and Z (width 32) in int8, R with its published int16 operators.
BARS = [("R", "speed", 26), ("R", "precision", 32), ("Z", "speed", 90)]


@pytest.mark.emu
@pytest.mark.parametrize(("variant", "preset", "millions"), BARS)
def test_instructions(variant: str, preset: str, millions: int, tmp_path: Path) -> None:
    if missing := emulator_missing():
        pytest.skip(missing)
    path = shipped(variant, "c", preset)
    component = made_component(tmp_path / "m", read_espdl(path), path.read_bytes())
    assert 5e6 < bench.run_emulated(component).instructions <= millions * 1e6


@pytest.mark.parametrize("name", SHIPPED)
def test_the_arena_is_what_is_alive_at_once(name: str) -> None:
    """``peak_live_bytes`` itself is checked in tests/codegen/test_plan.py, against a count of its own."""
    plan = plan_memory(read_espdl(PACKAGE / "zoo" / name))
    assert plan.peak_live_bytes <= plan.arena_bytes <= 1.03 * plan.peak_live_bytes


def test_every_variant_has_shipped_models_here() -> None:
    assert len(SHIPPED) >= 8 and {name.split("_")[1] for name in SHIPPED} >= set("ryza")
