"""Two processes that share each batch train as one does; none waits for ever."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_pretraining import TINY, column, count_words, metrics, weights, without_speed
from transformers import PreTrainedTokenizerFast

from sas_lib import learner
from sas_lib.corpus import encode
from sas_lib.learner import Learner
from sas_lib.parallel import Parallel
from sas_lib.pretraining import Data, RunError, pretrain
from sas_lib.run_state import read_counters
from sas_lib.treebank import Sentence

# Without dropout, whose masks depend on how many rows a process has.
BASE = dataclasses.replace(TINY, dropout=0.0)
SUPPRESSED = dataclasses.replace(BASE, sas_schedule=((0, 2.0), (13, -1.0)))
LONG = dataclasses.replace(BASE, steps=120, log_checkpoints=0, even_checkpoints=1)

# What both processes do, one run after the other; in the last of them one dies.
DRIVER = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import test_parallel as t
from sas_lib import learner
from sas_lib.learner import Learner

learner.autocast = t.single
out, rank = {out!r}, int(os.environ["RANK"])
data, update = t.shared_data(t.Path(out)), Learner.update
t.pretrain(out + "/base", t.BASE, data, [t.count_words], quiet=True)
t.pretrain(out + "/suppressed", t.SUPPRESSED, data, [t.count_words], quiet=True)

def at(number, number_of_signal):
    def spy(self, step):
        if (rank, step) == (1, number):
            os.kill(os.getpid(), number_of_signal)
        return update(self, step)
    Learner.update = spy

at(60, signal.SIGINT)
try:
    t.pretrain(out + "/stopped", t.LONG, data, [t.count_words], quiet=True)
except KeyboardInterrupt:
    print("stopped", rank, flush=True)
at(7, signal.SIGKILL)
t.pretrain(out + "/died", t.BASE, data, [t.count_words], quiet=True)
print("no end", flush=True)
"""


def single(device: torch.device) -> AbstractContextManager[None]:
    """Single precision: in bfloat16 the order of the additions is seen in the curves."""
    return nullcontext()


def shared_data(folder: Path) -> Data:
    """The data of these runs, from files: each process makes them for itself."""
    from transformers import AutoTokenizer

    from sas_lib.treebank import read_conllu

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    parsed: list[Sentence | str] = list(read_conllu(folder / "sentences.conllu"))
    train = [" ".join(s.words) if i % 5 == 0 else s for i, s in enumerate(parsed[:100])]  # type: ignore[union-attr]
    return Data(tokenizer, encode(train, tokenizer), encode(parsed[100:], tokenizer))


@pytest.fixture(scope="module")
def two(
    tokenizer: PreTrainedTokenizerFast,
    sentences: list[Sentence],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The runs of two processes, and what they and their launcher said."""
    from sas_lib.treebank import write_conllu

    folder = tmp_path_factory.mktemp("two")
    tokenizer.save_pretrained(folder / "tokenizer")
    write_conllu([*sentences[:800:8], *sentences[3:900:60]], folder / "sentences.conllu")
    script = folder / "driver.py"
    script.write_text(DRIVER.format(tests=str(Path(__file__).parent), out=str(folder)))
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *("--standalone", "--nproc-per-node", "2", str(script)),
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        said, _ = process.communicate(timeout=150)
    except subprocess.TimeoutExpired:
        process.terminate()  # the launcher then ends its processes, too
        said, _ = process.communicate(timeout=60)
        pytest.fail(f"the processes wait for each other:\n{said[-3000:]}")
    (folder / "said.txt").write_text(f"{process.returncode}\n{said}")
    return folder


@pytest.mark.parametrize(("name", "config"), [("base", BASE), ("suppressed", SUPPRESSED)])
def test_two_processes_are_one(
    two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, config: Any
) -> None:
    monkeypatch.setattr(learner, "autocast", single)
    assert (two / name / "state.safetensors").exists(), (two / "said.txt").read_text()[-3000:]
    pretrain(tmp_path / "one", config, shared_data(two), [count_words], quiet=True)
    ours, theirs = (without_speed(metrics(run)) for run in (tmp_path / "one", two / name))
    assert [row["metric"] for row in ours] == [row["metric"] for row in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["step"] == other["step"] and mine["tokens"] == other["tokens"]
        assert mine["value"] == pytest.approx(other["value"], rel=1e-4, abs=1e-7), mine
    if config.sas_schedule:
        assert all(value > 0 for value in column(two / name, "train_penalty").values())
    # Training has moved the loss by far more than the tolerance.
    losses = column(two / name, "valid_loss")
    assert losses[0] - losses[24] > 0.3
    first, one, both = (
        torch.cat([w.flatten() for w in weights(run, step).values()])
        for run, step in ((two / name, 0), (tmp_path / "one", 24), (two / name, 24))
    )
    assert (one - both).norm() < 0.01 * (one - first).norm()


def test_ctrl_c_in_one_process_stops_both_and_saves(two: Path) -> None:
    said = (two / "said.txt").read_text()
    assert "stopped 0" in said and "stopped 1" in said
    assert said.count("saved: go on with --resume --out") == 1, "the main process speaks"
    # They ask each other every 50 steps.
    assert read_counters(two / "stopped" / "state.safetensors")["step"] == 100
    config = LONG
    done = pretrain(two / "stopped", config, shared_data(two), [count_words], True, quiet=True)
    assert math.isfinite(json.loads(done.read_text().splitlines()[-1])["value"])


def test_when_one_process_dies_the_other_ends_and_the_run_goes_on(
    two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learner, "autocast", single)
    code, _, said = (two / "said.txt").read_text().partition("\n")
    assert int(code) != 0 and "no end" not in said
    assert read_counters(two / "died" / "state.safetensors")["step"] == 6
    pretrain(two / "died", BASE, shared_data(two), [count_words], resume=True, quiet=True)
    for one, other in zip(metrics(two / "base"), metrics(two / "died"), strict=True):
        if one["metric"] == "valid_loss":
            assert one["value"] == pytest.approx(other["value"], rel=1e-4), one


# --- without a launcher ---------------------------------------------------------------


def test_one_process_is_nothing_special(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    parallel = Parallel(torch.device("cpu"))
    assert (parallel.size, parallel.rank, parallel.is_main) == (1, 0, True)
    ones = torch.ones(3)
    assert parallel.sum(ones) is ones
    assert parallel.any(True) and not parallel.any(False)
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.ones(2)
    parallel.average_gradients([weight])
    assert weight.grad.tolist() == [1, 1]
    parallel.wait()


def pretended(rank: int, size: int) -> Any:
    """A process among several whose messages go nowhere."""
    return SimpleNamespace(
        device=torch.device("cpu"), rank=rank, size=size, average_gradients=lambda ps: None
    )


def test_processes_drop_out_other_units(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process draws what a single one would; another does not repeat its masks."""
    seeds: list[int] = []
    original = torch.manual_seed

    def spy(seed: int) -> Any:
        seeds.append(seed)
        return original(seed)

    train = encode(texts[:800:8], tokenizer)
    learners = [
        Learner(TINY, tokenizer, train, pretended(rank, size))
        for rank, size in ((0, 1), (0, 2), (1, 2))
    ]
    monkeypatch.setattr(torch, "manual_seed", spy)
    for one in learners:
        one.update(5)
    alone, first, second = seeds
    assert alone == first != second


def test_a_batch_that_cannot_be_shared_is_refused(
    tokenizer: PreTrainedTokenizerFast,
    texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sas_lib import pretraining

    corpus = encode(texts[:800:8], tokenizer)
    monkeypatch.setattr(pretraining, "Parallel", lambda device: pretended(0, 3))
    with pytest.raises(RunError, match="batch of 8 sentences cannot be shared evenly by 3"):
        pretrain(tmp_path / "run", TINY, Data(tokenizer, corpus, corpus), [], quiet=True)
    assert not (tmp_path / "run").exists()
