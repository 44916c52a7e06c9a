"""Names of a model, whatever they are, as C++."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uhd.codegen import names
from uhd.device.compile import find_compiler
from uhd.errors import ToolMissingError


@given(st.text(max_size=200))
def test_identifiers_are_plain(text: str) -> None:
    for made in (names.snake(text), names.camel(text)):
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", made) and "__" not in made
        assert made not in names.RESERVED and len(made) < 80


@pytest.mark.parametrize(
    ("name", "snake", "camel"),
    [
        ("/backbone/stem/conv/Conv", "backbone_stem_conv_conv", "kBackboneStemConvConv"),
        ("int", "int_", "kInt"), ("arena", "arena_", "kArena"), ("", "t", "kT"), ("9lives", "t_9lives", "kT9lives"),
        ("a" * 70 + "tail", "a" * 56 + "tail", "kA" + "a" * 55 + "tail"),
    ],
)  # fmt: skip
def test_examples(name: str, snake: str, camel: str) -> None:
    assert names.snake(name) == snake
    assert names.camel(name) == camel


@given(
    st.lists(st.sampled_from(["a", "a2", "a_2", "b", "b1", "b1_2"]), max_size=12), st.sets(st.sampled_from(["a", "b"]))
)
def test_unique(given_names: list[str], taken: set[str]) -> None:
    made = names.unique(given_names, taken)
    assert len(made) == len(given_names) == len(set(made)) and not taken & set(made)
    if given_names and given_names[0] not in taken:
        assert made[0] == given_names[0]


TEXTS = ["plain", 'quote " and \\ back', "größe 日本", "tab\tnew\nline", "??/ trigraph", "7\x017", "a" * 300, "\\", ""]


def test_strings_mean_what_they_say(tmp_path: Path) -> None:
    """Compiled and read back."""
    try:
        compiler = find_compiler()
    except ToolMissingError as error:
        pytest.skip(str(error))
    lines = "\n".join(f"fwrite({names.c_string(t)}, 1, sizeof({names.c_string(t)}), stdout);" for t in TEXTS)
    comments = "\n".join(f"// {names.comment(t)}" for t in TEXTS)
    (tmp_path / "t.cpp").write_text(f"#include <stdio.h>\nint main() {{\n{comments}\n{lines}\n}}\n")
    subprocess.run([compiler, "-std=c++17", "-Wall", "-Werror", tmp_path / "t.cpp", "-o", tmp_path / "t"], check=True)
    said = subprocess.run([tmp_path / "t"], capture_output=True, check=True).stdout
    assert said.split(b"\0")[:-1] == [t.encode() for t in TEXTS]


@given(st.text())
def test_comments_stay_on_their_line(text: str) -> None:
    made = names.comment(text)
    assert len(made) == len(text) and made.isascii() and made.isprintable() and not {"\\", "?"} & set(made)


@given(st.text())
def test_strings_are_one_literal(text: str) -> None:
    assert re.fullmatch(r'"(?:[ !#->@-\[\]-~]|\\[0-3][0-7]{2})*"', names.c_string(text))


@given(st.text())
def test_cmake_text_is_plain(text: str) -> None:
    made = names.cmake_text(text)
    assert len(made) == len(text)
    assert not set(made) & set('"\\$;#()\n\r`@')
    assert names.cmake_text("ultratinyod_r-1.0 for R") == "ultratinyod_r-1.0 for R"
