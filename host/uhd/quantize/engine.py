"""The calls into esp-ppq. Imported by the quantizing process only: it loads torch and prints a lot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from esp_ppq import lib
from esp_ppq.api import get_target_platform
from esp_ppq.api.espdl_interface import generate_test_value
from esp_ppq.api.interface import dispatch_graph, load_onnx_graph
from esp_ppq.api.setting import QuantizationSettingFactory
from esp_ppq.core import TargetPlatform, TensorQuantizationConfig
from esp_ppq.executor import TorchExecutor
from esp_ppq.executor.base import OPERATION_FORWARD_TABLE
from numpy.typing import NDArray
from onnxsim import simplify

from uhd.errors import ModelError
from uhd.quantize.batches import ADDITIVE, BATCH, Batches, set_batch, takes_batches
from uhd.quantize.corrections import correct
from uhd.quantize.haste import hasten
from uhd.quantize.job import Job, JobFolder
from uhd.quantize.override import apply_exponents, separate_scales
from uhd.quantize.passes import amend_exporter, amend_pipeline
from uhd.quantize.patterns import Operator, Selection, select
from uhd.quantize.rewrite import channel_constants_to_depthwise, state_defaults, unshare_constants

#: Called with a step's name, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


#: Largest difference of esp-ppq's float maps from ONNX Runtime's, relative to the map's largest value or 1.
READING_TOLERANCE = 1e-3


def quantize(folder: JobFolder, progress: Progress) -> tuple[Selection, tuple[str, ...]]:
    """Do the job in ``folder`` and leave the .espdl there.

    Returns what became int16, and the rewrites of the float graph. Raises ``ConfigError`` where a pattern matches
    nothing, ``ModelError`` where esp-ppq lacks an operator or understands the float model otherwise than ONNX Runtime
    does, anything where esp-ppq fails.
    """
    hasten()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    TensorQuantizationConfig._hash_seed = 0  # esp-ppq seeds the order of its scales with the clock
    job, pictures, expected = folder.read()
    progress("simplify", 0, 1)
    path, rewrites = _prepare(folder)
    graph = load_onnx_graph(str(path))
    _check_reading(graph, torch.from_numpy(pictures[:1].copy()), expected)
    selection = select(operators_of(graph), job.patterns, job.preset, job.bits)
    if job.exponents is not None:  # calibration is a formality then
        job = replace(job, algorithm="minmax", int16_algorithm="minmax")
    seen = pictures[:1] if job.exponents is not None else pictures
    graph = _calibrate(graph, job, selection, seen, progress)
    if job.exponents is not None:
        apply_exponents(graph, job.exponents)
    if job.separate:
        separate_scales(graph)
    else:
        correct(graph, job, pictures, progress)
    progress("export", 0, 1)
    _export(graph, job, torch.from_numpy(pictures[:1].copy()), folder.espdl)
    progress("export", 1, 1)
    return selection, rewrites


def _prepare(folder: JobFolder) -> tuple[Path, tuple[str, ...]]:
    """The copy of the model that esp-ppq loads, and what was rewritten in it."""
    model = onnx.load(folder.onnx)
    simplified, equivalent = simplify(model)
    model = simplified if equivalent else model
    state_defaults(model)
    made = channel_constants_to_depthwise(model)
    unshare_constants(model)
    path = folder.root / "simplified.onnx"
    onnx.save(model, path)
    return path, tuple(f"{name}: written as a depthwise 1x1 convolution" for name in made)


def _check_reading(graph: Any, picture: torch.Tensor, expected: dict[str, NDArray[np.float32]]) -> None:
    """The float graph as esp-ppq runs it must give the maps that ONNX Runtime gave."""
    for operation in graph.operations.values():
        if operation.type not in OPERATION_FORWARD_TABLE[TargetPlatform.FP32]:
            raise ModelError(
                f"esp-ppq has no operator {operation.type}, which {operation.name} is",
                hint="leave it out of the exported model; rounded activations (a_bits) are for training only",
            )
    made = TorchExecutor(graph=graph, device="cpu").forward(inputs=[picture], output_names=list(expected))
    for (name, wanted), values in zip(expected.items(), made, strict=True):
        error = np.abs(values.detach().numpy() - wanted).max() if values.shape == wanted.shape else np.inf
        if not error <= READING_TOLERANCE * max(1.0, float(np.abs(wanted).max())):
            raise ModelError(f"esp-ppq reads the model differently: its {name} map is off by {error:.3g} in float")


def operators_of(graph: Any) -> list[Operator]:
    """esp-ppq's graph as plain data, in execution order."""
    return [
        Operator(op.name, op.type, tuple(consumer.name for consumer in graph.get_downstream_operations(op)))
        for op in graph.topological_sort()
    ]


def _platforms(job: Job) -> tuple[Any, Any]:
    """esp-ppq's names for int8 and for int16 with float64 arithmetic on a target."""
    return get_target_platform(job.target, "w8a8"), get_target_platform(job.target, "w16a16", debug=True)


def _setting(job: Job, selection: Selection) -> Any:
    int8, int16 = _platforms(job)
    setting = QuantizationSettingFactory.espdl_setting(num_of_bits=job.bits)
    setting.lut_optimization = False  # tables are for int8 activations; int16 ones stay what the graph says
    general, special = (job.algorithm, job.int16_algorithm) if job.bits == 8 else (job.int16_algorithm, job.algorithm)
    activations = setting.quantize_activation_setting
    activations.calib_algorithm = general
    activations.calib_algorithm_per_layer = {
        name: special for name in (selection.int16 if job.bits == 8 else selection.int8)
    }
    if job.equalize:
        setting.equalization = True
        setting.equalization_setting.iterations = 4
        setting.equalization_setting.value_threshold = 0.4
        setting.equalization_setting.opt_level = 2
        setting.equalization_setting.interested_layers = None
    for names, platform in ((selection.int16, int16), (selection.int8, int8)):
        for name in names:
            setting.dispatching_table.append(name, platform)
    return setting


def _calibrate(graph: Any, job: Job, selection: Selection, pictures: NDArray[np.float32], progress: Progress) -> Any:
    setting = _setting(job, selection)
    platform = _platforms(job)[0 if job.bits == 8 else 1]
    graph = dispatch_graph(
        graph=graph, platform=platform, dispatcher=setting.dispatcher, dispatching_table=setting.dispatching_table
    )
    quantizer = lib.Quantizer(platform, graph)
    quantizer.build_quant_pipeline = amend_pipeline(quantizer.build_quant_pipeline)
    used = {job.algorithm, job.int16_algorithm} if selection.int16 else {job.algorithm}
    size = min(BATCH, len(pictures) // 2) if used <= ADDITIVE and takes_batches(graph, pictures) else 1
    # Histogram algorithms look at every picture twice: first for the range, then for the histogram.
    total = len(pictures) * (2 if used & {"kl", "mse"} else 1)
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        progress("calibrate", min(done, total), total)

    progress("calibrate", 0, total)
    batches = Batches(quantizer._graph, pictures, size, report)
    quantizer.quantize(
        inputs=[torch.from_numpy(pictures[:1].copy())],
        calib_dataloader=batches,
        executor=TorchExecutor(graph=quantizer._graph, device="cpu"),
        setting=setting,
        calib_steps=max(2, len(batches)),  # esp-ppq refuses a single step
        collate_fn=lambda batch: batch,
    )
    set_batch(quantizer._graph, 1)
    return quantizer._graph


def _export(graph: Any, job: Job, picture: torch.Tensor, path: Path) -> None:
    amend_exporter()
    vectors = generate_test_value(graph, "cpu", [picture]) if job.test_vectors else None
    lib.Exporter(platform=_platforms(job)[0 if job.bits == 8 else 1]).export(
        file_path=str(path),
        graph=graph,
        values_for_test=vectors,
        export_config=False,
        int16_lut_step=-1,
        metadata_props=dict(sorted(job.metadata.items())),
    )
