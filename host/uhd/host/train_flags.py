"""The flags of ``train``: one for each setting, shown by section, accepted with dashes and underscores alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from uhd.errors import ConfigError
from uhd.train.config.describe import Setting, sections
from uhd.train.config.shortcuts import SHORTCUTS

_NONE = object()


class _Value(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A setting's value; ``none`` unsets one whose default is none. Ranges are checked with the whole configuration."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.name = {"int": "number", "float": "number"}.get(setting.kind, "text")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        if self.setting.optional and value.strip().lower() in ("none", "null"):
            return _NONE
        if self.setting.name == "resume":
            return True if value == _SAME_FOLDER else value
        try:
            return {"int": int, "float": float}.get(self.setting.kind, str)(value)
        except ValueError:
            kind = "whole number" if self.setting.kind == "int" else "number"
            self.fail(f"{value[:60]!r} is not a {kind}", param, ctx)


class SectionedCommand(click.Command):
    """A command whose help shows the settings by section."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {
            "token_normalize_func": lambda token: token.replace("_", "-"),
            "help_option_names": ["-h", "--help"],
            "max_content_width": 120,
        }

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        named = {param.name: param for param in self.get_params(ctx)}
        settings = {s.name for group in sections().values() for s in group}
        shortcuts = {_shortcut_name(flag) for flag, _, _ in SHORTCUTS}
        first = [param for name, param in named.items() if name not in settings | shortcuts]
        self._section(ctx, formatter, "Options", first)
        for title, group in sections().items():
            params = [named[setting.name] for setting in group if setting.name in named]
            self._section(ctx, formatter, title, params)
        short = [named[name] for name in named if name in shortcuts]
        self._section(ctx, formatter, "Short forms", short)

    def _section(
        self, ctx: click.Context, formatter: click.HelpFormatter, title: str, params: list[click.Parameter]
    ) -> None:
        rows = [row for param in params if (row := param.get_help_record(ctx)) is not None]
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows, col_max=34)


_SAME_FOLDER = "\0"


def setting_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with a flag for each setting and the short forms."""
    options = [_option(setting) for group in sections().values() for setting in group]
    for flag, name, value in SHORTCUTS:
        text = f"--{name.replace('_', '-')} {value}"
        options.append(click.option(flag, _shortcut_name(flag), is_flag=True, default=None, help=text))
    for option in reversed(options):
        command = option(command)
    return command


def _option(setting: Setting) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    text = f"{setting.description}  [{setting.notes}]"
    if setting.kind == "switch":
        return click.option(f"{setting.flag}/--no-{setting.flag[2:]}", setting.name, default=None, help=text)
    extra: dict[str, Any] = {}
    if setting.name == "resume":
        extra = {"is_flag": False, "flag_value": _SAME_FOLDER, "metavar": "[PATH]"}
    elif setting.choices:
        extra = {"metavar": f"[{'|'.join(setting.choices)}]"}
    if setting.kind == "texts":
        extra["multiple"] = True
    return click.option(setting.flag, setting.name, type=_Value(setting), default=None, help=text, **extra)


def _shortcut_name(flag: str) -> str:
    return "short_" + flag[2:].replace("-", "_").lower()


def given_settings(values: dict[str, Any]) -> dict[str, Any]:
    """The settings that the command line gives, of what click parsed. Raises ``ConfigError`` for two short forms."""
    given = {name: value for name, value in values.items() if not name.startswith("short_")}
    given = {name: value for name, value in given.items() if value is not None and value != ()}
    flags = {name: f"--{name.replace('_', '-')}" for name in given}
    for flag, name, value in SHORTCUTS:
        if not values.get(_shortcut_name(flag)):
            continue
        if name in flags:
            raise ConfigError(f"{flag} and {flags[name]} say the same", hint="give one of them")
        flags[name], given[name] = flag, value
    return {name: None if value is _NONE else value for name, value in given.items()}
