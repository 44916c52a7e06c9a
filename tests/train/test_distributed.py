"""Two processes on one batch learn what one process learns from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from support.shared import ROOT
from uhd.errors import ConfigError
from uhd.train.distributed import ProcessTeam, Team, join_team, local_device
from uhd.train.targets import Targets

LEARNING = ("aligned", "legacy")  # the second with rows that do not divide evenly


@dataclass(frozen=True)
class Runs:
    folder: Path
    codes: dict[str, list[int]]
    stderr: str


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every scenario, in one process that forks, so that torch is loaded once."""
    folder = tmp_path_factory.mktemp("team")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'host'}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests/support/train_team.py"), str(folder), *LEARNING, "fails"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    return Runs(folder, json.loads(done.stdout.splitlines()[-1]), done.stderr)


@pytest.mark.parametrize("scenario", LEARNING)
def test_two_processes_learn_what_one_learns(runs: Runs, scenario: str) -> None:
    """Losses agree to 1e-5 over six steps, weights to 1e-4; only the leading process writes."""
    assert runs.codes[scenario] == [0, 0, 0], runs.stderr[-2000:]
    folder = runs.folder / scenario
    one, two, other = (
        json.loads((folder / name).read_text()) for name in ("one/seen0.json", "two/seen0.json", "two/seen1.json")
    )
    assert two["weights"] == other["weights"], "both processes have the same weights, to the bit"
    assert len(one["history"]) == 2
    for mine, theirs in zip(one["history"], two["history"], strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:  # detections of nearly equal scores may change places, which mAP sees
            close = {"abs": 1e-3} if name.startswith("map") else {"rel": 1e-5, "abs": 1e-7}
            assert theirs[name] == pytest.approx(mine[name], **close), name
    for name, value in one["weights"].items():
        assert two["weights"][name] == pytest.approx(value, rel=1e-4, abs=1e-4), name
    first, second = ((folder / run / "metrics.jsonl").read_text().splitlines() for run in ("one", "two"))
    assert len(first) == len(second) == 2
    assert not list((folder / "two").glob(".*.*"))


def test_an_error_in_one_process_ends_the_other(runs: Runs) -> None:
    first, second = runs.codes["fails"]
    assert second == 1, "the one that fails shows its bug"
    assert first == 2 and "error: another process of this run has stopped" in runs.stderr


def test_rows_are_shared_out_without_gap_or_overlap() -> None:
    for size in range(1, 9):
        for batch in range(size, 40):
            rows = [ProcessTeam(rank, size).rows(batch) for rank in range(size)]
            assert [i for part in rows for i in range(batch)[part]] == list(range(batch))
            lengths = [len(range(batch)[part]) for part in rows]
            assert max(lengths) - min(lengths) <= 1 and min(lengths) >= 1


def test_alone_nothing_is_sent() -> None:
    team = Team()
    maps = {"hm": torch.rand(2, 1, 3, 3)}
    targets = Targets(torch.tensor([0]), torch.tensor([0]), torch.rand(1, 4))
    whole, same = team.gather(maps, targets, 2)
    assert whole == maps and same is targets and team.rows(4) is None
    assert team.gather_objects("x") == ["x"] and team.share(3) == 3 and team.leads


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK, MASTER_ADDR, MASTER_PORT not set; start with torchrun"),
        ({"WORLD_SIZE": "two"}, "environment variable WORLD_SIZE is 'two', not a number"),
    ],
)
def test_half_an_environment_is_told(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, Any], message: str
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        join_team(torch.device("cpu"))


def test_each_process_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert local_device("cuda") == "cuda:3" and local_device("cpu") == "cpu" and local_device("cuda:1") == "cuda:1"
    monkeypatch.delenv("LOCAL_RANK")
    assert local_device("cuda") == "cuda"
