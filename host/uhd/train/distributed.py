"""The processes of one run: each makes some rows of every batch, and all do the same step.

Started by ``torchrun`` (or ``python -m torch.distributed.run``), which sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR
and MASTER_PORT. Head maps are gathered and every process computes the loss of the whole batch, so any loss is the one
of a single process, whatever it divides by; only its own rows' gradient goes back through the network. Gradients are
then added up in one message, after the backward pass: synchronised normalisation talks during it, and two kinds of
messages under way at a time could meet in another order on another process.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from uhd.errors import ConfigError, UhdError
from uhd.train.targets import Targets

T = TypeVar("T")

#: A process that waits longer than this for another one gives up.
TIMEOUT = timedelta(minutes=10)


class Team:
    """One process on its own: nothing is sent, everything is already whole."""

    rank = 0
    size = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def rows(self, batch: int) -> slice | None:
        """This process's rows of a batch of ``batch`` photos; ``None``: all."""
        return None

    def gather(self, maps: Mapping[str, Tensor], targets: Targets, batch: int) -> tuple[dict[str, Tensor], Targets]:
        """The maps (without gradient) and targets of the whole batch from those of each process's rows."""
        return dict(maps), targets

    def add_gradients(self, parameters: Iterable[nn.Parameter], extra: Tensor) -> Tensor:
        """Replace each gradient by the sum over the processes; the sum of ``extra`` [n] is returned."""
        return extra

    def gather_objects(self, value: T) -> list[T]:
        """Every process's value, in order of rank, on every process."""
        return [value]

    def share(self, value: T) -> T:
        """The value of the leading process."""
        return value

    def close(self) -> None:
        """Leave the team."""


class ProcessTeam(Team):
    """One of several processes, in the default process group of ``torch.distributed``."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def rows(self, batch: int) -> slice | None:
        return slice(self.rank * batch // self.size, (self.rank + 1) * batch // self.size)

    def gather(self, maps: Mapping[str, Tensor], targets: Targets, batch: int) -> tuple[dict[str, Tensor], Targets]:
        first = [rank * batch // self.size for rank in range(self.size + 1)]
        counts = [end - start for start, end in zip(first, first[1:], strict=False)]
        whole = {name: self._gather_ragged(part.detach(), counts) for name, part in maps.items()}
        device = next(iter(whole.values())).device
        lengths = torch.zeros(self.size, dtype=torch.int64, device=device)
        lengths[self.rank] = len(targets)
        with told_simply():
            dist.all_reduce(lengths)
        many = lengths.tolist()
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(targets):
            value = getattr(targets, field.name)
            if isinstance(value, Tensor):
                value = value + first[self.rank] if field.name == "image" else value
                fields[field.name] = self._gather_ragged(value.to(device), many)
        return whole, dataclasses.replace(targets, **fields)

    def _gather_ragged(self, mine: Tensor, counts: Sequence[int]) -> Tensor:
        """Concatenate over the processes along the first axis, where process r has ``counts[r]`` entries."""
        longest = max(counts)
        padded = mine.new_zeros((longest, *mine.shape[1:]))
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in counts]
        with told_simply():
            dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    def add_gradients(self, parameters: Iterable[nn.Parameter], extra: Tensor) -> Tensor:
        # a loss without positives reaches fewer parameters, so each process says which gradients it has
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        have = torch.tensor([float(p.grad is not None) for p in trained], device=extra.device)
        flat = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in trained]
        message = torch.cat([*flat, have, extra.detach().reshape(-1).float()])
        with told_simply():
            dist.all_reduce(message)
        *parts, any_have, total = torch.split(message, [len(part) for part in flat] + [len(have), extra.numel()])
        for parameter, part, used in zip(trained, parts, any_have.tolist(), strict=True):
            # copied, so that the gradient keeps the parameter's layout in memory
            parameter.grad = torch.empty_like(parameter).copy_(part.view(parameter.shape)) if used else None
        return total.view_as(extra)

    def gather_objects(self, value: T) -> list[T]:
        parts: list[Any] = [None] * self.size
        with told_simply():
            dist.all_gather_object(parts, value)
        return parts

    def share(self, value: T) -> T:
        parts: list[Any] = [value]
        with told_simply():
            dist.broadcast_object_list(parts, src=0)
        return parts[0]

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def told_simply() -> Iterator[None]:
    """A peer that is gone, told in one line: its own message says why."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise UhdError(f"another process of this run has stopped ({reason[:120]})", hint="see its message") from None


def join_team(device: torch.device) -> Team:
    """The team that the launcher's environment describes; on one's own without one.

    Collectives of tensors in main memory go over gloo, those on a GPU over NCCL. Raises ``ConfigError`` for an
    environment that is incomplete or cannot be connected to.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        return Team()
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} not set", hint="start with torchrun, which sets them"
        )
    rank = _number("RANK", 0)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"cannot join the other processes ({str(error).splitlines()[0]})") from None
    return ProcessTeam(rank, size)


def local_device(device: str) -> str:
    """``cuda`` becomes the GPU of this process on its machine (LOCAL_RANK); anything else is left alone."""
    return f"cuda:{_number('LOCAL_RANK', 0)}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise ConfigError(f"environment variable {name} is {text!r}, not a number", hint="start with torchrun")
    return int(text)
