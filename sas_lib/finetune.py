"""Fine-tuning: a linear head on a checkpoint, trained on a task of ``glue``.

The recipe is BERT's (Devlin et al. 2019, arXiv:1810.04805): all weights are trained with
AdamW, the learning rate rises over the first tenth of the steps and falls to zero over the
rest. The last model is scored, none is chosen on the test examples. Small test sets and
random heads make single runs unreliable (Dodge et al. 2020, arXiv:2002.06305): use several
seeds, and read the scores beside those of the majority class.
"""

from __future__ import annotations

import copy
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    get_linear_schedule_with_warmup,
)

from sas_lib.glue import TASKS
from sas_lib.model import autocast, max_pieces
from sas_lib.sentence_batches import padded
from sas_lib.task_scores import hans_scores, majority, scores
from sas_lib.toy_english import Example

Pooling = Literal["cls", "mean"]


class FinetuneError(RuntimeError):
    """A model that cannot be fine-tuned so; the message says what to do."""


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune.

    learning_rate: where it is None, 3e-5 at BERT-base's width of 768 and more for narrower
    models, by the square of the ratio: small models need it. warmup: share of the steps.
    max_length: pieces, special tokens included; longer inputs are cut. pooling: what the
    head sees, the state of [CLS] or the mean of all.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float | None = None
    warmup: float = 0.1
    weight_decay: float = 0.01
    dropout: float = 0.1
    max_length: int = 128
    pooling: Pooling = "cls"

    def peak(self, width: int) -> float:
        """The highest learning rate, for a model of this width."""
        given = self.learning_rate
        return 3e-5 * (768 / width) ** 2 if given is None else given


class Classifier(torch.nn.Module):
    """The body of a model, pooled, and one linear layer."""

    def __init__(
        self, model: PreTrainedModel, outputs: int, pooling: Pooling, dropout: float
    ) -> None:
        super().__init__()
        if pooling not in get_args(Pooling):
            raise FinetuneError(f"no pooling {pooling!r}; there are {get_args(Pooling)}")
        self.body = copy.deepcopy(model.base_model)
        self.pooling = pooling
        self.dropout = torch.nn.Dropout(dropout)
        self.linear = torch.nn.Linear(int(model.config.hidden_size), outputs)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """inputs: [batch, length] each. Returns [batch, outputs] in float32."""
        states = self.body(**inputs).last_hidden_state  # [batch, length, width]
        if self.pooling == "cls":
            pooled = states[:, 0]
        else:
            mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
            pooled = (states * mask).sum(1) / mask.sum(1)
        return self.linear(self.dropout(pooled)).float()


@dataclass(frozen=True)
class Encoded:
    """Examples as pieces; ``types`` tells the first sentence from the second.

    truncated: how many were too long and have been cut.
    """

    ids: list[list[int]]
    types: list[list[int]] | None
    labels: np.ndarray
    truncated: int

    def batch(self, rows: Sequence[int], pad: int) -> dict[str, Tensor]:
        """The inputs of some examples, padded, each [rows, longest]."""
        ids, mask = padded([self.ids[row] for row in rows], pad)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.types is not None:
            inputs["token_type_ids"], _ = padded([self.types[row] for row in rows], 0)
        return inputs


def encode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    max_length: int,
) -> Encoded:
    """Encode examples; of a pair that is too long, the longer sentence is cut first.

    Raises:
        FinetuneError: there are no examples.
    """
    if not examples:
        raise FinetuneError("no examples to fine-tune on or to score")
    texts = [e.text for e in examples]
    pairs = [e.second for e in examples] if any(e.second for e in examples) else None
    limit = min(max_length, max_pieces(model))
    encoded = tokenizer(texts, pairs, truncation="longest_first", max_length=limit)
    # RoBERTa-like models have one type only.
    typed = getattr(model.config, "type_vocab_size", 0) > 1
    return Encoded(
        [encoding.ids for encoding in encoded.encodings],
        [_types(encoding.sequence_ids) for encoding in encoded.encodings] if typed else None,
        np.array([e.label for e in examples], dtype=np.float64),
        sum(bool(encoding.overflowing) for encoding in encoded.encodings),
    )


def _types(sequences: Sequence[int | None]) -> list[int]:
    """BERT's token types: 1 from the second sentence on. Not all tokenizers give them."""
    second = sequences.index(1) if 1 in sequences else len(sequences)
    return [int(place >= second) for place in range(len(sequences))]


def finetune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    train: Encoded,
    labels: int,
    recipe: Recipe,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
) -> Classifier:
    """Train a copy of ``model`` with a new head; ``model`` itself is left as it is.

    labels: the number of classes; 0 to predict a number. progress: called after each step
    with the number of examples in it.

    Raises:
        FinetuneError: the loss is no longer finite.
    """
    torch.manual_seed(seed)  # the head and dropout
    device = model.device
    classifier = Classifier(model, labels or 1, recipe.pooling, recipe.dropout).to(device)
    classifier.train()
    optimizer = _optimizer(classifier, recipe)
    steps = recipe.epochs * math.ceil(len(train.ids) / recipe.batch_size)
    schedule = get_linear_schedule_with_warmup(optimizer, int(recipe.warmup * steps), steps)
    targets = _targets(train.labels, labels)
    for rows in _shuffled(len(train.ids), recipe, seed):
        inputs = _to(train.batch(rows, tokenizer.pad_token_id), device)
        with autocast(device):
            outputs = classifier(inputs)
        loss = _loss(outputs, targets[rows].to(device))
        if not torch.isfinite(loss):
            raise FinetuneError(f"the loss is {loss.item()}; lower the learning rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if progress is not None:
            progress(len(rows))
    return classifier.eval()


def _optimizer(classifier: Classifier, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW without decay for biases and layer norms, as in BERT."""
    decayed = [p for p in classifier.parameters() if p.ndim > 1]
    plain = [p for p in classifier.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak(classifier.linear.in_features))


def _targets(labels: np.ndarray, classes: int) -> Tensor:
    """Class numbers; or scores with mean 0 and variance 1, whatever their scale."""
    if classes:
        return torch.from_numpy(labels).long()
    scale = labels.std() or 1.0
    return torch.from_numpy((labels - labels.mean()) / scale).float()


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return torch.nn.functional.mse_loss(outputs.squeeze(-1), targets)
    return torch.nn.functional.cross_entropy(outputs, targets)


def _shuffled(n: int, recipe: Recipe, seed: int) -> Iterator[list[int]]:
    """Batches of row numbers, each row once an epoch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(recipe.epochs):
        order = torch.randperm(n, generator=generator).tolist()
        for start in range(0, n, recipe.batch_size):
            yield order[start : start + recipe.batch_size]


def _to(inputs: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in inputs.items()}


@torch.inference_mode()
def predict(
    classifier: Classifier,
    data: Encoded,
    pad: int,
    batch_size: int = 128,
    progress: Callable[[int], object] | None = None,
) -> np.ndarray:
    """The outputs for all examples, float64 [examples, outputs]."""
    order = sorted(range(len(data.ids)), key=lambda row: len(data.ids[row]))
    device = classifier.linear.weight.device
    found = np.zeros((len(order), classifier.linear.out_features))
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        with autocast(device):
            outputs = classifier(_to(data.batch(rows, pad), device))
        found[rows] = outputs.double().cpu().numpy()
        if progress is not None:
            progress(len(rows))
    return found


def each_run(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    name: str,
    train: Sequence[Example],
    test: Sequence[Example],
    recipe: Recipe,
    seeds: int = 3,
    hans: tuple[Sequence[Example], Sequence[str]] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[dict[str, Any]]:
    """Fine-tune and score, and yield what is known of the task after each seed.

    hans: examples and heuristics (``glue.read_hans``) to score a model of MNLI on.
    progress: called with the number of examples trained on or scored.
    Each row has ``task``, ``metric``, ``mean`` and ``sd`` (None of one run) of that metric
    over the seeds so far, ``majority`` (the metrics of the commonest class), ``n_train``,
    ``n_test``, ``truncated`` (examples that have been cut), ``learning_rate`` (the peak)
    and ``runs``: the metrics of each seed, with ``hans`` where it was asked for.
    """
    task, pad = TASKS[name], int(tokenizer.pad_token_id)
    learnt = encode(model, tokenizer, train, recipe.max_length)
    tested = encode(model, tokenizer, test, recipe.max_length)
    other = encode(model, tokenizer, hans[0], recipe.max_length) if hans else None
    runs: list[dict[str, Any]] = []
    for seed in range(seeds):
        head = finetune(model, tokenizer, learnt, len(task.labels), recipe, seed, progress)
        run: dict[str, Any] = {"seed": seed}
        outputs = predict(head, tested, pad, progress=progress)
        run |= scores(task, outputs, tested.labels)
        if hans and other:
            outputs = predict(head, other, pad, progress=progress)
            run["hans"] = hans_scores(outputs, other.labels, hans[1])
        runs.append(run)
        values = [run[task.metrics[0]] for run in runs]
        yield {
            "task": name,
            "metric": task.metrics[0],
            "mean": statistics.fmean(values),
            "sd": statistics.stdev(values) if seed else None,
            "majority": majority(task, train, test),
            "n_train": len(train),
            "n_test": len(test),
            "truncated": learnt.truncated + tested.truncated,
            "learning_rate": recipe.peak(int(model.config.hidden_size)),
            "runs": list(runs),
        }
