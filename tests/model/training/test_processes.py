import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from model.evaluation.evaluate import all_logits, evaluate_logits, fit_temperature
from model.evaluation.journal import METRICS
from model.network import checkpoint, checkpoint_folder
from model.network.run_folder import LESSONS, RESUME
from model.training.processes import Processes, joined, shard_slices
from model.training.train import BEST, main
from tests.model.toys import write_image
from tests.model.training.two_processes import DATASET, HANDFUL, HANDFUL_RECIPE, SAVED_AT, run, run_viewed

pytestmark = [
    pytest.mark.process,
    pytest.mark.training,
    pytest.mark.timeout(600),
]  # half a minute here: processes that import torch and wait for each other
ALONE = 1e-4  # how far two processes may be from one, whose sums are in another order


# --- parts ---


@given(total=st.integers(0, 200), count=st.integers(1, 20))
def test_the_parts_are_all_rows_in_order_and_none_is_cut_at_an_odd_place(total: int, count: int) -> None:
    pieces = shard_slices(total, count)
    assert len(pieces) == count
    assert [row for piece in pieces for row in range(total)[piece]] == list(range(total))
    assert all(piece.start % 2 == 0 or piece.start == total for piece in pieces)


@pytest.mark.parametrize(
    ("total", "count", "sizes"),
    [(8, 1, [8]), (8, 2, [4, 4]), (7, 2, [4, 3]), (6, 2, [4, 2]), (2, 2, [2, 0]), (10, 4, [4, 4, 2, 0])],
)
def test_the_parts_are_as_alike_as_pairs_allow(total: int, count: int, sizes: list[int]) -> None:
    assert [piece.stop - piece.start for piece in shard_slices(total, count)] == sizes


# --- one process ---


def test_a_process_alone_is_first_and_hears_only_itself() -> None:
    alone, values = Processes(), torch.tensor([1.0, 2.0])
    alone.wait()
    assert alone.is_first
    assert not Processes(1, 2).is_first
    assert torch.equal(alone.sum(values), values)
    assert alone.gather({"a": 1}) == [{"a": 1}]


def test_without_torchrun_there_is_one_process() -> None:
    with joined() as (processes, device):
        assert processes == Processes(0, 1)
        assert device.type in ("cpu", "cuda")
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("count", "ended_early"), [("1", False), ("2", True)])
def test_one_of_several_ends_without_waiting_for_what_its_threads_do(count: str, ended_early: bool) -> None:
    program = (
        "import sys, threading\n"
        "from model.training.processes import exit_without_teardown\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        "sys.stdout.write('trained ')\n"
        "exit_without_teardown()\n"
        "sys.stdout.write('and more')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], env={**os.environ, "WORLD_SIZE": count},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        if not ended_early:
            process.stdin.close()
        assert process.stdout is not None
        assert process.stdout.read() == ("trained " if ended_early else "trained and more")
        assert process.wait() == 0


# --- two processes ---


def _torchrun(*program: object) -> tuple[int, str]:
    """How a program ended in two processes, and what all of them wrote on standard error."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={port}")
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    command = [sys.executable, *launcher, *map(str, program)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            _, errors = process.communicate()
        except BaseException:
            process.terminate()  # so that it ends the two, which live in sessions of their own
            raise
    return process.returncode, errors


def _rows(out: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without the one column that is about the machine."""
    rows = [json.loads(line) for line in (out / METRICS).read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in row.items() if name != "images_per_s"} for row in rows]


def _expect_nearly_equal(one: Path, other: Path) -> None:
    ours, theirs = _rows(one), _rows(other)
    assert len(ours) == len(theirs)
    for our, their in zip(ours, theirs, strict=True):
        assert our == pytest.approx(their, abs=ALONE)
        assert our["val_top1"] == their["val_top1"]
    for folder in (".", BEST):
        mine, yours = (load_file(out / folder / checkpoint_folder.WEIGHTS) for out in (one, other))
        for name, tensor in mine.items():
            torch.testing.assert_close(tensor, yours[name], rtol=0, atol=ALONE)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made, before they were killed and after."""
    out = tmp_path_factory.mktemp("together")
    script = Path(__file__).with_name("two_processes.py")
    code, errors = _torchrun(script, out, "before")
    assert code != 0
    assert "SIGKILL" in errors, errors
    assert not (out / "killed" / checkpoint_folder.CONFIG).exists()
    assert torch.load(out / "killed" / RESUME, weights_only=True)["step"] == SAVED_AT
    code, errors = _torchrun(script, out, "after")
    assert code == 0, errors
    return out


def test_two_processes_train_as_one_does(together: Path, tmp_path: Path) -> None:
    run(tmp_path)
    _expect_nearly_equal(together / "whole", tmp_path)


def test_a_process_without_pictures_of_its_own_is_no_hindrance(together: Path, tmp_path: Path) -> None:
    run(tmp_path, HANDFUL, HANDFUL_RECIPE)
    _expect_nearly_equal(together / "handful", tmp_path)


def test_two_processes_keep_one_file_of_what_a_teacher_says(together: Path, tmp_path: Path) -> None:
    run_viewed(tmp_path)
    _expect_nearly_equal(together / "viewed", tmp_path)
    assert (together / "viewed" / LESSONS).read_bytes() == (tmp_path / LESSONS).read_bytes()


def test_two_processes_that_were_killed_go_on_to_the_very_same_weights_and_metrics(together: Path) -> None:
    one, other = together / "killed", together / "whole"
    for our, their in zip(_rows(one), _rows(other), strict=True):
        assert our.pop("train_loss") == pytest.approx(their.pop("train_loss"), rel=1e-12)  # summed in another order
        assert our == their
    for folder in (".", BEST):
        ours, theirs = (load_file(out / folder / checkpoint_folder.WEIGHTS) for out in (one, other))
        assert not [name for name in ours if not torch.equal(ours[name], theirs[name])]


def test_where_one_process_is_told_to_stop_both_stop_at_the_same_step(together: Path) -> None:
    first, second = ((together / f"stopped-{rank}.txt").read_text() for rank in range(2))
    assert first == second
    assert "holds 0 of 2 epochs and 25 of 29 steps of the next" in first  # they ask each other every 25 steps
    assert not (together / "stopped" / checkpoint_folder.CONFIG).exists()


def test_a_loss_that_is_not_finite_ends_both_for_the_same_reason(together: Path) -> None:
    first, second = ((together / f"error-{rank}.txt").read_text() for rank in range(2))
    assert first == second
    assert first.startswith("the loss is nan by step ")
    assert not (together / "ruined" / checkpoint_folder.CONFIG).exists()


def test_shares_of_the_validation_pictures_are_judged_as_the_whole(together: Path) -> None:
    loaded = checkpoint.load(together / "whole")
    logits = all_logits(lambda pixels: checkpoint.torch_logits(loaded.model, pixels), DATASET.val)
    temperature = fit_temperature(logits, DATASET.val.labels)
    assert loaded.spec.temperature == pytest.approx(temperature, abs=1e-5)
    assert temperature != 1
    whole, metrics = evaluate_logits(logits, DATASET.val.labels, temperature), loaded.spec.metrics
    assert metrics is not None
    assert (metrics.num_pictures, metrics.top1, metrics.top5) == (101, whole.top1, whole.top5)
    assert metrics.calibration_error == pytest.approx(whole.calibration_error, abs=1e-5)
    assert _rows(together / "whole")[-1]["val_loss"] == pytest.approx(
        evaluate_logits(logits, DATASET.val.labels).loss, abs=1e-6
    )


def _class_folders(folder: Path) -> Path:
    generator = np.random.default_rng(6)
    for label, level, count in (("dark", 60, 14), ("light", 110, 12)):
        for index in range(count):
            pixels = (level + generator.integers(0, 80, (9, 11, 3))).astype(np.uint8)
            write_image(folder / label / f"{index}.png", pixels)
    return folder


def test_the_command_under_torchrun_trains_streamed_pictures_as_it_does_kept_ones_alone(tmp_path: Path) -> None:
    data = _class_folders(tmp_path / "data")  # 21 to learn from, 5 to judge by
    sizes = "--image-size 8 --patch-size 4 --hidden-dim 8 --num-blocks 2 --tokens-mlp-dim 4 --channels-mlp-dim 8"
    how = (
        "--epochs 3 --batch-size 5 --val-fraction 0.2 --optimizer sgd --learning-rate 0.1 --stochastic-depth 0.2 "
        "--autocast off --erase 0.3 --pad-crop 0.2 --mixup 0.5 --randaugment-layers 1"
    )
    flags = [*sizes.split(), *how.split()]
    code, errors = _torchrun("-m", "model.training.train", data, "--out", tmp_path / "two", *flags, "--stream")
    assert code == 0, errors
    assert errors.count("epoch 3: training loss") == 1  # the first process speaks for both
    main([str(data), "--out", str(tmp_path / "one"), *flags])
    _expect_nearly_equal(tmp_path / "two", tmp_path / "one")
