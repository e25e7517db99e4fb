"""The training loop: schedule, measures, checkpoints, and going on after any stop."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import parsed_sentence
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from sas_lib import learner
from sas_lib import validation as held
from sas_lib.batches import MaskedBatch
from sas_lib.corpus import encode
from sas_lib.learner import Learner, parameter_groups
from sas_lib.locks import LOCK
from sas_lib.model import ModelError, load
from sas_lib.ngrams import bigram_cross_entropy, unigram_entropy
from sas_lib.pretraining import (
    Data,
    Row,
    RunError,
    finished,
    fork,
    pretrain,
)
from sas_lib.regularizer import random_heads
from sas_lib.run_state import read_counters
from sas_lib.settings import CONFIGS, Config, checkpoint_steps
from sas_lib.text import CorpusError
from sas_lib.treebank import Sentence
from sas_lib.validation import validation

TIMED = ("tokens_per_second", "flops_utilisation")  # these alone differ between equal runs
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
    return [row for row in rows if row["metric"] not in TIMED]


def held_out(data: Data) -> tuple[Any, ...]:
    """What ``validation`` takes beside the model."""
    return data.tokenizer, data.valid, TINY.mask_rate


def files(run: Path) -> set[str]:
    """All but the lock, which says nothing of the run."""
    found = (str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    return {name for name in found if name != LOCK}


def same_tensors(one: Path, other: Path) -> None:
    """Two files of tensors, bit for bit."""
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert torch.equal(ours[key], theirs[key]), (one, key)


def same_runs(one: Path, other: Path) -> None:
    """Bit-identical weights at every checkpoint, optimiser included, and equal metrics."""
    assert files(one) == files(other)
    assert without_speed(metrics(one)) == without_speed(metrics(other))
    for path in one.rglob("*.safetensors"):
        same_tensors(path, other / path.relative_to(one))


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
        trained = {"train_loss", "train_penalty", "sas_lambda", *TIMED}
        expected = own if step == 0 else trained
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
        assert at["valid_loss"] == pytest.approx(
            validation(model, *held_out(data))[0], rel=1e-6
        )
    assert json.loads((unbroken / "config.json").read_text()) == TINY.as_json()
    assert not [name for name in files(unbroken) if name.endswith((".part", ".bin", ".pt"))]


def test_train_loss_is_the_mean_since_the_last_checkpoint(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    original = Learner.update

    def spy(learner: Learner, step: int) -> torch.Tensor:
        losses.append(float(original(learner, step)))
        return torch.tensor(losses[-1])

    monkeypatch.setattr(Learner, "update", spy)
    pretrain(tmp_path / "run", TINY, data, [], quiet=True)
    logged = {
        r["step"]: r["value"] for r in metrics(tmp_path / "run") if r["metric"] == "train_loss"
    }
    for before, step in itertools.pairwise(STEPS):
        assert logged[step] == pytest.approx(np.mean(losses[before:step]), rel=1e-5)


def test_validation_is_masked_alike_each_time(unbroken: Path, data: Data) -> None:
    model, _ = load(unbroken / "checkpoints" / "step-000012")
    torch.manual_seed(5)
    first = validation(model, *held_out(data))[0]
    assert validation(model, *held_out(data))[0] == first
    # Other batches are other masks, but the mean over all masked pieces stays about the same.
    assert validation(model, *held_out(data), batch_size=4)[0] == pytest.approx(first, abs=0.3)


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
        place = torch.optim.AdamW if where == "optimizer" else Learner
        name = "step" if where == "optimizer" else "update"
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


# --- the penalty in training ----------------------------------------------------------

SUPPRESSED = dataclasses.replace(TINY, sas_schedule=((0, 2.0),))


@pytest.fixture(scope="module")
def parsed(
    tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence], texts: list[str]
) -> Data:
    """Three sentences in four have their tree, the others are plain text."""
    mixed = [texts[i] if i % 32 == 0 else sentences[i] for i in range(0, 800, 8)]
    return Data(
        tokenizer,
        encode(mixed, tokenizer),
        encode([*sentences[3:900:60], *texts[5:700:300]], tokenizer),
    )


@pytest.fixture(scope="module")
def suppressed(parsed: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "suppressed"
    pretrain(out, SUPPRESSED, parsed, [count_words], quiet=True)
    return out


def column(run: Path, metric: str) -> dict[int, float]:
    return {row["step"]: row["value"] for row in metrics(run) if row["metric"] == metric}


def weights_file(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:06d}" / "model.safetensors"


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(weights_file(run, step))


def same_weights(one: Path, other: Path, steps: Iterable[int]) -> None:
    for step in steps:
        same_tensors(weights_file(one, step), weights_file(other, step))


def test_settings_are_what_json_gives_back() -> None:
    config = dataclasses.replace(TINY, sas_schedule=((0, 0.5), (7, 0.0)))
    settings = config.as_json()
    assert settings == json.loads(json.dumps(settings))
    assert settings["sas_schedule"] == [[0, 0.5], [7, 0.0]]
    assert settings | {"sas_schedule": ((0, 0.5), (7, 0.0))} == dataclasses.asdict(config)
    assert Config(**settings).as_json() == settings


def test_the_lambda_of_each_stretch(parsed: Data, tmp_path: Path) -> None:
    """A piecewise schedule with a window: the log says what held, and that it worked."""
    schedule = ((3, 2.0), (6, 0.0), (12, -1.0), (18, 0.0))
    config = dataclasses.replace(TINY, sas_schedule=schedule)
    pretrain(tmp_path / "run", config, parsed, [count_words], quiet=True)
    assert column(tmp_path / "run", "sas_lambda") == {
        1: 0, 3: 0, 6: 2, 8: 0, 12: 0, 18: -1, 24: 0
    }  # fmt: skip
    penalties = column(tmp_path / "run", "train_penalty")
    assert {step for step, value in penalties.items() if value > 0} == {6, 18}
    assert {step for step, value in penalties.items() if value == 0} == {1, 3, 8, 12, 24}


def test_promoting_and_suppressing_turn_attention(
    parsed: Data, suppressed: Path, tmp_path: Path
) -> None:
    promoting = dataclasses.replace(TINY, sas_schedule=((0, -2.0),))
    pretrain(tmp_path / "promoted", promoting, parsed, [count_words], quiet=True)
    pretrain(tmp_path / "base", TINY, parsed, [count_words], quiet=True)
    base, more, less = (
        column(run, "gold_arc_attention")
        for run in (tmp_path / "base", tmp_path / "promoted", suppressed)
    )
    assert base[0] == more[0] == less[0]
    assert more[24] > 1.5 * base[24]
    assert less[24] < 0.9 * base[24]


def test_no_penalty_is_the_base_run(parsed: Data, tmp_path: Path) -> None:
    """lambda 0, and any lambda before its first step: bit for bit the base run."""
    pretrain(tmp_path / "base", TINY, parsed, [count_words], quiet=True)
    zero = dataclasses.replace(TINY, sas_schedule=((0, 0.0),))
    pretrain(tmp_path / "zero", zero, parsed, [count_words], quiet=True)
    same_weights(tmp_path / "base", tmp_path / "zero", STEPS)
    ours, theirs = (without_speed(metrics(tmp_path / run)) for run in ("base", "zero"))
    assert ours == theirs
    late = dataclasses.replace(TINY, sas_schedule=((12, 2.0),), penalty="random_heads")
    pretrain(tmp_path / "late", late, parsed, [count_words], quiet=True)
    before = [step for step in STEPS if step <= 12]
    same_weights(tmp_path / "base", tmp_path / "late", before)
    with pytest.raises(AssertionError):
        same_weights(tmp_path / "base", tmp_path / "late", [18])


def test_a_step_after_release_is_a_step_of_the_base_run(parsed: Data, tmp_path: Path) -> None:
    """From one state, the released run and a run without any penalty go the same way."""
    released, base = tmp_path / "released", tmp_path / "base"
    config = dataclasses.replace(TINY, sas_schedule=((0, 2.0), (7, 0.0)))
    pretrain(released, config, parsed, [count_words], quiet=True, stop_at=7)
    shutil.copytree(released, base)
    (base / "config.json").write_text(json.dumps(TINY.as_json()))
    pretrain(released, config, parsed, [count_words], resume=True, quiet=True)
    pretrain(base, TINY, parsed, [count_words], resume=True, quiet=True)
    same_weights(released, base, [8, 12, 18, 24])


@pytest.mark.parametrize("weight", [0.7, -0.7])
@pytest.mark.parametrize("kind", ["sas", "random_heads", "sharpness"])
def test_the_gradient_is_that_of_loss_and_penalty(
    parsed: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, weight: float
) -> None:
    """Against the same model with all of its maps kept, step by step."""
    config = dataclasses.replace(
        TINY, dropout=0.0, steps=3, penalty=kind, sas_schedule=((0, weight),)
    )
    monkeypatch.setattr(learner, "autocast", lambda device: contextlib.nullcontext())
    learning, losses, penalties, checked = Learner.loss, [], [], []

    def spy(self: Learner, batch: MaskedBatch, masked: int) -> torch.Tensor:
        twin = copy.deepcopy(self.model)
        twin.load_state_dict(self.model.state_dict())
        for module in twin.modules():  # the copy has the hooks of the original
            module._forward_hooks.clear()
        output = twin(batch.input_ids, batch.attention_mask, output_attentions=True)
        logits = output.logits.flatten(0, 1)[batch.positions]
        loss = torch.nn.functional.cross_entropy(logits, batch.labels)
        extra = dense(output.attentions, batch, config)
        (loss + weight * extra).backward()
        expected = {name: p.grad for name, p in twin.named_parameters()}
        losses.append(loss.item())
        penalties.append(extra.item())
        names = {id(p): name for name, p in self.model.named_parameters()}

        def clip(parameters: Iterable[torch.nn.Parameter], norm: float) -> None:
            assert norm == 1.0
            for p in parameters:
                name = names[id(p)]
                torch.testing.assert_close(p.grad, expected[name], rtol=1e-3, atol=1e-6)
                checked.append(name)

        monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
        return learning(self, batch, masked)

    monkeypatch.setattr(Learner, "loss", spy)
    pretrain(tmp_path / "run", config, parsed, [], quiet=True)
    assert len(losses) == 3 and len(checked) > 60
    # The loss is logged without the penalty, and the penalty without lambda.
    logged = column(tmp_path / "run", "train_loss"), column(tmp_path / "run", "train_penalty")
    for one, (rows, values) in enumerate(zip(logged, (losses, penalties), strict=True)):
        at = 0
        for step, value in rows.items():
            assert value == pytest.approx(np.mean(values[at:step]), rel=1e-4), (one, step)
            at = step


def dense(attentions: Sequence[torch.Tensor], batch: MaskedBatch, config: Config) -> Any:
    """The penalty of a batch with all maps kept."""
    maps = torch.stack(list(attentions), 1)  # [batch, layers, heads, pieces, pieces]
    if config.penalty == "random_heads":
        layers, heads = zip(
            *random_heads(config.layers, config.heads, config.seed), strict=True
        )
        maps = maps[:, list(layers), list(heads)].unsqueeze(1)
    if config.penalty == "sharpness":
        counts = batch.attention_mask.sum(1)[:, None, None, None]
        some = torch.where(maps > 0, maps, 1)  # none adds no entropy
        rows = 1 - torch.special.entr(some).sum(-1) / counts.log()
        return (rows.amax((1, 2)) * batch.attention_mask).sum() / len(maps)
    largest = maps.amax((1, 2))
    total: Any = 0.0
    for row, dependent in (batch.heads >= 0).nonzero().tolist():
        head = int(batch.heads[row, dependent])
        total = total + largest[row, dependent, head] + largest[row, head, dependent]
    return total / len(maps)


def test_the_optimiser_is_the_same_whatever_lambda(
    parsed: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[dict[str, Any]]] = []
    original = torch.optim.AdamW.step

    def spy(self: torch.optim.AdamW, *args: Any) -> Any:
        groups = [{**group, "params": len(group["params"])} for group in self.param_groups]
        seen.append(groups)
        return original(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    schedules = ((), ((0, 3.0),), ((0, -3.0), (4, 0.0)), ((2, 1.0), (6, 0.0)))
    for number, schedule in enumerate(schedules):
        config = dataclasses.replace(TINY, steps=8, sas_schedule=schedule)
        pretrain(tmp_path / f"{number}", config, parsed, [], quiet=True)
    base = seen[:8]
    assert [groups[0]["lr"] for groups in base[3:6]] == pytest.approx([0.0016, 0.002, 0.002])
    assert len(seen) == 8 * len(schedules)
    for start in range(8, len(seen), 8):
        assert seen[start : start + 8] == base


@pytest.mark.parametrize("size", [3, 128])
def test_gold_arc_attention_is_that_of_all_maps(
    suppressed: Path, parsed: Data, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    model, tokenizer = load(suppressed / "checkpoints" / "step-000012")
    heads_of = {}  # by the pieces of the sentence, which masking hides, and so by its order
    order = sorted(range(len(parsed.valid)), key=lambda i: (parsed.valid.lengths[i], i))
    for place, sentence in enumerate(order):
        a, b = parsed.valid.starts[sentence], parsed.valid.starts[sentence + 1]
        heads_of[place] = parsed.valid.heads[a:b]  # type: ignore[index]
    inputs: list[tuple[torch.Tensor, torch.Tensor]] = []
    original = held.masked_lm_loss

    def spy(model: Any, ids: torch.Tensor, mask: torch.Tensor, *args: Any) -> torch.Tensor:
        inputs.append((ids, mask))
        return original(model, ids, mask, *args)

    monkeypatch.setattr(held, "masked_lm_loss", spy)
    _, value = validation(model, *held_out(parsed), batch_size=size)
    found, place = [], 0
    for ids, mask in inputs:
        assert (ids == tokenizer.mask_token_id).any(), "as in training, pieces are masked"
        with torch.no_grad():
            maps = model(ids, mask, output_attentions=True).attentions
        for row in range(len(ids)):
            for dependent, head in enumerate(heads_of[place].tolist()):
                for a, b in ((dependent, head), (head, dependent)):
                    if head >= 0:
                        found.append(max(m[row, h, a, b].item() for m in maps for h in (0, 1)))
            place += 1
    assert place == len(parsed.valid)
    assert len(found) == 2 * 6 * 15, "six arcs in each of the 15 parsed sentences"
    assert value == pytest.approx(np.mean(found), rel=1e-5)


def test_without_a_parse_there_is_no_gold_arc_attention(unbroken: Path, data: Data) -> None:
    model, _ = load(unbroken / "checkpoints" / "step-000012")
    assert validation(model, *held_out(data))[1] is None
    assert not column(unbroken, "gold_arc_attention")


def test_other_heads_are_other_data(suppressed: Path, parsed: Data) -> None:
    turned = dataclasses.replace(parsed.train, heads=parsed.train.heads[::-1].copy())  # type: ignore[index]
    with pytest.raises(RunError, match="other data"):
        pretrain(
            suppressed,
            SUPPRESSED,
            dataclasses.replace(parsed, train=turned),
            [count_words],
            resume=True,
            quiet=True,
        )


# --- stopping on purpose, and forks ---------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 5, 6, 23, 24, 99])
def test_stop_and_go_on(suppressed: Path, parsed: Data, tmp_path: Path, step: int) -> None:
    out = tmp_path / "run"
    path = pretrain(out, SUPPRESSED, parsed, [count_words], quiet=True, stop_at=step)
    assert path == out / "metrics.jsonl"
    assert read_counters(out / "state.safetensors")["step"] == min(step, 24)
    done = finished(out, SUPPRESSED)
    assert done == (path if step >= 24 else None)
    pretrain(out, SUPPRESSED, parsed, [count_words], resume=True, quiet=True)
    same_runs(suppressed, out)


def test_stops_one_after_the_other(suppressed: Path, parsed: Data, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for number, step in enumerate((2, 2, 6, 6, 7, 24)):
        resume = number > 0
        pretrain(out, SUPPRESSED, parsed, [count_words], resume, quiet=True, stop_at=step)
        assert read_counters(out / "state.safetensors")["step"] == step
    same_runs(suppressed, out)


def test_a_stop_that_is_past_trains_nothing(
    suppressed: Path, parsed: Data, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    pretrain(out, SUPPRESSED, parsed, [count_words], quiet=True, stop_at=8)
    pretrain(out, SUPPRESSED, parsed, [count_words], resume=True, quiet=True, stop_at=5)
    assert read_counters(out / "state.safetensors")["step"] == 8
    pretrain(out, SUPPRESSED, parsed, [count_words], resume=True, quiet=True)
    same_runs(suppressed, out)


@pytest.mark.parametrize("step", [0, 5, 6])
def test_a_fork_is_the_run_of_its_schedule(
    suppressed: Path, parsed: Data, tmp_path: Path, step: int
) -> None:
    """Both branches are bit for bit the runs that were trained from the start."""
    trunk, branch, whole = tmp_path / "trunk", tmp_path / "branch", tmp_path / "whole"
    schedule = ((0, 2.0), (step, -1.0), (13, 0.0)) if step else ((0, -1.0), (13, 0.0))
    expected = dataclasses.replace(TINY, sas_schedule=schedule)
    pretrain(trunk, SUPPRESSED, parsed, [count_words], quiet=True, stop_at=step)
    config = fork(trunk, branch, [list(pair) for pair in schedule])  # type: ignore[misc]
    assert config == expected
    assert json.loads((branch / "config.json").read_text()) == expected.as_json()
    assert not [name for name in files(tmp_path) if ".part" in name]
    for out, of in ((branch, config), (trunk, SUPPRESSED)):
        pretrain(out, of, parsed, [count_words], resume=True, quiet=True)
    same_runs(suppressed, trunk)
    pretrain(whole, expected, parsed, [count_words], quiet=True)
    # The models before the fork stay with the trunk.
    assert files(branch) == files(whole) - {
        name for name in files(whole) for at in STEPS if at <= step and f"step-{at:06d}" in name
    }
    assert without_speed(metrics(branch)) == without_speed(metrics(whole))
    same_weights(branch, whole, [at for at in STEPS if at > step])
    same_tensors(branch / "state.safetensors", whole / "state.safetensors")


def test_what_cannot_be_forked(suppressed: Path, parsed: Data, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "fork"
    pretrain(run, SUPPRESSED, parsed, [], quiet=True, stop_at=6)
    with pytest.raises(RunError, match=f"{suppressed} already holds a run; use another folder"):
        fork(run, suppressed, ((0, 2.0), (6, 0.0)))
    with pytest.raises(RunError, match="nowhere holds no saved state to go on from"):
        fork(tmp_path / "nowhere", out, ((0, 2.0), (6, 0.0)))
    for schedule, at in (((), 0), (((0, 2.0), (5, 0.0)), 5), (((0, 2.0), (2, 1.0)), 2)):
        with pytest.raises(RunError, match=f"run has already been .* another lambda at {at}$"):
            fork(run, out, schedule)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}, "nothing is left behind"
    assert fork(run, out, ((0, 2.0), (6, 0.0))).sas_schedule == ((0, 2.0), (6, 0.0))


def test_a_fork_that_was_killed_is_made_anew(parsed: Data, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "fork"
    pretrain(run, SUPPRESSED, parsed, [], quiet=True, stop_at=6)
    (tmp_path / "fork.part").mkdir()
    (tmp_path / "fork.part" / "state.safetensors").write_bytes(b"half")
    (tmp_path / "fork.part" / "stray").write_bytes(b"")
    fork(run, out, ((0, 2.0), (6, 0.0)))
    assert files(out) == {name for name in files(run) if not name.startswith("checkpoints")}
