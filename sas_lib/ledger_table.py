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
from sas_lib.ledger import (
    CHECK,
    FAILS,
    HOLDS,
    OPEN,
    STATUSES,
    UNTESTED,
    Claim,
    Figure,
    Finding,
)

Judged = Sequence[tuple[Claim, Mapping[str, Finding]]]

COLOURS = {HOLDS: "blue", FAILS: "rust", OPEN: "gold", UNTESTED: "grey", CHECK: "violet"}
SIGNS = {HOLDS: "●", FAILS: "✕", OPEN: "?", UNTESTED: "–", CHECK: "◇"}
PASSED = {HOLDS: "passed", FAILS: "failed", OPEN: OPEN, UNTESTED: UNTESTED}
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
        "verdict": ["any", *STATUSES],
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
        + "; ".join(f"{scale}: {_status(claim, finding)}" for scale, finding in found.items())
        for number, (claim, found) in enumerate(judged, start=1)
    ]
    return Html(page, "\n".join(lines))


def details(judged: Judged) -> Html:
    """A folded section for each claim: what was found, in sentences, and each seed's number."""
    parts, lines = [], []
    for number, (claim, found) in enumerate(judged, start=1):
        said = {scale: sentences(claim, finding, scale) for scale, finding in found.items()}
        body = "".join(
            f"<p>{_safe(text)}</p>{_of_seeds(found[scale])}" for scale, text in said.items()
        )
        title = f"{number}. {claim.name}"
        short = "; ".join(f"{scale}: {_status(claim, f)}" for scale, f in found.items())
        parts.append(
            f"<details><summary>{_safe(title)} <span>({_safe(short)})</span></summary>"
            f"{body}</details>"
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


def sentences(claim: Claim, finding: Finding, scale: str) -> str:
    """What the figures of a claim say, one sentence each, and the verdict that follows."""
    if finding.unmeasured:
        return f"{scale}. Not tested: no run measures what the rule asks for."
    level = finding.level()
    parts = [
        _sentence(figure, level)
        for figure in finding.figures
        if figure.role != "presupposed" or figure.speaks(level) < 1
    ]
    if finding.lacking():
        parts.append("So there is nothing to test.")
    if finding.in_part:
        parts.append("It was tested in part only.")
    return " ".join([f"{scale}.", *parts, f"The claim: {_status(claim, finding)}."])


def _status(claim: Claim, finding: Finding) -> str:
    verdict = finding.verdict()
    return f"{CHECK}, {PASSED[verdict]}" if claim.check else verdict


def _sentence(figure: Figure, level: float) -> str:
    name = figure.name[0].upper() + figure.name[1:]
    if figure.n == 0:
        return f"{name}: not measured."
    found, border = figure.told(level), f"{figure.border:,.3g}".replace("-", "−")
    if figure.n > 1 and not figure.votes:
        found += f" at {figure.own(level):.1%}"
    if figure.role == "beside":
        return f"{name}: {found}, shown beside."
    claimed = f"{'above' if figure.side > 0 else 'below'} {border}"
    if figure.votes:
        claimed = f"in {'every seed' if figure.votes == 'all' else 'most seeds'}"
    return f"{name}: {found}, claimed {claimed}: {_spoken(figure, level)}."


def _spoken(figure: Figure, level: float) -> str:
    if figure.role == "withholds" and figure.speaks(level) < 1:
        return "not shown"
    if figure.role == "presupposed":
        return "presupposed, and not shown"
    if figure.constant and not figure.votes:
        return "silent, since the same number in every seed does not tell how seeds vary"
    return SPEAKS[figure.speaks(level)]


def _row(number: int, claim: Claim, found: Mapping[str, Finding]) -> str:
    cells = "".join(
        f'<td class="{_slug(scale)}" data-label="{_safe(scale)}">{_result(claim, finding)}</td>'
        for scale, finding in found.items()
    )
    return (
        f'<tr class="{_classes(claim, found)}"><th scope="row"><strong>{number}. '
        f"{_safe(claim.name)}</strong>{_safe(claim.says)} "
        f'<span class="source">({_safe(claim.source)}; <b>{_safe(claim.trust)}</b>)</span></th>'
        f'<td class="rule"><p><b>For it:</b> {_safe(claim.holds_if)}</p>'
        f"<p><b>Against it:</b> {_safe(claim.fails_if)}</p></td>{cells}</tr>"
    )


def _result(claim: Claim, finding: Finding) -> str:
    status = claim.status(finding)
    badge = (
        f'<span class="verdict" style="border-color:{PALETTE[COLOURS[status]]}">'
        f"{SIGNS[status]} {status}</span>"
    )
    if claim.check:
        badge += f" {PASSED[finding.verdict()]}"
    if finding.in_part:
        badge += " (tested in part)"
    if finding.unmeasured:
        return badge
    heard = [f for f in finding.figures if f.role in ("decides", "withholds")]
    lacking, level = finding.lacking(), finding.level()
    listed = [f"{f.name}: {_brief(f, level)}" for f in lacking or heard if f.n]
    if lacking:
        badge += " What it presupposes is not shown:"
    return f"{badge}<ul>{''.join(f'<li>{_safe(line)}</li>' for line in listed)}</ul>"


def _brief(figure: Figure, level: float) -> str:
    """A figure with the level of its interval; of two seeds both numbers, since the ends of
    such an interval are mostly far out."""
    if figure.votes or figure.n < 2:
        return figure.told(level)
    if figure.n == 2:
        return " and ".join(_seed(figure, seed) for seed in figure.values.dropna().index)
    return f"{figure.told(level)} at {figure.own(level):.1%}"


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
    of_scales = [f"{_slug(scale)}-{_slug(claim.status(f))}" for scale, f in found.items()]
    return " ".join([f"trust-{_slug(claim.trust)}", *of_scales])


def _filters(rows: Sequence[str], scales: Sequence[str], trusts: Sequence[str]) -> str:
    """Style rules that hide what the buttons do not ask for."""
    on = ":has(#ledger-{}-{}:checked)".format
    rules = []
    for at in scales:
        others = [f".ledger{on('at', _slug(at))} .{_slug(s)}" for s in scales if s != at]
        rules += [f"{other} {{ display: none; }}" for other in others]
    asked: dict[tuple[str, str], str] = {}  # of scale and verdict: what a row must match
    for at, verdict in itertools.product(["either", *scales], STATUSES):
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
