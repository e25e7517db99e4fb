"""Minimal pairs scored by pseudo-log-likelihood.

A masked language model is shown two sentences that differ in as little as possible, one
of them ungrammatical (BLiMP; Warstadt et al. 2020, arXiv:1912.00582). The pair counts as
right when the grammatical one has the higher pseudo-log-likelihood (Salazar et al. 2020,
arXiv:1910.14659): the sum, over the pieces of the sentence, of the log-probability of the
piece when it alone is masked. Ties count half.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib.model import logits_at, max_pieces


@torch.inference_mode()
def pseudo_log_likelihood(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[str],
    batch_pieces: int = 8192,
    progress: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Summed pseudo-log-likelihood in nats of each sentence, float64 [sentences].

    Masked copies are made a batch at a time, shortest sentences first, so that memory does
    not grow with the number of sentences; the vocabulary is scored at the masked position
    only. progress: called with the number of masked copies done after each batch.

    Raises:
        ValueError: a sentence is longer than the model takes, or empty.
    """
    encoded = tokenizer(list(sentences))["input_ids"]
    limit = max_pieces(model)
    for number, ids in enumerate(encoded):
        if not 2 < len(ids) <= limit:
            raise ValueError(
                f"sentence {number + 1} has {len(ids) - 2} pieces; "
                f"the model takes 1 to {limit - 2}: {sentences[number][:60]!r}"
            )
    scores = np.zeros(len(encoded))
    device = next(model.parameters()).device
    for owner, copies, positions, labels in _masked_copies(
        encoded, int(tokenizer.mask_token_id), batch_pieces
    ):
        flat = np.arange(len(copies)) * copies.shape[1] + positions
        mask = (
            np.arange(copies.shape[1]) < np.asarray([len(encoded[o]) for o in owner])[:, None]
        )
        logits = logits_at(
            model,
            torch.from_numpy(copies).to(device),
            torch.from_numpy(mask.astype(np.int64)).to(device),
            torch.from_numpy(flat).to(device),
        )
        surprisal = cross_entropy(
            logits.float(), torch.from_numpy(labels).to(device), reduction="none"
        )
        np.subtract.at(scores, owner, surprisal.double().cpu().numpy())
        if progress is not None:
            progress(len(owner))
    return scores


def _masked_copies(
    encoded: Sequence[Sequence[int]], mask_id: int, batch_pieces: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Yield batches of copies, each with one piece masked.

    A batch is (sentence numbers [n], copies [n, length], positions [n], labels [n]).
    """
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    waiting: list[tuple[int, int]] = []
    for number in order:
        for position in range(1, len(encoded[number]) - 1):
            if waiting and (len(waiting) + 1) * len(encoded[number]) > batch_pieces:
                yield _copies(encoded, waiting, mask_id)
                waiting = []
            waiting.append((number, position))
    if waiting:
        yield _copies(encoded, waiting, mask_id)


def _copies(
    encoded: Sequence[Sequence[int]], waiting: list[tuple[int, int]], mask_id: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    owner = np.asarray([number for number, _ in waiting])
    positions = np.asarray([position for _, position in waiting])
    copies = np.zeros((len(waiting), max(len(encoded[o]) for o in owner)), dtype=np.int64)
    for row, number in enumerate(owner):
        copies[row, : len(encoded[number])] = encoded[number]
    labels = copies[np.arange(len(owner)), positions].copy()
    copies[np.arange(len(owner)), positions] = mask_id
    return owner, copies, positions, labels


def accuracy(good: np.ndarray, bad: np.ndarray) -> float:
    """Share of pairs whose grammatical member scores higher; a tie counts half."""
    return float(((good > bad) + 0.5 * (good == bad)).mean())


def score_paradigms(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Mapping[str, Iterable[tuple[str, str]]],
    progress: Callable[[int], object] | None = None,
) -> dict[str, dict[str, Any]]:
    """Score paradigms of (good, bad) sentences.

    Returns for each paradigm ``n``, ``accuracy``, ``ties`` and ``margin``, the mean
    difference of the two pseudo-log-likelihoods in nats.

    Raises:
        ValueError: a paradigm has no pairs, or as ``pseudo_log_likelihood``.
    """
    listed = {name: list(of_paradigm) for name, of_paradigm in pairs.items()}
    empty = [name for name, of_paradigm in listed.items() if not of_paradigm]
    if empty:
        raise ValueError(f"no minimal pairs in {', '.join(empty)}")
    sentences = [s for of_paradigm in listed.values() for pair in of_paradigm for s in pair]
    scores = pseudo_log_likelihood(model, tokenizer, sentences, progress=progress)
    rows, start = {}, 0
    for name, of_paradigm in listed.items():
        both = scores[start : start + 2 * len(of_paradigm)].reshape(-1, 2)
        start += 2 * len(of_paradigm)
        rows[name] = {
            "n": len(both),
            "accuracy": accuracy(both[:, 0], both[:, 1]),
            "ties": int((both[:, 0] == both[:, 1]).sum()),
            "margin": float((both[:, 0] - both[:, 1]).mean()),
        }
    return rows
