"""The training state survives kills, full disks and damage, and holds what was put in."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from support.shared import ROOT
from uhd.errors import ModelError, UhdError
from uhd.train.state import PREVIOUS, STATE, load_state, pack, restore_optimizer, save_state, unpack


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"model/a": torch.full((3, 4), value), "model/b": torch.tensor(7), "ema/a": torch.full((2,), -value)}


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    save_state(tmp_path, tensors(1.5), {"epoch": 3, "history": [{"loss": 0.1}]})
    state = load_state(tmp_path)
    assert state.info == {"epoch": 3, "history": [{"loss": 0.1}]} and not state.skipped
    assert state.tensors.keys() == tensors(1.5).keys()
    for name, value in tensors(1.5).items():
        assert torch.equal(state.tensors[name], value) and state.tensors[name].dtype == value.dtype
    assert unpack(state.tensors, "ema").keys() == {"a"}


def test_two_generations_are_kept_and_nothing_else(tmp_path: Path) -> None:
    for epoch in range(4):
        save_state(tmp_path, tensors(epoch), {"epoch": epoch})
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([STATE, PREVIOUS])
    assert load_state(tmp_path).info["epoch"] == 3
    (tmp_path / STATE).unlink()
    assert load_state(tmp_path).info["epoch"] == 2


@pytest.mark.parametrize("seed", range(12))
def test_damage_anywhere_falls_back_one_generation(tmp_path: Path, seed: int) -> None:
    save_state(tmp_path, tensors(1), {"epoch": 1})
    save_state(tmp_path, tensors(2), {"epoch": 2})
    rng = random.Random(seed)
    data = bytearray((tmp_path / STATE).read_bytes())
    if seed % 3 == 0:
        del data[rng.randrange(len(data)) :]
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    (tmp_path / STATE).write_bytes(data)
    state = load_state(tmp_path)
    assert state.info["epoch"] == 1 and STATE in state.skipped
    assert torch.equal(state.tensors["model/a"], tensors(1)["model/a"])


def test_nothing_left_to_load_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no training state to resume from; leave --resume out"):
        load_state(tmp_path)
    (tmp_path / STATE).write_bytes(b"\x80\x04pickle?")
    with pytest.raises(ModelError, match="not a readable training state") as error:
        load_state(tmp_path)
    assert "\n" not in str(error.value)


WRITER = """
import sys, torch
from pathlib import Path
from uhd.train.state import save_state
print("ready", flush=True)
epoch = int(sys.argv[2])
while True:
    epoch += 1
    save_state(Path(sys.argv[1]), {"a": torch.full((200000,), float(epoch))}, {"epoch": epoch})
    print(epoch, flush=True)
"""


def test_kill_during_writing_leaves_a_state_as_new_as_was_told(tmp_path: Path) -> None:
    """SIGKILL at random moments of a process that only writes; what it said it had written is never lost."""
    rng = random.Random(5)
    epoch = 0
    for _ in range(4):
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "host"), "OMP_NUM_THREADS": "1"}
        arguments = [sys.executable, "-c", WRITER, str(tmp_path), str(epoch)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            first = int(process.stdout.readline())
            assert first == epoch + 1
            time.sleep(rng.uniform(0.0, 0.05))  # the moment of the kill, not a wait for anything
            process.send_signal(signal.SIGKILL)
            told = [first, *(int(line) for line in process.stdout.read().splitlines())]
        state = load_state(tmp_path)
        epoch = state.info["epoch"]
        assert told[-1] <= epoch <= told[-1] + 1
        assert torch.equal(state.tensors["a"], torch.full((200000,), float(epoch)))


@pytest.mark.parametrize("step", ["write_bytes", "replace", "fsync"])
def test_a_failing_disk_is_one_line_and_keeps_a_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    save_state(tmp_path, tensors(1), {"epoch": 1})

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, step)), fail)
    with pytest.raises(UhdError, match="cannot write the training state .No space left") as error:
        save_state(tmp_path, tensors(2), {"epoch": 2})
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert load_state(tmp_path).info["epoch"] == 1
    assert not [p for p in tmp_path.iterdir() if p.name not in (STATE, PREVIOUS)], "no half-written file"


def test_a_real_file_size_limit(tmp_path: Path) -> None:
    save_state(tmp_path, tensors(1), {"epoch": 1})
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom uhd.errors import UhdError\n"
        "from uhd.train.state import save_state\n"
        "try:\n    save_state(Path(sys.argv[1]), {'a': torch.zeros(100000)}, {'epoch': 2})\n"
        "except UhdError as error:\n    print(error); sys.exit(2)\n"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], preexec_fn=limit, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2 and done.stdout.count("\n") == 1, done.stderr
    assert load_state(tmp_path).info["epoch"] == 1


def test_the_optimizer_gets_its_memory_layout_back() -> None:
    """The fused update walks memory, so restored averages must lie in memory as their parameter does."""

    def fresh() -> tuple[torch.nn.Conv2d, torch.optim.Optimizer]:
        torch.manual_seed(0)
        conv = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        return conv, torch.optim.AdamW(conv.parameters(), lr=0.1, fused=True)

    def step(conv: torch.nn.Conv2d, optimizer: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        conv(torch.rand(2, 3, 6, 6)).square().sum().backward()
        optimizer.step()

    whole, whole_optimizer = fresh()
    part, part_optimizer = fresh()
    for conv, optimizer in ((whole, whole_optimizer), (part, part_optimizer)):
        step(conv, optimizer, 1)
    packed = pack({"model": part.state_dict()}, part_optimizer)
    again, again_optimizer = fresh()
    again.load_state_dict(unpack(packed, "model"))
    restore_optimizer(again_optimizer, {name: value.contiguous() for name, value in packed.items()})
    for conv, optimizer in ((whole, whole_optimizer), (again, again_optimizer)):
        step(conv, optimizer, 2)
    assert torch.equal(whole.weight, again.weight) and torch.equal(whole.bias, again.bias)
