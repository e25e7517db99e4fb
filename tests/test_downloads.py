"""Public data by name: from a server on this machine, from a folder, and what goes wrong."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sas_lib import downloads
from sas_lib.downloads import DownloadError, clean_wikitext, fetch, path_or_name, text

pooch = pytest.importorskip("pooch")

DEV = b"# a treebank for development\n"
PAIRS = {f"pairs_{letter}.jsonl": f'{{"{letter}": 1}}\n'.encode() for letter in "abc"}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Server:
    """Serves ``files`` by path; a name in ``cut`` is broken off in the middle."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(name := self.path.strip("/"))
                if name not in outer.files:
                    self.send_error(404)
                    return
                content = outer.files[name]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if name in outer.cut else content)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A public host with two data sets, and an empty cache."""
    server = Server()
    server.files = {"en_ewt-ud-dev.conllu": DEV, **PAIRS}
    for name, files in (("ewt", {"en_ewt-ud-dev.conllu": DEV}), ("blimp", PAIRS)):
        known = {file: sha(content) for file, content in files.items()}
        entry = downloads.REGISTRY[name] | {"url": server.url, "files": known}
        monkeypatch.setitem(downloads.REGISTRY, name, entry)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache" / project)
    monkeypatch.setattr(pooch.core.time, "sleep", lambda seconds: None)  # between its tries
    monkeypatch.delenv("SAS_DATA", raising=False)
    yield server
    server.stop()


def test_the_registry_names_every_file_at_a_commit(sas_data: Path) -> None:
    """Against the real files: each is there, and no other."""
    for name, entry in downloads.REGISTRY.items():
        assert re.search(r"/[0-9a-f]{40}/", entry["url"]) and entry["url"].endswith("/")
        folder = sas_data / entry["folder"]
        there = {p.name: sha(p.read_bytes()) for p in folder.iterdir() if p.suffix != ".txt"}
        assert entry["files"] == there, name
    assert [len(entry["files"]) for entry in downloads.REGISTRY.values()] == [3, 67]
    for part in ("train", "dev", "test"):
        assert fetch("ewt", part) == sas_data / "ud_ewt" / f"en_ewt-ud-{part}.conllu"
    assert fetch("blimp") == sas_data / "blimp" / "data"


# --- from the net ---------------------------------------------------------------------


def test_files_are_fetched_once_and_kept(server: Server, tmp_path: Path) -> None:
    path = fetch("ewt")
    assert path == tmp_path / "cache" / "sas-lib" / "ud_ewt" / "en_ewt-ud-dev.conllu"
    assert path.read_bytes() == DEV and fetch("ewt", "dev") == path
    folder = fetch("blimp")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == PAIRS
    assert server.asked == ["en_ewt-ud-dev.conllu", *PAIRS]
    server.stop()  # and now without a network
    assert fetch("ewt") == path and fetch("blimp") == folder
    assert fetch("blimp", "pairs_b").read_bytes() == PAIRS["pairs_b.jsonl"]


def test_one_paradigm_alone_is_fetched(server: Server) -> None:
    assert fetch("blimp", "pairs_c").read_bytes() == PAIRS["pairs_c.jsonl"]
    assert server.asked == ["pairs_c.jsonl"]


def test_a_kept_file_that_was_changed_is_fetched_again(server: Server) -> None:
    path = fetch("ewt")
    path.write_bytes(b"scribbled over")
    assert fetch("ewt") == path and path.read_bytes() == DEV


@pytest.mark.parametrize("fault", ["checksum", "cut", "missing", "network"])
def test_what_cannot_be_fetched_is_named_and_leaves_nothing(
    server: Server, tmp_path: Path, fault: str
) -> None:
    says = "SHA256"
    if fault == "checksum":
        server.files["pairs_b.jsonl"] = b"another file\n"
    elif fault == "cut":
        server.cut, says = {"pairs_b.jsonl"}, "IncompleteRead|hash|SHA256"
    elif fault == "missing":
        del server.files["pairs_b.jsonl"]
        says = "404"
    else:
        server.stop()
        says = "refused"
    with pytest.raises(
        DownloadError, match=rf"(?s)cannot fetch {server.url}pairs_.*({says})"
    ) as e:
        fetch("blimp")
    assert "try again" in str(e.value) and "SAS_DATA" in str(e.value)
    kept = [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert kept == ([] if fault == "network" else ["pairs_a.jsonl"]), "whole files alone"


def test_without_pooch_it_is_said_what_to_install(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pooch", None)
    with pytest.raises(
        DownloadError, match=r"fetching ewt needs .*pip install pooch.*SAS_DATA"
    ):
        fetch("ewt")


@pytest.mark.parametrize(
    ("name", "part", "says"),
    [
        ("penn", None, r"no data set 'penn'; there are ewt, blimp"),
        ("ewt", "de", r"ewt has no part 'de': no en_ewt-ud-de.conllu among en_ewt-ud-dev"),
        ("blimp", "islands", r"blimp has no part 'islands': no islands.jsonl among pairs_a"),
    ],
)
def test_names_that_are_not_known(server: Server, name: str, part: str, says: str) -> None:
    with pytest.raises(DownloadError, match=says):
        fetch(name, part)
    assert server.asked == []


# --- from a folder --------------------------------------------------------------------


@pytest.fixture
def folder(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of data, with the treebank alone."""
    (tmp_path / "data" / "ud_ewt").mkdir(parents=True)
    (tmp_path / "data" / "ud_ewt" / "en_ewt-ud-dev.conllu").write_bytes(DEV)
    monkeypatch.setenv("SAS_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_folder_of_data_is_used_and_nothing_fetched(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "ud_ewt" / "en_ewt-ud-dev.conllu"
    assert fetch("ewt") == path
    with pytest.raises(
        DownloadError, match=r"there is no .*blimp/data/pairs_a.jsonl.*SAS_DATA"
    ):
        fetch("blimp")
    path.write_bytes(DEV[:-1])
    with pytest.raises(DownloadError, match=rf"{path} is not the file .*cut short.*SAS_DATA"):
        fetch("ewt")
    monkeypatch.setenv("SAS_DATA", str(folder / "none"))
    with pytest.raises(DownloadError, match=r"SAS_DATA names .*none, which is no folder"):
        fetch("ewt")
    assert server.asked == []


def test_a_path_goes_before_a_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = folder / "ud_ewt" / "en_ewt-ud-dev.conllu"
    monkeypatch.chdir(tmp_path)
    assert path_or_name("ewt") == path_or_name(Path("ewt/dev")) == dev
    with pytest.raises(DownloadError, match="no part 'best'"):
        path_or_name("ewt/best")
    assert path_or_name("other.conllu") == Path("other.conllu"), "to be missed by its reader"
    (tmp_path / "ewt").touch()
    assert path_or_name("ewt") == Path("ewt")


# --- plain text -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        (" = Heading of an article = \n", ""),
        (" = = A section : of it = = \n", ""),
        (" = = = Below = = = \n", ""),
        ("\n", ""),
        (" A role @-@ playing game . \n", "A role-playing game."),
        (" It sold 1 @,@ 000 @.@ 5 copies \n", "It sold 1,000.5 copies"),
        (" A ( so - called ) thing ; it is . \n", "A (so - called) thing; it is."),
        (' He said , " Go on . " Then " no " . \n', 'He said, "Go on." Then "no".'),
        (" The cat 's tail didn 't move . \n", "The cat's tail didn't move."),
        (' An odd " mark . \n', 'An odd " mark.'),
        (" x = y + 1 is no heading = \n", "x = y + 1 is no heading ="),
    ],
)
def test_the_marks_of_wikitext_are_undone(line: str, clean: str) -> None:
    assert clean_wikitext(line) == clean


WIKITEXT = """ = Dogs = 

 Dogs bark at well @-@ known cats . They ( mostly ) mean it . Yes . 

 = = Tails = = 

 A tail is 1 @.@ 5 dm long . 
"""  # noqa: W291
SENTENCES = [
    "Dogs bark at well-known cats.",
    "They (mostly) mean it.",
    "A tail is 1.5 dm long.",
]


def test_wikitext_is_read_from_a_folder_of_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(downloads.ROWS, "validation", 7)
    with pytest.raises(DownloadError, match=r"there is no .*wikitext-103-raw/wiki.valid.raw"):
        text("wikitext-103", "validation")
    raw = folder / "wikitext-103-raw" / "wiki.valid.raw"
    raw.parent.mkdir()
    raw.write_text(WIKITEXT)
    assert list(text("wikitext-103", "validation")) == SENTENCES
    assert list(text("wikitext-103", "validation", min_words=5)) == [SENTENCES[0], SENTENCES[2]]
    raw.write_text(WIKITEXT[: WIKITEXT.rindex(" A tail")])
    with pytest.raises(DownloadError, match=r"validation has 6 lines .* have 7: .*cut short"):
        list(text("wikitext-103", "validation"))
    raw.write_bytes(WIKITEXT.encode() + b"\xff\n")
    with pytest.raises(DownloadError, match=r"wiki.valid.raw is no UTF-8"):
        list(text("wikitext-103", "validation"))


def test_wikitext_is_read_from_the_hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library that fetches it has a stand-in; the real one is given what it is given."""
    import datasets

    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def load_dataset(*arguments: Any, **options: Any) -> list[dict[str, str]]:
        asked.append((arguments, options))
        return [{"text": line} for line in WIKITEXT.splitlines(keepends=True)]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setitem(downloads.ROWS, "train", 7)
    assert list(text("wikitext-103")) == SENTENCES
    options = {"revision": downloads.REVISION, "split": "train"}
    assert asked == [(("Salesforce/wikitext", "wikitext-103-raw-v1"), options)]
    monkeypatch.setitem(downloads.ROWS, "train", 8)
    with pytest.raises(DownloadError, match=r"train has 7 lines where it should have 8"):
        list(text("wikitext-103"))

    def no_network(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", no_network)
    with pytest.raises(DownloadError, match=r"cannot fetch wikitext-103 .*no route.*SAS_DATA"):
        text("wikitext-103")


@pytest.mark.parametrize("given", [("wikitext-2",), ("wikitext-103", "dev"), ("ewt", "train")])
def test_texts_that_are_not_known(given: tuple[str, ...]) -> None:
    with pytest.raises(DownloadError, match="there are wikitext-103/train, wikitext-103/val"):
        text(*given)


def test_a_file_of_that_name_is_no_named_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["wikitext-103", "wikitext-103/test", "wikitext.txt"]
    assert [downloads.is_text(name) for name in names] == [True, True, False]
    Path("wikitext-103").touch()
    assert not downloads.is_text("wikitext-103")
