"""A study of resizing on one page that needs no other file, no network and no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from uhd.device.parity_page import printable
from uhd.files import write_text
from uhd.image.deploy import deploy_paths
from uhd.image.resize import RESIZE_MODES, input_channels, resize_image
from uhd.resizing.chart import png, shade
from uhd.resizing.colour import MODES
from uhd.resizing.cost import ModelCosts
from uhd.resizing.study import PUBLISHED, PUBLISHED_MS, Difference, Study, claims, ratios
from uhd.resizing.ways import Size, Way, to_u8

BASE = "opencv nearest"
"""What difference maps are against."""
GAIN = 4
"""By what the difference maps are brightened."""


Figure = tuple[str, Markup, Markup | None, str]
"""Way, picture, difference map from ``BASE``, and the difference in words."""


@dataclass(frozen=True)
class Shown:
    """One photo in the gallery: how it looks in each way."""

    name: str
    figures: list[Figure]


def write_page(
    path: Path,
    found: Study,
    colour: Mapping[str, Difference | None],
    costs: Sequence[ModelCosts],
    photos: Sequence[tuple[str, NDArray[np.uint8]]],
    command: str = "",
) -> None:
    """Write the page; ``photos`` (name, RGB) are shown in every way."""
    write_text(path, render(found, colour, costs, photos, command))


def render(
    found: Study,
    colour: Mapping[str, Difference | None],
    costs: Sequence[ModelCosts],
    photos: Sequence[tuple[str, NDArray[np.uint8]]],
    command: str = "",
) -> str:
    """The page as HTML text."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader("uhd.resizing"), PackageLoader("uhd.train.report")])
    environment = Environment(
        loader=loader, undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["minus"] = lambda text: str(text).replace("-", "−")
    style = "".join(loader.get_source(environment, name)[0] for name in ("report.css", "resize.css"))
    return environment.get_template("resize.html.j2").render(
        style=Markup(style),  # noqa: S704 - our own files
        found=found,
        published=list(zip(PUBLISHED, found.published, strict=True)),
        published_ms=PUBLISHED_MS,
        claims=claims(found),
        ratios=ratios(found.times) if found.times else {},
        colour=colour,
        costs=costs,
        modes={mode: deploy_paths(mode) for mode in RESIZE_MODES},
        tint=lambda difference: "#{2:02x}{1:02x}{0:02x}".format(*shade(difference.mean)),
        photos=[Shown(printable(name), _figures(rgb, found)) for name, rgb in photos],
        gain=GAIN,
        base=BASE,
        command=printable(command),
    )


def _figures(rgb: NDArray[np.uint8], found: Study) -> list[Figure]:
    base = _bytes(rgb, found.size, next(way for way in found.ways if way.name == BASE))
    figures: list[Figure] = []
    for way in found.ways:
        small = _bytes(rgb, found.size, way)
        gap = cv2.absdiff(small, base)
        text = f"mean {gap.mean():.2f}, max {gap.max()}" if gap.any() else f"equals {BASE}"
        bright = np.asarray(np.minimum(gap.astype(np.int32) * GAIN, 255), np.uint8)
        figures.append((way.name, _img(small, way.text), _img(bright, f"difference of {way.name}"), text))
    for mode in (mode for mode in MODES if input_channels(mode) == 1 or found.size[1] % 2 == 0):
        planes = np.rint(255 * resize_image(rgb, found.size, mode)).astype(np.uint8)
        shown = np.concatenate([planes[..., :1].repeat(3, 2)] + [planes[..., 1:].repeat(3, 2)] * (planes.shape[2] > 1))
        figures.append((mode, _img(shown, mode), None, "Y above, U and V below" if planes.shape[2] > 1 else "luma"))
    return figures


def _bytes(rgb: NDArray[np.uint8], size: Size, way: Way) -> NDArray[np.uint8]:
    return to_u8(way.real(rgb, size))


def _img(rgb: NDArray[np.uint8], text: str) -> Markup:
    data = base64.b64encode(png(np.ascontiguousarray(rgb[..., ::-1]))).decode()
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(text, data)
