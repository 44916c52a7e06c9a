"""Mixed precision: what the forward pass computes in, and the scaling that float16 gradients need."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from uhd.errors import UhdError

#: Scales below this mean that every step overflows: the loss itself is not finite.
LEAST_SCALE = 2.0**-14


class Precision:
    """``dtype`` of the activations (float32 without mixed precision); ``scaler`` scales losses where it is float16."""

    def __init__(self, device: torch.device, use_amp: bool, amp_dtype: str) -> None:
        """``amp_dtype``: ``bfloat16``, ``float16``, or ``auto`` (bfloat16 where the device has it, else float16)."""
        self.device = device
        if amp_dtype == "auto":
            has = device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
            amp_dtype = "bfloat16" if has else "float16"
        self.dtype = getattr(torch, amp_dtype) if use_amp else torch.float32
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype is torch.float16)

    @property
    def scales(self) -> bool:
        """Whether overflow is expected now and then, and the step then left out."""
        return self.scaler.is_enabled()

    def autocast(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def check_scale(self) -> None:
        """Raise ``UhdError`` when overflow has halved the scale away."""
        if self.scales and self.scaler.get_scale() < LEAST_SCALE:
            raise UhdError("every step overflows in float16", hint="lower --lr, or train with --amp-dtype bfloat16")

    def state(self) -> dict[str, Any]:
        """Numbers that a resumed run needs; plain JSON values."""
        return dict(self.scaler.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from ``state()``."""
        if self.scales and state:
            self.scaler.load_state_dict(state)
