"""A browser for the tests of one file: Playwright keeps an event loop running, which must not outlive them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.viewer_page import chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running
