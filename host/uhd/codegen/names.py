"""Names and texts of a model, made safe for C++."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: C++17 keywords and what our generated files use themselves.
_WORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl
    const constexpr const_cast continue decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr
    operator or or_eq private protected public register reinterpret_cast return short signed sizeof static
    static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename
    union unsigned using virtual void volatile wchar_t while xor xor_eq int8_t int16_t int32_t int64_t uint8_t
    uint16_t uint32_t uint64_t size_t main errno stdin stdout stderr input outputs arena data uhd nn std linux
    unix
"""
RESERVED = frozenset(_WORDS.split())
_LONGEST = 60


def snake(name: str) -> str:
    """``name`` as a lower-case identifier of letters, digits and single underscores; never a reserved word."""
    text = re.sub(r"_+", "_", re.sub(r"[^a-z0-9]", "_", name.lower())).strip("_")
    if len(text) > _LONGEST:
        text = text[-_LONGEST:].strip("_")  # the end tells nodes apart
    if not text or text[0].isdigit():
        text = f"t_{text}".rstrip("_")
    return f"{text}_" if text in RESERVED else text


def camel(name: str) -> str:
    """``name`` as a constant's identifier, ``kLikeThis``."""
    return "k" + "".join(part[:1].upper() + part[1:] for part in snake(name).split("_"))


def unique(names: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """The same names, with 2, 3, ... after those that came before."""
    used = set(taken)
    result = []
    for name in names:
        candidate, number = name, 2
        while candidate in used:
            candidate, number = f"{name}{'_' if name[-1:].isdigit() else ''}{number}", number + 1
        used.add(candidate)
        result.append(candidate)
    return result


def c_string(text: str) -> str:
    """``text`` as a C string literal: UTF-8, everything but plain ASCII as three octal digits."""
    safe = re.compile(rb"[ !#->@-\[\]-~]")  # not the question mark: it may begin a trigraph
    return '"' + "".join(chr(b) if safe.match(bytes([b])) else f"\\{b:03o}" for b in text.encode()) + '"'


def comment(text: str) -> str:
    """``text`` for the rest of a ``//`` line: printable ASCII without what may continue it."""
    return re.sub(r"[^ ->@-\[\]-~]", ".", text)


def cmake_text(text: str) -> str:
    """``text`` inside a quoted CMake argument: what CMake or a shell would read as syntax becomes an underscore."""
    return re.sub(r"[^A-Za-z0-9 .,+:/-]", "_", text)
