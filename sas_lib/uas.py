"""The implicit parse and its score, UAS.

For each (layer, head, direction) the implicit parse gives every word the head that
receives the largest attention from it (``dependent_to_head``) or gives the largest
attention to it (``head_to_dependent``), as in Clark et al. (2019, arXiv:1906.04341) and
Chen et al. (2024, arXiv:2309.07311). UAS is the share of words whose predicted head is the
gold head. Two figures are always given:

- ``best_head``: the single best (layer, head, direction) over all arcs, as the study plots;
- ``per_relation``: each relation's best (layer, head, direction), weighted by frequency.

Both choose heads on the arcs they score. The held-out figures choose on one half of the
sentences and score on the other, both ways round (``predictors``). Beside them stand
positional baselines: a fixed offset, such as "the head is the next word".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib.model import WordBatch, max_pieces, word_attention, word_batch
from sas_lib.predictors import choose_per_relation, held_out_hits, hits, relation_groups
from sas_lib.sentence_batches import length_groups
from sas_lib.treebank import ROOT, Sentence

DIRECTIONS = ("dependent_to_head", "head_to_dependent")
OFFSETS = tuple(o for o in range(-5, 6) if o)
MAX_DISTANCE = 5


def implicit_parse(attention: Tensor, words: Sequence[int]) -> Tensor:
    """Predicted heads from word-level attention.

    attention: [batch, heads, words, words]. words: the number of words of each sentence;
    what lies beyond is padding and is never predicted. A word never heads itself.
    Returns int64 [batch, heads, 2, words], the second-last axis being ``DIRECTIONS``.
    """
    size = attention.shape[-1]
    position = torch.arange(size, device=attention.device)
    padding = position >= torch.as_tensor(words, device=attention.device)[:, None]
    blocked = padding[:, None, None, :] | (position[:, None] == position)
    both = torch.stack([attention, attention.transpose(-1, -2)], dim=2).detach()
    both.masked_fill_(blocked.unsqueeze(2), -1.0)  # below any attention
    if both.device.type != "cpu":
        return both.argmax(-1)
    return torch.from_numpy(both.numpy().argmax(-1))  # twice as fast there as torch's


@dataclass
class Arcs:
    """Every gold arc of a treebank with what each attention head makes of it.

    correct: bool [arcs, layers, heads, 2], is the predicted head the gold head?
    attention: float32 [arcs, layers, heads, 2], the word-level attention on the gold arc.
    relation: [arcs] relation labels. distance: int [arcs], head minus dependent, 0 for the
    root. sentence: int [arcs], its number in the treebank. n_sentences: how many were
    scored. skipped: what was left out, as {reason, sentences, words}.
    """

    correct: np.ndarray
    attention: np.ndarray
    relation: np.ndarray
    distance: np.ndarray
    sentence: np.ndarray
    n_sentences: int
    skipped: list[dict[str, Any]] = field(default_factory=list)

    def select(self, keep: np.ndarray) -> Arcs:
        """The arcs where ``keep`` (bool [arcs]) holds."""
        return Arcs(
            self.correct[keep],
            self.attention[keep],
            self.relation[keep],
            self.distance[keep],
            self.sentence[keep],
            self.n_sentences,
            self.skipped,
        )

    def scored(self, include_root: bool = False, include_punct: bool = False) -> Arcs:
        """The arcs that count: as a rule neither the root's nor those of punctuation."""
        keep = np.ones(len(self.relation), dtype=bool)
        if not include_root:
            keep &= self.distance != 0
        if not include_punct:
            keep &= self.relation.astype(str) != "punct"
        return self.select(keep)


def score_arcs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    sentences: Iterable[Sentence],
    max_length: int | None = None,
    batch_pieces: int = 4096,
    progress: Callable[[int], object] | None = None,
) -> Arcs:
    """Compare the implicit parse of every head with the gold trees.

    max_length: sentences of more pieces (special tokens included) are left out and
    reported; the model's own limit by default. progress: called with the number of
    sentences done after each batch.

    Raises:
        ValueError: no sentence is left to score.
    """
    limit = min(max_length or max_pieces(model), max_pieces(model))
    scored, skipped = _fitting(list(sentences), tokenizer, limit)
    if not scored:
        raise ValueError("no sentence left to score; see max_length and the treebank")
    parts = []
    for numbers in length_groups([pieces for _, pieces, _ in scored], batch_pieces):
        group = [scored[number] for number in numbers]
        parts.append(_score_batch(model, tokenizer, group))
        if progress is not None:
            progress(len(group))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[-1], kind="stable")
    correct, attention, relation, distance, has_pieces, sentence = (c[order] for c in columns)
    if not has_pieces.all():
        skipped.append(
            {
                "reason": "the tokenizer gives the word or its head no piece",
                "sentences": 0,
                "words": int((~has_pieces).sum()),
            }
        )
    arcs = Arcs(correct, attention, relation, distance, sentence, len(scored), skipped)
    return arcs.select(has_pieces)


_Numbered = tuple[int, int, Sentence]  # (number in the treebank, pieces, sentence)


def _fitting(
    sentences: list[Sentence], tokenizer: PreTrainedTokenizerFast, limit: int
) -> tuple[list[_Numbered], list[dict[str, Any]]]:
    """Sort out the sentences that cannot be scored, with the reason."""
    fitting: list[_Numbered] = []
    left_out: dict[str, list[int]] = {}
    for number, sentence in enumerate(sentences):
        pieces = len(tokenizer(" ".join(sentence.words), verbose=False)["input_ids"])
        if len(sentence) < 2:
            left_out.setdefault("a single word has no possible head", []).append(len(sentence))
        elif pieces > limit:
            reason = f"longer than {limit} pieces"
            left_out.setdefault(reason, []).append(len(sentence))
        else:
            fitting.append((number, pieces, sentence))
    skipped = [
        {"reason": reason, "sentences": len(words), "words": sum(words)}
        for reason, words in left_out.items()
    ]
    return fitting, skipped


def _score_batch(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, group: list[_Numbered]
) -> list[np.ndarray]:
    sentences = [sentence for _, _, sentence in group]
    batch = word_batch([s.words for s in sentences], tokenizer)
    columns = score_maps(word_attention(model, batch), batch, sentences)
    numbers = np.repeat([number for number, _, _ in group], batch.words)
    return [*columns, numbers]


def score_maps(
    maps: Iterable[Tensor], batch: WordBatch, sentences: Sequence[Sentence]
) -> list[np.ndarray]:
    """Compare the implicit parse of word-level attention with the gold trees.

    maps: of each layer, [batch, heads, words, words]. Returns ``correct``, ``attention``,
    ``relation`` and ``distance`` as :class:`Arcs` has them, and bool [arcs]: have the word
    and its head a piece?
    """
    row = np.repeat(np.arange(len(sentences)), batch.words)
    dependent = np.concatenate([np.arange(n) for n in batch.words])
    gold = np.concatenate([np.asarray(s.heads) for s in sentences])
    # The root is nobody's dependent: no word is its head, so no prediction can be right.
    is_root = gold == ROOT
    gold_or_zero = np.where(is_root, 0, gold)
    correct, mass = [], []
    for attention in maps:
        predicted = implicit_parse(attention, batch.words)[row, :, :, dependent].cpu().numpy()
        correct.append((predicted == gold_or_zero[:, None, None]) & ~is_root[:, None, None])
        from_dependent = attention[row, :, dependent, gold_or_zero]
        from_head = attention[row, :, gold_or_zero, dependent]
        on_arc = torch.stack([from_dependent, from_head], dim=-1)
        mass.append(np.where(is_root[:, None, None], 0.0, on_arc.cpu().numpy()))
    has_piece = (batch.membership.sum(-1) > 0).numpy()
    return [
        np.stack(correct, axis=1),
        np.stack(mass, axis=1).astype(np.float32),
        np.concatenate([np.asarray(s.relations, dtype=object) for s in sentences]),
        np.where(is_root, 0, gold - dependent),
        has_piece[row, dependent] & (is_root | has_piece[row, gold_or_zero]),
    ]


# --- from arcs to figures -------------------------------------------------------------


def summarise(
    arcs: Arcs, include_root: bool = False, include_punct: bool = False
) -> dict[str, Any]:
    """The UAS figures of a treebank, as the dictionary that ``sas uas --json`` prints.

    Root and punctuation are left out by default. A root counts as an arc that nobody can
    predict. uas and shares are fractions; layers and heads count from 0. A held-out figure
    is None where all arcs are in even- or all in odd-numbered sentences.

    Raises:
        ValueError: no arc is left.
    """
    arcs = arcs.scored(include_root, include_punct)
    if not len(arcs.relation):
        raise ValueError("no arc left to score")
    n_arcs, heads = len(arcs.correct), arcs.correct.shape[2]
    correct = arcs.correct.reshape(n_arcs, -1)
    offset_hit = arcs.distance[:, None] == np.asarray(OFFSETS)
    groups = relation_groups(arcs.relation)
    best = int(correct.mean(0).argmax())
    chosen = choose_per_relation(correct, groups)
    hit = hits(correct, groups, chosen)
    chosen_offset = choose_per_relation(offset_hit, groups)
    missed = ~hits(offset_hit, groups, chosen_offset)
    held_out = held_out_hits(correct, groups, arcs.sentence)
    held_out_best = held_out_hits(correct, {"all": np.arange(n_arcs)}, arcs.sentence)
    best_offset = int(offset_hit.mean(0).argmax())
    rows = [
        {
            "relation": name,
            "n": len(where),
            "uas": float(hit[where].mean()),
            "held_out_uas": _share(held_out[where]),
            **head_name(chosen[name], heads),
            "offset": OFFSETS[chosen_offset[name]],
            "offset_uas": float(offset_hit[where, chosen_offset[name]].mean()),
        }
        for name, where in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    return {
        "n_sentences": arcs.n_sentences,
        "n_arcs": n_arcs,
        "best_head": {
            "uas": float(correct[:, best].mean()),
            "held_out_uas": _share(held_out_best),
            **head_name(best, heads),
        },
        "per_relation": {
            "uas": float(hit.mean()),
            "held_out_uas": _share(held_out),
            "relations": rows,
        },
        "baselines": {
            "best_offset": {
                "offset": OFFSETS[best_offset],
                "uas": float(offset_hit[:, best_offset].mean()),
            },
            "best_offset_per_relation": float((~missed).mean()),
        },
        "by_distance": _by_distance(arcs.distance, correct[:, best], hit),
        "beyond_offset": _beyond_offset(arcs, correct, hit, missed),
        "skipped": arcs.skipped,
    }


def _share(hit: np.ndarray) -> float | None:
    """The share of hits; None where there is nothing to hold out."""
    return None if np.isnan(hit).any() else float(hit.mean())


def head_name(predictor: int, heads: int) -> dict[str, Any]:
    """Layer, head and direction of a column of the flattened [layers, heads, 2] axes."""
    layer, rest = divmod(predictor, heads * 2)
    head, direction = divmod(rest, 2)
    return {"layer": layer, "head": head, "direction": DIRECTIONS[direction]}


def _by_distance(
    distance: np.ndarray, best_hit: np.ndarray, relation_hit: np.ndarray
) -> list[dict[str, Any]]:
    pooled = np.clip(distance, -MAX_DISTANCE, MAX_DISTANCE)
    return [
        {
            "distance": int(d),
            "n": int((pooled == d).sum()),
            "best_head_uas": float(best_hit[pooled == d].mean()),
            "per_relation_uas": float(relation_hit[pooled == d].mean()),
        }
        for d in np.unique(pooled)
    ]


def _beyond_offset(
    arcs: Arcs, correct: np.ndarray, hit: np.ndarray, missed: np.ndarray
) -> dict[str, Any]:
    """UAS on the arcs that their relation's best offset misses.

    ``uas`` keeps the heads chosen on all arcs. ``rechosen_uas`` chooses each relation's
    head on the missed arcs themselves (held out, as no choice is free of luck): is there
    *any* head that finds what position does not? ``second_offset_uas`` is the baseline to
    read it against: a fixed offset of each relation chosen on the same arcs, likewise.
    """
    if not missed.any():
        return {"n": 0, "uas": None, "rechosen_uas": None, "second_offset_uas": None}
    rest, sentence = correct[missed], arcs.sentence[missed]
    groups = relation_groups(arcs.relation[missed])
    second = arcs.distance[missed][:, None] == np.asarray(OFFSETS)
    return {
        "n": int(missed.sum()),
        "uas": float(hit[missed].mean()),
        "rechosen_uas": _share(held_out_hits(rest, groups, sentence)),
        "second_offset_uas": _share(held_out_hits(second, groups, sentence)),
    }
