"""Exponents that training found, on their way to the quantizer: in memory, in a manifest, checked against a file.

Keys are what survives an export: ``input`` for the network input, a tensor's name for an activation,
``<operator>:<index>`` for a weight (index 1), and for an input that is requantized for that operator alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uhd.errors import ModelError
from uhd.espdl.model import EspdlModel, Node
from uhd.manifest import ModelManifest
from uhd.quantize.settings import Settings

#: One exponent, or one per output channel, by key.
Exponents = Mapping[str, tuple[int, ...]]

#: Where the record stands in ``ModelManifest.training``.
FIELD = "qat"

INPUT = "input"


def own_key(operator: str, index: int) -> str:
    """Key of what input ``index`` of an operator has for itself."""
    return f"{operator}:{index}"


def int16_patterns(settings: Settings) -> tuple[str, ...]:
    """All patterns that choose int16 operators, a preset's included, in one order."""
    return tuple(sorted({*settings.patterns, *(settings.preset.patterns if settings.preset else ())}))


def dump_exponents(exponents: Exponents) -> dict[str, int | str]:
    """Plain JSON values; exponents of channels as one string, because there are thousands."""
    return {
        key: values[0] if len(values) == 1 else " ".join(map(str, values)) for key, values in sorted(exponents.items())
    }


def parse_exponents(record: Mapping[str, Any]) -> Exponents:
    """The inverse. Raises ``ValueError``, ``TypeError`` or ``AttributeError`` for anything else."""
    exponents = {
        str(key): tuple(int(part) for part in value.split()) if isinstance(value, str) else (int(value),)
        for key, value in record.items()
    }
    if not all(exponents.values()):
        raise ValueError("no exponent")
    return exponents


@dataclass(frozen=True)
class Trained:
    """What a model was trained for, and the grid it was trained on."""

    target: str
    bits: int
    patterns: tuple[str, ...]
    exponents: Exponents

    def obstacle(self, settings: Settings) -> str:
        """Why these exponents do not serve ``settings``; empty if they do."""
        if self.target != settings.target:
            return f"for target {self.target}"
        if self.bits != settings.bits:
            return f"for {self.bits} bits"
        if self.patterns != int16_patterns(settings):
            return f"with int16 patterns {', '.join(self.patterns) or '(none)'}"
        return "without layerwise equalization" if settings.equalize else ""

    def dump(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "target": self.target,
            "bits": self.bits,
            "patterns": list(self.patterns),
            "exponents": dump_exponents(self.exponents),
        }


def trained_of(manifest: ModelManifest) -> Trained | None:
    """The record that a manifest carries, if it does. Raises ``ModelError`` if it is malformed."""
    record = manifest.training.get(FIELD)
    if not isinstance(record, dict) or "exponents" not in record:
        return None
    try:
        exponents = parse_exponents(record["exponents"])
        return Trained(str(record["target"]), int(record["bits"]), tuple(map(str, record["patterns"])), exponents)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{manifest.name}: manifest key training.{FIELD} is malformed ({error})") from None


def without_exponents(manifest: ModelManifest) -> ModelManifest:
    """The manifest for a .espdl, which holds the exponents itself."""
    record = manifest.training.get(FIELD)
    if not isinstance(record, dict):
        return manifest
    short = {key: value for key, value in record.items() if key != "exponents"}
    return manifest.model_copy(update={"training": {**manifest.training, FIELD: short}})


def choose_exponents(manifest: ModelManifest, settings: Settings) -> tuple[Exponents | None, str]:
    """The exponents to use instead of calibration (None: calibrate), and a remark for the user (or nothing)."""
    if settings.exponents is not None:
        return settings.exponents, "the exponents given are used; nothing is calibrated"
    trained = trained_of(manifest)
    if trained is None:
        return None, ""
    if settings.recalibrate:
        return None, "the model carries exponents found by training: as asked, they are not used"
    obstacle = trained.obstacle(settings)
    if obstacle:
        return None, f"the model was trained {obstacle}: its exponents do not serve here, so they are calibrated"
    count = len(trained.exponents)
    return trained.exponents, f"the {count} exponents found by training are used; nothing is calibrated"


def activation_keys(model: EspdlModel) -> dict[tuple[str, int], str]:
    """The key of every activation that a node reads, by node name and input index."""
    makers = {output: node for node in model.nodes for output in node.outputs}
    keys: dict[tuple[str, int], str] = {}
    for node in model.nodes:
        for index, name in enumerate(node.inputs):
            if not name or model.tensors[name].data is not None:
                continue
            maker = makers.get(name)
            private = maker is not None and maker.op == "RequantizeLinear"
            keys[node.name, index] = own_key(node.name, index) if private else INPUT if maker is None else name
    return keys


def require_exponents(model: EspdlModel, exponents: Exponents, source: str) -> None:
    """Raise ``ModelError`` unless every activation and filter of ``model`` lies on the grid it was trained on."""
    keys = activation_keys(model)
    for node in model.nodes:
        for index, name in enumerate(node.inputs):
            if (node.name, index) in keys:
                _require(node, keys[node.name, index], model.tensors[name].exponents, exponents, source)
        if node.op == "Conv":
            _require(node, own_key(node.name, 1), model.tensors[node.inputs[1]].exponents, exponents, source)
        if node.op != "RequantizeLinear":
            for name in node.outputs:
                _require(node, name, model.tensors[name].exponents, exponents, source)


def _require(node: Node, key: str, found: tuple[int, ...], exponents: Exponents, source: str) -> None:
    wanted = exponents.get(key)
    if wanted is None:
        raise ModelError(
            f"{source}: operator {node.name}: training found no exponent for {key}",
            hint="the exponents belong to another model; quantize a model without them, or train again",
        )
    if set(wanted) != set(found) or (len(wanted) == len(found) and wanted != found):
        shown = [" ".join(map(str, values[:4])) for values in (found, wanted)]
        raise ModelError(f"{source}: operator {node.name}: {key} got exponent {shown[0]} instead of {shown[1]}")
