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
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib import ngrams
from sas_lib.corpus import EncodedCorpus, length_batches, mask_pieces, step_generator
from sas_lib.interrupts import held_back_interrupt
from sas_lib.model import autocast, masked_lm_loss, small_bert, usable_device
from sas_lib.run_state import load_state, read_counters, save_state, write_whole
from sas_lib.settings import Config, checkpoint_steps

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
        return digest.hexdigest()


class RunError(RuntimeError):
    """A run that cannot start or go on; the message says what to do."""


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: no decay for biases and layer norms, as in BERT."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


@torch.inference_mode()
def validation_loss(
    model: PreTrainedModel, data: Data, config: Config, batch_size: int = 128
) -> float:
    """Masked-language-model loss in nats on the validation sentences, always masked alike."""
    total = count = 0.0
    tokenizer = data.tokenizer
    device = next(model.parameters()).device
    for number, batch in enumerate(_in_order(data.valid, batch_size, tokenizer.pad_token_id)):
        masked, positions, labels = mask_pieces(
            batch["input_ids"],
            tokenizer.all_special_ids,
            tokenizer.mask_token_id,
            len(tokenizer),
            step_generator(12345, number),
            config.mask_rate,
        )
        loss = masked_lm_loss(
            model,
            masked.to(device),
            batch["attention_mask"].to(device),
            positions.to(device),
            labels.to(device),
        )
        total += loss.item() * len(labels)
        count += len(labels)
    return total / count


def _in_order(data: EncodedCorpus, size: int, pad: int) -> Iterator[dict[str, torch.Tensor]]:
    order = np.argsort(data.lengths, kind="stable")
    for start in range(0, len(order), size):
        yield data.batch(order[start : start + size], pad)


def pretrain(
    out: str | os.PathLike[str],
    config: Config,
    data: Data,
    measures: list[Measure],
    resume: bool = False,
    device: str | torch.device = "cpu",
    quiet: bool = False,
) -> Path:
    """Train a model from nothing and measure it at each checkpoint.

    measures: functions of (model, tokenizer) that return rows with ``metric``, ``value``
    and any of ``detail``, ``layer``, ``head``, ``direction``.
    Returns the path of the metrics file. Ctrl-C finishes the step or the measuring that it
    falls into, saves and stops; go on with ``resume``. After any other end a run goes on
    from its last checkpoint.

    Raises:
        RunError: the folder already holds a run (and ``resume`` is not set), or one of
            another configuration or other data, or the loss is no longer finite.
    """
    run = _Run(Path(out), config, data, check_start(out, resume, device))
    step = run.start()
    due = set(checkpoint_steps(config))
    bar = tqdm(total=config.steps, initial=step, unit="step", disable=quiet, smoothing=0.05)
    with bar, held_back_interrupt() as stopping:
        while True:
            if step in due and step > run.measured:
                run.measure(step, measures)
            if stopping():
                run.save_state(step)
                print(f"\nStopped at step {step}; saved. Go on with: --resume --out {run.out}")
                raise KeyboardInterrupt
            if step == config.steps:
                return run.metrics_path
            loss = run.train_step(step)
            step += 1
            bar.update()
            if step % 50 == 0:
                rate = run.tokens_per_second()
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
    same = json.loads(config_path.read_text()) == asdict(config)
    done = same and read_counters(state).get("measured") == config.steps
    return folder / METRICS if done else None


class _Run:
    """The moving parts of one run: model, optimiser, counters and files."""

    def __init__(self, out: Path, config: Config, data: Data, device: torch.device) -> None:
        self.out, self.config, self.data, self.device = out, config, data, device
        self.tokens = 0
        self.seconds = 0.0  # spent in training steps, measuring left out
        self.epoch = -1
        self.loss_sum, self.loss_steps = torch.zeros((), device=device), 0
        self.measured = -1  # the last step that was measured
        self.fingerprint = data.fingerprint()  # once: it reads the whole corpus
        self.sentences(0)  # too small a corpus is noticed before there is a folder
        self.model = small_bert(
            len(data.tokenizer),
            config.layers,
            config.width,
            config.heads,
            config.max_length,
            config.dropout,
            config.seed,
        )
        torch.nn.Module.to(self.model, device)  # transformers' own wrapper loses the type
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, config.weight_decay),
            lr=config.learning_rate,
            fused=True,
        )

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
            before, now = json.loads(config_path.read_text()), asdict(self.config)
            changed = sorted(k for k in before | now if before.get(k) != now.get(k))
            if changed:
                raise RunError(f"{self.out} holds a run with another {', '.join(changed)}")
            if self.state_path.exists():
                return self.load_state()
        self.out.mkdir(parents=True, exist_ok=True)
        self.data.tokenizer.save_pretrained(self.out / "tokenizer")
        self.metrics_path.write_text("")
        write_whole(config_path, json.dumps(asdict(self.config), indent=1) + "\n")
        return 0

    def train_step(self, step: int) -> torch.Tensor:
        """One update; returns the loss before it, without waiting for the device."""
        began = time.perf_counter()
        config, tokenizer = self.config, self.data.tokenizer
        self.model.train()
        torch.manual_seed(int(step_generator(config.seed, step).initial_seed()))  # dropout
        batch = self.data.train.batch(self.sentences(step), tokenizer.pad_token_id)
        masked, positions, labels = mask_pieces(
            batch["input_ids"],
            tokenizer.all_special_ids,
            tokenizer.mask_token_id,
            len(tokenizer),
            step_generator(config.seed, step),
            config.mask_rate,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * min(
                1.0, (step + 1) / max(1, config.warmup_steps)
            )
        with autocast(self.device):
            loss = masked_lm_loss(
                self.model,
                masked.to(self.device),
                batch["attention_mask"].to(self.device),
                positions.to(self.device),
                labels.to(self.device),
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.tokens += int(batch["attention_mask"].sum())
        self.seconds += time.perf_counter() - began
        self.loss_sum += loss.detach()
        self.loss_steps += 1
        return loss.detach()

    def sentences(self, step: int) -> np.ndarray:
        """The sentence numbers of a step's batch."""
        per_epoch = len(self.data.train) // self.config.batch_size
        if step // max(1, per_epoch) != self.epoch:
            self.epoch = step // max(1, per_epoch)
            self.batches = length_batches(
                self.data.train.lengths, self.config.batch_size, self.config.seed, self.epoch
            )
        return self.batches[step % per_epoch]

    def tokens_per_second(self) -> float:
        return self.tokens / max(self.seconds, 1e-9)

    def measure(self, step: int, measures: list[Measure]) -> None:
        """Measure, append to the metrics file, save the model and the state."""
        self.model.eval()
        loss = validation_loss(self.model, self.data, self.config)
        rows: list[Row] = [{"metric": "valid_loss", "value": loss}]
        if self.loss_steps:
            mean = float(self.loss_sum) / self.loss_steps
            rows.append({"metric": "train_loss", "value": mean})
            rows.append({"metric": "tokens_per_second", "value": self.tokens_per_second()})
        else:
            special = self.data.tokenizer.all_special_ids
            bigram = ngrams.bigram_cross_entropy(self.data.train, self.data.valid, special)
            unigram = ngrams.unigram_entropy(self.data.valid, special)
            rows.append({"metric": "unigram_entropy", "value": unigram})
            rows.append({"metric": "bigram_cross_entropy", "value": bigram})
        if not np.isfinite([row["value"] for row in rows]).all():
            raise RunError(f"the loss is {loss} near step {step}; lower the learning rate")
        for function in measures:
            rows.extend(function(self.model, self.data.tokenizer))
        with open(self.metrics_path, "a", encoding="utf-8") as out:
            for row in rows:
                out.write(json.dumps({"step": step, "tokens": self.tokens, **row}) + "\n")
        self.save_checkpoint(step)
        self.measured = step
        self.loss_sum, self.loss_steps = torch.zeros((), device=self.device), 0
        self.save_state(step)

    def save_checkpoint(self, step: int) -> None:
        """Save model and tokenizer; the folder appears under its name when it is complete."""
        folder = self.out / "checkpoints" / f"step-{step:06d}"
        part = self.out / "checkpoint.part"
        for old in (part, folder):
            shutil.rmtree(old, ignore_errors=True)
        self.model.save_pretrained(part)
        self.data.tokenizer.save_pretrained(part)
        folder.parent.mkdir(exist_ok=True)
        part.replace(folder)

    def save_state(self, step: int) -> None:
        """Save all that a resumed run needs."""
        counters = {
            "step": step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "loss_steps": self.loss_steps,
            "measured": self.measured,
            "data": self.fingerprint,
        }
        save_state(self.state_path, self.model, self.optimizer, self.loss_sum, counters)

    def load_state(self) -> int:
        """Take up the saved state; metrics written after it are dropped."""
        if read_counters(self.state_path).get("data") != self.fingerprint:
            raise RunError(f"{self.out} holds a run on other data or another tokenizer")
        self.loss_sum, counters = load_state(
            self.state_path, self.model, self.optimizer, self.device
        )
        self.tokens, self.seconds = counters["tokens"], counters["seconds"]
        self.loss_steps, self.measured = counters["loss_steps"], counters["measured"]
        lines = self.metrics_path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        kept = [line for line in whole if json.loads(line)["step"] <= self.measured]
        write_whole(self.metrics_path, "".join(kept))
        return int(counters["step"])
