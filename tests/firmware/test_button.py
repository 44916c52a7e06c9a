"""The button: a press is one press however the contact bounces, and the threshold goes round its steps."""

from __future__ import annotations

import ctypes
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.camera_lib import CameraLibrary, build
from support.idf_project import COMPONENTS

HEADER = (COMPONENTS / "uhd_board" / "include" / "uhd" / "button.hpp").read_text()
STABLE_MS = int(re.search(r"kStableMs = (\d+)", HEADER)[1])  # type: ignore[index]
STEPS = [round(share * 65535) for share in (0.2, 0.35, 0.5, 0.65)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> CameraLibrary:
    return CameraLibrary(build(tmp_path_factory.mktemp("button"), square=False))


def presses(library: CameraLibrary, samples: list[tuple[int, bool]]) -> list[int]:
    """Times at which a press is told, for samples (milliseconds, is closed)."""
    closed = np.array([c for _, c in samples], np.uint8)
    times = np.array([t % 2**32 for t, _ in samples], np.uint32)
    told = np.zeros(len(samples), np.uint8)
    arguments = (ctypes.c_void_p(a.ctypes.data) for a in (closed, times))
    count = library.c.button_presses(*arguments, len(samples), ctypes.c_void_p(told.ctypes.data))
    assert count == told.sum() and set(told.tolist()) <= {0, 1}
    return [t for (t, _), is_told in zip(samples, told, strict=True) if is_told]


def contact(times: range, closed: list[tuple[int, int]]) -> list[tuple[int, bool]]:
    return [(t, any(a <= t < b for a, b in closed)) for t in times]


def test_a_press_is_told_once_when_it_is_certain(library: CameraLibrary) -> None:
    assert presses(library, contact(range(0, 1000, 10), [(200, 500)])) == [200 + STABLE_MS]
    assert presses(library, contact(range(0, 2000, 10), [(200, 500), (700, 900)])) == [230, 730]


def test_bounces_are_no_presses(library: CameraLibrary) -> None:
    bounces = [(200, 203), (206, 211), (215, 400), (404, 409), (413, 415)]
    assert presses(library, contact(range(1000), bounces)) == [215 + STABLE_MS]
    assert presses(library, contact(range(0, 1000, 5), [(200, 200 + STABLE_MS)])) == [], "too short"


def test_held_at_the_start_is_no_press(library: CameraLibrary) -> None:
    assert presses(library, contact(range(0, 1000, 10), [(0, 300), (500, 700)])) == [530]


def test_slow_polls(library: CameraLibrary) -> None:
    """Ten a second: the second look confirms."""
    assert presses(library, contact(range(0, 2000, 100), [(350, 600)])) == [500]


def test_the_clock_may_wrap(library: CameraLibrary) -> None:
    start = 2**32 - 250
    samples = [(t + start, closed) for t, closed in contact(range(0, 1000, 10), [(230, 500)])]
    assert [t - start for t in presses(library, samples)] == [260]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=60))
def test_every_press_has_been_closed_and_open_long_enough(
    library: CameraLibrary, steps: list[tuple[int, bool]]
) -> None:
    now, samples = 0, []
    for wait, closed in steps:
        now += wait
        samples.append((now, closed))
    previous = -1
    for told in presses(library, samples):
        index = next(i for i, (t, _) in enumerate(samples) if t == told)
        first = index
        while first > 0 and samples[first - 1][1]:
            first -= 1
        assert samples[index][1] and told - samples[first][0] >= STABLE_MS
        between = [(t, c) for t, c in samples if previous < t < told]
        assert any(not c for _, c in between), "it has been open since the last press"
        previous = told


def test_the_threshold_goes_round(library: CameraLibrary) -> None:
    def cycle(model: int) -> list[int]:
        current, seen = model, []
        for _ in range(len(STEPS) + 1):
            current = library.c.button_threshold(current, model)
            seen.append(current)
        return seen

    for model in (1, 19661, 30000, 65535):
        assert cycle(model) == [*STEPS, model]
    for model in STEPS:
        rest = [step for step in STEPS if step != model]
        assert cycle(model)[: len(STEPS)] == [*rest, model], "a step that is the model's own comes once"


@given(current=st.integers(0, 65535), model=st.integers(0, 65535))
def test_any_threshold_leads_to_a_step(library: CameraLibrary, current: int, model: int) -> None:
    following = library.c.button_threshold(current, model)
    assert following in (*STEPS, model) and following != current
