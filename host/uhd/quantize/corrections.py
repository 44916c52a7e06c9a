"""esp-ppq's two passes that change weights after calibration. Imported by the quantizing process only.

They run as they are, but for what surrounds them: a fixed set of pictures in batches, and an executor that computes a
tensor again only where a weight before it has changed. The grid stays as calibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from esp_ppq.executor import TorchExecutor
from esp_ppq.quantization.optim import BiasCorrectionPass, TrainedQuantizationThresholdPass

from uhd.quantize.batches import BATCH, set_batch
from uhd.quantize.calibration import spread
from uhd.quantize.job import Job

#: Pictures that the passes see, evenly spread.
PICTURES = 64
#: Operators that TQT trains together (esp-ppq's own value). A bias is corrected operator by operator, which is what
#: esp-ppq recommends: with blocks of 4 an operator is corrected for errors that its predecessors no longer make.
TRAINED_TOGETHER, CORRECTED_TOGETHER = 4, 1

#: Tensors and the versions of their content.
_State = list[tuple[torch.Tensor, int]]


def correct(graph: Any, job: Job, pictures: Any, progress: Callable[[str, int, int], None]) -> None:
    """Train weights and correct biases as the job asks; ``pictures``: float32 array [N, C, H, W]."""
    if not job.bias_correction and not job.tqt_steps:
        return
    batches = _batches(pictures)
    executor = _Remembering(graph, batches)
    set_batch(graph, len(batches[0]))
    if job.tqt_steps:
        progress("train weights", 0, 1)
        train = TrainedQuantizationThresholdPass(
            steps=job.tqt_steps, lr=job.tqt_rate, block_size=TRAINED_TOGETHER, is_scale_trainable=False,
            collecting_device="cpu",
        )  # fmt: skip
        train.optimize(graph=graph, dataloader=batches, executor=executor, collate_fn=None)
    if job.bias_correction:
        progress("correct biases", 0, 1)
        bias = BiasCorrectionPass(block_size=CORRECTED_TOGETHER, collecting_device="cpu")
        bias.optimize(graph=graph, dataloader=batches, executor=executor, collate_fn=None)
    set_batch(graph, 1)


def _batches(pictures: Any) -> list[torch.Tensor]:
    """Batches of equal size, for which the graph is made ready once."""
    chosen = torch.from_numpy(pictures[spread(len(pictures), PICTURES)])
    size = min(BATCH, len(chosen))
    return [chosen[first : first + size] for first in range(0, len(chosen) - size + 1, size)]


class _Remembering(TorchExecutor):  # type: ignore[misc]
    """An executor whose ``forward`` of a known batch reuses every output of which nothing has changed since.

    Both passes run the whole network for every block, in float and in integers, and change the weights of that block
    alone. What an output depends on is the version of its operator's constants and of the outputs it is made from.
    """

    def __init__(self, graph: Any, batches: Sequence[torch.Tensor]) -> None:
        super().__init__(graph=graph, device="cpu")
        self._batches = batches
        self._memory: dict[tuple[int, bool, str], tuple[_State, list[torch.Tensor]]] = {}

    def forward(self, inputs: Any, output_names: Any = None, hooks: Any = None) -> Any:
        place = next((i for i, batch in enumerate(self._batches) if batch is inputs), None)
        if place is None or hooks or output_names is None:
            return super().forward(inputs, output_names, hooks)
        values: dict[str, torch.Tensor] = dict.fromkeys(self._graph.inputs, inputs)
        wanted = [name for name in output_names if name not in values]
        for operation in self._needed(wanted):
            values.update(zip((v.name for v in operation.outputs), self._output(operation, place, values), strict=True))
        return [values[name] for name in output_names]

    def _needed(self, names: Sequence[str]) -> list[Any]:
        found, open_ = set(), [self._graph.variables[name].source_op for name in names]
        while open_:
            operation = open_.pop()
            if operation is not None and operation not in found:
                found.add(operation)
                open_ += [variable.source_op for variable in operation.inputs]
        return [operation for operation in self._executing_order if operation in found]

    def _output(self, operation: Any, place: int, values: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        integers = not getattr(operation, "_dequantized", False)
        read = {v.name: values[v.name] for v in operation.inputs if not v.is_parameter and v.name in values}
        constants = [v.value for v in operation.inputs if v.is_parameter and isinstance(v.value, torch.Tensor)]
        state = [(tensor, tensor._version) for tensor in (*constants, *read.values())]
        known = self._memory.get((place, integers, operation.name))
        if known is None or not _same(known[0], state):
            made = self.partial_graph_forward([operation], dict(read), [v.name for v in operation.outputs])
            known = self._memory[place, integers, operation.name] = state, made
        return known[1]


def _same(first: _State, second: _State) -> bool:
    return len(first) == len(second) and all(a is b and v == w for (a, v), (b, w) in zip(first, second, strict=True))
