#!/usr/bin/env bash
# Set up what is missing, then run every check. Extra arguments go to pytest: tools/test.sh -k link
#
# UHD_LONG=1           the long forms of some tests: all widths, all photos, 100,000 frames
# UHD_SOAK_SECONDS=N   how long tests of endurance take
# UHD_FUZZ_FILES=N     how many damaged .espdl files are read
set -euo pipefail
. "$(dirname "$0")/setup.sh"

# The viewer's page is tested in a browser; without one those tests are skipped.
command -v chromium >/dev/null || command -v google-chrome >/dev/null || apt_install "a browser for the viewer's tests" chromium

# The camera's window is tested on a virtual display; without one those tests are skipped.
{ command -v Xvfb && command -v xdotool; } >/dev/null || apt_install "a display for the window's tests" xvfb xdotool

# The machine's libraries must not fight over cores: two test processes, one thread each.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

say "lint"
"$PYTHON" -m ruff check -q host tests
"$PYTHON" -m ruff format -q --check host tests || say "formatting differs from 'ruff format'"
say "tests"
"$PYTHON" -m pytest -q -n "${UHD_TEST_JOBS:-2}" --dist loadfile --no-loadscope-reorder --durations 15 "$@"
say "done"
