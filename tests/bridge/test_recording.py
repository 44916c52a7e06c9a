"""Recordings: what was written is read, up to the last whole record, whatever happened to the file."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from uhd.bridge.recorded_map import map_of_recording
from uhd.bridge.recording import CONSOLE, DIGEST, KINDS, NOTE, PHOTO, RECORD, TO_DEVICE, TO_HOST, Record, Recorder
from uhd.bridge.recording_reader import RecordingReader
from uhd.bridge.translate import Translator
from uhd.device.messages import MESSAGES, pack
from uhd.errors import DataError, UhdError

HEADER = {"tool_version": "1", "protocol_version": 3, "wall": 1000.5}
records_of_any_kind = st.builds(
    Record,
    kind=st.sampled_from(sorted(KINDS)),
    time_us=st.integers(0, 2**64 - 1),
    payload=st.binary(max_size=300),
    type=st.integers(0, 255),
    seq=st.integers(0, 65535),
)


def write(path: Path, records: list[Record]) -> list[int]:
    """A recording; returns the offset after the header and after each record."""
    path.unlink(missing_ok=True)
    recorder = Recorder(path, HEADER)
    offsets = [recorder.size]
    for record in records:
        recorder.write(record)
        offsets.append(recorder.size)
    recorder.close()
    return offsets


def read(path: Path) -> tuple[list[Record], list[str], bool]:
    with RecordingReader(path) as reader:
        found = [record for _, record in reader.records()]
        return found, reader.problems, reader.cut


def some_records() -> list[Record]:
    return [
        Record(NOTE, 10, b'{"note":"state","state":"ready","text":"","port":"p"}'),
        Record(TO_DEVICE, 20, pack("HELLO", protocol_version=3), MESSAGES["HELLO"].type, 7),
        Record(CONSOLE, 30, "grüße".encode()),
        Record(TO_HOST, 2_000_000, pack("STATS", uptime_us=5), MESSAGES["STATS"].type, 65535),
        Record(PHOTO, 2_000_001, bytes(DIGEST) + b"jpeg"),
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records_of_any_kind.filter(lambda r: r.kind != PHOTO), max_size=20))
def test_what_was_written_is_read(tmp_path: Path, records: list[Record]) -> None:
    path = tmp_path / "x.uhdr"
    write(path, records)
    assert read(path) == (records, [], False)
    with RecordingReader(path) as reader:
        assert reader.header == HEADER


def test_cut_at_every_byte(tmp_path: Path) -> None:
    path, cut = tmp_path / "x.uhdr", tmp_path / "cut.uhdr"
    records = some_records()
    offsets = write(path, records)
    data = path.read_bytes()
    assert offsets[-1] == len(data)
    for size in range(len(data)):
        cut.write_bytes(data[:size])
        if size < offsets[0]:
            with pytest.raises(DataError, match=r"cut\.uhdr: (no recording|the recording ends inside its header)"):
                RecordingReader(cut)
            continue
        whole = sum(offset <= size for offset in offsets) - 1
        found, problems, is_cut = read(cut)
        assert found == records[:whole]
        if size in offsets:
            assert not problems and not is_cut
        else:
            assert is_cut and problems == [
                f"the recording is cut off at byte {offsets[whole]}, inside a record; all before it is whole"
            ]


def test_a_damaged_record_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    records = some_records()
    offsets = write(path, records)
    data = bytearray(path.read_bytes())
    data[offsets[2] + RECORD.size] ^= 1  # the payload of the third
    path.write_bytes(data)
    found, problems, cut = read(path)
    assert found == [*records[:2], *records[3:]] and not cut
    assert problems == [f"the record at byte {offsets[2]} is damaged (CRC) and left out"]
    data[offsets[1]] ^= 4  # the length of the second: where the third is cannot be known
    path.write_bytes(data)
    found, problems, _ = read(path)
    assert found == records[:1]
    assert len(problems) == 1 and f"byte {offsets[1]}" in problems[0] and "the rest cannot be read" in problems[0]


def test_every_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    records = some_records()
    offsets = write(path, records)
    data = path.read_bytes()
    for place in range(0, len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        if place < offsets[0]:
            with pytest.raises(DataError):
                RecordingReader(path)
            continue
        found, problems, _ = read(path)
        assert problems and all(record in records for record in found)


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    path.write_text("mine")
    with pytest.raises(DataError, match="already"):
        Recorder(path, HEADER)
    assert path.read_text() == "mine"


def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    recorder = Recorder(path, HEADER)
    record = Record(CONSOLE, 1, b"x" * 1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(DataError, match="the recording ends here"):
            for _ in range(10):
                recorder.write(record)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    recorder.close()
    found, problems, cut = read(path)
    assert found == [record] * 4 and not problems and not cut


def test_another_version_is_refused_naming_both(tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    write(path, [])
    data = bytearray(path.read_bytes())
    data[8] = 9
    path.write_bytes(data)
    with pytest.raises(DataError, match="version 9, this tool reads version 1"):
        RecordingReader(path)


def test_a_photo_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    photo = Record(PHOTO, 5, b"d" * DIGEST + b"jpeg bytes")
    write(path, [photo, Record(CONSOLE, 6, b"a"), photo])
    found, _, _ = read(path)
    assert [record.kind for record in found] == [PHOTO, CONSOLE]
    with RecordingReader(path) as reader:
        assert reader.photo(b"d" * DIGEST) == b"jpeg bytes" and reader.photo(b"e" * DIGEST) is None


def test_index_gives_places_and_what_is_known_there(tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    state = Record(NOTE, 0, b'{"note":"state","state":"ready","text":"","port":"p"}')
    later = Record(NOTE, 4_500_000, b'{"note":"state","state":"gone","text":"","port":"p"}')
    lines = [Record(CONSOLE, i * 100_000, str(i).encode()) for i in range(100)]
    records = sorted([state, later, *lines], key=lambda record: record.time_us)
    write(path, records)
    with RecordingReader(path) as reader:
        index = reader.index()
        assert index.records == 102 and index.last_us == 9_900_000
        for seconds in (0, 0.35, 3, 4.99, 9.9, 50):
            point = index.before(round(seconds * 1e6))
            rest = [record for _, record in reader.records(point.offset)]
            assert rest == records[len(records) - len(rest) :] and rest[0].time_us <= seconds * 1e6
            known = [reader.record_at(place) for place in point.context]
            expected = [] if point.time_us == 0 else [later if point.time_us > 4_500_000 else state]
            assert known == expected


def use(path: Path) -> None:
    """Everything that reads recordings."""
    with RecordingReader(path) as reader:
        index = reader.index()
        translator = Translator(0.0, reader.photo)
        for _, record in reader.records():
            for event in translator.take(record):
                event.as_json()
        reader.record_at(index.points[-1].offset)
    with RecordingReader(path) as reader:
        map_of_recording(reader)


def assert_one_line(path: Path) -> None:
    try:
        use(path)
    except UhdError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 400 and re.search(r"\.uhdr|note", text), text


frames = st.builds(
    lambda name, payload, time, seq, kind: Record(kind, time, payload, MESSAGES[name].type, seq),
    st.sampled_from(sorted(MESSAGES)), st.binary(max_size=400), st.integers(0, 10**7), st.integers(0, 9),
    st.sampled_from([TO_HOST, TO_DEVICE]),
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
NOTE_KEYS = ("note", "state", "text", "port", "name", "height", "width", "truth", "digest", "model_hash", "class_names",
             "accuracy", "resize_mode", "frames")  # fmt: skip


def encode_note(values: dict[str, object]) -> bytes:
    import json

    return json.dumps(values).encode()


notes = st.dictionaries(st.sampled_from(NOTE_KEYS), json_values | st.sampled_from(["state", "photo", "model", "host"]))
hostile = frames | st.builds(lambda v: Record(NOTE, 5, encode_note(v)), notes) | records_of_any_kind


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(hostile, max_size=12))
def test_fuzz_records_that_make_no_sense(tmp_path: Path, records: list[Record]) -> None:
    path = tmp_path / "x.uhdr"
    write(path, records)
    assert_one_line(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_fuzz_damaged_files(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "x.uhdr"
    write(path, some_records())
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[place] = data.draw(st.integers(0, 255))
        else:
            content[place : place + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        if not content:
            content = bytearray(b"\0")
    path.write_bytes(content)
    assert_one_line(path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.booleans())
def test_fuzz_other_files(tmp_path: Path, content: bytes, with_magic: bool) -> None:
    path = tmp_path / "x.uhdr"
    path.write_bytes((b"\x89UHDR\r\n\x1a\x01\0\0\0" if with_magic else b"") + content)
    assert_one_line(path)


def test_length_bombs_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.uhdr"
    write(path, some_records())
    path.write_bytes(path.read_bytes() + b"\xff\xff\xff\xff" + bytes(60))
    _, problems, _ = read(path)
    assert len(problems) == 1 and "is no record" in problems[0]
    path.write_bytes(b"\x89UHDR\r\n\x1a\x01\0\0\0\xff\xff\xff\x7f{}")
    with pytest.raises(DataError, match="a header of 2147483647 bytes"):
        RecordingReader(path)
