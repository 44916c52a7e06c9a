"""``build-fw``: quantize, generate the component, build the firmware."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from uhd.host.ui import Steps, emit_json, human_bytes, print_table

EPILOG = """\b
Examples:
  python -m uhd.host build-fw --variant R --target qemu
  python -m uhd.host build-fw --variant R --target esp32s3 --preset precision
  python -m uhd.host build-fw --variant R --target esp32p4 --component-only
  python -m uhd.host build-fw --variant R --target esp32s3 --calibration photos/
  python -m uhd.host build-fw --variant A --target esp32s3 --split-filters
"""


@click.command(epilog=EPILOG)
@click.option("--variant", required=True, help="Letter of a published size: R Y Z A F P N T S C M L.")
@click.option("--target", required=True, type=click.Choice(["qemu", "esp32s3", "esp32p4"]), help="What to build for.")
@click.option("--preset", default="speed", show_default=True, help="Precision preset: speed (int8), precision (mixed).")
@click.option(
    "--checkpoint", type=click.Path(path_type=Path), help="Own weights (.safetensors) instead of the shipped."
)
@click.option("--calibration", type=click.Path(path_type=Path), help="Folder of photos: quantize afresh on them.")
@click.option("--calibration-images", default=256, show_default=True, help="How many of them to use.")
@click.option("--split-filters", is_flag=True,
              help="Split filters that outgrow the data cache; every integer stays (docs/rewrites.md).")  # fmt: skip
@click.option("--filter-limit", metavar="SIZE", help="Bytes of a filter with --split-filters.  [default: 48k]")
@click.option("--pad-channels", is_flag=True, help="Channels to whole vector registers; every integer stays.")
@click.option("--short-names", is_flag=True, help="Numbers instead of names in the .espdl (a few KB).")
@click.option("--no-test-vectors", is_flag=True, help="Leave out the embedded test vector (about 11 KB).")
@click.option("--component", "folder", type=click.Path(path_type=Path), help="Folder for the generated component.")
@click.option("--component-only", is_flag=True, help="Stop after the component; needs no ESP-IDF.")
@click.option("--clean", is_flag=True, help="Start from an empty build folder; settings made there by hand are lost.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    variant: str,
    target: str,
    preset: str,
    checkpoint: Path | None,
    calibration: Path | None,
    calibration_images: int,
    split_filters: bool,
    filter_limit: str | None,
    pad_channels: bool,
    short_names: bool,
    no_test_vectors: bool,
    folder: Path | None,
    component_only: bool,
    clean: bool,
    as_json: bool,
) -> int:
    """Quantize a variant, generate its component and build the firmware.

    For esp32s3 and esp32p4 this calls idf.py where ESP-IDF is active. Where it is not, the component is left in
    place and the exit code is 3, unless --component-only.
    """
    from uhd.device import build
    from uhd.errors import SdkMissingError
    from uhd.host.quantize_split import filter_limit as filter_limit_bytes
    from uhd.host.quantize_split import forecast_lines, split_summary
    from uhd.paths import build_root, committed_component

    limit = filter_limit_bytes(filter_limit, split_filters)
    request = build.Request(
        variant.upper(), target, preset, checkpoint, calibration, calibration_images, limit, pad_channels,
        short_names, not no_test_vectors,
    )  # fmt: skip
    if clean:
        shutil.rmtree(build_root() / request.name, ignore_errors=True)
    steps = Steps(2 + bool(request.rewrites) + (not component_only), quiet=as_json)
    steps.start(f"quantize  {request.variant} for {target}, preset {request.preset}")
    espdl, manifest, weights = build.quantized_espdl(request, steps.note)
    steps.done(f"{espdl.name}  {human_bytes(espdl.stat().st_size)}")
    made = None
    if request.rewrites:
        steps.start(f"rewrite   {', '.join(request.rewrites)}")
        (espdl, manifest, weights), made = build.rewritten_espdl(request, (espdl, manifest, weights), steps.note)
        for line in forecast_lines(made):
            steps.note(line)
        steps.done(f"{espdl.name}  {human_bytes(espdl.stat().st_size)}")
    steps.start("generate  component uhd_model")
    component = build.generate_component(request, espdl, manifest, weights, folder, steps.note)
    steps.done(f"{sum(1 for p in component.folder.rglob('*') if p.is_file())} files in {component.folder}")
    if target != "qemu" and component.folder.resolve() == committed_component(target):
        steps.note(f"this replaced what `idf.py` builds for {target}; other chips keep their model")

    image: Path | None = None
    missing: SdkMissingError | None = None
    if not component_only:
        steps.start(f"build     firmware for {target}")
        try:
            image = _build(target, request.variant, component.folder, build_root() / request.name)
            steps.done(str(image))
        except SdkMissingError as error:
            missing = error
            steps.note(str(error))
    summary = _summary(request.name, component, image) | _placements(target, component.espdl, as_json)
    if as_json:
        if made:
            summary["split"] = split_summary(made, limit)
        emit_json(summary)
    else:
        print_table(f"{request.name}", [(key.replace("_", " "), value) for key, value in _rows(summary)])
        where = build_root() / request.name if request.rewrites else None
        for line in _next(request.variant, target, preset, image, missing is not None, where):
            click.echo(line, err=True)
    return missing.exit_code if missing else 0


def _next(
    variant: str, target: str, preset: str, image: Path | None, sdk_missing: bool, folder: Path | None = None
) -> list[str]:
    """What to do with the result; ``folder``: where it was built, if it is not the build that the options name."""
    which = f"--variant {variant} --target {target}" + ("" if preset == "speed" else f" --preset {preset}")
    if sdk_missing:
        return [f"next: python -m uhd.host doctor --target {target}"]
    if image is None:
        return []
    if folder is not None:
        which = f"--build {folder} --target {target}"
    use = f"demo {which} --photos DIR --output boxes/" if target == "qemu" else f"flash {which} --monitor"
    flash = [f"next: python -m uhd.host {use}"] if folder is None or target != "qemu" else []
    return [*flash, f"size: python -m uhd.host size {which}"]


def _build(target: str, variant: str, component: Path, folder: Path) -> Path:
    if target == "qemu":
        from uhd.device.qemu import build_elf

        return build_elf(component, folder)
    from uhd.device import idf
    from uhd.paths import committed_component

    model_dir = None if component.resolve() == committed_component(target) else component
    return idf.build(variant, target, folder, model_dir=model_dir)


def _summary(name: str, component: object, image: Path | None) -> dict[str, object]:
    from uhd.device.build import Component
    from uhd.device.sizes import component_sizes

    assert isinstance(component, Component)
    quantization = component.manifest.quantization
    return {
        "build": name,
        "model": component.manifest.name,
        "espdl": str(component.espdl),
        "espdl_sha256": component.espdl_sha256,
        "weights_sha256": component.manifest.weights_sha256,
        "component": str(component.folder),
        "package": str(component.package) if component.package else None,
        "int16_operators": len(quantization.int16_operators) if quantization else 0,
        "rewrites": len(quantization.rewrites) if quantization else 0,
        "calibration": quantization.calibration if quantization else "",
        "firmware": str(image) if image else None,
        **component_sizes(component.folder, component.espdl, image),
        **({"package_bytes": component.package.stat().st_size} if component.package else {}),
    }


def _placements(target: str, espdl: Path, everything: bool) -> dict[str, object]:
    """Predicted milliseconds on a chip by where the weights lie: the fastest that fits, or all as plain values."""
    from dataclasses import asdict

    from uhd.espdl.reader import read_espdl
    from uhd.predict.chips import chip
    from uhd.predict.placement import choices, fastest

    if target == "qemu":
        return {}
    board = chip(target)
    found = choices(read_espdl(espdl, target), board)
    if everything:
        return {"placements": [asdict(choice) for choice in found]}
    return {"predicted": f"{fastest(found)}{'' if board.fitted else f'; {board.basis}'}"}


def _rows(summary: dict[str, object]) -> list[tuple[str, str]]:
    rows = []
    for key, value in summary.items():
        if value is None or (key == "rewrites" and not value):
            continue
        rows.append((key, human_bytes(value) if key.endswith("_bytes") and isinstance(value, int) else str(value)))
    return rows
