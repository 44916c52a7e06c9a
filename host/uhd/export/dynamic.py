"""Files that take pictures of any size: a Resize in front of the graph."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from uhd.image.resize import INTEGER_MODES, input_channels, resize_image
from uhd.manifest import ResizeMode

NODE = "InputResize"


def insert_resize(model: onnx.ModelProto, mode: ResizeMode) -> None:
    """Give the input symbolic height ``H`` and width ``W``, and resize to the size that it had.

    The integer modes pick by nearest neighbour, the linear ones interpolate between pixel centres as OpenCV and torch
    do. Colour is not converted: for luma and packed YUV the caller hands over planes of the picture's own size.
    """
    graph = model.graph
    value = graph.input[0]
    name, dims = value.name, value.type.tensor_type.shape.dim
    sizes = numpy_helper.from_array(np.array([dim.dim_value for dim in dims], np.int64), f"{name}_sizes")
    nearest = mode in INTEGER_MODES
    node = helper.make_node(
        "Resize",
        [name, "", "", sizes.name],
        [f"{name}_resized"],
        NODE,
        mode="nearest" if nearest else "linear",
        coordinate_transformation_mode="asymmetric" if nearest else "half_pixel",
        cubic_coeff_a=-0.75,
        nearest_mode="floor",
    )
    for reader in graph.node:
        for index, source in enumerate(reader.input):
            if source == name:
                reader.input[index] = node.output[0]
    graph.node.insert(0, node)
    graph.initializer.append(sizes)
    dims[2].dim_param, dims[3].dim_param = "H", "W"


def resized(images: NDArray[np.float32], mode: ResizeMode, size: tuple[int, int]) -> NDArray[np.float32]:
    """What the inserted node is to give for ``images`` [B,C,H,W]: [B,C,*size].

    For integer modes ``size`` must divide H and W: elsewhere runtimes round the place of a pixel in ways of their own.
    """
    if mode in INTEGER_MODES:
        down, across = images.shape[2] // size[0], images.shape[3] // size[1]
        return np.ascontiguousarray(images[:, :, ::down, ::across])
    assert input_channels(mode) == 3, "a linear mode makes RGB"
    pictures = images.transpose(0, 2, 3, 1)
    return np.stack([resize_image(np.ascontiguousarray(p), size, mode) for p in pictures]).transpose(0, 3, 1, 2)
