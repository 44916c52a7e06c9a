"""What a run does about signals, full disks, losses that are not finite, harmful files and a second process."""

from __future__ import annotations

import math
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.scenes import scene_store, write_scenes
from support.shared import ROOT
from support.train_runs import assert_same_run, tiny
from uhd.errors import ConfigError, ModelError, UhdError
from uhd.train.batches import Batch
from uhd.train.guard import NAN_BATCH, PATIENCE, Guard
from uhd.train.photos import PhotoStore
from uhd.train.precision import LEAST_SCALE, Precision
from uhd.train.prefetch import Prefetcher
from uhd.train.progress import Watcher
from uhd.train.state import STATE, load_state
from uhd.train.stop import StopSignals, TrainingStopped
from uhd.train.targets import Targets
from uhd.train.trainer import Trainer


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos() -> PhotoStore:
    return scene_store(12, size=(48, 64))


class Signalling(Watcher):
    """Sends this process a signal after some step, as a user would."""

    def __init__(self, number: int, at: tuple[int, int]) -> None:
        super().__init__()
        self.number, self.at = number, at

    def step(self, epoch: int, step: int, loss: torch.Tensor) -> None:
        if (epoch, step) == self.at:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize(
    ("number", "code", "at", "told"),
    [
        (signal.SIGINT, 130, (1, 1), "stopped by Ctrl-C after epoch 2, step 2"),
        (signal.SIGTERM, 143, (1, 2), "stopped by SIGTERM after epoch 2, step 3|stopped by SIGTERM after epoch 2,"),
        (signal.SIGTERM, 143, (0, 3), "stopped by SIGTERM after epoch 1,"),
    ],
)
def test_signals_save_and_the_resumed_run_ends_the_same(
    tmp_path: Path, photos: PhotoStore, number: int, code: int, at: tuple[int, int], told: str
) -> None:
    config = tiny(epochs=3, eval_interval=3)
    whole = Trainer(config, photos, photos, tmp_path / "whole")
    whole.run()
    handler = signal.getsignal(number)
    first = Trainer(config, photos, photos, tmp_path / "run", watcher=Signalling(number, at))
    with pytest.raises(TrainingStopped, match=told) as stop:
        first.run()
    assert stop.value.exit_code == code and "go on with --resume" in str(stop.value)
    assert signal.getsignal(number) is handler, "handlers are put back"
    again = Trainer(config, photos, photos, tmp_path / "run", resume=True)
    assert (again.epoch, again.step) == (first.epoch, first.step)
    again.run()
    assert_same_run(again, whole)
    assert "stopped by" in (tmp_path / "run" / "train.log").read_text()


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)


DISK_FULL = """
import sys, torch, resource
from pathlib import Path
from support.scenes import scene_store
from support.train_runs import tiny
from uhd.errors import UhdError
from uhd.train.trainer import Trainer
torch.set_num_threads(1)
photos, folder = scene_store(4, size=(48, 64)), Path(sys.argv[1])
Trainer(tiny(batch_size=2), photos, photos, folder).run(stop_after=1)
size = (folder / "state.safetensors").stat().st_size
for part in (2, 20, 400):  # the state, the weights, the smallest files
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // part, resource.RLIM_INFINITY))
    try:
        Trainer(tiny(batch_size=2), photos, photos, folder, resume=True).run(stop_after=1)
    except UhdError as error:
        print(error.exit_code, error)
    else:
        print("0 no error")
"""


def test_a_full_disk_is_one_line_and_the_state_is_kept(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'host'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, str(tmp_path / "run")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 3, lines
    assert all(line.startswith("2 ") and "cannot write" in line for line in lines), lines
    state = load_state(tmp_path / "run")
    assert state.info["epoch"] == 1 and not state.skipped
    assert not [path.name for path in (tmp_path / "run").glob(".*") if path.name != ".lock"]


def test_a_full_file_system(tmp_path: Path) -> None:
    """The same on a file system without room, where this user may mount one."""
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(mount)], capture_output=True).returncode:
        pytest.skip("mounting a small file system needs privileges")
    try:
        photos = scene_store(4, size=(48, 64))
        Trainer(tiny(batch_size=2), photos, photos, mount / "run").run(stop_after=1)
        (mount / "filler").write_bytes(bytes(max(0, _free(mount) - 4096)))
        with pytest.raises(UhdError, match="cannot write.*No space left"):
            Trainer(tiny(batch_size=2), photos, photos, mount / "run", resume=True).run()
        (mount / "filler").unlink()
        assert load_state(mount / "run").info["epoch"] == 1
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def spoiled(trainer: Trainer, at: tuple[int, int]) -> None:
    """Let a batch of this run hold a value that is not finite."""
    original = trainer.batches.batch

    def batch(order: torch.Tensor, epoch: int, step: int, rows: slice | None = None) -> Batch:
        made = original(order, epoch, step, rows)
        if (epoch, step) == at:
            made.images[1, 0, 3, 2] = float("inf")
        return made

    trainer.batches.batch = batch  # type: ignore[method-assign]


def test_a_loss_that_is_not_finite_leaves_its_batch(tmp_path: Path, photos: PhotoStore) -> None:
    trainer = Trainer(tiny(), photos, photos, tmp_path / "run")
    spoiled(trainer, (1, 2))
    with pytest.raises(UhdError, match=r"not finite in epoch 2, step 3; the batch is in .*nan_batch\.npz") as error:
        trainer.run()
    assert "\n" not in str(error.value) and "box" in str(error.value)
    with np.load(tmp_path / "run" / NAN_BATCH) as kept:
        assert (int(kept["epoch"]), int(kept["step"])) == (2, 3)
        assert np.isinf(kept["images"]).sum() == 1 and kept["images"].shape[0] == 4
        assert len(kept["boxes"]) == len(kept["label"]) == len(kept["image"])
        assert not np.isfinite(kept["loss_loss"])
    assert load_state(tmp_path / "run").info["epoch"] == 1, "the last good state"
    whole = Trainer(tiny(), photos, photos, tmp_path / "whole")
    whole.run()
    again = Trainer(tiny(), photos, photos, tmp_path / "run", resume=True)
    again.run()
    assert_same_run(again, whole)


def test_float16_overflow_is_the_scaler_s_business(tmp_path: Path, photos: PhotoStore) -> None:
    """A step that overflows is left out and the scale halved; weights and statistics stay finite."""
    trainer = Trainer(tiny(use_amp=True, amp_dtype="float16", epochs=1), photos, photos, tmp_path / "run")
    spoiled(trainer, (0, 1))
    scale = trainer.learner.precision.scaler.get_scale()
    trainer.run()
    assert trainer.learner.precision.scaler.get_scale() <= scale / 2
    assert math.isfinite(trainer.history[0]["loss"]) and trainer.history[0]["loss"] > 0
    assert all(bool(value.isfinite().all()) for value in trainer.model.state_dict().values())
    assert not (tmp_path / "run" / NAN_BATCH).exists()


def test_a_scale_that_is_gone_is_told() -> None:
    precision = Precision(torch.device("cpu"), True, "float16")
    precision.check_scale()
    precision.restore({**precision.state(), "scale": LEAST_SCALE / 2})
    with pytest.raises(UhdError, match="every step overflows in float16; lower --lr"):
        precision.check_scale()
    assert Precision(torch.device("cpu"), True, "auto").dtype is torch.bfloat16
    assert not Precision(torch.device("cpu"), False, "float16").scales


def test_guard_looks_now_and_then_but_finds_the_first(tmp_path: Path) -> None:
    """As on a GPU, where looking at every step would wait for it."""
    guard = Guard(torch.device("meta"), tmp_path)
    assert guard.patience == PATIENCE
    made: list[int] = []

    def remake(step: int) -> Batch:
        made.append(step)
        return Batch(torch.full((1, 1, 2, 2), float(step)), Targets(*(torch.zeros(0),) * 2, torch.zeros(0, 4)))

    for step in range(PATIENCE - 1):
        guard.watch(step, {"loss": torch.tensor(1.0), "box": torch.tensor(float("nan") if step >= 5 else 1.0)})
        guard.look(0, remake)
    assert not made
    with pytest.raises(UhdError, match="box not finite in epoch 1, step 6"):
        guard.look(0, remake, now=True)
    assert made == [5]
    guard.look(0, remake, now=True)


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self.marker}",))


@pytest.mark.parametrize("kind", ["plain", "zip"])
def test_pickle_bombs_are_refused(tmp_path: Path, photos: PhotoStore, kind: str) -> None:
    marker, path = tmp_path / "exploded", tmp_path / "bomb.pt"
    if kind == "plain":
        path.write_bytes(pickle.dumps({"model": Bomb(marker)}, protocol=2))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({"model": Bomb(marker)}, protocol=2))
            archive.writestr("archive/version", "3")
    for number, settings in enumerate([{}, {"teacher_ckpt": str(path), "distill_kl": 1.0}]):
        ckpt = None if settings else path
        with pytest.raises(ModelError) as error:
            Trainer(tiny(**settings), photos, photos, tmp_path / f"run{number}", ckpt=ckpt)
        assert "\n" not in str(error.value) and "bomb.pt" in str(error.value)
    run = tmp_path / "resumed"
    run.mkdir()
    (run / STATE).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="not a readable training state"):
        Trainer(tiny(), photos, photos, run, resume=True)
    assert not marker.exists()


def test_two_runs_cannot_share_a_folder(tmp_path: Path, photos: PhotoStore) -> None:
    first = Trainer(tiny(), photos, photos, tmp_path / "run")
    second = Trainer(tiny(), photos, photos, tmp_path / "run")
    first.folder.hold()
    with pytest.raises(ConfigError, match="another process trains here; choose another --output"):
        second.run()
    first.folder.release()
    assert second.run(stop_after=1) is not None


def test_prefetch_keeps_order_raises_in_place_and_ends_its_thread() -> None:
    def make(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number * number

    with Prefetcher(make, 1, 5) as squares:
        assert list(squares) == [1, 4, 9, 16]
    seen = []
    with pytest.raises(ValueError, match="five"), Prefetcher(make, 3, 9) as squares:
        for square in squares:
            seen.append(square)
    assert seen == [9, 16]
    with Prefetcher(make, 0, 5) as squares:
        assert next(iter(squares)) == 0
    assert not squares._thread.is_alive()


def test_the_command_ends_with_the_signal_s_code(tmp_path: Path) -> None:
    """SIGTERM to a real training command: one line, exit code 143, and --resume goes on to the end."""
    scenes = write_scenes(tmp_path / "photos", 6, size=(48, 64))
    base = [sys.executable, "-m", "uhd.host", "train", "--images", str(scenes), "--val", str(scenes)]
    base += ["--cache-dir", str(tmp_path / "cache"), "--output", str(tmp_path / "run"), "--device", "cpu"]
    small = ["--arch", "cnn", "--cnn-width", "4", "--resize-mode", "opencv_inter_nearest", "--batch-size", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host"), "OMP_NUM_THREADS": "1"}
    command = [*base, *small, "--epochs", "5000", "--eval-interval", "5000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stderr is not None
        seen = []
        for line in run.stderr:
            seen.append(line)
            if line.startswith("epoch 1/"):
                run.send_signal(signal.SIGTERM)
                break
        rest = run.stderr.read()
    assert run.returncode == 143, "".join(seen) + rest
    assert "Traceback" not in rest and "stopped by SIGTERM" in rest.splitlines()[-1]
    assert load_state(tmp_path / "run").info["epoch"] >= 1
