"""Sphinx extension: pages follow the library and the bundles, and say how these stand.

A chapter's outputs are kept in a cache that knows the chapter's code and nothing else. At
each build this extension works out what else the outputs come from (`freshness.chapter_key`)
and takes those chapters out of the cache for which it has changed, so that they, and only
they, are executed again. Each page that shows results says at its top which bundles they are
from and how these stand; that line is brought up to date without reading the page again. The
directive `bundle-status` makes a table of all bundles. On a page of a heavy notebook, the
parameters of the run are shown as a table.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import functools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import jinja2
import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from sas_lib import fingerprints, freshness, manifests

LOGGER = logging.getLogger(__name__)
TEMPLATES: Any = (
    jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    .get_template("freshness.jinja")
    .module
)


class Pages:
    """The extension's handlers, and what they know of a build."""

    def __init__(self, app: Sphinx) -> None:
        self.memory = Path(app.outdir).parent / ".freshness.json"
        self.keys: dict[str, str] = {}  # of each chapter when it was last executed
        self.said: dict[str, str] = {}  # by each page in the last build
        self.says: dict[str, str] = {}  # in this one
        with contextlib.suppress(OSError, ValueError, KeyError):
            before = json.loads(self.memory.read_text(encoding="utf-8"))
            self.keys, self.said = before["keys"], before["said"]

    def remember(self) -> None:
        part = self.memory.with_suffix(f".part{os.getpid()}")
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"keys": self.keys, "said": self.said}), encoding="utf-8")
        part.replace(self.memory)

    def forget_outdated(self, app: Sphinx, env: BuildEnvironment, *_: set[str]) -> list[str]:
        """Take chapters out of the cache whose outputs come from something that changed."""
        outdated = []
        for page, path in executed_notebooks(env):
            try:
                key = freshness.chapter_key(path)
            except ValueError as error:
                LOGGER.warning("%s", error, location=page)
                continue
            if self.keys.get(page) != key:
                forget(path, env.mystnb_config.execution_cache_path)
                self.keys[page] = key
                outdated.append(page)
        self.remember()
        return outdated

    def prepare(self, app: Sphinx, env: BuildEnvironment) -> list[str]:
        """Work out what each page is to say; returns those that said something else."""
        bundles = {s.name: describe(s, env) for s in freshness.check()}
        status = app.config.freshness_page
        for page, path in notebooks(env):
            label, shown = shown_on(page, path, bundles)
            if shown:
                there = status in env.found_docs
                uri = app.builder.get_relative_uri(page, status) if there else ""
                self.says[page] = TEMPLATES.line(label, [bundles[b] for b in shown], uri)
        if status in env.found_docs:
            uri_from = functools.partial(app.builder.get_relative_uri, status)
            self.says[status] = TEMPLATES.table(bundles.values(), uri_from)
        return [p for p in env.found_docs if self.said.get(p) != self.says.get(p)]

    def finish(self, app: Sphinx, error: Exception | None) -> None:
        if error is None:
            self.said = self.says
            self.remember()

    def draw(self, app: Sphinx, doctree: nodes.document, page: str) -> None:
        """Put the line, the table, and the parameters of a run into a page."""
        html = raw(self.says.get(page, ""))
        if page == app.config.freshness_page:
            for place in with_class(doctree, "bundle-status"):
                place.replace_self(html)
        elif page in self.says:
            section = next(doctree.findall(nodes.section), doctree)
            section.insert(1, html)  # under the title
        for cell in with_class(doctree, "tag_injected-parameters"):
            source = next(cell.findall(nodes.literal_block)).astext()
            with contextlib.suppress(ValueError):  # what is no list of literals stays
                values = list(fingerprints.assigned(ast.parse(source), page))
                cell.replace_self(raw(TEMPLATES.parameters(values)))


def notebooks(env: BuildEnvironment) -> Iterator[tuple[str, Path]]:
    """The notebooks of the book: the names of their pages, and their paths."""
    for page in sorted(env.found_docs):
        if (path := Path(env.doc2path(page))).suffix == ".ipynb":
            yield page, path


def executed_notebooks(env: BuildEnvironment) -> Iterator[tuple[str, Path]]:
    """Those among them that the build executes and caches."""
    config = env.mystnb_config
    for page, path in notebooks(env) if config.execution_mode == "cache" else ():
        plain = PurePosixPath(path.as_posix())
        if not any(plain.match(pattern) for pattern in config.execution_excludepatterns):
            yield page, path


def forget(path: Path, cache_path: str) -> None:
    """Take the outputs of a notebook, as it is now, out of the cache."""
    cache = get_cache(cache_path)
    with contextlib.suppress(KeyError):  # they are not there
        cache.remove_cache(cache.match_cache_notebook(nbformat.read(path, as_version=4)).pk)


def shown_on(
    page: str, path: Path, bundles: Mapping[str, Mapping[str, Any]]
) -> tuple[str, list[str]]:
    """The bundles whose numbers a page shows, and what to call them."""
    if made := [name for name, bundle in bundles.items() if bundle["page"] == page]:
        return "This notebook made the bundle", made
    used = freshness.bundles_used(path)
    return f"The results here come from the bundle{'s' * (len(used) > 1)}", used


def describe(standing: freshness.Standing, env: BuildEnvironment) -> dict[str, Any]:
    """What pages say of a bundle, in words."""
    try:
        manifest = manifests.read_manifest(standing.name) or {}
    except manifests.ManifestError:
        manifest = {}
    maker = freshness.makers().get(standing.name)
    by_hand = "hand" if not manifest.get("code") else "a command"
    profile = (manifest.get("notebook") or {}).get("parameters", {}).get("profile")
    copy = f"{maker}{'.gpu' * (profile == 'gpu')}.out"
    pages = [page for page in env.found_docs if PurePosixPath(page).name == copy]
    return {
        "name": standing.name,
        "state": standing.state,
        "reasons": standing.reasons,
        "unseen": not standing.data_checked,
        "maker": maker or manifest.get("made_by", by_hand),
        "page": next(iter(pages), None),
        **(in_words(manifest) if manifest else {}),
    }


def in_words(manifest: Mapping[str, Any]) -> dict[str, str]:
    """When and where a bundle was made, how long it took, its seeds and its size."""
    date, device = datetime.date.fromisoformat(manifest["date"]), manifest["device"]
    seeds, cores = manifest["seeds"], device.get("cpus")
    run = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    files = (manifests.results_folder() / manifest["name"]).rglob("*")
    size = sum(file.stat().st_size for file in files if file.is_file())
    about = f"a CPU with {cores} core{'s' * (cores != 1)}" if cores else "a CPU"
    return {
        "date": f"{date.day} {date:%B %Y}",
        "device": about if device["kind"] == "cpu" else device.get("name", device["kind"]),
        "time": took(manifest),
        "seeds": f"{seeds[0]} to {seeds[-1]}" if run else ", ".join(map(str, seeds)),
        "size": f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3))} kB",
    }


def took(manifest: Mapping[str, Any]) -> str:
    """How long a notebook ran, and how long its runs had been trained and measured, whenever
    that was, one after another."""
    before = [
        f"{duration(manifest[f'{kind}_seconds'])} of {kind}"
        for kind in ("training", "measuring")
        if f"{kind}_seconds" in manifest
    ]
    return " after ".join([duration(manifest["wall_seconds"]), *before])


def duration(seconds: float) -> str:
    """In words: 41 s, 11 min, 7.2 h."""
    if not seconds:
        return "in a time not recorded,"
    if seconds < 100:
        return f"{seconds:.0f}\N{NO-BREAK SPACE}s"
    if seconds < 6000:
        return f"{seconds / 60:.0f}\N{NO-BREAK SPACE}min"
    return f"{seconds / 3600:.1f}\N{NO-BREAK SPACE}h"


def raw(html: str) -> nodes.raw:
    return nodes.raw("", str(html), format="html")


def with_class(doctree: nodes.document, name: str) -> list[nodes.Element]:
    found = doctree.findall(nodes.container)
    return [node for node in found if name in node["classes"]]


class BundleStatus(SphinxDirective):
    """Where the table of the bundles goes."""

    def run(self) -> list[nodes.Node]:
        return [nodes.container(classes=["bundle-status"])]


def setup(app: Sphinx) -> dict[str, bool]:
    pages = Pages(app)
    app.add_config_value("freshness_page", "book/status", "html")
    app.add_directive("bundle-status", BundleStatus)
    app.connect("env-get-outdated", pages.forget_outdated)
    app.connect("env-updated", pages.prepare)
    app.connect("doctree-resolved", pages.draw)
    app.connect("build-finished", pages.finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
