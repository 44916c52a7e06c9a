"""The picture between two tasks, and the record that counts failed starts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.idf_project import COMPONENTS, host_compiler

INCLUDES = [f"-I{COMPONENTS / name / 'include'}" for name in ("uhd_core", "uhd_runtime")]

#: Two threads for as many pictures as asked: each picture is given back exactly once, and never an older one is taken.
TWO_TASKS = """
#include <stdio.h>
#include <stdlib.h>
#include <thread>
#include <vector>
#include "uhd/newest.hpp"
int main(int, char** argv) {
  const long count = atol(argv[1]);
  uhd::NewestFrame newest;
  std::vector<unsigned char> returned(count + 1);
  uint64_t taken = 0;
  bool done = false;
  std::thread consumer([&] {
    uint64_t last = 0;
    uhd::CameraFrame frame;
    for (bool end = false; !end;) {
      end = __atomic_load_n(&done, __ATOMIC_ACQUIRE);
      while (newest.take(&frame)) {
        if (frame.captured_us <= last || frame.size != static_cast<uint32_t>(3 * frame.captured_us)) abort();
        last = frame.captured_us;
        returned[last]++;
        taken++;
      }
    }
  });
  uint64_t dropped = 0;
  for (long i = 1; i <= count; i++) {
    uhd::CameraFrame frame = {}, old;
    frame.captured_us = static_cast<uint64_t>(i);
    frame.size = static_cast<uint32_t>(3 * i);
    if (newest.put(frame, &old)) returned[old.captured_us]++, dropped++;
    if (i % 7 == 0 && newest.withdraw(&old)) returned[old.captured_us]++, dropped++;
  }
  __atomic_store_n(&done, true, __ATOMIC_RELEASE);
  consumer.join();
  for (long i = 1; i <= count; i++) {
    if (returned[i] != 1) return printf("picture %ld came back %d times\\n", i, returned[i]), 1;
  }
  printf("%ld taken, %ld dropped\\n", static_cast<long>(taken), static_cast<long>(dropped));
}
"""

#: Starts: reason, failures in the record before (-1: it holds noise), seconds of running; prints failures, may_start.
STARTS = """
#include <stdio.h>
#include <stdlib.h>
#include "uhd/boot_guard.hpp"
int main(int, char** argv) {
  uhd::BootRecord record = {0x12345678, 0x9abcdef0, 7};
  const long before = atol(argv[2]);
  if (before >= 0) record = {uhd::BootGuard::kMagic, static_cast<uint32_t>(before), ~static_cast<uint32_t>(before)};
  uhd::BootGuard guard(&record, static_cast<uhd::link::ResetReason>(atoi(argv[1])));
  const bool may = guard.may_start();
  guard.running(1000000ull * static_cast<uint64_t>(atol(argv[3])));
  printf("%u %d\\n", record.failures, may);
}
"""


def build(folder: Path, source: str, *flags: str) -> Path:
    (folder / "main.cpp").write_text(source)
    program = folder / "program"
    command = [host_compiler(), "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", *INCLUDES, *flags]
    done = subprocess.run([*command, str(folder / "main.cpp"), "-o", str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


@pytest.mark.parametrize(("flags", "count"), [((), 300_000), (("-fsanitize=thread",), 50_000)])
def test_two_tasks_lose_and_repeat_nothing(tmp_path: Path, flags: tuple[str, ...], count: int) -> None:
    program = build(tmp_path, TWO_TASKS, "-pthread", *flags)
    done = subprocess.run(["setarch", "-R", str(program), str(count)], capture_output=True, text=True, timeout=60)
    if "memory layout" in done.stderr or "memory mapping" in done.stderr:
        pytest.skip("the thread sanitizer does not run on this kernel")
    assert done.returncode == 0, done.stdout + done.stderr
    taken, dropped = (int(word) for word in done.stdout.split() if word.isdigit())
    assert taken + dropped == count and taken and dropped


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("starts"), STARTS, "-fsanitize=undefined", "-fno-sanitize-recover")


POWER, SOFTWARE, PANIC, WATCHDOG, BROWN_OUT = 1, 2, 3, 4, 5


@pytest.mark.parametrize(
    ("reason", "before", "seconds", "failures", "may_start"),
    [
        (POWER, -1, 1, 0, 1),  # memory holds noise when power comes
        (BROWN_OUT, -1, 1, 1, 1),  # noise does not count as failures
        (PANIC, 0, 1, 1, 1),
        (WATCHDOG, 1, 1, 2, 1),
        (BROWN_OUT, 2, 1, 3, 0),
        (PANIC, 3, 1, 3, 0),  # and stays so
        (PANIC, 1, 30, 0, 1),  # running for long enough ends the row
        (PANIC, 1, 29, 2, 1),
        (PANIC, 2, 3600, 3, 0),  # but it does not run what failed, so this proves nothing
        (SOFTWARE, 2, 1, 0, 1),
        (POWER, 3, 1, 0, 1),  # the way out
    ],
)
def test_failed_starts_are_counted(
    starts: Path, reason: int, before: int, seconds: int, failures: int, may_start: int
) -> None:
    done = subprocess.run([starts, str(reason), str(before), str(seconds)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(failures), str(may_start)]
