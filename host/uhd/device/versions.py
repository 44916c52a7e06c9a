"""Version ranges as pyproject.toml and ESP-IDF's component manifests write them, checked without other packages."""

from __future__ import annotations

import re

Version = tuple[int, ...]

_CLAUSE = re.compile(r"^\s*(==|!=|>=|<=|~=|>|<|\^|~|=)?\s*v?(\d+(?:\.\d+)*)(\.\*)?([-+.~\w]*)\s*$")


def parse_version(text: str) -> Version:
    """The numbers of a release: ``2.13.0+cpu`` and ``v2.13`` both begin 2, 13. Empty for no version."""
    match = re.match(r"\s*v?(\d+(?:\.\d+)*)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def _compare(a: Version, b: Version) -> int:
    width = max(len(a), len(b))
    left, right = a + (0,) * (width - len(a)), b + (0,) * (width - len(b))
    return (left > right) - (left < right)


def satisfies(version: str, ranges: str) -> bool:
    """Whether ``version`` lies in all of ``ranges``: ``>=1.17,<1.20``, ``==1.3.12``, ``^2.0``, ``~1.4``, ``*``.

    ``^`` keeps the first number that is not zero, ``~`` the second number, ``~=`` all but the last. Raises
    ``ValueError`` for a range that is none of these.
    """
    found = parse_version(version)
    return bool(found) and all(_one(found, clause) for clause in ranges.split(",") if clause.strip() not in ("", "*"))


def _one(found: Version, clause: str) -> bool:
    match = _CLAUSE.match(clause)
    if not match:
        raise ValueError(f"{clause.strip()!r} is no version range")
    operator, wanted = match[1] or "==", parse_version(match[2])
    order = _compare(found, wanted)
    if match[3] or operator in ("==", "=", "!="):
        equal = found[: len(wanted)] == wanted if match[3] else order == 0
        return not equal if operator == "!=" else equal
    if operator in ("^", "~", "~="):
        return order >= 0 and _compare(found, _ceiling(operator, wanted)) < 0
    return {">=": order >= 0, "<=": order <= 0, ">": order > 0, "<": order < 0}[operator]


def _ceiling(operator: str, wanted: Version) -> Version:
    if operator == "^":
        keep = next((i for i, part in enumerate(wanted) if part), len(wanted) - 1)
    elif operator == "~":
        keep = min(1, len(wanted) - 1)
    else:
        keep = max(0, len(wanted) - 2)
    return (*wanted[:keep], wanted[keep] + 1)
