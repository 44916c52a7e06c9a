"""The errors a user may see.

Every message is one line that says what is wrong, where, and what to do about it. The command line prints
it without a traceback and ends with ``exit_code``. Anything else that escapes is a bug in this package.
"""

from __future__ import annotations


class UhdError(Exception):
    """Base of all errors caused by input, configuration or the machine rather than by a bug."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        """``message`` says what and where; ``hint`` says what to do, and follows after a semicolon."""
        super().__init__(f"{message}; {hint}" if hint else message)


class ConfigError(UhdError):
    """A flag, a configuration key or a manifest field is wrong."""


class DataError(UhdError):
    """A picture, label file, list file or folder cannot be used."""


class ModelError(UhdError):
    """A checkpoint, ONNX file or .espdl cannot be used, or belongs to another architecture or target."""


class ToolMissingError(UhdError):
    """A program that this step runs is not installed (exit code 2: nothing was built)."""


class SdkMissingError(ToolMissingError):
    """Everything of ours is in place, but the vendor SDK that finishes the build is not active (exit code 3)."""

    exit_code = 3


class DeviceError(UhdError):
    """The device is silent, answers with an error, or runs another model or protocol version."""
