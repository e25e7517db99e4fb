"""An encoded corpus as files: written block by block, read as it is used.

The arrays of ``corpus.EncodedCorpus`` as ``.npy`` files in a folder: ``pieces``, ``starts``
and, where sentences are parsed, ``heads``; ``heads-KIND`` has the links of a control.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from sas_lib.corpus import NO_HEAD, EncodedCorpus, encode
from sas_lib.regularizer import RELINK
from sas_lib.runs import LINKS_SEED, Text
from sas_lib.treebank import Sentence

BLOCK = 4096  # sentences in memory at a time


class CorpusWriter:
    """Encodes sentences, as ``corpus.encode`` does, to files in a new folder.

    Integers are as narrow as they can be: pieces int16 in a vocabulary of up to 32,768 (so
    that torch indexes them on every device, which it does not do with uint16), else int32;
    heads int8 in sentences of up to 128 pieces, else int16; starts int64.

    sentences, parsed, words: what was written so far; words are set apart by spaces, or as
    the parse has them.
    """

    def __init__(
        self,
        folder: Path,
        tokenizer: PreTrainedTokenizerFast,
        max_length: int,
        controls: Sequence[str] = (),
    ) -> None:
        folder.mkdir()
        self.tokenizer, self.max_length = tokenizer, max_length
        pieces = np.int16 if len(tokenizer) <= 2**15 else np.int32
        heads = np.int8 if max_length <= 2**7 else np.int16
        self.pieces = _Growing(folder / "pieces.npy", pieces)
        self.starts = _Growing(folder / "starts.npy", np.int64)
        self.starts.append(np.zeros(1))
        kinds = ("sas", *controls)
        self.heads = {kind: _Growing(_heads_file(folder, kind), heads) for kind in kinds}
        # The links of a control are drawn as ``runs.text_data`` draws them.
        self.rngs = {kind: np.random.default_rng(LINKS_SEED) for kind in controls}
        self.sentences = self.parsed = self.words = 0

    def write(self, sentences: Iterable[Text]) -> None:
        """Write all sentences, and complete the files."""
        sentences = iter(sentences)
        while block := list(itertools.islice(sentences, BLOCK)):
            self._write(block)
        for array in (self.pieces, self.starts, *self.heads.values()):
            array.close()
        if not self.parsed:  # an encoded corpus has no heads then
            for array in self.heads.values():
                array.path.unlink()

    def _write(self, block: list[Text]) -> None:
        encoded = encode(block, self.tokenizer, self.max_length)
        self.starts.append(encoded.starts[1:] + self.pieces.size)
        self.pieces.append(encoded.pieces)
        for kind, array in self.heads.items():
            heads = self._links(block, kind) if kind in self.rngs else encoded.heads
            array.append(np.full(len(encoded.pieces), NO_HEAD) if heads is None else heads)
        self.sentences += len(block)
        self.parsed += sum(isinstance(s, Sentence) for s in block)
        self.words += sum(
            len(s) if isinstance(s, Sentence) else s.count(" ") + 1 for s in block
        )

    def _links(self, block: list[Text], kind: str) -> np.ndarray | None:
        """The links of a control, where sentences are parsed."""
        linked = [
            replace(s, heads=tuple(RELINK[kind](s, self.rngs[kind])))
            if isinstance(s, Sentence)
            else s
            for s in block
        ]
        return encode(linked, self.tokenizer, self.max_length).heads

    def counts(self) -> dict[str, int]:
        """What was written."""
        return {
            "sentences": self.sentences,
            "parsed": self.parsed,
            "words": self.words,
            "pieces": self.pieces.size,
        }


class _Growing:
    """A ``.npy`` file of one dimension that grows at its end."""

    def __init__(self, path: Path, dtype: type) -> None:
        self.path, self.dtype, self.size = path, np.dtype(dtype), 0
        path.write_bytes(self._header())

    def append(self, values: np.ndarray) -> None:
        with open(self.path, "ab") as out:
            out.write(values.astype(self.dtype).tobytes())
        self.size += len(values)

    def close(self) -> None:
        """Write the final size; numpy leaves room for it in the header."""
        with open(self.path, "r+b") as out:
            out.write(self._header())

    def _header(self) -> bytes:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.size,)}
        out = io.BytesIO()
        np.lib.format.write_array_header_1_0(out, header)
        return out.getvalue()


def open_corpus(folder: Path, penalty: str = "sas") -> EncodedCorpus:
    """The corpus in a folder, mapped into memory.

    penalty: the kind of a run; the links are those that it weighs.

    Raises:
        FileNotFoundError: there is no corpus in this folder.
    """
    heads = _heads_file(folder, penalty)
    return EncodedCorpus(
        _mapped(folder / "pieces.npy"),
        _mapped(folder / "starts.npy"),
        _mapped(heads) if heads.exists() else None,
    )


def _mapped(path: Path) -> np.ndarray:
    """An array that stays on disk. To torch the mode ``c`` looks writable, and torch warns of
    memory that is not; the file cannot change."""
    return np.asarray(np.load(path, mmap_mode="c"))


def _heads_file(folder: Path, kind: str) -> Path:
    """Where the links of a penalty are: most weigh the gold links."""
    return folder / (f"heads-{kind}.npy" if kind in RELINK else "heads.npy")
