"""Plain English text, read sentence by sentence.

Files hold one paragraph a line, a blank line between documents, and may be compressed (.xz).
"""

from __future__ import annotations

import lzma
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class CorpusError(ValueError):
    """A text that cannot be used for training; the message says what to do."""


_LISTED = (
    "mr mrs ms dr prof st vs etc fig no vol e.g i.e cf al inc ltd co jr sr u.s jan feb mar"
    " apr jun jul aug sep sept oct nov dec gen col capt lt rev hon"
)
_ABBREVIATIONS = frozenset(_LISTED.split())
_BOUNDARY = re.compile(r"([.!?]+[\"'”’)\]]*)\s+(?=[\"'“‘(\[]?[A-Z0-9])")
_NOT_TEXT = re.compile("[\udc80-\udcff]")


def split_sentences(paragraph: str) -> Iterator[str]:
    """Yield the sentences of a paragraph of plain English.

    A sentence ends at . ! or ? before a capital or a digit, unless the full stop belongs
    to a common abbreviation or to an initial.
    """
    start = 0
    for match in _BOUNDARY.finditer(paragraph):
        last_word = paragraph[start : match.start()].rsplit(None, 1)[-1:]
        word = last_word[0].lstrip("(\"'“‘[").lower() if last_word else ""
        initial = len(word) == 1 and word.isalpha()
        if match.group(1).startswith(".") and (word in _ABBREVIATIONS or initial):
            continue
        yield paragraph[start : match.end(1)].strip()
        start = match.end()
    if paragraph[start:].strip():
        yield paragraph[start:].strip()


def read_text(path: str | os.PathLike[str], min_words: int = 3) -> Iterator[str]:
    """Yield the sentences of a text file (plain or .xz), one paragraph a line.

    Sentences of fewer than ``min_words`` words are left out: headings, mostly.

    Raises:
        FileNotFoundError: there is no such file.
        CorpusError: the file is cut short, a line is not UTF-8 text, or there is no
            sentence; the message gives the line.
    """
    path = Path(path)
    found = False
    opener: Any = lzma.open if path.suffix == ".xz" else open
    try:
        # What is no UTF-8 is let through as surrogates, so that its line can be named.
        with opener(path, "rt", encoding="utf-8", errors="surrogateescape") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.isascii() and (bad := _NOT_TEXT.search(line)):
                    raise CorpusError(
                        f"{path}, line {number}: no UTF-8 text at character {bad.start() + 1} "
                        f"(byte {ord(bad.group()) - 0xDC00:#04x}); mend or leave out the line, "
                        "or convert the file to UTF-8"
                    )
                for sentence in split_sentences(line.strip()):
                    if sentence.count(" ") >= min_words - 1:
                        found = True
                        yield sentence
    except (EOFError, lzma.LZMAError) as error:
        raise CorpusError(f"{path}: {error}; is the file complete? Fetch it again.") from error
    if not found:
        raise CorpusError(f"{path}: no sentence of {min_words} words or more in this file")
