"""``docs/train-flags.md``: every setting as a table row, made from the schema.

``python -m uhd.train.config.document FILE`` writes it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from uhd.files import write_text
from uhd.train.config.describe import Setting, sections
from uhd.train.config.shortcuts import SHORTCUTS

_HEAD = """# Flags of `train`

Every setting is a flag of `python -m uhd.host train`, a key of a `--config` file (with underscores: `iou_loss`), and
an entry of the run's `config.yaml`. Flags win over the file. In flags, `_` and `-` are the same. A switch has a
`--no-` form. `none` unsets a setting whose default is none.

The defaults of *Architecture* hold where a setting of the architecture is given and no `--variant`; otherwise the
variant's do (without either: variant R), and settings given beside `--variant` win over it.

This file is made from the settings' definition: `python -m uhd.train.config.document docs/train-flags.md`.
"""


def document() -> str:
    """The text of the file."""
    parts = [_HEAD]
    for title, settings in sections().items():
        rows = "\n".join(_row(setting) for setting in settings)
        parts.append(f"## {title}\n\n| flag | value | default | meaning |\n|---|---|---|---|\n{rows}\n")
    shortcuts = "\n".join(f"| `{flag}` | `--{name.replace('_', '-')} {value}` |" for flag, name, value in SHORTCUTS)
    parts.append(f"## Short forms\n\n| flag | the same as |\n|---|---|\n{shortcuts}\n")
    return "\n".join(parts)


def _row(setting: Setting) -> str:
    kinds = {"int": "whole number", "float": "number", "text": "text", "texts": "text, repeatable"}
    if setting.kind == "switch":
        value = "switch"
    elif setting.choices:
        value = ", ".join(f"`{choice}`" for choice in setting.choices)
    else:
        value = " ".join(part for part in (kinds[setting.kind], setting.limits) if part)
    return f"| `{setting.flag}` | {value} | {setting.default} | {setting.description.replace('|', chr(92) + '|')} |"


if __name__ == "__main__":
    write_text(Path(sys.argv[1]), document())
