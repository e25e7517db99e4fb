"""Silver parses: plain sentences parsed by a spaCy pipeline.

The study parsed its training corpus with spaCy (Chen et al. 2024, section 3). Any pipeline
with a parser will do: an installed package such as ``en_core_web_sm``, or a folder, such as
one that :mod:`sas_lib.parser_training` writes.

A sentence stays one sentence: the parser is not allowed to split it. Should it leave several
words without a head, all of them are roots; an invented link between them would be promoted
or suppressed as if it had been parsed.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from sas_lib.fingerprints import file_sha256
from sas_lib.parses import PART, write_parses
from sas_lib.text import read_text
from sas_lib.treebank import ROOT, Sentence

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token

# Sentences that are parsed together. What shares a batch can change the last bit of a score,
# so the batches are the same for any number of processes.
BATCH = 500
# A parse needs none of these, and the last two would split our sentences.
LEFT_OUT = [
    *("ner", "lemmatizer", "attribute_ruler", "entity_linker", "textcat", "spancat"),
    *("senter", "sentencizer"),
]
# A character may be a word, and positions are kept in 16 bits.
LONGEST = 2**15 - 1


class SilverError(RuntimeError):
    """Text that cannot be parsed; the message says what to install or to do."""


# --- pipelines ------------------------------------------------------------------------


def load(pipeline: str | os.PathLike[str]) -> Language:
    """A spaCy pipeline that parses, by the name of its package or from its folder.

    Raises:
        SilverError: spaCy or the pipeline is missing or damaged, or it has no parser.
    """
    check_spacy()
    import spacy

    advice = "or train a parser with `sas train-parser --out DIR` and give that folder"
    try:
        nlp: Language = spacy.load(os.fspath(pipeline), exclude=LEFT_OUT)
    except Exception as error:  # whatever is wrong with the files of someone's pipeline
        if Path(pipeline).exists():
            reason = " ".join(str(error).split())
            raise SilverError(f"{pipeline} is no whole spaCy pipeline: {reason}") from error
        raise SilverError(
            f"no spaCy pipeline {pipeline}: install one, for instance with `python -m spacy "
            f"download en_core_web_sm`, {advice}"
        ) from error
    if not nlp("A test.").has_annotation("DEP"):
        names = ", ".join(nlp.pipe_names) or "nothing at all"
        raise SilverError(f"the pipeline {pipeline} has no parser, but {names}; {advice}")
    return nlp


def check_spacy() -> None:
    """Raise SilverError where spaCy is missing."""
    try:
        import spacy  # noqa: F401
    except ImportError as error:
        raise SilverError("spaCy is not installed: pip install 'sas-lib[spacy]'") from error


def pipeline_info(nlp: Language) -> dict[str, str]:
    """Name and version of a pipeline, SHA-256 of its files, and the version of spaCy."""
    digest = hashlib.sha256()
    for file in sorted(path for path in nlp.path.rglob("*") if path.is_file()):
        digest.update(file.relative_to(nlp.path).as_posix().encode() + file.read_bytes())
    return {
        "pipeline": f"{nlp.meta['lang']}_{nlp.meta['name']}",
        "pipeline_version": nlp.meta["version"],
        "pipeline_sha256": digest.hexdigest(),
        "spacy": version("spacy"),
    }


# --- parsing --------------------------------------------------------------------------


def parse(
    texts: Iterable[str], pipeline: str | os.PathLike[str], processes: int = 1
) -> Iterator[Sentence]:
    """Parse sentences, in order; a sentence in, a Sentence out.

    texts: a sentence each; runs of white space count as one space.
    processes: how many parse side by side; the parses are the same for any number.

    Raises:
        SilverError: as :func:`load`, and where a process dies.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    pipeline = os.fspath(pipeline)
    mark = pipeline_info(load(pipeline))["pipeline_sha256"]
    work = Parallel(processes, return_as="generator", batch_size=1)
    try:
        for parsed in work(delayed(_parse_batch)(pipeline, mark, b) for b in _batches(texts)):
            yield from parsed
    except TerminatedWorkerError as error:
        raise SilverError(
            f"a process died, for want of memory perhaps; use fewer than {processes}"
        ) from error


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while batch := list(itertools.islice(texts, BATCH)):
        yield batch


def _parse_batch(pipeline: str, mark: str, texts: list[str]) -> list[Sentence]:
    nlp = _loaded(pipeline, mark)
    docs = nlp.pipe((bare_doc(nlp, text) for text in texts), batch_size=BATCH)
    return [to_sentence(doc) for doc in docs]


@lru_cache(maxsize=1)
def _loaded(pipeline: str, mark: str) -> Language:
    """A pipeline, loaded once in each process, and again when its files have changed."""
    return load(pipeline)


def bare_doc(nlp: Language, text: str) -> Doc:
    """A text cut into words by the pipeline's rules, to be parsed as one sentence."""
    return unsplit(nlp.make_doc(" ".join(text.split())))


def unsplit(doc: Doc) -> Doc:
    """Let a sentence begin at the first word and nowhere else."""
    for token in doc:
        token.is_sent_start = token.i == 0
    return doc


def to_sentence(doc: Doc) -> Sentence:
    """A parsed Doc as one Sentence, whatever its boundaries; white space is left out.

    Words without a head are roots, be they several. What hangs on white space hangs on the
    head of it.

    Raises:
        ValueError: the Doc has no parse.
    """
    if not doc.has_annotation("DEP"):
        raise ValueError("this Doc has no dependency parse; run a pipeline with a parser")
    tokens = [token for token in doc if not token.is_space]
    position = {token.i: i for i, token in enumerate(tokens)}
    heads = [position.get(_head(token), ROOT) for token in tokens]
    return Sentence(
        words=tuple(token.text for token in tokens),
        heads=tuple(heads),
        relations=tuple(
            "root" if head == ROOT else token.dep_
            for token, head in zip(tokens, heads, strict=True)
        ),
        upos=tuple(token.pos_ or "_" for token in tokens),
        text=" ".join(doc.text.split()),
    )


def _head(token: Token) -> int:
    """The number of a token's head; -1 for a root, which to spaCy is its own head."""
    head = token.head
    while head.is_space and head.head.i != head.i:
        head = head.head
    return ROOT if head.i == token.i else head.i


# --- files ----------------------------------------------------------------------------


def parse_file(
    text: str | os.PathLike[str],
    out: str | os.PathLike[str],
    pipeline: str | os.PathLike[str],
    processes: int = 1,
    limit: int | None = None,
    part_size: int = PART,
) -> dict[str, Any]:
    """Parse the sentences of a text (see :func:`sas_lib.text.read_text`) into a file.

    The file is read by :func:`sas_lib.parses.read_parses`. Parsing that was stopped goes on
    after the last whole part, and the file is the same as if it had not been.

    limit: parse the first sentences only.

    Returns:
        ``sentences`` and ``words`` (as white space has them) of the text, what made the
        parses, and how many words a second went by, None where all was done before.

    Raises:
        SilverError: as :func:`parse`; a sentence is longer than ``LONGEST`` characters.
        CorpusError: the text is damaged or empty.
        ParsesError: ``out`` or its parts are of other parses.
    """
    made_by = {
        **pipeline_info(load(pipeline)),
        "text": Path(text).name,
        "text_sha256": file_sha256(text),
        "limit": limit,
        "sas_lib": version("sas-lib"),
    }
    sentences, words = _count(text, limit)
    speed = None

    def parses_from(start: int) -> Iterator[Sentence]:
        nonlocal speed
        lines = itertools.islice(read_text(text), limit)
        before = sum(map(_words, itertools.islice(lines, start)))
        name = Path(text).name
        with tqdm(desc=name, total=words, initial=before, unit="words", unit_scale=True) as bar:
            for sentence in parse(lines, pipeline, processes):
                bar.update(_words(sentence.text))
                yield sentence
            if bar.n > before:
                speed = (bar.n - before) / bar.format_dict["elapsed"]

    write_parses(out, parses_from, made_by, part_size)
    return {"sentences": sentences, "words": words, "words_per_second": speed, **made_by}


def _count(text: str | os.PathLike[str], limit: int | None) -> tuple[int, int]:
    """How many sentences and words a text has; nothing is parsed before all of it is sound."""
    sentences = words = 0
    for sentence in itertools.islice(read_text(text), limit):
        sentences += 1
        words += _words(sentence)
        if len(sentence) > LONGEST:
            raise SilverError(
                f"{text}, sentence {sentences} has {len(sentence)} characters; {LONGEST} can "
                f"be parsed: {sentence[:60]!r}; mend or leave out the line"
            )
    return sentences, words


def _words(text: str) -> int:
    return len(text.split())
