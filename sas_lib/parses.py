"""Silver parses on disk: one row a sentence, in the order of the text, in a Parquet file.

Columns: ``words`` list<string>; ``heads`` list<int16>, 0-based in the sentence, ``ROOT`` (-1)
for a root; ``relations`` list<string>; ``spaces`` list<bool>, whether a space follows the
word, so that the text comes back as it was parsed. What made the parses stands in the file's
metadata.

While parsing goes on, whole parts are kept in a folder beside the file, NAME.parts. Parsing
that was stopped, by whatever, goes on after the last of them.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sas_lib.locks import LOCK, held
from sas_lib.treebank import Sentence

# Sentences in a part, which becomes a row group: half a minute's work, at 10k words a second.
PART = 10_000
KEY = b"sas_lib.parses"
SCHEMA = pa.schema(
    [
        ("words", pa.list_(pa.string())),
        ("heads", pa.list_(pa.int16())),
        ("relations", pa.list_(pa.string())),
        ("spaces", pa.list_(pa.bool_())),
    ]
)


class ParsesError(ValueError):
    """Parses that cannot be read or written; the message says what to do."""


# --- reading --------------------------------------------------------------------------


def read_parses(path: str | os.PathLike[str]) -> Iterator[Sentence]:
    """Yield the sentences of a file of parses, a row group at a time.

    Raises:
        FileNotFoundError: there is no such file.
        ParsesError: it is no file of parses, or it is damaged.
    """
    with _open(path) as file:
        for group in range(file.num_row_groups):
            try:
                table = file.read_row_group(group)
            except (pa.ArrowException, OSError) as error:
                raise _damaged(path, error) from error
            columns = [_rows(table.column(name)) for name in SCHEMA.names]
            for words, heads, relations, spaces in zip(*columns, strict=True):
                text = "".join([w + " " * s for w, s in zip(words, spaces, strict=True)])
                yield Sentence(tuple(words), tuple(heads), tuple(relations), text=text.strip())


def parses_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What made the parses: the pipeline and the text, by name and by hash, and versions.

    Raises:
        FileNotFoundError, ParsesError: as :func:`read_parses`.
    """
    with _open(path) as file:
        return _metadata(file)


def _open(path: str | os.PathLike[str]) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    if KEY not in (file.schema_arrow.metadata or {}) or file.schema_arrow.names != SCHEMA.names:
        raise ParsesError(f"{path} is no file of parses; make one with `sas parse`")
    return file


def _damaged(path: str | os.PathLike[str], error: Exception) -> ParsesError:
    return ParsesError(
        f"{path} is no whole Parquet file ({error}); copy it again, or make it anew with "
        "`sas parse`"
    )


def _metadata(file: pq.ParquetFile) -> dict[str, Any]:
    metadata: dict[str, Any] = json.loads(file.schema_arrow.metadata[KEY])
    return metadata


def _rows(column: pa.ChunkedArray) -> Iterator[list[Any]]:
    """The lists of a column; taken apart in one go, which is faster than row by row."""
    for chunk in column.chunks:
        values, offsets = chunk.values.to_pylist(), chunk.offsets.to_pylist()
        for start, end in itertools.pairwise(offsets):
            yield values[start:end]


# --- writing --------------------------------------------------------------------------


def write_parses(
    path: str | os.PathLike[str],
    parses_from: Callable[[int], Iterable[Sentence]],
    metadata: Mapping[str, Any],
    part_size: int = PART,
) -> int:
    """Write parses to ``path``, going on where an earlier call was stopped.

    The same parses give the same file, byte for byte, however often it was stopped. Where
    ``path`` holds parses with this metadata already, nothing is done.

    Args:
        parses_from: given a number, the parses of the sentences from that one on.
        metadata: what makes the parses, JSON; parts made by something else are refused.
        part_size: sentences in a part; keep it while going on.

    Returns:
        How many sentences the file has.

    Raises:
        ParsesError: the file or the parts are of other parses, or another process is
            writing them.
    """
    path = Path(path)
    metadata = {**metadata, "part_size": part_size}
    parts = parts_folder(path)
    if path.exists():
        _check_same(path, parses_metadata(path), metadata)
    else:
        busy = ParsesError(f"another process is writing {parts}; wait for it")
        with held(parts, busy):
            done = _whole_parts(parts, metadata)
            sentences = iter(parses_from(len(done) * part_size))
            schema = SCHEMA.with_metadata({KEY: json.dumps(metadata, sort_keys=True)})
            while group := list(itertools.islice(sentences, part_size)):
                part = parts / f"part-{len(done):05}.parquet"
                _write(part, schema, [_table(group, schema)])
                done.append(part)
            _write(path, schema, map(pq.read_table, done))
    _remove(parts)
    with _open(path) as file:
        return file.metadata.num_rows


def parts_folder(path: str | os.PathLike[str]) -> Path:
    """Where the whole parts are kept while parsing goes on."""
    path = Path(path)
    return path.with_name(path.name.removesuffix(".parquet") + ".parts")


def _remove(parts: Path) -> None:
    """Remove a folder of parts; what else someone keeps in it stays."""
    for file in (*parts.glob("part-*.parquet*"), parts / LOCK):
        file.unlink(missing_ok=True)
    with suppress(OSError):
        parts.rmdir()


def _whole_parts(parts: Path, metadata: Mapping[str, Any]) -> list[Path]:
    """The parts to go on from, up to the first that is missing or damaged."""
    whole: list[Path] = []
    while (part := parts / f"part-{len(whole):05}.parquet").exists():
        try:
            found = parses_metadata(part)
        except ParsesError:  # a machine that lost its power can leave an empty file
            break
        _check_same(parts, found, metadata)
        whole.append(part)
    return whole


def _check_same(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse parses that were made from, or by, something else."""
    different = [key for key in sorted({*found, *asked}) if found.get(key) != asked.get(key)]
    if different:
        raise ParsesError(
            f"{path} was made with another {', '.join(different)}; remove it, or give another "
            "file with --out"
        )


def _write(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """Write tables as row groups, whole or not at all."""
    part = path.with_name(path.name + ".part")
    with pq.ParquetWriter(part, schema, compression="zstd", compression_level=9) as out:
        for table in tables:
            out.write_table(table, row_group_size=max(1, len(table)))
    part.replace(path)


def _table(sentences: Sequence[Sentence], schema: pa.Schema) -> pa.Table:
    columns = {
        "words": [s.words for s in sentences],
        "heads": [s.heads for s in sentences],
        "relations": [s.relations for s in sentences],
        "spaces": [spaces(s) or [True] * len(s) for s in sentences],
    }
    return pa.table(columns, schema=schema)


def spaces(sentence: Sentence) -> list[bool] | None:
    """Whether a space follows each word in the sentence's text; None if it has other words."""
    text = " ".join(sentence.text.split())
    after, place = [], 0
    for word in sentence.words:
        if not text.startswith(word, place):
            return None
        place += len(word)
        after.append(text[place : place + 1] == " ")
        place += after[-1]
    return after if place == len(text) else None
