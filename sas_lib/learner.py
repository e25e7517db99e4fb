"""One update after another: model, optimiser, batches and penalty put together.

Everything random in step ``n`` depends on the seed and ``n`` alone. On a GPU no step waits
for the device: batches are cut out and masked there, and the sums are read when measuring.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from sas_lib.batches import MaskedBatch, ResidentCorpus, length_batches, step_generator
from sas_lib.corpus import EncodedCorpus
from sas_lib.model import autocast, logits_at, small_bert
from sas_lib.parallel import Parallel
from sas_lib.regularizer import Penalty, lambda_at, penalty, watching
from sas_lib.settings import Config
from sas_lib.throughput import body_parameters, matmul_peak, step_flops


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: no decay for biases and layer norms, as in BERT."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


class Learner:
    """A model that is being trained, and what has been counted while it was.

    sums: of the loss and of the penalty since they were last read, over ``summed`` steps.
    tokens, flops, seconds: of all steps so far, over all processes.
    """

    def __init__(
        self,
        config: Config,
        tokenizer: PreTrainedTokenizerFast,
        train: EncodedCorpus,
        parallel: Parallel,
        compiled: bool | None = None,
    ) -> None:
        self.config, self.parallel, self.device = config, parallel, parallel.device
        self.lengths, self.epoch = train.lengths, -1
        self.sentences(0)  # too small a corpus is noticed at once
        self.corpus = ResidentCorpus(train, tokenizer, self.device, config.mask_rate)
        self.model = small_bert(
            len(tokenizer),
            config.layers,
            config.width,
            config.heads,
            config.max_length,
            config.dropout,
            config.seed,
        )
        torch.nn.Module.to(self.model, self.device)  # transformers' wrapper loses the type
        if self.device.type == "cuda" if compiled is None else compiled:
            self._compile()
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.model, config.weight_decay),
            lr=config.learning_rate,
            fused=True,
        )
        self.body = body_parameters(self.model)
        self.tokens, self.flops, self.seconds = 0, 0.0, 0.0
        self.since: float | None = None  # when the clock was last started
        self.sums, self.summed = torch.zeros(2, device=self.device), 0

    def _compile(self) -> None:
        """Compile what surrounds the attention: its hooks must see the maps of each step."""
        layers: Any = self.model.bert.encoder.layer
        for layer in layers:
            layer.attention.output.compile(dynamic=True)
            layer.intermediate.compile(dynamic=True)
            layer.output.compile(dynamic=True)

    def sentences(self, step: int) -> np.ndarray:
        """The sentence numbers of a step's batch."""
        size, seed = self.config.batch_size, self.config.seed
        per_epoch = len(self.lengths) // size
        if step // max(1, per_epoch) != self.epoch:
            self.epoch = step // max(1, per_epoch)
            self.batches = length_batches(self.lengths, size, seed, self.epoch)
        return self.batches[step % per_epoch]

    def update(self, step: int) -> Tensor:
        """One step of training; returns the loss before it, of this process's share."""
        if self.since is None:
            self.since = time.perf_counter()
        seed = self.config.seed
        self.model.train()
        dropout = int(step_generator(seed, step).initial_seed())
        torch.manual_seed(dropout + self.parallel.rank)  # other rows, other masks
        whole = self.corpus.batch(self.sentences(step), step_generator(seed, step, self.device))
        batch = share(whole, self.parallel.rank, self.parallel.size)
        weight = lambda_at(self.config.sas_schedule, step)
        watchers = [self.penalty(batch)] if weight else []
        with autocast(self.device), watching(self.model, *watchers):
            loss = self.loss(batch, len(whole.labels))
        extra = sum((w.value() for w in watchers), torch.zeros_like(loss))
        (loss + weight * extra if watchers else loss).backward()
        self._descend(step)
        self.count(whole)
        self.sums += torch.stack([loss.detach(), extra.detach()])
        self.summed += 1
        return loss.detach()

    def loss(self, batch: MaskedBatch, masked: int) -> Tensor:
        """The share of the batch in the mean loss over all its ``masked`` pieces, times the
        number of processes, whose mean is taken later."""
        logits = logits_at(self.model, batch.input_ids, batch.attention_mask, batch.positions)
        if self.parallel.size == 1:
            return cross_entropy(logits.float(), batch.labels)
        total = cross_entropy(logits.float(), batch.labels, reduction="sum")
        return total * self.parallel.size / masked

    def penalty(self, batch: MaskedBatch) -> Penalty:
        """The penalty of this run on one batch."""
        c = self.config
        return penalty(
            c.penalty, batch.heads, batch.attention_mask, (c.layers, c.heads), c.seed
        )

    def _descend(self, step: int) -> None:
        """Follow the gradient, with its norm cut to 1 and a linear warm-up."""
        c = self.config
        self.parallel.average_gradients(self.model.parameters())
        for group in self.optimizer.param_groups:
            group["lr"] = c.learning_rate * min(1.0, (step + 1) / max(1, c.warmup_steps))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def count(self, batch: MaskedBatch) -> None:
        """Count a whole batch."""
        length, masked = batch.input_ids.shape[1], len(batch.labels)
        self.tokens += batch.tokens
        self.flops += step_flops(self.model, self.body, batch.tokens, length, masked)

    def read_sums(self) -> tuple[float, float] | None:
        """The mean loss and penalty since they were last read; stops the clock.

        None when there was no step.
        """
        if not self.summed:
            return None
        total = self.parallel.sum(self.sums) / self.parallel.size
        loss, extra = (total / self.summed).tolist()  # waits for the device
        self.seconds, self.since = self.elapsed(), None
        self.sums, self.summed = torch.zeros_like(self.sums), 0
        return loss, extra

    def elapsed(self) -> float:
        """Seconds spent in training steps, measuring left out."""
        running = 0.0 if self.since is None else time.perf_counter() - self.since
        return self.seconds + running

    def tokens_per_second(self) -> float:
        """Tokens a second over all steps so far."""
        return self.tokens / max(self.elapsed(), 1e-9)

    def utilisation(self) -> float:
        """Model FLOPs utilisation: the share of the devices' measured matrix-product speed."""
        peak = matmul_peak(self.device, torch.get_num_threads()) * self.parallel.size
        return self.flops / max(self.elapsed(), 1e-9) / peak


def share(batch: MaskedBatch, rank: int, size: int) -> MaskedBatch:
    """Every ``size``-th sequence of a batch, from ``rank`` on.

    Choosing the masked pieces among these sequences waits for the device.
    """
    if size == 1:
        return batch
    length = batch.input_ids.shape[1]
    row = batch.positions // length
    mine = row % size == rank
    return MaskedBatch(
        batch.input_ids[rank::size],
        batch.attention_mask[rank::size],
        batch.heads[rank::size],
        (row // size * length + batch.positions % length)[mine],
        batch.labels[mine],
        batch.tokens,
    )
