"""Rows of ``metrics.jsonl``: reading them, and telling training figures from validation figures."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
Row = Mapping[str, Any]

#: Order of the loss terms in logs and plots.
ORDER = ("loss", "obj", "cls", "box", "quality", "attr", "hm", "off", "wh", "l1", "iou", "range", "distill_feat",
         "distill_kl", "distill_obj", "distill_quality", "distill_box_l1")  # fmt: skip
#: Figures that are neither losses nor results of an evaluation.
BOOKKEEPING = (
    "epoch", "epochs", "lr", "step", "steps", "seconds", "images_per_second", "time", "best", "best_epoch",
    "grad_norm", "scale", "skipped", "skipped_steps", "eval_seconds", "train_seconds",
)  # fmt: skip
_RESULT = re.compile(r"(m?ap|ar|coco|recall|precision|f1|score_threshold)(?![a-z])", re.IGNORECASE)


def is_number(value: Any) -> bool:
    """True for int and float, finite or not; False for bool, text, None and containers."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_result(name: str) -> bool:
    """True for the name of an evaluation's figure (mAP, AP of a class, recall ...) rather than of a loss."""
    return bool(_RESULT.match(name))


def split_row(row: Row) -> tuple[dict[str, float], dict[str, float]]:
    """The training figures and the validation figures of a row, in the order of logs, without epoch and book-keeping.

    A row is flat: validation figures are those named ``val_...`` or ``val/...`` (the prefix is removed) and those of
    an evaluation (mAP, AP, recall ...); or it holds the two as mappings ``train`` and ``val``.
    """
    train: dict[str, float] = {}
    val: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping) and key in ("train", "val"):
            (train if key == "train" else val).update({k: float(v) for k, v in value.items() if is_number(v)})
        elif not is_number(value) or key in BOOKKEEPING:
            continue
        elif key.startswith(("val_", "val/")):
            val[key[4:]] = float(value)
        elif key.startswith(("train_", "train/")):
            train[key[6:]] = float(value)
        elif is_result(key):
            val[key] = float(value)
        else:
            train[key] = float(value)
    return in_order(train), in_order(val)


def in_order(values: Mapping[str, float]) -> dict[str, float]:
    """Known loss terms first, in their order; others as they come."""
    known = [name for name in ORDER if name in values]
    return {name: values[name] for name in (*known, *(name for name in values if name not in ORDER))}


def read_metrics(folder: Path) -> tuple[list[dict[str, Any]], str]:
    """Rows of ``metrics.jsonl`` in order, and a complaint ("" where there is none).

    A cut-off or damaged line is left out and told; a missing file gives no rows.
    """
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return [], f"{METRICS} is missing: no epoch has been finished"
    rows, broken = [], 0
    for line in lines:
        try:
            row = json.loads(line) if line.strip() else None
        except ValueError:
            broken += 1
            continue
        if isinstance(row, dict):
            rows.append(row)
    complaint = f"{broken} damaged line{'s' * (broken > 1)} of {METRICS} left out" if broken else ""
    return rows, complaint if rows or broken else f"{METRICS} is empty: no epoch has been finished"


def series(rows: Sequence[Row], part: str) -> dict[str, list[tuple[float, float]]]:
    """(epoch, value) of every figure of ``part`` ("train" or "val"), in log order; values may be NaN."""
    found: dict[str, list[tuple[float, float]]] = {}
    for number, row in enumerate(rows, start=1):
        train, val = split_row(row)
        for name, value in (train if part == "train" else val).items():
            found.setdefault(name, []).append((epoch_of(row, number), value))
    return {name: found[name] for name in in_order(dict.fromkeys(found, 0.0))}


def plain(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    """(epoch, value) of one book-keeping figure, such as ``lr``, where rows have it."""
    return [
        (epoch_of(row, number), float(row[key])) for number, row in enumerate(rows, start=1) if is_number(row.get(key))
    ]


def epoch_of(row: Row, number: int) -> float:
    """The row's epoch, or its place where it does not say."""
    epoch = row.get("epoch")
    return float(epoch) if is_number(epoch) and math.isfinite(epoch) else float(number)  # type: ignore[arg-type]


def not_finite(rows: Sequence[Row]) -> list[tuple[float, str]]:
    """(epoch, figure) wherever a loss or result is NaN or infinite."""
    found = []
    for number, row in enumerate(rows, start=1):
        for part in split_row(row):
            found += [(epoch_of(row, number), name) for name, value in part.items() if not math.isfinite(value)]
    return found
