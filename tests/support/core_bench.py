"""Instructions of preprocessing and of boxes on the emulated machine, with the head outputs of busy scenes."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.codegen import generate
from uhd.data.synthetic import make_scene
from uhd.device import compile as compiling
from uhd.device import cross
from uhd.device.linker_map import read_map
from uhd.device.twin import Twin
from uhd.espdl.reader import read_espdl
from uhd.files import write_text
from uhd.image.resize import network_input_u8
from uhd.manifest import ModelManifest
from uhd.paths import FIRMWARE, PACKAGE

MAIN = Path(__file__).with_name("core_bench.cpp")
CANDIDATES = 100


def shipped(variant: str, target: str = "c", preset: str = "speed") -> Path:
    """A .espdl of the zoo."""
    return PACKAGE / "zoo" / f"ultratinyod_{variant.lower()}_{target}_{preset}.espdl"


def shipped_manifest(path: Path) -> ModelManifest:
    return ModelManifest.model_validate_json(path.with_suffix(".json").read_text())


def shipped_component(folder: Path, variant: str = "R") -> Path:
    """The component of a shipped model, generated anew."""
    path = shipped(variant)
    generate(read_espdl(path), path.read_bytes(), shipped_manifest(path), folder)
    return folder


@dataclass(frozen=True)
class Scene:
    """int8 outputs of a head, in the model's order, and the threshold that ``CANDIDATES`` of its candidates pass."""

    outputs: dict[str, NDArray[np.int8]]
    threshold: int


def threshold_of(twin: Twin, outputs: dict[str, NDArray[Any]]) -> int:
    """The score (of 65535) that exactly ``CANDIDATES`` candidates reach; the smallest such surplus where some tie."""
    scores = np.sort(candidate_rows(twin, outputs, 0, 65535, 1 << 14)[0][:, 0])[::-1]
    return int(scores[CANDIDATES - 1])


def candidate_rows(
    twin: Twin, outputs: dict[str, NDArray[Any]], threshold: int, nms: int, top_k: int
) -> tuple[NDArray[np.int32], int]:
    """Rows of score, class, cx, cy, w, h in 1/65535, and the number of candidates, from the host's build."""
    import ctypes

    arrays = [np.ascontiguousarray(outputs[t.name]) for t in twin.info.outputs]
    rows, candidates = np.zeros((top_k, 6), np.int32), ctypes.c_uint32()
    count = twin._library.uhd_twin_decode(
        (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays)), ctypes.c_uint16(threshold),
        ctypes.c_uint16(nms), ctypes.c_uint16(top_k), ctypes.c_void_p(rows.ctypes.data), ctypes.byref(candidates),
    )  # fmt: skip
    assert count >= 0
    return rows[:count], candidates.value


def network_scene(twin: Twin, seed: int) -> Scene:
    """What the network itself makes of a scene with many people."""
    rgb, _ = make_scene(seed, (240, 320), max_people=12)
    picture = network_input_u8(rgb, (64, 64), "opencv_inter_nearest_yuv422")
    _, outputs = twin.detect(picture, 0.5, 0.5, 1)
    return Scene(outputs, threshold_of(twin, outputs))


def crowd(twin: Twin, manifest: ModelManifest, people: int, seed: int) -> Scene:
    """A made-up crowd: around each person some neighbouring cells and anchors give nearly its box, with high scores."""
    rng = np.random.default_rng(seed)
    outputs = {t.name: np.full(t.shape, -100, t.dtype) for t in twin.info.outputs}
    scale = {t.name: 2.0**t.exponent for t in twin.info.outputs}
    sizes = np.array(manifest.anchors) * np.array(manifest.wh_scale)
    grid_h, grid_w = outputs["box"].shape[1:3]
    free = np.ones((grid_h, grid_w, len(sizes)), bool)
    places = rng.permutation(grid_h * grid_w)[:people]
    todo = CANDIDATES
    while todo:
        for place in places:
            cy, cx = (place // grid_w + 0.5) / grid_h, (place % grid_w + 0.5) / grid_w
            h = 0.2 + 0.1 * (place % 4)
            w = 0.4 * h
            gy, gx = (np.clip([cy * grid_h, cx * grid_w] + rng.normal(0, 0.5, 2), 0, [grid_h - 1, grid_w - 1])).astype(
                int
            )
            a = int(rng.integers(len(sizes)))
            if not free[gy, gx, a] or not todo:
                continue
            free[gy, gx, a] = False
            todo -= 1
            offset = np.clip([cx * grid_w - gx, cy * grid_h - gy], 0.02, 0.98)
            wanted = (
                np.log(offset / (1 - offset)),
                np.log(np.expm1(np.array([w, h]) / sizes[a] * rng.uniform(0.9, 1.1, 2))),
            )
            values = np.concatenate(wanted) / scale["box"]
            outputs["box"][0, gy, gx, 4 * a : 4 * a + 4] = np.clip(np.rint(values), -128, 127)
            for name in ("quality", "cls"):
                outputs[name][0, gy, gx, a] = np.clip(rng.uniform(0.5, 3) / scale[name], -128, 127)
    return Scene(outputs, threshold_of(twin, outputs))


def objects(component: Path, *folders: str) -> dict[str, Path]:
    """Objects of these parts (or the component itself) as the emulator builds them, by source name; compiled once."""
    *common, model = cross.units(component)
    headers = [p for unit in common for p in unit.folder.rglob("*") if p.suffix in cross._HEADERS]
    base = [cross.compiler_id(), *cross._COMPILE]
    includes = [f"-I{unit.include}" for unit in common]
    made = {}
    for unit in (*common, model):
        if unit.folder.name in folders:
            own = ([*includes, f"-I{unit.include}"], unit, [*headers, *unit.inputs]) if unit is model else None
            for source in unit.sources:
                made[source.stem] = cross._Job(source, base, *(own or (includes, unit, headers))).run()
    return made


def linked_code(component: Path, folder: Path) -> dict[str, int]:
    """Bytes of instructions of each object of uhd_core in the emulator's firmware, linked into ``folder``."""
    core = objects(component, "uhd_core")
    rest = [objects(component, part) for part in ("emulator", "uhd_runtime", component.name)]
    files = [str(path) for part in (core, *rest) for path in part.values()]
    table = folder / "core.map"
    script = FIRMWARE / "emulator" / "link.ld"
    command = [cross.LINKER, *cross._LINK, "-Wl,--no-gc-sections", f"-T{script}", f"-Wl,-Map={table}", *files, "-lm"]
    subprocess.run([*command, "-o", str(folder / "core.elf")], check=True, capture_output=True, text=True)
    text = next(section for section in read_map(table).sections if section.name == ".text")
    return {name: text.parts[str(path)] for name, path in core.items()}


def run(component: Path, scenes: Sequence[Scene], folder: Path) -> list[tuple[str, int]]:
    """Build the benchmark as the emulator builds uhd_core, run it in QEMU, and return its lines."""
    heads = np.concatenate([np.concatenate([v.reshape(-1) for v in s.outputs.values()]) for s in scenes])
    source = folder / "scenes.cpp"
    write_text(
        source,
        "#include <stdint.h>\n"
        f"extern const uint32_t kSceneCount = {len(scenes)};\n"
        f"extern const uint16_t kThresholds[] = {{{', '.join(str(s.threshold) for s in scenes)}}};\n"
        f"extern const int8_t kHeads[] = {{{', '.join(map(str, heads.tolist()))}}};\n",
    )
    toolchain = compiling.bare_toolchain()
    core = [objects(component, "uhd_core")[name] for name in ("decode", "preprocess", "suppress")]
    toolchain = dataclasses.replace(toolchain, link=(*map(str, core), *toolchain.link))
    model = [p for p in compiling.component_sources(component) if p.name in ("info.cpp", "blobs.S")]
    elf = compiling.build(
        toolchain, [*model, source, MAIN], "core-bench.elf", includes=[component, compiling.CORE / "include"],
        data=compiling.component_data(component),
    )  # fmt: skip
    command = [
        *(cross.find_tool(cross.EMULATOR), "-M", "virt", "-m", "256M", "-bios", "none", "-display", "none"),
        *("-nodefaults", "-chardev", "stdio,id=out", "-icount", "shift=0", "-kernel", str(elf)),
        *("-semihosting-config", "enable=on,target=native,chardev=out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr + done.stdout
    words = (line.split() for line in done.stdout.splitlines())
    return [(name, int(value)) for name, value in words]
