"""Generated components, compiled: equal to the oracle to the bit, clean under the sanitizers, equal in the emulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.components import joined, made_component, made_detector, need_compiler, run_sanitized
from support.made_models import Maker, random_inputs
from support.shared import shared_dir
from uhd.device.cross import emulator_missing
from uhd.device.engines import run_engine
from uhd.device.twin import Twin
from uhd.errors import ConfigError, DataError, DeviceError
from uhd.espdl import oracle
from uhd.espdl.model import EspdlModel
from uhd.espdl.reader import read_espdl

FIXTURES = ["w16_yuv_c", "w16_yuv_esp32s3", "w16_yuv_esp32s3_mixhp"]
KINDS = ("random", "ends", "low", "high", "zero")
pytestmark = pytest.mark.usefixtures("compiler")


@pytest.fixture
def compiler() -> None:
    need_compiler()


def assert_equals_oracle(model: EspdlModel, component: Path, seed: int = 0) -> Twin:
    twin = Twin(component)
    for kind in KINDS:
        inputs = random_inputs(model, np.random.default_rng(seed), kind)
        wanted = oracle.run(model, inputs)
        for made in (twin.run(inputs), twin.run_in_arena(inputs)):
            assert list(made) == list(model.outputs)
            for name in model.outputs:
                np.testing.assert_array_equal(
                    made[name].reshape(-1), wanted[name].reshape(-1), err_msg=f"{name} {kind}"
                )
    return twin


@pytest.mark.parametrize("name", FIXTURES)
def test_golden_files(name: str, tmp_path: Path) -> None:
    """No mismatch with the vectors that esp-ppq computed, nor with the oracle on other inputs."""
    path = shared_dir("fixtures", "espdl", f"{name}.espdl")
    model, golden = read_espdl(path), np.load(shared_dir("fixtures", "espdl", f"{name}.npz"))
    twin = assert_equals_oracle(model, made_component(tmp_path / "m", model, path.read_bytes()))
    made = twin.run({model.inputs[0]: golden[f"in_{model.inputs[0]}"]})
    for output in model.outputs:
        np.testing.assert_array_equal(made[output], golden[f"out_{output}"])
    assert twin.espdl() == path.read_bytes()
    assert twin.info.arena_size <= 28 * 1024


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("c", {}), ("esp32p4", {}), ("esp32s3", {"mixed": True}), ("esp32p4", {"mixed": True}),
        ("c", {"bits": 16}), ("esp32s3", {"with_ese": False, "channels": 7, "size": 11}),
    ],
)  # fmt: skip
def test_tiny_quantized_networks(target: str, options: dict[str, int], tmp_path: Path) -> None:
    tiny = pytest.importorskip("support.tiny_espdl")
    path = tiny.make_espdl(target, **options)
    model = read_espdl(path)
    twin = assert_equals_oracle(model, made_component(tmp_path / "m", model, path.read_bytes()))
    made = twin.run(model.test_inputs)
    for name in model.outputs:
        np.testing.assert_array_equal(made[name], model.test_outputs[name])


@pytest.mark.parametrize("target", ["c", "esp32p4"])
@pytest.mark.parametrize("bits", [8, 16])
def test_sanitized(target: str, bits: int, tmp_path: Path) -> None:
    """Address and undefined-behaviour sanitizers find nothing, with every buffer of exactly its size."""
    model, content = made_detector(bits, target, bits)
    component = made_component(tmp_path / "m", model, content)
    rng = np.random.default_rng(1)
    inputs = [random_inputs(model, rng, kind) for kind in KINDS]
    made = run_sanitized(component, [i["input"] for i in inputs], tmp_path)
    assert made == [joined(oracle.run(model, i)) for i in inputs]


def test_sanitized_golden_file(tmp_path: Path) -> None:
    path = shared_dir("fixtures", "espdl", "w16_yuv_esp32s3_mixhp.espdl")
    model = read_espdl(path)
    component = made_component(tmp_path / "m", model, path.read_bytes())
    inputs = [random_inputs(model, np.random.default_rng(2), kind) for kind in ("random", "ends")]
    made = run_sanitized(component, [i[model.inputs[0]] for i in inputs], tmp_path)
    assert made == [joined(oracle.run(model, i)) for i in inputs]


@pytest.mark.emu
@pytest.mark.parametrize(("target", "bits"), [("c", 8), ("esp32p4", 16)])
def test_emulator(target: str, bits: int) -> None:
    if missing := emulator_missing():
        pytest.skip(missing)
    model, content = made_detector(3, target, bits)
    inputs = random_inputs(model, np.random.default_rng(3), "random")
    made = run_engine(model, content, inputs, "qemu")
    wanted = run_engine(model, content, inputs, "oracle")
    assert list(made) == list(wanted)
    for name in wanted:
        np.testing.assert_array_equal(made[name], wanted[name])


@pytest.mark.emu
@pytest.mark.parametrize("name", FIXTURES)
def test_emulator_on_golden_files(name: str) -> None:
    if missing := emulator_missing():
        pytest.skip(missing)
    path = shared_dir("fixtures", "espdl", f"{name}.espdl")
    model, golden = read_espdl(path), np.load(shared_dir("fixtures", "espdl", f"{name}.npz"))
    made = run_engine(model, path.read_bytes(), {model.inputs[0]: golden[f"in_{model.inputs[0]}"]}, "qemu")
    for output in model.outputs:
        np.testing.assert_array_equal(made[output], golden[f"out_{output}"])


def test_outputs_that_are_read_again_and_views(tmp_path: Path) -> None:
    """An output in the middle of the graph keeps its values; Reshape, Flatten and Transpose need no copy or one."""
    make = Maker(5)
    x = make.conv(make.input(4, 4, 3), 6)
    y = make.conv(x, 6)
    flat = make.node("Reshape", [y], (1, 16, 1, 6), make.tensors[y].exponent)
    turned = make.node("Transpose", [flat], (1, 6, 1, 16), make.tensors[y].exponent, {"perm": [0, 3, 2, 1]})
    last = make.node("Flatten", [make.same("Relu", [turned])], (1, 96), make.tensors[y].exponent)
    model = make.model(x, last, y)
    assert_equals_oracle(model, made_component(tmp_path / "m", model, make.file()))


def test_names_that_are_no_identifiers(tmp_path: Path) -> None:
    make = Maker(6)
    odd = ["int", "/a/b:c.d", "1st", 'größe "x" \\', "__", "*/ #error", "input", "trailing\\"]
    x = make.input(3, 3, 2)
    for name in odd:
        x = make.rename(make.conv(x, 2, relu=False), f"{name}#{len(make.nodes)}" if name == "input" else name)
    model = make.model(*odd[:2], x)
    assert_equals_oracle(model, made_component(tmp_path / "m", model, make.file()))


def test_twin_refuses_wrong_inputs(tmp_path: Path) -> None:
    model, content = made_detector()
    twin = Twin(made_component(tmp_path / "m", model, content))
    good = random_inputs(model, np.random.default_rng(0))["input"]
    large = np.full(good.shape, 200)
    for bad in ({}, {"other": good}, {"input": good[:, :8]}, {"input": good.astype(float)}, {"input": large}):
        with pytest.raises(DataError, match=r"the model wants input \[1, 16, 16, 2\] int8"):
            twin.run(bad)
    with pytest.raises(DeviceError, match="no anchor head"):
        twin.detect(np.zeros((16, 16, 2), np.uint8), 0.1, 0.5, 10)


def test_twin_notices_another_espdl(tmp_path: Path) -> None:
    model, content = made_detector()
    component = made_component(tmp_path / "m", model, content)
    (component / "model.espdl").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DeviceError, match="not the one it names"):
        Twin(component)


def test_unknown_engine() -> None:
    model, content = made_detector()
    with pytest.raises(ConfigError, match="oracle, twin, qemu"):
        run_engine(model, content, {}, "gpu")
