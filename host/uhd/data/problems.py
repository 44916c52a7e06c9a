"""What is wrong with single pictures of a data set, collected instead of raised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from uhd.errors import DataError

#: A data set of which more than this share is broken is the wrong folder, or a broken download.
MOST_BROKEN = 0.2


@dataclass(frozen=True)
class Problem:
    """A picture that cannot be used: ``reason`` is one line that names the file (and line) and says why."""

    picture: Path
    reason: str


def refuse_if_mostly_broken(problems: Sequence[Problem], usable: int, source: str) -> None:
    """Raise ``DataError`` where so much is broken that going on would train on something else than was meant."""
    count = len(problems)
    if count > MOST_BROKEN * (usable + count):
        raise DataError(
            f"{source}: {count} of {usable + count} pictures cannot be used, first {problems[0].reason}",
            hint=f"`python -m uhd.host dataset check {source}` lists them all",
        )
