"""Names by content, and the one line that a failed tool leaves."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from uhd.device.programs import content_digest, run_program
from uhd.errors import UhdError


def test_digest_follows_words_names_and_contents(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    plain = content_digest(["x", "y"], [a, b])
    assert plain == content_digest(["x", "y"], [b, a, a])
    assert plain != content_digest(["xy"], [a, b])
    assert plain != content_digest(["y", "x"], [a, b])
    a.write_text("3")
    assert plain != content_digest(["x", "y"], [a, b])
    a.write_text("1")
    assert plain != content_digest(["x", "y"], [a.rename(tmp_path / "c"), b])


def test_output_comes_back() -> None:
    assert run_program([sys.executable, "-c", "print(6 * 7)"], "count").strip() == "42"


@pytest.mark.parametrize(
    ("printed", "line"),
    [
        ("warning: w\\nx.cpp:1: error: no such thing\\nnote: n", "x.cpp:1: error: no such thing"),
        ("just this", "just this"),
    ],
)
def test_the_cause_is_one_line(printed: str, line: str) -> None:
    code = f"import sys; sys.stderr.write('{printed}'); sys.exit(3)"
    with pytest.raises(UhdError) as caught:
        run_program([sys.executable, "-c", code], "build it")
    assert str(caught.value).startswith(f"cannot build it: {line};")


def test_a_silent_failure_has_its_status() -> None:
    with pytest.raises(UhdError, match="exit status 7"):
        run_program([sys.executable, "-c", "import sys; sys.exit(7)"], "build it")
