"""The small BERT, logits at chosen positions, word-level attention, and loading."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import spoil
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import (
    AlbertConfig,
    AutoModelForMaskedLM,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from sas_lib.model import (
    ModelError,
    WordBatch,
    load,
    logits_at,
    masked_lm_loss,
    max_pieces,
    pieces_to_words,
    small_bert,
    word_attention,
    word_batch,
)
from sas_lib.treebank import Sentence

SIZES = {
    "vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 40,
}  # fmt: skip
CONFIGS: dict[str, PreTrainedConfig] = {
    "roberta": RobertaConfig(**SIZES, pad_token_id=1),
    "distilbert": DistilBertConfig(
        vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=40
    ),
    "electra": ElectraConfig(**SIZES, embedding_size=16),
    "albert": AlbertConfig(**SIZES, embedding_size=16),
}
ARCHITECTURES = ["bert", *CONFIGS]


def build(name: str) -> PreTrainedModel:
    if name == "bert":
        return small_bert(60, layers=2, width=32, max_length=40, seed=3).eval()
    torch.manual_seed(3)
    return AutoModelForMaskedLM.from_config(CONFIGS[name]).eval()


def inputs(model: PreTrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Three sentences of 11, 6 and 9 pieces, padded."""
    ids = torch.randint(5, 60, (3, 11), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    for row, length in ((1, 6), (2, 9)):
        ids[row, length:], mask[row, length:] = model.config.pad_token_id, 0
    return ids, mask


POSITIONS = torch.tensor([0, 1, 5, 12, 16, 25, 30])  # in the flattened batch


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_at_positions_are_the_full_models(name: str) -> None:
    model = build(name)
    ids, mask = inputs(model)
    with torch.no_grad():
        full = model(input_ids=ids, attention_mask=mask).logits
        got = logits_at(model, ids, mask, POSITIONS)
    assert got.shape == (len(POSITIONS), 60)
    for row, position in zip(got, POSITIONS.tolist(), strict=True):
        torch.testing.assert_close(row, full[position // 11, position % 11])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_loss_and_gradients_are_hugging_faces_own(name: str) -> None:
    model = build(name)
    ids, mask = inputs(model)
    labels = torch.full_like(ids, -100)
    wanted = torch.tensor([9, 8, 7, 6, 5, 50, 51])
    labels.view(-1)[POSITIONS] = wanted
    theirs = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    theirs.backward()
    expected = {
        key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None
    }
    model.zero_grad()
    ours = masked_lm_loss(model, ids, mask, POSITIONS, wanted)
    ours.backward()
    torch.testing.assert_close(ours, theirs)
    for key, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(p.grad, expected.pop(key), atol=1e-6, rtol=1e-4)
    assert not expected


def test_small_bert_is_what_was_asked_for() -> None:
    model = small_bert(77, layers=3, width=24, heads=2, max_length=19, dropout=0.25, seed=5)
    config = model.config
    assert (config.vocab_size, config.num_hidden_layers, config.hidden_size) == (77, 3, 24)
    assert (config.num_attention_heads, config.intermediate_size) == (2, 96)
    assert config.hidden_dropout_prob == config.attention_probs_dropout_prob == 0.25
    assert max_pieces(model) == 19
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    same, other = (
        small_bert(77, layers=3, width=24, heads=2, max_length=19, seed=s) for s in (5, 6)
    )
    assert torch.equal(model.cls.predictions.transform.dense.weight,
                       same.cls.predictions.transform.dense.weight)  # fmt: skip
    assert not torch.equal(
        model.get_input_embeddings().weight, other.get_input_embeddings().weight
    )
    with pytest.raises(ModelError, match="width 32 is no multiple of the number of heads, 5"):
        small_bert(77, width=32, heads=5)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_longest_input_is_taken(name: str) -> None:
    model = build(name)
    longest = max_pieces(model)
    assert longest == (38 if name == "roberta" else 40)
    ids = torch.full((1, longest), 7)
    assert model(input_ids=ids).logits.shape[1] == longest
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        model(input_ids=torch.full((1, longest + 1), 7))


# --- words ----------------------------------------------------------------------------


def test_word_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = word_batch(
        [["a", "nightingale", "sees", "me"], ["\u200b", "dog"]], tokenizer, numbers=[7, 3]
    )
    assert (batch.words, batch.sentences) == ([4, 2], [7, 3])
    assert batch.membership.shape == (2, 4, batch.input_ids.shape[1])
    split = tokenizer("nightingale", add_special_tokens=False)["input_ids"]
    assert len(split) > 1
    assert batch.input_ids[0][batch.membership[0, 1] == 1].tolist() == split
    # Each ordinary piece belongs to one word; special tokens and padding to none.
    ordinary = ~torch.isin(batch.input_ids, torch.tensor(tokenizer.all_special_ids))
    unknown = batch.input_ids == tokenizer.unk_token_id
    assert torch.equal(batch.membership.sum(1) == 1, ordinary | unknown)
    assert batch.membership[1, 0].sum() == 0, "a zero-width space has no piece"
    assert batch.membership[1, 1].sum() >= 1
    assert batch.membership[1, 2:].sum() == 0


def test_word_batch_agrees_with_the_tokenizers_own_alignment(
    tokenizer: PreTrainedTokenizerFast, sentences: list[Sentence]
) -> None:
    words = [
        ["don't", "U.S.", "x-ray", "café", "日本", "…"],
        *(s.words for s in sentences[::97]),
    ]
    batch = word_batch(words, tokenizer)
    for row, sentence in enumerate(words):
        theirs = tokenizer(list(sentence), is_split_into_words=True)
        n = len(theirs["input_ids"])
        assert batch.input_ids[row, :n].tolist() == theirs["input_ids"]
        assert batch.attention_mask[row].sum() == n
        for piece, word in enumerate(theirs.word_ids()):
            expected = [float(w == word) for w in range(batch.membership.shape[1])]
            assert batch.membership[row, :, piece].tolist() == expected


def byte_level(texts: list[str]) -> PreTrainedTokenizerFast:
    """A tokenizer like RoBERTa's, in which a piece holds the space before its word."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token="<pad>", mask_token="<mask>",
    )  # fmt: skip


def test_byte_level_pieces_keep_the_space_before_a_word(texts: list[str]) -> None:
    tokenizer = byte_level(texts)
    words = ["the", "cat", "sees", "naïve", "🦊s", "!"]
    batch = word_batch([words, ["a", "tree"]], tokenizer)
    # What the model reads is the text as it would be written, not the words glued together.
    assert batch.input_ids[0].tolist() == tokenizer(" ".join(words))["input_ids"]
    assert tokenizer.decode(batch.input_ids[0]) == "the cat sees naïve 🦊s !"
    for number, word in enumerate(words):
        pieces = batch.input_ids[0][batch.membership[0, number] == 1]
        assert tokenizer.decode(pieces).strip() == word
    assert (batch.membership[0].sum(0) == 1).all()
    assert tokenizer.decode(batch.input_ids[1][batch.membership[1, 1] == 1]).strip() == "tree"


def brute_force_words(
    attention: list[list[float]], pieces_of: list[list[int]]
) -> list[list[float]]:
    """Word-level attention of one map in plain loops."""
    n = len(pieces_of)
    words = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            if i == j or not pieces_of[i]:
                continue
            from_pieces = [sum(attention[a][b] for b in pieces_of[j]) for a in pieces_of[i]]
            words[i][j] = sum(from_pieces) / len(from_pieces)
    return words


def pieces_of_words(batch: WordBatch, row: int) -> list[list[int]]:
    return [
        batch.membership[row, w].nonzero().flatten().tolist() for w in range(batch.words[row])
    ]


def test_word_attention_is_the_brute_force(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    words = [
        ["the", "nightingale", "misunderstands", "a", "wheelbarrow"],
        ["an", "unforgettable", "king"],
        ["dog", "\u200b", "cat", "."],
    ]
    batch = word_batch(words, tokenizer)
    layers = list(word_attention(model, batch))
    assert len(layers) == 2
    assert all(layer.shape == (3, 4, 5, 5) for layer in layers)
    for row in range(3):
        alone = tokenizer(" ".join(words[row]), return_tensors="pt")  # without padding
        with torch.no_grad():
            theirs = model(**alone, output_attentions=True).attentions
        n = len(words[row])
        for layer in range(2):
            for head in range(4):
                expected = brute_force_words(
                    theirs[layer][0, head].tolist(), pieces_of_words(batch, row)
                )
                got = layers[layer][row, head]
                torch.testing.assert_close(got[:n, :n], torch.tensor(expected))
                assert (got[n:] == 0).all() and (got[:, n:] == 0).all()


def test_word_attention_sums(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    """What a word gives to words, itself, [CLS] and [SEP] together is 1."""
    words = [["the", "nightingale", "misunderstands", "a", "king"]]
    batch = word_batch(words, tokenizer)
    with torch.no_grad():
        maps = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            output_attentions=True,
        ).attentions
    pieces = pieces_of_words(batch, 0)
    for layer, attention in zip(word_attention(model, batch), maps, strict=True):
        for w, own in enumerate(pieces):
            elsewhere = [0, batch.input_ids.shape[1] - 1, *own]
            rest = attention[0][:, own][:, :, elsewhere].sum(-1).mean(-1)
            torch.testing.assert_close(layer[0, :, w].sum(-1) + rest, torch.ones(4))


def test_pieces_to_words_by_hand() -> None:
    # Pieces: [CLS], a, b, ##c, [SEP]; words: a, bc.
    attention = torch.tensor(
        [
            [0.2, 0.2, 0.2, 0.2, 0.2],
            [0.1, 0.4, 0.2, 0.1, 0.2],  # a gives bc 0.2 + 0.1
            [0.1, 0.3, 0.3, 0.2, 0.1],  # b gives a 0.3, ##c gives a 0.5: bc gives it 0.4
            [0.1, 0.5, 0.1, 0.2, 0.1],
            [0.6, 0.1, 0.1, 0.1, 0.1],
        ]
    )
    membership = torch.tensor([[0.0, 1, 0, 0, 0], [0, 0, 1, 1, 0]])
    words = pieces_to_words(attention[None, None], membership[None])
    torch.testing.assert_close(words, torch.tensor([[[[0.0, 0.3], [0.4, 0.0]]]]))


def test_fused_attention_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    model = small_bert(len(tokenizer), layers=1, width=8, heads=2, max_length=20)
    model.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match="eager"):
        list(word_attention(model, word_batch([["a", "dog"]], tokenizer)))


# --- loading --------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path, model_folder: Path) -> Path:
    return shutil.copytree(model_folder, tmp_path / "model")


def test_load_gives_the_model_that_was_saved(
    saved: Path, model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    loaded, its_tokenizer = load(saved)
    assert not loaded.training
    batch = its_tokenizer(["the king sees a tree ."], return_tensors="pt")
    assert batch["input_ids"].tolist() == tokenizer(["the king sees a tree ."])["input_ids"]
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert list(word_attention(loaded, word_batch([["a", "dog"]], its_tokenizer)))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_bert_like_model_can_be_measured(
    name: str, tmp_path: Path, texts: list[str]
) -> None:
    tokenizer = byte_level(texts)
    config = build(name).config
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.pad_token_id
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded, its_tokenizer = load(str(tmp_path))
    layers = list(word_attention(loaded, word_batch([["the", "dog", "helps"]], its_tokenizer)))
    assert len(layers) == 2
    for layer in layers:
        assert layer.shape == (1, 4, 3, 3)
        assert (layer.sum(-1) > 0).all() and (layer.sum(-1) < 1 + 1e-5).all()


def test_half_precision_weights_are_measured_in_full(
    saved: Path, model: BertForMaskedLM
) -> None:
    small_bert(model.config.vocab_size, layers=1, width=8, heads=2).bfloat16().save_pretrained(
        saved
    )
    loaded, _ = load(saved)
    assert loaded.dtype == torch.float32


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_old_file(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"neither a zip file nor a pickle")


def edit_json(name: str, change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return edit


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def as_other(kind: type[PreTrainedModel]) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        kind(AutoModelForMaskedLM.from_pretrained(folder).config).save_pretrained(folder)

    return save


def as_gpt2(folder: Path) -> None:
    GPT2LMHeadModel(
        GPT2Config(vocab_size=90, n_embd=8, n_layer=1, n_head=2, n_positions=16)
    ).save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda folder: [path.unlink() for path in folder.iterdir()], "cannot load"),
        (lambda folder: (folder / "config.json").unlink(), "cannot load"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot load"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot load"),
        (damage_old_file, "cannot load"),
        (truncate, "cannot load"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot load"),
        (edit_json("config.json", lambda c: c.update(vocab_size=91)), "cannot load"),
        (as_gpt2, "cannot load"),
        (as_other(BertModel), "lacks weights of a masked language model"),
        (as_other(BertForSequenceClassification), "lacks weights of a masked language model"),
        (spoil, "bert.encoder.layer.1.output.dense.weight are not finite"),
        (without_tokenizer, "no fast tokenizer"),
        (edit_json("tokenizer_config.json", lambda c: c.pop("mask_token")), "no mask token"),
    ],
)
def test_load_says_what_is_wrong(
    saved: Path, damage: Callable[[Path], object], complaint: str
) -> None:
    damage(saved)
    with pytest.raises(ModelError, match=re.escape(complaint)) as caught:
        load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_refuses_a_tokenizer_of_another_model(saved: Path, texts: list[str]) -> None:
    byte_level(texts).save_pretrained(saved)
    with pytest.raises(ModelError, match=r"a tokenizer of \d+ pieces, but a model of 90"):
        load(saved)


def test_load_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such folder"):
        load(tmp_path / "none")


def test_load_on_a_device_that_is_not_there(saved: Path) -> None:
    with pytest.raises(ModelError, match="cannot use the device 'abacus'"):
        load(saved, device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="cannot use the device 'cuda'"):
            load(saved, device="cuda")
