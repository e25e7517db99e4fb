"""Pretraining from nothing, measuring as it goes.

The loop is BERT's masked language modelling with a constant learning rate after warm-up,
so that no edge of a schedule can look like an onset. Everything random in step ``n``
depends on the seed and ``n`` alone: a resumed run repeats what an unbroken one does.

A run folder holds ``config.json``, ``tokenizer/``, ``metrics.jsonl`` (one measured value a
line), ``checkpoints/step-N/`` (loadable with ``from_pretrained``) and ``state.safetensors``
(weights and optimiser, for ``--resume``).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib import ngrams
from sas_lib.corpus import EncodedCorpus
from sas_lib.interrupts import held_back_interrupt
from sas_lib.learner import Learner
from sas_lib.locks import LOCK
from sas_lib.model import usable_device
from sas_lib.parallel import Parallel
from sas_lib.regularizer import Schedule, lambda_at
from sas_lib.run_state import (
    RunError,
    alone,
    discard,
    load_state,
    read_counters,
    save_state,
    saving,
    write_whole,
)
from sas_lib.settings import Config, checkpoint_steps
from sas_lib.validation import validation

METRICS, STATE = "metrics.jsonl", "state.safetensors"

Row = dict[str, Any]
Measure = Callable[[PreTrainedModel, PreTrainedTokenizerFast], list[Row]]


@dataclass(frozen=True)
class Data:
    """What a run learns from: a tokenizer, training and validation sentences."""

    tokenizer: PreTrainedTokenizerFast
    train: EncodedCorpus
    valid: EncodedCorpus

    def fingerprint(self) -> str:
        """A checksum: a run must not go on with other data than it began with."""
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        digest = hashlib.sha256(json.dumps(vocabulary).encode())
        for corpus in (self.train, self.valid):
            digest.update(corpus.pieces.tobytes())
            digest.update(corpus.starts.tobytes())
            digest.update(b"" if corpus.heads is None else corpus.heads.tobytes())
        return digest.hexdigest()


def pretrain(
    out: str | os.PathLike[str],
    config: Config,
    data: Data,
    measures: list[Measure],
    resume: bool = False,
    device: str | torch.device = "cpu",
    quiet: bool = False,
    stop_at: int | None = None,
    keep: int | None = None,
) -> Path:
    """Train a model from nothing and measure it at each checkpoint.

    measures: functions of (model, tokenizer) that return rows with ``metric``, ``value``
    and any of ``detail``, ``layer``, ``head``, ``direction``.
    stop_at: save and return at this step, or at once when it is past, to go on later.
    keep: how many of the latest models to keep, by default all.
    Returns the path of the metrics file. Ctrl-C finishes the step or the measuring that it
    falls into, saves and stops; go on with ``resume``. After any other end a run goes on
    from its last checkpoint.

    Raises:
        RunError: the folder already holds a run (and ``resume`` is not set), or one of
            another configuration or other data, or cannot be written to; it is being trained
            by another process; the loss is no longer finite; the processes cannot share a
            batch.
    """
    parallel = Parallel(check_start(out, resume, device))
    run = _Run(Path(out), config, data, parallel, keep)
    parallel.wait()  # the main process writes only what all have read
    with alone(run.out) if parallel.is_main else nullcontext():
        step = run.start()
        parallel.wait()
        return _train(run, step, measures, quiet, stop_at)


def _train(
    run: _Run, step: int, measures: list[Measure], quiet: bool, stop_at: int | None
) -> Path:
    config, parallel = run.config, run.parallel
    due = set(checkpoint_steps(config))
    end = config.steps if stop_at is None else min(stop_at, config.steps)
    quiet = quiet or not parallel.is_main
    bar = tqdm(total=config.steps, initial=step, unit="step", disable=quiet, smoothing=0.05)
    with bar, held_back_interrupt() as stopping:
        while True:
            if step in due and step > run.measured:
                run.measure(step, measures)
            # To ask the other processes costs a message, so several ask now and then.
            if (parallel.size == 1 or step % 50 == 0) and parallel.any(stopping()):
                run.save_state(step)
                if parallel.is_main:
                    print(
                        f"\nStopped at step {step}; saved: go on with --resume --out {run.out}"
                    )
                raise KeyboardInterrupt
            if step >= end:
                run.save_state(step)
                return run.metrics_path
            loss = run.learner.update(step)
            step += 1
            bar.update()
            if step % 50 == 0:
                rate = run.learner.tokens_per_second()
                bar.set_postfix_str(f"loss {loss.item():.3f}, {rate:,.0f} tokens/s")


def check_start(
    out: str | os.PathLike[str], resume: bool, device: str | torch.device
) -> torch.device:
    """What can be said before the data are made ready; returns the device.

    Raises:
        RunError: the folder already holds a run and ``resume`` is not set.
        ModelError: there is no such device.
    """
    if (Path(out) / "config.json").exists() and not resume:
        raise RunError(f"{out} already holds a run; use --resume or another --out")
    return usable_device(device)


def finished(out: str | os.PathLike[str], config: Config) -> Path | None:
    """The metrics of a complete run of ``config``, which needs nothing more; else None."""
    folder = Path(out)
    state, config_path = folder / STATE, folder / "config.json"
    if not (config_path.exists() and state.exists()):
        return None
    same = json.loads(config_path.read_text()) == config.as_json()
    done = same and read_counters(state).get("measured") == config.steps
    return folder / METRICS if done else None


def fork(
    run: str | os.PathLike[str], out: str | os.PathLike[str], schedule: Schedule
) -> Config:
    """Make ``out`` a copy of the unfinished ``run`` that goes on under another schedule.

    What the two runs have in common is trained once: a released run is the suppressed one
    up to its release. The models saved so far stay with ``run``.
    Returns the settings to go on with (``resume``).

    Raises:
        RunError: there is nothing to go on from, ``out`` holds a run, or the schedules
            differ before the step that ``run`` stands at.
    """
    run, out = Path(run), Path(out)
    if (out / "config.json").exists():
        raise RunError(f"{out} already holds a run; use another folder")
    if not (run / STATE).exists():
        raise RunError(f"{run} holds no saved state to go on from")
    before = Config(**json.loads((run / "config.json").read_text()))
    config = replace(before, sas_schedule=tuple((s, v) for s, v in schedule))
    for step in range(read_counters(run / STATE)["step"]):
        if lambda_at(config.sas_schedule, step) != lambda_at(before.sas_schedule, step):
            raise RunError(f"{run} has already been trained under another lambda at {step}")
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(run, part, ignore=shutil.ignore_patterns("checkpoints", "*.part", LOCK))
    write_whole(part / "config.json", json.dumps(config.as_json(), indent=1) + "\n")
    part.replace(out)
    return config


class _Run:
    """A learner, its counters and its files."""

    def __init__(
        self, out: Path, config: Config, data: Data, parallel: Parallel, keep: int | None
    ) -> None:
        if config.batch_size % parallel.size:
            raise RunError(
                f"a batch of {config.batch_size} sentences cannot be shared evenly by "
                f"{parallel.size} processes"
            )
        if config.sas_schedule and config.penalty != "sharpness" and data.train.heads is None:
            raise RunError(
                "the penalty needs parsed sentences, and the corpus has none; give CoNLL-U "
                "files, or the penalty 'sharpness'"
            )
        self.out, self.config, self.data, self.parallel = out, config, data, parallel
        self.keep = keep
        self.measured = -1  # the last step that was measured
        self.fingerprint = data.fingerprint()  # once: it reads the whole corpus
        self.learner = Learner(config, data.tokenizer, data.train, parallel)

    @property
    def metrics_path(self) -> Path:
        return self.out / METRICS

    @property
    def state_path(self) -> Path:
        return self.out / STATE

    def start(self) -> int:
        """Make or reopen the run folder; returns the step to go on from."""
        config_path = self.out / "config.json"
        if config_path.exists():
            before, now = json.loads(config_path.read_text()), self.config.as_json()
            changed = sorted(k for k in before | now if before.get(k) != now.get(k))
            if changed:
                raise RunError(
                    f"{self.out} holds a run with another {', '.join(changed)}; go on with "
                    f"the settings in {config_path}, or use another --out"
                )
            if self.state_path.exists():
                return self.load_state()
        if self.parallel.is_main:
            with saving(self.out):
                self.out.mkdir(parents=True, exist_ok=True)
                self.data.tokenizer.save_pretrained(self.out / "tokenizer")
                self.metrics_path.write_text("")
                write_whole(config_path, json.dumps(self.config.as_json(), indent=1) + "\n")
        return 0

    def measure(self, step: int, measures: list[Measure]) -> None:
        """Measure, append to the metrics file, save the model and the state."""
        means = self.learner.read_sums()
        self.measured = step
        if self.parallel.is_main:
            rows = self.training_rows(step, means) + self.validation_rows(step)
            for function in measures:
                rows.extend(function(self.learner.model, self.data.tokenizer))
            with saving(self.out), open(self.metrics_path, "a", encoding="utf-8") as out:
                for row in rows:
                    at = {"step": step, "tokens": self.learner.tokens}
                    out.write(json.dumps({**at, **row}) + "\n")
            self.save_checkpoint(step)
        self.save_state(step)
        self.parallel.wait()

    def training_rows(self, step: int, means: tuple[float, float] | None) -> list[Row]:
        """What was summed up while training, or the baselines of the loss at the start."""
        if means is None:
            special = self.data.tokenizer.all_special_ids
            bigram = ngrams.bigram_cross_entropy(self.data.train, self.data.valid, special)
            unigram = ngrams.unigram_entropy(self.data.valid, special)
            rows = {"unigram_entropy": unigram, "bigram_cross_entropy": bigram}
        else:
            rows = {
                "train_loss": means[0],
                "train_penalty": means[1],
                "sas_lambda": lambda_at(self.config.sas_schedule, step - 1),
                "tokens_per_second": self.learner.tokens_per_second(),
                "flops_utilisation": self.learner.utilisation(),
            }
        return [{"metric": name, "value": value} for name, value in rows.items()]

    def validation_rows(self, step: int) -> list[Row]:
        """Loss and gold-arc attention on the validation sentences."""
        self.learner.model.eval()
        data = self.data
        loss, gold = validation(
            self.learner.model, data.tokenizer, data.valid, self.config.mask_rate
        )
        if not np.isfinite(loss):
            raise RunError(f"the loss is {loss} near step {step}; lower the learning rate")
        rows: list[Row] = [{"metric": "valid_loss", "value": loss}]
        return (
            rows if gold is None else [*rows, {"metric": "gold_arc_attention", "value": gold}]
        )

    def save_checkpoint(self, step: int) -> None:
        """Save model and tokenizer; the folder appears under its name when it is complete."""
        folder = self.out / "checkpoints" / f"step-{step:06d}"
        part = self.out / "checkpoint.part"
        with saving(self.out):
            discard(folder, part)
            self.learner.model.save_pretrained(part)
            self.data.tokenizer.save_pretrained(part)
            folder.parent.mkdir(exist_ok=True)
            part.replace(folder)
            models = sorted(folder.parent.glob("step-*"), key=lambda path: int(path.name[5:]))
            for old in models[: -self.keep] if self.keep else []:
                discard(old, part)

    def save_state(self, step: int) -> None:
        """Save all that a resumed run needs."""
        learner = self.learner
        counters = {
            "step": step,
            "tokens": learner.tokens,
            "flops": learner.flops,
            "seconds": learner.elapsed(),
            "summed": learner.summed,
            "measured": self.measured,
            "data": self.fingerprint,
        }
        sums = self.parallel.sum(learner.sums) / self.parallel.size
        if self.parallel.is_main:
            with saving(self.out):
                save_state(self.state_path, learner.model, learner.optimizer, sums, counters)

    def load_state(self) -> int:
        """Take up the saved state; metrics written after it are dropped."""
        if read_counters(self.state_path).get("data") != self.fingerprint:
            raise RunError(f"{self.out} holds a run on other data or another tokenizer")
        learner = self.learner
        learner.sums, counters = load_state(
            self.state_path, learner.model, learner.optimizer, learner.device
        )
        learner.tokens, learner.flops = counters["tokens"], counters["flops"]
        learner.seconds, learner.summed = counters["seconds"], counters["summed"]
        self.measured = counters["measured"]
        if self.parallel.is_main:
            lines = self.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = [line for line in lines if line.endswith("\n")]
            kept = [line for line in whole if json.loads(line)["step"] <= self.measured]
            with saving(self.out):
                write_whole(self.metrics_path, "".join(kept))
        return int(counters["step"])
