"""The SAS penalty and its controls, against plain loops, dense autograd and enumeration."""

from __future__ import annotations

import contextlib
import itertools
import math
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, entropy
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from sas_lib.corpus import NO_HEAD, encode
from sas_lib.model import ModelError, small_bert
from sas_lib.regularizer import (
    KINDS,
    RELINK,
    LinkPenalty,
    Penalty,
    SharpnessPenalty,
    lambda_at,
    lambda_schedule,
    next_word,
    penalty,
    random_heads,
    random_pairs,
    random_tree,
    watching,
)
from sas_lib.treebank import ROOT, Sentence, tree_problem

LAYERS, BATCH, HEADS, PIECES = 3, 5, 4, 13
Place = tuple[int, int]
P = TypeVar("P", bound=Penalty)


# --- references and random cases ------------------------------------------------------


def random_heads_of_words(n: int, rng: np.random.Generator) -> list[int]:
    """A random tree: every word but the first of a random order hangs on an earlier one."""
    order = rng.permutation(n).tolist()
    heads = [ROOT] * n
    for place, word in enumerate(order[1:], start=1):
        heads[word] = order[int(rng.integers(place))]
    return heads


def random_links(seed: int) -> tuple[Tensor, Tensor]:
    """Links and padding mask, [BATCH, PIECES], of random trees over words of 1 to 3 pieces.

    The second sentence has no parse; the last fills the batch's length.
    """
    rng = np.random.default_rng(seed)
    links = torch.full((BATCH, PIECES), NO_HEAD)
    mask = torch.zeros(BATCH, PIECES, dtype=torch.long)
    for row in range(BATCH):
        length = PIECES if row == BATCH - 1 else int(rng.integers(4, PIECES))
        firsts = [row % 2]  # with [CLS] before it, or without
        while (after := firsts[-1] + int(rng.integers(1, 4))) < length - 1:
            firsts.append(after)
        mask[row, :length] = 1
        for word, head in enumerate(random_heads_of_words(len(firsts), rng)):
            if row != 1 and head != ROOT:
                links[row, firsts[word]] = firsts[head]
    return links, mask


def random_maps(
    seed: int, mask: Tensor, dtype: torch.dtype = torch.float64, layers: int = LAYERS
) -> list[Tensor]:
    """Attention of each layer, [batch, HEADS, pieces, pieces]; none goes to the padding."""
    generator = torch.Generator().manual_seed(seed)
    batch, pieces = mask.shape
    maps = []
    for _ in range(layers):
        scores = torch.randn(batch, HEADS, pieces, pieces, generator=generator) * 2
        scores = scores.masked_fill(mask[:, None, None, :] == 0, -torch.inf)
        maps.append(scores.double().softmax(-1).to(dtype).requires_grad_())
    return maps


def plain_penalty(
    maps: Sequence[Tensor], links: Tensor, only: Sequence[Place] | None = None
) -> float:
    """The definition, one number at a time."""
    places = only or list(itertools.product(range(len(maps)), range(maps[0].shape[1])))
    total = 0.0
    for sentence in range(len(links)):
        for dependent in range(links.shape[1]):
            head = int(links[sentence, dependent])
            if head == NO_HEAD:
                continue
            there = [maps[layer][sentence, h, dependent, head].item() for layer, h in places]
            back = [maps[layer][sentence, h, head, dependent].item() for layer, h in places]
            total += max(there) + max(back)
    return total / len(links)


def dense_penalty(maps: Sequence[Tensor], links: Tensor) -> Tensor:
    """The definition with all maps kept: stacked, the largest taken, the links picked."""
    largest = torch.stack(list(maps)).amax((0, 2))  # [batch, pieces, pieces]
    sentence, dependent = (links != NO_HEAD).nonzero(as_tuple=True)
    head = links[sentence, dependent]
    both = largest[sentence, dependent, head] + largest[sentence, head, dependent]
    return both.sum() / len(links)


def shown(seen_by: P, maps: Sequence[Tensor]) -> P:
    for attention in maps:
        seen_by.see(attention)
    return seen_by


# --- the penalty ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_penalty_is_that_of_a_plain_loop(seed: int) -> None:
    links, mask = random_links(seed)
    maps = random_maps(seed, mask)
    assert (links != NO_HEAD).sum() > 5, "there is something to add up"
    value = shown(LinkPenalty(links), maps).value()
    assert value.item() == pytest.approx(plain_penalty(maps, links), abs=1e-10)
    only = [(0, 2), (2, 0), (2, 3)]
    value = shown(LinkPenalty(links, only), maps).value()
    assert value.item() == pytest.approx(plain_penalty(maps, links, only), abs=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_that_of_dense_autograd(seed: int) -> None:
    links, mask = random_links(seed)
    maps = random_maps(seed, mask)
    ours = torch.autograd.grad(shown(LinkPenalty(links), maps).value(), maps)
    theirs = torch.autograd.grad(dense_penalty(maps, links), maps)
    for gradient, expected in zip(ours, theirs, strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: str) -> None:
    links = torch.tensor([[NO_HEAD, 2, NO_HEAD, 1], [NO_HEAD, NO_HEAD, 1, NO_HEAD]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    maps = random_maps(1, mask, layers=2)
    if kind == "sharpness":  # its rate of change is endless where attention is 0
        maps = [(0.9 * m + 0.025).detach().requires_grad_() for m in maps]

    def value(*maps: Tensor) -> Tensor:
        return shown(penalty(kind, links, mask, (2, HEADS), seed=3), maps).value()

    assert torch.autograd.gradcheck(value, maps)


def test_gradient_reaches_the_queries_and_keys() -> None:
    links, mask = random_links(0)
    model = small_bert(40, LAYERS, 16, HEADS, PIECES, seed=1).train()
    ids = torch.randint(5, 40, (BATCH, PIECES), generator=torch.Generator().manual_seed(0))
    seen = LinkPenalty(links)
    with watching(model, seen):
        model(input_ids=ids, attention_mask=mask)
    seen.value().backward()
    ours = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    output = model(input_ids=ids, attention_mask=mask, output_attentions=True)
    dense_penalty(output.attentions, links).backward()
    for name, p in model.named_parameters():
        if p.grad is None:
            assert ours[name] is None, name
            continue
        torch.testing.assert_close(ours[name], p.grad, rtol=1e-4, atol=1e-8)
        if "query.weight" in name or "key.weight" in name:
            assert p.grad.abs().max() > 1e-5, f"no gradient reaches {name}"


def test_sentences_without_a_parse_add_nothing() -> None:
    links, mask = random_links(3)
    maps = random_maps(3, mask)
    assert (links[1] == NO_HEAD).all()
    value = shown(LinkPenalty(links), maps).value()
    value.backward()
    assert all(m.grad is not None and m.grad[1].abs().max() == 0 for m in maps)
    parsed = [0, 2, 3, 4]
    alone = shown(LinkPenalty(links[parsed]), [m[parsed] for m in maps]).value()
    assert value.item() == pytest.approx(alone.item() * 4 / 5, abs=1e-12)
    none = shown(LinkPenalty(links[1:2]), [m[1:2] for m in maps])
    assert none.value().item() == 0
    assert math.isnan(none.mean().item())


def test_mean_is_over_links_and_directions() -> None:
    links = torch.tensor([[NO_HEAD, 2, NO_HEAD], [NO_HEAD, NO_HEAD, NO_HEAD]])
    maps = torch.zeros(2, 1, 3, 3)
    maps[0, 0, 1, 2], maps[0, 0, 2, 1] = 0.5, 0.25
    seen = shown(LinkPenalty(links), [maps])
    assert seen.value().item() == pytest.approx(0.375)  # 0.75 over two sequences
    assert seen.mean().item() == pytest.approx(0.375)  # 0.75 over two directions


@pytest.fixture(scope="module")
def wordpieces() -> PreTrainedTokenizerFast:
    """A tokenizer that cuts "unties" into three pieces."""
    names = "[PAD] [UNK] [CLS] [SEP] [MASK] she un ##tie ##s it".split()
    pieces = Tokenizer(
        models.WordPiece(dict(zip(names, range(10), strict=True)), unk_token="[UNK]")
    )
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    pieces.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, unk_token="[UNK]", pad_token="[PAD]", mask_token="[MASK]"
    )


def test_the_first_piece_stands_for_its_word(wordpieces: PreTrainedTokenizerFast) -> None:
    """From sentences to the penalty, worked by hand; parsed and plain sentences are mixed."""
    mixed: list[Sentence | str] = [
        Sentence(("she", "unties", "it"), (1, ROOT, 1), ("nsubj", "root", "obj")),
        "it",
        Sentence(("it", "unties"), (ROOT, 0), ("root", "dep")),
    ]
    batch = encode(mixed, wordpieces).batch([0, 1, 2], 0)
    assert [" ".join(wordpieces.convert_ids_to_tokens(row)) for row in batch["input_ids"]] == [
        "[CLS] she un ##tie ##s it [SEP]",
        "[CLS] it [SEP] [PAD] [PAD] [PAD] [PAD]",
        "[CLS] it un ##tie ##s [SEP] [PAD]",
    ]
    maps = torch.zeros(2, 3, 2, 7, 7)  # layers, sentences, heads, pieces, pieces
    # What counts: she and un, it and un; then un and it.
    maps[0, 0, 0, 1, 2], maps[1, 0, 1, 1, 2] = 0.5, 0.6
    maps[0, 0, 1, 2, 1], maps[1, 0, 0, 2, 1] = 0.1, 0.05
    maps[1, 0, 0, 5, 2], maps[1, 0, 0, 2, 5] = 0.2, 0.3
    maps[0, 2, 0, 2, 1], maps[0, 2, 0, 1, 2] = 0.4, 0.25
    # What does not: later pieces of the word, special tokens, the plain sentence, padding.
    maps[:, 0, :, 1, 3:5] = maps[:, 0, :, 3:5, 1] = maps[:, 0, :, 5, 3:5] = 0.9
    maps[:, 0, :, 3:5, 5] = maps[:, 2, :, 1, 3:5] = maps[:, 2, :, 3:5, 1] = 0.9
    maps[:, :, :, :, 0] = maps[:, :, :, 0, :] = maps[:, 1] = maps[:, 2, :, 6] = 0.9
    value = shown(LinkPenalty(batch["heads"]), list(maps)).value()
    assert value.item() == pytest.approx((0.6 + 0.1 + 0.2 + 0.3 + 0.4 + 0.25) / 3)


def test_a_penalty_that_saw_nothing_says_so() -> None:
    with pytest.raises(ModelError, match="has seen no attention"):
        LinkPenalty(torch.zeros(1, 3, dtype=torch.long)).value()
    with pytest.raises(ModelError, match="has seen no attention"):
        SharpnessPenalty(torch.ones(1, 3, dtype=torch.long)).value()


# --- what it costs --------------------------------------------------------------------


class NoDouble(TorchDispatchMode):
    """Fails at any operation, forward or backward, that gives float64."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, Tensor):
                assert tensor.dtype != torch.float64, f"{func} gives float64"
        return result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtypes(kind: str, dtype: torch.dtype) -> None:
    links, mask = random_links(0)
    maps = random_maps(0, mask, dtype)
    with contextlib.nullcontext() if dtype == torch.float64 else NoDouble():
        seen = shown(penalty(kind, links, mask, (LAYERS, HEADS), 0), maps)
        value = seen.value()
        value.backward()
    wide = torch.promote_types(dtype, torch.float32)
    assert value.dtype == wide
    assert seen.largest is not None
    assert seen.largest.dtype == (wide if kind == "sharpness" else dtype)
    assert all(m.grad is None or m.grad.dtype == dtype for m in maps)
    double = random_maps(0, mask)
    exact = shown(penalty(kind, links, mask, (LAYERS, HEADS), 0), double).value()
    assert value.item() == pytest.approx(exact.item(), rel=torch.finfo(dtype).eps * 4)


@pytest.mark.parametrize("kind", KINDS)
def test_no_map_outlives_its_layer(kind: str) -> None:
    """Where nothing has to be kept for a backward pass, a layer's map is gone at the next."""
    links, mask = random_links(0)
    model = small_bert(40, LAYERS, 16, HEADS, PIECES, seed=1)
    maps: list[weakref.ref[Tensor]] = []

    class Alive:
        def see(self, attention: Tensor) -> None:
            assert [number for number, seen in enumerate(maps) if seen() is not None] == []
            maps.append(weakref.ref(attention))

        def value(self) -> Tensor:
            raise NotImplementedError

    seen = penalty(kind, links, mask, (LAYERS, HEADS), seed=0)
    with torch.no_grad(), watching(model, Alive(), seen):
        model(input_ids=mask * 7, attention_mask=mask)
    assert len(maps) == LAYERS
    assert all(seen() is None for seen in maps)
    kept = [value for value in vars(seen).values() if isinstance(value, Tensor)]
    assert kept and all(value.numel() <= BATCH * 2 * PIECES for value in kept)


def storages_for_backward(
    model: BertForMaskedLM, mask: Tensor, dtype: torch.dtype, seen: Any
) -> tuple[int, Tensor]:
    """How many memory blocks of a map's size a training step keeps for its backward pass."""
    kept: dict[int, Tensor] = {}
    size = mask.numel() * mask.shape[1] * HEADS * dtype.itemsize

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().nbytes() >= size:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
        watching(model, *seen),
    ):
        loss = model(input_ids=mask * 7, attention_mask=mask).logits.float().mean()
        return len(kept), sum((s.value() for s in seen), loss)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_keeps_no_map_for_the_penalty(dtype: torch.dtype) -> None:
    """The model's own backward pass needs each map; the penalty must not need another."""
    links, mask = random_links(0)
    model = small_bert(40, LAYERS, 16, HEADS, PIECES, seed=1).train()
    bare, _ = storages_for_backward(model, mask, dtype, [])
    seen = penalty("sas", links, mask, (LAYERS, HEADS), seed=0)
    watched, _ = storages_for_backward(model, mask, dtype, [seen])
    assert bare >= LAYERS
    assert watched == bare


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_gone_after_the_backward_pass(kind: str) -> None:
    links, mask = random_links(0)
    model = small_bert(40, LAYERS, 16, HEADS, PIECES, seed=1).train()
    maps: list[weakref.ref[Tensor]] = []

    class Remember:
        def see(self, attention: Tensor) -> None:
            maps.append(weakref.ref(attention))

        def value(self) -> Tensor:
            return torch.zeros(())

    seen = penalty(kind, links, mask, (LAYERS, HEADS), seed=0)
    _, loss = storages_for_backward(model, mask, torch.float32, [Remember(), seen])
    loss.backward()
    del loss
    assert len(maps) == LAYERS and all(gone() is None for gone in maps)


# --- watching a model -----------------------------------------------------------------


def hooks(model: torch.nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_watchers_see_each_layer_in_turn(model: BertForMaskedLM) -> None:
    ids = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    seen: list[Tensor] = []

    class Collect:
        def see(self, attention: Tensor) -> None:
            seen.append(attention)

        def value(self) -> Tensor:
            raise NotImplementedError

    with torch.no_grad():
        expected = model(input_ids=ids, output_attentions=True).attentions  # leaves its hooks
    before = hooks(model)
    with torch.no_grad(), watching(model, Collect(), Collect()):
        assert hooks(model) == before + len(expected)
        model(input_ids=ids)
    assert hooks(model) == before
    assert len(seen) == 2 * len(expected) == 4
    for layer, attention in enumerate(expected):
        assert torch.equal(seen[2 * layer], attention)
        assert torch.equal(seen[2 * layer + 1], attention)
    model(input_ids=ids)
    assert len(seen) == 4, "nothing is seen after the block"


def test_hooks_go_after_an_error(model: BertForMaskedLM) -> None:
    before = hooks(model)

    class Fail:
        def see(self, attention: Tensor) -> None:
            raise OSError("no")

        def value(self) -> Tensor:
            raise NotImplementedError

    with pytest.raises(OSError), watching(model, Fail()):
        model(input_ids=torch.ones(1, 4, dtype=torch.long))
    with pytest.raises(KeyboardInterrupt), watching(model):
        raise KeyboardInterrupt
    assert hooks(model) == before


def test_fused_attention_is_refused() -> None:
    fused = small_bert(40, 1, 16, HEADS, PIECES)
    fused.set_attn_implementation("sdpa")
    seen = LinkPenalty(torch.full((1, 4), NO_HEAD))
    with pytest.raises(ModelError, match="attn_implementation='eager'"), watching(fused, seen):
        fused(input_ids=torch.ones(1, 4, dtype=torch.long))
    assert hooks(fused) == 0


def test_other_models_are_refused() -> None:
    shape = RobertaConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=20,
    )  # fmt: skip
    with (
        pytest.raises(ModelError, match="RobertaForMaskedLM has no BERT self-attention"),
        watching(RobertaForMaskedLM(shape)),
    ):
        pass


# --- the lambda schedule --------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0.5,), [0.5] * 6),
        ((-0.5, 3), [-0.5, -0.5, -0.5, 0, 0, 0]),
        ((0.5, None, 2), [0, 0, 0.5, 0.5, 0.5, 0.5]),
        ((0.5, 4, 2), [0, 0, 0.5, 0.5, 0, 0]),
        ((0.5, 1), [0.5, 0, 0, 0, 0, 0]),
        ((0.0,), [0.0] * 6),
        ((0.0, 4, 2), [0.0] * 6),
    ],
)
def test_lambda_schedule(arguments: tuple[Any, ...], expected: list[float]) -> None:
    schedule = lambda_schedule(*arguments)
    assert [lambda_at(schedule, step) for step in range(6)] == expected
    assert bool(schedule) == any(expected), "a schedule of nothing is the base run's"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_lambda_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValueError, match=f"finite number, not {value}"):
        lambda_schedule(value)


@pytest.mark.parametrize(("until", "start"), [(0, None), (5, 5), (3, 5)])
def test_the_penalty_has_to_last(until: int, start: int | None) -> None:
    with pytest.raises(ValueError, match=f"end at step {until}, before it begins"):
        lambda_schedule(0.5, until, start)


@given(st.dictionaries(st.integers(0, 20), st.floats(-5, 5), max_size=6), st.randoms())
def test_lambda_of_a_piecewise_list(pieces: dict[int, float], shuffle: Any) -> None:
    pairs = list(pieces.items())
    shuffle.shuffle(pairs)
    holds = 0.0
    for step in range(22):
        holds = pieces.get(step, holds)
        assert lambda_at(pairs, step) == holds


# --- other links ----------------------------------------------------------------------


@st.composite
def parsed(draw: st.DrawFn) -> Sentence:
    """A random tree of 1 to 12 words."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 12))
    return tree(random_heads_of_words(n, rng))


def tree(heads: Sequence[int]) -> Sentence:
    return Sentence(tuple("w" for _ in heads), tuple(heads), tuple("dep" for _ in heads))


def lengths(heads: Sequence[int]) -> Counter[int]:
    return Counter(head - word for word, head in enumerate(heads) if head != ROOT)


@given(parsed(), st.integers(0, 2**32))
def test_random_tree_keeps_root_and_lengths(sentence: Sentence, seed: int) -> None:
    gold = sentence.heads
    heads = random_tree(sentence, np.random.default_rng(seed))
    assert tree_problem(heads) is None
    assert heads.index(ROOT) == gold.index(ROOT)
    assert lengths(heads) == lengths(gold)
    assert sentence.heads == gold
    assert heads == random_tree(sentence, np.random.default_rng(seed)), "the seed decides"


def trees_of(n: int) -> Iterator[tuple[int, ...]]:
    for heads in itertools.product(range(ROOT, n), repeat=n):
        if heads.count(ROOT) == 1 and tree_problem(heads) is None:
            yield heads


Group = list[tuple[int, ...]]


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    """All trees of four and five words, those of one root and the same lengths together."""
    found: dict[Any, Group] = defaultdict(list)
    for n in (4, 5):
        for heads in trees_of(n):
            found[n, heads.index(ROOT), tuple(sorted(lengths(heads).items()))].append(heads)
    # Cayley: n^(n - 1) rooted labelled trees.
    assert sum(map(len, found.values())) == 4**3 + 5**4
    return list(found.values())


def exchanged(heads: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Trees in which two words have exchanged the lengths of their arcs."""
    words = [word for word, head in enumerate(heads) if head != ROOT]
    for a, b in itertools.combinations(words, 2):
        other = list(heads)
        other[a], other[b] = a + heads[b] - b, b + heads[a] - a
        if (
            all(0 <= other[word] < len(heads) for word in (a, b))
            and tree_problem(other) is None
        ):
            yield tuple(other)


def reachable(start: tuple[int, ...]) -> set[tuple[int, ...]]:
    found, open_ends = {start}, [start]
    while open_ends:
        new = set(exchanged(open_ends.pop())) - found
        found |= new
        open_ends.extend(new)
    return found


def test_random_tree_is_any_tree_alike(groups: list[Group]) -> None:
    """Uniform over all trees with those lengths, where exchanges lead to all of them."""
    connected = [group for group in groups if reachable(group[0]) == set(group)]
    assert len(connected) > 0.9 * len(groups)
    rng = np.random.default_rng(0)
    for group in sorted(connected, key=len)[-4:]:
        assert len(group) > 3
        gold = tree(group[0])
        counts = Counter(tuple(random_tree(gold, rng)) for _ in range(150 * len(group)))
        assert set(counts) == set(group)
        assert chisquare(list(counts.values())).pvalue > 1e-3, counts


def test_random_tree_reaches_what_exchanges_reach(groups: list[Group]) -> None:
    """From each tree all those that exchanges lead to, be they few or many."""
    rng = np.random.default_rng(1)
    for group in groups[:: len(groups) // 60]:
        start = group[-1]
        draws = 40 * len(group)
        found = {tuple(random_tree(tree(start), rng)) for _ in range(draws)}
        assert reachable(start) <= found <= set(group), start


@pytest.mark.xfail(reason="KNOWN LIMIT: exchanges of two words do not lead to every tree")
def test_random_tree_can_be_every_tree() -> None:
    # The only two trees of four words with these lengths; no exchange leads to the other.
    one, other = (ROOT, 2, 0, 2), (ROOT, 0, 3, 1)
    assert lengths(one) == lengths(other)
    rng = np.random.default_rng(0)
    assert other in {tuple(random_tree(tree(one), rng)) for _ in range(200)}


@given(parsed())
def test_next_word_is_a_chain(sentence: Sentence) -> None:
    heads = next_word(sentence, np.random.default_rng(0))
    assert heads == [word + 1 for word in range(len(sentence) - 1)] + [ROOT]
    assert tree_problem(heads) is None


@given(parsed(), st.integers(0, 2**32))
def test_random_pairs_link_other_words(sentence: Sentence, seed: int) -> None:
    heads = random_pairs(sentence, np.random.default_rng(seed))
    assert len(heads) == len(sentence)
    for word, (head, gold) in enumerate(zip(heads, sentence.heads, strict=True)):
        assert (head == ROOT) == (gold == ROOT)
        assert head == ROOT or (head != word and 0 <= head < len(sentence))
    assert heads == random_pairs(sentence, np.random.default_rng(seed))


def test_random_pairs_are_uniform() -> None:
    sentence = tree([1, ROOT, 1, 1, 3])
    rng = np.random.default_rng(0)
    drawn = np.array([random_pairs(sentence, rng) for _ in range(2000)])
    for word in (0, 2, 3, 4):
        counts = np.bincount(drawn[:, word], minlength=5)
        assert counts[word] == 0
        assert chisquare(np.delete(counts, word)).pvalue > 1e-3
    # Two words of one sentence are linked independently of each other.
    together = Counter(zip(drawn[:, 0].tolist(), drawn[:, 4].tolist(), strict=True))
    assert len(together) == 16
    assert chisquare(list(together.values())).pvalue > 1e-3


def test_the_links_that_have_a_name() -> None:
    named = {
        "random_trees": random_tree,
        "next_word": next_word,
        "random_pairs": random_pairs,
    }
    assert named == RELINK


# --- the other controls ---------------------------------------------------------------


def plain_sharpness(maps: Sequence[Tensor], mask: Tensor) -> float:
    total = 0.0
    for sentence in range(len(mask)):
        n = int(mask[sentence].sum())
        for piece in range(n):
            rows = [
                m[sentence, h, piece, :n].detach().numpy() for m in maps for h in range(HEADS)
            ]
            total += max(1 - entropy(row) / math.log(n) for row in rows)
    return total / len(mask)


@pytest.mark.parametrize("seed", range(3))
def test_sharpness_is_that_of_a_plain_loop(seed: int) -> None:
    _, mask = random_links(seed)
    maps = random_maps(seed, mask)
    value = shown(SharpnessPenalty(mask), maps).value()
    assert value.item() == pytest.approx(plain_sharpness(maps, mask), rel=1e-6)
    # Padding is not counted: neither its rows nor, being empty, its columns.
    for m in maps:
        m.data[mask[:, None, :, None].expand_as(m) == 0] = 0.5
    assert shown(SharpnessPenalty(mask), maps).value().item() == value.item()


def test_sharpness_goes_from_even_to_all_on_one() -> None:
    mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    even = (mask / mask.sum(1, keepdim=True))[:, None, None, :].expand(2, HEADS, 5, 5)
    value = shown(SharpnessPenalty(mask), [even]).value()
    assert value.item() == pytest.approx(0, abs=1e-6)
    one = torch.zeros(2, HEADS, 5, 5)
    one[..., 1] = 1
    value = shown(SharpnessPenalty(mask), [even, one, even]).value()
    assert value.item() == pytest.approx((4 + 2) / 2)  # each piece adds 1
    lone = SharpnessPenalty(torch.tensor([[1]]))
    assert torch.isfinite(shown(lone, [torch.ones(1, HEADS, 1, 1)]).value())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_sharpness_has_a_gradient_where_attention_is_none(dtype: torch.dtype) -> None:
    one = torch.zeros(1, HEADS, 3, 3, dtype=dtype)
    one[..., 1] = 1
    one.requires_grad_()
    shown(SharpnessPenalty(torch.tensor([[1, 1, 1]])), [one]).value().backward()
    assert one.grad is not None and torch.isfinite(one.grad).all()
    assert one.grad.abs().max() > 0


def test_random_heads() -> None:
    seen: Counter[Place] = Counter()
    for seed in range(300):
        places = random_heads(LAYERS, HEADS, seed)
        assert places == random_heads(LAYERS, HEADS, seed) == sorted(set(places))
        assert len(places) == 2
        seen.update(places)
    assert set(seen) == set(itertools.product(range(LAYERS), range(HEADS)))
    assert chisquare(list(seen.values())).pvalue > 1e-3
    assert random_heads(2, 2, 0, n=4) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    with pytest.raises(ValueError):
        random_heads(1, 1, 0)


@pytest.mark.parametrize("seed", [0, 1, 6])
def test_random_heads_alone_get_gradient(seed: int) -> None:
    links, mask = random_links(seed)
    maps = random_maps(seed, mask)
    chosen = random_heads(LAYERS, HEADS, seed)
    seen = penalty("random_heads", links, mask, (LAYERS, HEADS), seed)
    value = shown(seen, maps).value()
    assert value.item() == pytest.approx(plain_penalty(maps, links, chosen), abs=1e-10)
    value.backward()
    for layer, head in itertools.product(range(LAYERS), range(HEADS)):
        gradient = maps[layer].grad
        touched = gradient is not None and bool(gradient[:, head].abs().max() > 0)
        assert touched == ((layer, head) in chosen), (layer, head)


@pytest.mark.parametrize("kind", KINDS)
def test_penalty_by_name(kind: str) -> None:
    links, mask = random_links(5)
    maps = random_maps(5, mask)
    value = shown(penalty(kind, links, mask, (LAYERS, HEADS), seed=4), maps).value().item()
    if kind == "sharpness":
        expected = plain_sharpness(maps, mask)
    elif kind == "random_heads":
        expected = plain_penalty(maps, links, random_heads(LAYERS, HEADS, 4))
    else:
        expected = plain_penalty(maps, links)
    assert value == pytest.approx(expected, rel=1e-6)


def test_a_penalty_that_there_is_not_is_refused() -> None:
    links, mask = random_links(5)
    with pytest.raises(ValueError, match="sharpnes"):
        penalty("sharpnes", links, mask, (LAYERS, HEADS), seed=4)
