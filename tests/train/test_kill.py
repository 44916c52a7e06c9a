"""SIGKILL at any moment, and orderly signals: what is resumed ends as what was never stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from support.shared import ROOT
from uhd.train.state import load_state

KILLS = 50
FILES = ("best.safetensors", "best.json", "last.safetensors", "metrics.jsonl", "evaluation.json")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'host'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}


def test_killed_at_fifty_moments_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """Half of the kills are by another process after some steps, half inside the writing of files.

    Every process that follows a kill must start; every run that gets to its end must leave the same bytes as the one
    that was never touched, and nothing half written.
    """
    server = ROOT / "tests" / "support" / "train_kill_server.py"
    arguments = [sys.executable, str(server), str(tmp_path), str(KILLS), "21"]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["status"] == 0, done.stderr[-2000:]
    assert sum(result["kills"].values()) == KILLS
    assert result["kills"].get("between", 0) >= 10 and len(result["kills"]) >= 5, result
    for number in range(result["runs"]):
        run = tmp_path / f"run{number}"
        for name in FILES:
            assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), f"{run.name}/{name}"
        mine, theirs = load_state(run), load_state(tmp_path / "whole")
        assert mine.info == theirs.info and not mine.skipped and mine.tensors.keys() == theirs.tensors.keys()
        assert all(torch.equal(value, theirs.tensors[name]) for name, value in mine.tensors.items())
        hidden = [path.name for path in run.glob(".*") if path.name != ".lock"]
        assert not hidden, f"left behind: {hidden}"
