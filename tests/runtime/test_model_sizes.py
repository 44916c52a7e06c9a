"""T34: what a shipped model takes of a chip may not grow unnoticed.

``model_sizes.json`` holds bytes of each variant and target, preset speed: activations (arena), weights and tables of
the runtime, and the .espdl file, which lies in flash beside them. After a change on purpose:
``PYTHONPATH=tests python tests/runtime/test_model_sizes.py``.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.core_bench import shipped
from uhd.codegen.lower import lower
from uhd.codegen.plan import plan_program
from uhd.espdl.reader import read_espdl

TABLE = Path(__file__).with_name("model_sizes.json")
GROWTH = {"arena": 1.03, "weights": 1.02, "espdl": 1.02}
MODELS = [(variant, target) for variant in "RYZA" for target in ("esp32s3", "esp32p4", "c")]


def sizes(variant: str, target: str) -> dict[str, int]:
    """Bytes of a shipped model, as codegen lays it out."""
    path = shipped(variant, target)
    program = lower(read_espdl(path))
    return {
        "arena": plan_program(program).arena_bytes,
        "weights": len(program.data),
        "espdl": path.stat().st_size,
    }


def grown(recorded: dict[str, int], now: dict[str, int]) -> list[str]:
    """What is over its limit, in words."""
    return [
        f"{name}: {now[name]:,} bytes, recorded {recorded[name]:,}, allowed {limit - 1:.0%} more"
        for name, limit in GROWTH.items()
        if now[name] > recorded[name] * limit
    ]


@pytest.mark.parametrize(("variant", "target"), MODELS)
def test_sizes_do_not_grow(variant: str, target: str) -> None:
    recorded = json.loads(TABLE.read_text())[f"{variant} {target}"]
    now = sizes(variant, target)
    assert not grown(recorded, now)
    # A table of another model would allow anything.
    assert all(now[name] > recorded[name] / 2 for name in GROWTH), "much smaller than recorded: record it anew"


def test_the_limits() -> None:
    recorded = {"arena": 10_000, "weights": 10_000, "espdl": 10_000}
    assert not grown(recorded, {"arena": 10_300, "weights": 10_200, "espdl": 10_200})
    assert grown(recorded, {"arena": 10_301, "weights": 9_000, "espdl": 9_000}) == [
        "arena: 10,301 bytes, recorded 10,000, allowed 3% more"
    ]
    assert len(grown(recorded, {"arena": 9_000, "weights": 10_201, "espdl": 10_201})) == 2


def test_the_table_is_complete() -> None:
    assert list(json.loads(TABLE.read_text())) == [f"{variant} {target}" for variant, target in MODELS]


if __name__ == "__main__":
    TABLE.write_text(json.dumps({f"{v} {t}": sizes(v, t) for v, t in MODELS}, indent=2) + "\n")
