"""The process that runs esp-ppq: ``python -m uhd.quantize.worker FOLDER``, or ``--serve`` for many folders.

A process of its own, because esp-ppq's bytes depend on Python's hash seed, which is fixed at start, and because it
prints, changes global state and sets logging as it likes. Answers are JSON lines on standard output; everything that
esp-ppq prints goes to the log file of the folder.

``--serve`` loads torch and esp-ppq once, reads folders from standard input, and does each job in a fork of itself, so
that every job finds what a process of its own would find. A fork's end is told as ``{"ended": exit code}``.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import IO

from uhd.errors import UhdError
from uhd.quantize.job import JobFolder


def _take_stdout(log: Path) -> IO[str]:
    """Send file descriptors 1 and 2 to the log; returns the real standard output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    return answers


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return error


def main(arguments: list[str]) -> int:
    """Do the job of the folder named by the first argument. Returns 0, or 1 after answering with an error."""
    if arguments == ["--serve"]:
        return _serve()
    folder = JobFolder(Path(arguments[0]))
    return _work(folder, _take_stdout(folder.log))


def _serve() -> int:
    answers = _take_stdout(Path(os.devnull))
    import uhd.quantize.engine  # noqa: F401 - what takes seconds
    from uhd.quantize.haste import hasten

    hasten()

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                folder = JobFolder(Path(line.rstrip("\n")))
                _take_stdout(folder.log).close()
                code = _work(folder, answers)
            finally:  # at any price: an orderly end would wait for threads that a fork does not have
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        try:
            answers.write(json.dumps({"ended": code}) + "\n")
            answers.flush()
        except BrokenPipeError:  # nobody listens any more
            os._exit(1)
    return 0


def _work(folder: JobFolder, answers: IO[str]) -> int:
    def answer(**fields: object) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    try:
        answer(step="load", done=0, total=1)  # torch and esp-ppq take seconds
        from uhd.quantize.engine import quantize

        selection, rewrites = quantize(folder, lambda step, done, total: answer(step=step, done=done, total=total))
    except UhdError as error:
        answer(error=type(error).__name__, message=str(error))
        return 1
    except Exception as error:
        traceback.print_exc()
        cause = _root_cause(error)
        text = " ".join(str(cause).split())[:300]
        answer(error="crash", message=f"{type(cause).__name__}: {text}" if text else type(cause).__name__)
        return 1
    answer(int16=selection.int16, notes=selection.notes, rewrites=rewrites)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
