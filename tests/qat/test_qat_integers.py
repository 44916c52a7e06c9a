"""A model trained on a chip's grid evaluates to the integers of the .espdl that it becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from support.qat_nets import deploy, differing_integers, prepared, quantizer_here, scenes, train
from uhd.quantize.settings import Settings
from uhd.train.qat.layers import folded_bias, folded_weight
from uhd.train.qat.model import QatModel
from uhd.train.qat.settings import QatSettings

__all__ = ["quantizer_here"]
pytestmark = pytest.mark.usefixtures("quantizer_here")

#: int16 in a residual block, in the large-object branch, in an output; an Add whose operands are int8.
MIXED = ("block2/pw/conv", "large_obj_down.3", "box_out", "^/backbone/Add$")

CASES = [
    pytest.param("current_yuv422", {}, "c", (), 8, id="R on c in int8"),
    pytest.param("current_yuv422", {}, "esp32s3", MIXED, 8, id="R on esp32s3 mixed"),
    pytest.param("current_yuv422", {}, "esp32p4", MIXED, 8, id="R on esp32p4 mixed"),
    pytest.param("legacy_ese_swish", {}, "esp32s3", ("box_conv/pw",), 8, id="swish mixed"),
    pytest.param("readme_train_lo", {"context_rfb": True}, "c", (), 16, id="recipe in int16"),
    pytest.param("current_y", {"conv": "std", "out_stride": 16}, "esp32p4", (), 8, id="dense on esp32p4 in int8"),
]


@pytest.mark.parametrize(("family", "options", "target", "patterns", "bits"), CASES)
def test_all_integers_of_the_file_equal_evaluation(
    family: str, options: dict[str, object], target: str, patterns: tuple[str, ...], bits: int, tmp_path: Path
) -> None:
    """No tolerance: not one integer of any activation, on pictures that were not trained on."""
    model = prepared(QatSettings(target, patterns, bits=bits), family, **options)
    losses = train(model)
    assert all(np.isfinite(losses)) and losses[-1] < losses[0]
    made = deploy(model, tmp_path, Settings(target, patterns, bits=bits))
    pictures = scenes(6, model.config.in_channels, first=100)
    differ, total = differing_integers(model, made.espdl, pictures)
    assert total > 10_000 and differ == 0
    with torch.no_grad():
        maps = model.maps(torch.from_numpy(pictures), made.espdl.outputs)
    assert all(len(np.unique(part.numpy())) > 3 for part in maps.values()), "a constant map would prove nothing"
    assert made.report.mismatches == 0 and made.report.vectors > 0  # and esp-ppq's own simulation agrees
    if patterns:
        assert any("box" in name for name in made.report.manifest.quantization.int16_operators)  # type: ignore[union-attr]
    if target == "c":
        _check_folding(model, made.folder / "best.onnx")


def _check_folding(model: QatModel, path: Path) -> None:
    """Filters and biases of the export are those of the model to the bit."""
    graph = onnx.load(path).graph
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    steps = {step.node.name: step for step in model.plan.steps if step.layer is not None}
    convs = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convs) > 20
    for node in convs:
        conv, norm = model.modules_of(steps[node.name])
        assert np.array_equal(constants[node.input[1]], folded_weight(conv, norm).detach().numpy())
        bias = folded_bias(conv, norm)
        assert bias is None or np.array_equal(constants[node.input[2]], bias.detach().numpy())
