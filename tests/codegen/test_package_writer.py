"""Writing model packages: byte for byte as documented, refused where no device has room, made by build-fw."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from support.packages import made_package, sections
from uhd import zoo
from uhd.codegen.describe import Description, TensorRow
from uhd.codegen.package import MAX_ANCHORS, MAX_OUTPUTS, package_bytes
from uhd.codegen.package_reader import is_package, read_package
from uhd.codegen.tables import Decode, Table
from uhd.device import build
from uhd.errors import ModelError
from uhd.host.__main__ import main
from uhd.manifest import ModelManifest
from uhd.paths import committed_component

ESPDL = b"a model file"
MANIFEST = ModelManifest(name="m", variant="R")
RAMP = Table(tuple(range(256)), 0)
KNOTS = Table(tuple(range(1000, 2025)), 6)
BOX = TensorRow("box", 2, 3, 4, 1, -3, 16)
OBJ = TensorRow("obj", 2, 3, 1, 2, -9, 48)
ABOUT = Description(
    name="m", variant="R", target="c", espdl_sha256=hashlib.sha256(ESPDL).hexdigest(), espdl_size=len(ESPDL),
    arena_size=64, input=TensorRow("in", 4, 4, 2, 1, -7, 0), outputs=(BOX, OBJ), input_table=tuple(range(-128, 128)),
    decode=Decode(1, 1, (2, 3), 100, 9830, 32768, {"box": 0, "obj": 1}, RAMP, (RAMP, RAMP), {"obj": KNOTS}),
)  # fmt: skip


def u16(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "little") for value in values)


def u32(*values: int) -> bytes:
    return b"".join(value.to_bytes(4, "little") for value in values)


def test_byte_for_byte_as_documented() -> None:
    """docs/model-package.md, followed by hand."""
    text = b"m\0R\0c\0in\0box\0obj\0"
    ramp16, ramp32 = u16(*range(256)), u32(*range(256))
    knots = u16(*range(1000, 2025)) + bytes(2)
    inputs = b"".join(v.to_bytes(2, "little", signed=True) for v in range(-128, 128))
    tabl = inputs + ramp16 + knots + ramp32 + ramp32
    at_knots = 1024
    at_width = at_knots + 2052
    info = u32(0, 2, 4, 64) + hashlib.sha256(ESPDL).digest() + u32(0) + u16(2) + bytes(10)
    info += u32(6) + u16(4, 4, 2) + b"\x01\xf9" + u32(0)
    info += u32(9) + u16(2, 3, 4) + b"\x01\xfd" + u32(16)
    info += u32(13) + u16(2, 3, 1) + b"\x02\xf7" + u32(48)
    deco = u16(1, 1, 2, 3, 100, 9830, 32768, 0) + b"\x00\x01\xff\xff" + u32(0)
    deco += u32(512, 0, at_knots, 6, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0, at_width, 0, at_width + 1024, 0)
    parts = {"INFO": info, "DECO": deco, "TEXT": text, "TABL": tabl, "JSON": MANIFEST.dumps().encode(), "ESPD": ESPDL}
    place, listed, content = 64 + 16 * len(parts), b"", b""
    for kind, data in parts.items():
        assert (place + len(content)) % 16 == 0
        listed += kind.encode() + u32(place + len(content), len(data), 0)
        content += data + bytes(-len(data) % 16)
    behind = u32(len(parts)) + bytes(12) + listed + content
    head = b"UHDM" + u32(1, 48 + len(behind), 0) + hashlib.sha256(behind).digest()
    assert package_bytes(ABOUT, ESPDL, MANIFEST) == head + behind


def test_there_and_back() -> None:
    for about in (ABOUT, replace(ABOUT, variant="", decode=None)):
        read = read_package(package_bytes(about, ESPDL, MANIFEST))
        assert (read.description, read.espdl, read.manifest) == (about, ESPDL, MANIFEST)
        assert read.size % 16 == 0 and list(read.sections)[0] == "INFO"


def test_texts_are_kept_once_and_end_at_a_zero() -> None:
    about = replace(ABOUT, name="box", target="a\0b", outputs=(BOX, replace(OBJ, name="ö")))
    data = package_bytes(about, ESPDL, MANIFEST)
    _, at, size = sections(data)["TEXT"]
    assert data[at : at + size] == "box\0R\0a\0in\0ö\0".encode()
    assert read_package(data).description == replace(about, target="a")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outputs": (BOX,) * (MAX_OUTPUTS + 1)}, "17 outputs, a model package has room for 16"),
        ({"arena_size": (1 << 26) + 1}, "bytes of activations"),
        ({"decode": replace(ABOUT.decode, anchor_count=MAX_ANCHORS + 1)}, "65 anchors"),  # type: ignore[type-var]
        ({"espdl_sha256": "0" * 64}, "not of the given .espdl"),
    ],
)
def test_what_no_device_has_room_for(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        package_bytes(replace(ABOUT, **changes), ESPDL, MANIFEST)  # type: ignore[arg-type]


def test_the_reader_says_which_file(tmp_path: Path) -> None:
    path = tmp_path / "p.uhdm"
    with pytest.raises(ModelError, match=r"p\.uhdm: cannot read it"):
        read_package(path)
    assert not is_package(path)
    path.write_bytes(package_bytes(ABOUT, ESPDL, MANIFEST)[:-1])
    assert is_package(path)
    with pytest.raises(ModelError, match=r"p\.uhdm: cut off: .* bytes; build-fw writes one"):
        read_package(path)


def test_a_model_under_another_name_is_noticed(tmp_path: Path) -> None:
    """The hash of the .espdl inside, which the device compares when it starts, is compared here too."""
    data = bytearray(made_package(tmp_path / "m")[1])
    _, at, _ = sections(bytes(data))["INFO"]
    data[at + 16] ^= 1
    data[16:48] = hashlib.sha256(data[48:]).digest()
    with pytest.raises(ModelError, match="does not have the SHA-256 that the description names"):
        read_package(bytes(data))


@pytest.fixture
def build_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UHD_BUILD", str(tmp_path / "build"))
    return tmp_path / "build"


@pytest.mark.parametrize("chip", ["esp32s3", "esp32p4"])
def test_build_fw_writes_one(capsys: pytest.CaptureFixture[str], build_folder: Path, tmp_path: Path, chip: str) -> None:
    arguments = ("--variant", "R", "--target", chip, "--component", str(tmp_path / "m"), "--component-only", "--json")
    assert main(["build-fw", *arguments]) == 0
    summary = json.loads(capsys.readouterr().out)
    path = build_folder / f"R-{chip}-speed" / "model.uhdm"
    assert summary["package"] == str(path) and summary["package_bytes"] == path.stat().st_size
    package = read_package(path)
    assert package.description.target == chip
    assert package.espdl == (committed_component(chip) / "model.espdl").read_bytes()
    assert main(["espdl", "inspect", str(path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["sha256"] == summary["espdl_sha256"] and shown["package"]["sha256"] == package.sha256
    assert main(["espdl", "inspect", str(path)]) == 0
    assert f"for {chip}" in capsys.readouterr().out


def test_a_model_without_a_package_leaves_no_earlier_one(
    build_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = build.Request("R", "esp32s3")
    shipped = zoo.shipped_espdl("R", "esp32s3", "speed")
    assert shipped is not None
    notes: list[str] = []
    made = [request, shipped.path, shipped.manifest, shipped.path, tmp_path / "m", notes.append]
    first = build.generate_component(*made)  # type: ignore[arg-type]
    assert first.package is not None and first.package.exists() and not notes
    monkeypatch.setattr("uhd.codegen.package.MAX_ANCHORS", 4)
    second = build.generate_component(*made)  # type: ignore[arg-type]
    assert second.package is None and not first.package.exists()
    assert notes == [
        "no model.uhdm: ultratinyod_r has 8 anchors, a model package has room for 4; build it into the firmware instead"
    ]


def test_the_emulator_needs_none(build_folder: Path, tmp_path: Path) -> None:
    assert build.prepare_component(build.Request("R", "qemu"), folder=tmp_path / "m").package is None
    assert not list(build_folder.rglob("*.uhdm"))


def test_packages_hold_nothing_of_this_machine(tmp_path: Path) -> None:
    first, second = (made_package(tmp_path / name)[1] for name in ("one", "two"))
    assert first == second
    assert str(tmp_path).encode() not in first
    assert struct.unpack_from("<I", first, 8)[0] == len(first)
