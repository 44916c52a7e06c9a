"""Everything that is written from one model, as digests: to be the same wherever it is written.

As a program it prints the digests as JSON, after taking over the locale of its environment as a program with a window
does: C libraries then write numbers with that locale's decimal point.
"""

from __future__ import annotations

import hashlib
import json
import locale
import sys
from pathlib import Path


def written(folder: Path) -> dict[str, str]:
    """SHA-256 of an ONNX file of each flavour and of every file of a generated component, by name."""
    from support.components import detector_manifest, made_detector
    from support.flavours import exported
    from uhd.codegen import generate

    files = {flavour: exported(flavour) for flavour in ("parts", "raw", "post")}
    model, content = made_detector()
    generate(model, content, detector_manifest(model), folder / "uhd_model")
    files |= {path.name: path for path in sorted((folder / "uhd_model").rglob("*")) if path.is_file()}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


if __name__ == "__main__":
    locale.setlocale(locale.LC_ALL, "")
    digests = written(Path(sys.argv[1]))
    print(json.dumps({"digests": digests, "point": locale.localeconv()["decimal_point"]}))
