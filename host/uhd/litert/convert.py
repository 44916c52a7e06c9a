"""Running onnx2tf in its environment: the command, what it says on the way, its log where it fails."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ModelError
from uhd.export.litert_manifest import SUFFIXES, Kind
from uhd.litert.environment import Environment
from uhd.litert.source import FloatModel
from uhd.paths import build_root

Note = Callable[[str], None]

#: Kinds whose ranges are taken from pictures.
CALIBRATED: frozenset[Kind] = frozenset(("int8", "int16"))

_PROGRAM = Path(__file__).with_name("onnx2tf_offline.py")
_DONE = re.compile(r"^(.+) tflite output complete!$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def command(
    environment: Environment, model: FloatModel, kinds: Collection[Kind], onnx: Path, pictures: Path, output: Path
) -> list[str]:
    """The command line. ``pictures``: a .npy file with network inputs float32 [N,H,W,C] in 0..1.

    The network sees its input as it is (mean 0, deviation 1, as in the published command), and filters are quantized
    with a scale for each channel: with one for all, depthwise convolutions lose most of their accuracy.
    """
    words = [str(environment.python), str(_PROGRAM), str(pictures), "-i", str(onnx), "-o", str(output)]
    words += ["--output_signaturedefs", "--quant_type", "per-channel"]
    if "dynamic" in kinds:
        words.append("--output_dynamic_range_quantized_tflite")
    if CALIBRATED & set(kinds):
        channels = model.record.input.shape[1]
        mean, deviation = (f"[[[{[value] * channels}]]]" for value in (0.0, 1.0))
        words.append("--output_integer_quantized_tflite")
        words += ["--quant_norm_mean", mean, "--quant_norm_std", deviation]
        words += ["--custom_input_op_name_np_data_path", model.record.input.name, str(pictures), mean, deviation]
    return words


def convert(
    environment: Environment,
    model: FloatModel,
    kinds: Sequence[Kind],
    pictures: NDArray[np.float32],
    folder: Path,
    note: Note = lambda text: None,
) -> dict[Kind, Path]:
    """Convert ``model`` within ``folder``; ``note`` hears of each file. ``pictures`` [N,C,H,W], to calibrate on.

    Raises ``ModelError``, with the place of the log, if onnx2tf fails or leaves out a file.
    """
    onnx, array, output, log = (folder / name for name in ("model.onnx", "pictures.npy", "made", "onnx2tf.log"))
    onnx.write_bytes(model.onnx)
    np.save(array, np.ascontiguousarray(pictures.transpose(0, 2, 3, 1)), allow_pickle=False)
    code, last = _listen(command(environment, model, kinds, onnx, array, output), environment, folder, log, note)
    made = {kind: output / f"model{SUFFIXES[kind]}.tflite" for kind in kinds}
    missing = [path.name for path in made.values() if not path.is_file()]
    if code == 0 and not missing:
        return made
    kept = build_root() / "logs" / f"litert-{model.stem}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, kept)
    reason = last[:200] if code else f"it made no {missing[0]}"
    raise ModelError(f"{model.stem}: onnx2tf could not convert it: {reason}", hint=f"its log is {kept}")


def _listen(words: list[str], environment: Environment, folder: Path, log: Path, note: Note) -> tuple[int, str]:
    """Exit code and last line of the program; all that it prints goes to ``log``."""
    last = ""
    with log.open("w", encoding="utf-8") as written:
        written.write(f"$ {' '.join(words)}\n")
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
            env=environment.variables(), text=True, errors="replace",
        )  # fmt: skip
        with process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    plain = _COLOUR.sub("", line).strip()
                    written.write(f"{plain}\n")
                    last = plain or last
                    done = _DONE.match(plain)
                    if done is not None:
                        note(f"made: {done[1]}")
            except BaseException:
                process.kill()
                raise
    return process.returncode, last
