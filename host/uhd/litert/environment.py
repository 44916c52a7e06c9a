"""The Python environment of onnx2tf: TensorFlow is large, and its pins clash with esp-ppq's, so it gets its own."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uhd.errors import ConfigError, ToolMissingError
from uhd.files import write_text
from uhd.paths import build_root

#: The version whose flags, file names and offline start are known. It pins TensorFlow and the rest itself.
REQUIREMENT = "onnx2tf==1.29.24"

#: Names the folder, where no option does.
VARIABLE = "UHD_LITERT"

#: Bytes that the environment takes (measured: 2.6 GiB) and that must be free to make it.
SIZE = 2_800_000_000
FREE = 2 * SIZE

#: Written last, with the requirement: an installation that was interrupted has none.
_STAMP = ".uhd-litert"

_LARGE = re.compile(r"Downloading (\S+?)-[^/\s]*\(\d{2,}\.\d MB\)")

Note = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """An environment in ``folder``, complete or not."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def complete(self) -> bool:
        """Whether the known version is all there."""
        stamp = self.folder / _STAMP
        return self.python.exists() and stamp.is_file() and stamp.read_text().strip() == REQUIREMENT

    def versions(self) -> dict[str, str]:
        """Versions of what makes and runs files."""
        return {name: version for name, version in self.packages().items() if name in _TOOLS}

    def packages(self) -> dict[str, str]:
        """Name to version of all that is installed in it."""
        return {found.name: found.version for found in self.distributions()}

    def distributions(self) -> list[importlib.metadata.Distribution]:
        """All that is installed in it, with metadata."""
        places = [str(place) for place in self.folder.glob("lib/python*/site-packages")]
        return list(importlib.metadata.distributions(path=places))

    def variables(self) -> dict[str, str]:
        """Environment variables for its programs: they find each other, and nothing of this environment or a GPU."""
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        path = os.pathsep.join([str(self.python.parent), *filter(None, [kept.get("PATH")])])
        return kept | {
            "PATH": path, "PYTHONNOUSERSITE": "1", "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2",
        }  # fmt: skip


_TOOLS = ("onnx2tf", "tensorflow", "ai-edge-litert")


def default_folder() -> Path:
    """``$UHD_LITERT``, or ``uhd/litert`` in the user's cache folder."""
    stated = os.environ.get(VARIABLE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(stated) if stated else cache / "uhd" / "litert"


def find_environment(folder: Path | None = None) -> Environment:
    """The environment in ``folder`` or the default one. Raises ``ToolMissingError`` if it is not complete."""
    environment = Environment((folder or default_folder()).absolute())
    if not environment.complete:
        there = "is not complete, or of another version" if environment.folder.exists() else "does not exist"
        where = f" --environment {folder}" if folder else ""
        raise ToolMissingError(
            f"the environment of onnx2tf, {environment.folder}, {there}",
            hint=f"make it with `python -m uhd.host litert --install{where}` (about {SIZE / 1e9:.1f} GB)",
        )
    return environment


def install(folder: Path | None = None, note: Note = lambda text: None) -> Environment:
    """Make the environment in ``folder`` or the default one, or complete it; ``note`` hears what is downloaded.

    Raises ``ConfigError`` for a folder with something else in it, ``ToolMissingError`` (with the place of pip's log)
    if there is too little room or pip cannot do it.
    """
    environment = Environment((folder or default_folder()).absolute())
    if environment.complete:
        return environment
    place = environment.folder
    if place.exists() and not (place.is_dir() and ((place / "pyvenv.cfg").exists() or not any(place.iterdir()))):
        raise ConfigError(f"{place}: holds something else than a Python environment", hint="name an empty folder")
    place.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(place).free
    if free < FREE and not environment.python.exists():
        raise ToolMissingError(
            f"{place}: {free / 1e9:.1f} GB free, the environment needs {FREE / 1e9:.1f} GB while it is made",
            hint="name another folder with --environment",
        )
    log = build_root() / "logs" / "litert-install.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    if not any(place.glob("lib/python*/site-packages/pip/__main__.py")):
        _run([sys.executable, "-m", "venv", str(place)], log, note)
    pip = [str(environment.python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _run([*pip, "install", "--progress-bar", "off", REQUIREMENT], log, note)
    write_text(place / _STAMP, REQUIREMENT + "\n")
    return environment


def folder_size(folder: Path) -> int:
    """Bytes of all files below ``folder``."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _run(command: list[str], log: Path, note: Note) -> None:
    """Run it with its output in ``log``; ``note`` hears of large downloads."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    last = ""
    with log.open("a", encoding="utf-8") as written:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            text=True, errors="replace",
        )  # fmt: skip
        with process:
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    written.write(line)
                    last = line.strip() or last
                    if _LARGE.search(line):
                        note(line.strip())
            except BaseException:
                process.kill()
                raise
    if process.returncode != 0:
        raise ToolMissingError(f"cannot install {REQUIREMENT}: {last}", hint=f"the log is {log}")
