"""Settings from several places: a resumed run, a file, the command line. What comes later wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uhd.train.config.defaults import ARCHITECTURE_FLAGS, variant_settings
from uhd.train.config.parse import parse_train_config, refuse_unknown
from uhd.train.config.schema import TrainConfig

#: Setting -> settings of earlier layers that were chosen for another value of it.
_REPLACES: dict[str, tuple[str, ...]] = {
    "variant": tuple(ARCHITECTURE_FLAGS | variant_settings("R").keys()),
    "anchors": ("num_anchors",),
    "images": ("train_list", "image_dir"),
    "val": ("val_list", "image_dir"),
    "train_list": ("images",),
    "val_list": ("val",),
    "output": ("exp_name",),
    "exp_name": ("output",),
    "ckpt": ("resume",),
    "resume": ("ckpt", "ckpt_non_strict"),
}


def combine(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> TrainConfig:
    """The configuration of ``layers`` (name of the place, settings), the last of which wins.

    A setting takes with it what earlier layers chose along with another value of it: a ``variant`` on the command
    line replaces the architecture of a file. Raises ``ConfigError`` naming the place and the key.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, layer in layers:
        refuse_unknown(layer, source)
        for name in layer:
            if values.get(name) != layer[name]:
                for other in _REPLACES.get(name, ()):
                    values.pop(other, None)
        values |= layer
        origin |= dict.fromkeys(layer, source)
    return parse_train_config(values, layers[-1][0] if layers else "train", origin)
