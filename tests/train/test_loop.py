"""Training: repeatable, resumed exactly, refused where it would mix things up, in two processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_disks import smoke

from diskern.errors import DiskernError
from diskern.nets.registry import load
from diskern.train import loop
from diskern.train.checkpoint import checkpoints_in
from diskern.train.loop import build_net, train
from diskern.train.schedules import OptimiserTable, StepwiseTable
from diskern.train.train_finish import finish


def weights(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.flatten() for p in net.parameters()])


def test_a_resumed_training_takes_the_same_steps(tmp_path: Path) -> None:
    whole = train(smoke(), tmp_path / "whole")
    part = train(smoke(), tmp_path / "parts", stop_after=3)
    assert (whole.step, part.step) == (6, 3)
    said: list[str] = []
    rest = train(smoke(), tmp_path / "parts", resume=True, tell=said.append)
    assert torch.equal(weights(whole.net), weights(rest.net))
    assert rest.history == whole.history
    assert [h["step"] for h in rest.history] == [3, 6]
    assert len(checkpoints_in(tmp_path / "whole")) == 2
    assert any("total" in words for words in said)
    start = weights(build_net(smoke()))
    assert not torch.equal(start, weights(rest.net))


def test_workers_change_nothing(tmp_path: Path) -> None:
    alone = train(smoke(), tmp_path / "alone", stop_after=2)
    helped = train(smoke().model_copy(update={"workers": 1}), tmp_path / "helped", stop_after=2)
    assert torch.equal(weights(alone.net), weights(helped.net))


def test_half_the_digits_teach_whole_weights(tmp_path: Path) -> None:
    start = weights(build_net(smoke()))
    half = train(smoke().model_copy(update={"precision": "bfloat16"}), tmp_path, stop_after=2)
    found = weights(half.net)
    assert found.dtype == torch.float32
    assert 0 < float((found - start).detach().abs().max()) < 0.1


def test_patterns_that_the_weights_have_seen_are_passed_over(tmp_path: Path) -> None:
    recipe = smoke()
    asked: list[int] = []
    training = loop._Training(
        recipe.model_copy(
            update={"checkpoint": recipe.checkpoint.model_copy(update={"seen": 100})}
        ),
        tmp_path,
        loop.Ranks(),
        print,
    )
    block = training.source.block
    training.source.block = lambda n: asked.append(n) or block(n)  # type: ignore[method-assign]
    training.run(False, 2)
    assert asked == [200, 201, 202, 203]


def test_a_folder_holds_one_training(tmp_path: Path) -> None:
    train(smoke(), tmp_path, stop_after=3)
    with pytest.raises(DiskernError, match="holds a training already"):
        train(smoke(), tmp_path)
    other = smoke().model_copy(update={"seed": 4})
    with pytest.raises(DiskernError, match="another recipe"):
        train(other, tmp_path, resume=True)


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    train(smoke(), tmp_path, stop_after=3)
    path = checkpoints_in(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DiskernError, match="no checkpoint, or broken"):
        train(smoke(), tmp_path, resume=True)


def test_finished_weights_carry_their_card(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = finish(smoke(), build_net(smoke()), tmp_path, name="tiny", blocks=2)
    card = load(path).card
    assert card.name == "tiny"
    assert 0 < card.calibration["threshold"] < 1
    assert card.recipe["name"] == "disks-smoke"
    assert {"recall", "precision", "z_q_z"} <= set(card.metrics)


def test_rate_warms_up_and_falls() -> None:
    options = OptimiserTable(steps=100, warm_up=10, rate=1.0)
    rates = [options.rate_at(s) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=0.002)


def test_rate_falls_by_steps_as_published() -> None:
    options = StepwiseTable(steps_per_epoch=10)
    assert options.steps == 250
    rates = [options.rate_at(10 * epoch) for epoch in range(25)]
    assert rates[6] == 1e-3
    assert rates[7] == pytest.approx(1e-4)
    assert rates[13:15] == pytest.approx([1e-4, 1e-5])
    assert rates[24] == pytest.approx(1e-6)


def test_the_batch_must_fit_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diskern.train import loop

    ranks = loop.Ranks(0, 3)
    with pytest.raises(DiskernError, match="3 processes"):
        loop._Training(smoke(), tmp_path, ranks, print)


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    program = (
        "import sys, torch; from pathlib import Path;"
        "from diskern.train.loop import train;"
        "from diskern.train.train_recipe import load_train_recipe;"
        "t = train(load_train_recipe('disks_smoke'), Path(sys.argv[1]) / 'run', stop_after=3);"
        "p = torch.cat([q.flatten() for q in t.net.parameters()]);"
        "torch.save(p, Path(sys.argv[1]) / f'rank{int(not t.leads)}.pt')"
    )
    free = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getpid() % 20000)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            env={**os.environ, **free, "WORLD_SIZE": "2", "RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [p.wait(timeout=120) for p in started] == [0, 0]
    first, second = (torch.load(tmp_path / f"rank{i}.pt", weights_only=True) for i in range(2))
    assert torch.equal(first, second)
    assert len(checkpoints_in(tmp_path / "run")) == 1
