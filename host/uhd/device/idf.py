"""The firmware for real chips: finding ESP-IDF and calling its ``idf.py``."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uhd.device.progress import Printer, Progress, run_logged
from uhd.errors import ConfigError, SdkMissingError, UhdError
from uhd.files import sha256_bytes, write_text
from uhd.paths import FIRMWARE, MODEL_COMPONENT, ROOT, committed_component

#: Oldest ESP-IDF that the firmware is written for.
MIN_VERSION = (5, 4)
#: Chips, and the program for this machine that ESP-IDF calls a target too.
IDF_TARGETS = ("esp32s3", "esp32p4", "linux")
#: Name of the CMake project in ``firmware/CMakeLists.txt``, hence of its ELF file.
PROJECT = "uhd"

GET_IDF = "install ESP-IDF 5.4 or later (its Get Started guide) and run `. $IDF_PATH/export.sh` in this shell"

_STEP = re.compile(r"^\[(\d+)/(\d+)\] (.*)")
_ERROR = re.compile(r"\berror: |\bCMake Error\b|undefined reference|overflowed by|No space left")
_ANY_ERROR = re.compile(r"\b(error|fatal|failed|not found|cannot)\b", re.IGNORECASE)
_SUMMARY = re.compile(
    r"ninja failed|build stopped|cmake failed|make: \*\*\*|collect2: error|Configuring incomplete|errors occurred"
)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class IdfEnvironment:
    """An active ESP-IDF. ``command`` starts ``idf.py``; ``version`` is empty where it cannot be told."""

    command: tuple[str, ...]
    path: Path
    version: tuple[int, ...]


def find_idf(environment: Mapping[str, str] = os.environ) -> IdfEnvironment | None:
    """The ESP-IDF that is active in ``environment``: ``idf.py`` on ``PATH``, or ``IDF_PATH``. None without one."""
    script = shutil.which("idf.py", path=environment.get("PATH", ""))
    if script is None and environment.get("IDF_PATH"):
        candidate = Path(environment["IDF_PATH"]) / "tools" / "idf.py"
        script = str(candidate) if candidate.is_file() else None
    if script is None:
        return None
    tree = Path(environment.get("IDF_PATH") or Path(script).resolve().parents[1])
    command: tuple[str, ...] = (script,)
    # A virtual environment that was activated after ESP-IDF's hides the Python that idf.py needs.
    python = Path(environment.get("IDF_PYTHON_ENV_PATH", "")) / "bin" / "python"
    if environment.get("IDF_PYTHON_ENV_PATH") and python.is_file():
        command = (str(python), script)
    return IdfEnvironment(command, tree, _version(tree, environment))


def _version(tree: Path, environment: Mapping[str, str]) -> tuple[int, ...]:
    table = tree / "tools" / "cmake" / "version.cmake"
    if table.is_file():
        found = dict(re.findall(r"set\(IDF_VERSION_(MAJOR|MINOR|PATCH) (\d+)\)", table.read_text(errors="replace")))
        if len(found) == 3:
            return tuple(int(found[part]) for part in ("MAJOR", "MINOR", "PATCH"))
    return tuple(int(part) for part in re.findall(r"\d+", environment.get("ESP_IDF_VERSION", "")))


def require_idf(component: Path, environment: Mapping[str, str] = os.environ) -> IdfEnvironment:
    """``find_idf``, or ``SdkMissingError`` saying what is in place and how to go on."""
    found = find_idf(environment)
    state = f"the component is in place at {component}"
    way_out = "or pass --component-only to stop here"
    if found is None:
        raise SdkMissingError(f"ESP-IDF is not active; {state}", hint=f"{GET_IDF}, {way_out}")
    if found.version and found.version[:2] < MIN_VERSION:
        version = ".".join(map(str, found.version))
        raise SdkMissingError(f"ESP-IDF {version} at {found.path} is too old; {state}", hint=f"{GET_IDF}, {way_out}")
    return found


def build(
    variant: str,
    target: str,
    build_dir: Path,
    *,
    model_dir: Path | None = None,
    progress: Progress | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Path:
    """Build the firmware around a generated model component; returns the ELF file.

    In ``build_dir``: ``idf/`` (ESP-IDF's build folder), ``sdkconfig`` and ``idf.log`` (all of ``idf.py``'s output).
    ``model_dir`` is another component than the committed one of the chip. ``progress`` hears (done, all, what).
    Raises ``SdkMissingError`` where ESP-IDF is not active, ``UhdError`` with the log's last error if the build fails.
    """
    if target not in IDF_TARGETS:
        raise ConfigError(f"ESP-IDF builds no firmware for {target}", hint=f"choose one of {', '.join(IDF_TARGETS)}")
    component = model_dir or committed_component(target)
    idf = require_idf(component, environment)
    if not (component / "CMakeLists.txt").is_file():
        chip = "esp32s3" if target == "linux" else target
        way_out = f"run build-fw --variant {variant} --target {chip} --component-only"
        raise UhdError(f"{component}: no model component", hint=way_out)
    if model_dir is not None and model_dir.resolve().name != MODEL_COMPONENT.name:
        raise ConfigError(
            f"{model_dir}: ESP-IDF knows a component by its folder's name, and the app asks for {MODEL_COMPONENT.name}",
            hint=f"generate it as --component {model_dir / MODEL_COMPONENT.name}",
        )
    build_dir = build_dir.resolve()
    build_dir.mkdir(parents=True, exist_ok=True)
    _drop_stale_config(build_dir, target)
    log = build_dir / "idf.log"
    command = [*idf.command, *_arguments(target, build_dir, model_dir)]
    _run(command, log, {**_clean(environment), "IDF_TARGET": target}, progress, f"for {variant} on {target}")
    elf = build_dir / "idf" / f"{PROJECT}.elf"
    if not elf.is_file():
        raise UhdError(f"idf.py succeeded, but left no {elf}", hint=f"see {log}")
    return elf


def _arguments(target: str, build_dir: Path, model_dir: Path | None) -> list[str]:
    preview = ["--preview"] if target == "linux" else []
    model = [f"-DUHD_MODEL_DIR={model_dir.resolve()}"] if model_dir else []
    return [
        *preview,
        "-C",
        str(FIRMWARE),
        "-B",
        str(build_dir / "idf"),
        f"-DIDF_TARGET={target}",
        f"-DSDKCONFIG={build_dir / 'sdkconfig'}",
        *model,
        "build",
    ]


def flash(
    folder: Path, port: str, baud: int, *, environment: Mapping[str, str] = os.environ, progress: Progress | None = None
) -> None:
    """Let ``idf.py`` flash what it built in ``folder``: the way for a machine with ESP-IDF whose esptool is not found.

    Raises ``SdkMissingError`` where ESP-IDF is not active, ``UhdError`` with the last error if it fails.
    """
    idf = find_idf(environment)
    if idf is None:
        raise SdkMissingError("ESP-IDF is not active", hint=GET_IDF)
    command = [*idf.command, *flash_arguments(folder, port, baud)]
    _run(command, folder / "idf-flash.log", _clean(environment), progress, f"to flash {port}")


def flash_arguments(folder: Path, port: str, baud: int) -> list[str]:
    """What ``idf.py`` is asked to flash a build folder."""
    return ["-C", str(FIRMWARE), "-B", str(folder), "-p", port, "-b", str(baud), "flash"]


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Without what would put this package's Python under ESP-IDF's."""
    return {k: v for k, v in environment.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


def _drop_stale_config(build_dir: Path, target: str) -> None:
    """Set a ``sdkconfig`` aside that was made from other defaults: ESP-IDF would prefer it to today's."""
    files = [ROOT / "sdkconfig.defaults", ROOT / f"sdkconfig.defaults.{target}"]
    today = sha256_bytes(b"\0".join(f.read_bytes() if f.is_file() else b"" for f in files))
    stamp, config = build_dir / "sdkconfig.made-from", build_dir / "sdkconfig"
    if config.exists() and (not stamp.is_file() or stamp.read_text() != today):
        config.replace(config.with_name("sdkconfig.old"))
    write_text(stamp, today)


def _run(command: list[str], log: Path, environment: Mapping[str, str], progress: Progress | None, what: str) -> None:
    """Run idf.py with its output in ``log``. Raises ``UhdError`` with the log's last error."""
    tell = progress or Printer()

    def on_line(line: str) -> None:
        if step := _STEP.match(line):
            tell(int(step[1]), int(step[2]), step[3].strip())

    status = run_logged(command, log, environment, on_line, "is ESP-IDF complete?")
    if status != 0:
        reason = last_error(log.read_text(errors="replace"))
        raise UhdError(f"idf.py failed {what} (exit code {status}): {reason}", hint=f"all of its output is in {log}")


def last_error(output: str) -> str:
    """The last line of a build's output that says what is wrong, on one line with its explanation."""
    lines = [line for line in (_ESCAPES.sub("", raw).strip() for raw in output.splitlines()) if line]
    for pattern in (_ERROR, _ANY_ERROR):
        for i in reversed(range(len(lines))):
            if pattern.search(lines[i]) and not _SUMMARY.search(lines[i]):
                # CMake says where on one line and what on the next one.
                following = lines[i + 1 : i + 2] if lines[i].startswith("CMake Error") else []
                return " ".join([lines[i], *following])
    return lines[-1] if lines else "it said nothing"
