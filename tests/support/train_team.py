"""Two processes that train together over gloo, forked after torch is loaded; and the same alone.

Usage: python train_team.py FOLDER SCENARIO... Prints one JSON object: the exit codes of each scenario's processes.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

import torch

from support.scenes import scene_store
from support.train_runs import tiny, warm_up
from uhd.errors import UhdError
from uhd.train.distributed import join_team
from uhd.train.photos import PhotoStore
from uhd.train.trainer import Trainer

SCENARIOS: dict[str, dict[str, Any]] = {
    "aligned": {},
    "legacy": {"anchor_assigner": "legacy", "use_ema": False, "batch_size": 5},
    "fails": {},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train(folder: Path, photos: PhotoStore, scenario: str, rank: int, size: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    settings = SCENARIOS[scenario]
    # SGD's step is proportional to the gradient, so a small difference stays one (AdamW's first steps are +-lr)
    config = tiny(**{"epochs": 2, "eval_interval": 1, "optimizer": "sgd", "lr": 0.02, "warmup_steps": 0, **settings})
    team = join_team(torch.device("cpu"))
    trainer = Trainer(config, photos, photos, folder, team=team)
    if scenario == "fails" and rank == 1:
        trainer.batches.batch = None  # type: ignore[assignment]
    try:
        trainer.run()
    finally:
        team.close()
    weights = {name: float(value.double().sum()) for name, value in trainer.model.state_dict().items()}
    (folder / f"seen{rank}.json").write_text(json.dumps({"history": trainer.history, "weights": weights}))


def forked(*arguments: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        train(*arguments)
        code = 0
    except UhdError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def main() -> None:
    torch.set_num_threads(1)
    photos = scene_store(15, size=(48, 64))
    warm_up(Path(sys.argv[1]) / "warm", photos)
    codes = {}
    for scenario in sys.argv[2:]:
        folder, port = Path(sys.argv[1]) / scenario, free_port()
        children = [forked(folder / "two", photos, scenario, rank, 2, port) for rank in range(2)]
        if scenario != "fails":
            children.append(forked(folder / "one", photos, scenario, 0, 1, port))
        codes[scenario] = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
