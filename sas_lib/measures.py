"""What is measured at each checkpoint of pretraining, as rows of a tidy table.

Each function here returns a measure: a function of (model, tokenizer) that gives a list of
rows with ``metric``, ``value`` and, where they apply, ``detail``, ``layer``, ``head`` and
``direction``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib import minimal_pairs, uas
from sas_lib.model import autocast, word_attention, word_batch
from sas_lib.ngrams import BigramModel
from sas_lib.predictors import relation_groups
from sas_lib.pretraining import Measure, Row
from sas_lib.sentence_batches import length_groups
from sas_lib.treebank import ROOT, Sentence


def uas_measure(sentences: Sequence[Sentence], full_map: bool = False) -> Measure:
    """UAS in all its figures, per relation and by distance; the baselines beside it.

    full_map: also a row for every (relation, layer, head, direction).
    """

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
        arcs = uas.score_arcs(model, tokenizer, sentences)
        rows = uas_rows(uas.summarise(arcs))
        rows.append({"metric": "attention_mass", "value": attention_mass(arcs)})
        return rows + (head_relation_rows(arcs) if full_map else [])

    return measure


def uas_rows(figures: dict[str, Any]) -> list[Row]:
    """The dictionary of ``uas.summarise`` as rows."""
    best, relations = figures["best_head"], figures["per_relation"]
    where = ("layer", "head", "direction")
    rows: list[Row] = [
        {"metric": "uas_best_head", "value": best["uas"], **{k: best[k] for k in where}},
        {"metric": "uas_best_head_held_out", "value": best["held_out_uas"]},
        {"metric": "uas_per_relation", "value": relations["uas"]},
        {"metric": "uas_per_relation_held_out", "value": relations["held_out_uas"]},
        {"metric": "baseline_offset", "value": figures["baselines"]["best_offset"]["uas"]},
        {
            "metric": "baseline_offset_per_relation",
            "value": figures["baselines"]["best_offset_per_relation"],
        },
    ]
    beyond = figures["beyond_offset"]
    if beyond["n"]:
        rows.append({"metric": "uas_beyond_offset", "value": beyond["uas"]})
        rows.append({"metric": "uas_beyond_offset_rechosen", "value": beyond["rechosen_uas"]})
        rows.append({"metric": "baseline_second_offset", "value": beyond["second_offset_uas"]})
    for row in relations["relations"]:
        place = {k: row[k] for k in where}
        rows.append(
            {"metric": "relation_uas", "detail": row["relation"], **place, "value": row["uas"]}
        )
    for row in figures["by_distance"]:
        for name in ("best_head_uas", "per_relation_uas"):
            rows.append(
                {
                    "metric": f"distance_{name}",
                    "detail": str(row["distance"]),
                    "value": row[name],
                }
            )
    return [row for row in rows if row["value"] is not None]


def attention_mass(arcs: uas.Arcs) -> float:
    """Mean attention on the gold arc of the (layer, head, direction) with the most of it.

    The continuous twin of ``best_head`` (the study's "scores" variant).
    """
    attention = arcs.scored().attention
    return float(attention.reshape(len(attention), -1).mean(0).max())


def relation_mass_rows(arcs: uas.Arcs) -> list[Row]:
    """Mean attention on the gold arcs of each relation, in the (layer, head, direction) with
    the most of it, and the mean of these over arcs.

    The continuous twin of ``per_relation``, as ``attention_mass`` is that of ``best_head``.
    """
    arcs = arcs.scored()
    rows: list[Row] = []
    for relation, where in relation_groups(arcs.relation).items():
        mass = arcs.attention[where].mean(0)
        layer, head, direction = np.unravel_index(mass.argmax(), mass.shape)
        place = {"layer": int(layer), "head": int(head), "direction": uas.DIRECTIONS[direction]}
        value = {"detail": relation, **place, "value": float(mass.max())}
        rows.append({"metric": "relation_mass", **value})
    weights = [len(where) for where in relation_groups(arcs.relation).values()]
    overall = float(np.average([row["value"] for row in rows], weights=weights))
    return [{"metric": "mass_per_relation", "value": overall}, *rows]


def largest_attention_measure(sentences: Sequence[Sentence]) -> Measure:
    """The largest attention from one word to another in any head, as the penalty sees it:
    its mean over the ordered pairs of words that an arc links, and over all others.

    Promotion that teaches syntax raises the first alone.
    """

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
        sums, counts = np.zeros(2), np.zeros(2)
        for group in length_groups([len(s) for s in sentences], batch_pieces=2000):
            batch = word_batch([sentences[i].words for i in group], tokenizer)
            largest = largest_attention(word_attention(model, batch)).cpu().numpy()
            for row, i in zip(largest, group, strict=True):
                for kind, pairs in enumerate(_linked_and_not(sentences[i].heads)):
                    sums[kind] += row[: len(pairs), : len(pairs)][pairs].sum()
                    counts[kind] += pairs.sum()
        linked, unlinked = sums / counts
        return [
            {"metric": "largest_attention_linked", "value": float(linked)},
            {"metric": "largest_attention_unlinked", "value": float(unlinked)},
        ]

    return measure


def largest_attention(maps: Iterable[Tensor]) -> Tensor:
    """Over layers and heads, of each [batch, heads, words, words]: [batch, words, words]."""
    return functools.reduce(torch.maximum, (layer.amax(1) for layer in maps))


def _linked_and_not(heads: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Which ordered pairs of words an arc links in either direction, and which none does."""
    linked = np.zeros((len(heads), len(heads)), bool)
    for word, head in enumerate(heads):
        if head != ROOT:
            linked[word, head] = linked[head, word] = True
    return linked, ~(linked | np.eye(len(heads), dtype=bool))


def head_relation_rows(arcs: uas.Arcs) -> list[Row]:
    """UAS of every (relation, layer, head, direction)."""
    arcs = arcs.scored()
    rows: list[Row] = []
    for relation, where in relation_groups(arcs.relation).items():
        for (layer, head, direction), value in np.ndenumerate(arcs.correct[where].mean(0)):
            rows.append(
                {
                    "metric": "head_relation_uas",
                    "detail": relation,
                    "layer": layer,
                    "head": head,
                    "direction": uas.DIRECTIONS[direction],
                    "value": float(value),
                }
            )
    return rows


def pairs_measure(pairs: Mapping[str, Sequence[tuple[str, str]]], single: int = 0) -> Measure:
    """Minimal-pair accuracy, the mean over paradigms and each paradigm's own.

    Scored in the precision of training, three times as fast as float32 where that is bf16.
    single: also the margins of the first so many pairs of each paradigm, ``detail`` being
    ``paradigm:number``.
    """

    def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[Row]:
        with autocast(model.device):
            scores = dict(minimal_pairs.each_scores(model, tokenizer, pairs))
        figures = {name: minimal_pairs.paradigm_row(of) for name, of in scores.items()}
        rows: list[Row] = [
            {
                "metric": f"pairs_{name}",
                "value": float(np.mean([of[name] for of in figures.values()])),
            }
            for name in ("accuracy", "margin")
        ]
        for paradigm, row in figures.items():
            rows.append(
                {"metric": "paradigm_accuracy", "detail": paradigm, "value": row["accuracy"]}
            )
        for paradigm, of in scores.items():
            for number, (good, bad) in enumerate(of[:single]):
                detail = f"{paradigm}:{number}"
                rows.append({"metric": "pair_margin", "detail": detail, "value": good - bad})
        return rows

    return measure


def bigram_pairs_measure(
    bigram: BigramModel,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Mapping[str, Sequence[tuple[str, str]]],
) -> Measure:
    """What a bigram model gets right of the same pairs: the level of knowing neighbours.

    It does not change over training; it is scored once and written at each checkpoint.
    """

    def score(text: str) -> float:
        return float(-bigram.surprisal(np.asarray(tokenizer(text)["input_ids"])).sum())

    accuracies = []
    for of_paradigm in pairs.values():
        scores = np.array([[score(good), score(bad)] for good, bad in of_paradigm])
        accuracies.append(minimal_pairs.accuracy(scores[:, 0], scores[:, 1]))
    row: Row = {"metric": "pairs_accuracy_bigram", "value": float(np.mean(accuracies))}
    return lambda model, tokenizer: [dict(row)]
