"""The claims ledger as a table that filters without scripts, and as folded sections.

The filters are radio buttons; which rows show is a matter of style sheets alone (``:has``),
so that the table works in a page without a kernel, and is whole in print.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sas_lib.charts import PALETTE
from sas_lib.ledger import FAILS, HOLDS, OPEN, UNTESTED, VERDICTS, Claim, Figure, Finding

Judged = Sequence[tuple[Claim, Mapping[str, Finding]]]

COLOURS = {HOLDS: "blue", FAILS: "rust", OPEN: "gold", UNTESTED: "grey"}
SIGNS = {HOLDS: "●", FAILS: "✕", OPEN: "?", UNTESTED: "–"}
TRUSTS = ("EXACT-TEXT", "EXACT-FIG", "SECONDARY", "UNVERIFIED", "ours")
SPEAKS = {1: "for it", -1: "against it", 0: "silent"}

STYLE = """
.ledger table { display: table; width: 100%; font-size: 0.86em; border-collapse: collapse; }
.ledger :is(th, td) { vertical-align: top; text-align: left; padding: 0.4rem 0.5rem;
  overflow-wrap: break-word; font-weight: normal; border-top: 1px solid currentColor; }
.ledger thead th { font-weight: 600; border-top: 0; }
.ledger th strong { display: block; } .ledger td p { margin: 0 0 0.3rem; }
.ledger .source { font-size: 0.92em; opacity: 0.85; }
.ledger .verdict { display: inline-block; font-weight: 600; border: 2px solid;
  white-space: nowrap; border-radius: 0.3rem; padding: 0 0.35rem; margin-bottom: 0.2rem; }
.ledger ul { list-style: none; margin: 0; padding: 0; }
.ledger .nothing { display: none; font-style: italic; }
.ledger fieldset { border: 0; margin: 0 0 0.4rem; padding: 0; display: flex; flex-wrap: wrap;
  gap: 0.1rem 0.9rem; align-items: baseline; }
.ledger legend { float: left; font-weight: 600; font-size: 0.9em; width: auto; margin: 0;
  padding: 0; }
.ledger label { display: inline-flex; gap: 0.3rem; align-items: baseline; margin: 0; }
@media (max-width: 45rem) {
  .ledger thead { display: none; }
  .ledger :is(table, tbody, tr, tbody th, td) { display: block; width: auto; border: 0; }
  .ledger tr { border-top: 2px solid currentColor; padding: 0.5rem 0; }
  .ledger :is(th, td) { padding: 0.15rem 0; }
  .ledger td:not(.rule)::before { content: attr(data-label) ": "; font-weight: 600; }
}
@media print {
  .ledger fieldset { display: none; }
  figure.chart.ledger { break-inside: auto; }
  .ledger tr { break-inside: avoid; }
}
"""


@dataclass(frozen=True)
class Html:
    """A piece of a page, with what it says in plain text."""

    html: str
    text: str

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"text/html": self.html, "text/plain": self.text}, {}


def table(judged: Judged, alt: str) -> Html:
    """The ledger as a table, a row a claim, with filters above it."""
    rows = [_row(number, *entry) for number, entry in enumerate(judged, start=1)]
    scales = list(judged[0][1])
    head = ["Claim", "What counts", *scales]
    classes = [_classes(*entry) for entry in judged]
    there = {claim.trust for claim, _ in judged}
    trusts = [trust for trust in TRUSTS if trust in there]
    marks = {
        "at": ["either", *scales],
        "verdict": ["any", *VERDICTS],
        "trust": ["any", *trusts],
    }
    titles = {"at": "Scale", "verdict": "Verdict", "trust": "Wording known from"}
    heads = "".join(
        f'<th scope="col" class="{_slug(name) if name in scales else ""}">{_safe(name)}</th>'
        for name in head
    )
    page = (
        f'<figure class="chart ledger" aria-label="{_safe(alt)}">'
        f"<style>{STYLE}{_filters(classes, scales, trusts)}</style>"
        + "".join(_choice(name, titles[name], options) for name, options in marks.items())
        + f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        '<p class="nothing">No claim fits this choice.</p></figure>'
    )
    lines = [
        f"{number}. {claim.name}: "
        + "; ".join(f"{scale}: {finding.verdict()}" for scale, finding in found.items())
        for number, (claim, found) in enumerate(judged, start=1)
    ]
    return Html(page, "\n".join(lines))


def details(judged: Judged) -> Html:
    """A folded section for each claim: what was found, in sentences, and each seed's number."""
    parts, lines = [], []
    for number, (claim, found) in enumerate(judged, start=1):
        said = {scale: sentences(finding, scale) for scale, finding in found.items()}
        body = "".join(
            f"<p>{_safe(text)}</p>{_of_seeds(found[scale])}" for scale, text in said.items()
        )
        title = f"{number}. {claim.name}"
        short = "; ".join(f"{scale}: {finding.verdict()}" for scale, finding in found.items())
        parts.append(
            f"<details><summary>{_safe(title)} <span>({_safe(short)})</span></summary>"
            f"<p><em>The claim.</em> {_safe(claim.says)} ({_safe(claim.source)}; "
            f"{_safe(claim.trust)})</p>{body}</details>"
        )
        lines += [title, *said.values()]
    style = (
        ".ledger-parts details { margin: 0.2rem 0; } .ledger-parts p { margin: 0.4rem 0; }"
        ".ledger-parts summary { font-weight: 600; cursor: pointer; }"
        ".ledger-parts summary span { font-weight: normal; font-size: 0.9em; }"
        ".ledger-parts table { font-size: 0.86em; }"
        "@media print { figure.chart.ledger-parts { break-inside: auto; }"
        " .ledger-parts details::details-content { content-visibility: visible; } }"
    )
    page = f'<figure class="chart ledger-parts"><style>{style}</style>{"".join(parts)}</figure>'
    return Html(page, "\n".join(lines))


def sentences(finding: Finding, scale: str) -> str:
    """What the figures of a claim say, one sentence each, and the verdict that follows."""
    if finding.verdict() == UNTESTED:
        return f"{scale}. Not tested: no run measures what the rule asks for."
    level = finding.level()
    parts = [_sentence(figure, level) for figure in finding.figures]
    joint = (
        f"Intervals are at {level:.1%} each; the {finding.shares} that decide hold together."
        if finding.shares > 1
        else ""
    )
    return " ".join([f"{scale}.", *parts, joint, f"The claim: {finding.verdict()}."])


def _sentence(figure: Figure, level: float) -> str:
    name = figure.name[0].upper() + figure.name[1:]
    if figure.n == 0:
        return f"{name}: not measured."
    found, border = figure.told(level), f"{figure.border:,.3g}".replace("-", "−")
    if figure.role == "beside":
        return f"{name}: {found}, shown beside."
    claimed = f"{'above' if figure.side > 0 else 'below'} {border}"
    speaks = SPEAKS[figure.speaks(level)]
    if figure.role == "withholds" and figure.speaks(level) < 1:
        speaks = "not shown, so the claim cannot hold"
    return f"{name}: {found}, claimed {claimed}: {speaks}."


def _row(number: int, claim: Claim, found: Mapping[str, Finding]) -> str:
    cells = "".join(
        f'<td class="{_slug(scale)}" data-label="{_safe(scale)}">{_result(finding)}</td>'
        for scale, finding in found.items()
    )
    return (
        f'<tr class="{_classes(claim, found)}"><th scope="row"><strong>{number}. '
        f"{_safe(claim.name)}</strong>{_safe(claim.says)} "
        f'<span class="source">({_safe(claim.source)}; <b>{_safe(claim.trust)}</b>)</span></th>'
        f'<td class="rule"><p><b>For it:</b> {_safe(claim.holds_if)}</p>'
        f"<p><b>Against it:</b> {_safe(claim.fails_if)}</p></td>{cells}</tr>"
    )


def _result(finding: Finding) -> str:
    verdict = finding.verdict()
    colour = PALETTE[COLOURS[verdict]]
    shown = (
        ""
        if verdict == UNTESTED
        else "".join(
            f"<li>{_safe(figure.name)}: {_safe(figure.told(finding.level()))}</li>"
            for figure in finding.figures
            if figure.n
        )
    )
    return (
        f'<span class="verdict" style="border-color:{colour}">{SIGNS[verdict]} {verdict}</span>'
        f"<ul>{shown}</ul>"
    )


def _of_seeds(finding: Finding) -> str:
    figures = [figure for figure in finding.figures if figure.n]
    if not figures:
        return ""
    seeds = sorted({seed for figure in figures for seed in figure.values.index})
    head = "".join(f'<th scope="col">{_safe(str(seed))}</th>' for seed in seeds)
    rows = "".join(
        f'<tr><th scope="row">{_safe(figure.name)}</th>'
        + "".join(f"<td>{_seed(figure, seed)}</td>" for seed in seeds)
        + "</tr>"
        for figure in figures
    )
    head = f'<thead><tr><th scope="col">seed</th>{head}</tr></thead>'
    return f"<table>{head}<tbody>{rows}</tbody></table>"


def _seed(figure: Figure, seed: int) -> str:
    value = figure.values.get(seed, np.nan)
    sign = "+" if figure.signed else ""
    return f"{value:{sign}z,.{figure.digits}f}".replace("-", "−") if np.isfinite(value) else ""


def _choice(name: str, title: str, options: Sequence[str]) -> str:
    radios = "".join(
        f'<label><input type="radio" name="ledger-{name}" id="ledger-{name}-{_slug(option)}"'
        f"{' checked' if i == 0 else ''}>{_safe(option)}</label>"
        for i, option in enumerate(options)
    )
    return f"<fieldset><legend>{title}</legend>{radios}</fieldset>"


def _classes(claim: Claim, found: Mapping[str, Finding]) -> str:
    of_scales = [f"{_slug(scale)}-{_slug(f.verdict())}" for scale, f in found.items()]
    return " ".join([f"trust-{_slug(claim.trust)}", *of_scales])


def _filters(rows: Sequence[str], scales: Sequence[str], trusts: Sequence[str]) -> str:
    """Style rules that hide what the buttons do not ask for."""
    on = ":has(#ledger-{}-{}:checked)".format
    rules = []
    for at in scales:
        others = [f".ledger{on('at', _slug(at))} .{_slug(s)}" for s in scales if s != at]
        rules += [f"{other} {{ display: none; }}" for other in others]
    asked: dict[tuple[str, str], str] = {}  # of scale and verdict: what a row must match
    for at, verdict in itertools.product(["either", *scales], VERDICTS):
        among = scales if at == "either" else [at]
        asked[_slug(at), _slug(verdict)] = ", ".join(
            f".{_slug(s)}-{_slug(verdict)}" for s in among
        )
    for (at, verdict), wanted in asked.items():
        here = f".ledger{on('at', at)}{on('verdict', verdict)}"
        rules.append(f"{here} tbody tr:not({wanted}) {{ display: none; }}")
        for trust in ["any", *map(_slug, trusts)]:
            classes = [set(row.split()) for row in rows]
            wants = {w.strip(" .") for w in wanted.split(",")}
            left = [
                c for c in classes if c & wants and (trust == "any" or f"trust-{trust}" in c)
            ]
            if not left:
                rules.append(f"{here}{on('trust', trust)} .nothing {{ display: block; }}")
    for trust in map(_slug, trusts):
        rules.append(
            f".ledger{on('trust', trust)} tbody tr:not(.trust-{trust}) {{ display: none; }}"
        )
    return f"@media screen {{ {' '.join(rules)} }}"


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def _safe(text: str) -> str:
    return html.escape(text)
