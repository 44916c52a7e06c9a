"""The Python frame codec against independent implementations, noise, loss and console text."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib

import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st

from support.lossy_frames import lossy_frames
from uhd.device import cobs_array
from uhd.device.link import Decoder, Frame, cobs_decode, cobs_encode, encode_frame
from uhd.device.lossy import Line, Loss
from uhd.device.messages import MAX_ENCODED, MAX_PAYLOAD, MESSAGES


def frames_of(items: list[Frame | str]) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


def decode_all(data: bytes, step: int = 0) -> tuple[list[Frame | str], Decoder]:
    decoder = Decoder()
    items: list[Frame | str] = []
    step = step or max(len(data), 1)
    for i in range(0, len(data), step):
        items += decoder.feed(data[i : i + step])
    return items, decoder


@given(st.binary(max_size=1200))
@settings(deadline=None)
def test_cobs_equals_the_cobs_package(data: bytes) -> None:
    encoded = cobs_encode(data)
    assert encoded == cobs.encode(data)
    assert 0 not in encoded
    assert cobs_decode(encoded) == data


@pytest.mark.parametrize("size", [0, 1, 253, 254, 255, 256, 507, 508, 509, 1016, 4096])
@pytest.mark.parametrize("end", [b"", b"\0", b"\0\0", b"x"])
def test_cobs_at_block_borders(size: int, end: bytes) -> None:
    data = bytes(range(1, 255)) * (size // 254 + 1)
    data = data[:size] + end
    assert cobs_encode(data) == cobs.encode(data)
    assert cobs_decode(cobs_encode(data)) == data


@given(st.binary(max_size=600))
@settings(deadline=None)
def test_cobs_decoder_refuses_what_the_package_refuses(data: bytes) -> None:
    data = data.replace(b"\0", b"\1")
    try:
        expected: bytes | None = cobs.decode(data)
    except cobs.DecodeError:
        expected = None
    assert cobs_decode(data) == expected


#: Data in which zeros are frequent: runs of any length between them, whole blocks included.
RUNS = st.lists(st.one_of(st.integers(0, 3), st.sampled_from([253, 254, 255, 508, 509])), max_size=60)


@given(RUNS, st.integers(0, 400), st.integers(0, 255))
@settings(deadline=None)
def test_cobs_on_arrays_equals_the_cobs_package(runs: list[int], zeros: int, fill: int) -> None:
    data = bytes(zeros) + b"\0".join(bytes([fill or 1]) * run for run in runs)
    encoded = cobs.encode(data)
    assert cobs_array.encode(data) == cobs_encode(data) == encoded
    assert cobs_array.decode(encoded) == cobs_decode(encoded) == data


@given(st.binary(min_size=1, max_size=300), st.integers(0, 500), st.integers(0, 40))
@settings(deadline=None)
def test_cobs_on_arrays_refuses_what_the_package_refuses(data: bytes, ones: int, cut: int) -> None:
    """Blocks of one byte are codes of 1, so that many ones bring the decoder to its arrays."""
    for damaged in (b"\1" * ones + data.replace(b"\0", b"\1"), cobs.encode(bytes(ones) + data)[: ones + cut + 1]):
        try:
            expected: bytes | None = cobs.decode(damaged)
        except cobs.DecodeError:
            expected = None
        assert cobs_array.decode(damaged) == cobs_decode(damaged) == expected


def test_frame_is_cobs_of_head_payload_and_zlib_crc() -> None:
    payload = bytes(range(256)) * 3
    body = struct.pack("<BH", 0x83, 0xFFFE) + payload
    body += struct.pack("<I", zlib.crc32(body))
    assert encode_frame(0x83, 0x1FFFE, payload) == b"\0" + cobs.encode(body) + b"\0"


@given(st.lists(st.tuples(st.integers(0x80, 0xBF), st.integers(0, 65535), st.binary(max_size=700)), max_size=6))
@settings(deadline=None)
def test_frames_come_back(frames: list[tuple[int, int, bytes]]) -> None:
    stream = b"".join(encode_frame(*f) for f in frames)
    items, decoder = decode_all(stream)
    assert items == [Frame(*f) for f in frames]
    assert decoder.counters.frames == len(frames)
    assert decoder.counters.crc_errors == decoder.counters.malformed == decoder.counters.console_lines == 0


def test_largest_payload_and_one_more() -> None:
    for fill in (b"\0", b"\1", b"\xff"):
        payload = fill * MAX_PAYLOAD
        encoded = encode_frame(0x83, 1, payload)
        assert len(encoded) - 2 <= MAX_ENCODED
        assert decode_all(encoded)[0] == [Frame(0x83, 1, payload)]
    with pytest.raises(ValueError, match="exceeds 4096"):
        encode_frame(0x83, 1, bytes(MAX_PAYLOAD + 1))


@pytest.mark.parametrize("type_", [0, 0x0A, 0x41, 0x7F, 0xC0, 0xFF])
def test_types_that_could_be_text_are_no_frames(type_: int) -> None:
    with pytest.raises(ValueError, match="0x80..0xbf"):
        encode_frame(type_, 1)
    body = struct.pack("<BH", type_, 0x0101) + b"\xff\xfe"
    frame = b"\0" + cobs.encode(body + struct.pack("<I", zlib.crc32(body))) + b"\0"
    items, decoder = decode_all(frame)
    assert frames_of(items) == []
    assert decoder.counters.frames == 0


def too_large_frame() -> bytes:
    body = struct.pack("<BH", 0x83, 1) + bytes(MAX_PAYLOAD + 1)
    return b"\0" + cobs.encode(body + struct.pack("<I", zlib.crc32(body))) + b"\0"


def test_a_frame_beyond_the_limit_is_dropped() -> None:
    good = encode_frame(0x83, 2, b"after")
    items, decoder = decode_all(too_large_frame() + good)
    assert items == [Frame(0x83, 2, b"after")]
    assert decoder.counters.overlong + decoder.counters.malformed == 1


# ---- streams ----

PIECES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"\0", b"\n", b"boot: ok\r\n", "température\n".encode(), b"\x1b[32mI (12) x\x1b[0m\n"]),
    st.builds(encode_frame, st.integers(0x80, 0xBF), st.integers(0, 65535), st.binary(max_size=60)),
    st.builds(lambda n: b"A" * n, st.integers(MAX_ENCODED - 3, MAX_ENCODED + 3)),
)


@given(st.lists(PIECES, max_size=8), st.data())
@settings(max_examples=200, deadline=None)
def test_cutting_the_stream_changes_nothing(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    whole, decoder = decode_all(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    cut_decoder, items = Decoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        items += cut_decoder.feed(stream[start:end])
    assert items == whole
    assert cut_decoder.counters == decoder.counters
    bytewise, single = decode_all(stream, 1)
    assert bytewise == whole
    assert single.counters == decoder.counters


def test_text_between_frames_is_handed_out_line_by_line() -> None:
    first, second = encode_frame(0xA1, 0, b"\n\r\n text \n"), encode_frame(0xA2, 1, b"")
    decoder = Decoder()
    assert decoder.feed(b"ESP-ROM:esp32s3\r\nrst:0x1\r") == ["ESP-ROM:esp32s3"]
    assert decoder.feed(b"\n") == ["rst:0x1"]
    assert decoder.feed(b"I (3) ok" + first) == ["I (3) ok", Frame(0xA1, 0, b"\n\r\n text \n")]
    assert decoder.feed("Größe 5 µs\n".encode() + second) == ["Größe 5 µs", Frame(0xA2, 1, b"")]
    assert decoder.counters.console_lines == 4
    assert decoder.counters.malformed == decoder.counters.crc_errors == 0


def test_text_without_line_break_waits_for_its_end() -> None:
    decoder = Decoder()
    assert decoder.feed(b"login: ") == []
    assert decoder.feed(encode_frame(0xA2, 1, b"abc")) == ["login: ", Frame(0xA2, 1, b"abc")]


def test_damaged_frames_never_become_text() -> None:
    generator = random.Random(3)
    text = 0
    for _ in range(400):
        frame = bytearray(encode_frame(0xA3, 1, generator.randbytes(300)))
        position = generator.randrange(3, len(frame) - 1)
        frame[position] ^= 1 << generator.randrange(8)
        items, decoder = decode_all(bytes(frame))
        assert frames_of(items) == []
        text += len(items)
        assert decoder.counters.crc_errors + decoder.counters.malformed >= 1
    assert text == 0


def test_sequence_gaps_are_counted() -> None:
    stream = b"".join(encode_frame(0xA2, seq, b"") for seq in (65533, 65534, 1, 2, 2, 3))
    _, decoder = decode_all(stream)
    assert decoder.counters.lost == 2  # 65535 and 0
    decoder.restart()
    decoder.feed(encode_frame(0xA2, 900, b""))
    assert decoder.counters.lost == 2


# ---- noise (T2 to T5) ----


def test_ten_megabytes_of_garbage() -> None:
    """T2: at most one frame by chance, no growth, and the next real frame is understood."""
    generator, decoder, frames, peaks = random.Random(11), Decoder(), 0, []
    tracemalloc.start()
    for _ in range(10):
        garbage = generator.randbytes(1 << 20)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for i in range(0, len(garbage), 4096):
            frames += len(frames_of(decoder.feed(garbage[i : i + 4096])))
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert frames <= 1
    assert max(peaks) < 100_000 and max(peaks[5:]) <= max(peaks[:5]) + 10_000
    assert decoder.counters.malformed > 10_000
    good = encode_frame(0xA2, 5, b"still here")
    assert frames_of(decoder.feed(b"\0" + good)) == [Frame(0xA2, 5, b"still here")]


def test_an_endless_line_does_not_grow_the_memory() -> None:
    decoder = Decoder()
    for _ in range(500):
        assert decoder.feed(b"x" * 4096) == []
    assert len(decoder._pending) <= MAX_ENCODED
    assert decoder.counters.overlong == 1


def numbered_frames(count: int, seed: int) -> list[bytes]:
    generator = random.Random(seed)
    return [
        encode_frame(0xA3, i, struct.pack("<I", i) + generator.randbytes(generator.randrange(60))) for i in range(count)
    ]


@pytest.mark.parametrize("rate", [1e-4, 1e-3, 1e-2])
def test_dropped_bytes_cost_only_the_frames_they_hit(rate: float) -> None:
    """T3: exactly the frames whose bytes are whole and whose neighbours end before them arrive, once, in order."""
    frames = numbered_frames(10_000, 5)
    kept, whole = lossy_frames(frames, rate, seed=3)
    decoder, arrived = Decoder(), []
    for piece in kept:
        arrived += frames_of(decoder.feed(piece))
    assert [struct.unpack_from("<I", f.payload)[0] for f in arrived] == [f.seq for f in arrived] == whole
    assert 0 < len(frames) - len(whole) < 3 * rate * sum(map(len, frames))


@pytest.mark.parametrize("rate", [1e-5, 1e-4, 1e-3])
def test_flipped_bits_never_pass(rate: float) -> None:
    """T4: of 10,000 frames whatever is delivered was sent."""
    frames = numbered_frames(10_000, 6)
    line = Line(Loss(flip_rate=rate), 9)
    items, _ = decode_all(line.carry(b"".join(frames)), 999)
    delivered = frames_of(items)
    assert set(delivered) <= {f for frame in frames for f in frames_of(decode_all(frame)[0])}
    assert len(delivered) >= len(frames) - 2 * line.counters.flipped
    assert len(delivered) < len(frames) or line.counters.flipped == 0


@pytest.mark.parametrize("name", MESSAGES)
def test_truncation_at_every_offset(name: str) -> None:
    """T5: a frame cut anywhere is not delivered, and the next one is."""
    spec = MESSAGES[name]
    frame = encode_frame(spec.type, 9, bytes(range(1, spec.size + 1)) + (b"\0\1\2" if spec.tail else b""))
    following = encode_frame(0xA2, 10, b"next")
    for cut in range(len(frame) - 1):
        items, decoder = decode_all(frame[:cut] + following)
        assert frames_of(items) == [Frame(0xA2, 10, b"next")], cut
        assert decoder.counters.frames == 1
    assert len(decode_all(frame[:-1] + following)[0]) == 2  # the next frame's zero ends this one
