"""Where a widget can be used, and what stands in its place where it cannot."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from sas_lib import charts, results
from sas_lib.model import load

try:
    import ipywidgets as ipywidgets  # the others of this package take it from here
except ImportError:  # no part of what the chapters need otherwise
    ipywidgets = None

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerFast]

_KEPT = re.compile(r"(.+)-seed(\d+)-step(\d+)")


def live() -> bool:
    """Is the cell that is being executed run by a front end, at which someone sits?

    With each cell a front end (Jupyter, Colab, an editor) tells the kernel that it can put a
    question to its user; nbclient, and with it papermill and the book's build, that it
    cannot.
    """
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    request = shell.get_parent() if hasattr(shell, "get_parent") else {}
    return bool(request.get("content", {}).get("allow_stdin"))


def instead(what: str) -> Any:
    """What stands in for a widget where it cannot be used; None where it can."""
    if live() and ipywidgets is not None:
        return None
    from IPython.display import Markdown

    if live():
        return Markdown(
            f"To {what} here, install the package `ipywidgets` (`pip install ipywidgets`), "
            "restart the kernel and run the page again."
        )
    return Markdown(
        f"*To {what}, run this page with a live kernel: in Jupyter, or on Colab with the "
        "button at the top of the page.*"
    )


def loaded(models: Mapping[str, Loaded] | str) -> Mapping[str, Loaded]:
    """These models or, of a bundle that is named, those it holds, by arm and step.

    Raises:
        results.BundleError: there is no such bundle.
    """
    if not isinstance(models, str):
        return models
    folder, kept = results.folder() / models, {}
    for name in results.manifest(models)["parameters"]["models"]:
        found = _KEPT.fullmatch(name)
        label = f"{found[1]}, step {int(found[3]):,}" if found else name
        kept[label] = load(folder / name)
    return kept


def put(output: Any, figure: charts.Figure | None) -> None:
    """Show a figure, or nothing, in the place of what an Output widget shows."""
    data = None if figure is None else {"text/html": figure.html, "text/plain": figure.alt}
    shown = {"output_type": "display_data", "data": data, "metadata": {}}
    output.outputs = () if data is None else (shown,)


def control(kind: str, description: str, **settings: Any) -> Any:
    """A control with room for its description, which reports when it is let go."""
    style, layout = {"description_width": "8em"}, {"width": "min(36em, 95%)"}
    make = getattr(ipywidgets, kind)
    return make(description=description, style=style, layout=layout, **settings)
