"""What kind of model a file holds, by its content, and the engine that runs it."""

from __future__ import annotations

from pathlib import Path

from uhd.errors import ModelError
from uhd.infer.engines import Engine
from uhd.infer.options import ModelOptions

#: Files that are given by mistake: where a text starts that shows it, and what they are.
_NO_MODELS = (
    (0, b"UHDM", "a package of a firmware build; give the .espdl it was made from"),
    (0, b"PDL", "a pack of several models; give the .espdl of one"),
    (0, b"\xff\xd8\xff", "a picture, not a model; pictures are given as --photos"),
    (0, b"\x89PNG", "a picture, not a model; pictures are given as --photos"),
    (4, b"ftyp", "a video, not a model; videos are given as --photos or --camera"),
    (0, b"\x7fELF", "a program, not a model; give the .espdl in it"),
    (0, b"{", "a JSON file; give the .safetensors, .onnx or .espdl that it describes"),
)


def open_model(path: Path, options: ModelOptions | None = None) -> Engine:
    """The engine of a model file: ONNX of any flavour, .tflite, .espdl, .safetensors, or a published .pt.

    Raises ``ModelError`` for a file that is none of these, is damaged or of another project; ``ConfigError`` for
    options that do not fit it; ``ToolMissingError`` where a library is missing that runs it.
    """
    options = options or ModelOptions()
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        reason = "a folder" if path.is_dir() else error.strerror
        raise ModelError(f"{path}: cannot read the model ({reason})", hint="check the path") from None
    if not head:
        raise ModelError(f"{path}: the model file is empty", hint="copy it again")
    if head[8:9] == b"{" or head.startswith((b"PK\x03\x04", b"\x80\x02")):
        from uhd.infer.torch_model import open_checkpoint

        return open_checkpoint(path, options)
    for place, text, what in _NO_MODELS:
        if head[place:].startswith(text):
            raise ModelError(f"{path}: {what}")
    if head.startswith(b"EDL") or path.suffix.lower() == ".espdl":
        from uhd.infer.espdl_model import open_espdl

        return open_espdl(path, options)
    if head[4:8] == b"TFL3" or path.suffix.lower() == ".tflite":
        from uhd.infer.tflite_model import open_tflite

        return open_tflite(path, options)
    if path.suffix.lower() in (".safetensors", ".pt", ".pth"):
        from uhd.infer.torch_model import open_checkpoint

        return open_checkpoint(path, options)
    from uhd.infer.onnx_model import open_onnx

    return open_onnx(path, options)
