"""Settings as a YAML file: plain values only, no key twice, and nothing that is read as what it was not written as."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from uhd.errors import ConfigError
from uhd.files import write_text
from uhd.train.config.schema import GROUPS

if TYPE_CHECKING:
    from uhd.train.config.schema import TrainConfig

# YAML 1.1, which the library reads by default, takes `on`, `1:20` and `2024-01-01` for a boolean, a number and a date,
# and `1e-3` for a text. These are the rules of YAML 1.2, the same for reading and for writing.
_RULES: tuple[tuple[str, str, str], ...] = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN\0"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
)


#: Settings are two levels deep. What is far beyond would end in Python's limit of recursion, wherever that is set.
_DEEPEST = 64


class _TooDeep(Exception):
    pass


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise _TooDeep
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = set()
        for key_node, _ in node.value:
            key = str(key_node.value)
            if key in keys and key != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} comes twice", key_node.start_mark)
            keys.add(key)
        return super().construct_mapping(node, deep=deep)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)))  # decimal, where YAML 1.1 reads 010 as 8


for _tag, _pattern, _first in _RULES:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first])
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file (dicts, lists, numbers, texts, booleans, ``None``).

    Raises ``ConfigError``, one line with the place, for anything else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the settings ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file", hint="settings are lines of key: value") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """As ``read_yaml``, from a text; ``source`` names it in errors."""
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{line}: not YAML ({_short(error.problem or error.context)})") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ConfigError(f"{source}: not YAML ({_short(error)})") from None
    except _TooDeep:
        raise ConfigError(f"{source}: nested too deeply", hint="settings are lines of key: value") from None


def _short(reason: object) -> str:
    return " ".join(str(reason).split())[:120]


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a YAML file, keys with dashes or underscores alike, not yet checked. Raises ``ConfigError``."""
    return plain_settings(read_yaml(path), str(path))


def plain_settings(values: Any, source: str) -> dict[str, Any]:
    """``values`` as a mapping of setting names. Raises ``ConfigError`` if it is none, or a key comes twice."""
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: not settings", hint="write lines of key: value, such as lr: 0.004")
    settings: dict[str, Any] = {}
    for key, value in values.items():
        name = key.replace("-", "_") if isinstance(key, str) else key
        if name in settings:
            raise ConfigError(f"{source}: {name}: comes twice", hint="remove one")
        settings[name] = value
    return settings


def to_yaml(config: TrainConfig) -> str:
    """All settings by section; ``read_settings`` and ``parse_train_config`` make an equal object of it."""
    values: Mapping[str, Any] = config.model_dump(mode="json")
    lines = []
    for group in GROUPS:
        part = {name: values[name] for name in group.model_fields}
        body = yaml.dump(part, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
        lines.append(f"# {(group.__doc__ or '').strip()}\n{body}")
    return "\n".join(lines)


def save_yaml(path: Path, config: TrainConfig) -> None:
    """Write ``to_yaml`` atomically."""
    write_text(path, to_yaml(config))
