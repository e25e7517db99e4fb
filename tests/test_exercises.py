"""The exercise cards of the chapters, read from the notebooks; no chapter is executed.

That the folded solutions are right is seen when the book is built: each asserts that its own
check says so, and an error ends the build.
"""

from __future__ import annotations

import ast
import builtins
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import MagicMock

import pytest
from test_house import CONFIG, ROOT, TOC

# Parts 1 to 5; what follows them are records of runs and appendices.
CHAPTERS = [entry["file"] for part in TOC["parts"][:5] for entry in part["chapters"]]
CARD = re.compile(r"```\{exercise\} \S.*\n:label: (\S+)\n(.+)\n\n((?:.+\n+?)+)```")
EFFORT = re.compile(
    r"\*Difficulty\* (?:●○○|●●○|●●●) &nbsp; \*Time\* \d+ minutes(?:, most of it waiting)?"
)
HINT = re.compile(r"```\{dropdown\} Hint\n\S.{15}")
EXPERIMENT = re.compile(r"\bsmall experiment\b", re.IGNORECASE)


@dataclass(frozen=True)
class Card:
    """An exercise, and the cells from it to the next text."""

    text: str
    label: str
    cells: list[dict[str, Any]]

    def tagged(self, tag: str) -> list[str]:
        """The sources of the cells with a tag; "" for those without any."""
        return [
            "".join(cell["source"])
            for cell in self.cells
            if tag in (cell["metadata"].get("tags") or [""])
        ]

    @property
    def check(self) -> ast.FunctionDef:
        (source,) = self.tagged("hide-input")
        (function,) = (
            node
            for node in ast.parse(source).body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
        )
        return function


def cards_of(chapter: str) -> Iterator[Card]:
    cells = json.loads((ROOT / f"{chapter}.ipynb").read_text("utf-8"))["cells"]
    for number, cell in enumerate(cells):
        text = "".join(cell["source"])
        if cell["cell_type"] != "markdown" or "{exercise}" not in text:
            continue
        following = []
        for later in cells[number + 1 :]:
            if later["cell_type"] == "markdown":
                break
            following.append(later)
        label = re.search(r":label: (\S+)", text)
        yield Card(text, label[1] if label else "?", following)


CARDS = {chapter: list(cards_of(chapter)) for chapter in CHAPTERS}
EVERY = [
    pytest.param(card, id=f"{chapter.removeprefix('book/')}: {card.label}")
    for chapter, cards in CARDS.items()
    for card in cards
]


def names_called(node: ast.AST) -> set[str]:
    calls = (n for n in ast.walk(node) if isinstance(n, ast.Call))
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_three_to_five_exercises(chapter: str) -> None:
    assert 3 <= len(CARDS[chapter]) <= 5


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_asks_for_a_small_experiment(chapter: str) -> None:
    found = [card.label for card in CARDS[chapter] if EXPERIMENT.search(card.text)]
    assert found, f"{chapter}: say in a card that it is a small experiment, or add one"


def test_labels_are_unique_in_the_book() -> None:
    labels = Counter(card.label for cards in CARDS.values() for card in cards)
    assert [label for label, count in labels.items() if count > 1] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_labels_begin_with_the_name_of_their_chapter(chapter: str) -> None:
    assert len({card.label.partition("-")[0] for card in CARDS[chapter]}) == 1


@pytest.mark.parametrize("card", EVERY)
def test_a_card_has_a_title_difficulty_minutes_a_task_and_a_hint(card: Card) -> None:
    assert card.text.count("{exercise}") == 1
    found = CARD.search(card.text)
    assert found, "title, :label:, a line of difficulty and time, an empty line, the task"
    assert EFFORT.fullmatch(found[2]), found[2]
    assert len(found[3].split()) >= 15, "the task"
    assert HINT.search(card.text)


@pytest.mark.parametrize("card", EVERY)
def test_check_answer_and_solution_follow_in_this_order(card: Card) -> None:
    tags = [(cell["metadata"].get("tags") or [""])[0] for cell in card.cells]
    assert [tag for tag in tags if tag] == ["hide-input", "hide-cell"], tags
    assert tags[-1] == "hide-cell" and tags[-2] == "", "the reader's cell stands between"
    answer = "".join(card.cells[-2]["source"])
    assert names_called(ast.parse(answer)) == {card.check.name}
    assert re.search(r"#.*\S", answer), "a comment says where the answer goes"


@pytest.mark.parametrize("card", EVERY)
def test_the_solution_asserts_that_its_check_is_content(card: Card) -> None:
    (solution,) = card.tagged("hide-cell")
    tree = ast.parse(solution)
    reports = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and card.check.name in names_called(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    asserted = [node.test for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    content = [
        test
        for test in asserted
        if card.check.name in names_called(test)
        or reports & {n.id for n in ast.walk(test) if isinstance(n, ast.Name)}
    ]
    assert content, f"no assert about {card.check.name}(...)"
    assert any(re.search(r"Right|Well formed", ast.unparse(test)) for test in content)


def test_an_error_in_a_solution_ends_the_build() -> None:
    assert CONFIG["execute"]["raise_on_error"] is True
    for cards in CARDS.values():
        for cell in (cell for card in cards for cell in card.cells):
            unwanted = {"raises-exception", "skip-execution", "remove-cell"}
            assert not unwanted & set(cell["metadata"].get("tags") or [])


def messages(node: ast.expr) -> Iterator[str]:
    """What an expression may come out as, its computed parts as "_"."""
    if isinstance(node, ast.IfExp):
        yield from messages(node.body)
        yield from messages(node.orelse)
    elif isinstance(node, ast.BinOp):
        for left in messages(node.left):
            yield from (left + right for right in messages(node.right))
    elif isinstance(node, ast.JoinedStr):
        yield "".join(v.value if isinstance(v, ast.Constant) else "_" for v in node.values)
    else:
        yield str(node.value) if isinstance(node, ast.Constant) else "_"


@pytest.mark.parametrize("card", EVERY)
def test_a_check_says_what_is_wrong_and_not_only_that_it_is(card: Card) -> None:
    returned = [n.value for n in ast.walk(card.check) if isinstance(n, ast.Return) and n.value]
    said = {message for value in returned for message in messages(value)}
    content = {m for m in said if m.startswith(("Right", "Well formed"))}
    missing = {m for m in said if m.startswith("Not yet")}
    wrong = said - content - missing
    assert content and missing and wrong, said
    for message in wrong:
        assert len(message.split()) >= 6, f"more than {message!r} would help"


@pytest.mark.parametrize("card", EVERY)
def test_without_an_answer_a_check_says_what_to_give(card: Card) -> None:
    """Only the check's own lines are run; what it knows of the chapter is a stand-in."""
    function = card.check
    required = len(function.args.args) - len(function.args.defaults)
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    known: dict[str, Any] = {name: MagicMock() for name in used - set(dir(builtins))}
    source = f"from __future__ import annotations\n{ast.unparse(function)}"
    exec(compile(source, card.label, "exec"), known)
    said = known[function.name](*[None] * required)
    assert said.startswith("Not yet: ") and said.endswith(".")
