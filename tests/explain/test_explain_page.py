"""The page of an explanation: valid, self-contained, safe with any name, with the figures of the JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.float_twin import float_twin
from support.made_models import Maker, random_inputs
from support.report_runs import Page
from uhd.explain.accuracy import Accuracy, Cost, Costs
from uhd.explain.charts import short_name
from uhd.explain.explanation import Explanation
from uhd.explain.floating import FloatModel, as_planes
from uhd.explain.inputs import Subject
from uhd.explain.page import data, render, write_page
from uhd.explain.study import Picture, study
from uhd.manifest import ModelManifest
from uhd.predict.chips import chip
from uhd.predict.latency import predict
from uhd.predict.memory import memory_need
from uhd.predict.workload import workload

HOSTILE = "<img src=x onerror=alert(1)>&\"'\x07"


def made(folder: Path, *, hostile: bool = False, with_float: bool = True) -> Explanation:
    """An explanation of a made model, its costs made up."""
    maker = Maker(11, "esp32s3")
    x = maker.conv(maker.input(8, 8, 4), 8, (3, 3), pads=(1, 1, 1, 1))
    wide = maker.requantize(x, -6, bits=16)
    x = maker.conv(maker.requantize(wide, 6, bits=8), 16)
    model = maker.model(maker.conv(x, 4, relu=False))
    proto = float_twin(model)
    if hostile:
        nodes = list(model.nodes)
        nodes[0] = dataclasses.replace(nodes[0], name=HOSTILE)
        nodes[1] = dataclasses.replace(nodes[1], name="</svg><script>alert(1)</script>")
        model = dataclasses.replace(model, nodes=tuple(nodes))
    floating = FloatModel(proto, model) if with_float else None
    rng = np.random.default_rng(4)
    integers = [random_inputs(model, rng)[model.inputs[0]] for _ in range(3)]
    pictures = [Picture(value, as_planes(value, -7).astype(np.float32)) for value in integers]
    layers = study(model, floating, pictures)
    prediction = predict(workload(model), chip("esp32s3"))
    for place, (layer, time) in enumerate(zip(layers, prediction.ops, strict=True)):
        layer.time = time
        if with_float and place != 1:
            layer.cost = Cost(0.0123 * (1 - place), 0.004 * place, 0.0031)
    name = HOSTILE if hostile else "made <model> & co"
    subject = Subject(model, ModelManifest(name=name), floating, Path(HOSTILE) if with_float else None, (HOSTILE,))
    file = folder / "model.espdl"
    file.write_bytes(maker.file())
    costs = Costs(50, 120, Accuracy(0.3141, 0.1234), Accuracy(0.3021, 0.1111), Cost(0.012, 0.0123, 0.0044))
    need = memory_need(model, file, "esp32s3")
    return Explanation(subject, 3, with_float, tuple(layers), costs if with_float else None, prediction, need)


def page_of(explanation: Explanation, command: str = "") -> tuple[Page, str]:
    text = render(explanation, command)
    page = Page(text)
    assert page.errors == []
    assert len(page.ids) == len(set(page.ids))
    return page, text


def table_numbers(figures: dict[str, Any]) -> Iterator[float]:
    """The figures that the page must hold, by hand from the JSON."""
    for layer in figures["layers"]:
        keys = (
            "sqnr_db",
            "own_sqnr_db",
            "sums_sqnr_db",
            "filter_sqnr_db",
            "maps_sqnr_db",
            "predicted_ms",
            "parameter_bytes",
            "bits",
        )
        found = [layer[key] for key in (*keys, "output_bytes")]
        found += [layer["integers"][key] for key in ("lowest", "highest", "used_bits")]
        found += [100 * layer["integers"][key] for key in ("at_lowest", "at_highest")]
        found += [(layer["cost"] or {}).get(key) for key in ("map50", "map50_error")]
        found += [(layer["accumulator"] or {}).get(key) for key in ("bound_headroom", "reached_headroom")]
        yield from (value for value in found if value is not None)
    yield figures["predicted"]["total_ms"]
    yield from (buffer["bytes"] for buffer in figures["predicted"]["buffers"])
    if figures["map"]:
        yield figures["map"]["integers"]["map50"]


@pytest.mark.parametrize("with_float", [True, False])
def test_figures_are_those_of_the_json(tmp_path: Path, with_float: bool) -> None:
    explanation = made(tmp_path, with_float=with_float)
    figures = json.loads(json.dumps(explanation.as_dict()))
    page, text = page_of(explanation)
    shown = {float(value) for value, _ in page.data if value}
    missing = [value for value in table_numbers(figures) if float(value) not in shown]
    assert not missing
    assert text.count("<figure") == len(figures["layers"]) + (2 if with_float else 0)
    assert ("Signal to quantization noise" in page.words) is with_float
    assert len(figures["without_partner"]) == (0 if with_float else len(figures["layers"]))


def test_what_people_read_is_the_value_rounded(tmp_path: Path) -> None:
    page, _ = page_of(made(tmp_path))
    decimals = [(value, shown) for value, shown in page.data if re.fullmatch(r"[+−]?\d+\.\d+", shown)]
    assert len(decimals) > 20
    for exact, shown in decimals:
        places = len(shown.partition(".")[2])
        assert float(exact) == pytest.approx(float(shown.replace("−", "-")), abs=0.51 * 10**-places)
    assert str(data(None)) == '<data value="">–</data>'


def test_needs_nothing_from_outside_and_escapes_what_it_shows(tmp_path: Path) -> None:
    explanation = made(tmp_path, hostile=True)
    page, text = page_of(explanation, f"python -m uhd.host explain '{HOSTILE}'")
    assert not re.search(r"https?://|@import|url\(|<script|\x07", text)
    assert {"img", "script", "iframe", "link"}.isdisjoint(page.tags) and not page.links
    clean = HOSTILE.replace("\x07", "\N{REPLACEMENT CHARACTER}")
    assert page.words.count(clean) >= 3, "in the title, a warning and the command"
    assert "color-scheme: light dark" in text and "prefers-color-scheme: dark" in text
    write_page(tmp_path / "deep" / "page.html", explanation, f"python -m uhd.host explain '{HOSTILE}'")
    assert (tmp_path / "deep" / "page.html").read_text(encoding="utf-8") == text


@pytest.mark.parametrize(("name", "short"), [
    ("/backbone/stem/conv/Conv", "backbone/stem"),
    ("/depthwiseconv/box_tower/box_tower.0/dw/conv/Conv", "box_tower.0/dw"),
    ("/head_se/Mul", "head_se/Mul"),
    ("/Conv", "Conv"),
    ("PPQ_Operation_3", "PPQ_Operation_3"),
    ("", ""),
    ("/a" + "b" * 60 + "/end", "…" + "b" * 31 + "/end"),
])  # fmt: skip
def test_short_names(name: str, short: str) -> None:
    assert short_name(name) == short
