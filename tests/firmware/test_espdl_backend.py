"""The ESP-DL backend as far as it runs without ESP-DL: which models it refuses, where it puts things, its borders."""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.idf_project import COMPONENTS, compile_host
from support.shared import ROOT
from uhd.espdl.document import read_document, write_document
from uhd.espdl.reader import read_espdl
from uhd.paths import MODEL_COMPONENT

ESPDL = COMPONENTS / "uhd_espdl"
CHIPS = ("esp32s3", "esp32p4")
OK, INVALID, TOO_SMALL, CORRUPT, UNSUPPORTED, NOT_FOUND = 0, 1, 2, 4, 5, 7
IN_PLACE, INTERNAL, PSRAM = range(3)
KB = 1024

Ask = Callable[[str], str]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """One command of ``support/espdl_plan.cpp``, under the sanitizers; the process lives as long as the module."""
    folder = tmp_path_factory.mktemp("espdl")
    hash_source = COMPONENTS / "uhd_core/src/sha256.cpp"
    portable = [ESPDL / "src" / name for name in ("espdl_file.cpp", "espdl_plan.cpp")]
    files = [ROOT / "tests/support/espdl_plan.cpp", *portable, hash_source]
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", f"-I{ESPDL / 'src'}"]
    program = compile_host(folder / "plan", files, flags)
    process = subprocess.Popen([str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def command(line: str) -> str:
        assert process.stdin and process.stdout
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer = process.stdout.readline().rstrip("\n")
        assert answer, f"the program died of: {line}"
        return answer

    yield command
    assert process.stdin
    process.stdin.close()
    assert process.wait(10) == 0


def status(answer: str) -> tuple[int, str]:
    code, _, why = answer.partition("|")
    assert (code == "0") == (why == ""), answer
    return int(code), why


# --- the model and its file -----------------------------------------------------------------------------------------


def committed(chip: str) -> bytes:
    return (MODEL_COMPONENT / chip / "model.espdl").read_bytes()


def check(ask: Ask, file: Path | str, data: bytes, *, chip: str = "esp32s3", target: str = "esp32s3", shift: int = 0,
          outputs: int = 3, digest: str | None = None) -> tuple[int, str]:  # fmt: skip
    digest = digest or hashlib.sha256(data).hexdigest()
    if isinstance(file, Path):
        file.write_bytes(data)
    return status(ask(f"model {chip} {target} {file} {shift} {outputs} {digest}").split("|", 2)[2])


@pytest.mark.parametrize("chip", CHIPS)
def test_the_committed_model_is_for_its_chip_only(ask: Ask, tmp_path: Path, chip: str) -> None:
    data = committed(chip)
    other = CHIPS[1 - CHIPS.index(chip)]
    assert check(ask, tmp_path / "m", data, chip=chip, target=chip) == (OK, "")
    assert check(ask, tmp_path / "m", data, chip=other, target=chip) == (
        UNSUPPORTED, f"the model is for {chip}, this chip is {other}",
    )  # fmt: skip
    assert check(ask, tmp_path / "m", data, chip=chip, target="c")[0] == UNSUPPORTED


@pytest.mark.parametrize("rewritten", [False, True])
@pytest.mark.parametrize("chip", CHIPS)
def test_figures_are_those_of_the_file(ask: Ask, tmp_path: Path, chip: str, rewritten: bool) -> None:
    """Against the reader of the host tools; also of a file that was written by these."""
    path = MODEL_COMPONENT / chip / "model.espdl"
    if rewritten:
        path, data = tmp_path / "model.espdl", path.read_bytes()
        path.write_bytes(write_document(read_document(data)))
        assert path.stat().st_size < len(data)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    nodes, weights, _ = ask(f"model {chip} {chip} {path} 0 3 {digest}").split("|", 2)
    espdl = read_espdl(path, chip)
    constants = [t.data.nbytes for t in espdl.tensors.values() if t.data is not None]
    assert (int(nodes), int(weights)) == (len(espdl.nodes), sum(-(-size // 16) * 16 for size in constants))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_offsets_that_lead_out_of_the_file_are_noticed(ask: Ask, tmp_path: Path, data: st.DataObject) -> None:
    """Damage with a matching hash: whatever is read, the sanitizers see no byte outside. The front holds the tables."""
    bad = bytearray(committed("esp32s3"))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(4, 63) | st.integers(4, len(bad) // 4 - 1)) * 4
        word = data.draw(
            st.sampled_from((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(bad))) | st.integers(0, 2**32 - 1)
        )
        bad[at : at + 4] = struct.pack("<I", word)
    code, why = check(ask, tmp_path / "m", bytes(bad))
    assert code == OK or why == "the .espdl is not built like one"


def header(magic: bytes = b"EDL2", mode: int = 0, length: int = 64) -> bytes:
    return magic + struct.pack("<3I", mode, length, 0)


@pytest.mark.parametrize(
    ("data", "code", "why"),
    [
        (committed("esp32s3") + bytes(6), OK, ""),  # padding behind the model
        (header() + bytes(64), CORRUPT, "not built like one"),
        (header() + b"\xff" * 64, CORRUPT, "not built like one"),
        (header(b"EDL1") + bytes(64), CORRUPT, "not an .espdl of one model"),
        (header(b"PDL2") + bytes(64), CORRUPT, "not an .espdl of one model"),
        (header(mode=1) + bytes(64), UNSUPPORTED, "encrypted"),
        (header(mode=7) + bytes(64), UNSUPPORTED, "encrypted"),
        (header() + bytes(63), CORRUPT, "cut off"),
        (header(length=0) + bytes(64), CORRUPT, "cut off"),
        (header(length=2**32 - 1) + bytes(64), CORRUPT, "cut off"),
        (header(), CORRUPT, "too short"),
        (b"EDL2", CORRUPT, "too short"),
        (b"", CORRUPT, "too short"),
    ],
)
def test_header(ask: Ask, tmp_path: Path, data: bytes, code: int, why: str) -> None:
    """Each with the right hash, so that the header alone decides."""
    found = check(ask, tmp_path / "m", data)
    assert found[0] == code and why in found[1]


def test_where_the_file_lies_and_how_many_outputs(ask: Ask, tmp_path: Path) -> None:
    data = committed("esp32s3")
    refuse = partial(check, ask, tmp_path / "m", data)
    assert [refuse(shift=n)[0] for n in (1, 4, 8, 15)] == [INVALID] * 4
    assert "aligned" in refuse(shift=8)[1]
    assert check(ask, "-", b"") == (NOT_FOUND, "the .espdl is not there")
    assert [refuse(outputs=n)[0] for n in (0, 1, 16, 17, 255)] == [UNSUPPORTED, OK, OK, UNSUPPORTED, UNSUPPORTED]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_never_reaches_esp_dl(ask: Ask, tmp_path: Path, data: st.DataObject) -> None:
    good = committed("esp32s3")
    digest = hashlib.sha256(good).hexdigest()
    at = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        bad = good[:at]
    else:
        bad = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    code, why = check(ask, tmp_path / "m", bad, digest=digest)
    assert code != OK and why


# --- memory ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """An ESP32-S3 with 8 MB of PSRAM and the committed model, unless said otherwise."""

    arena: int = 24864
    file: int = 205024
    nodes: int = 55
    constants: int = 138464
    built_in: bool = True
    psram_size: int = 8192 * KB
    internal_free: int = 330 * KB
    internal_largest: int = 220 * KB
    psram_free: int = 8000 * KB
    psram_largest: int = 7900 * KB
    limit: int = 64 * KB
    copy: bool = True
    in_psram: bool = False

    def ask(self, ask: Ask) -> tuple[int, int, int, str]:
        """Status, internal activations, place of the weights, reason."""
        values = " ".join(str(int(v)) for v in vars(self).values())
        inside, place, rest = ask(f"plan {values}").split("|", 2)
        code, why = status(rest)
        return code, int(inside), int(place), why

    @property
    def activations(self) -> int:
        return self.arena * 5 // 4 + 2048

    @property
    def weights(self) -> int:
        return self.constants * 9 // 8

    @property
    def objects(self) -> int:
        return 16 * KB + self.nodes * 1536

    @property
    def small_objects(self) -> int:
        return 8 * KB + self.nodes * 512


def test_a_small_model_takes_what_it_needs_and_leaves_the_rest(ask: Ask) -> None:
    roomy = Case()
    assert roomy.ask(ask) == (OK, roomy.activations // 16 * 16, INTERNAL, "")
    assert replace(roomy, copy=False).ask(ask)[2] == IN_PLACE
    assert replace(roomy, in_psram=True).ask(ask)[2] == IN_PLACE, "ESP-DL copies nothing that lies in PSRAM"
    assert replace(roomy, limit=10_000).ask(ask)[1] == 10_000
    assert replace(roomy, limit=0).ask(ask)[:3] == (OK, 0, INTERNAL)


def test_weights_that_would_fill_internal_memory_go_to_psram(ask: Ask) -> None:
    """ESP-DL takes internal memory to the last block if it is let: drivers would find nothing left."""
    edge = Case()
    need = 32 * KB + edge.small_objects + edge.activations // 16 * 16 + edge.weights
    assert replace(edge, internal_free=need).ask(ask)[2] == INTERNAL
    assert replace(edge, internal_free=need - 1).ask(ask)[2] == PSRAM
    assert replace(edge, internal_free=need - 1, psram_largest=edge.activations + edge.file - 1).ask(ask)[2] == IN_PLACE
    # The largest published size: 8 MB of PSRAM do not hold a second copy, flash does.
    huge = Case(arena=1_000_000, file=8_000_000, constants=7_800_000)
    assert huge.ask(ask)[::2] == (OK, IN_PLACE)


def test_little_internal_memory_is_left_alone(ask: Ask) -> None:
    for free in (0, 10 * KB, 48 * KB, 68 * KB):
        assert Case(internal_free=free, internal_largest=free).ask(ask)[1:3] == (0, PSRAM)
    split = Case(internal_largest=8 * KB)
    assert split.ask(ask)[1] == 8 * KB


def test_too_large_is_a_reason_with_numbers(ask: Ask) -> None:
    code, _, _, why = Case(arena=7_000_000).ask(ask)
    assert (code, why) == (TOO_SMALL, "the model needs about 8547 KB of PSRAM in one piece, 7900 KB are free")
    code, _, _, why = Case(psram_free=100 * KB, psram_largest=90 * KB).ask(ask)
    assert code == TOO_SMALL and "of PSRAM, 100 KB are free" in why
    code, _, _, why = Case(psram_size=0, psram_free=0, psram_largest=0).ask(ask)
    assert code == UNSUPPORTED and "PSRAM" in why


def test_without_psram_in_the_configuration(ask: Ask) -> None:
    bare = Case(built_in=False, psram_size=0, psram_free=0, psram_largest=0)
    need = 32 * KB + bare.activations + bare.objects
    assert replace(bare, internal_free=need).ask(ask)[:3] == (OK, 0, IN_PLACE)
    assert replace(bare, internal_free=need + bare.weights).ask(ask)[:3] == (OK, 0, INTERNAL)
    code, _, _, why = replace(bare, internal_free=need - 1).ask(ask)
    assert code == TOO_SMALL and "internal memory" in why
    code, _, _, why = replace(bare, internal_largest=bare.activations - 1).ask(ask)
    assert code == TOO_SMALL and "in one piece" in why


sizes = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 10 * KB * KB))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    internal, psram = draw(sizes), draw(sizes)
    return Case(
        arena=draw(sizes),
        file=draw(sizes),
        nodes=draw(sizes),
        constants=draw(sizes),
        built_in=draw(st.booleans()),
        psram_size=draw(sizes),
        internal_free=internal,
        internal_largest=draw(st.integers(0, internal)),
        psram_free=psram,
        psram_largest=draw(st.integers(0, psram)),
        limit=draw(st.integers(0, 524288)),
        copy=draw(st.booleans()),
        in_psram=draw(st.booleans()),
    )


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases())
def test_no_placement_takes_what_is_not_there(ask: Ask, case: Case) -> None:
    code, inside, place, _ = case.ask(ask)
    if code != OK:
        assert (inside, place) == (0, IN_PLACE)
        return
    assert inside % 16 == 0 and inside <= min(case.limit, case.internal_largest, case.activations)
    assert place == IN_PLACE or case.copy
    if case.built_in:
        assert case.psram_size > 0 and case.activations <= case.psram_largest
        extra = case.file if place == PSRAM else 0
        assert case.activations + case.objects + extra <= case.psram_free
    taken = inside + (case.weights if place == INTERNAL else 0)
    if not case.built_in:
        taken += case.activations + case.objects
        assert inside == 0 and case.activations <= case.internal_largest
        assert taken + 32 * KB <= case.internal_free
    elif taken:
        assert taken + case.small_objects + 32 * KB <= case.internal_free


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cases(), st.integers(0, 2**20))
def test_more_memory_never_refuses_more(ask: Ask, case: Case, more: int) -> None:
    def grown(value: int) -> int:
        return min(value + more, 2**32 - 1)

    larger = replace(
        case,
        internal_free=grown(case.internal_free),
        internal_largest=grown(case.internal_largest),
        psram_free=grown(case.psram_free),
        psram_largest=grown(case.psram_largest),
    )
    if case.ask(ask)[0] == OK:
        assert larger.ask(ask)[0] == OK


# --- tensors ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    exists: bool = True
    data: bool = True
    integer_bytes: int = 1
    per_channel: bool = False
    exponent: int = -4
    size: int = 8 * 8 * 32
    shape: tuple[int, ...] = (1, 8, 8, 32)
    name: str = "box"
    bytes: int = 1

    def ask(self, ask: Ask) -> tuple[int, str]:
        values = (self.exists, self.data, self.integer_bytes, self.per_channel, self.exponent, self.size)
        numbers = [*map(int, values), len(self.shape), *self.shape]
        return status(ask(f"tensor {self.name} 8 8 32 {self.bytes} -4 {' '.join(map(str, numbers))}"))


@pytest.mark.parametrize(
    ("found", "code", "why"),
    [
        (Found(), OK, ""),
        (Found(bytes=2, integer_bytes=2, size=2 * 8 * 8 * 32), OK, ""),
        (Found(exists=False), NOT_FOUND, "output box is not in the .espdl"),
        (Found(data=False), TOO_SMALL, "output box has no memory"),
        (Found(shape=(1, 8, 32, 8)), CORRUPT, "output box has another shape than the manifest says"),
        (Found(shape=(2, 8, 8, 32)), CORRUPT, "another shape"),
        (Found(shape=(8, 8, 32)), CORRUPT, "another shape"),
        (Found(shape=(1, 8, 8, 32, 1)), CORRUPT, "another shape"),
        (Found(shape=()), CORRUPT, "another shape"),
        (Found(integer_bytes=2), CORRUPT, "output box is not int8"),
        (Found(integer_bytes=0), CORRUPT, "is not int8"),
        (Found(bytes=2), CORRUPT, "is not int16"),
        (Found(exponent=-5), CORRUPT, "output box has exponent -5, the manifest says -4"),
        (Found(exponent=-2147483648), CORRUPT, "exponent -2147483648"),
        (Found(per_channel=True), CORRUPT, "has exponent"),
        (Found(size=2047), CORRUPT, "has another size"),
    ],
)
def test_tensors_are_those_of_the_manifest(ask: Ask, found: Found, code: int, why: str) -> None:
    answer = found.ask(ask)
    assert answer[0] == code and why in answer[1]


def test_a_long_name_is_cut_not_written_past_the_end(ask: Ask) -> None:
    code, why = Found(exists=False, name="n" * 500).ask(ask)
    assert code == NOT_FOUND and why == "output " + "n" * 88
    assert len(Found(exponent=9, name="n" * 70).ask(ask)[1]) == 95


# --- what callers of run() see ---------------------------------------------------------------------------------------

shapes = st.tuples(st.integers(1, 64), st.integers(1, 64), st.integers(1, 300), st.integers(1, 2))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes, st.lists(shapes, min_size=1, max_size=16))
def test_borders_lie_side_by_side(ask: Ask, first: tuple[int, ...], rest: list[tuple[int, ...]]) -> None:
    tensors = [first, *rest]
    line = " ".join(str(v) for t in tensors for v in t)
    arena, *places = map(int, ask(f"border {len(rest)} {line}").split())
    ends = [p + h * w * c * b for p, (h, w, c, b) in zip(places, tensors, strict=True)]
    assert places[0] == 0
    for end, begin in zip(ends, [*places[1:], arena], strict=True):
        assert begin % 16 == 0 and 0 <= begin - end < 16


def test_arguments_of_run(ask: Ask) -> None:
    answers = {line: ask(f"run {line}") for line in ("1 1 1 0", "0 1 1 0", "1 0 1 0", "1 1 0 0", "1 1 1 -1", "1 1 1 8")}
    assert answers.pop("1 1 1 0") == f"{OK}|"
    assert set(answers.values()) == {f"{INVALID}|"}


# --- the component ---------------------------------------------------------------------------------------------------


def test_only_one_file_knows_esp_dl() -> None:
    knowing = {p.name for p in ESPDL.rglob("*.[ch]pp") if re.search(r'#include "(dl_|fbs_)|\bdl::', p.read_text())}
    assert knowing == {"espdl_backend.cpp"}
    portable = [p for p in (ESPDL / "src").iterdir() if p.name != "espdl_backend.cpp"]
    headers = {h for p in portable for h in re.findall(r"#include <(.*)>", p.read_text())}
    assert headers <= {"stddef.h", "stdint.h", "string.h"}


def test_every_option_that_the_source_reads_exists() -> None:
    options = set(re.findall(r"^\s*config (\w+)$", (ESPDL / "Kconfig").read_text(), re.M))
    used = set(re.findall(r"CONFIG_(UHD_\w+)", (ESPDL / "src/espdl_backend.cpp").read_text()))
    assert used == options == {f"UHD_ESPDL_{name}" for name in ("INTERNAL_BYTES", "PARAM_COPY", "MULTI_CORE")}


def test_the_version_of_esp_dl_is_exact() -> None:
    """3.3 renamed parts of the API that 3.2 had: a range would let a build break one day."""
    manifest = (ESPDL / "idf_component.yml").read_text()
    assert re.search(r'espressif/esp-dl:\n\s+version: "\d+\.\d+\.\d+"\n', manifest)
