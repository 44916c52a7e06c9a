"""Sizes of what was built: parameters, activations, code, as far as they can be known without a board."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def component_sizes(folder: Path, espdl: Path, image: Path | None) -> dict[str, int]:
    """Bytes: the .espdl, its weights, the reference backend's activations, and the linked image's sections.

    The sections are there only for an ELF file and where the RISC-V ``size`` program is installed.
    """
    from uhd.codegen.plan import plan_memory
    from uhd.espdl.inspect import weight_bytes
    from uhd.espdl.reader import read_espdl

    model = read_espdl(espdl)
    sizes = {
        "espdl_bytes": espdl.stat().st_size,
        "weights_bytes": weight_bytes(model),
        "activations_bytes": plan_memory(model).arena_bytes,
    }
    tool = shutil.which("riscv64-unknown-elf-size")
    if image is not None and image.suffix == ".elf" and tool:
        lines = subprocess.run([tool, str(image)], capture_output=True, text=True, check=True).stdout.splitlines()
        text, data, bss = (int(field) for field in lines[1].split()[:3])
        sizes |= {"code_and_constants_bytes": text, "data_bytes": data, "zeroed_bytes": bss}
    return sizes
