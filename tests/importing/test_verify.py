"""The comparison notices what differs: a weight, an anchor, a score."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
import torch

from support.imports import known_model, published
from uhd.errors import ModelError
from uhd.importing.from_onnx import ALL_MAPS, model_from_onnx
from uhd.importing.verify import compare, decodes
from uhd.models.ultratinyod import UltraTinyOD
from uhd.quantize.source import Source, read_source


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    folder = tmp_path_factory.mktemp("verify")
    model = known_model(improved_head=True, num_classes=2)
    return {
        flavour: read_source(published(folder / f"{flavour}.onnx", model, flavour), ALL_MAPS)
        for flavour in ("parts", "post")
    }


def shift_bias(model: UltraTinyOD) -> None:
    next(model.head.cls_out.parameters())[0] += 0.01


def shift_anchor(model: UltraTinyOD) -> None:
    model.anchors[0, 1] *= 1.01


def another_score(model: UltraTinyOD) -> None:
    model.head.config = model.config.model_copy(update={"score_mode": "obj_cls"})


def nothing(_model: UltraTinyOD) -> None:
    pass


@pytest.mark.parametrize(
    ("flavour", "change", "differs"),
    [
        ("parts", nothing, ""),
        ("post", nothing, ""),
        ("parts", shift_bias, "maps"),
        ("post", shift_bias, "maps"),
        ("parts", shift_anchor, ""),  # no boxes in the file to compare with
        ("post", shift_anchor, "boxes"),
        ("post", another_score, "boxes"),
    ],
)
def test_what_is_noticed(
    sources: dict[str, Source], flavour: str, change: Callable[[UltraTinyOD], None], differs: str
) -> None:
    source = sources[flavour]
    model = model_from_onnx(source).model
    with torch.no_grad():
        change(model)
    if differs:
        with pytest.raises(ModelError, match=f"{flavour}.onnx: the imported model's {differs} differ .*--as onnx"):
            compare(model, source)
        return
    found = compare(model, source)
    assert found.worst <= 1e-5
    assert (found.boxes is not None) == (flavour == "post")


def test_which_files_decode(sources: dict[str, Source]) -> None:
    assert [decodes(onnx.load(sources[flavour].path)) for flavour in ("parts", "post")] == [False, True]
