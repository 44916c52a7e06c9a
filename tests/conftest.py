"""The order of files: those that take longest begin first, so that none of them runs alone at the end."""

from __future__ import annotations

import pytest

#: Each takes more than a fortieth of the whole (`tools/test.sh --durations 0` tells). The others keep their order.
LONGEST = (
    "host/test_train_reference_commands.py", "core/test_sanitizers.py", "parity/test_chain.py", "device/test_device.py",
    "search/test_search_command.py", "core/test_coverage.py", "viewer/test_page_controls.py", "firmware/test_app.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> int:
        return places.get("/".join(item.path.parts[-2:]), len(places))

    items.sort(key=place)
