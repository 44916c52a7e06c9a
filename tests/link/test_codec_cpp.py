"""The C++ frame codec against the Python one, and against noise and loss at volume."""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import struct
import zlib
from collections.abc import Iterator

import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st

from support.lossy_frames import lossy_frames
from support.twinlib import SANITIZE, CppDecoder, library
from uhd.device.link import Decoder, Frame, encode_frame
from uhd.device.messages import LIMITS, MAX_PAYLOAD, MESSAGES

C = library()


@pytest.fixture
def decoder() -> Iterator[CppDecoder]:
    made = CppDecoder(C)
    yield made
    made.close()


def python_frames(data: bytes) -> tuple[list[tuple[int, int, bytes]], Decoder]:
    decoder = Decoder()
    return [(f.type, f.seq, f.payload) for f in decoder.feed(data) if isinstance(f, Frame)], decoder


@given(st.binary(max_size=2000), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_crc32_equals_zlib(data: bytes, start: int) -> None:
    size = ctypes.c_size_t(len(data))
    assert C.c.uhd_twin_crc32(ctypes.c_uint32(0), data, size) == zlib.crc32(data)
    assert C.c.uhd_twin_crc32(ctypes.c_uint32(start), data, size) == zlib.crc32(data, start)


@pytest.mark.parametrize("size", [0, 1, 3, 55, 56, 57, 63, 64, 65, 119, 120, 127, 128, 1000, 218_000])
def test_sha256_equals_hashlib(size: int) -> None:
    data = random.Random(size).randbytes(size)
    digest = ctypes.create_string_buffer(32)
    C.c.uhd_twin_sha256(data, ctypes.c_size_t(size), digest)
    assert digest.raw == hashlib.sha256(data).digest()


def test_both_encoders_write_the_same_and_both_decoders_read_it(decoder: CppDecoder) -> None:
    """T1: random payloads of 0 to 4096 bytes, some rich in zeros, some without, both directions (UHD_LONG: 100,000)."""
    generator, python = random.Random(1), Decoder()
    zeros, none = bytes(x if x > 200 else 0 for x in range(256)), bytes(x or 1 for x in range(256))
    rounds = 8 if SANITIZE else 500 if os.environ.get("UHD_LONG") else 100
    for _ in range(rounds):
        sent, stream = [], []
        for i in range(200):
            payload = generator.randbytes(generator.randrange(MAX_PAYLOAD + 1))
            if i % 10 < 4:
                payload = payload.translate(zeros if i % 10 < 2 else none)
            frame = (generator.randrange(0x80, 0xC0), generator.randrange(65536), payload)
            sent.append(frame)
            stream.append(C.encode(*frame))
            assert stream[-1] == encode_frame(*frame)
        together = b"".join(stream)
        assert decoder.feed(together) == sent
        assert [(f.type, f.seq, f.payload) for f in python.feed(together) if isinstance(f, Frame)] == sent
    assert decoder.counters["frames"] == python.counters.frames == 200 * rounds


@given(st.binary(max_size=1500))
@settings(deadline=None)
def test_encoder_in_pieces_equals_the_cobs_package(payload: bytes) -> None:
    body = struct.pack("<BH", 0x80, 7) + payload
    assert C.encode(0x80, 7, payload) == b"\0" + cobs.encode(body + struct.pack("<I", zlib.crc32(body))) + b"\0"


@given(
    st.lists(
        st.one_of(st.binary(max_size=300), st.builds(encode_frame, st.just(0x81), st.just(1), st.binary(max_size=300)))
    )
)
@settings(max_examples=200, deadline=None)
def test_both_decoders_agree_on_any_stream(pieces: list[bytes]) -> None:
    stream = b"".join(pieces) + b"\0"
    decoder = CppDecoder(C)
    try:
        frames, python = python_frames(stream)
        assert decoder.feed(stream) == frames
        counters = decoder.counters
    finally:
        decoder.close()
    # Text is one of the things that C++ only knows as malformed.
    assert counters["frames"] == python.counters.frames
    assert counters["crc_errors"] <= python.counters.crc_errors + python.counters.console_lines
    bad = sum(counters[n] for n in ("crc_errors", "malformed", "overlong"))
    assert bad == len([s for s in stream.split(b"\0") if s]) - len(frames)


def test_largest_frames_and_one_byte_more(decoder: CppDecoder) -> None:
    for fill in (b"\0", b"\7"):
        payload = fill * MAX_PAYLOAD
        assert decoder.feed(C.encode(0x83, 1, payload)) == [(0x83, 1, payload)]
        body = struct.pack("<BH", 0x83, 1) + fill * (MAX_PAYLOAD + 1)
        too_long = cobs.encode(body + struct.pack("<I", zlib.crc32(body)))
        assert decoder.feed(b"\0" + too_long + b"\0") == []
    assert decoder.counters == {"frames": 2, "crc_errors": 0, "malformed": 0, "overlong": 2}
    # Exactly as many encoded bytes as the document allows.
    assert len(C.encode(0x83, 1, b"\7" * MAX_PAYLOAD)) <= LIMITS["MAX_ENCODED"][0] + 2


@pytest.mark.parametrize("type_", [1, 0x0A, 0x7F, 0x80, 0xBF, 0xC0, 0xFF])
def test_only_types_of_the_range_are_frames(decoder: CppDecoder, type_: int) -> None:
    assert len(decoder.feed(C.encode(type_, 1, b"payload"))) == (0x80 <= type_ <= 0xBF)
    assert decoder.counters["malformed"] == (not 0x80 <= type_ <= 0xBF)


def test_ten_megabytes_of_garbage(decoder: CppDecoder) -> None:
    """T2: no crash, at most one frame by chance, and the next real frame is understood."""
    generator = random.Random(2)
    frames = 0
    for _ in range(10):
        frames += len(decoder.feed(generator.randbytes(1 << 20)))
    assert frames <= 1
    assert decoder.counters["malformed"] > 10_000
    assert decoder.feed(b"\0" + encode_frame(0x81, 3, b"hello")) == [(0x81, 3, b"hello")]


@pytest.mark.parametrize("rate", [1e-4, 1e-3, 1e-2])
def test_dropped_bytes_cost_only_the_frames_they_hit(decoder: CppDecoder, rate: float) -> None:
    """T3 in C++."""
    generator = random.Random(8)
    frames = [encode_frame(0x83, i, struct.pack("<I", i) + generator.randbytes(30)) for i in range(10_000)]
    kept, whole = lossy_frames(frames, rate, seed=4)
    arrived = [frame for piece in kept for frame in decoder.feed(piece)]
    assert [seq for _, seq, _ in arrived] == [struct.unpack_from("<I", p)[0] for _, _, p in arrived] == whole
    assert 0 < len(frames) - len(whole) < 3 * rate * sum(map(len, frames))


@pytest.mark.parametrize("rate", [1e-5, 1e-4])
def test_flipped_bits_never_pass(decoder: CppDecoder, rate: float) -> None:
    """T4 in C++: 10,000 frames, nothing delivered that was not sent."""
    generator = random.Random(round(1 / rate) + 9)
    sent = [(0x83, i & 0xFFFF, struct.pack("<I", i) + generator.randbytes(40)) for i in range(10_000)]
    stream = bytearray(b"".join(encode_frame(*f) for f in sent))
    flips = round(len(stream) * 8 * rate)
    for bit in generator.sample(range(len(stream) * 8), flips):
        stream[bit // 8] ^= 1 << (bit % 8)
    delivered = decoder.feed(bytes(stream))
    assert set(delivered) <= set(sent)
    assert len(sent) - 2 * flips <= len(delivered) < len(sent)


@pytest.mark.parametrize("name", MESSAGES)
def test_truncation_at_every_offset(decoder: CppDecoder, name: str) -> None:
    """T5 in C++."""
    spec = MESSAGES[name]
    frame = encode_frame(spec.type, 9, bytes(range(1, spec.size + 1)))
    for cut in range(len(frame) - 1):
        assert decoder.feed(frame[:cut] + encode_frame(0xA2, 1, b"next")) == [(0xA2, 1, b"next")], cut
