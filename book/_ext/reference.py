"""Sphinx extension: reference pages that are made from the code and never typed.

`sas-help` writes out what each command of the command line says of itself under `--help`,
with a heading for each command. `module-lines` lists modules with the first sentence of
their docstrings. The docstrings themselves are autodoc's; before it lays them out, the
descriptions of parameters in them ("steps: where to look. seed: of the draws.") become a list.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# --- the command line -----------------------------------------------------------------


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands of a Typer application, those of its groups included."""
    if not hasattr(command, "commands"):
        yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


class SasHelp(SphinxDirective):
    """`{sas-help}`: a section for each command of `sas`."""

    def run(self) -> list[nodes.Node]:
        import typer

        from sas_lib import cli

        for file in sorted(Path(str(cli.__file__)).parent.glob("*.py")):
            self.env.note_dependency(str(file))
        found = commands(typer.main.get_command(cli.app), ("sas",))
        return [self.section(" ".join(path), command) for path, command in found]

    def section(self, name: str, command: Any) -> nodes.section:
        context = command.context_class(command, info_name=name)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        section = nodes.section("", nodes.title("", "", nodes.literal("", name)))
        section["ids"] = [nodes.make_id(name)]
        section["names"] = [nodes.fully_normalize_name(name)]
        self.state.document.note_implicit_target(section, section)
        section += code(usage, "text")
        section += described(command.help)
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            records = [
                parameter.get_help_record(context)
                for parameter in command.get_params(context)
                if parameter.param_type_name == kind and "--help" not in parameter.opts
            ]
            if records := [record for record in records if record]:
                section += [nodes.paragraph("", "", nodes.strong("", title)), listed(records)]
        return section


def code(text: str, language: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language=language, classes=["command-line"])


def described(text: str) -> Iterator[nodes.Node]:
    """The paragraphs of a help text; the examples that it ends with as code."""
    for paragraph in inspect.cleandoc(text).replace("\b\n", "").split("\n\n"):
        start = re.match(r"Examples?:\s+", paragraph)
        if start:
            yield code(paragraph[start.end() :], "bash")
        else:
            yield nodes.paragraph("", "", *in_words(" ".join(paragraph.split())))


def in_words(text: str) -> Iterator[nodes.Node]:
    """Text with its options as code: smart quotes would make a dash of what they begin with."""
    for part in re.split(r"(--[a-z][a-z-]*)", text):
        yield nodes.literal("", part) if part.startswith("--") else nodes.Text(part)


def breakable(written: str) -> Iterator[nodes.Node]:
    """An option as it is written; a long list of choices may be broken after each."""
    first, *choices = written.split("|")
    yield nodes.Text(first)
    for choice in choices:
        yield nodes.Text("|")
        yield nodes.raw("", "<wbr>", format="html")
        yield nodes.Text(choice)


def listed(records: Iterable[tuple[str, str]]) -> nodes.definition_list:
    """Arguments or options: how each is written, and what it is for."""
    return nodes.definition_list(
        "",
        *(
            nodes.definition_list_item(
                "",
                nodes.term("", "", nodes.literal("", "", *breakable(written))),
                nodes.definition("", nodes.paragraph("", "", *in_words(meaning))),
            )
            for written, meaning in records
        ),
    )


# --- modules --------------------------------------------------------------------------


class ModuleLines(SphinxDirective):
    """`{module-lines}`: the modules named in its content, one a line, with their first line.

    Those of the library itself are linked to where they are documented; modules inside one
    of its packages are not.
    """

    has_content = True

    def run(self) -> list[nodes.Node]:
        lines = []
        for name in " ".join(self.content).split():
            file, line = first_line(name)
            self.env.note_dependency(file)
            *packages, short = name.split(".")
            link = f"{{py:mod}}`{short} <{name}>`" if len(packages) == 1 else f"`{short}`"
            lines.append(f"- {link}: {line}")
        return self.parse_text_to_nodes("\n".join(lines))


def first_line(module: str) -> tuple[str, str]:
    """The file of a module, and the first sentence of its docstring without the full stop.

    Raises:
        ModuleNotFoundError: there is no such module, or it has no docstring.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"module-lines: there is no module {module}")
    text = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    if not text:
        raise ModuleNotFoundError(f"module-lines: {module} has no docstring")
    paragraph = " ".join(text.partition("\n\n")[0].split())
    return spec.origin, re.split(r"\.(?:\s|$)", paragraph)[0]


# --- docstrings -----------------------------------------------------------------------


def parameter_names(documented: Any) -> set[str]:
    """The parameters of a function, or the fields of a dataclass."""
    if dataclasses.is_dataclass(documented):
        return {field.name for field in dataclasses.fields(documented)}
    try:
        return {name.strip("_") for name in inspect.signature(documented).parameters}
    except (TypeError, ValueError):
        return set()


def list_parameters(text: str, names: set[str]) -> str:
    """Make a list of a paragraph that describes parameters, each as "name: what it is".

    Parameters that are described together stay together ("low, high: the ends of it."). A
    sentence that begins with "Returns" ends the last description.
    """
    if not names:
        return text
    one = rf"(?:{'|'.join(sorted(map(re.escape, names), key=len, reverse=True))})"
    one += r"(?: \([^)]*\)| \[[^\]]*\])?"
    begins = re.compile(rf"(?:^|(?<=[.;)] ))({one}(?:, {one})*): ")
    paragraphs = []
    for paragraph in text.split("\n\n"):
        plain = " ".join(paragraph.split())
        if paragraph.startswith(" ") or not begins.match(plain):
            paragraphs.append(paragraph)
            continue
        plain, result = (*re.split(r"(?<=\.) (?=Returns )", plain, maxsplit=1), "")[:2]
        _, *parts = begins.split(plain)
        items = [
            f"- ``{name}``: {meaning.strip()}"
            for name, meaning in zip(parts[::2], parts[1::2], strict=True)
        ]
        paragraphs += ["\n".join(items), *([result] if result else [])]
    return "\n\n".join(paragraphs)


def read_docstring(
    app: Sphinx, what: str, name: str, documented: Any, options: Any, lines: list[str]
) -> None:
    if what in {"function", "method", "class", "exception"}:
        lines[:] = list_parameters("\n".join(lines), parameter_names(documented)).split("\n")
    elif what in {"attribute", "data", "property"}:
        # Napoleon takes what stands before a colon in the first line for a type; so let the
        # first line be an empty comment.
        lines[:0] = ["..", ""]


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    app.add_directive("sas-help", SasHelp)
    app.add_directive("module-lines", ModuleLines)
    # Before napoleon (500), which reads the sections such as "Raises:".
    app.connect("autodoc-process-docstring", read_docstring, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
