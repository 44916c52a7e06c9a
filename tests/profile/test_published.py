"""The published tables: all cells are here, and each agrees or is explained."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from support.shared import shared_dir
from uhd.host.profile import command
from uhd.predict.published import PUBLISHED
from uhd.profile import published
from uhd.profile.published import NOT_REPRODUCIBLE, TABLES, Cell, compare
from uhd.profile.speed import published_speed


def test_the_tables_are_the_published_ones() -> None:
    told = json.loads(shared_dir("spec", "variants.json").read_text())["readme_comparison"]
    assert told.keys() == TABLES.keys()
    for family, rows in told.items():
        own = {str(width): (params, gflops) for _, width, params, gflops in TABLES[family]}
        assert own == {width: (row["readme"]["params_M"], row["readme"]["gflops"]) for width, row in rows.items()}


def test_what_no_count_gives_is_what_the_reference_does_not_give() -> None:
    """The same cells, found by another counter; and rounding is judged alike."""
    told = json.loads(shared_dir("spec", "variants.json").read_text())["readme_comparison"]
    missed = set()
    for family, letter_rows in TABLES.items():
        for letter, width, params, gflops in letter_rows:
            row = told[family][str(width)]
            for column, value, key in (("params", params, "params_M"), ("flops", gflops, "gflops")):
                cell = Cell(family, letter, width, column, value, row["computed"][key], "")  # type: ignore[arg-type]
                assert cell.agrees == (not row[f"{column}_match"].startswith("no")), cell
                if not cell.agrees:
                    missed.add((family, width, column))
    assert missed == set(NOT_REPRODUCIBLE)


def test_small_variants_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        family: tuple(row for row in TABLES[family] if row[1] in (16, 40)) for family in ("current_rgb", "current_y")
    }
    monkeypatch.setattr(published, "TABLES", rows)
    cells = list(compare(tuple(rows)))
    assert len(cells) == 8 and not any(cell.off for cell in cells)
    assert [(c.letter, c.column) for c in cells if not c.agrees] == [("A", "flops")]


@pytest.mark.parametrize(
    ("value", "counted", "agrees"),
    [(0.13, 0.1357, True), (0.14, 0.1357, True), (0.12, 0.1357, False), (1.98, 1.98, True), (1.97, 1.98, False)],
)
def test_two_decimals(value: float, counted: float, agrees: bool) -> None:
    cell = Cell("f", "R", 16, "params", value, counted, "")
    assert cell.agrees is agrees and cell.off is not agrees
    assert Cell("f", "R", 16, "params", value, counted, "known").off is agrees, "an excuse that is no longer one"


def test_exit_code_is_1_when_a_cell_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*rows: tuple[str, int, float, float]) -> tuple[int, str]:
        monkeypatch.setattr(published, "TABLES", {"current_y": rows})
        monkeypatch.setattr(published.compare, "__defaults__", (("current_y",),))
        done = CliRunner().invoke(command, ["--all-variants"], standalone_mode=False)
        assert done.exception is None
        return done.return_value, done.output

    code, text = run(("R", 16, 0.13, 0.01))
    assert code == 0 and "2 of 2 cells agree" in text and "not compared: mAP@0.5" in text
    assert "127.51" in text, "published latency"
    code, text = run(("R", 16, 0.14, 0.02))
    assert code == 0, "rounded instead of cut off"
    code, text = run(("R", 16, 0.17, 0.01))
    assert code == 1 and "published 0.17, counted 0.1354: CONTRADICTS" in text


def test_speed() -> None:
    speeds = published_speed()
    assert {(s.variant, s.preset): s.published_ms for s in speeds} == PUBLISHED
    assert all(abs(s.predicted_ms / s.published_ms - 1) < 0.25 for s in speeds)
    assert sum(abs(s.left_out_ms - s.published_ms) for s in speeds) > sum(
        abs(s.predicted_ms - s.published_ms) for s in speeds
    )
