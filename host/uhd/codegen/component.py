"""Writing the component ``uhd_model``: everything the firmware needs to know about one quantized model."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from uhd import __version__
from uhd.codegen import names
from uhd.codegen.describe import Description, describe
from uhd.codegen.emit import Graph, info_context
from uhd.codegen.lower import lower
from uhd.codegen.plan import MemoryPlan, plan_program
from uhd.codegen.steps import Program
from uhd.errors import ConfigError, ModelError
from uhd.espdl.model import EspdlModel
from uhd.files import sha256_bytes
from uhd.manifest import ModelManifest

#: Version of uhd/model.hpp and uhd/kernels.hpp that the templates are written for (kModelInterface).
INTERFACE = 1
#: The file by which a folder is known to be a generated component, to be replaced without asking.
MARKER = "uhd_model_id.hpp"
_TEMPLATES = {
    "model.cpp": "model.cpp.j2",
    "info.cpp": "info.cpp.j2",
    "blobs.S": "blobs.S.j2",
    MARKER: "uhd_model_id.hpp.j2",
    "CMakeLists.txt": "CMakeLists.txt.j2",
    "idf_component.yml": "idf_component.yml.j2",
    "README.md": "README.md.j2",
}


def generate(model: EspdlModel, espdl_bytes: bytes, manifest: ModelManifest, output: Path) -> Description:
    """Write the component for a quantized model, replacing an earlier one; returns what it says of the model.

    The same model and manifest give the same bytes. On an error ``output`` keeps what it held.

    Args:
        model: the parsed .espdl.
        espdl_bytes: the file it was parsed from; embedded as it is.
        manifest: of the same model; its anchors (none: no decode tables), score mode and thresholds go in.
        output: the component's folder; absent, empty, or an earlier generated component.

    Raises:
        ModelError: an operator that the runtime lacks, or a manifest that does not fit the model.
        ConfigError: ``output`` holds something that was not generated, or cannot be written.
    """
    _check(model, espdl_bytes, manifest)
    program = lower(model)
    plan = plan_program(program)
    about = describe(model, manifest, plan, len(espdl_bytes))
    files = _render(model, about, program, plan)
    contents: dict[str, bytes] = {name: text.encode() for name, text in files.items()}
    contents |= {
        "model.espdl": espdl_bytes,
        "weights.bin": program.data,
        "manifest.json": manifest.dumps().encode(),
    }
    try:
        _replace(output, contents)
    except OSError as error:
        raise ConfigError(f"{output}: cannot write the component ({error.strerror})", hint="check the folder") from None
    return about


def _check(model: EspdlModel, espdl_bytes: bytes, manifest: ModelManifest) -> None:
    """That model, bytes and manifest are one and the same, and have the one input and few outputs of the interface."""
    if sha256_bytes(espdl_bytes) != model.sha256:
        raise ModelError("the parsed model is not the given .espdl", hint="read the file again")
    if len(model.inputs) != 1:
        raise ModelError(f"the model has {len(model.inputs)} inputs", hint="export it with one input")
    if not 1 <= len(model.outputs) <= 127:
        raise ModelError(f"the model has {len(model.outputs)} outputs", hint="export it with 1 to 127 outputs")
    for name in (*model.inputs, *model.outputs):
        shape = model.tensors[name].shape
        if len(shape) > 4 or max(shape, default=1) > 0xFFFF:
            raise ModelError(f"graph input or output {name!r} has shape {list(shape)}", hint="keep it [1, H, W, C]")
    known = manifest.quantization
    if known and known.espdl_sha256 and known.espdl_sha256 != model.sha256:
        raise ModelError(
            f"the manifest of {manifest.name} belongs to .espdl {known.espdl_sha256[:12]}, not {model.sha256[:12]}",
            hint="give the manifest that was written beside this .espdl",
        )
    if known and known.target != model.target:
        raise ModelError(
            f"the manifest says target {known.target}, the .espdl is for {model.target}",
            hint="give the manifest that was written beside this .espdl",
        )
    _check_input(model, manifest)


def _check_input(model: EspdlModel, manifest: ModelManifest) -> None:
    wanted = (1, manifest.input_height, manifest.input_width, manifest.input_channels)
    shape = model.tensors[model.inputs[0]].shape
    if manifest.anchors and shape != wanted:
        raise ModelError(
            f"the model takes {list(shape)}, the manifest of {manifest.name} says {list(wanted)}",
            hint="give the manifest that was written beside this .espdl",
        )


def _render(model: EspdlModel, about: Description, program: Program, plan: MemoryPlan) -> dict[str, str]:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(  # noqa: S701 - C++, not HTML
        loader=PackageLoader("uhd.codegen"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    graph = Graph(program, plan)
    context: dict[str, Any] = {
        **_identity(about),
        "layers": graph.layers(),
        "tensors": graph.declarations(),
        "output_count": len(model.outputs),
        "data_size": len(program.data),
        "facts": _facts(model, about, program),
        **info_context(about),
    }
    return {name: environment.get_template(template).render(context) for name, template in _TEMPLATES.items()}


def _identity(about: Description) -> dict[str, Any]:
    lines = (
        f"Generated by uhd {__version__}. Do not edit.",
        f"Model {about.name} for {about.target}, .espdl SHA-256 {about.espdl_sha256}",
    )
    return {
        "banner": "\n".join(f"// {names.comment(line)}" for line in lines),
        "banner_hash": "\n".join(f"# {names.comment(line)}" for line in lines),
        "name": names.c_string(about.name),
        "variant": names.c_string(about.variant),
        "target": names.c_string(about.target),
        "cmake": {
            "name": names.cmake_text(about.name),
            "variant": names.cmake_text(about.variant) or "LETTER",
            "target": names.cmake_text(about.target),
        },
        "sha256": about.espdl_sha256,
        "espdl_size": about.espdl_size,
        "arena_size": about.arena_size,
        "interface": INTERFACE,
        "tool_version": names.c_string(__version__),
        "component_version": f'"{re.match(r"[0-9.]*", __version__)[0].strip(".") or "0.0.0"}"',  # type: ignore[index]
        "description": names.c_string(f"Detector {names.comment(about.name)} for {about.target}"),
        "title": f"Model {names.comment(about.name)} for {about.target}",
        "version": __version__,
    }


def _facts(model: EspdlModel, about: Description, program: Program) -> list[tuple[str, str]]:
    """Rows of the README's table."""

    def tensors(which: tuple[str, ...]) -> str:
        found = (model.tensors[name] for name in which)
        return ", ".join(f"{t.name} {list(t.shape[1:])} {t.dtype} 2^{t.exponent}" for t in found)

    rows = [
        ("target", about.target),
        (".espdl", f"{about.espdl_size:,} bytes, SHA-256 `{about.espdl_sha256}`"),
        ("input", tensors(model.inputs)),
        ("outputs", tensors(model.outputs)),
        ("steps", str(len(program.steps))),
        ("constants of the reference backend", f"{len(program.data):,} bytes"),
        ("activation memory", f"{about.arena_size:,} bytes"),
        ("variant", about.variant or "none"),
    ]
    return [(name, names.comment(value).replace("|", "/")) for name, value in rows]


def _replace(output: Path, contents: dict[str, bytes]) -> None:
    """Put the files into ``output`` by renaming a finished folder over it."""
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output}: is a file", hint="give a folder for the component")
    if output.is_dir() and any(output.iterdir()) and not (output / MARKER).is_file():
        raise ConfigError(f"{output}: holds files that were not generated", hint="give an empty or new folder")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as temporary:
        fresh, old = Path(temporary, "new"), Path(temporary, "old")
        fresh.mkdir()
        for name, data in contents.items():
            (fresh / name).write_bytes(data)
        if output.exists():
            output.replace(old)
        try:
            fresh.replace(output)
        except OSError:
            if old.exists():
                old.replace(output)
            raise
