"""``demo``: boxes on photos, videos and camera pictures, from any model file or from a device."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

EPILOG = """\b
Examples:
  python -m uhd.host demo --target qemu
  python -m uhd.host demo --photos holiday/ --target onnx --output boxes/
  python -m uhd.host demo --photos 'photos/**/*.jpg' --model best.safetensors --threshold 0.3 --json
  python -m uhd.host demo --photos street.mp4 --model model.espdl
  python -m uhd.host demo --camera 0 --onnx model.onnx --conf-thresh 0.4 --use-nms --actual-size

\b
Keys in the camera's window:
  q, ESC quit   s save a picture   space pause   n suppression on/off   + - threshold   h help

\b
Exit code: 0 all done; 2 something is wrong, or a picture could not be read (the others are done).
"""

_FILE = click.Path(path_type=Path)
_SCORE_MODES = ["obj_quality_cls", "quality_cls", "obj_cls", "obj_quality", "quality", "obj", "cls"]


@click.command(epilog=EPILOG)
@click.option("--photos", "--images", "what", metavar="WHAT",
              help="Folder, picture, video, or quoted pattern. Default: samples and a generated scene.")  # fmt: skip
@click.option("--camera", metavar="ID", help="Number of a camera; a video file is taken for one.")
@click.option("--model", "--onnx", "--tflite", "model", type=_FILE,
              help="Model file: .onnx of any flavour, .tflite, .espdl, .safetensors, .pt.")  # fmt: skip
@click.option("--target", type=click.Choice(["onnx", "oracle", "twin", "qemu"]),
              help="Without --model: what runs the variant. Default: qemu.")  # fmt: skip
@click.option("--variant", default="R", show_default=True, help="Without --model: letter of the variant.")
@click.option("--preset", default="speed", show_default=True, help="Without --model: precision preset.")
@click.option("--checkpoint", type=_FILE, help="Without --model: own weights instead of the shipped.")
@click.option("--manifest", type=_FILE, help="Manifest of a model file that has none.")
@click.option("--output", type=_FILE, help="Folder for the pictures. Default: demo_output; with --json none are drawn.")
@click.option("--threshold", "--conf-thresh", type=click.FloatRange(0, 1),
              help="Lowest score to draw. Default: the model's own.")  # fmt: skip
@click.option("--use-nms/--no-nms", default=True, show_default=True, help="Suppression of overlapping boxes.")
@click.option("--nms-iou", type=click.FloatRange(0, 1),
              help="IoU above which the weaker of two boxes is dropped. Default: the model's own.")  # fmt: skip
@click.option("--topk", type=click.IntRange(1), help="Boxes a picture at most. Default: the model's own.")
@click.option("--use-dynamic-threshold", is_flag=True,
              help="Where nothing is found, half the threshold counts, not less than 0.05.")  # fmt: skip
@click.option("--topk-before-conf", is_flag=True, help="Accepted: the best --topk are kept in any case.")
@click.option("--swap-logit-samples", type=int, help="Accepted: outputs are told apart by their names.")
@click.option(
    "--score-mode", type=click.Choice(_SCORE_MODES), help="Instead of the model's own, where it decodes raw maps."
)
@click.option("--quality-power", type=click.FloatRange(0), help="The same for the exponent of the quality.")
@click.option("--resize-mode", help="How pictures are resized, for model files that do not say it.")
@click.option("--img-size", metavar="HxW", help="Size of the network input; only checkpoints leave a choice.")
@click.option("--record", help="Film of the camera's pictures. Default: camera_record.mp4; '' records none.")
@click.option("--actual-size", is_flag=True, help="Show and record pictures as small as the network's input.")
@click.option("--json", "as_json", is_flag=True, help="Print boxes as JSON: one document, for videos a line a frame.")
def command(what: str | None, camera: str | None, **options: Any) -> None:
    """Draw the boxes a model finds on photos, on a video, or live on a camera's pictures."""
    from uhd.errors import ConfigError
    from uhd.host.demo_model import open_demo_detector
    from uhd.host.demo_photos import artist_for, run_photos, samples
    from uhd.infer.inputs import find_files, is_video_name, photos_of

    if what is not None and camera is not None:
        raise ConfigError("--photos and --camera are given", hint="give one of them")
    if camera is None and (options["record"] or options["actual_size"]):
        raise ConfigError("--record and --actual-size are for --camera", hint="leave them out, or give --camera")
    files = None if what is None else find_files(what)
    on_photos = camera is None and not (files and is_video_name(files[0]))
    photos = [] if not on_photos else samples() if files is None else photos_of(files)
    artist = artist_for(photos, options) if on_photos else None
    with contextlib.ExitStack() as stack:
        detector, name = open_demo_detector(stack, options)
        if on_photos:
            run_photos(detector, name, photos, artist, options["as_json"])
            return
        from uhd.host.demo_stream import run_camera, run_videos

        if camera is not None:
            run_camera(detector, camera, options)
        else:
            run_videos(detector, files or [], options)
