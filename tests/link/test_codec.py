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

from uhd.device.link import Decoder, Frame, cobs_decode, cobs_encode, encode_frame
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


def test_a_megabyte_of_garbage() -> None:
    garbage = random.Random(11).randbytes(1 << 20)
    decoder = Decoder()
    tracemalloc.start()
    frames = 0
    for i in range(0, len(garbage), 4096):
        frames += len(frames_of(decoder.feed(garbage[i : i + 4096])))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert frames <= 1
    assert peak < 300_000
    assert decoder.counters.malformed > 1000
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
    """T3: every frame that lost no byte arrives, once, in order."""
    generator = random.Random(round(1 / rate))
    decoder, arrived, intact = Decoder(), [], []
    for i, frame in enumerate(numbered_frames(4000, 5)):
        kept = bytes(b for b in frame if generator.random() >= rate)
        # One zero of the two borders is enough on each side; what lies between must be whole.
        if kept.strip(b"\0") == frame.strip(b"\0") and kept[:1] == kept[-1:] == b"\0":
            intact.append(i)
        arrived += frames_of(decoder.feed(kept))
    numbers = [struct.unpack_from("<I", f.payload)[0] for f in arrived]
    assert numbers == sorted(set(numbers))
    assert set(intact) <= set(numbers)
    assert all(len(f.payload) >= 4 and f.seq == n for f, n in zip(arrived, numbers, strict=True))
    assert len(intact) < 4000


@pytest.mark.parametrize("rate", [1e-5, 1e-4, 1e-3])
def test_flipped_bits_never_pass(rate: float) -> None:
    """T4: whatever is delivered was sent."""
    generator = random.Random(round(1 / rate) + 1)
    frames = numbered_frames(4000, 6)
    sent = {f: Frame(0xA3, i, decode_all(f)[0][0].payload) for i, f in enumerate(frames)}  # type: ignore[union-attr]
    stream = bytearray(b"".join(frames))
    flips = max(1, round(len(stream) * 8 * rate))
    for bit in generator.sample(range(len(stream) * 8), flips):
        stream[bit // 8] ^= 1 << (bit % 8)
    items, _ = decode_all(bytes(stream), 999)
    delivered = frames_of(items)
    assert set(delivered) <= set(sent.values())
    assert len(delivered) >= 4000 - 2 * flips


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
