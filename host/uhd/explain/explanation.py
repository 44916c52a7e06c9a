"""The whole explanation of a .espdl as plain data: what the table, the page and ``--json`` show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uhd.espdl.lint import lint
from uhd.explain.accuracy import Costs, layer_costs
from uhd.explain.inputs import Subject, choose, evenly, picture
from uhd.explain.study import LayerStudy, Picture, Track, study
from uhd.predict.chips import chip_with
from uhd.predict.latency import Prediction, predict
from uhd.predict.memory import MemoryNeed, memory_need
from uhd.predict.workload import workload

#: Photos for ranges and ratios, and for mAP, unless asked otherwise.
PHOTOS, MAP_PHOTOS = 64, 200


@dataclass(frozen=True)
class Explanation:
    """``layers`` in the order in which they run; ``costs`` None if mAP was not asked for or there is no float model."""

    subject: Subject
    photos: int
    labelled: bool
    layers: tuple[LayerStudy, ...]
    costs: Costs | None
    prediction: Prediction
    memory: MemoryNeed

    @property
    def warnings(self) -> tuple[str, ...]:
        """Doubts about the comparison, sums that overflow, then what the file itself says that its chip will not do, or
        do slowly."""
        sums = (line for layer in self.layers for line in _overflow(layer, self.photos))
        return (*self.subject.warnings, *sums, *lint(self.subject.model))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        model, costs = self.subject.model, self.costs
        return {
            "model": self.subject.manifest.name,
            "sha256": model.sha256,
            "target": model.target,
            "float": str(self.subject.float_source) if self.subject.float_source else None,
            "photos": self.photos,
            "labelled": self.labelled,
            "map": None
            if costs is None
            else {
                "photos": costs.pictures,
                "boxes": costs.boxes,
                "float": asdict(costs.floating) if costs.floating else None,
                "integers": asdict(costs.integers) if costs.integers else None,
                "cost": asdict(costs.whole) if costs.whole else None,
            },
            "predicted": {
                "chip": self.prediction.chip.name,
                "fitted": self.prediction.chip.fitted,
                "basis": self.prediction.chip.basis,
                "weights_in": self.prediction.placement.weights,
                "total_ms": self.prediction.total_ms,
                "board": self.memory.board.name,
                "fits": self.memory.fits,
                "buffers": [asdict(buffer) for buffer in self.memory.buffers],
            },
            "layers": [layer_dict(number, layer) for number, layer in enumerate(self.layers, start=1)],
            "without_partner": {s.layer.name: s.no_partner for s in self.layers if s.no_partner},
            "warnings": list(self.warnings),
        }


def _overflow(item: LayerStudy, photos: int) -> Iterator[str]:
    """What the photos say of a layer whose sums could overflow."""
    sums, on = item.accumulator, f"on {photos} photos"
    if sums is None or max(sums.bound, sums.partial) <= sums.limit:
        return
    if sums.reached > sums.limit:
        yield f"{item.layer.name}: a sum reached {sums.reached:,} {on}, a lane holds {sums.limit:,}: the chip overflows"
    elif sums.partial > sums.limit:
        yield f"{item.layer.name}: a partial sum can reach {sums.partial:,} {on}, a lane holds {sums.limit:,}"
    else:
        yield f"{item.layer.name}: no sum passed {sums.partial:,} {on}, a lane holds {sums.limit:,}"


def layer_dict(number: int, item: LayerStudy) -> dict[str, Any]:
    """One layer as plain data; ``number`` counts from 1 in the order in which layers run."""
    layer, spread, sums, time = item.layer, item.spread, item.accumulator, item.time
    return {
        "number": number,
        "name": layer.name,
        "op": layer.op,
        "bits": layer.bits,
        "what": layer.note,
        "output_shape": list(layer.output_shape),
        "exponents": {"input": layer.input_exponent, "filter": layer.weight_exponents, "output": layer.output_exponent},
        "partner": item.partner,
        "integers": asdict(spread) | {"histogram": list(spread.histogram)},
        "sqnr_db": item.sqnr,
        "own_sqnr_db": item.own_sqnr,
        "sums_sqnr_db": item.sums_sqnr,
        "filter_sqnr_db": item.filter_sqnr,
        "maps_sqnr_db": item.maps_sqnr,
        "cost": asdict(item.cost) if item.cost else None,
        "accumulator": None
        if sums is None
        else asdict(sums) | {"bound_headroom": sums.bound_headroom, "reached_headroom": sums.reached_headroom},
        "predicted_ms": time.total_ms if time else None,
        "parameter_bytes": layer.parameter_bytes,
        "input_bytes": time.op.input_bytes if time else None,
        "output_bytes": time.op.output_bytes if time else None,
    }


def explain(
    file: Path,
    subject: Subject,
    photos: Path,
    *,
    limit: int = PHOTOS,
    map_photos: int = MAP_PHOTOS,
    rates: Path | None = None,
    track: Track | None = None,
) -> Explanation:
    """Explain the .espdl ``file`` of ``subject`` on ``photos``, a folder or a list file.

    ``limit`` photos, evenly spread, give ranges and ratios; ``map_photos`` of them, 0 for none, give the costs.
    ``rates``: a file of rates to predict times with.
    """
    name = subject.model.target if subject.model.target != "c" else "esp32s3"
    board = chip_with(name, rates)
    samples, labelled = choose(photos, subject.manifest)
    chosen = [picture(sample, subject)[0] for sample in evenly(samples, limit)]
    layers = study(subject.model, subject.floating, chosen, track)
    costs = None
    if subject.floating and map_photos:
        pairs = [picture(sample, subject) for sample in evenly(samples, map_photos)]
        truth = [boxes for _, boxes in pairs] if labelled else None
        pictures: Sequence[Picture] = [seen for seen, _ in pairs]
        costs = layer_costs(subject.model, subject.floating, subject.manifest, layers, pictures, truth, track)
    prediction = predict(workload(subject.model), board)
    for layer, time in zip(layers, prediction.ops, strict=True):
        layer.time = time
    memory = memory_need(subject.model, file, name)
    return Explanation(subject, len(chosen), labelled, tuple(layers), costs, prediction, memory)
