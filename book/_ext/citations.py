"""Sphinx extension: each reference can be linked to and copied.

Its address ends in its key in references.bib (references.html#chen2024sudden), and under it
its BibTeX entry is folded away, with the button that copies it.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx


def add_entries(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Give each reference on a page its key as an anchor, and its BibTeX entry."""
    cited = {c.citation_id: c for c in app.env.get_domain("cite").citations}
    for node in doctree.findall(nodes.citation):
        if citation := cited.get(node["ids"][0]):
            node["ids"].append(citation.key)
            bibtex = citation.entry.to_string("bibtex").strip()
            summary = f'<details class="bibtex"><summary>BibTeX {citation.key}</summary>'
            node += [
                nodes.raw("", summary, format="html"),
                nodes.literal_block(bibtex, bibtex, language="bibtex"),
                nodes.raw("", "</details>", format="html"),
            ]


def setup(app: Sphinx) -> dict[str, bool]:
    app.setup_extension("sphinxcontrib.bibtex")
    app.connect("doctree-resolved", add_entries)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
