"""From text to encoded sentences.

Sentences are cut into WordPieces by a tokenizer that is trained on the corpus itself. Gold
heads, where a sentence has them, are carried from words to pieces.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sas_lib.text import CorpusError
from sas_lib.treebank import ROOT, Sentence

NO_HEAD = -1
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


# --- tokenizer ------------------------------------------------------------------------


def train_tokenizer(texts: Iterable[str], vocab_size: int = 8192) -> PreTrainedTokenizerFast:
    """Train an uncased WordPiece tokenizer, as BERT's, on ``texts``.

    The vocabulary never exceeds ``vocab_size``; a small corpus may fill less of it. The
    same texts give the same vocabulary. Only the 1,000 commonest characters (fewer in a
    small vocabulary) are known: all of them would fill a third of 8,192 pieces.
    """
    texts = list(texts)
    words = sorted({word for text in texts for word in text.split()})
    alphabet = _alphabet(words, min(1000, vocab_size // 3))
    # The trainer numbers the one-character pieces in the random order of a hash map, and
    # the numbers break its later ties. So a first pass over the distinct words finds these
    # pieces, and the second pass is given them in a fixed order.
    single = _train_wordpiece(words, 1, alphabet, [])
    ids = _train_wordpiece(texts, vocab_size, alphabet, [*SPECIAL_TOKENS, *sorted(single)])
    tokenizer = _wordpiece(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
    )


def _alphabet(words: Iterable[str], size: int) -> list[str]:
    """The characters in the most words, normalised; ties go to the lower code point."""
    normalizer = _wordpiece(models.WordPiece()).normalizer
    counts: Counter[str] = Counter()
    for character, count in Counter(itertools.chain.from_iterable(words)).items():
        for normal in normalizer.normalize_str(character).strip():
            counts[normal] += count
    return sorted(counts, key=lambda c: (-counts[c], c))[:size]


def _train_wordpiece(
    texts: Iterable[str], size: int, alphabet: list[str], first: list[str]
) -> dict[str, int]:
    """The vocabulary that the tokenizers library learns, with ``first`` at its start."""
    tokenizer = _wordpiece(models.WordPiece(unk_token="[UNK]"))
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        special_tokens=first,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.get_vocab()


def _wordpiece(model: models.WordPiece) -> Tokenizer:
    """BERT's uncased pipeline around a vocabulary."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def heads_to_pieces(heads: Sequence[int], word_of_piece: Sequence[int | None]) -> list[int]:
    """Carry gold heads from words to pieces; the first piece of a word stands for it.

    heads: [words], 0-based, ``ROOT`` for the root.
    word_of_piece: [pieces], the word each piece belongs to, None for special tokens.
    Returns [pieces]: at the first piece of a word the position of the first piece of its
    head; ``NO_HEAD`` at later pieces, special tokens, the root, and where the head has no
    piece.
    """
    first: dict[int, int] = {}
    for piece, word in enumerate(word_of_piece):
        if word is not None:
            first.setdefault(word, piece)
    carried = [NO_HEAD] * len(word_of_piece)
    for word, piece in first.items():
        if heads[word] != ROOT:
            carried[piece] = first.get(heads[word], NO_HEAD)
    return carried


# --- encoded corpus -------------------------------------------------------------------


@dataclass(frozen=True)
class EncodedCorpus:
    """Sentences as pieces, end to end in flat arrays.

    pieces: int32 [total pieces], [CLS] and [SEP] included. starts: int64 [sentences + 1].
    heads: int16 [total pieces], position of the head within the sentence or ``NO_HEAD``;
    None when no sentence has a parse.
    """

    pieces: np.ndarray
    starts: np.ndarray
    heads: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Pieces per sentence, int64 [sentences]."""
        return np.diff(self.starts)

    def batch(self, sentences: Sequence[int] | np.ndarray, pad_id: int) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` and ``heads``, each int64 [batch, longest]."""
        longest = int(self.lengths[sentences].max())
        ids = np.full((len(sentences), longest), pad_id, dtype=np.int64)
        heads = np.full_like(ids, NO_HEAD)
        mask = np.zeros_like(ids)
        for row, sentence in enumerate(sentences):
            a, b = self.starts[sentence], self.starts[sentence + 1]
            ids[row, : b - a] = self.pieces[a:b]
            mask[row, : b - a] = 1
            if self.heads is not None:
                heads[row, : b - a] = self.heads[a:b]
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "heads": torch.from_numpy(heads),
        }


def encode(
    sentences: Iterable[Sentence | str],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int = 128,
    chunk: int = 4096,
) -> EncodedCorpus:
    """Encode sentences, parsed or plain; those of more than ``max_length`` pieces are cut.

    A plain string has no heads; an arc whose head was cut off is dropped with it.
    """
    pieces: list[np.ndarray] = []
    heads: list[np.ndarray] = []
    lengths: list[int] = []
    any_heads = False
    for group in _chunks(sentences, chunk):
        parsed = isinstance(group[0], Sentence)
        texts = [list(s.words) if isinstance(s, Sentence) else s for s in group]
        batch = tokenizer(
            texts, is_split_into_words=parsed, truncation=True, max_length=max_length
        )
        for i, sentence in enumerate(group):
            ids = np.asarray(batch["input_ids"][i], dtype=np.int32)
            carried = np.full(len(ids), NO_HEAD, dtype=np.int16)
            if isinstance(sentence, Sentence):
                carried[:] = heads_to_pieces(sentence.heads, batch.word_ids(i))
                any_heads = True
            pieces.append(ids)
            heads.append(carried)
            lengths.append(len(ids))
    if not lengths:
        raise CorpusError("no sentence to encode")
    return EncodedCorpus(
        pieces=np.concatenate(pieces),
        starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        heads=np.concatenate(heads) if any_heads else None,
    )


def _chunks(items: Iterable[Sentence | str], size: int) -> Iterator[list[Sentence | str]]:
    """Groups of at most ``size`` items, all parsed or all plain."""
    group: list[Sentence | str] = []
    for item in items:
        if group and (len(group) == size or isinstance(item, str) != isinstance(group[0], str)):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
