"""UHD workspace: ultra-light person detection, from photographs to boxes out of an ESP32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uhd.infer.detector import Detector

__all__ = ["Detector", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``Detector`` on first use: ``import uhd`` alone loads no library."""
    if name == "Detector":
        from uhd.infer.detector import Detector

        return Detector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
