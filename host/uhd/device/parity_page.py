"""The report of a parity run on one page that needs no other file, no network and no script."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from uhd.device.parity import FLOAT, FLOAT_FRAME, EngineRun, ParityReport
from uhd.device.parity_cases import Case, draw_case, worst
from uhd.device.parity_charts import score_chart, step_chart, time_chart
from uhd.device.parity_record import MOST_STEPS
from uhd.files import write_text
from uhd.manifest import ModelManifest
from uhd.train.report.axes import number

#: What the engines are, for the table.
ENGINE_TEXTS = {
    FLOAT: "float model on the photo's network input, as in training",
    FLOAT_FRAME: "float model on what the image contract picks from the camera frame",
    "oracle": "integer oracle, decoded in floating point",
    "twin": "the device's own code on this machine",
    "qemu": "the firmware in the emulator, over its serial line",
    "device": "the device on the port",
}
LINK_TEXTS = {
    "sent_again": "photos that needed more than one attempt",
    "attempts": "transfers of photos begun",
    "reconnects": "times the link was opened again",
    "restarts": "restarts of the device that a session survived",
    "retries": "messages sent again",
    "stale": "answers that came too late or twice",
    "frames": "good frames at the host",
    "crc_errors": "frames with a wrong CRC at the host",
    "malformed": "bytes between zeros that were no frame, at the host",
    "overlong": "frames longer than allowed, at the host",
    "frames_missing": "gaps in the device's sequence numbers",
    "console_lines": "lines of console text",
    "unknown": "frames of an unknown type, at the host",
}


@dataclass(frozen=True)
class About:
    """What the page says of a run beside its figures: short facts under the title, the state, and how to go on."""

    tags: Sequence[str] = ()
    state: str = ""
    runs: int = 1
    command: str = ""


def write_page(path: Path, report: ParityReport, manifest: ModelManifest, about: About) -> None:
    """Write the page of a report. The worst photos are read again and embedded; what cannot be read is left blank."""
    write_text(path, render(report, manifest, about))


def render(report: ParityReport, manifest: ModelManifest, about: About) -> str:
    """The page as HTML text."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    loader = ChoiceLoader([PackageLoader("uhd.device"), PackageLoader("uhd.train.report")])
    environment = Environment(
        loader=loader, undefined=StrictUndefined, autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"data": _data, "time": _time}
    style = "".join(loader.get_source(environment, name)[0] for name in ("report.css", "parity.css"))
    reference, subject = compared(report)
    figures = report.as_dict()
    ways = {name: _ways(stages) for name, stages in figures["timings"].items()}
    return environment.get_template("parity.html.j2").render(
        style=Markup(style),  # noqa: S704 - our own files
        title=manifest.name,
        about=about,
        report=report,
        figures=figures,
        beyond=MOST_STEPS,
        texts=ENGINE_TEXTS,
        reference=reference.name,
        subject=subject.name,
        complaints=complaints(report),
        verdict=verdict(report),
        charts=_charts(report, reference, subject),
        ways=ways,
        link=[(name, count, LINK_TEXTS.get(name, "")) for name, count in figures["link"].items()],
        lost=[(shown_name(path), printable(reason)) for path, reason in report.lost],
        cases=cases(report, manifest.score_threshold),
        threshold=manifest.score_threshold,
    )


def compared(report: ParityReport) -> tuple[EngineRun, EngineRun]:
    """The two engines that charts and pictures compare: the float model on the same input, and the last engine."""
    runs = list(report.runs.values())
    return report.runs.get(FLOAT_FRAME, runs[0]), runs[-1]


def _photos(count: int) -> str:
    return f"{count:,} photo{'' if count == 1 else 's'}"


def verdict(report: ParityReport) -> str:
    """The result in one sentence."""
    count = _photos(len(report.photos))
    if not report.pairs:
        return f"{count} compared. Only one engine computes in integers, so nothing was compared to the bit."
    names = " and ".join(dict.fromkeys(name for pair in report.pairs for name in (pair.first, pair.second)))
    if report.exact and report.complete:
        return f"Exact: {names} gave the same integers and boxes for all {count}."
    if report.exact:
        return (
            f"Exact as far as it went: {names} agree on {count}, but {_photos(len(report.lost))} did not get through."
        )
    return f"Not exact: {names} disagree."


def complaints(report: ParityReport) -> list[str]:
    """What is wrong, one line each; empty where all is well."""
    found = []
    for pair in report.pairs:
        if pair.integers:
            size = f"up to {pair.most} steps" if pair.most >= 0 else "their output tensors are not the same"
            where = f"{pair.first} and {pair.second}"
            found.append(f"{where}: {pair.count:,} other integers on {_photos(len(pair.integers))} ({size}).")
        if pair.boxes:
            found.append(f"{pair.first} and {pair.second}: other boxes on {_photos(len(pair.boxes))}.")
    for run in report.runs.values():
        if run.networks:
            found.append(f"{run.name} picked another network input from the frames of {_photos(len(run.networks))}.")
    if report.change and report.change.luma:
        found.append(f"{report.change.luma:,} Y bytes of camera frames differ from those of the photos.")
    if report.lost:
        found.append(f"{_photos(len(report.lost))} did not get through and are in no figure.")
    return found


def cases(report: ParityReport, threshold: float) -> list[Case]:
    """The gallery: photos on which integer engines disagree, then those where the device is farthest from the float."""
    reference, subject = compared(report)
    if reference is subject:
        return []
    ahead = [i for pair in report.pairs for i in (*pair.integers, *pair.boxes)]
    return [
        draw_case(
            report.photos[i],
            i,
            value,
            shown_name(report.photos[i]),
            (reference.rows[i], subject.rows[i]),
            report.truth[i],
            threshold,
        )
        for i, value in worst(reference.rows, subject.rows, threshold, ahead)
    ]


def printable(text: str) -> str:
    """Text that any page may hold: no control characters, no halves of characters."""
    clean = text.encode("utf-8", "replace").decode()
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") else c for c in clean)


def shown_name(path: Path) -> str:
    """The name of a photo, whatever bytes it has on disk."""
    return printable(path.name)


def _charts(report: ParityReport, reference: EngineRun, subject: EngineRun) -> list[tuple[str, str, Markup]]:
    """Title, explanation and drawing of each chart that has something to show."""
    drawn = []
    if reference is not subject and report.photos:
        best = [[float(rows[0, 0]) if len(rows) else 0.0 for rows in run.rows] for run in (reference, subject)]
        points = [(x, y, shown_name(path)) for x, y, path in zip(*best, report.photos, strict=True)]
        kinds = [0 if len(boxes) else 1 for boxes in report.truth] if report.labelled else [0] * len(points)
        names = ["with labelled boxes", "without"] if report.labelled else ["photo"]
        drawing = score_chart(f"score by {reference.name}", f"score by {subject.name}", points, kinds, names)
        gap = np.abs(np.asarray(best[0]) - np.asarray(best[1]))
        text = f"the best box of each photo; median difference {np.median(gap):.3f}, 95th percentile "
        drawn.append(("Scores", text + f"{np.percentile(gap, 95):.3f}, largest {gap.max():.3f}", drawing))
    if report.steps:
        engine = next(run.name for run in report.runs.values() if not run.is_float)
        text = f"every integer of the output maps, {engine} against {reference.name}, logarithmic"
        drawn.append(("What quantization changes", text, step_chart("float to integer", report.steps)))
    for stage, values in subject.timings.items():
        if stage == "round_trip_s":
            drawing = time_chart([value * 1000 for value in values], "round trip, ms")
            drawn.append(("Time of each photo", "from its first byte sent to its last byte received", drawing))
        elif stage == "inference_us":
            drawing = time_chart([value / 1000 for value in values], "inference, ms")
            drawn.append(("Time of each inference", "by the device's clock; a drift would show here", drawing))
    return drawn


def _ways(stages: dict[str, Any]) -> list[tuple[str, str]]:
    """(stage, what to call it) of the timings, in the order in which a picture meets them."""
    return [(name, name.removesuffix("_us").removesuffix("_s").replace("_", " ")) for name in stages]


def _time(value: float, stage: str) -> Markup:
    """A time in milliseconds, or a count with separators."""
    if stage.endswith("_us"):
        return _data(value, f"{value / 1000:,.2f} ms")
    return _data(value, f"{value * 1000:,.2f} ms" if stage.endswith("_s") else f"{value:,.0f}")


def _data(value: float | None, shown: str = "") -> Markup:
    """A figure as HTML: rounded (or as ``shown``) for people, whole for programs."""
    if value is None:
        return Markup('<data value="">–</data>')
    if not shown:
        shown = f"{value:.4f}" if isinstance(value, float) and -1 <= value <= 1 else number(value)
    return Markup('<data value="{}">{}</data>').format(repr(value), shown)
