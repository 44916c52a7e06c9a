# Sourced by quickstart.sh and test.sh: makes .venv and installs what is missing. Free of charge when all is there.
# Leaves $PYTHON (the environment's interpreter) and $HAVE_EMULATOR (1 or 0) to its caller.
#
# UHD_NO_APT=1     never call apt, only say what is missing
# UHD_VENV=DIR     put the environment elsewhere (default .venv)

cd "$(dirname "${BASH_SOURCE[0]}")/.."
VENV="${UHD_VENV:-$PWD/.venv}"
PYTHON="$VENV/bin/python"
STARTED=$(date +%s)

say() { printf '[%4ss] %s\n' "$(($(date +%s) - STARTED))" "$*"; }
fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

# as_root COMMAND...: run it as root if that is possible without asking for a password
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}

# apt_install WHY PACKAGE...: install Debian packages, or say how; never fatal, the caller checks again
apt_install() {
    local why=$1
    shift
    if [ "${UHD_NO_APT:-0}" = 1 ] || ! command -v apt-get >/dev/null; then
        say "$why is missing. On Debian or Ubuntu: sudo apt-get install $*"
        return 0
    fi
    say "installing Debian packages for $why: $*"
    if ! as_root env DEBIAN_FRONTEND=noninteractive sh -c \
        'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null' sh "$@"; then
        say "could not install them (no root, or no package source). Ask an administrator for: apt-get install $*"
    fi
}

find_python() {
    local candidate
    for candidate in "${UHD_PYTHON:-}" python3.11 python3.12 python3; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

setup_python() {
    local base stamp want
    base=$(find_python) || fail "Python 3.11 or 3.12 is needed (esp-ppq supports no other); install it or set UHD_PYTHON"
    want=$(cat pyproject.toml tools/constraints.txt | sha256sum | cut -c1-16)-$("$base" -c 'import sys; print(sys.version.split()[0])')
    stamp="$VENV/.uhd-installed"
    if [ -x "$PYTHON" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
        return 0
    fi
    if [ ! -x "$PYTHON" ]; then
        say "creating the Python environment $VENV"
        if ! "$base" -m venv "$VENV" 2>/dev/null; then
            rm -rf "$VENV"
            apt_install "Python's venv module" python3-venv
            "$base" -m venv "$VENV" || fail "cannot create $VENV; install python3-venv"
        fi
    fi
    say "installing Python packages into $VENV (about 2 GB; torch is the largest)"
    # torch first and by its exact version: left to the resolver, an index may offer a build for other hardware
    "$PYTHON" -m pip install -qq --disable-pip-version-check "$(grep '^torch==' tools/constraints.txt)" ||
        fail "pip could not install torch; check the network and pip's index settings"
    "$PYTHON" -m pip install -qq --disable-pip-version-check -c tools/constraints.txt -e '.[test]' ||
        fail "pip could not install the packages of pyproject.toml; the lines above say which"
    printf '%s\n' "$want" >"$stamp"
}

setup_system() {
    command -v g++ >/dev/null || command -v clang++ >/dev/null || apt_install "a C++ compiler (host twin)" g++
    if ! "$PYTHON" -c 'import cv2' 2>/dev/null; then
        apt_install "OpenCV's shared libraries" libgl1 libglib2.0-0
        "$PYTHON" -c 'import cv2' || fail "OpenCV does not load; install libgl1 and libglib2.0-0"
    fi
    have_emulator || apt_install "the emulator and its compiler" \
        qemu-system-misc gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf
    if have_emulator; then HAVE_EMULATOR=1; else HAVE_EMULATOR=0; fi
}

have_emulator() {
    command -v qemu-system-riscv32 >/dev/null && command -v riscv64-unknown-elf-g++ >/dev/null &&
        [ -e "$(riscv64-unknown-elf-gcc -print-file-name=picolibc.specs)" ]
}

setup_python
setup_system
export PYTHONPATH= PYTHONUNBUFFERED=1
say "ready: $("$PYTHON" --version), emulator $([ "$HAVE_EMULATOR" = 1 ] && echo yes || echo no)"
