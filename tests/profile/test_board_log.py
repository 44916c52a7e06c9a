"""Reading ESP-DL's profile. No text here is measured: all is constructed from the format of esp-dl 3.3.9."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.espdl_profile import in_psram, logged, memory_table, module_table, profile_text
from uhd.profile.board_log import parse

#: As ESP-DL 3.3.9 would write it; typed by hand from its printf formats, to hold the renderer in tests/support, too.
BY_HAND = """\
I (800) dl::Model: model:main_graph, version:0
I (801) dl::Model: MODEL LOCATION IN FLASH RODATA
I (810) dl::Model: +----------------+--------------+--------------+-------+
I (811) dl::Model: |                    memory summary                    |
I (812) dl::Model: +----------------+--------------+--------------+-------+
I (813) dl::Model: |                | internal RAM | PSRAM        | FLASH |
I (814) dl::Model: +----------------+--------------+--------------+-------+
I (815) dl::Model: | fbs_model      |              | 193.72KB     |       |
I (816) dl::Model: |  -- parameter  |              |  -- 125.35KB |       |
I (817) dl::Model: +----------------+--------------+--------------+-------+
I (818) dl::Model: | parameter_copy | 9.77KB       |              |       |
I (819) dl::Model: +----------------+--------------+--------------+-------+
I (820) dl::Model: | variable       |              | 24.00KB      |       |
I (821) dl::Model: +----------------+--------------+--------------+-------+

I (830) dl::Model: +------------+------+---------+
I (831) dl::Model: |       module summary        |
I (832) dl::Model: +------------+------+---------+
I (833) dl::Model: | name       | type | latency |
I (834) dl::Model: +------------+------+---------+
I (835) dl::Model: | /stem/Conv | Conv | 1200us  |
I (836) dl::Model: +------------+------+---------+
I (837) dl::Model: | /head/Add  | Add  | 34us    |
I (838) dl::Model: +------------+------+---------+
I (839) dl::Model: | total      |      | 1234us  |
I (840) dl::Model: +------------+------+---------+
"""

KINDS = st.sampled_from(["Conv", "Add", "MaxPool", "RequantizeLinear", "Resize"])
NAMES = st.text("abcdefgh/_.0123456789", min_size=1, max_size=30).filter(lambda name: name != "total")
ROWS = st.lists(st.tuples(NAMES, KINDS, st.integers(0, 900_000)), min_size=1, max_size=12, unique_by=lambda row: row[0])
#: What other tasks print in between: no bar, as nothing of ours has one.
OTHER = st.text(st.characters(exclude_characters="|\x1b\r", codec="utf-8"), max_size=40)


def test_text_typed_by_hand() -> None:
    (run,) = parse(BY_HAND)
    assert run.rows == [("/stem/Conv", "Conv", 1200), ("/head/Add", "Add", 34)]
    assert run.total == 1234 and run.whole and run.unit == "us"
    assert run.milliseconds(240e6) == [1.2, 0.034]
    assert run.weights == "psram" and run.activations == "psram"
    assert run.parameter_bytes == pytest.approx(1024 * (125.35 + 9.77))


def test_the_renderer_writes_what_was_typed_by_hand() -> None:
    rows = [("/stem/Conv", "Conv", 1200), ("/head/Add", "Add", 34)]
    assert logged(module_table(rows), start=830) == BY_HAND[BY_HAND.index("I (830)") :]
    sizes = {
        "fbs_model": {"psram": 193.72 * 1024},
        "parameter": {"psram": 125.35 * 1024},
        "parameter_copy": {"sram": 9.77 * 1024},
        "variable": {"psram": 24 * 1024.0},
    }
    typed = BY_HAND[BY_HAND.index("I (810)") : BY_HAND.index("\nI (830)")]
    assert logged(memory_table(sizes), start=810).startswith(typed)


@settings(max_examples=30)
@given(ROWS, st.booleans(), st.booleans(), st.sampled_from(["us", "cycle"]), st.sampled_from(["\n", "\r\n"]))
def test_what_is_written_is_read(
    rows: list[tuple[str, str, int]], slow: bool, colour: bool, unit: str, end: str
) -> None:
    (run,) = parse(logged(module_table(rows, unit, slow), colour, end=end))
    assert sorted(run.rows) == sorted(rows) and run.whole and run.unit == unit
    assert slow or run.rows == rows
    assert sum(run.milliseconds(240e6)) == pytest.approx(sum(t for _, _, t in rows) / (1000 if unit == "us" else 240e3))


@settings(max_examples=30)
@given(ROWS, st.lists(OTHER, max_size=12), st.randoms(use_true_random=False))
def test_other_lines_between_do_not_matter(
    rows: list[tuple[str, str, int]], other: list[str], chance: random.Random
) -> None:
    lines = logged(module_table(rows)).splitlines()
    for text in other:
        lines.insert(chance.randrange(len(lines) + 1), text)
    (run,) = parse("12:00:01.123  " + "\n12:00:01.124  ".join(lines))
    assert run.rows == rows and run.whole


@settings(max_examples=30)
@given(ROWS, st.data())
def test_a_cut_table_has_its_first_rows_and_is_not_whole(rows: list[tuple[str, str, int]], data: st.DataObject) -> None:
    text = logged(module_table(rows))
    cut = data.draw(st.integers(0, text.index("| total") - 1))
    runs = parse(text[:cut])
    assert not runs or (runs[0].rows == rows[: len(runs[0].rows)] and not runs[0].whole)


@settings(max_examples=30)
@given(ROWS.filter(lambda rows: all(row[2] for row in rows)), st.data())
def test_a_torn_row_is_lost_and_missed(rows: list[tuple[str, str, int]], data: st.DataObject) -> None:
    lines = logged(module_table(rows)).splitlines()
    row = data.draw(st.integers(0, len(rows) - 1))
    at = next(i for i, line in enumerate(lines) if f"| {rows[row][0]} " in line)
    place = data.draw(st.integers(lines[at].index("| ") + 2, len(lines[at]) - 2))
    lines[at] = lines[at][:place] + "W (99) wifi: lost\n" + lines[at][place:]
    runs = parse("\n".join(lines))
    assert all(r in rows for run in runs for r in run.rows) and not any(run.whole for run in runs)
    assert sum(len(run.rows) for run in runs) == len(rows) - 1


@pytest.mark.parametrize("titles", [True, False])
@pytest.mark.parametrize("slow", [True, False])
def test_several_tables_are_told_apart(titles: bool, slow: bool) -> None:
    tables = [[("a", "Conv", 10 + i), ("b", "Add", 1 + i), ("c", "Conv", 20)] for i in range(3)]
    lines = [line for rows in tables for line in module_table(rows, slowest_first=slow)]
    text = "\n".join(line for line in lines if titles or "summary" not in line)
    runs = parse(text)
    assert [sorted(run.rows) for run in runs] == [sorted(rows) for rows in tables]
    assert all(run.whole for run in runs)


def test_two_rows_in_a_line() -> None:
    text = logged(module_table([("a", "Conv", 10), ("b", "Add", 1)])).replace("\n", "")
    (run,) = parse(text)
    assert run.whole and len(run.rows) == 2


@pytest.mark.parametrize(
    ("sizes", "weights", "total"),
    [
        ({"parameter": {"flash": 90_000.0}}, "flash", 90_000),
        ({"parameter": {"flash": 80_000.0}, "parameter_copy": {"sram": 10_000.0}}, "flash", 90_000),
        ({"parameter": {"flash": 90_000.0}, "parameter_copy": {"sram": 90_000.0}}, "sram", 90_000),
        ({"parameter_copy": {"psram": 90_000.0}}, "psram", 90_000),
        ({}, None, 0),
    ],
)
def test_where_the_weights_are(sizes: dict[str, dict[str, float]], weights: str | None, total: int) -> None:
    """In place, in place but for the rearranged biases, copied, and without a word about it."""
    text = "\n".join([*memory_table(sizes), *module_table([("a", "Conv", 1)])])
    (run,) = parse(text)
    assert run.weights == weights and run.parameter_bytes == pytest.approx(total, abs=12)


def test_the_whole_of_it() -> None:
    (run,) = parse(profile_text([("a", "Conv", 1), ("b", "Conv", 3)], in_psram(140_000, 24_000), colour=True))
    assert run.whole and run.weights == run.activations == "psram"
    assert run.parameter_bytes == pytest.approx(140_000, abs=12)
    assert parse("nothing\n| of | that |\n| kind |") == []
