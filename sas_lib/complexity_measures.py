"""Complexity and the use of context as rows of a run's table (see ``measures``).

They take seconds a checkpoint: each is cheap enough to take on the way or after the run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib import complexity
from sas_lib.complexity import DimensionError, Metric, Pooling
from sas_lib.context import Words, attention_profile, context_use, loss_without
from sas_lib.fisher import fisher_trace
from sas_lib.model import autocast
from sas_lib.pretraining import Measure, Row


def complexity_measure(
    texts: Sequence[str],
    initial: PreTrainedModel | None = None,
    fisher_texts: int = 200,
) -> Measure:
    """Intrinsic dimension, weight norm and Fisher trace.

    texts: one state each (``dimension_rows``). initial: the model as initialised, for
    ``weight_distance``. fisher_texts: the Fisher trace is taken on the first so many texts;
    0 for none.
    """

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
        rows = dimension_rows(model, tokenizer, texts) + weight_rows(model, initial)
        if fisher_texts:
            rows += fisher_rows(model, tokenizer, texts[:fisher_texts])
        return rows

    return measure


def weight_rows(model: PreTrainedModel, initial: PreTrainedModel | None = None) -> list[Row]:
    """The squared weight norm and, where ``initial`` is given, the distance from it."""
    rows: list[Row] = [
        {"metric": "squared_weight_norm", "value": complexity.squared_weight_norm(model)}
    ]
    if initial is not None:
        distance = complexity.weight_distance(model, initial)
        rows.append({"metric": "weight_distance", "value": distance})
    return rows


def fisher_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> list[Row]:
    """The trace of the empirical Fisher information, and its standard error."""
    trace, error = fisher_trace(model, tokenizer, texts)
    return [
        {"metric": "fisher_trace", "value": trace},
        {"metric": "fisher_trace_standard_error", "value": error},
    ]


def dimension_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]
) -> list[Row]:
    """The intrinsic dimension of the last layer in each pooling and metric.

    ``dimension`` has its ``dimension_low`` and ``dimension_high`` beside it. Where the states
    are too nearly equal only ``dimension_n`` and ``dimension_duplicates`` are given.
    """
    layer = complexity.layer_number(model, -1)
    rows: list[Row] = []
    poolings: tuple[Pooling, ...] = ("cls", "mean")
    metrics: tuple[Metric, ...] = ("euclidean", "cosine")
    for pooling in poolings:
        states = complexity.sentence_states(model, tokenizer, texts, layer, pooling)
        for metric in metrics:
            for name, value in _dimension(states, metric).items():
                detail = f"{pooling} {metric}"
                rows.append({"metric": name, "detail": detail, "layer": layer, "value": value})
    return rows


def _dimension(states: np.ndarray, metric: Metric) -> dict[str, float]:
    try:
        found = complexity.two_nn(states, metric)
    except DimensionError as error:
        return {"dimension_n": error.usable, "dimension_duplicates": error.duplicates}
    return {
        "dimension": found.dimension,
        "dimension_low": found.interval[0],
        "dimension_high": found.interval[1],
        "dimension_n": found.n,
        "dimension_duplicates": found.duplicates,
    }


def context_measure(sentences: Sequence[Words], per_sentence: int = 1) -> Measure:
    """Prediction in windows of 1 to 10 words and in the whole sentence.

    ``detail`` is the window, ``all`` for the whole sentence. In the precision of training.
    """

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
        with autocast(model.device):
            use = context_use(model, tokenizer, sentences, per_sentence=per_sentence)
        rows: list[Row] = []
        for window, right, loss in zip(use.windows, use.accuracy, use.loss, strict=True):
            detail = "all" if window is None else str(window)
            rows.append({"metric": "context_accuracy", "detail": detail, "value": float(right)})
            rows.append({"metric": "context_loss", "detail": detail, "value": float(loss)})
        return rows

    return measure


def surprisal_measure(sentences: Sequence[Words], per_sentence: int = 2) -> Measure:
    """How well single words are predicted in their whole sentences, a row for each.

    The same words at every checkpoint, masked one at a time. ``detail`` is
    ``sentence:word``, both from 0; ``value`` the surprisal in nats, summed over the pieces.
    """

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
        with autocast(model.device):
            use = context_use(model, tokenizer, sentences, (None,), per_sentence)
        where = np.stack([use.sentence, use.word], axis=1)
        words, inverse = np.unique(where, axis=0, return_inverse=True)
        totals = np.bincount(inverse.reshape(-1), weights=use.surprisal[:, 0])
        return [
            {"metric": "word_surprisal", "detail": f"{sentence}:{word}", "value": float(total)}
            for (sentence, word), total in zip(words, totals, strict=True)
        ]

    return measure


def roads_measure(sentences: Sequence[Words]) -> Measure:
    """The loss at masked words with each road between words cut (``detail``)."""

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
        with autocast(model.device):
            losses = loss_without(model, tokenizer, sentences)
        return [
            {"metric": "roads_loss", "detail": cut, "value": value}
            for cut, value in losses.items()
        ]

    return measure


def attention_measure(sentences: Sequence[Words]) -> Measure:
    """Each head's entropy, attention by distance, and attention on other words at all.

    Rows without a layer are those of a head that looks at all other words alike.
    """

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
        profile = attention_profile(model, tokenizer, sentences)
        rows: list[Row] = [{"metric": "attention_entropy", "value": profile.uniform_entropy}]
        for distance, share in zip(profile.distances, profile.uniform_by_distance, strict=True):
            rows.append(_distance_row(distance, share))
        for layer, head in np.ndindex(profile.entropy.shape):
            place = {"layer": layer, "head": head}
            entropy, on_words = profile.entropy[layer, head], profile.on_words[layer, head]
            rows.append({"metric": "attention_entropy", **place, "value": float(entropy)})
            rows.append({"metric": "attention_on_words", **place, "value": float(on_words)})
            for distance, share in zip(
                profile.distances, profile.by_distance[layer, head], strict=True
            ):
                rows.append(_distance_row(distance, share) | place)
        return rows

    return measure


def _distance_row(distance: int, share: float) -> Row:
    return {
        "metric": "attention_by_distance",
        "detail": f"{distance:+d}",
        "value": float(share),
    }
