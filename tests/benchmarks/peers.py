"""What we are compared with, each as its users would run it.

Nothing here is anyone else's code: the penalty and the loop over heads are written from
their descriptions, the Trainer and minicons are the packages themselves.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import (
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from sas_lib.batches import MaskedBatch
from sas_lib.learner import Learner
from sas_lib.model import training_dtype
from sas_lib.settings import Config
from sas_lib.treebank import ROOT, Sentence

LAMBDA = 0.01

Collator = Callable[[list[dict[str, Any]]], dict[str, Tensor]]

# --- training -------------------------------------------------------------------------


class Stamps(TrainerCallback):
    """Notes the time at the end of each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.times.append(time.perf_counter())


def make_trainer(
    model: BertForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Sequence[int]],
    config: Config,
    steps: int,
    collator: Collator | None = None,
) -> tuple[Trainer, Stamps]:
    """transformers' Trainer at our settings, with nothing switched on that costs time.

    The rows come in the order given, so its batches are ours. They are tokenised, and their
    special tokens marked, beforehand, which spares the collator much of its work.
    """
    special = set(tokenizer.all_special_ids)
    data = [
        {
            "input_ids": list(row),
            "attention_mask": [1] * len(row),
            "special_tokens_mask": [int(piece in special) for piece in row],
        }
        for row in rows
    ]
    arguments = TrainingArguments(
        tempfile.mkdtemp(prefix="trainer-"),
        per_device_train_batch_size=config.batch_size,
        train_sampling_strategy="sequential",
        max_steps=steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant",
        weight_decay=config.weight_decay,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        use_cpu=True,
        bf16=training_dtype(torch.device("cpu")) == torch.bfloat16,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    stamps = Stamps()
    trainer = Trainer(
        model,
        arguments,
        data_collator=collator
        or DataCollatorForLanguageModeling(tokenizer, mlm_probability=config.mask_rate),
        train_dataset=data,  # type: ignore[arg-type]
        callbacks=[stamps],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, stamps


class EveryPosition(Learner):
    """Our loop with the head of BertForMaskedLM, which scores every position."""

    def loss(self, batch: MaskedBatch, masked: int) -> Tensor:
        labels = torch.full_like(batch.input_ids, -100)
        labels.view(-1)[batch.positions] = batch.labels
        return self.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels
        ).loss


class Published(Learner):
    """Our loop with the penalty as published code computes it."""

    power: float | None = 1.0

    def loss(self, batch: MaskedBatch, masked: int) -> Tensor:
        output: Any = self.model.base_model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            output_attentions=True,
        )
        logits = self.model.cls(output.last_hidden_state.flatten(0, 1)[batch.positions])
        loss = torch.nn.functional.cross_entropy(logits.float(), batch.labels)
        extra = published_penalty(output.attentions, batch.heads, self.power)
        return loss + LAMBDA * extra / len(batch.heads)


class PublishedWithoutPower(Published):
    """The same, less the power, whose exponent of 1 changes no value."""

    power = None


def published_penalty(
    maps: Sequence[Tensor], heads: Tensor, power: float | None = 1.0
) -> Tensor:
    """The penalty of a batch, summed, from whole maps.

    maps: of each layer, [batch, heads, pieces, pieces]. heads: [batch, pieces], the position
    of each piece's head, -1 for none, which points to an appended row and column of zeros.
    """
    stacked = torch.stack(list(maps), dim=1)  # [batch, layers, heads, pieces, pieces]
    if power is not None:
        stacked = torch.float_power(stacked, power)
    largest = torch.nn.functional.pad(stacked.amax((1, 2)), (0, 1, 0, 1))
    row = torch.arange(len(heads))[:, None]
    piece = torch.arange(heads.shape[1])[None]
    return largest[row, piece, heads].sum() + largest[row, heads, piece].sum()


# --- scoring --------------------------------------------------------------------------


def loop_over_heads(
    maps: Sequence[np.ndarray],
    spans: Sequence[Sequence[list[int]]],
    sentences: Sequence[Sentence],
) -> tuple[np.ndarray, np.ndarray]:
    """Score one sentence, one layer, one head, one word at a time.

    maps: of each layer, [batch, heads, pieces, pieces]. spans: for each word of each
    sentence its pieces. Returns ``correct`` and ``attention`` as ``uas.Arcs`` has them.
    """
    n_arcs, layers, heads = sum(map(len, sentences)), len(maps), maps[0].shape[1]
    correct = np.zeros((n_arcs, layers, heads, 2), dtype=bool)
    on_arc = np.zeros((n_arcs, layers, heads, 2), dtype=np.float32)
    first = 0
    for number, sentence in enumerate(sentences):
        for layer in range(layers):
            for head in range(heads):
                pieces = maps[layer][number, head]
                words = word_map(pieces, spans[number])
                for direction, seen in enumerate((words, words.T)):
                    predicted = seen.argmax(1)
                    for word, gold in enumerate(sentence.heads):
                        if gold != ROOT:
                            place = first + word, layer, head, direction
                            correct[place] = predicted[word] == gold
                            on_arc[place] = seen[word, gold]
        first += len(sentence)
    return correct, on_arc


def word_map(attention: np.ndarray, spans: Iterable[list[int]]) -> np.ndarray:
    """Word-level attention of one head: [pieces, pieces] to [words, words]."""
    spans = list(spans)
    to_words = np.stack([attention[:, span].sum(1) for span in spans], axis=1)
    words = np.stack([to_words[span].mean(0) for span in spans])
    np.fill_diagonal(words, 0)
    return words


def minicons_scorer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, batch_size: int = 100
) -> Callable[[Sequence[str]], list[float]]:
    """minicons' pseudo-log-likelihoods, summed, with its sentences sorted by length.

    Raises:
        ImportError: minicons is not installed.
    """
    from minicons import scorer

    # transformers 5 has no batch_encode_plus any more; calling the tokenizer does the same.
    tokenizer.batch_encode_plus = tokenizer.__call__  # type: ignore[attr-defined]
    minicons = scorer.MaskedLMScorer(model, "cpu", tokenizer=tokenizer)

    def scores(sentences: Sequence[str]) -> list[float]:
        order = sorted(range(len(sentences)), key=lambda number: len(sentences[number]))
        found = [0.0] * len(sentences)
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            of_part = minicons.sequence_score(
                [sentences[number] for number in part],
                reduction=lambda pieces: pieces.sum(0).item(),
                PLL_metric="original",
            )
            for number, score in zip(part, of_part, strict=True):
                found[number] = score
        return found

    return scores
