"""The reference pages: nothing public is left out, and what is typed by hand hangs together."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from conftest import Sas
from test_house import CONFIG, FLOORS, MODULES, ROOT, TOC, load

BOOK = ROOT / "book"
API = (BOOK / "api.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^## \d\. ", API, flags=re.MULTILINE)[1:]  # one a floor
EXTENSION = load(BOOK / "_ext" / "reference.py")


def read(name: str) -> str:
    return (BOOK / name).read_text(encoding="utf-8")


def page_of(section: str) -> str:
    """The page of a floor that a section of api.md leads to."""
    found = re.search(r"\{doc\}`(api/\w+)`", section)
    assert found, f"no link to a page in: {section[:40]}"
    return f"{found[1]}.md"


# --- the library ------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(FLOORS)), ids=lambda number: f"floor-{number + 1}")
def test_every_module_is_documented_on_its_floor(number: int) -> None:
    here = {path.stem for path in MODULES} & FLOORS[number]
    page = page_of(SECTIONS[number])
    listed = re.findall(r"^sas_lib\.(\w+)$", SECTIONS[number], re.MULTILINE)
    documented = re.findall(r"^\.\. automodule:: sas_lib\.(\w+)$", read(page), re.MULTILINE)
    headings = re.findall(r"^## (\w+)$", read(page), re.MULTILINE)
    assert len(SECTIONS) == len(FLOORS)
    assert sorted(listed) == sorted(here), "book/api.md: wrong modules on this floor"
    assert sorted(documented) == sorted(here), f"book/{page}: wrong modules on this floor"
    assert headings == documented, f"book/{page}: a heading for each module, in order"


@pytest.mark.parametrize("package", [path for path in MODULES if path.is_dir()], ids=str)
def test_every_module_of_a_package_is_listed(package: Path) -> None:
    inner = {path.stem for path in package.glob("*.py")} - {"__init__"}
    pages = "".join(read(page_of(section)) for section in SECTIONS)
    listed = re.findall(rf"^sas_lib\.{package.stem}\.(\w+)$", pages, re.MULTILINE)
    assert sorted(listed) == sorted(inner)


def test_parameters_in_a_docstring_become_a_list() -> None:
    text = (
        "Count what there is.\n\nsteps: where to look; any order, say seed: 1, 2. low, high "
        "(open):\nthe ends. Note: both count. seed: of the draws. Returns how many: a number."
        "\n\n    seed: an example\n\nRaises:\n    ValueError: steps: there are none."
    )
    assert EXTENSION.list_parameters(text, {"steps", "low", "high", "seed"}) == (
        "Count what there is.\n\n"
        "- ``steps``: where to look; any order, say seed: 1, 2.\n"
        "- ``low, high (open)``: the ends. Note: both count.\n"
        "- ``seed``: of the draws.\n\n"
        "Returns how many: a number.\n\n"
        "    seed: an example\n\n"
        "Raises:\n    ValueError: steps: there are none."
    )
    assert EXTENSION.list_parameters(text, {"other"}) == text
    assert EXTENSION.list_parameters(text, set()) == text


def test_the_reference_pages_are_in_the_contents() -> None:
    entries = [entry for part in TOC["parts"] for entry in part["chapters"]]
    files = {e["file"] for entry in entries for e in [entry, *entry.get("sections", [])]}
    names = {"api", "glossary", "notation", "changelog", "contributing"}
    names |= {page_of(section).removesuffix(".md") for section in SECTIONS}
    assert {f"book/{name}" for name in names} <= files


# --- the command line, in a book of one page --------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> BeautifulSoup:
    """A page with both directives and a documented module, built with warnings as errors."""
    root = tmp_path_factory.mktemp("pages")
    (root / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(BOOK / '_ext')!r})\n"
        "extensions = ['myst_parser', 'reference']\n"
        "nitpick_ignore_regex = [('py:class', 'collections[.]abc[.].*')]\n"
    )
    (root / "index.md").write_text(
        "# Reference\n\n```{sas-help}\n```\n\n## interrupts\n\n"
        "```{module-lines}\nsas_lib.interrupts\nsas_lib.cli.pll\n```\n\n"
        "```{eval-rst}\n.. automodule:: sas_lib.interrupts\n   :members:\n```\n"
    )
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "-q", str(root), str(root / "out")]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return BeautifulSoup((root / "out" / "index.html").read_text("utf-8"), "html.parser")


def commands(sas: Sas, *path: str) -> list[tuple[str, ...]]:
    """The commands as a user finds them, by asking for help."""
    _, found, listed = sas(*path, "--help").out.partition("\nCommands:\n")
    names = re.findall(r"^  ([\w-]+)", listed, re.MULTILINE)
    return [c for name in names for c in commands(sas, *path, name)] if found else [path]


def test_every_command_is_on_the_page_with_its_options(sas: Sas, page: BeautifulSoup) -> None:
    found = commands(sas)
    assert ("toy", "pairs") in found and ("uas",) in found
    headings = [h.get_text().rstrip("¶#") for h in page.select("h2")]
    assert headings == [" ".join(["sas", *path]) for path in found] + ["interrupts"]
    for path in found:
        section = page.find(id="-".join(["sas", *path]))
        terms = " ".join(term.get_text() for term in section.select("dt"))
        out = sas(*path, "--help").out
        for option in set(re.findall(r"^  (--[\w-]+)", out, re.MULTILINE)) - {"--help"}:
            assert re.search(rf"(^| ){option}( |$)", terms), f"{path}: no {option}"
        examples = re.findall(r"^ +((?:sas|torchrun|accelerate) .+)", out, re.MULTILINE)
        code = "\n".join(block.get_text() for block in section.select("pre"))
        for example in examples:
            assert example in code, f"{path}: no example {example!r}"
        assert not re.search("Examples?:", section.get_text())
    assert "–" not in page.get_text(), "an option has lost its two hyphens"


def test_what_the_help_says_is_on_the_page(page: BeautifulSoup) -> None:
    section = page.find(id="sas-pretrain")
    assert "Train a small BERT from nothing" in section.get_text()
    meaning = {
        term.get_text(): term.find_next("dd").get_text() for term in section.select("dt")
    }
    assert meaning["--seed <int>"].split() == (
        "Seed: the same seed gives the same output. [default: 0]".split()
    )


def test_modules_are_listed_with_their_first_line(page: BeautifulSoup) -> None:
    listed = page.find(id="interrupts").select("li")
    assert [item.get_text() for item in listed[:2]] == [
        "interrupts: Ctrl-C at a time of our choosing",
        "pll: sas pll: the pseudo-log-likelihood of sentences",
    ]
    assert listed[0].a["href"] == "#module-sas_lib.interrupts" and not listed[1].a


def test_a_module_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"sas_lib\.nothing"):
        EXTENSION.first_line("sas_lib.nothing")


# --- the glossary -----------------------------------------------------------------------


def glossary() -> dict[str, str]:
    """The entries: the terms of each, in one line, and what stands under them."""
    body = read("glossary.md").partition("```{glossary}\n")[2].rpartition("```")[0]
    found = re.findall(r"((?:^\S.*\n)+)((?:^(?:  .*)?\n)+)", body, re.MULTILINE)
    assert "".join(term + text for term, text in found) == body
    return {term.strip().replace("\n", ", "): text for term, text in found}


ENTRIES = glossary()
TERMS = [term for terms in ENTRIES for term in terms.split(", ")]


def test_the_glossary_is_in_order_and_names_nothing_twice() -> None:
    assert 60 <= len(ENTRIES) <= 120
    first = [terms.split(", ")[0].lower().replace("-", " ") for terms in ENTRIES]
    assert first == sorted(first)
    assert len({term.lower() for term in TERMS}) == len(TERMS)


@pytest.mark.parametrize("terms", ENTRIES)
def test_an_entry_has_a_definition_and_three_languages(terms: str) -> None:
    definition, rest = ENTRIES[terms].strip().split("\n\n")
    assert definition[0].isupper() and definition.endswith((".", ".)"))
    assert 1 <= len(re.findall(r"[.?!](?=\s|$)", definition)) <= 4
    assert re.search(r"\*(Chapter|Used in):\* \S", rest)
    # Characters that no Japanese, or no simplified Chinese, text has are not in these codes.
    for language, tag, code in (("Japanese", "ja", "cp932"), ("Chinese", "zh-Hans", "gb2312")):
        given = re.search(rf"\*{language}:\* (.*?)\.(?: \*|$)", rest)
        assert given, f"{terms}: {language} is missing"
        if given[1] != "no settled term":
            span = re.fullmatch(rf'<span lang="{tag}">(.+)</span>', given[1])
            assert span, f"{terms}: {given[1]}"
            assert span[1].encode(code)


def pages() -> dict[str, str]:
    """The prose of the book, by file."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in BOOK.rglob("*.md")}
    for path in BOOK.glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        prose = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
        texts[path.name] = "\n\n".join(prose)
    return texts


def test_every_term_that_is_referred_to_is_in_the_glossary() -> None:
    for name, text in pages().items():
        for target in re.findall(r"\{term\}`(?:[^`<]*<)?([^`>]+)>?`", text):
            assert target in TERMS, f"{name}: {{term}}`{target}` is not in the glossary"


# --- the notation -----------------------------------------------------------------------


def symbols() -> list[list[str]]:
    """The rows of the tables of symbols: the symbol, and what it means."""
    tables = re.findall(r"^\| Symbol .*\n\|[-|]+\n((?:\|.*\n)+)", read("notation.md"), re.M)
    rows = "".join(tables).splitlines()
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def letters(formula: str) -> set[str]:
    """The letters of a formula, Latin and Greek; the words in it left out."""
    plain = re.sub(r"\\(text|operatorname|mathcal|mathbb)\b( ?\{[^}]*\})?", " ", formula)
    greek = set(re.findall(r"\\(lambda|Delta|sigma|ell|gamma|mu|theta)(?![a-z])", plain))
    return greek | set(
        re.findall(r"(?<![\w\\])[A-Za-z](?![A-Za-z])", re.sub(r"[_^]", " ", plain))
    )


def test_every_symbol_is_listed_once() -> None:
    rows = symbols()
    assert len(rows) > 50
    for row in rows:  # the meaning, and then shape, range or unit
        assert len(row) == 2 and re.fullmatch(r"\S.*\. \*\S[^*]*\*", row[1]), row
    assert [symbol for symbol, n in Counter(row[0] for row in rows).items() if n > 1] == []


def test_no_symbol_of_a_chapter_is_missing() -> None:
    explained = set().union(*(letters(row[0]) for row in symbols()))
    for name, text in pages().items():
        for formula in re.findall(r"\$\$(.+?)\$\$|\$([^$\n]+)\$", text, re.DOTALL):
            missing = letters("".join(formula)) - explained
            assert not missing, f"{name}: book/notation.md lacks {missing} of {formula}"


def test_names_in_the_notation_are_names_of_the_library() -> None:
    source = "".join(path.read_text() for path in (ROOT / "sas_lib").rglob("*.py"))
    for _, meaning in symbols():
        for name in re.findall(r"(?<!\})`(\w+)`", meaning):
            assert re.search(rf"\b{name}\b", source), f"{name} is not in the library"


# --- contributing -----------------------------------------------------------------------


def test_the_commands_that_contributors_are_told_of_are_those_of_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):.*##", makefile, re.MULTILINE)) - {"help"}
    told = re.findall(r"(?:^|`)make ([a-z]+)", read("contributing.md"), re.MULTILINE)
    assert set(told) == targets


@pytest.mark.parametrize("name", ["contributing.md", "changelog.md", "glossary.md", "api.md"])
def test_the_address_is_not_typed(name: str) -> None:
    assert CONFIG["repository"]["url"] not in read(name)


def test_files_that_contributors_are_told_of_exist() -> None:
    for name in re.findall(
        r"`((?:book|tests|sas_lib|\.ci|\.github)/[\w./]+)`", read("contributing.md")
    ):
        if "NAME" not in name:
            assert (ROOT / name).exists(), name
