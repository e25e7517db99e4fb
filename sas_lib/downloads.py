"""Public data by name, at one fixed version: fetched once, checked, and kept.

``ewt`` is UD English EWT 2.16 and ``blimp`` is BLiMP (Warstadt et al. 2020,
arXiv:1912.00582), files at a commit, with their checksums in ``registry.toml``.
``wikitext-103`` is plain English (Merity et al. 2016, arXiv:1609.07843) at a revision of the
Hugging Face hub. Where the environment variable ``SAS_DATA`` names a folder, the data are
taken from there and nothing is fetched.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from sas_lib.fingerprints import file_sha256
from sas_lib.text import split_sentences

REGISTRY: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("registry.toml").read_text(encoding="utf-8")
)
HUB, REVISION = "Salesforce/wikitext", "b08601e04326c79dfdd32d625aee71d232d685c3"
WIKITEXT = "wikitext-103"
# Lines of each part, so that one that was cut short is noticed.
ROWS = {"train": 1_801_350, "validation": 3_760, "test": 4_358}


class DownloadError(RuntimeError):
    """Data that cannot be had by name; the message says what was wrong, where, what to do."""


# --- files ----------------------------------------------------------------------------


def fetch(name: str, part: str | None = None) -> Path:
    """A file, or the folder of all files, of a named data set, complete and checked.

    name: ``ewt`` or ``blimp``. part: of EWT ``train``, ``dev`` (the default) or ``test``; of
    BLiMP one paradigm, by default the folder of them all.

    Raises:
        DownloadError: no such name or part; a checksum is wrong; the network or the folder
            that ``SAS_DATA`` names cannot be read.
    """
    if name not in REGISTRY:
        raise DownloadError(f"no data set {name!r}; there are {', '.join(REGISTRY)}")
    source = REGISTRY[name]
    files: dict[str, str] = source["files"]
    part = part or source.get("default")
    file = source["part"].format(part) if part else ""
    if part and file not in files:
        some = ", ".join(list(files)[:3])
        raise DownloadError(f"{name} has no part {part!r}: no {file} among {some}, ...")
    wanted = {file: files[file]} if part else files
    given = _given_folder(name)
    return (_in_folder(name, wanted, given) if given else _from_net(name, wanted)) / file


def path_or_name(given: str | os.PathLike[str]) -> Path:
    """``given`` itself, or what it names (``ewt``, ``ewt/test``, ``blimp``) where there is no
    file or folder of that name.

    Raises:
        DownloadError: as ``fetch``.
    """
    path = Path(given)
    name, _, part = path.as_posix().partition("/")
    return path if path.exists() or name not in REGISTRY else fetch(name, part or None)


def _given_folder(name: str) -> Path | None:
    """The folder of data that the environment names."""
    given = os.environ.get("SAS_DATA")
    if given and not Path(given).is_dir():
        raise DownloadError(
            f"SAS_DATA names {given}, which is no folder; mend it, or unset it to fetch {name}"
        )
    return Path(given) if given else None


def _in_folder(name: str, files: dict[str, str], given: Path) -> Path:
    """The folder of ``files`` in a folder of data, once they have been compared."""
    folder: Path = given / REGISTRY[name]["folder"]
    for file, sha in files.items():
        if not (folder / file).is_file():
            raise DownloadError(
                f"no {name} in the folder of data: there is no {folder / file}; put it there, "
                "or unset SAS_DATA to fetch it"
            )
        if (found := file_sha256(folder / file)) != sha:
            raise DownloadError(
                f"{folder / file} is not the file known as {name}: its SHA-256 is "
                f"{found[:12]}..., not {sha[:12]}...; it may be cut short, or another version. "
                "Copy it again, or unset SAS_DATA to fetch it"
            )
    return folder


def _from_net(name: str, files: dict[str, str]) -> Path:
    """The folder where fetched files are kept; fetches those that are not there yet."""
    pooch = _optional("pooch", name)
    source = REGISTRY[name]
    folder = Path(pooch.os_cache("sas-lib")) / source["folder"]
    pooch.get_logger().setLevel("WARNING")
    store = pooch.create(folder, source["url"], registry=files, retry_if_failed=2)
    show_bytes = pooch.HTTPDownloader(progressbar=len(files) == 1)
    for file in tqdm(files, f"fetching {name}", unit=" files", disable=len(files) == 1):
        try:
            store.fetch(file, downloader=show_bytes)
        except (OSError, ValueError, RuntimeError) as error:
            raise DownloadError(
                f"cannot fetch {source['url']}{file} into {folder} ({error}); try again, or "
                "name a folder that has it (SAS_DATA)"
            ) from error
    return folder


def _optional(package: str, name: str) -> Any:
    try:
        return __import__(package)
    except ImportError as error:
        raise DownloadError(
            f"fetching {name} needs the package {package} (pip install {package}); or name a "
            "folder of data (SAS_DATA)"
        ) from error


# --- plain text -----------------------------------------------------------------------


def text(name: str, part: str = "train", min_words: int = 3) -> Iterator[str]:
    """Yield the sentences of a named text, cleaned; those of fewer words are left out.

    name: ``wikitext-103``. part: ``train``, ``validation`` or ``test``. In a folder of data
    its files have their original names, ``wikitext-103-raw/wiki.train.raw`` and so on.

    Raises:
        DownloadError: no such name or part, it cannot be had, or it is cut short.
    """
    if name != WIKITEXT or part not in ROWS:
        parts = ", ".join(f"{WIKITEXT}/{each}" for each in ROWS)
        raise DownloadError(f"no text {name}/{part}; there are {parts}")
    given = _given_folder(name)
    rows = _wikitext_file(given, part) if given else _wikitext_hub(part)
    return _sentences(rows, part, min_words)


def is_text(given: str | os.PathLike[str]) -> bool:
    """Whether this names a text (``wikitext-103``, ``wikitext-103/validation``) and no file."""
    path = Path(given)
    return path.as_posix().partition("/")[0] == WIKITEXT and not path.exists()


def _wikitext_file(folder: Path, part: str) -> Iterable[str]:
    end = {"validation": "valid"}.get(part, part)
    path = folder / "wikitext-103-raw" / f"wiki.{end}.raw"
    if not path.is_file():
        raise DownloadError(
            f"no {WIKITEXT} in the folder of data: there is no {path}; put it there, or unset "
            "SAS_DATA to fetch it"
        )
    return _lines(path)


def _lines(path: Path) -> Iterator[str]:
    try:
        with open(path, encoding="utf-8") as lines:
            yield from lines
    except UnicodeDecodeError as error:
        raise DownloadError(f"{path} is no UTF-8 text ({error}); copy it again") from error


def _wikitext_hub(part: str) -> Iterable[str]:
    datasets = _optional("datasets", WIKITEXT)
    try:
        rows = datasets.load_dataset(HUB, f"{WIKITEXT}-raw-v1", revision=REVISION, split=part)
    except (OSError, ValueError, RuntimeError) as error:
        raise DownloadError(
            f"cannot fetch {WIKITEXT} ({HUB} at {REVISION[:12]}) from the Hugging Face hub "
            f"({error}); try again, or name a folder that has it (SAS_DATA)"
        ) from error
    return (row["text"] for row in rows)


def _sentences(rows: Iterable[str], part: str, min_words: int) -> Iterator[str]:
    count = 0
    for count, row in enumerate(rows, start=1):  # noqa: B007  (read below)
        for sentence in split_sentences(clean_wikitext(row)):
            if sentence.count(" ") >= min_words - 1:
                yield sentence
    if count != ROWS[part]:
        raise DownloadError(
            f"{WIKITEXT}/{part} has {count:,} lines where it should have {ROWS[part]:,}: it is "
            "cut short or another version; fetch or copy it again"
        )


_HEADING = re.compile(r"\s*=( =)* .* =( =)*\s*")
# In this order: its marks of joints, quotation marks, and the spaces around punctuation.
_MENDED = [
    (re.compile(r" ?@([-,.])@ ?"), r"\1"),
    (re.compile(r'(^| )" ([^"]+) "(?= |$)'), r'\1"\2"'),
    (re.compile(r" ([,.;:!?%)\]])"), r"\1"),
    (re.compile(r"([(\[]) "), r"\1"),
    (re.compile(r" (['’](?:s|t|re|ve|ll|d|m))\b"), r"\1"),
]


def clean_wikitext(line: str) -> str:
    """A line of WikiText as it was before it was cut into tokens; a heading becomes empty.

    "a role @-@ playing game ( 1 @,@ 000 copies ) ." becomes "a role-playing game
    (1,000 copies)."
    """
    if _HEADING.fullmatch(line):
        return ""
    line = " ".join(line.split())
    for pattern, replacement in _MENDED:
        line = pattern.sub(replacement, line)
    return line
