"""Measures taken at a checkpoint, against plain loops."""

import itertools
from collections import defaultdict

import pytest
from transformers import BertForMaskedLM, PreTrainedTokenizerFast

from sas_lib.measures import largest_attention_measure
from sas_lib.model import word_attention, word_batch
from sas_lib.treebank import ROOT, Sentence


def test_largest_attention_is_that_of_a_loop_over_pairs(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence]
) -> None:
    shorter = Sentence(("king", "sees", "cat"), (1, ROOT, 1), ("nsubj", "root", "obj"))
    mixed = [*sentences[:900:90], shorter]
    values: dict[bool, list[float]] = defaultdict(list)
    for s in mixed:
        maps = list(word_attention(model, word_batch([s.words], tokenizer)))
        for a, b in itertools.permutations(range(len(s)), 2):
            largest = max(float(layer[0, head, a, b]) for layer in maps for head in range(4))
            values[s.heads[a] == b or s.heads[b] == a].append(largest)
    rows = {r["metric"]: r["value"] for r in largest_attention_measure(mixed)(model, tokenizer)}
    assert rows == {
        "largest_attention_linked": pytest.approx(sum(values[True]) / len(values[True])),
        "largest_attention_unlinked": pytest.approx(sum(values[False]) / len(values[False])),
    }
    # 10 sentences of 7 words with 6 arcs, one of 3 words with 2; each arc counts both ways.
    assert len(values[True]) == 10 * 12 + 4 and len(values[False]) == 10 * 30 + 2
