"""Which augmentations a run uses: YAML files of the reference's form, presets, and this project's default."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from uhd.errors import ConfigError
from uhd.train.augment.colour import ColourJitter, SingleChroma
from uhd.train.augment.geometry import ZoomCrop
from uhd.train.augment.op import CanvasOp, Op
from uhd.train.augment.registry import OPS, RemoveOutliers
from uhd.train.config import TrainConfig
from uhd.train.config.yaml_file import read_yaml

PRESETS = Path(__file__).parent / "presets"
_PRE, _POST, _ALL = "data_augment_pre", "data_augment_post", "data_augment"


@dataclass(frozen=True)
class AugmentConfig:
    """Operations before (``pre``) and after (``post``) the picture is reduced to the network's size, in order."""

    pre: tuple[Op, ...] = ()
    post: tuple[Op, ...] = ()

    @classmethod
    def default(cls, config: TrainConfig) -> AugmentConfig:
        """The crops and colours that the settings of a run describe."""
        crop = ZoomCrop(
            prob=config.crop_prob, scale=(config.crop_min, config.crop_max), aspect=config.crop_aspect,
            mirror=config.flip_prob, min_visible=config.min_visible,
        )  # fmt: skip
        jitter = ColourJitter(
            channel_gain=config.channel_gain, hue=config.hue, saturation=config.saturation, contrast=config.contrast,
            brightness=config.brightness, grey=config.grey_prob,
        )  # fmt: skip
        return cls((crop,), (jitter, SingleChroma(prob=config.single_chroma)))

    @classmethod
    def of(cls, config: TrainConfig) -> AugmentConfig:
        """The augmentation of a run: of its ``aug_config`` file or preset, else its default. Raises ``ConfigError``."""
        return cls.load(config.aug_config) if config.aug_config else cls.default(config)

    @classmethod
    def load(cls, name: str | Path) -> AugmentConfig:
        """From a YAML file, or a preset: its name, or a path that ends in it and does not exist.

        Raises ``ConfigError`` naming file, key and, for a misspelt one, the nearest.
        """
        path = find_config(name)
        return cls.parse(read_yaml(path), str(path))

    @classmethod
    def parse(cls, values: Any, source: str) -> AugmentConfig:
        """From the plain values of such a file; ``source`` names it in errors. Raises ``ConfigError``."""
        if values is None:
            return cls()
        sections = _sections(values, source)
        return cls(*(_operations(sections[name], source, name) for name in (_PRE, _POST)))

    def mild(self) -> AugmentConfig:
        """For the last, mild epochs: half the range of this project's own operations, the others unchanged."""
        return AugmentConfig(tuple(op.mild() for op in self.pre), tuple(op.mild() for op in self.post))

    def dump(self) -> dict[str, dict[str, Any]]:
        """Plain values that ``parse`` makes an equal object of: what a run records of its augmentation."""
        return {
            name: {type(op).__name__: op.model_dump(mode="json") for op in part}
            for name, part in ((_PRE, self.pre), (_POST, self.post))
        }


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def find_config(name: str | Path) -> Path:
    """The file that ``name`` stands for. An existing file wins over a preset of the same name. ``ConfigError``."""
    path = Path(name)
    if path.is_file():
        return path
    preset = PRESETS / f"{path.name.removesuffix('.yaml').removesuffix('.yml')}.yaml"
    if preset.is_file():
        return preset
    near = _nearest(preset.stem, preset_names())
    raise ConfigError(
        f"{name}: no such augmentation file or preset", hint=near or f"presets: {', '.join(preset_names())}"
    )


def _nearest(word: str, choices: Iterable[str]) -> str:
    lowered = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), lowered, n=1)
    return f"did you mean {lowered[found[0]]!r}?" if found else ""


def _mapping(values: Any, source: str, key: str) -> Mapping[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {key}: expected operations, one a line, such as HorizontalFlip: 0.5")
    return values


def _sections(values: Any, source: str) -> dict[str, Mapping[str, Any]]:
    """The two pipelines; a file of one list is split: what moves pixels or boxes together comes first."""
    top = _mapping(values, source, "the file")
    if _PRE in top or _POST in top:
        for key in top:
            if key not in (_PRE, _POST):
                hint = _nearest(str(key), (_PRE, _POST)) or f"put it into {_PRE} or {_POST}"
                raise ConfigError(f"{source}: {key}: unknown key", hint=hint)
        return {name: _mapping(top.get(name), source, name) for name in (_PRE, _POST)}
    if _ALL in top:
        if len(top) > 1:
            extra = next(key for key in top if key != _ALL)
            raise ConfigError(f"{source}: {extra}: unknown key", hint=f"put it into {_ALL}")
        top = _mapping(top[_ALL], source, _ALL)
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for key, value in top.items():
        kind = OPS.get(key)
        early = kind is not None and issubclass(kind, CanvasOp) and kind is not RemoveOutliers
        (first if early else second)[key] = value
    return {_PRE: first, _POST: second}


def _operations(section: Mapping[str, Any], source: str, name: str) -> tuple[Op, ...]:
    operations = []
    for key, value in section.items():
        kind = OPS.get(key) if isinstance(key, str) else None
        if kind is None:
            hint = _nearest(str(key), (*OPS, _PRE, _POST)) or "see docs/augmentation.md for those there are"
            raise ConfigError(f"{source}: {name}.{key}: unknown augmentation", hint=hint)
        if value is not None:
            operations.append(_operation(kind, value, f"{source}: {name}.{key}"))
    return tuple(operations)


def _operation(kind: type[Op], value: Any, where: str) -> Op:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = {kind.number: value}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: expected its settings, a number, or null to switch it off, not {value!r}")
    try:
        return kind.model_validate(dict(value))
    except ValidationError as failure:
        first = failure.errors()[0]
        key = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            hint = _nearest(key, kind.model_fields) or f"it has {', '.join(kind.model_fields)}"
            raise ConfigError(f"{where}.{key}: unknown key", hint=hint) from None
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{where}.{key}: {message} (given: {first['input']!r})") from None
