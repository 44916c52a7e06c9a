"""Model packages: the device's reader against the compiled component, the Python reader, and bytes that lie."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from support.components import need_compiler
from support.packages import compiled_info, made_package, opened, opener, package_of, sanitized, sealed, sections
from uhd import zoo
from uhd.codegen.package import assemble
from uhd.codegen.package_reader import read_package
from uhd.errors import ModelError

#: Damaged packages tried for each kind of model; more with UHD_FUZZ_COUNT.
FUZZ_COUNT = int(os.environ.get("UHD_FUZZ_COUNT", "2000"))
CHIPS = ("esp32s3", "esp32p4")
MODELS = [
    *((letter, chip, "speed") for letter in zoo.shipped_variants() for chip in CHIPS),
    ("R", CHIPS[0], "precision"),
]


@pytest.fixture(scope="module", autouse=True)
def _compiler() -> None:
    need_compiler()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made_package(tmp_path_factory.mktemp("package") / "m")[1]


@pytest.mark.parametrize(("letter", "chip", "preset"), MODELS)
def test_it_says_what_the_component_says(tmp_path: Path, letter: str, chip: str, preset: str) -> None:
    """Every field and every table of ModelInfo, and the .espdl at an aligned address."""
    shipped = zoo.shipped_espdl(letter, chip, preset)
    assert shipped is not None
    about, data = package_of(shipped.path, chip, shipped.manifest, tmp_path / "m")
    status, text = opened(data)
    assert status == "Ok", text
    assert text == compiled_info(tmp_path / "m")
    assert f"target {chip}\n" in text and f"espdl {shipped.path.stat().st_size} aligned 1 {about.espdl_sha256}" in text
    assert text.count("box_wh") == 16 and len(text.split()) > 256 * 16
    read = read_package(data)
    assert read.description == about
    assert read.espdl == shipped.path.read_bytes() and read.manifest == shipped.manifest


@pytest.mark.parametrize(("bits", "head"), [(8, True), (16, True), (8, False)])
def test_made_models(tmp_path: Path, bits: int, head: bool) -> None:
    about, data = made_package(tmp_path / "m", bits, 3, head)
    assert opened(data) == ("Ok", compiled_info(tmp_path / "m"))
    assert read_package(data).description == about
    assert (about.decode is not None) == head == ("DECO" in sections(data))


def test_a_partition_is_larger_than_its_package(package: bytes) -> None:
    status, text = opened(package + b"\xff" * 5000)
    assert (status, text) == opened(package)
    assert read_package(package + b"\xff" * 5000) == read_package(package)
    assert opened(b"\xff" * 4096) == ("NotFound", "there is no model package")
    assert opened(bytes(4096))[0] == "NotFound"
    assert opened(b"")[0] == "NotFound"


def test_alignment_and_null_pointers(package: bytes) -> None:
    for shift in (1, 2, 4, 8, 12):
        assert opened(package, shift)[0] == "InvalidArgument"
    assert opener().open_nothing(package, len(package)) in (0, 1), "0 or, where Python's bytes are not aligned, 1"


def patched(data: bytes, at: int, form: str, *values: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(f"<{form}", changed, at, *values)
    return bytes(changed)


def damaged(data: bytes) -> dict[str, tuple[bytes, str, str]]:
    """By name: (a damaged package, status, words of the reason). Offsets are those of docs/model-package.md."""
    place = sections(data)
    info, deco, tabl, text = (place[kind][1] for kind in ("INFO", "DECO", "TABL", "TEXT"))
    input_row, box_row, list_of_info = info + 64, info + 80, place["INFO"][0]
    without = {kind: data[offset : offset + size] for kind, (_, offset, size) in place.items()}

    def rebuilt(**changes: bytes | None) -> bytes:
        parts = {**without, **changes}
        return assemble([(kind.encode(), part) for kind, part in parts.items() if part is not None])

    def seal(at: int, form: str, *values: int) -> bytes:
        return sealed(patched(data, at, form, *values))

    broken = "the model's description is broken"
    tables = "tables do not fit"
    return {
        "magic": (patched(data, 0, "B", 0x75), "NotFound", "no model package"),
        "version": (patched(data, 4, "I", 2), "Unsupported", "format version"),
        "one bit of the .espdl": (patched(data, len(data) - 40, "B", data[-40] ^ 1), "Corrupt", "SHA-256"),
        "one bit of the hash": (patched(data, 20, "B", data[20] ^ 1), "Corrupt", "SHA-256"),
        "size beyond the end": (patched(data, 8, "I", len(data) + 16), "Incomplete", "cut off"),
        "size that is odd": (patched(data, 8, "I", len(data) - 1), "Corrupt", "size is impossible"),
        "size of nothing": (patched(data, 8, "I", 0), "Corrupt", "size is impossible"),
        "header cut": (data[:40], "Incomplete", "cut off"),
        "end cut": (data[:-1], "Incomplete", "cut off"),
        "sections": (seal(48, "I", 33), "Corrupt", "too many sections"),
        "section list too long": (sealed(patched(data[:256], 48, "I", 32)), "Corrupt", "outside the package"),
        "section offset": (seal(list_of_info + 4, "I", len(data)), "Corrupt", "outside the package"),
        "section offset wraps": (seal(list_of_info + 4, "II", 0xFFFFFFF0, 32), "Corrupt", "outside the package"),
        "section unaligned": (seal(list_of_info + 4, "I", info + 4), "Corrupt", "outside the package"),
        "section empty": (seal(list_of_info + 8, "I", 0), "Corrupt", "outside the package"),
        "section twice": (seal(place["DECO"][0], "4s", b"INFO"), "Corrupt", "twice"),
        "no .espdl": (rebuilt(ESPD=None), "Corrupt", "lacks a section"),
        "texts without end": (rebuilt(TEXT=b"name"), "Corrupt", "no end"),
        "name": (seal(info, "I", place["TEXT"][2]), "Corrupt", broken),
        "no outputs": (seal(info + 52, "H", 0), "Corrupt", broken),
        "more outputs than rows": (seal(info + 52, "H", 4), "Corrupt", broken),
        "description cut": (rebuilt(INFO=without["INFO"][:-1]), "Corrupt", broken),
        "description tiny": (rebuilt(INFO=without["INFO"][:20]), "Corrupt", broken),
        "outputs": (rebuilt(INFO=patched(without["INFO"], 52, "H", 17) + without["INFO"][80:96] * 14), "Unsupported",
                    "more outputs"),
        "arena": (seal(info + 12, "I", (1 << 26) + 1), "Unsupported", "activations"),
        "tensor name": (seal(input_row, "I", 0xFFFFFFFF), "Corrupt", "tensor"),
        "tensor of no rows": (seal(input_row + 4, "H", 0), "Corrupt", "tensor"),
        "tensor outside the arena": (seal(box_row + 12, "I", 0xFFFFFFF0), "Corrupt", "tensor"),
        "tensor too large for 32 bits": (seal(input_row + 4, "HHH", 65535, 65535, 65535), "Corrupt", "tensor"),
        "tensor of three bytes": (seal(input_row + 10, "B", 3), "Corrupt", "tensor"),
        "input table": (seal(info + 48, "I", place["TABL"][2] - 508), "Corrupt", "input table lies outside"),
        "input table unaligned": (seal(info + 48, "I", 2), "Corrupt", "input table lies outside"),
        "input value": (seal(tabl, "h", 128), "Corrupt", "values that the input cannot have"),
        "anchors": (rebuilt(DECO=patched(without["DECO"], 0, "H", 65) + without["DECO"][56:64] * 128), "Unsupported",
                    "more anchors"),
        "no anchors": (rebuilt(DECO=patched(without["DECO"], 0, "H", 0)[:56]), "Corrupt", tables),
        "decoder cut": (rebuilt(DECO=without["DECO"][:-1]), "Corrupt", tables),
        "decoder too long": (rebuilt(DECO=without["DECO"] + b"\0"), "Corrupt", tables),
        "decoder tiny": (rebuilt(DECO=b"\1"), "Corrupt", tables),
        "grid": (seal(deco + 4, "H", 7), "Corrupt", tables),
        "map": (seal(deco + 16, "b", 3), "Corrupt", "output that is not there"),
        "map below none": (seal(deco + 16, "b", -2), "Corrupt", "output that is not there"),
        "no box": (seal(deco + 16, "b", -1), "Corrupt", tables),
        "table of another kind": (seal(deco + 28, "I", 5), "Corrupt", tables),
        "table of knots": (seal(deco + 28, "I", 6), "Corrupt", tables),
        "no table of sizes": (seal(deco + 56, "II", 0xFFFFFFFF, 0), "Corrupt", tables),
        "table outside": (seal(deco + 56, "I", place["TABL"][2] - 1020), "Corrupt", tables),
        "table offset wraps": (seal(deco + 56, "I", 0xFFFFFFFC), "Corrupt", tables),
        "no factor": (seal(deco + 32, "IIIIII", *(0xFFFFFFFF, 0) * 3), "Corrupt", tables),
        "box too wide": (seal(tabl + struct.unpack_from("<I", data, deco + 56)[0] + 40, "I", 4 * 65535 + 1), "Corrupt",
                         "too wide"),
    }  # fmt: skip


NAMES = tuple(damaged(assemble([(k, bytes(2000)) for k in (b"INFO", b"DECO", b"TABL", b"TEXT", b"ESPD")])))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_damaged_is_refused_with_the_reason(package: bytes, name: str) -> None:
    data, status, reason = damaged(package)[name]
    found, text = opened(data)
    assert found == status and reason in text
    with pytest.raises(ModelError):
        read_package(data)


def test_sections_of_later_writers_are_skipped(package: bytes) -> None:
    parts = [(k.encode(), package[o : o + s]) for k, (_, o, s) in sections(package).items()]
    more = assemble([(b"NEW!", b"x" * 33), *reversed(parts), (b"NEW!", b"y")])
    assert opened(more) == opened(package)
    assert read_package(more).description == read_package(package).description


def test_both_readers_agree_on_damaged_packages(package: bytes) -> None:
    """Two readers written apart. The .espdl and the manifest, which only the host looks into, stay whole and listed."""
    rng = random.Random(5)
    place = sections(package)
    ends = [64 + 16 * 4, *(place[kind][1] + place[kind][2] for kind in ("INFO", "DECO", "TEXT"))]
    starts = [48, *(place[kind][1] for kind in ("INFO", "DECO", "TEXT"))]
    accepted = 0
    for _ in range(1500):
        changed = bytearray(package)
        for _ in range(rng.randint(1, 2)):
            part = rng.randrange(4)
            at = rng.randrange(starts[part], ends[part])
            if part == 1 and 16 <= at - starts[1] < 48:
                continue  # the hash of the .espdl
            changed[at] = rng.choice((0, 1, 2, 6, 64, 127, 128, 255, changed[at] ^ 1, rng.randrange(256)))
        data = sealed(changed)
        status, text = opened(data)
        try:
            read_package(data)
            refused = ""
        except ModelError as error:
            refused = str(error)
        assert (status == "Ok") == (refused == ""), f"{status} {text!r}, {refused!r}"
        accepted += status == "Ok"
    assert 100 < accepted < 1400


@pytest.mark.parametrize(("bits", "head", "share"), [(8, True, 1.0), (16, True, 0.2), (8, False, 0.3)])
def test_no_bytes_reach_outside(tmp_path: Path, bits: int, head: bool, share: float) -> None:
    """Thousands of damaged packages under the sanitizers; what is accepted is used: tables, decoder, the .espdl."""
    data = made_package(tmp_path / "m", bits, 1, head)[1]
    (tmp_path / "package").write_bytes(data)
    done = sanitized("fuzz", tmp_path / "package", bits, round(FUZZ_COUNT * share))
    assert done.returncode == 0, done.stderr[-3000:]
    counts = [int(n) for n in done.stdout.split()]
    assert sum(counts) == round(FUZZ_COUNT * share)
    ok, corrupt = counts[0], counts[4]
    assert ok > sum(counts) / 20 and corrupt > sum(counts) / 20, counts


def test_no_cut_reaches_outside(tmp_path: Path, package: bytes) -> None:
    """Cut at every byte; and, where that is a size a package may have, with size and hash that fit."""
    (tmp_path / "package").write_bytes(package)
    done = sanitized("cut", tmp_path / "package")
    assert done.returncode == 0, done.stderr[-3000:]
    assert sum(map(int, done.stdout.split())) == len(package) // 16
    assert done.stdout.split()[0] == "0"


def test_the_sanitizers_would_find_something(tmp_path: Path, package: bytes) -> None:
    (tmp_path / "package").write_bytes(package)
    done = sanitized("blind", tmp_path / "package")
    assert done.returncode != 0 and "heap-buffer-overflow" in done.stderr
