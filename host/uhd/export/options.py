"""What may be chosen of an exported file beside its flavour."""

from __future__ import annotations

from dataclasses import dataclass

from uhd.errors import ConfigError
from uhd.export.record import FLAVOURS, ROW_FLAVOURS, Flavour

#: Range that the TorchScript exporter and ONNX Runtime both handle for these graphs.
OPSETS = range(13, 21)
DEFAULT_OPSET = 17

#: The first that has what attention is written in.
TRANSFORMER_OPSET = 14


@dataclass(frozen=True)
class ExportOptions:
    """``top_k``: rows of the flavours that give rows, None: the manifest's; ``conf``: below it their score is 0.
    ``batch``: pictures that the file takes at once. ``dynamic_resize``: it takes pictures of any size;
    ``allow_mismatch``: even where its Resize cannot give what training gave (``uhd.image.deploy``). ``simplify``: fold
    constants and shapes. ``decompose_bn``: normalisations that no convolution absorbs as Mul and Add."""

    opset: int = DEFAULT_OPSET
    top_k: int | None = None
    conf: float = 0.0
    batch: int = 1
    dynamic_resize: bool = False
    allow_mismatch: bool = False
    simplify: bool = True
    decompose_bn: bool = True

    def check(self, flavour: str) -> Flavour:
        """The flavour, if it exists. Raises ``ConfigError`` for it and for an option out of range."""
        known = next((name for name in FLAVOURS if name == flavour), None)
        if known is None:
            raise ConfigError(f"unknown flavour {flavour!r}", hint=f"choose one of {', '.join(FLAVOURS)}")
        if self.opset not in OPSETS:
            raise ConfigError(
                f"opset {self.opset} is not supported", hint=f"choose {OPSETS.start} to {OPSETS.stop - 1}"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top-k {self.top_k} is below 1")
        if self.batch < 1:
            raise ConfigError(f"a batch of {self.batch} pictures is none")
        if not 0 <= self.conf < 1:
            raise ConfigError(f"conf-thresh {self.conf:g} is not in 0..1")
        if self.conf > 0 and known not in ROW_FLAVOURS:
            raise ConfigError(
                f"flavour {known} selects nothing, so conf-thresh has no meaning", hint="take flavour post or fast"
            )
        return known
