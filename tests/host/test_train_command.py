"""The ``train`` command on generated scenes, and what it says to mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from support.scenes import write_scenes
from uhd.errors import UhdError
from uhd.host.train import command, usable_device
from uhd.models.checkpoint import load_checkpoint
from uhd.train.config import TrainConfig, parse_train_config, read_settings

SHORT = ["--epochs", "2", "--batch-size", "3", "--eval-interval", "1", "--threads", "1", "--device", "cpu"]
TINY = ["--arch", "ultratinyod", "--cnn-width", "4", "--opencv_inter_nearest_yuv422", "--img-size", "32"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    base = tmp_path_factory.mktemp("scenes")
    return write_scenes(base / "train", 6), write_scenes(base / "val", 4, first_seed=50), base / "cache"


def arguments(folders: tuple[Path, Path, Path], output: Path, *more: str) -> list[str]:
    train, val, cache = map(str, folders)
    return ["--images", train, "--val", val, "--cache-dir", cache, "--output", str(output), *SHORT, *more]


def invoke(*words: str) -> dict[str, object]:
    done = CliRunner().invoke(command, [*words, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result: dict[str, object] = json.loads(done.stdout)
    return result


def fails(*words: str) -> str:
    with pytest.raises(UhdError) as error:
        CliRunner().invoke(command, list(words), catch_exceptions=False, standalone_mode=False)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def trained(folders: tuple[Path, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two epochs."""
    output = tmp_path_factory.mktemp("runs") / "run"
    done = CliRunner().invoke(command, arguments(folders, output, *TINY, "--json"), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["epoch"] in (1, 2) and 0 <= result["map50"] <= 1
    assert Path(result["weights"]) == output / "best.safetensors"
    assert "epoch 2/2" in done.stderr
    return output


def test_trains_and_records_what_it_did(trained: Path, folders: tuple[Path, Path, Path]) -> None:
    model, manifest = load_checkpoint(trained / "best.safetensors")
    assert manifest.accuracy[0].images == 4 and manifest.training["data"]["photos"] == 6
    assert len(model.config.anchors) == 3 and model.config.width == 4 and manifest.input_width == 32
    config = parse_train_config(read_settings(trained / "config.yaml"), "config.yaml")
    assert (config.images, config.output) == (str(folders[0]), str(trained))
    assert manifest.training["config"] == config.settings()


def test_resumes_with_the_settings_of_the_run(trained: Path, folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    weights = (run / "best.safetensors").read_bytes()
    for words in ([str(run)], [str(run / "last.safetensors")]):
        invoke("--resume", *words, "--device", "cpu")
    invoke(*arguments(folders, run, *TINY, "--resume"))
    assert (run / "best.safetensors").read_bytes() == weights
    assert "started with lr" in fails("--resume", str(run), "--lr", "0.1")
    assert "in its own folder" in fails("--resume", str(run), "--output", str(tmp_path / "other"))
    assert "holds a run already" in fails(*arguments(folders, run, *TINY))


def test_config_file_starts_the_same_run_elsewhere(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / "again"
    invoke("--config", str(trained / "config.yaml"), "--output", str(output))
    assert (output / "best.safetensors").read_bytes() == (trained / "best.safetensors").read_bytes()


def test_starts_from_a_checkpoint_s_architecture(
    trained: Path, folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    words = arguments(folders, tmp_path / "run", "--epochs", "1", "--ckpt", str(trained / "best.safetensors"))
    done = CliRunner().invoke(command, [*words, "--arch", "ultratinyod", "--cnn-width", "8"], catch_exceptions=False)
    assert "warning: cnn_width: 4, as in best.safetensors, not 8" in done.stderr
    before, _ = load_checkpoint(trained / "best.safetensors")
    after, manifest = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert after.config == before.config and manifest.input_height == 32
    free = ["--w-bits", "4", "--score-mode", "quality", "--output", str(tmp_path / "free")]
    invoke(*words, *free)
    rounded, _ = load_checkpoint(tmp_path / "free" / "last.safetensors")
    assert rounded.config.w_bits == 4 and rounded.config.score_mode == "quality"
    assert "is no variant Z" in fails(*words, "--variant", "Z", "--output", str(tmp_path / "z"))


@pytest.mark.parametrize(
    "words",
    [
        "--arch cnn --cnn-width 4 --last-se se --torch_nearest",
        "--arch cnn --use-anchor --cnn-width 4 --disable-cls --anchor-assigner simota",
        "--arch cnn --backbone ultratinyresnet --backbone-channels 4,4,8 --backbone-blocks 1,1,1 --backbone-skip-cat",
        "--arch transformer --d-model 8 --heads 2 --layers 1 --dim-feedforward 8 --opencv_inter_linear",
        "--arch ultratinyod --cnn-width 4 --qat --opencv_inter_nearest_yuv422 --activation relu",
        "--arch ultratinyod --cnn-width 4 --obj-target iou --use-improved-head --aug-config aug --img-size 32x48",
        "--arch ultratinyod --cnn-width 4 --classes 0,1 --multi-label-mode separate --multi-label-attr-classes 1",
    ],
)
def test_other_networks_and_losses(words: str, folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    short = ["--epochs", "1", "--img-size", "32"]
    given = words.split()
    done = invoke(*arguments(folders, tmp_path / "run", *short, *given))
    model, manifest = load_checkpoint(Path(str(done["weights"])))
    assert model.config.arch == manifest.architecture == given[1]
    again = invoke("--val-only", "--ckpt", str(done["weights"]), "--output", str(tmp_path / "seen"), "--device", "cpu")
    assert again["photos"] == 4
    if "--qat" not in given:  # whose figure is of the rounded network
        assert again["map50"] == pytest.approx(done["map50"], abs=1e-6)


def test_one_folder_is_split(folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(folders[0], photos)
    before = sorted(photos.parent.rglob("*"))
    monkeypatch.chdir(tmp_path)
    shared = ["--image-dir", "photos", "--cache-dir", str(folders[2]), *SHORT, *TINY, "--epochs", "1"]
    invoke(*shared, "--exp-name", "a", "--train-split", "0.5", "--val-split", "0.5")
    _, manifest = load_checkpoint(Path("runs/a/best.safetensors"))
    assert manifest.training["data"]["photos"] == 3 and manifest.accuracy[0].images == 3
    assert sorted(path for path in tmp_path.rglob("*") if "runs" not in path.parts) == before


def test_lists(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("".join(f"{i:03d}.png\n" for i in range(4)))
    (tmp_path / "val.txt").write_text("004.png\n005.png\n")
    words = ["--train-list", str(tmp_path / "train.txt"), "--val-list", str(tmp_path / "val.txt")]
    words += ["--image-dir", str(folders[0]), "--cache-dir", str(folders[2]), "--output", str(tmp_path / "run")]
    invoke(*words, *SHORT, *TINY, "--epochs", "1")
    _, manifest = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert manifest.training["data"]["photos"] == 4 and manifest.accuracy[0].images == 2


def test_mistakes_are_one_line_and_leave_nothing(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "run"
    here = tuple(arguments(folders, output))
    assert "lr" in fails(*here, "--lr", "-1")
    assert "resize_mode" in fails(*here, "--resize-mode", "sideways")
    assert "unknown variant 'Q'" in fails(*here, "--variant", "Q")
    assert "unknown device" in fails(*here, "--device", "toaster")
    assert "no training state" in fails(*here, "--resume")
    assert "no such run" in fails(*here, "--resume", str(tmp_path / "nowhere"))
    assert "give one of them" in fails(*here, "--resume", "--ckpt", "x.safetensors")
    assert "cannot read the checkpoint" in fails(*here, "--ckpt", str(tmp_path / "none.safetensors"))
    assert "classes '0,0'" in fails(*here, "--classes", "0,0")
    assert "give one of them" in fails(*here, "--torch_bilinear", "--resize-mode", "torch_nearest")
    assert "give one of them" in fails(*here, "--with-heatmap-mean", "--with-heatmap-sum")
    assert "no photos named" in fails("--output", str(output), *SHORT)
    (tmp_path / "bad.yaml").write_text("epochz: 3\n")
    assert "bad.yaml: 'epochz': unknown setting; did you mean epochs?" in fails("--config", str(tmp_path / "bad.yaml"))
    assert not output.exists()


def test_bad_labels_are_told_or_stop_the_run(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    bad = write_scenes(tmp_path / "bad", 6)
    (bad / "001.txt").write_text("0 0.5 0.5 0.2 0.2\n0 0.5 1.7 0.2 0.2\n")
    words = arguments((bad, folders[1], folders[2]), tmp_path / "run", *TINY, "--epochs", "1")
    message = fails(*words, "--strict-data")
    assert "001.txt:2" in message and not (tmp_path / "run").exists()
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    assert done.exit_code == 0 and "001.txt:2" in done.stderr
    assert load_checkpoint(tmp_path / "run" / "last.safetensors")[1].training["data"]["photos"] == 5


def test_cuda_that_is_not_there_becomes_the_cpu() -> None:
    import torch

    assert usable_device(TrainConfig()) == (TrainConfig(), [])
    config, lines = usable_device(TrainConfig(device="cuda:3"))
    if torch.cuda.is_available():
        assert not lines and config.device == "cuda:3"
    else:
        assert config.device == "cpu" and "no CUDA device here" in lines[0]


def test_half_precision_is_left_out_on_a_cpu() -> None:
    """There it takes ten times longer, and the published command lines all ask for it."""
    config, lines = usable_device(TrainConfig(device="cpu", use_amp=True))
    assert not config.use_amp and "use_amp is for GPUs" in lines[0]
    assert usable_device(TrainConfig(device="cpu")) == (TrainConfig(device="cpu"), [])
