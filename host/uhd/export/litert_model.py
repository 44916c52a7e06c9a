"""A .tflite file as a function from a picture to maps by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uhd.errors import ModelError, ToolMissingError
from uhd.export.litert_interpreter import LiteRTInterpreter
from uhd.export.litert_manifest import LiteRTManifest, LiteRTTensor, load_litert_manifest
from uhd.files import sha256_file

FloatArray = NDArray[np.float32]


class LiteRTModel:
    """A .tflite file with its sidecar (``manifest``), on one thread unless told otherwise.

    ``input_shape`` is [1,H,W,C]; ``output_names`` are the maps, in the order of the file. Raises
    ``ToolMissingError`` without ai-edge-litert; ``ModelError`` for a file that is missing or damaged, or that is not
    the one its sidecar describes.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        if not path.is_file():
            raise ModelError(f"{path}: no such file", hint="make it with `python -m uhd.host litert`")
        self.manifest: LiteRTManifest = load_litert_manifest(path)
        about = self.manifest.litert
        if sha256_file(path) != about.sha256:
            raise ModelError(f"{path}: not the file of its sidecar", hint="convert the model again")
        try:
            self._interpreter = LiteRTInterpreter(str(path), threads)
        except ImportError:
            raise ToolMissingError(
                "ai-edge-litert is not installed, which runs .tflite files",
                hint="pip install 'uhd-workspace[litert]', or pip install ai-edge-litert",
            ) from None
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ModelError(f"{path}: LiteRT does not take it ({reason})", hint="convert the model again") from None
        self.input_shape: tuple[int, ...] = tuple(about.input.shape)
        self.output_names: tuple[str, ...] = tuple(output.name for output in about.outputs)
        self._order = output_order(about.outputs, [output["tensor"] for output in self._interpreter.outputs], path)

    def run(self, image: FloatArray) -> dict[str, FloatArray]:
        """The maps for one picture float32 [1,H,W,C] in 0..1: float32 [1,C,H,W], or [1,N,C] of heads without a grid.

        Raises ``ModelError`` for another shape.
        """
        if image.shape != self.input_shape:
            raise ModelError(f"{self.path}: its input is {list(self.input_shape)}, not {list(image.shape)}")
        outputs = self._interpreter.run(np.asarray(image, np.float32))
        return {name: channels_first(outputs[i]) for name, i in zip(self.output_names, self._order, strict=True)}


def output_order(wanted: Sequence[LiteRTTensor], found: Sequence[str], path: Path) -> list[int]:
    """Where each of the ``wanted`` tensors is among those of the file. Raises ``ModelError`` if one is not."""
    for output in wanted:
        if output.tensor not in found:
            raise ModelError(f"{path}: has no output {output.tensor}, which its sidecar names")
    return [list(found).index(output.tensor) for output in wanted]


def channels_first(values: FloatArray) -> FloatArray:
    """A map [B,H,W,C] as [B,C,H,W]; anything else as it is."""
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if values.ndim == 4 else values
