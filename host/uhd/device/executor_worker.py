"""The process that times esp-ppq's executor: ``python -m uhd.device.executor_worker ONNX TARGET IMAGES``.

Quantizes the float model on two random pictures, since the speed does not depend on the numbers, and runs the
quantized graph picture by picture on one thread. Prints one JSON line with the seconds of each picture. A process of
its own, because esp-ppq prints, changes global state, and overwrites the model file that it is given.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path


def time_executor(onnx_file: Path, target: str, images: int) -> list[float]:
    """Seconds of each of ``images`` inferences of the int8 model, after two warm-up runs."""
    import onnx
    import torch
    from esp_ppq.api import espdl_quantize_onnx
    from esp_ppq.api.setting import QuantizationSettingFactory
    from esp_ppq.executor import TorchExecutor

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.onnx"
        model = onnx.load(onnx_file)
        made = {name for node in model.graph.node for name in node.output}
        for output in [output for output in model.graph.output if output.name not in made]:
            model.graph.output.remove(output)  # constants such as the anchors, which esp-ppq refuses
        onnx.save(model, copy)
        shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        setting = QuantizationSettingFactory.espdl_setting()
        setting.quantize_activation_setting.calib_algorithm = "minmax"
        pictures = [torch.rand(shape) for _ in range(2)]
        graph = espdl_quantize_onnx(
            onnx_import_file=str(copy), espdl_export_file=str(Path(folder) / "model.espdl"), calib_dataloader=pictures,
            calib_steps=2, input_shape=shape, inputs=pictures[:1], target=target, setting=setting, device="cpu",
            error_report=False, verbose=0, export_config=False,
        )  # fmt: skip
    executor = TorchExecutor(graph=graph, device="cpu")
    seconds = []
    with torch.no_grad():
        for index in range(images + 2):
            started = time.perf_counter()
            executor.forward(inputs=[pictures[index % 2]])
            seconds.append(time.perf_counter() - started)
    return seconds[2:]


def main(arguments: list[str]) -> int:
    """Run with ONNX, TARGET, IMAGES. esp-ppq's chatter goes to standard error."""
    onnx_file, target, images = arguments
    with contextlib.redirect_stdout(sys.stderr):
        seconds = time_executor(Path(onnx_file), target, int(images))
    print(json.dumps(seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
