"""Minimal pairs scored by pseudo-log-likelihood.

A masked language model is shown two sentences that differ in as little as possible, one
of them ungrammatical (BLiMP; Warstadt et al. 2020, arXiv:1912.00582). The pair counts as
right when the grammatical one has the higher pseudo-log-likelihood (Salazar et al. 2020,
arXiv:1910.14659): the sum, over the pieces of the sentence, of the log-probability of the
piece when it alone is masked. Ties count half.

A word of several pieces gets too high a score so, for each piece gives the others away.
``within_word_l2r`` (Kauf and Ivanova 2023, arXiv:2305.10588) also masks the later pieces of
the same word. Words are those of the tokenizer: what it splits at before it makes pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib.model import logits_at, max_pieces
from sas_lib.sentence_batches import padded

Method = Literal["pll", "within_word_l2r"]
Progress = Callable[[int], object]

# Sentences that are encoded and sorted by length together: enough for batches of even
# length, and all that is held in memory at a time. Even, so that no pair is cut in two.
WINDOW = 2048


def pseudo_log_likelihood(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Sequence[str],
    batch_pieces: int = 8192,
    progress: Progress | None = None,
    method: Method = "pll",
) -> np.ndarray:
    """Summed pseudo-log-likelihood in nats of each sentence, float64 [sentences].

    Masked copies are made a batch at a time, shortest sentences first, so that memory does
    not grow with the number of sentences; the vocabulary is scored at the masked position
    only. Sentences of the same pieces have the very same score.
    progress: called after each batch with the number of sentences done in it.

    Raises:
        ValueError: a sentence is longer than the model takes, or empty.
    """
    scores = stream_scores(model, tokenizer, sentences, batch_pieces, progress, method)
    return np.fromiter(scores, dtype=np.float64)


def stream_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Iterable[str],
    batch_pieces: int = 8192,
    progress: Progress | None = None,
    method: Method = "pll",
) -> Iterator[float]:
    """Yield the scores of ``pseudo_log_likelihood`` in the order of the sentences.

    The sentences may come from a file of any size: ``WINDOW`` of them are read at a time.
    """
    if method not in get_args(Method):
        raise ValueError(f"no method {method!r}; there are {', '.join(get_args(Method))}")
    left, done = iter(sentences), 0
    while window := list(islice(left, WINDOW)):
        encoded = _encode(tokenizer, window, method)
        _check_lengths(encoded, window, max_pieces(model), done)
        yield from _score(model, tokenizer, encoded, batch_pieces, progress).tolist()
        done += len(window)


@dataclass(frozen=True)
class _Encoded:
    """A sentence's pieces with special tokens, and what to mask for each scored piece.

    spans: (position, end) of each scored piece; [position, end) is masked.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def _encode(
    tokenizer: PreTrainedTokenizerFast, sentences: list[str], method: Method
) -> list[_Encoded]:
    rows = []
    for encoding in tokenizer(sentences).encodings:
        words = encoding.word_ids if method == "within_word_l2r" else range(len(encoding.ids))
        ends = _word_ends(words)
        special = encoding.special_tokens_mask
        spans = tuple((i, ends[i]) for i in range(len(ends)) if not special[i])
        rows.append(_Encoded(tuple(encoding.ids), spans))
    return rows


def _word_ends(words: Sequence[int | None]) -> list[int]:
    """For each piece the position after the last piece of its word."""
    ends = list(range(1, len(words) + 1))
    for i in reversed(range(len(words) - 1)):
        if words[i] == words[i + 1]:
            ends[i] = ends[i + 1]
    return ends


def _check_lengths(
    encoded: list[_Encoded], sentences: list[str], limit: int, done: int
) -> None:
    for number, (row, sentence) in enumerate(zip(encoded, sentences, strict=True), done + 1):
        special = len(row.ids) - len(row.spans)
        if not row.spans or len(row.ids) > limit:
            raise ValueError(
                f"sentence {number} has {len(row.spans)} pieces; "
                f"the model takes 1 to {limit - special}: {sentence[:60]!r}"
            )


@torch.inference_mode()
def _score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    encoded: list[_Encoded],
    batch_pieces: int,
    progress: Progress | None,
) -> np.ndarray:
    """Scores of the sentences of one window, float64 [sentences]."""
    # What is encoded alike is scored once: its ties are then exact, whatever the batches.
    times: dict[_Encoded, int] = {}
    for row in encoded:
        times[row] = times.get(row, 0) + 1
    distinct = sorted(times, key=lambda row: len(row.ids))
    scores = np.zeros(len(distinct))
    mask = int(tokenizer.mask_token_id)
    device = next(model.parameters()).device
    for batch in _batches(distinct, batch_pieces):
        owner, start, end = torch.tensor(batch).T  # each [copies]
        ids, attended = padded([distinct[o].ids for o, *_ in batch], 0)  # [copies, length]
        copies, columns = torch.arange(len(ids)), torch.arange(ids.shape[1])
        labels = ids[copies, start]
        ids[(columns >= start[:, None]) & (columns < end[:, None])] = mask
        places = (copies * ids.shape[1] + start).to(device)
        logits = logits_at(model, ids.to(device), attended.to(device), places)
        surprisal = cross_entropy(logits.float(), labels.to(device), reduction="none")
        np.subtract.at(scores, owner.numpy(), surprisal.double().cpu().numpy())
        if progress is not None:
            last = {o for o, s, _ in batch if s == distinct[o].spans[-1][0]}
            progress(sum(times[distinct[o]] for o in last))
    score_of = dict(zip(distinct, scores, strict=True))
    return np.array([score_of[row] for row in encoded])


def _batches(
    encoded: list[_Encoded], batch_pieces: int
) -> Iterator[list[tuple[int, int, int]]]:
    """Yield lists of masked copies, (sentence number, position, end), by rising length."""
    waiting: list[tuple[int, int, int]] = []
    for number, row in enumerate(encoded):
        for start, end in row.spans:
            if waiting and (len(waiting) + 1) * len(row.ids) > batch_pieces:
                yield waiting
                waiting = []
            waiting.append((number, start, end))
    if waiting:
        yield waiting


def accuracy(good: np.ndarray, bad: np.ndarray) -> float:
    """Share of pairs whose grammatical member scores higher; a tie counts half."""
    return float(((good > bad) + 0.5 * (good == bad)).mean())


def score_paradigms(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Mapping[str, Iterable[tuple[str, str]]],
    progress: Progress | None = None,
    method: Method = "pll",
) -> dict[str, dict[str, Any]]:
    """Score paradigms of (good, bad) sentences.

    Returns for each paradigm ``n``, ``accuracy``, ``ties`` and ``margin``, the mean
    difference of the two pseudo-log-likelihoods in nats.

    Raises:
        ValueError: a paradigm has no pairs, or as ``pseudo_log_likelihood``.
    """
    return dict(each_paradigm(model, tokenizer, pairs, progress, method))


def each_paradigm(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Mapping[str, Iterable[tuple[str, str]]],
    progress: Progress | None = None,
    method: Method = "pll",
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (paradigm, row) as in ``score_paradigms``, each as soon as it is scored."""
    for name, scores in each_scores(model, tokenizer, pairs, progress, method):
        yield name, paradigm_row(scores)


def paradigm_row(scores: np.ndarray) -> dict[str, Any]:
    """The row of ``score_paradigms`` from the scores of each pair, good and bad, [pairs, 2]."""
    good, bad = scores.T
    return {
        "n": len(good),
        "accuracy": accuracy(good, bad),
        "ties": int((good == bad).sum()),
        "margin": float((good - bad).mean()),
    }


def each_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Mapping[str, Iterable[tuple[str, str]]],
    progress: Progress | None = None,
    method: Method = "pll",
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (paradigm, scores), the pseudo-log-likelihoods in nats of both members of each
    pair, good and bad: float64 [pairs, 2].

    Raises:
        ValueError: a paradigm has no pairs, or as ``pseudo_log_likelihood``.
    """
    listed = {name: list(of_paradigm) for name, of_paradigm in pairs.items()}
    empty = [name for name, of_paradigm in listed.items() if not of_paradigm]
    if empty:
        raise ValueError(f"no minimal pairs in {', '.join(empty)}")
    sentences = (s for of_paradigm in listed.values() for pair in of_paradigm for s in pair)
    scores = stream_scores(model, tokenizer, sentences, progress=progress, method=method)
    for name, of_paradigm in listed.items():
        both = np.fromiter(islice(scores, 2 * len(of_paradigm)), dtype=np.float64)
        yield name, both.reshape(-1, 2)


def equal_pieces(
    pairs: Mapping[str, Iterable[tuple[str, str]]], tokenizer: PreTrainedTokenizerFast
) -> dict[str, list[tuple[str, str]]]:
    """The pairs whose members have equally many pieces; paradigms without any drop out.

    A pseudo-log-likelihood is a sum over pieces, so on other pairs a model that has learnt
    nothing prefers the shorter sentence and is not at chance.
    """

    def size(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    kept = {n: [p for p in of if size(p[0]) == size(p[1])] for n, of in pairs.items()}
    return {name: of for name, of in kept.items() if of}
