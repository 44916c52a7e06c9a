"""Reading and writing .npz files of arrays named like tensors."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.errors import DataError
from uhd.files import atomic_path

_UNREADABLE = (ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


def load_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a .npz file. Raises ``DataError`` if it is missing, damaged, or something else."""
    hint = "write it with numpy.savez"
    try:
        with path.open("rb") as stream:
            if not zipfile.is_zipfile(stream):
                raise DataError(f"{path}: not a .npz file", hint=hint)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise DataError(f"{path}: cannot read the arrays ({error.strerror or error})", hint="check the path") from None
    except _UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a sound .npz file ({reason})", hint=hint) from None


def save_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Atomically write ``arrays``; equal arrays give equal bytes. Any name is allowed, unlike with numpy.savez.

    Raises ``DataError`` where ``path`` cannot be written.
    """
    try:
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for name, array in arrays.items():
                member = zipfile.ZipInfo(f"{name}.npy")
                with archive.open(member, "w", force_zip64=True) as stream:
                    np.lib.format.write_array(stream, np.asarray(array, order="C"), allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path}: cannot write the arrays ({error.strerror})", hint="choose another --output") from None
