"""Runs that are killed: a process that imports torch once and forks a trainer again and again.

Usage: python train_kill_server.py FOLDER KILLS SEED. Trains in FOLDER/whole without a stop, then FOLDER/run0, run1 ...
in processes that are killed and resumed until KILLS kills have hit, and prints one JSON line.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from support.scenes import scene_store
from support.train_runs import tiny, warm_up
from uhd.train.photos import PhotoStore
from uhd.train.progress import Watcher
from uhd.train.trainer import Trainer

#: What a writer of files calls; one of its next calls of one of these is the last thing a process does.
CALLS = ("os.fsync", "Path.replace", "Path.write_bytes", "half write_bytes", "Path.chmod", "tempfile.mkstemp")
EPOCHS = 4
STEPS = 2


def train(folder: Path, photos: PhotoStore, steps: int | None = None, watcher: Watcher | None = None) -> Trainer:
    """Train, or go on training, in ``folder``."""
    config = tiny(epochs=EPOCHS, batch_size=2, eval_interval=2, warmup_steps=1)
    resume = any(folder.glob("state*.safetensors"))
    trainer = Trainer(config, photos, photos, folder, resume=resume, watcher=watcher)
    trainer.run()
    return trainer


class Beats(Watcher):
    """Writes a byte into a pipe for every step."""

    def __init__(self, pipe: int) -> None:
        super().__init__()
        self.pipe = pipe

    def step(self, epoch: int, step: int, loss: torch.Tensor) -> None:
        os.write(self.pipe, b".")


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_inside(name: str, count: int) -> None:
    """Replace a call that writes by one that ends this process, at its ``count``-th use."""
    owner: Any = {"os": os, "Path": Path}.get(name.split(".")[0].split()[-1])
    if name == "tempfile.mkstemp":
        import tempfile

        owner = tempfile
    attribute = "write_bytes" if name.startswith("half") else name.split(".")[1]
    owner = Path if name.startswith("half") else owner
    original: Callable[..., Any] = getattr(owner, attribute)
    left = [count]

    def call(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0]:
            return original(*arguments, **options)
        if name.startswith("half"):
            original(arguments[0], arguments[1][: len(arguments[1]) // 2])
        elif left[0] == 0 and count % 2:
            original(*arguments, **options)  # and then, before anything follows it
        die()

    setattr(owner, attribute, call)


def child(folder: Path, photos: PhotoStore, pipe: int, inside: tuple[str, int] | None) -> None:
    code = 1
    try:
        if inside is not None:
            die_inside(*inside)
        train(folder, photos, watcher=Beats(pipe))
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def fork(folder: Path, photos: PhotoStore, rng: random.Random | None) -> tuple[int, str]:
    """One process that trains in ``folder``; with ``rng`` it is killed at a random moment. Returns its status."""
    reading, writing = os.pipe()
    inside = None
    if rng is not None and rng.random() < 0.5:
        inside = (rng.choice(CALLS), rng.randint(1, 6))
    beats = rng.randint(0, STEPS * 2) if rng is not None and inside is None else None
    delay = rng.uniform(0, 0.02) if rng is not None else 0.0
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child(folder, photos, writing, inside)
    os.close(writing)
    while beats:
        beats -= len(os.read(reading, 1)) or beats
    if beats is not None:
        select.select([reading], [], [], 0)
        signal.sigtimedwait([], delay)  # the moment of the kill, not a wait for anything
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(reading)
    return status, inside[0] if inside else "between"


def main() -> None:
    folder, wanted, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    rng = random.Random(seed)
    photos = scene_store(2 * STEPS, size=(48, 64))
    warm_up(folder / "warm", photos)
    status, _ = fork(folder / "whole", photos, None)
    kills: dict[str, int] = {}
    runs = 0
    while status == 0 and sum(kills.values()) < wanted:
        run = folder / f"run{runs}"
        while True:
            status, where = fork(run, photos, rng if sum(kills.values()) < wanted else None)
            if not os.WIFSIGNALED(status):
                break
            kills[where] = kills.get(where, 0) + 1
        runs += 1
    print(json.dumps({"kills": kills, "runs": runs, "status": status}))


if __name__ == "__main__":
    main()
