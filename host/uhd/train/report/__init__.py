"""What a run tells about itself: evaluation, sample pictures, heatmaps, TensorBoard events and ``report.html``."""

from __future__ import annotations

from pathlib import Path


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` of a run from the files in its folder; see ``uhd.train.report.page.write_report``."""
    from uhd.train.report.page import write_report as write

    return write(run_folder)
