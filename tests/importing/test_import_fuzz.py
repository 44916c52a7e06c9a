"""Damaged graphs and checkpoints: an import or one clear line, never anything else."""

from __future__ import annotations

import os
import random
from pathlib import Path

import onnx
import pytest
import torch

from support.imports import known_model, published
from uhd.errors import UhdError
from uhd.importing.importer import import_file

COUNT = int(os.environ.get("UHD_FUZZ_COUNT", "10"))
OPERATORS = ["Relu", "Sigmoid", "Add", "Mul", "Conv", "Concat", "Identity", "MaxPool", "Resize", "Tanh"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """One network with every kind of block as a .pt and as an ONNX file."""
    folder = tmp_path_factory.mktemp("fuzz")
    model = known_model(
        residual=True, improved_head=True, iou_aware_head=True, head_ese=True, large_obj_branch=True,
        context_rfb=True, quant_arch=1,
    )  # fmt: skip
    torch.save({"model": model.state_dict(), "activation": "silu", "cnn_width": 4}, folder / "a.pt")
    return (folder / "a.pt").read_bytes(), published(folder / "a.onnx", model).read_bytes()


def bytes_changed(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(data))] if rng.random() < 0.1 else changed)


def graph_changed(data: bytes, rng: random.Random) -> bytes:
    model = onnx.load_from_string(data)
    nodes = model.graph.node
    for _ in range(rng.randint(1, 2)):
        node, kind = rng.choice(nodes), rng.randrange(6)
        if kind == 0:
            node.op_type = rng.choice(OPERATORS)
        elif kind == 1 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice(nodes).output[0]
        elif kind == 2:
            nodes.remove(node)
        elif kind == 3:
            del node.attribute[:]
        elif kind == 4:
            tensor = rng.choice(model.graph.initializer)
            values = onnx.numpy_helper.to_array(tensor).reshape(-1)[: rng.randint(0, 9)]
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        else:
            del node.input[-1:]
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("kind", ["pt", "onnx", "graph"])
def test_damage(pair: tuple[bytes, bytes], tmp_path: Path, kind: str) -> None:
    rng = random.Random(kind)
    outcomes = set()
    for index in range(COUNT):
        change = graph_changed if kind == "graph" else bytes_changed
        path = tmp_path / f"{index}.{'pt' if kind == 'pt' else 'onnx'}"
        path.write_bytes(change(pair[kind != "pt"], rng))
        output = tmp_path / f"{index}_out.safetensors"
        try:
            import_file(path, output)
            outcomes.add("imported")
        except UhdError as error:
            assert path.name in str(error) and "\n" not in str(error)
            assert not output.exists() and not output.with_suffix(".onnx").exists()
            outcomes.add("refused")
    assert "refused" in outcomes
