"""Type a sentence and see the implicit parse that an attention head makes of it.

Used in the chapter "The implicit parse".
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib import charts, runs, tree_figures, uas
from sas_lib.model import max_pieces, word_attention, word_batch
from sas_lib.treebank import Sentence
from sas_lib.widgets.front_end import Loaded, control, instead, ipywidgets, loaded, put

_WORD = re.compile(r"n't\b|\w+(?=n't\b)|'s\b|\w+(?:-\w+)*|[^\w\s]")


def words_of(text: str) -> tuple[str, ...]:
    """Plain English as words; punctuation, the 's of a possessor and n't stand alone."""
    return tuple(_WORD.findall(text.replace("’", "'")))


def sentence_problem(
    words: Sequence[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> str | None:
    """Why these words have no implicit parse in this model, and what to do; or None."""
    if not words:
        return "There is no sentence yet. Type one, such as: The old baker sang."
    if len(words) == 1:
        return "A single word has no other that it could hang on. Type two at least."
    cut = [tokenizer.tokenize(word) for word in words]
    strange = [w for w, p in zip(words, cut, strict=True) if not p or tokenizer.unk_token in p]
    if strange:
        named = ", ".join(f"“{word}”" for word in dict.fromkeys(strange))
        return f"The tokenizer of this model has no pieces for {named}: use other words."
    pieces, limit = sum(map(len, cut)), max_pieces(model)
    limit -= tokenizer.num_special_tokens_to_add()
    if pieces > limit:
        return f"{pieces} pieces are too many: this model takes {limit}. Shorten the sentence."
    return None


class ParseExplorer:
    """Type a sentence; choose checkpoint, layer, attention head and direction; see the parse.

    models: name to model and tokenizer. sentences: they are suggested, and drawn with their
    gold trees. start: the name of the model to begin with, by default the first.
    """

    def __init__(
        self,
        models: Mapping[str, Loaded],
        sentences: Iterable[Sentence] = (),
        start: str | None = None,
    ) -> None:
        self.models = dict(models)
        self.gold = {sentence.words: sentence for sentence in sentences}
        texts = [" ".join(words) for words in self.gold]
        ways = [(direction.replace("_", " "), i) for i, direction in enumerate(uas.DIRECTIONS)]
        first = texts[0] if texts else "The old baker sang."
        self.text = control(
            "Combobox", "sentence", value=first, options=texts, continuous_update=False
        )
        self.checkpoint = control(
            "SelectionSlider", "model", options=list(self.models), continuous_update=False
        )
        self.checkpoint.value = start or self.checkpoint.value
        self.layer = control("IntSlider", "layer", min=0, max=0, continuous_update=False)
        self.head = control(
            "IntSlider", "attention head", min=0, max=0, continuous_update=False
        )
        self.direction = control("Dropdown", "direction", options=ways)
        self.message, self.output = ipywidgets.HTML(), ipywidgets.Output()
        self.figure: charts.Figure | None = None
        controls = [self.text, self.checkpoint, self.layer, self.head, self.direction]
        self.view = ipywidgets.VBox([*controls, self.message, self.output])
        for chosen in controls:
            chosen.observe(self.update, "value")
        self.update()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.view)

    def update(self, _: object = None) -> None:
        """Draw what is chosen, or say why it cannot be drawn."""
        words = words_of(self.text.value)
        model, tokenizer = self.models[self.checkpoint.value]
        self.layer.max = model.config.num_hidden_layers - 1
        self.head.max = model.config.num_attention_heads - 1
        said, self.figure = sentence_problem(words, model, tokenizer), None
        if said is None:
            heads = self.predicted(words)
            said, self.figure = self.remarks(words, heads), self.draw(words, heads)
        self.message.value = html.escape(said)
        put(self.output, self.figure)

    def predicted(self, words: Sequence[str]) -> list[int]:
        """The heads that the chosen attention head predicts, in the chosen direction."""
        model, tokenizer = self.models[self.checkpoint.value]
        maps = list(word_attention(model, word_batch([words], tokenizer)))
        parse = uas.implicit_parse(maps[self.layer.value], [len(words)])
        heads: list[int] = parse[0, self.head.value, self.direction.value].tolist()
        return heads

    def draw(self, words: tuple[str, ...], heads: Sequence[int]) -> charts.Figure:
        """The parse as arcs below the words, and above them the gold tree if there is one."""
        told = [f"{word} on {words[head]}" for word, head in zip(words, heads, strict=True)]
        gold = self.gold.get(words)
        chart = tree_figures.tree(gold, heads) if gold else tree_figures.parse(words, heads)
        return charts.show(chart, alt=f"What each word hangs on: {', '.join(told)}.")

    def remarks(self, words: tuple[str, ...], heads: Sequence[int]) -> str:
        """How many arcs are right, where that is known; which words are cut in pieces."""
        said = []
        if gold := self.gold.get(words):
            arcs = zip(heads, gold.heads, gold.relations, strict=True)
            kinds = [tree_figures.kind_of_arc(*arc) for arc in arcs]
            right, wrong = kinds.count("right"), kinds.count("wrong")
            said.append(f"{right} of {right + wrong} arcs are right.")
        _, tokenizer = self.models[self.checkpoint.value]
        cut = {word: tokenizer.tokenize(word) for word in words}
        pieces = [f"{word} ({' '.join(p)})" for word, p in cut.items() if len(p) > 1]
        if pieces:
            said.append(f"Cut in pieces: {', '.join(pieces)}.")
        return " ".join(said)


def parse_explorer(
    models: Mapping[str, Loaded] | str,
    sentences: Iterable[Sentence] | None = None,
    start: str | None = None,
) -> Any:
    """A :class:`ParseExplorer`, or where there is no live kernel a sentence in its place.

    models: by name, or the name of a bundle that holds some. sentences: to begin with, by
    default some of toy English.

    Raises:
        results.BundleError: there is no such bundle.
    """
    if note := instead("type a sentence of your own and see what the models make of it"):
        return note
    suggested = runs.explored_sentences() if sentences is None else sentences
    return ParseExplorer(loaded(models), suggested, start)
