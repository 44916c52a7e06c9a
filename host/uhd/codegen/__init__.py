"""From a quantized model to C++: lowering, memory plan, tables, and the component ``uhd_model``."""

from __future__ import annotations

from uhd.codegen.component import generate

__all__ = ["generate"]
