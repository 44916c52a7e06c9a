"""What may be chosen of a model file beside the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from uhd.detect.decode import score_factors
from uhd.errors import ConfigError, ModelError
from uhd.export.record import ExportRecord
from uhd.image.resize import input_channels
from uhd.importing.findings import mode_in_name
from uhd.manifest import ModelManifest, ResizeMode, ScoreMode

IntegerEngine = Literal["twin", "oracle"]


@dataclass(frozen=True)
class ModelOptions:
    """``score_mode``, ``quality_power``: instead of the model's own, where it leaves decoding to its reader.
    ``resize_mode``: for files that do not say it. ``size``: (height, width) of the network input, for checkpoints;
    other files have their own. ``manifest``: instead of the one that the file carries or that lies beside it.
    ``integers``: what runs a .espdl; None: the twin, or the oracle where there is no compiler."""

    score_mode: str | None = None
    quality_power: float | None = None
    resize_mode: str | None = None
    size: tuple[int, int] | None = None
    manifest: Path | None = None
    integers: IntegerEngine | None = None


def choose_mode(path: Path, channels: int, stated: str | None, given: str | None) -> ResizeMode:
    """What the file states, what is given, what its name says, or the usual one for so many channels."""
    modes: dict[str, ResizeMode] = {mode: mode for mode in get_args(ResizeMode)}
    if given and given not in modes:
        raise ConfigError(f"unknown resize mode {given!r}", hint=f"choose one of {', '.join(modes)}")
    told = modes.get(stated or "")
    if given and told and given != told:
        raise ConfigError(f"{path}: made for resize mode {told}, not {given}", hint="leave --resize-mode out")
    mode = told or modes.get(given or "") or mode_in_name(path)
    if mode is None:
        from uhd.models.reference_checkpoint import default_resize_mode

        mode = default_resize_mode(channels)
    if input_channels(mode) != channels:
        raise ConfigError(
            f"{path}: resize mode {mode} makes {input_channels(mode)} channels, its input has {channels}",
            hint="give the one that it was trained with as --resize-mode",
        )
    return mode


def checked(path: Path, manifest: ModelManifest, record: ExportRecord, options: ModelOptions) -> ModelManifest:
    """``manifest`` with the options that a float model of this record takes.

    Raises ``ConfigError`` for options at odds with the file, ``ModelError`` for a score mode it has no maps for.
    """
    check_size(path, manifest, options)
    updates: dict[str, Any] = {}
    modes: dict[str, ScoreMode] = {mode: mode for mode in get_args(ScoreMode)}
    if options.score_mode is not None:
        if options.score_mode not in modes:
            raise ConfigError(f"unknown score mode {options.score_mode!r}", hint=f"choose one of {', '.join(modes)}")
        updates["score_mode"] = modes[options.score_mode]
    if options.quality_power is not None:
        updates["quality_power"] = options.quality_power
    updates = {key: value for key, value in updates.items() if getattr(manifest, key) != value}
    if updates and (record.flavour in ("primitive", "post", "fast") or record.head != "anchor"):
        what = "score mode" if "score_mode" in updates else "quality power"
        raise ConfigError(
            f"{path}: computes its scores by itself, so the {what} cannot be changed",
            hint="leave it out, or export the model with flavour parts",
        )
    manifest = manifest.model_copy(update=updates)
    if record.head == "anchor" and record.flavour in ("parts", "raw", "whole"):
        try:
            score_factors(manifest.score_mode, frozenset(record.fields) - {"box"})
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
    return manifest


def check_size(path: Path, manifest: ModelManifest, options: ModelOptions) -> None:
    """Raises ``ConfigError`` if another input size is asked for than the file has."""
    own = (manifest.input_height, manifest.input_width)
    if options.size is not None and options.size != own:
        wanted = "x".join(map(str, options.size))
        raise ConfigError(
            f"{path}: made for an input of {own[0]}x{own[1]}, not {wanted}",
            hint="leave --img-size out, or export the checkpoint for that size",
        )


def check_integers(path: Path, manifest: ModelManifest, options: ModelOptions) -> None:
    """The same for a model of integers, whose decoding is compiled in."""
    check_size(path, manifest, options)
    mode, power = options.score_mode, options.quality_power
    if mode not in (None, manifest.score_mode) or power not in (None, manifest.quality_power):
        raise ConfigError(
            f"{path}: its scores are of mode {manifest.score_mode}, power {manifest.quality_power:g}",
            hint="leave --score-mode and --quality-power out, or quantize the model with others",
        )
