"""``demo`` on photos."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from uhd.detect.nms import Rows
from uhd.errors import ConfigError, DataError
from uhd.host.ui import emit_json, print_table, track
from uhd.image.draw import contact_sheet, draw_boxes
from uhd.image.files import is_image_name, write_picture
from uhd.infer.detector import Detector
from uhd.infer.inputs import Photo, photos_of
from uhd.infer.photos import Found, Then, find_on_photos

DEFAULT_OUTPUT = Path("demo_output")
COLUMNS = ["score", "class", "cx", "cy", "w", "h"]
SHEET = "contact_sheet.png"

#: Pictures on the sheet at most, lines of the table at most, unreadable pictures named at most.
_ON_SHEET, _LINES, _NAMED = 24, 40, 10


def artist_for(photos: Sequence[Photo], options: Mapping[str, Any]) -> Artist | None:
    """Who draws on the photos; None if nobody is to. Raises ``ConfigError`` for an unusable output folder."""
    if options["as_json"] and options["output"] is None:
        return None
    return Artist(options["output"] or DEFAULT_OUTPUT, photos)


def run_photos(detector: Detector, target: str, photos: Sequence[Photo], artist: Artist | None, as_json: bool) -> None:
    """Boxes on photos as pictures and a table, or as JSON.

    Raises ``DataError`` at the end for pictures that could not be read; ``ConfigError`` if one cannot be written.
    """
    draw = artist.drawer(detector.manifest.class_names) if artist else None
    started = time.perf_counter()
    found = list(
        track(
            find_on_photos(detector, photos, draw),
            f"demo on {target}",
            quiet=as_json,
            total=len(photos),
        )
    )
    seconds = time.perf_counter() - started
    sheet = artist.sheet() if artist else None
    if as_json:
        emit_json(_report(detector, target, found, artist, sheet))
    else:
        assert artist is not None
        _print(detector, target, found, artist, sheet, seconds)
    bad = [item for item in found if item.problem]
    for item in bad[:_NAMED]:
        click.echo(f"skipped: {item.problem}", err=True)
    if bad:
        raise DataError(
            f"{len(bad)} of {len(found)} pictures could not be read, the first is {bad[0].photo.path}",
            hint="all others are done; remove it or fetch it again",
        )


def samples() -> list[Photo]:
    """The installed sample photographs and the generated scene."""
    from uhd.host.samples import sample_photos, sample_scene

    photos = photos_of([path for _, path in sample_photos()])
    return [*photos, Photo("generated_scene.png", picture=sample_scene())]


class Artist:
    """Draws boxes on pictures, into files with the pictures' names."""

    def __init__(self, folder: Path, photos: Sequence[Photo]) -> None:
        """Raises ``ConfigError`` for a folder that cannot be made, or that holds the photos themselves."""
        self._folder = folder
        self._first = {photo.name: None for photo in photos[:_ON_SHEET]}
        self._sheet: dict[str, Any] = {}
        for photo in photos:
            if photo.path is not None and self.path(photo).resolve() == photo.path.resolve():
                raise ConfigError(f"{photo.path}: would be replaced", hint="choose another folder as --output")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot make this folder ({error.strerror})", hint="choose another --output"
            ) from None

    def path(self, photo: Photo) -> Path:
        """Where the picture with boxes goes."""
        return self._folder / (photo.name if is_image_name(Path(photo.name)) else f"{photo.name}.png")

    def drawer(self, class_names: Sequence[str]) -> Then:
        """Draws the rows of a photo into its file; for several threads."""
        return lambda photo, rgb, rows: self._draw(
            photo, draw_boxes(rgb[..., ::-1], rows, class_names=class_names, min_side=1)
        )

    def _draw(self, photo: Photo, picture: NDArray[np.uint8]) -> None:
        try:
            write_picture(self.path(photo), picture)
        except OSError as error:
            raise ConfigError(
                f"{self.path(photo)}: cannot write there ({error.strerror})", hint="choose another --output"
            ) from None
        if photo.name in self._first:
            self._sheet[photo.name] = contact_sheet([picture], columns=1, gap=0)

    def sheet(self) -> Path | None:
        """The first pictures on one; None if none could be read."""
        cells = [self._sheet[name] for name in self._first if name in self._sheet]
        if not cells:
            return None
        path = self._folder / SHEET
        write_picture(path, contact_sheet(cells))
        return path


def _report(
    detector: Detector, target: str, found: Sequence[Found], artist: Artist | None, sheet: Path | None
) -> dict[str, Any]:
    settings = detector.settings
    return {
        "target": target,
        "model": detector.manifest.name,
        "engine": detector.engine.what,
        "threshold": settings.threshold,
        "nms_iou": settings.nms_iou,
        "class_names": detector.manifest.class_names,
        "columns": COLUMNS,
        "pictures": [
            {
                "source": str(item.photo.path or item.photo.name),
                "picture": str(artist.path(item.photo)) if artist else None,
                "height": item.size[0],
                "width": item.size[1],
                "boxes": plain(item.rows),
            }
            for item in found
            if not item.problem
        ],
        "unreadable": [{"source": str(item.photo.path), "problem": item.problem} for item in found if item.problem],
        "contact_sheet": str(sheet) if sheet else None,
    }


def plain(rows: Rows) -> list[list[float]]:
    """Rows for JSON: six decimals, finer than any pixel."""
    return np.asarray(rows, np.float64).round(6).tolist()


def _print(
    detector: Detector, target: str, found: Sequence[Found], artist: Artist, sheet: Path | None, seconds: float
) -> None:
    good = [item for item in found if not item.problem]
    rows = [
        (str(artist.path(item.photo)), len(item.rows), f"{item.rows[0, 0]:.2f}" if len(item.rows) else "-")
        for item in good
    ]
    if not good:
        return
    print_table(f"{detector.manifest.name} on {target}", rows[:_LINES], ("picture", "boxes", "best score"))
    if len(rows) > _LINES:
        click.echo(f"  ... and {len(rows) - _LINES} more")
    count = sum(len(item.rows) for item in good)
    click.echo(f"{count} boxes on {len(good)} pictures, {len(good) / max(seconds, 1e-9):.0f} pictures/s")
    if sheet:
        click.echo(f"{'all' if len(good) <= _ON_SHEET else f'the first {_ON_SHEET}'} together: {sheet}")
