"""Which module is traced for a flavour, and which flavours a model can have."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch

from uhd.errors import ModelError
from uhd.export.fast import Fast
from uhd.export.options import TRANSFORMER_OPSET
from uhd.export.postprocess import Post, Primitive
from uhd.export.record import Flavour, MultiLabel
from uhd.export.wrappers import Parts, Raw, Whole
from uhd.manifest import ModelManifest
from uhd.models import ModelConfig
from uhd.models.detector import Detector
from uhd.models.fakequant import bake_weights
from uhd.models.ultratinyod import UltraTinyOD

Wrapper = Parts | Whole | Primitive | Post | Fast
AnyDetector = TypeVar("AnyDetector", bound=Detector)


def check_architecture(config: ModelConfig, flavour: Flavour, opset: int, name: str) -> None:
    """Raises ``ModelError`` for a flavour that the model ``name`` cannot have."""
    if config.head != "anchor" and flavour not in ("parts", "fast"):
        raise ModelError(
            f"{name}: a {config.head} head has no anchors, which flavour {flavour} is made of",
            hint="take flavour parts or fast",
        )
    if flavour == "whole" and config.arch != "ultratinyod":
        raise ModelError(
            f"{name}: flavour whole is of architecture ultratinyod, not {config.arch}", hint="take flavour raw"
        )
    if config.arch == "transformer" and opset < TRANSFORMER_OPSET:
        raise ModelError(f"{name}: a transformer needs opset {TRANSFORMER_OPSET} or later, not {opset}")


def frozen(model: AnyDetector) -> AnyDetector:
    """A copy to compute with: on the CPU, float32, evaluation mode, low-bit weights rounded once and for all."""
    model = copy.deepcopy(model).to("cpu", torch.float32).eval().requires_grad_(False)
    bake_weights(model)
    return model


def multi_label_mode(config: ModelConfig, manifest: ModelManifest) -> MultiLabel:
    """Whether a cell may give rows of several classes: attributes show in the model, the rest in how it was trained.

    A score mode that does not name the class knows nothing of classes, whatever the training.
    """
    if not {"cls", "hm", "logits"} & set(config.maps_for()):
        return "none"
    if getattr(config, "attr_count", 0):
        return "separate"
    trained = manifest.training.get("config") or manifest.training
    return "single" if trained.get("multi_label_mode") == "single" else "none"


def wrap(
    model: Detector, flavour: Flavour, top_k: int, *, conf: float = 0.0, multi_label: MultiLabel = "none"
) -> Wrapper:
    """The module that is traced, in evaluation mode; see ``check_architecture``."""
    wrapper: Wrapper
    if flavour == "whole":
        assert isinstance(model, UltraTinyOD)
        wrapper = Whole(model)
    elif flavour == "primitive":
        wrapper = Primitive(model)
    elif flavour == "post":
        wrapper = Post(model, top_k, conf=conf, multi_label=multi_label)
    elif flavour == "fast":
        wrapper = Fast(model, top_k, conf=conf, multi_label=multi_label)
    else:
        wrapper = Raw(model) if flavour == "raw" else Parts(model)
    return wrapper.eval()
