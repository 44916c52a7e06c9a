"""The processes that measure candidates side by side, each with an esp-ppq process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from uhd.device.compile import runtime_sources, twin_sources
from uhd.errors import ConfigError, ModelError, UhdError
from uhd.espdl.reader import read_espdl
from uhd.paths import build_root
from uhd.quantize import child
from uhd.quantize.grid import exponents_of
from uhd.search.candidate import Base, Candidate
from uhd.search.compose import compose
from uhd.search.inputs import Inputs, load_inputs
from uhd.search.journal import Measured
from uhd.search.measure import measure, quantize_all_int16

T = TypeVar("T")

#: Prepared inputs in the work folder.
INPUTS = "inputs.npz"


class Crew:
    """``count`` processes on the inputs saved in ``folder``, which takes their files, too."""

    def __init__(self, folder: Path, count: int, pool: ProcessPoolExecutor) -> None:
        self.folder, self.count, self._pool = folder, count, pool

    def plain_file(self, base: Base) -> Path:
        """The int8 model of a base whose weights are as calibrated: its grid serves all that is built on it."""
        return plain_file(self.folder, base)

    def measure(self, candidates: Sequence[Candidate], heard: Callable[[Measured], None]) -> None:
        """Measure all of them; ``heard`` gets each as it comes.

        Those that build on a grid need the ``plain_file`` of their base to be there, and for int16 ``int16_file``.
        """
        self._all([self._pool.submit(_measure, candidate) for candidate in candidates], heard)

    def prepare_int16(self, equalize: bool) -> str:
        """Make the file whose grid serves all int16 operators, unless it is there; returns why there can be none."""
        said: list[str] = []
        if not int16_file(self.folder, equalize).exists():
            self._all([self._pool.submit(_prepare_int16, equalize)], said.append)
        return "".join(said)

    def _all(self, futures: list[Future[T]], heard: Callable[[T], None]) -> None:
        try:
            for future in as_completed(futures):
                heard(future.result())
        except BrokenExecutor:
            raise UhdError(
                "a process of the search has ended", hint="give the same command again: it goes on"
            ) from None
        finally:
            for future in futures:
                future.cancel()


@contextlib.contextmanager
def open_crew(folder: Path, count: int) -> Iterator[Crew]:
    """A crew that ends with the block. Raises ``ToolMissingError`` without esp-ppq."""
    child.require_esp_ppq()
    _share_objects(folder / "build")
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_start, initargs=(folder, os.getpid()))
    try:
        yield Crew(folder, count, pool)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _share_objects(build: Path) -> None:
    """Link the compiled sources that know no model into another build folder, so that none is compiled again."""
    stems = {source.stem for source in (*runtime_sources(), *twin_sources())}
    store = build / "twin" / "objects"
    store.mkdir(parents=True, exist_ok=True)
    for file in (build_root() / "twin" / "objects").glob("*.o"):
        if file.stem.rpartition("-")[0] in stems:
            with contextlib.suppress(OSError):  # there already, or on another disk
                (store / file.name).hardlink_to(file)


def plain_file(folder: Path, base: Base) -> Path:
    """Where ``Crew.plain_file`` lies."""
    return folder / f"{base.algorithm}{'-equalized' if base.equalize else ''}.espdl"


def int16_file(folder: Path, equalize: bool) -> Path:
    """Where the all-int16 model lies."""
    return folder / f"int16{'-equalized' if equalize else ''}.espdl"


def grid_of(folder: Path, candidate: Candidate, target: str) -> dict[str, tuple[int, ...]]:
    """The exponents of a candidate, from the files of its base and of all int16."""
    int8 = read_espdl(plain_file(folder, candidate.base), target)
    if not candidate.int16:
        return exponents_of(int8)
    int16 = read_espdl(int16_file(folder, candidate.base.equalize), target)
    return compose(int8, exponents_of(int8), int16, frozenset(candidate.int16))


_folder: Path
_inputs: Inputs
_open = contextlib.ExitStack()


def _start(folder: Path, parent: int) -> None:
    """Of a process of the crew: it ends when its parent does, however that ended."""
    global _folder, _inputs
    os.environ["UHD_BUILD"] = str(folder / "build")
    tempfile.tempdir = str(folder)  # what a killed process leaves goes with it
    _folder, _inputs = folder, load_inputs(folder / INPUTS)
    _open.enter_context(child.kept())  # until the process ends, and its pipe with it

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _measure(candidate: Candidate) -> Measured:
    base = candidate.base
    if not candidate.int16 and base == base.plain:
        return measure(_inputs, candidate, plain_file(_folder, base), None)
    keep = _folder / f"{hashlib.sha256(candidate.key.encode()).hexdigest()[:16]}.espdl"
    grid = grid_of(_folder, candidate, _inputs.target)
    found = measure(_inputs, candidate, keep, grid)
    for file in (keep, keep.with_suffix(".json")):
        file.unlink(missing_ok=True)
    return found


def _prepare_int16(equalize: bool) -> str:
    try:
        quantize_all_int16(_inputs, equalize, int16_file(_folder, equalize))
    except (ConfigError, ModelError) as reason:
        return str(reason)
    return ""
