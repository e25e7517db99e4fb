"""The training loop: schedule, measures, checkpoints, and going on after any stop."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import parsed_sentence
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from sas_lib import pretraining
from sas_lib.corpus import encode
from sas_lib.model import ModelError, load
from sas_lib.ngrams import bigram_cross_entropy, unigram_entropy
from sas_lib.pretraining import (
    Data,
    Row,
    RunError,
    parameter_groups,
    pretrain,
    validation_loss,
)
from sas_lib.settings import CONFIGS, Config, checkpoint_steps
from sas_lib.text import CorpusError

TINY = Config(
    layers=2,
    width=32,
    heads=2,
    vocab_size=90,
    max_length=40,
    dropout=0.1,  # so that a resumed run has to repeat the dropout masks, too
    batch_size=8,
    learning_rate=2e-3,
    warmup_steps=5,
    steps=24,
    log_checkpoints=4,
    even_checkpoints=4,
    seed=1,
)
STEPS = [0, 1, 3, 6, 8, 12, 18, 24]


@pytest.fixture(scope="module")
def data(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Data:
    # 100 sentences are twelve batches: 24 steps are two epochs.
    return Data(tokenizer, encode(texts[:800:8], tokenizer), encode(texts[3:900:60], tokenizer))


def count_words(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
    """A measure that depends on the weights."""
    total = sum(float(p.detach().double().abs().sum()) for p in model.parameters())
    return [{"metric": "size", "value": total}, {"metric": "part", "detail": "a", "value": 0.5}]


@pytest.fixture(scope="module")
def unbroken(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "unbroken"
    pretrain(out, TINY, data, [count_words], quiet=True)
    return out


def metrics(run: Path) -> list[Row]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def without_speed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["metric"] != "tokens_per_second"]


def files(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def same_runs(one: Path, other: Path) -> None:
    """Bit-identical weights at every checkpoint, optimiser included, and equal metrics."""
    assert files(one) == files(other)
    assert without_speed(metrics(one)) == without_speed(metrics(other))
    for path in one.rglob("*.safetensors"):
        ours, theirs = load_file(path), load_file(other / path.relative_to(one))
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), (path, key)


# --- the schedule ---------------------------------------------------------------------


def test_checkpoint_steps() -> None:
    # log: 1, 2.9, 8.3, 24; even: 0, 6, 12, 18, 24.
    assert checkpoint_steps(TINY) == STEPS
    dense = dataclasses.replace(TINY, dense_from=9, dense_to=15, dense_every=2)
    assert checkpoint_steps(dense) == sorted({*STEPS, 9, 11, 13, 15})
    assert checkpoint_steps(dataclasses.replace(TINY, steps=1)) == [0, 1]
    bare = dataclasses.replace(TINY, log_checkpoints=0, even_checkpoints=1)
    assert checkpoint_steps(bare) == [0, 24]


@pytest.mark.parametrize("config", [*CONFIGS.values(), dataclasses.replace(TINY, dense_to=99)])
def test_checkpoints_are_within_the_run(config: Config) -> None:
    for steps in (config.steps, 1, 2, 77):
        at = checkpoint_steps(dataclasses.replace(config, steps=steps))
        assert at == sorted(set(at))
        assert (at[0], at[-1]) == (0, steps)


def test_weight_decay_spares_biases_and_norms(unbroken: Path) -> None:
    model, _ = load(unbroken / "checkpoints" / "step-000024")
    decayed, plain = parameter_groups(model, 0.3)
    names = {id(p): name for name, p in model.named_parameters()}
    assert decayed["weight_decay"] == 0.3 and plain["weight_decay"] == 0
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    for p in plain["params"]:
        assert "bias" in names[id(p)] or "LayerNorm" in names[id(p)]
    for p in decayed["params"]:
        assert "bias" not in names[id(p)] and "LayerNorm" not in names[id(p)]


def test_learning_rate_warms_up_and_stays(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    original = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *args: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        assert self.param_groups[1]["lr"] == seen[-1]
        return original(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    config = dataclasses.replace(TINY, steps=9, log_checkpoints=0, even_checkpoints=1)
    pretrain(tmp_path / "run", config, data, [], quiet=True)
    assert seen == pytest.approx([2e-3 * x for x in (0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1)])


# --- what a run leaves ----------------------------------------------------------------


def test_metrics_are_tidy(unbroken: Path, data: Data) -> None:
    rows = metrics(unbroken)
    assert sorted({row["step"] for row in rows}) == STEPS
    for step in STEPS:
        at = [row for row in rows if row["step"] == step]
        assert len({row["tokens"] for row in at}) == 1
        names = [(row["metric"], row.get("detail")) for row in at]
        assert len(set(names)) == len(names), "a value is written twice"
        own = {"unigram_entropy", "bigram_cross_entropy"}
        expected = own if step == 0 else {"train_loss", "tokens_per_second"}
        assert {name for name, _ in names} == expected | {"valid_loss", "size", "part"}
    assert all(math.isfinite(row["value"]) for row in rows)
    tokens = [row["tokens"] for row in rows]
    assert tokens[0] == 0 and tokens == sorted(tokens)
    # Two whole epochs less four sentences each (12 batches of 8 of 100 sentences).
    longest, shortest = int(data.train.lengths.max()), int(data.train.lengths.min())
    total = int(data.train.lengths.sum())
    assert 2 * (total - 4 * longest) <= tokens[-1] <= 2 * (total - 4 * shortest)


def test_the_floors_are_logged(unbroken: Path, data: Data) -> None:
    values = {row["metric"]: row["value"] for row in metrics(unbroken) if row["step"] == 0}
    special = data.tokenizer.all_special_ids
    assert values["unigram_entropy"] == unigram_entropy(data.valid, special)
    assert values["bigram_cross_entropy"] == bigram_cross_entropy(
        data.train, data.valid, special
    )
    # An untrained model knows nothing: it guesses among all pieces alike.
    assert values["valid_loss"] == pytest.approx(math.log(len(data.tokenizer)), abs=0.15)


def test_checkpoints_load_and_are_the_model_that_was_measured(
    unbroken: Path, data: Data
) -> None:
    folders = sorted((unbroken / "checkpoints").iterdir())
    assert [int(folder.name.removeprefix("step-")) for folder in folders] == STEPS
    rows = metrics(unbroken)
    for folder, step in zip(folders, STEPS, strict=True):
        model, tokenizer = load(folder)
        assert tokenizer.get_vocab() == data.tokenizer.get_vocab()
        at = {row["metric"]: row["value"] for row in rows if row["step"] == step}
        assert at["size"] == count_words(model, tokenizer)[0]["value"]
        assert at["valid_loss"] == pytest.approx(validation_loss(model, data, TINY), rel=1e-6)
    assert json.loads((unbroken / "config.json").read_text()) == dataclasses.asdict(TINY)
    assert not [name for name in files(unbroken) if name.endswith((".part", ".bin", ".pt"))]


def test_train_loss_is_the_mean_since_the_last_checkpoint(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    original = pretraining.masked_lm_loss

    def spy(model: Any, *args: Any) -> torch.Tensor:
        loss = original(model, *args)
        if model.training:
            losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(pretraining, "masked_lm_loss", spy)
    pretrain(tmp_path / "run", TINY, data, [], quiet=True)
    logged = {
        r["step"]: r["value"] for r in metrics(tmp_path / "run") if r["metric"] == "train_loss"
    }
    for before, step in itertools.pairwise(STEPS):
        assert logged[step] == pytest.approx(np.mean(losses[before:step]), rel=1e-5)


def test_validation_is_masked_alike_each_time(unbroken: Path, data: Data) -> None:
    model, _ = load(unbroken / "checkpoints" / "step-000012")
    torch.manual_seed(5)
    first = validation_loss(model, data, TINY)
    assert validation_loss(model, data, TINY) == first
    # Other batches are other masks, but the mean over all masked pieces stays about the same.
    assert validation_loss(model, data, TINY, batch_size=4) == pytest.approx(first, abs=0.3)


def test_a_small_corpus_is_learnt_by_heart(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    texts = [
        " ".join(parsed_sentence(*row).words)
        for row in (
            ("dog", "sees", "old", "tree"), ("cat", "helps", "green", "king"),
            ("king", "paints", "small", "house"), ("baker", "follows", "old", "letter"),
        )
    ]  # fmt: skip
    corpus = encode(texts, tokenizer)
    config = dataclasses.replace(
        TINY, width=64, dropout=0.0, batch_size=4, steps=250, even_checkpoints=2
    )
    pretrain(tmp_path / "run", config, Data(tokenizer, corpus, corpus), [], quiet=True)
    loss = {
        r["step"]: r["value"] for r in metrics(tmp_path / "run") if r["metric"] == "valid_loss"
    }
    assert loss[0] > 4
    assert loss[250] < 1
    floor = unigram_entropy(corpus, tokenizer.all_special_ids)
    assert loss[250] < floor / 2, "words are guessed from their sentence"


def test_the_seed_is_the_run(unbroken: Path, data: Data, tmp_path: Path) -> None:
    pretrain(tmp_path / "again", TINY, data, [count_words], quiet=True)
    same_runs(unbroken, tmp_path / "again")
    other = dataclasses.replace(TINY, seed=2, steps=1)
    pretrain(tmp_path / "other", other, data, [count_words], quiet=True)
    ours, theirs = (
        [r["value"] for r in metrics(run) if r["metric"] == "size" and r["step"] == 0]
        for run in (unbroken, tmp_path / "other")
    )
    assert ours != theirs


# --- going on after a stop ------------------------------------------------------------


class Stopper:
    """The measure ``count_words``, which fails when it is called the ``call``-th time."""

    def __init__(self, call: int, error: BaseException) -> None:
        self.left, self.error = call, error

    def __call__(self, model: Any, tokenizer: Any) -> list[Row]:
        self.left -= 1
        if self.left == 0:
            raise self.error
        return count_words(model, tokenizer)


@pytest.mark.parametrize("call", range(1, len(STEPS) + 1))
def test_a_failed_measure_costs_nothing(
    unbroken: Path, data: Data, tmp_path: Path, call: int
) -> None:
    out = tmp_path / "run"
    with pytest.raises(OSError, match="disk full"):
        pretrain(out, TINY, data, [Stopper(call, OSError("disk full"))], quiet=True)
    pretrain(out, TINY, data, [count_words], resume=True, quiet=True)
    same_runs(unbroken, out)


def test_many_stops(unbroken: Path, data: Data, tmp_path: Path) -> None:
    out, stops = tmp_path / "run", 0
    while True:
        try:
            pretrain(
                out, TINY, data, [Stopper(3, KeyboardInterrupt())], resume=stops > 0, quiet=True
            )
            break
        except KeyboardInterrupt:
            stops += 1
            assert stops < 20
    assert stops > 2
    same_runs(unbroken, out)


@pytest.mark.parametrize("where", ["optimizer", "measure", "between"])
@pytest.mark.parametrize("step", [0, 5, 6])
def test_ctrl_c_leaves_a_run_to_go_on_with(
    unbroken: Path,
    data: Data,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
    step: int,
) -> None:
    """A real SIGINT, at the worst moments: within the optimiser's step, while measuring."""
    out, target = tmp_path / "run", step
    if where == "measure":
        steps_left = [STEPS.index(6) if step else 0]

        def measure(model: Any, tokenizer: Any) -> list[Row]:
            if steps_left[0] == 0:
                os.kill(os.getpid(), signal.SIGINT)
            steps_left[0] -= 1
            return count_words(model, tokenizer)
    else:
        measure = count_words
        place = torch.optim.AdamW if where == "optimizer" else pretraining._Run
        name = "step" if where == "optimizer" else "train_step"
        original, calls = getattr(place, name), [0]

        def interrupted(self: Any, *args: Any) -> Any:
            result = original(self, *args)
            if calls[0] == target:
                os.kill(os.getpid(), signal.SIGINT)
            calls[0] += 1
            return result

        monkeypatch.setattr(place, name, interrupted)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        pretrain(out, TINY, data, [measure], quiet=True)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "--resume" in capsys.readouterr().out
    monkeypatch.undo()
    pretrain(out, TINY, data, [count_words], resume=True, quiet=True)
    same_runs(unbroken, out)


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[4])
import test_pretraining as t
from sas_lib.corpus import encode
from sas_lib.pretraining import Data, _Run, pretrain
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
texts = open(sys.argv[3]).read().splitlines()
data = Data(tokenizer, encode(texts[:800:8], tokenizer), encode(texts[3:900:60], tokenizer))
save_checkpoint = _Run.save_checkpoint

def killed(self, step):
    save_checkpoint(self, step)
    if step == 12:
        # The metrics of this step are written and more half written, the checkpoint is
        # there and another half saved, but the state is still that of step 8.
        with open(self.metrics_path, "a") as out:
            out.write('{"step": 12, "tokens": 1, "metr')
        (self.out / "checkpoint.part").mkdir()
        (self.out / "checkpoint.part" / "model.safetensors").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

_Run.save_checkpoint = killed
pretrain(sys.argv[1], t.TINY, data, [t.count_words], quiet=True)
"""


def test_a_killed_run_goes_on(
    unbroken: Path, data: Data, texts: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    arguments = [out, unbroken / "tokenizer", tmp_path / "texts.txt", Path(__file__).parent]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert max(row["step"] for row in metrics_so_far(out)) == 12
    pretrain(out, TINY, data, [count_words], resume=True, quiet=True)
    same_runs(unbroken, out)


def metrics_so_far(run: Path) -> list[Row]:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def test_resume_of_a_finished_run_changes_nothing(
    unbroken: Path, data: Data, tmp_path: Path
) -> None:
    before = (unbroken / "metrics.jsonl").read_bytes()
    calls = Stopper(1, AssertionError("measured again"))
    pretrain(unbroken, TINY, data, [calls], resume=True, quiet=True)
    assert (unbroken / "metrics.jsonl").read_bytes() == before


def test_resume_of_nothing_starts(data: Data, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, steps=1)
    pretrain(tmp_path / "run", config, data, [], resume=True, quiet=True)
    assert {row["step"] for row in metrics(tmp_path / "run")} == {0, 1}


def test_an_existing_run_is_not_written_over(unbroken: Path, data: Data) -> None:
    before = (unbroken / "metrics.jsonl").read_bytes()
    with pytest.raises(RunError, match=re.escape(str(unbroken)) + ".*--resume"):
        pretrain(unbroken, TINY, data, [], quiet=True)
    assert (unbroken / "metrics.jsonl").read_bytes() == before


def test_another_configuration_is_refused(unbroken: Path, data: Data) -> None:
    other = dataclasses.replace(TINY, seed=7, learning_rate=1.0)
    with pytest.raises(RunError, match="another learning_rate, seed"):
        pretrain(unbroken, other, data, [], resume=True, quiet=True)


def test_other_data_are_refused(unbroken: Path, data: Data, texts: list[str]) -> None:
    other = dataclasses.replace(data, train=encode(texts[1:801:8], data.tokenizer))
    with pytest.raises(RunError, match="other data"):
        pretrain(unbroken, TINY, other, [], resume=True, quiet=True)


# --- what cannot be run ---------------------------------------------------------------


def test_a_run_that_cannot_start_leaves_no_folder(data: Data, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(CorpusError, match="100 sentences are fewer than one batch of 101"):
        pretrain(out, dataclasses.replace(TINY, batch_size=101), data, [], quiet=True)
    with pytest.raises(ModelError, match="no multiple"):
        pretrain(out, dataclasses.replace(TINY, heads=5), data, [], quiet=True)
    with pytest.raises(ModelError, match="cannot use the device"):
        pretrain(out, TINY, data, [], device="abacus", quiet=True)
    assert not out.exists()


def test_a_run_that_blows_up_says_so(data: Data, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(RunError, match=r"the loss is nan near step .*lower the learning rate"):
        pretrain(tmp_path / "run", config, data, [], quiet=True)
    assert all(math.isfinite(row["value"]) for row in metrics(tmp_path / "run"))


def test_progress_is_shown(
    data: Data, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(TINY, steps=60, log_checkpoints=0, even_checkpoints=1)
    pretrain(tmp_path / "run", config, data, [])
    shown = capsys.readouterr()
    assert "60/60" in shown.err and "tokens/s" in shown.err
    assert shown.out == ""
