"""Which ways of making the network input, where a model runs, give what training gave it.

Docs: docs/resize.md. Each entry is held against the libraries themselves in tests/image/test_deploy.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from uhd.errors import ConfigError
from uhd.image.resize import INTEGER_MODES, RESIZE_MODES, input_channels, normalise_mode

Fit = Literal["exact", "rounding", "neighbours", "no"]
"""``exact``: the same numbers. ``rounding``: within 1e-4 of the range 0..1. ``neighbours``: every number is picked from
the place that training takes, or from one beside it. ``no``: another picture."""
Where = Literal["camera", "opencv", "torch", "pillow", "graph"]
PLACES: tuple[Where, ...] = ("camera", "opencv", "torch", "pillow", "graph")


@dataclass(frozen=True)
class DeployPath:
    """One way to make the network input. ``call``: what it consists of, or what is wrong where ``fit`` is ``no``."""

    where: Where
    fit: Fit
    call: str


_OPENCV_COLOUR = {
    "_y": ", then COLOR_RGB2YUV, channel 0",
    "_y_bin": ", then COLOR_RGB2YUV, channel 0, 1 from byte 128",
    "_y_tri": ", then COLOR_RGB2YUV, channel 0, 0.5 from byte 85, 1 from byte 170",
    "_yuv422": ", then COLOR_RGB2YUV_YUYV",
}


def deploy_paths(mode: str) -> tuple[DeployPath, ...]:
    """One entry for each of ``PLACES``, for a model trained with ``mode``. Raises ``ConfigError`` for no mode."""
    name = normalise_mode(mode)
    return tuple(_PATHS[where](name) for where in PLACES)


def deploy_path(mode: str, where: Where) -> DeployPath:
    """The entry of ``deploy_paths`` for one place."""
    return _PATHS[where](normalise_mode(mode))


def check_deploy(mode: str, where: Where, source: str) -> DeployPath:
    """The entry, if the place fits the mode. Raises ``ConfigError`` naming ``source`` and the ways that do fit."""
    path = deploy_path(mode, where)
    if path.fit == "no":
        fitting = [f"{p.where} ({p.call})" for p in deploy_paths(mode) if p.fit in ("exact", "rounding")]
        raise ConfigError(
            f"{source}: trained with {normalise_mode(mode)}; {path.call}",
            hint=f"resize outside: {', '.join(fitting)}",
        )
    return path


def check_mode(trained: str, asked: str | None, source: str) -> str:
    """The mode that ``source`` was trained with. Raises ``ConfigError`` where another one is ``asked`` for."""
    name = normalise_mode(trained)
    if asked is not None and normalise_mode(asked) != name:
        raise ConfigError(
            f"{source}: trained with resize mode {name}, not {normalise_mode(asked)}", hint="leave the mode out"
        )
    return name


def _camera(mode: str) -> DeployPath:
    if input_channels(mode) == 2:
        return DeployPath("camera", "neighbours", "Y, U and V picked from YUYV; exact for frames of the network's size")
    return DeployPath("camera", "no", "a YUYV frame has no full-range luma and no RGB")


def _opencv(mode: str) -> DeployPath:
    if "linear" in mode:
        fit: Fit = "exact" if mode.startswith("opencv") else "rounding"
        return DeployPath("opencv", fit, "INTER_LINEAR on float32")
    if mode == "torch_nearest":
        return DeployPath("opencv", "neighbours", "INTER_NEAREST")
    colour = next((text for end, text in _OPENCV_COLOUR.items() if mode.endswith(end)), "")
    return DeployPath("opencv", "exact", f"INTER_NEAREST{colour}")


def _torch(mode: str) -> DeployPath:
    if "linear" in mode:
        return DeployPath("torch", "rounding", "interpolate bilinear, antialias off")
    if mode == "torch_nearest":
        return DeployPath("torch", "exact", "interpolate nearest")
    if mode == "opencv_inter_nearest":
        return DeployPath("torch", "neighbours", "interpolate nearest")
    return DeployPath("torch", "no", "torch converts no colour")


def _pillow(mode: str) -> DeployPath:
    # NEAREST takes the middle of each source span where training takes its start: up to half a span away
    wrong = "BILINEAR averages where training does not" if "linear" in mode else "NEAREST picks other pixels"
    return DeployPath("pillow", "no", f"Pillow's {wrong}")


def _graph(mode: str) -> DeployPath:
    if input_channels(mode) == 2:
        return DeployPath("graph", "no", "a Resize of packed planes mixes U with V, as training packs after resizing")
    if mode in INTEGER_MODES:
        planes = "" if input_channels(mode) == 3 else " of the luma plane, made by the caller"
        return DeployPath("graph", "neighbours", f"Resize nearest, asymmetric, floor{planes}")
    return DeployPath("graph", "rounding", "Resize linear, half_pixel")


_PATHS = {"camera": _camera, "opencv": _opencv, "torch": _torch, "pillow": _pillow, "graph": _graph}
assert set(_PATHS) == set(PLACES) and len(RESIZE_MODES) == 8
