"""The flags that published export commands are written with, and what they mean here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path)

_OPTIONS = (
    click.option("--checkpoint", "as_checkpoint", type=_FILE, help="CHECKPOINT, as published commands spell it."),
    click.option("--weights", "as_weights", type=_FILE, help="The same."),
    click.option("--no-merge-postprocess", is_flag=True, help="Flavour raw."),
    click.option(
        "--noconcat_box_obj_quality_cls",
        "--noconcat-box-obj-quality-cls",
        "noconcat",
        is_flag=True,
        help="With --no-merge-postprocess: flavour parts.",
    ),
    click.option("--merge-primitive-postprocess", "primitive", is_flag=True, help="Flavour primitive."),
    click.option("--no-simplify", is_flag=True, help="Leave constants and shapes unfolded."),
    click.option("--no-decompose-bn", is_flag=True, help="Keep normalisations that no convolution absorbs."),
    click.option("--non-strict", is_flag=True, help="Load weights of which some are missing or unknown."),
)


def published_flags(function: F) -> F:
    """Add the flags; the command gets their values as ``choose_checkpoint`` and ``choose_flavour`` take them."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def choose_checkpoint(argument: Path | None, flags: Mapping[str, Any]) -> Path:
    """The one file that was named. Raises ``click.UsageError`` for none and for several."""
    named = [path for path in (argument, flags["as_checkpoint"], flags["as_weights"]) if path is not None]
    if len(named) != 1:
        raise click.UsageError("name one checkpoint" + (", not several" if named else ""))
    return Path(named[0])


def check_files(checkpoint: Path, output: Path) -> None:
    """Raises ``ConfigError`` for an output that would replace what it is made of, ``ModelError`` for a file that is
    itself made of a checkpoint."""
    from uhd.errors import ConfigError, ModelError

    beside = checkpoint.resolve().parent / f"{checkpoint.stem}.json"
    for path, what in ((checkpoint, "checkpoint"), (beside, "manifest of the checkpoint")):
        if output.resolve() == path.resolve():
            raise ConfigError(f"{output}: this would replace the {what}", hint="choose another --output")
    kind = {".onnx": "an ONNX file", ".espdl": "an .espdl file", ".tflite": "a LiteRT file"}.get(checkpoint.suffix)
    if kind and checkpoint.is_file():
        raise ModelError(
            f"{checkpoint}: this is {kind}", hint="give the checkpoint that it was made of (.safetensors or .pt)"
        )


def choose_flavour(flavour: str | None, flags: Mapping[str, Any]) -> str:
    """The flavour by name or by flags; published commands without either mean ``post``.

    Raises ``click.UsageError`` for flags that contradict each other.
    """
    if flags["noconcat"] and not flags["no_merge_postprocess"]:
        raise click.UsageError("--noconcat_box_obj_quality_cls needs --no-merge-postprocess")
    if flags["primitive"] and flags["no_merge_postprocess"]:
        raise click.UsageError("--merge-primitive-postprocess and --no-merge-postprocess exclude each other")
    by_flags = (
        "primitive" if flags["primitive"]
        else "parts" if flags["noconcat"]
        else "raw" if flags["no_merge_postprocess"]
        else None
    )  # fmt: skip
    if flavour and by_flags and flavour != by_flags:
        raise click.UsageError(f"--flavour {flavour} contradicts the flags, which mean {by_flags}")
    published = flags["as_checkpoint"] or flags["as_weights"]
    return flavour or by_flags or ("post" if published else "parts")
