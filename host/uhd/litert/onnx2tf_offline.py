"""onnx2tf without its download, as a program: ``python onnx2tf_offline.py PICTURES.npy ARGUMENTS...``.

For a model with three input channels onnx2tf fetches photographs from the network, whatever its flags, to see what
the operators compute. It gets ``PICTURES.npy`` instead (float32 [N,H,W,C] in 0..1). Runs in the environment of
onnx2tf, so it imports nothing of ours.
"""

import sys

import numpy as np


def main(arguments: list[str]) -> None:
    """Run onnx2tf's own command line."""
    import onnx2tf.onnx2tf as program

    pictures = np.load(arguments[0], allow_pickle=False)
    program.download_test_image_data = lambda: pictures
    sys.argv = ["onnx2tf", *arguments[1:]]
    program.main()


if __name__ == "__main__":
    main(sys.argv[1:])
