"""One table, three readers: the document, the C++ header and the Python codec say the same."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.device import message_text
from uhd.device.compile import CORE
from uhd.device.messages import (
    BY_TYPE,
    CODES,
    ENUMS,
    LIMITS,
    MAX_PAYLOAD,
    MESSAGES,
    ROWS,
    Field,
    Layout,
    pack,
    unpack,
)
from uhd.errors import ConfigError

CLASSES = CODES["DetectionFlags"]["CLASSES"]
SIZES = {"u8": 1, "i8": 1, "u16": 2, "i16": 2, "u32": 4, "i32": 4, "u64": 8}


def size_of(field: Field) -> int:
    """Bytes of a field, worked out from its spelling alone."""
    match = re.fullmatch(r"(?:char|u8)\[(\d+)\]", field.kind)
    return int(match[1]) if match else SIZES[field.kind]


def example(layout: Layout) -> dict[str, int | bytes]:
    """A value for each field that no other field has, negative where possible."""
    values: dict[str, int | bytes] = {}
    for i, f in enumerate(layout.fields, start=1):
        if f.count:
            values[f.name] = bytes((i * 31 + k) % 251 + 1 for k in range(f.count))
        elif f.kind.startswith("i"):
            values[f.name] = -i
        else:
            values[f.name] = int.from_bytes(bytes((i * 17 + k) % 255 + 1 for k in range(f.size)), "big")
    return values


def layout_bytes(layout: Layout, values: dict[str, int | bytes]) -> bytes:
    """The wire form, field by field, without the codec under test."""
    out = b""
    for f in layout.fields:
        value = values[f.name]
        out += value if isinstance(value, bytes) else value.to_bytes(size_of(f), "little", signed=value < 0)
    return out


def test_generated_files_are_current() -> None:
    assert message_text.stale() == {}


def test_check_notices_a_stale_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, document = tmp_path / "h.hpp", tmp_path / "d.md"
    document.write_text(message_text.DOCUMENT.read_text().replace("| 0 | u16 | `protocol_version`", "| 9 | u16 | `x`"))
    monkeypatch.setattr(message_text, "HEADER", header)
    monkeypatch.setattr(message_text, "DOCUMENT", document)
    monkeypatch.setattr(message_text, "ROOT", tmp_path)
    assert message_text.main(["--check"]) == 1
    assert message_text.main(["--write"]) == 0
    assert message_text.main(["--check"]) == 0
    assert document.read_text() == message_text.DOCUMENT.read_text()
    assert header.read_text() == message_text.header_text()
    assert message_text.main(["--nonsense"]) == 2


def test_every_fault_is_explained() -> None:
    text = (message_text.ROOT / "docs" / "faults.md").read_text()
    first = LIMITS["FIRST_FAULT"][0]
    told = set(re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.M))
    assert told == {(str(v), name) for name, v, _ in ENUMS["ErrorCode"] if v >= first}
    assert max(v for _, v, _ in ENUMS["ErrorCode"]) < first + 32, "a fault is a bit of 32"


def test_document_without_markers_is_refused() -> None:
    with pytest.raises(ConfigError, match="markers"):
        message_text.document_text("# The link\n")


def test_document_names_every_offset() -> None:
    text = message_text.DOCUMENT.read_text()
    for layout in (*MESSAGES.values(), *ROWS.values()):
        section = text.split(f"\n#### {layout.name} (")[1].split("\n#### ")[0]
        rows = re.findall(r"^\| (\d+) \| (\S+) \| `(\w+)` \|", section, re.MULTILINE)
        offset, expected = 0, []
        for f in layout.fields:
            expected.append((str(offset), f.kind, f.name))
            offset += size_of(f)
        assert rows == expected
        assert f"{offset} bytes" in section.splitlines()[0]


def test_types_are_unique_and_tell_frames_from_text() -> None:
    types = [m.type for m in MESSAGES.values()]
    assert len(set(types)) == len(types)
    assert all(0x80 <= t <= 0xBF for t in types)
    for rows in ENUMS.values():
        assert len({v for _, v, _ in rows}) == len(rows)
    # The three layouts that no version may change.
    assert [(f.kind, f.name) for f in MESSAGES["ERROR"].fields] == [
        ("u16", "protocol_version"), ("u16", "code"), ("u16", "reply_to"), ("u8", "reply_type"), ("u8", "reserved"),
        ("u32", "frame_id"),
    ]  # fmt: skip
    for name in ("HELLO", "INFO"):
        assert (MESSAGES[name].fields[0].kind, MESSAGES[name].fields[0].name) == ("u16", "protocol_version")


def test_limits_fit_each_other() -> None:
    value = {name: v for name, (v, _) in LIMITS.items()}
    assert value["MAX_BODY"] == value["MAX_PAYLOAD"] + 1 + 2 + 4
    assert value["MAX_ENCODED"] == value["MAX_BODY"] + -(-value["MAX_BODY"] // 254)
    assert MESSAGES["DETECTIONS"].size + value["MAX_DETECTIONS"] * (ROWS["Box"].size + 1) <= value["MAX_PAYLOAD"]
    assert value["MAX_DETECTIONS"] < 1 << 8 * MESSAGES["DETECTIONS"].fields[2].size
    assert value["DEFAULT_LIMIT"] <= value["MAX_DETECTIONS"] <= value["MAX_CANDIDATES"]


def test_cpp_header_agrees(tmp_path: Path) -> None:
    """The C++ structs, compiled, write and read exactly the bytes of the table."""
    lines, expected = [], []
    for layout in (*MESSAGES.values(), *ROWS.values()):
        values, name = example(layout), message_text.struct_name(layout.name)
        lines.append(f"{{ uhd::link::{name} m, back; (void)back; uint8_t p[512] = {{}};")
        for f in layout.fields:
            value = values[f.name]
            if isinstance(value, bytes):
                data = ", ".join(f"char({b})" if f.kind.startswith("char") else str(b) for b in value)
                element = "char" if f.kind.startswith("char") else "uint8_t"
                lines.append(f"{{ const {element} v[] = {{{data}}}; memcpy(m.{f.name}, v, sizeof(v)); }}")
            else:
                lines.append(f"m.{f.name} = {value}{'u' if value >= 0 else ''}{'ll' if f.size == 8 else ''};")
        lines.append("write(m, p); read(back, p); memset(q, 0, sizeof(q)); write(back, q);")
        lines += ["if (memcmp(p, q, sizeof(p))) return 1;", "show(p, m.kSize); }"]
        expected.append(layout_bytes(layout, values).hex())
    for spec in MESSAGES.values():
        name = message_text.struct_name(spec.name)
        lines.append(f"static_assert(uhd::link::{name}::kType == {spec.type});")
    for enum, rows in ENUMS.items():
        for member, value, _ in rows:
            name = message_text.constant_name(member)
            lines.append(f"static_assert(static_cast<int>(uhd::link::{enum}::{name}) == {value});")
    for limit, (value, _) in LIMITS.items():
        lines.append(f"static_assert(uhd::link::{message_text.constant_name(limit)} == {value}u);")
    source = tmp_path / "layouts.cpp"
    source.write_text(
        '#include "uhd/link_messages.hpp"\n#include <stdio.h>\n'
        'static void show(const uint8_t* p, size_t n) { for (size_t i = 0; i < n; i++) printf("%02x", p[i]); '
        'printf("\\n"); }\nint main() { uint8_t q[512];\n' + "\n".join(lines) + "\n}\n"
    )
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{CORE / 'include'}"]
    subprocess.run(["g++", *flags, str(source), "-o", str(tmp_path / "layouts")], check=True)
    output = subprocess.run([str(tmp_path / "layouts")], capture_output=True, text=True, check=True).stdout
    assert output.split("\n")[:-1] == expected


@pytest.mark.parametrize("spec", MESSAGES.values(), ids=lambda s: s.name)
def test_python_codec_follows_the_table(spec: Layout) -> None:
    values = example(spec)
    if "count" in values:
        values["count"] = 0  # what follows it is another test's
    payload = pack(spec.name, **values)
    assert payload == layout_bytes(spec, values)
    message = unpack(MESSAGES[spec.name].type, payload)
    assert message.name == spec.name
    for f in spec.fields:
        value = values[f.name]
        if f.kind.startswith("char") and isinstance(value, bytes):
            assert message[f.name] == value.decode("utf-8", "replace")
        else:
            assert message[f.name] == value


@pytest.mark.parametrize("name", MESSAGES)
def test_every_other_size_is_refused(name: str) -> None:
    """T5, payload level: no length that the message cannot have is taken."""
    spec = MESSAGES[name]
    row = ROWS.get(spec.tail)
    counted = any(f.name == "count" for f in spec.fields)  # the zeros below say that there are no rows
    for size in range(spec.size + 70):
        rest = size - spec.size
        fits = rest == 0 or (rest > 0 and bool(spec.tail) and not counted and (row is None or rest % row.size == 0))
        if fits:
            assert unpack(spec.type, bytes(size)).name == name
        else:
            with pytest.raises(ValueError, match=name):
                unpack(spec.type, bytes(size))


def test_unknown_type_and_field_are_refused() -> None:
    assert 0x90 not in BY_TYPE
    with pytest.raises(ValueError, match="0x90"):
        unpack(0x90, b"")
    with pytest.raises(ValueError, match="no field colour"):
        pack("HELLO", colour=1)
    with pytest.raises(ValueError, match="no tail"):
        pack("HELLO", b"x")
    with pytest.raises(ValueError, match="HELLO"):
        pack("HELLO", protocol_version=65536)
    with pytest.raises(ValueError, match="exceeds"):
        pack("FRAME", bytes(MAX_PAYLOAD))


@given(st.lists(st.tuples(*[st.integers(0, 65535)] * 5, st.integers(0, 255)), max_size=20))
@settings(max_examples=50, deadline=None)
def test_rows_come_back(boxes: list[tuple[int, int, int, int, int, int]]) -> None:
    rows = [dict(zip(("cx", "cy", "width", "height", "score", "cls"), b, strict=True)) for b in boxes]
    type_ = MESSAGES["DETECTIONS"].type
    payload = pack("DETECTIONS", rows, count=len(rows), frame_id=7, flags=CLASSES)
    assert len(payload) == 8 + 11 * len(rows)
    assert unpack(type_, payload).tail == rows
    assert payload[len(payload) - len(rows) :] == bytes(row["cls"] for row in rows)
    plain = [{**row, "cls": 0} for row in rows]
    payload = pack("DETECTIONS", plain, count=len(rows), frame_id=7)
    assert len(payload) == 8 + 10 * len(rows)
    assert unpack(type_, payload).tail == plain


def test_rows_that_are_not_what_the_fixed_part_says() -> None:
    type_, row = MESSAGES["DETECTIONS"].type, dict.fromkeys(("cx", "cy", "width", "height", "score"), 1)
    good = pack("DETECTIONS", [row] * 3, count=3)
    for changed in (bytes([*good[:6], 2, *good[7:]]), bytes([*good[:7], CLASSES, *good[8:]]), good[:-1], good + b"x"):
        with pytest.raises(ValueError, match="no size"):
            unpack(type_, changed)
    with pytest.raises(ValueError, match="count is 0, with 3 rows"):
        pack("DETECTIONS", [row] * 3)
    with pytest.raises(ValueError, match="cls is given"):
        pack("DETECTIONS", [{**row, "cls": 1}], count=1)


def test_text_tail_survives_bad_utf8() -> None:
    payload = pack("ERROR", "no head", code=CODES["ErrorCode"]["BAD_FRAME"])
    assert unpack(MESSAGES["ERROR"].type, payload).tail == "no head"
    broken = unpack(MESSAGES["ERROR"].type, payload + b"\xff")
    assert broken.tail == "no head\ufffd"
    assert struct.unpack_from("<H", payload, 2)[0] == 5
