"""What can be chosen about quantization-aware training. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from uhd.errors import ConfigError
from uhd.quantize.presets import Preset, resolve_preset
from uhd.quantize.settings import Settings

#: What the flags ``--qat-backend`` and ``--qat-fuse`` mean here, for their help.
BACKEND_HELP = "accepted and without effect: the arithmetic is the target chip's, not a server engine's"
FUSE_HELP = "accepted and without effect: normalisation is always folded into the convolution before it"


@dataclass(frozen=True)
class QatSettings:
    """What the model is trained for, and when its grid stands still.

    Args:
        target: c, esp32s3 or esp32p4: decides rounding, bias widths, and whether weights have one exponent a channel.
        patterns: regular expressions of the operators that compute in int16, as for the quantizer.
        preset: a published list of int16 operators, or its name, instead of, or besides, patterns.
        bits: 8, or 16 for every operator that ESP-DL can run in int16.
        disable_observer_epoch: epoch, counted from 1, from which exponents stay as they are; 0: they never do.
        freeze_bn_epoch: epoch from which normalisation uses its running statistics, as the chip does; 0: never.
        variant: letter of the model, for presets that are named in short.
    """

    target: str
    patterns: tuple[str, ...] = ()
    preset: Preset | str | None = None
    bits: int = 8
    disable_observer_epoch: int = 2
    freeze_bn_epoch: int = 3
    variant: str | None = None

    def quantizer(self) -> Settings:
        """The quantizer's settings of the same choice; ranges by the quickest algorithm, as they are found anew."""
        preset = resolve_preset(self.preset, self.variant) if isinstance(self.preset, str) else self.preset
        return Settings(self.target, self.patterns, preset, algorithm="minmax", bits=self.bits, test_vectors=False)

    def check(self) -> None:
        """Raises ``ConfigError`` for a value out of range."""
        self.quantizer().check()
        for name in ("disable_observer_epoch", "freeze_bn_epoch"):
            if getattr(self, name) < 0:
                raise ConfigError(f"qat_{name} is {getattr(self, name)}", hint="epochs count from 1; 0 means never")
