"""``report.html``: everything about a run on one page that needs no other file, no network and no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from uhd.errors import DataError
from uhd.files import write_text
from uhd.train.report import charts, gallery, metrics
from uhd.train.report.axes import number
from uhd.train.report.evaluation import MEASURE, Evaluation
from uhd.train.report.run import REPORT, Run, files, next_commands, read_run, settings

#: Columns of the COCO table: label, name of the field, what it is.
COCO = (
    ("AP", "map50_95", "mean over IoU 0.50 to 0.95"),
    ("AP50", "map50", "at IoU 0.5"),
    ("AP75", "map75", "at IoU 0.75"),
    ("AP small", "map_small", "boxes under 32² pixels of the original photo"),
    ("AP medium", "map_medium", "32² to 96² pixels"),
    ("AP large", "map_large", "over 96² pixels"),
    ("AR 1", "recall1", "recall with one detection a photo"),
    ("AR 10", "recall10", "with ten"),
    ("AR 100", "recall100", "with a hundred"),
    ("AR small", "recall_small", "boxes under 32² pixels"),
    ("AR medium", "recall_medium", "32² to 96² pixels"),
    ("AR large", "recall_large", "over 96² pixels"),
)


#: How a chart calls the results of an epoch.
RESULTS = {"map50": "mAP@0.5", "map50_95": "mAP@0.5:0.95", "coco_mAP": "mAP@0.5:0.95"}


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` of a run from the files in its folder and return its path.

    A run that is not finished, was never evaluated or stopped at a NaN gets a report too, which says what is missing.
    Raises ``DataError`` when the folder is not there.
    """
    if not run_folder.is_dir():
        raise DataError(f"{run_folder}: no run folder", hint="give the --output of a training run")
    path = run_folder / REPORT
    write_text(path, render(read_run(run_folder)))
    return path


def render(run: Run) -> str:
    """The page of ``run`` as HTML text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("uhd.train.report"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"size": human_size, "data": _data}
    template = environment.get_template("report.html.j2")
    style = environment.loader.get_source(environment, "report.css")[0]  # type: ignore[union-attr]
    lines = settings(run.config)
    found = run.evaluation
    return template.render(
        style=Markup(style),  # noqa: S704 - our own file
        title=title(run),
        tags=tags(run),
        complaints=[text[:1].upper() + text[1:] for text in run.complaints],
        tiles=tiles(run),
        curves=curves(run),
        evaluation=found,
        findings=findings(found, run.manifest.anchors if run.manifest else []) if found else [],
        coco=[(label, getattr(found.result, key), text) for label, key, text in COCO] if found else [],
        class_names=found.class_names if found else (),
        figures=gallery.figures(found) if found else [],
        measure=MEASURE,
        sheet=_sheet(run.folder),
        settings=lines,
        changed=[line for line in lines if line.changed],
        files=files(run.folder),
        commands=next_commands(run),
        log=run.log[-40:],
    )


def title(run: Run) -> str:
    """Name of the model, of the evaluated checkpoint, or of the folder."""
    if run.manifest:
        return run.manifest.name
    if run.only_evaluated and run.evaluation:
        return str(run.evaluation.info["checkpoint"])
    return run.folder.resolve().name


def tags(run: Run) -> list[str]:
    """Short facts under the title."""
    found = []
    if run.manifest:
        made = run.manifest
        found.append(f"variant {made.variant}" if made.variant else made.architecture)
        found.append(f"{made.input_width} × {made.input_height} input, {made.resize_mode}")
        found.append(", ".join(made.class_names[:6]) + (" …" if len(made.class_names) > 6 else ""))
    info = run.evaluation.info if run.evaluation else {}
    if info.get("data"):
        found.append(f"evaluated on {info['data']}")
    if info.get("epoch") is not None:
        found.append(f"evaluated after epoch {info['epoch']}")
    return found


@dataclass(frozen=True)
class Tile:
    """One figure of the summary: ``value`` None is not known; ``shown`` stands for a value in other units."""

    label: str
    value: float | None
    text: str
    shown: str = ""


def tiles(run: Run) -> list[Tile]:
    """The summary: what the run reached, on what, and what it took."""
    result = run.evaluation.result if run.evaluation else None
    best = _best(run)
    map50 = result.map50 if result else best.get("map50")
    both = result.map50_95 if result else best.get("map50_95")
    info = run.evaluation.info if run.evaluation else {}
    epoch = info.get("epoch", best.get("epoch"))
    best_epoch = f"epoch {epoch:g}" if metrics.is_number(epoch) else str(info.get("checkpoint", "epoch not known"))
    found = [
        Tile("mAP@0.5", map50, best_epoch if map50 is not None else "not evaluated"),
        Tile("mAP@0.5:0.95", both, "mean over ten IoU thresholds"),
    ]
    if result:
        found += [
            Tile("AP small", result.map_small, "boxes under 32² pixels"),
            Tile("AP medium", result.map_medium, "32² to 96² pixels"),
            Tile("AP large", result.map_large, "over 96² pixels"),
            Tile("Validated on", result.images, f"photos with {result.boxes:,} boxes"),
        ]
    trained = run.manifest.training.get("data") if run.manifest else None
    if isinstance(trained, Mapping) and metrics.is_number(trained.get("photos")):
        boxes = trained.get("boxes")
        text = f"photos with {boxes:,} boxes" if metrics.is_number(boxes) else "photos"
        found.append(Tile("Trained on", trained["photos"], text))
    if run.only_evaluated:
        return found
    found.append(Tile("Epochs", run.epochs_done, f"of {run.epochs_wanted}" if run.epochs_wanted else "done"))
    seconds, rate = run.seconds, run.throughput
    text = "not recorded"
    if seconds is not None:
        text = "hours, minutes, seconds" if round(seconds) >= 3600 else "minutes, seconds"
    found.append(Tile("Time", seconds, text, duration(seconds) if seconds is not None else ""))
    found.append(Tile("Throughput", rate, "images/s, median" if rate is not None else "not recorded"))
    return found


def _best(run: Run) -> dict[str, float]:
    """Epoch, map50 and map50_95 of the evaluated epoch with the highest mAP@0.5, as the rows tell it."""
    best: dict[str, float] = {}
    for place, row in enumerate(run.rows, start=1):
        val = metrics.split_row(row)[1]
        value = next((val[name] for name in ("map50", "mAP@0.5") if name in val), math.nan)
        if math.isfinite(value) and value > best.get("map50", -math.inf):
            best = {"epoch": metrics.epoch_of(row, place), "map50": value}
            other = next((val[name] for name in ("map50_95", "coco_mAP") if name in val), None)
            best |= {} if other is None else {"map50_95": other}
    return best


Chart = tuple[str, str, Markup]
"""Title, explanation, drawing."""


def curves(run: Run) -> list[Chart]:
    """Losses, learning rate and mAP over epochs."""
    train, val = metrics.series(run.rows, "train"), metrics.series(run.rows, "val")
    losses = {name: points for name, points in val.items() if not metrics.is_result(name)}
    results = {RESULTS.get(name, name): points for name, points in val.items() if metrics.is_result(name)}
    rate = metrics.plain(run.rows, "lr")
    drawn: list[Chart] = []

    def add(heading: str, text: str, lines: Mapping[str, charts.Points], **options: Any) -> None:
        if any(lines.values()):
            drawn.append((heading, text, charts.line_chart(heading, lines, **options)))

    total = {"training": train.pop("loss", []), "validation": losses.pop("loss", [])}
    add("Loss", "the weighted sum that is minimised", {k: v for k, v in total.items() if v}, log_y=_wide(total))
    add("Training loss terms", "before weighting, log scale", _drawable(train), log_y=True)
    add("Validation loss terms", "before weighting, log scale", _drawable(losses), log_y=True)
    add("mAP", "over the validation photos", _few(results), zero=True)
    add("Learning rate", "at the end of each epoch", {"learning rate": rate} if rate else {}, zero=True)
    speed = run.rates
    add("Throughput", "images a second", {"images/s": speed} if speed else {}, zero=True)
    return drawn


def _drawable(lines: Mapping[str, charts.Points]) -> dict[str, charts.Points]:
    """Lines with a positive value (a term that is switched off is 0 throughout), as many as there are colours."""
    kept = {name: points for name, points in lines.items() if any(y > 0 for _, y in points if math.isfinite(y))}
    return dict(list(kept.items())[: charts.COLOURS])


def _few(lines: Mapping[str, charts.Points]) -> dict[str, charts.Points]:
    """Means rather than the results of single classes, as many as there are colours."""
    return dict([(name, points) for name, points in lines.items() if "class" not in name][: charts.COLOURS])


def _wide(lines: Mapping[str, charts.Points]) -> bool:
    """True where a logarithmic axis shows more: all positive, and the largest more than twice the smallest."""
    values = [y for points in lines.values() for _, y in points if math.isfinite(y)]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 2


def findings(evaluation: Evaluation, anchors: Sequence[Sequence[float]]) -> list[Chart]:
    """Precision-recall curve, histogram of scores, AP by size, anchors over box sizes."""
    curve, best = evaluation.curve, evaluation.curve.best
    f1 = float(curve.f1[best]) if best is not None else 0.0
    drawn: list[Chart] = []
    told = "no box was found at any threshold"
    if best is not None:
        told = (
            f"best F1 {f1:.3f} at score {evaluation.threshold:.3f}: "
            f"precision {curve.precision[best]:.3f}, recall {curve.recall[best]:.3f}"
        )
    drawing = charts.pr_chart(curve.precision, curve.recall, best, evaluation.threshold, f1)
    drawn.append(("Precision and recall", f"IoU 0.5; {told}", drawing))
    edges = np.linspace(0, 1, 26)
    scores = np.concatenate([np.zeros(0), *(rows[:, 0] for rows in evaluation.rows)])
    counted = np.concatenate([np.zeros(0, np.bool_), *evaluation.matches.counted])
    hits = np.concatenate([np.zeros(0, np.bool_), *evaluation.matches.hits])
    kinds = {"found a box": counted & hits, "false alarm": counted & ~hits}
    counts = {name: np.histogram(np.clip(scores[chosen], 0, 1), edges)[0] for name, chosen in kinds.items()}
    mark = evaluation.threshold if best is not None else None
    drawing = charts.histogram("scores", edges, counts, x_label="score", mark=mark)
    drawn.append(("Scores", "detections by score, right and wrong at IoU 0.5", drawing))
    groups = [(_side(b.low, b.high), (b.ap50, b.ap50_95)) for b in evaluation.buckets]
    drawing = charts.bar_chart("AP by size", groups, ("AP50", "AP"), "average precision")
    spread = ", ".join(f"{_side(b.low, b.high)}: {b.boxes:,}" for b in evaluation.buckets)
    drawn.append(("AP by size of the box", f"side in pixels of the original photo; boxes – {spread}", drawing))
    sizes = np.concatenate([np.zeros((0, 2)), *(boxes[:, 3:5] for _, boxes in evaluation.truth)])
    drawing = charts.size_chart(sizes, np.asarray(anchors, np.float64).reshape(-1, 2))
    drawn.append(("Box sizes and anchors", "both axes logarithmic; darker: more boxes", drawing))
    return drawn


def _side(low: float, high: float) -> str:
    return f"{low:g}+" if high >= 1e5 else f"{low:g}–{high:g}" if low else f"<{high:g}"


def _sheet(folder: Path) -> str | None:
    """The newest contact sheet of samples as a data address, or None."""
    import cv2

    samples = folder / "samples"
    sheets = [*samples.glob("sheet.png"), *sorted(samples.glob("*/sheet.png"), reverse=True)]
    picture = cv2.imread(str(sheets[0])) if sheets else None
    if picture is None:
        return None
    scale = min(1.0, 1200 / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    return gallery.data_uri(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes())


def _figure(value: float | None) -> str:
    """A figure for people: three decimals where it is a fraction (metrics are), a dash where it is undefined (-1)."""
    if value is None or (isinstance(value, float) and value == -1):
        return "–"
    return f"{value:.3f}" if isinstance(value, float) and 0 <= value <= 1 else number(value)


def _data(value: float | None, shown: str = "") -> Markup:
    """A figure as HTML: rounded (or as ``shown``) for people, whole for programs."""
    exact = "" if value is None else repr(value)
    return Markup('<data value="{}">{}</data>').format(exact, shown or _figure(value))


def human_size(count: int) -> str:
    """Bytes in B, KB, MB or GB of 1,000."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


def duration(seconds: float) -> str:
    """``1:02:03`` (hours, minutes, seconds), or ``2:03`` below an hour."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
