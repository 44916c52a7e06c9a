"""Which model a build takes: CMake runs the components' own files, with ESP-IDF's functions replaced by echoes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support.components import detector_manifest, made_component, made_detector
from uhd.manifest import load_manifest
from uhd.paths import MODEL_COMPONENT, committed_component

CHIPS = ("esp32s3", "esp32p4")

#: ESP-IDF reads a component twice: first with a macro that returns at once, then with the function that builds.
EARLY = """
macro(idf_component_register)
    message(STATUS "register ${ARGN}")
    return()
endmacro()
"""
BUILD = """
function(idf_component_register)
    message(STATUS "register ${ARGN}")
    set(COMPONENT_LIB lib PARENT_SCOPE)
endfunction()
function(target_compile_features)
    message(STATUS "features ${ARGN}")
endfunction()
function(set_source_files_properties)
    message(STATUS "properties ${ARGN}")
endfunction()
"""
SCRIPT = """
function(idf_build_get_property variable property)
    if(NOT property STREQUAL "IDF_TARGET")
        message(FATAL_ERROR "unknown property ${property}")
    endif()
    set(${variable} "@CHIP@" PARENT_SCOPE)
endfunction()
@STAGE@
function(component)
    include("@COMPONENT@/CMakeLists.txt")
endfunction()
component()
"""


def configure(component: Path, chip: str, folder: Path, stage: str = BUILD) -> subprocess.CompletedProcess[str]:
    cmake = shutil.which("cmake") or pytest.skip("no CMake here")
    script = folder / "script.cmake"
    text = SCRIPT.replace("@STAGE@", stage).replace("@CHIP@", chip).replace("@COMPONENT@", str(component))
    script.write_text(text)
    return subprocess.run([cmake, "-P", str(script)], capture_output=True, text=True, cwd=folder)


def taken(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """The arguments of each echoed call."""
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("-- ").split(" ", 1) for line in done.stdout.splitlines()]
    return {name: arguments.split(";") for name, arguments in lines}


@pytest.mark.parametrize("stage", [EARLY, BUILD], ids=["requirements", "build"])
@pytest.mark.parametrize(("target", "chip"), [("esp32s3", "esp32s3"), ("esp32p4", "esp32p4"), ("linux", "esp32s3")])
def test_a_build_takes_the_model_of_its_chip(tmp_path: Path, target: str, chip: str, stage: str) -> None:
    folder = committed_component(target)
    assert folder == MODEL_COMPONENT / chip
    calls = taken(configure(MODEL_COMPONENT, target, tmp_path, stage))
    arguments = calls["register"]
    sources = arguments[arguments.index("SRCS") + 1 : arguments.index("INCLUDE_DIRS")]
    assert [Path(s) for s in sources] == [folder / name for name in ("blobs.S", "info.cpp", "model.cpp")]
    assert all(Path(s).is_file() for s in sources)
    assert arguments[arguments.index("INCLUDE_DIRS") + 1 :] == [str(folder), "REQUIRES", "uhd_runtime"]
    if stage == BUILD:
        assert f"-I{folder}" in calls["properties"] and str(folder / "model.espdl") in calls["properties"]


@pytest.mark.parametrize("chip", CHIPS)
def test_the_committed_models_are_of_their_chips(chip: str) -> None:
    manifest = load_manifest(committed_component(chip) / "manifest.json")
    assert manifest.variant == "R" and manifest.quantization is not None
    assert manifest.quantization.target == chip
    assert {p.name for p in MODEL_COMPONENT.iterdir()} == {*CHIPS, "CMakeLists.txt", "README.md"}


def test_a_chip_without_a_model_is_an_error_with_the_command(tmp_path: Path) -> None:
    clone = tmp_path / "uhd_model"
    shutil.copytree(MODEL_COMPONENT, clone)
    shutil.rmtree(clone / "esp32p4")
    assert configure(clone, "esp32s3", tmp_path).returncode == 0
    for stage in (EARLY, BUILD):
        done = configure(clone, "esp32p4", tmp_path, stage)
        assert done.returncode != 0
        assert "there is no model for esp32p4" in done.stderr
        assert "run python -m uhd.host build-fw --variant R --target esp32p4 --component-only" in done.stderr


@pytest.mark.parametrize("chip", CHIPS)
def test_a_component_of_another_chip_is_an_error_with_the_command(tmp_path: Path, chip: str) -> None:
    other = next(c for c in CHIPS if c != chip)
    given = committed_component(chip)
    assert taken(configure(given, chip, tmp_path))["register"]
    assert taken(configure(given, "linux", tmp_path))["register"]
    done = configure(given, other, tmp_path, EARLY)
    assert done.returncode != 0
    assert f"is quantized for {chip}, not for {other}" in done.stderr
    assert f"run python -m uhd.host build-fw --variant R --target {other}" in done.stderr


def test_a_name_cannot_break_the_file(tmp_path: Path) -> None:
    """Names come from manifests; CMake reads $, quotes, backslashes and semicolons."""
    model, content = made_detector()
    manifest = detector_manifest(model, name='a"b;${c}\\d$ENV{HOME}`e`\n#', variant=")\ninclude(evil)\n")
    made = made_component(tmp_path / "uhd_model", model, content, manifest)
    assert taken(configure(made, "linux", tmp_path))["register"]
    done = configure(made, "esp32s3", tmp_path)
    assert done.returncode != 0
    assert "a_b___c__d_ENV_HOME__e___" in done.stderr and "include_evil__ --target esp32s3" in done.stderr
