"""Running the quantizing process and listening to it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uhd import errors
from uhd.errors import ModelError, ToolMissingError, UhdError
from uhd.paths import PACKAGE, build_root
from uhd.quantize.job import ESP_PPQ_VERSION, JobFolder

Progress = Callable[[str, int, int], None]

_ERRORS: dict[str, type[UhdError]] = {"ConfigError": errors.ConfigError, "ModelError": errors.ModelError}


@dataclass(frozen=True)
class Answer:
    """What the process did: names of the int16 operators in its graph, remarks, rewrites of the float graph."""

    int16: tuple[str, ...]
    notes: tuple[str, ...]
    rewrites: tuple[str, ...]


def require_esp_ppq() -> None:
    """Raises ``ToolMissingError`` unless the one known version of esp-ppq is installed."""
    hint = f"run `pip install esp-ppq=={ESP_PPQ_VERSION}`"
    try:
        version = importlib.metadata.version("esp-ppq")
    except importlib.metadata.PackageNotFoundError:
        raise ToolMissingError("esp-ppq is not installed", hint=hint) from None
    if version != ESP_PPQ_VERSION:
        raise ToolMissingError(f"esp-ppq {version} is installed, but only {ESP_PPQ_VERSION} is known", hint=hint)


def _environment() -> dict[str, str]:
    """One thread and a fixed hash seed: esp-ppq orders constants by Python's string hash."""
    return {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


#: The process of ``kept``, while there is one.
_kept: subprocess.Popen[str] | None = None


def _start(argument: str, stdin: int, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "uhd.quantize.worker", argument],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=stdin,
        cwd=folder,
        env=_environment(),
        text=True,
    )


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """While inside, one process quantizes all jobs of this one, each in a fork: loading esp-ppq takes seconds.

    It loads while this process does something else. The files are those that ``run`` gives otherwise. Inside another
    ``kept`` it changes nothing, and elsewhere than on Linux, where a fork may not use what was loaded before it.
    Raises ``ToolMissingError`` without esp-ppq.
    """
    global _kept
    require_esp_ppq()
    if _kept is not None or sys.platform != "linux":
        yield
        return
    with _start("--serve", subprocess.PIPE, Path.cwd()) as process:
        _kept = process
        try:
            yield
        finally:
            _kept = None
            process.kill()


def run(folder: JobFolder, source: Path, progress: Progress | None) -> Answer:
    """Quantize the job in ``folder``; ``source`` is the user's file, for messages.

    Raises what the process answered, or ``ModelError`` with the place of its log if it broke down.
    """
    require_esp_ppq()
    if _kept is not None:
        return _run_kept(_kept, folder, source, progress)
    last: dict[str, Any] = {}
    with _start(str(folder.root), subprocess.DEVNULL, folder.root) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            for line in process.stdout:
                last = _heard(line, progress)
            start_up = process.stderr.read()
        except BaseException:
            process.kill()
            raise
    return _answer(last, process.returncode, folder, source, start_up)


def _run_kept(process: subprocess.Popen[str], folder: JobFolder, source: Path, progress: Progress | None) -> Answer:
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    last: dict[str, Any] = {}
    start_up = ""
    try:
        process.stdin.write(f"{folder.root}\n")
        process.stdin.flush()
        ended = None
        while ended is None and (line := process.stdout.readline()):
            if line.startswith('{"ended": '):
                ended = int(json.loads(line)["ended"])
            else:
                last = _heard(line, progress)
        if ended is None:
            start_up = process.stderr.read()
    except BrokenPipeError:
        ended, start_up = None, process.stderr.read()
    except BaseException:
        process.kill()  # its next line would be one of this job
        raise
    return _answer(last, process.wait() if ended is None else ended, folder, source, start_up)


def _heard(line: str, progress: Progress | None) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(line)
    if "step" in said and progress is not None:
        progress(said["step"], said["done"], said["total"])
    return said


def _answer(last: dict[str, Any], code: int, folder: JobFolder, source: Path, start_up: str) -> Answer:
    if code == 0 and "int16" in last:
        return Answer(tuple(last["int16"]), tuple(last["notes"]), tuple(last["rewrites"]))
    if last.get("error") in _ERRORS:
        raise _ERRORS[last["error"]](f"{source}: {last['message']}")
    raise _breakdown(folder, source, code, last, start_up)


def _breakdown(folder: JobFolder, source: Path, code: int, last: dict[str, Any], start_up: str) -> ModelError:
    """The process failed in a way nobody foresaw: keep its log."""
    if last.get("error") == "crash":
        reason = str(last["message"])
    elif code < 0:
        reason = f"the process was ended by {signal.Signals(-code).name}"
    else:
        reason = f"the process ended with code {code}"
    kept = build_root() / "logs" / f"quantize-{source.stem}.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if folder.log.exists():
        shutil.copyfile(folder.log, kept)
    with kept.open("a", encoding="utf-8") as log:
        log.write(start_up)
    return ModelError(f"{source}: esp-ppq could not quantize it: {reason}", hint=f"its log is {kept}")
