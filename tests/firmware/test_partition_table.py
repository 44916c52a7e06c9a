"""``uhd.device.partition_table`` against tables made by hand, and by ESP-IDF's own program where it is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.idf_builds import ROWS, table_bytes
from support.shared import ROOT
from uhd.device.partition_table import find_partition, parse_partition_table, read_partition_table
from uhd.errors import DataError, UhdError


def test_rows_in_order() -> None:
    table = parse_partition_table(table_bytes())
    assert [(p.name, p.offset, p.size) for p in table] == [(name, at, size) for name, _, _, at, size, _ in ROWS]
    assert [p.kind for p in table] == ["data", "data", "app", "data"]
    assert [p.encrypted for p in table] == [False, False, False, True]
    assert table[2].end == 0x310000
    assert parse_partition_table(table_bytes(md5=False)) == table, "ESP-IDF can leave the MD5 out"


def test_a_name_of_all_sixteen_bytes() -> None:
    table = parse_partition_table(table_bytes((("abcdefghijklmnop", 1, 6, 0x9000, 0x1000, 2),)))
    assert table[0].name == "abcdefghijklmnop" and table[0].readonly


def test_wrong_tables_are_refused() -> None:
    good = table_bytes()
    changed = bytearray(good)
    changed[8] ^= 1  # the first row's size
    for data, said in (
        (bytes(changed), "MD5"),
        (good[:64], "cut off"),
        (b"", "cut off"),
        (b"hello, I am no partition table at all".ljust(0xC00), "no partition"),
        (table_bytes((*ROWS, ROWS[0])), "two partitions are called nvs"),
    ):
        with pytest.raises(DataError, match=said):
            parse_partition_table(data)


@given(st.binary(max_size=256), st.integers(0, 200))
def test_damage_is_an_error_or_a_table(noise: bytes, at: int) -> None:
    data = bytearray(table_bytes())
    data[at : at + len(noise)] = noise
    try:
        parse_partition_table(bytes(data))
    except UhdError as error:
        assert "\n" not in str(error)


def test_the_unknown_name_is_answered_with_the_known_ones() -> None:
    table = parse_partition_table(table_bytes())
    assert find_partition(table, "model").offset == 0x310000
    with pytest.raises(DataError, match="no partition 'modle'; it has nvs, phy_init, factory, model"):
        find_partition(table, "modle")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; build the firmware first"):
        read_partition_table(tmp_path / "partition-table.bin")


@pytest.mark.parametrize("source", sorted((ROOT / "firmware").glob("partitions_*.csv")), ids=lambda p: p.name)
def test_what_esp_idf_makes_of_our_tables(source: Path, tmp_path: Path) -> None:
    program = Path(os.environ.get("IDF_PATH", "/nonexistent")) / "components" / "partition_table" / "gen_esp32part.py"
    if not program.is_file():
        pytest.skip("no ESP-IDF tree at IDF_PATH")
    python = Path(os.environ.get("IDF_PYTHON_ENV_PATH", "/nonexistent")) / "bin" / "python"
    out = tmp_path / "table.bin"
    command = [str(python) if python.is_file() else sys.executable, str(program), str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [line.split(",") for line in source.read_text().splitlines() if line.strip() and line[0] != "#"]
    assert [p.name for p in read_partition_table(out)] == [row[0].strip() for row in rows]
