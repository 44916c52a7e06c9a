"""What survives a kill."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.errors import ConfigError
from uhd.search.candidate import Base, Candidate
from uhd.search.journal import Journal, Measured

RUN = {"target": "c", "tqt_steps": 3}
real = st.floats(0, 1)
records = st.builds(
    Measured,
    st.builds(
        Candidate,
        st.builds(Base, st.sampled_from(["kl", "trained"]), st.booleans(), st.booleans(), st.integers(0, 500)),
        st.lists(st.text(min_size=1), max_size=3).map(tuple),
    ),
    st.text(), st.integers(0, 10**9), real, real, st.lists(real, max_size=10).map(tuple), st.tuples(real, real), real,
    real, st.integers(0, 10**6), st.text(), real,
)  # fmt: skip


@given(st.lists(records, max_size=4), st.data())
@settings(deadline=None, max_examples=25)
def test_a_file_cut_anywhere_keeps_every_whole_line(found: list[Measured], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "candidates.jsonl"
        journal = Journal(path, RUN)
        for measured in found:
            journal.add(measured)
        text = path.read_bytes()
        cut = data.draw(st.integers(0, len(text)))
        path.write_bytes(text[:cut])
        whole = text[:cut].count(b"\n")
        again = Journal(path, RUN)
        kept = found[: max(0, whole - 1)]
        assert again.known == {m.candidate.key: m for m in kept}
        for measured in found:
            again.add(measured)
        assert Journal(path, RUN).known == {m.candidate.key: m for m in [*kept, *found]}


def test_another_search_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "candidates.jsonl"
    Journal(path, RUN)
    assert json.loads(path.read_text()) == {"run": RUN}
    with pytest.raises(ConfigError, match="another model"):
        Journal(path, RUN | {"tqt_steps": 4})
