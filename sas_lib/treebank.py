"""Sentences with gold dependency trees, and their way in and out of CoNLL-U and spaCy.

A :class:`Sentence` is the one shape of gold syntax in this project. Its heads are
0-based word positions, so that ``words[heads[i]]`` is the head of word ``i``; the root
has the head ``ROOT`` (-1). CoNLL-U counts from 1 and writes 0 for the root; the two
functions that read and write it are the only places that know.

Format: https://universaldependencies.org/format.html. Parsing of the columns is left to
the ``conllu`` package; this module checks that the columns make a tree.
"""

from __future__ import annotations

import io
import lzma
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import conllu
from conllu.exceptions import ParseException

if TYPE_CHECKING:
    from spacy.tokens import Doc
    from spacy.vocab import Vocab

ROOT = -1


class TreebankError(ValueError):
    """A treebank that cannot be read; the message names file, sentence and line."""


@dataclass(frozen=True)
class Sentence:
    """A sentence with its gold dependency tree.

    words: the syntactic words, in order.
    heads: for each word the 0-based position of its head, or ``ROOT``.
    relations: for each word its Universal Dependencies relation, subtype included.
    upos, lemmas, features: further CoNLL-U columns, empty when not known.
    id: the sentence's name in its treebank. text: the untokenised sentence.
    """

    words: tuple[str, ...]
    heads: tuple[int, ...]
    relations: tuple[str, ...]
    upos: tuple[str, ...] = ()
    lemmas: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    id: str = ""
    text: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        n = len(self.words)
        for name in ("heads", "relations"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"{n} words but {len(getattr(self, name))} {name}")
        for name in ("upos", "lemmas", "features"):
            if len(getattr(self, name)) not in (0, n):
                raise ValueError(f"{n} words but {len(getattr(self, name))} {name}")

    def __len__(self) -> int:
        return len(self.words)

    def arcs(self) -> Iterator[tuple[int, int, str]]:
        """Yield (dependent, head, relation) for each word that has a head."""
        for dependent, (head, relation) in enumerate(
            zip(self.heads, self.relations, strict=True)
        ):
            if head != ROOT:
                yield dependent, head, relation


def tree_problem(heads: Sequence[int]) -> str | None:
    """Say what keeps ``heads`` (0-based, ``ROOT`` for the root) from being a tree.

    Returns None for a tree: one root, every other head a position in the sentence, and
    every word reaching the root.
    """
    roots = [word for word, head in enumerate(heads) if head == ROOT]
    if len(roots) != 1:
        return f"{len(roots)} roots, where a tree has one"
    for word, head in enumerate(heads):
        if head != ROOT and not 0 <= head < len(heads):
            return f"word {word + 1} has the head {head + 1}, outside the sentence"
    reached = {roots[0]}
    for word in range(len(heads)):
        path = []
        while word not in reached:
            if word in path:
                return f"a cycle through word {word + 1}"
            path.append(word)
            word = heads[word]
        reached.update(path)
    return None


def read_conllu(path: str | os.PathLike[str]) -> Iterator[Sentence]:
    """Yield the sentences of a CoNLL-U file (plain or .xz), reading it as it goes.

    Multiword tokens (ids like 3-4) and empty nodes (ids like 5.1) are passed over: the
    tree is over the syntactic words between them.

    Raises:
        FileNotFoundError: there is no such file.
        TreebankError: a line or a tree is malformed, or the file holds no sentence.
    """
    path = Path(path)
    found = False
    opener: Any = lzma.open if path.suffix == ".xz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for first_line, block in _blocks(lines):
                found = True
                yield _parse_block(block, path, first_line)
    except (EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise TreebankError(f"{path}: {error}; is this a whole CoNLL-U file?") from error
    if not found:
        raise TreebankError(f"{path}: no sentence in this file")


def _blocks(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    """Group lines into sentences; each with the number of its first line, from 1."""
    block: list[str] = []
    first = 1
    for number, line in enumerate(lines, start=1):
        if line.strip():
            if not block:
                first = number
            block.append(line.rstrip("\r\n"))
        elif block:
            yield first, block
            block = []
    if block:
        yield first, block


# Columns that are kept or passed over as they stand.
_AS_WRITTEN = {
    column: lambda line, i: line[i] for column in ("lemma", "xpos", "feats", "deps", "misc")
}


def _parse_block(block: list[str], path: Path, first_line: int) -> Sentence:
    names = [line.split("=", 1)[1].strip() for line in block if line.startswith("# sent_id =")]
    named = f"sentence {names[0] if names else '(unnamed)'}"
    where = f"{path}, line {first_line}, {named}"
    for offset, line in enumerate(block):
        if not line.startswith("#") and line.count("\t") != 9:
            raise TreebankError(
                f"{path}, line {first_line + offset}, {named}: a CoNLL-U line has 10 columns "
                f"separated by tabs; this one has {line.count(chr(9)) + 1}: {line[:60]!r}"
            )
    try:
        parsed = conllu.parse("\n".join(block) + "\n\n", field_parsers=_AS_WRITTEN)[0]
    except (ParseException, IndexError, ValueError) as error:
        raise TreebankError(f"{where}: {error}") from error
    words = [token for token in parsed if isinstance(token["id"], int)]
    if not words:
        raise TreebankError(f"{where}: no words")
    if [token["id"] for token in words] != list(range(1, len(words) + 1)):
        raise TreebankError(f"{where}: word ids do not run 1, 2, 3, ...")
    if any(not isinstance(token["head"], int) for token in words):
        raise TreebankError(f"{where}: a word has no head; is this file parsed?")
    heads = tuple(token["head"] - 1 for token in words)
    problem = tree_problem(heads)
    if problem:
        raise TreebankError(f"{where}: not a tree: {problem}")
    return Sentence(
        words=tuple(token["form"] for token in words),
        heads=heads,
        relations=tuple(
            "dep" if token["deprel"] == "_" else token["deprel"] for token in words
        ),
        upos=tuple(token["upos"] for token in words),
        lemmas=tuple(token["lemma"] for token in words),
        features=tuple(token["feats"] for token in words),
        id=names[0] if names else "",
        text=parsed.metadata.get("text") or "",
    )


def to_conllu(sentence: Sentence) -> str:
    """One sentence as CoNLL-U text, with the blank line that ends it."""
    n = len(sentence)
    unknown = ("_",) * n
    out = io.StringIO()
    if sentence.id:
        out.write(f"# sent_id = {sentence.id}\n")
    out.write(f"# text = {sentence.text or ' '.join(sentence.words)}\n")
    columns = zip(
        sentence.words,
        sentence.lemmas or unknown,
        sentence.upos or unknown,
        sentence.features or unknown,
        sentence.heads,
        sentence.relations,
        strict=True,
    )
    for number, (word, lemma, upos, features, head, relation) in enumerate(columns, start=1):
        out.write(
            f"{number}\t{word}\t{lemma}\t{upos}\t_\t{features}\t{head + 1}\t{relation}\t_\t_\n"
        )
    out.write("\n")
    return out.getvalue()


def write_conllu(sentences: Iterable[Sentence], path: str | os.PathLike[str]) -> int:
    """Write sentences to ``path``, whole or not at all; returns how many.

    The file appears under its name only when it is complete.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    count = 0
    try:
        with open(part, "w", encoding="utf-8") as out:
            for sentence in sentences:
                out.write(to_conllu(sentence))
                count += 1
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def to_doc(sentence: Sentence, vocab: Vocab) -> Doc:
    """The sentence as a spaCy Doc with its gold parse (spaCy's root is its own head)."""
    from spacy.tokens import Doc

    heads = [i if head == ROOT else head for i, head in enumerate(sentence.heads)]
    # spaCy recognises the root by the label ROOT.
    relations = ["ROOT" if r == "root" else r for r in sentence.relations]
    return Doc(
        vocab,
        words=list(sentence.words),
        heads=heads,
        deps=relations,
        pos=list(sentence.upos) if sentence.upos and "_" not in sentence.upos else None,
        sent_starts=[i == 0 for i in range(len(sentence))],
    )


def from_doc(doc: Doc) -> Iterator[Sentence]:
    """Yield a Sentence for each sentence of a parsed spaCy Doc; white space is left out.

    Raises:
        ValueError: the Doc has no parse.
    """
    if not doc.has_annotation("DEP"):
        raise ValueError("this Doc has no dependency parse; run a pipeline with a parser")
    for span in doc.sents:
        tokens = [token for token in span if not token.is_space]
        position = {token.i: i for i, token in enumerate(tokens)}
        if not tokens:
            continue
        yield Sentence(
            words=tuple(token.text for token in tokens),
            heads=tuple(
                ROOT if token.head.i == token.i else position.get(token.head.i, ROOT)
                for token in tokens
            ),
            relations=tuple("root" if t.dep_ == "ROOT" else t.dep_ for t in tokens),
            upos=tuple(token.pos_ or "_" for token in tokens),
            text=" ".join(span.text.split()),
        )
