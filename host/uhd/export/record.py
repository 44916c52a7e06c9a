"""What a file says of itself beside the manifest: how it is fed, and what its outputs are."""

from __future__ import annotations

import json
from typing import Literal, get_args

import onnx
from pydantic import Field, ValidationError

from uhd.errors import ModelError
from uhd.manifest import Strict
from uhd.models.base import HeadKind

RECORD_KEY = "uhd_export"

Flavour = Literal["parts", "raw", "whole", "primitive", "post", "fast"]
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
ROWS = "score_classid_cxcywh"
"""Output of the flavours with rows: [B,N,6] score, class, cx, cy, w, h; best first, boxes as parts of the input."""
ROW_FLAVOURS: frozenset[Flavour] = frozenset(("post", "fast"))

MultiLabel = Literal["none", "single", "separate"]
"""Classes of a cell's rows: its best; every one, in rows of their own; every one, and every attribute."""


class Port(Strict):
    """An input or output. ``shape`` [B,C,H,W], or what the flavour says."""

    name: str
    shape: list[int]


class ExportRecord(Strict):
    """The description of an exported file, under ``RECORD_KEY`` in its metadata. The manifest describes the model."""

    format_version: Literal[1] = 1
    flavour: Flavour
    head: HeadKind
    input: Port = Field(description="float32, NCHW, 0..1; height and width are the network's own")
    channels: list[str] = Field(description="of the input, in order: red, green, blue; y; or y, uv (u at even columns)")
    dynamic_resize: bool = Field(default=False, description="takes any height and width, and resizes by itself")
    outputs: list[Port]
    fields: list[str] = Field(description="the maps that the file computes, in the order of the raw map's channels")
    score_maps: list[str] = Field(description="those whose sigmoids are multiplied to a score")
    top_k: int | None = Field(default=None, description="rows asked for; there may be fewer cells")
    conf_thresh: float = Field(default=0.0, description="rows below it have score 0")
    multi_label: MultiLabel = "none"

    @property
    def rows(self) -> bool:
        """Whether the only output is rows [B,N,6] score, class, cx, cy, w, h."""
        return self.flavour in ROW_FLAVOURS

    def dumps(self) -> str:
        """Deterministic JSON text on one line."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)


def read_record(model: onnx.ModelProto, source: str) -> ExportRecord | None:
    """The record of a file of ours; None where there is none. Raises ``ModelError`` if it is broken."""
    for prop in model.metadata_props:
        if prop.key == RECORD_KEY:
            try:
                return ExportRecord.model_validate_json(prop.value)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"]) or "JSON"
                raise ModelError(f"{source}: export record key {where}: {first['msg']}") from None
    return None
