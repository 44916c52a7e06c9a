"""The written component: deterministic, whole or not at all, tied to its model."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from support.components import detector_manifest, made_component, made_detector, need_compiler
from support.made_models import Maker
from uhd.codegen import component as module
from uhd.codegen import generate
from uhd.codegen.plan import plan_memory
from uhd.device import compile as compiling
from uhd.device.engines import plain_manifest
from uhd.errors import ConfigError, ModelError, UhdError
from uhd.manifest import Quantization, load_manifest
from uhd.paths import COMPONENTS

FILES = {"CMakeLists.txt", "README.md", "blobs.S", "idf_component.yml", "info.cpp", "manifest.json", "model.cpp",
         "model.espdl", "uhd_model_id.hpp", "weights.bin"}  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture
def component(tmp_path: Path) -> Path:
    model, content = made_detector()
    return made_component(tmp_path / "uhd_model", model, content, detector_manifest(model, name="Tiny", variant="R"))


def test_same_model_same_bytes(component: Path, tmp_path: Path) -> None:
    model, content = made_detector()
    again = made_component(tmp_path / "again", model, content, detector_manifest(model, name="Tiny", variant="R"))
    assert set(contents(component)) == FILES
    assert contents(component) == contents(again)
    made = made_component(tmp_path / "other", *made_detector(1))
    assert contents(made)["weights.bin"] != contents(component)["weights.bin"]


def test_no_places_and_no_dates(component: Path) -> None:
    for path in component.iterdir():
        if path.suffix not in (".bin", ".espdl"):
            text = path.read_text()
            assert str(component.parent) not in text and "/work" not in text
            assert not re.search(r"\b20\d\d-\d\d-\d\d\b|\d\d:\d\d:\d\d", text), path
            assert max(map(len, text.splitlines())) <= 160, path
            assert text.endswith("\n") and not text.endswith("\n\n") and "\t" not in text


def test_it_says_what_it_is(component: Path) -> None:
    model, content = made_detector()
    for name in ("model.cpp", "info.cpp", "blobs.S", "uhd_model_id.hpp", "CMakeLists.txt", "idf_component.yml"):
        head = (component / name).read_text().splitlines()[:2]
        assert "Do not edit" in head[0] and model.sha256 in head[1] and "Tiny" in head[1], name
    assert (component / "model.espdl").read_bytes() == content
    assert load_manifest(component / "manifest.json").name == "Tiny"
    readme = (component / "README.md").read_text()
    assert model.sha256 in readme and f"{len(content):,} bytes" in readme
    assert f'kHash[] = "{model.sha256}"' in (component / "uhd_model_id.hpp").read_text()


def test_graph_as_text(tmp_path: Path) -> None:
    """The calls of a small graph, word for word; the addresses are the plan's, which has its own tests."""
    make = Maker(0)
    x = make.conv(make.input(8, 8, 2), 4, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    y = make.rename(make.same("Add", [x, make.conv(x, 4, (3, 3), pads=(1, 1, 1, 1), group=4, shift=7)]), "sum")
    model = make.model(y)
    text = (made_component(tmp_path / "m", model, make.file()) / "model.cpp").read_text()
    plan = plan_memory(model)
    first, second = (plan.offsets[name] for name in ("/Conv_3_output_0", "/Conv_6_output_0"))
    body = text[text.index("  const int8_t* const") : text.index("  return Status::Ok;\n}")]
    wanted = f"""
      const int8_t* const input_ = static_cast<const int8_t*>(input);  // 8x8x2
      int8_t* const conv_3_output_0 = at<int8_t>(arena, {first});  // 4x4x4
      int8_t* const conv_6_output_0 = at<int8_t>(arena, {second});  // 4x4x4
      int8_t* const sum = static_cast<int8_t*>(outputs[0]);  // 4x4x4

      // Conv /Conv_3
      conv_gemm<int8_t, HalfUp>(uhd_model_data, kConv3, input_, conv_3_output_0,
                                at<uint32_t>(arena, {plan.scratch[0]}));
      UHD_TRACE_STEP(0);
      // Conv /Conv_6
      conv_depthwise<int8_t, HalfUp>(uhd_model_data, kConv6, conv_3_output_0, conv_6_output_0,
                                     at<uint32_t>(arena, {plan.scratch[1]}));
      UHD_TRACE_STEP(1);
      // Add /Add_7
      add<int8_t>(kAdd7, conv_3_output_0, conv_6_output_0, sum);
      UHD_TRACE_STEP(2);
    """
    assert body.split() == wanted.split()
    assert (
        "constexpr Binary kAdd7 = {\n"
        "    /*h*/ 1, /*w*/ 1, /*c*/ 64, /*a_row*/ 0, /*a_column*/ 0, /*a_channel*/ 1, /*b_row*/ 0, /*b_column*/ 0,\n"
        "    /*b_channel*/ 1, /*shift*/ 0, /*lowest*/ -128, /*highest*/ 127,\n"
        "};\n"
    ) in text


def test_replaces_an_earlier_component_only(component: Path, tmp_path: Path) -> None:
    model, content = made_detector(1)
    (component / "stale.txt").write_text("x")
    made_component(component, model, content)
    assert set(contents(component)) == FILES
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="were not generated"):
        made_component(foreign, model, content)
    assert contents(foreign) == {"thesis.txt": b"mine"}
    with pytest.raises(ConfigError, match="is a file"):
        made_component(foreign / "thesis.txt", model, content)
    (tmp_path / "empty").mkdir()
    made_component(tmp_path / "empty", model, content)


def test_failure_leaves_the_old_component(component: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(component)
    model, content = made_detector(1)
    bad = replace(model, nodes=(replace(model.nodes[0], op="Softmax"), *model.nodes[1:]))
    with pytest.raises(ModelError, match="Softmax"):
        generate(bad, content, plain_manifest(bad), component)

    original = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.name == "weights.bin":
            raise OSError(28, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError, match="cannot write the component .No space left"):
        made_component(component, model, content)
    assert contents(component) == before
    assert list(component.parent.iterdir()) == [component]


def test_manifest_must_be_of_this_model(tmp_path: Path) -> None:
    model, content = made_detector()
    manifest = detector_manifest(model)
    quantization = Quantization(target="c", calibration="none", espdl_sha256="0" * 64)
    other = Quantization(target="esp32s3", calibration="none")
    for bad, message in (
        (manifest.model_copy(update={"quantization": quantization}), "belongs to .espdl 000000000000"),
        (manifest.model_copy(update={"quantization": other}), "target esp32s3"),
        (manifest.model_copy(update={"input_height": 64}), "takes .*16, 16, 2.*says .*64, 16, 2"),
    ):  # fmt: skip
        with pytest.raises(ModelError, match=message):
            generate(model, content, bad, tmp_path / "m")
    with pytest.raises(ModelError, match="not the given .espdl"):
        generate(model, content + b"x", manifest, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_refuses_several_inputs(tmp_path: Path) -> None:
    make = Maker(0)
    x = make.same("Add", [make.input(2, 2, 2), make.input(2, 2, 2)])
    with pytest.raises(ModelError, match="2 inputs"):
        generate(make.model(x), make.file(), plain_manifest(make.model(x)), tmp_path / "m")


@pytest.mark.parametrize(
    ("name", "before", "after", "message"),
    [
        ("uhd_model_id.hpp", r'kHash\[\] = "(.)', r'kHash[] = "!', "belongs to another model"),
        ("uhd_model_id.hpp", r"kInterface = \d+", "kInterface = 999", "another version of uhd_runtime"),
        ("weights.bin", None, None, "weights.bin belongs to another model"),
        ("model.espdl", None, None, "model.espdl belongs to another model"),
    ],
)
def test_mixed_up_files_do_not_compile(
    component: Path, name: str, before: str | None, after: str | None, message: str
) -> None:
    need_compiler()
    if before is None:
        (component / name).write_bytes((component / name).read_bytes() + b"x")
    else:
        text, count = re.subn(before, str(after), (component / name).read_text())
        assert count == 1
        (component / name).write_text(text)
    with pytest.raises(UhdError) as caught:
        compiling.compile_twin(component)
    assert message in compile_errors(component, str(caught.value))


def compile_errors(component: Path, text: str) -> str:
    """All that the compiler says; the one-line error quotes its first complaint only."""
    command = text.partition("the command was: ")[2].split()
    return subprocess.run(command, capture_output=True, text=True).stderr


def test_interface_numbers_agree() -> None:
    header = (COMPONENTS / "uhd_runtime" / "include" / "uhd" / "model.hpp").read_text()
    found = re.search(r"kModelInterface = (\d+);", header)
    assert found and int(found[1]) == module.INTERFACE


def test_manifest_json_is_the_manifest(component: Path) -> None:
    model, _ = made_detector()
    told = json.loads((component / "manifest.json").read_text())
    assert told == detector_manifest(model, name="Tiny", variant="R").model_dump(mode="json")


def test_clean_under_warnings(component: Path, tmp_path: Path) -> None:
    """Generated code and kernels give no warning, in the compilers that are here."""
    need_compiler()
    includes = [f"-I{component}", f"-I{COMPONENTS / 'uhd_runtime' / 'include'}"]
    flags = ["-std=c++17", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-O1", "-c"]
    for source in [*compiling.component_sources(component), *compiling.runtime_sources()]:
        command = [compiling.find_compiler(), *flags, *includes, str(source), "-o", str(tmp_path / "o.o")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:2000]
