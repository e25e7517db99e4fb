"""The ledger: every verdict reached on invented tables, and the table's filters."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sas_lib import ledger, ledger_figures, ledger_table, results
from sas_lib.ledger import Claim, Figure, Finding, Ledger, Runs

HIGH, LOW, WIDE = [0.9, 1.0, 1.1, 1.0], [-1.1, -1.0, -0.9, -1.0], [-1.0, 1.0, -2.0, 2.0]


def figure(values: list[float], **more: object) -> Figure:
    return Figure("a figure", pd.Series(values, dtype=float), **more)


def runs_of(curves: dict[tuple[str, str], dict[int, list[float]]], steps: list[int]) -> Runs:
    """curves: (arm, metric) to seed to values."""
    rows = [
        (arm, metric, None, seed, step, value)
        for (arm, metric), seeds in curves.items()
        for seed, values in seeds.items()
        for step, value in zip(steps, values, strict=True)
        if np.isfinite(value)
    ]
    return Runs(
        pd.DataFrame(rows, columns=["arm", "metric", "detail", "seed", "step", "value"])
    )


# Figures


def test_a_figure_speaks_where_its_interval_lies() -> None:
    assert figure(HIGH).speaks() == 1 and figure(LOW).speaks() == -1
    assert figure(WIDE).speaks() == 0
    assert figure(HIGH, border=2).speaks() == -1
    assert figure(LOW, side=-1).speaks() == 1 and figure(HIGH, side=-1).speaks() == -1


@pytest.mark.parametrize("values", [HIGH, LOW, WIDE, [0.2, 0.5, 0.1]])
def test_the_rule_is_the_same_on_both_sides(values: list[float]) -> None:
    mirrored = figure([-v for v in values])
    assert figure(values).speaks() == -mirrored.speaks()
    assert figure(values).speaks() == figure([-v for v in values], side=-1).speaks()


def test_one_seed_is_silent_and_none_is_no_number() -> None:
    assert figure([5.0]).speaks() == 0 and figure([5.0, np.nan]).n == 1
    assert figure([]).n == 0 and figure([]).speaks() == 0 and figure([]).told() == "none"


def test_the_interval_is_students_and_a_pick_widens_it() -> None:
    known = stats.ttest_1samp(HIGH, 0).confidence_interval(0.99)
    found = figure(HIGH, picked_from=5).interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((known.low, known.high))


def test_a_ratio_is_geometric() -> None:
    found = figure([1.0, 4.0, 2.0], ratio=True).interval()
    known = stats.ttest_1samp(np.log([1, 4, 2]), 0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(2)
    assert (found["low"], found["high"]) == pytest.approx(np.exp([known.low, known.high]))
    middle, half = figure([1.0, 4.0, 2.0], ratio=True, border=1, side=-1).distance()
    assert middle == pytest.approx(-np.log(2)) and half == pytest.approx(known.high - np.log(2))


def test_the_same_number_in_every_seed_is_silent() -> None:
    for values in ([0.0, 0.0], [1.0, 1.0, 1.0 + 1e-12], [-2.0, -2.0, np.nan]):
        for side in (1, -1):
            same = figure(values, border=0.5, side=side)
            assert same.constant and same.speaks() == 0
    assert not figure([1.0, 1.001]).constant and not figure([1.0]).constant
    assert figure([1.0, 1.001], border=0.5).speaks() == 1
    finding = Finding([figure([0.0, 0.0], border=0.5)])
    assert finding.verdict() == "not settled"


def test_votes_are_counted_over_two_seeds_or_more() -> None:
    def votes(values: list[float], kind: str = "most") -> Figure:
        return figure(values, border=0.02, side=-1, votes=kind)

    assert votes([0.005, 0.005]).speaks() == 1  # alike, but counted and not averaged
    assert votes([0.02, 0.01, 0.9]).speaks() == 1 and votes([0.01, 0.9]).speaks() == 0
    assert votes([0.9, 0.9, 0.9]).speaks() == 0 and votes([0.01]).speaks() == 0
    assert votes([0.01, 0.01, 0.9], "all").speaks() == 0
    assert votes([0.01, 0.02], "all").speaks() == 1
    assert votes([0.01, 0.9, np.nan]).told() == "1 of 2 seeds"
    assert votes([0.9]).told() == "0 of 1 seed"


# Verdicts


def test_every_verdict_is_reached() -> None:
    def verdict(*figures: Figure) -> str:
        return Finding(figures).verdict()

    assert verdict(figure(HIGH), figure(HIGH)) == "holds"
    assert verdict(figure(HIGH), figure(LOW)) == "does not hold"
    assert verdict(figure(HIGH), figure(WIDE)) == "not settled"
    assert verdict(figure(WIDE), figure(LOW)) == "does not hold"
    assert verdict(figure(HIGH), figure([])) == "not settled"
    assert verdict(figure([]), figure([])) == verdict() == "not tested"
    assert verdict(figure([3.0])) == "not settled"


def test_what_withholds_does_not_refute_and_what_stands_beside_has_no_say() -> None:
    no, yes = (figure(values, role="withholds") for values in (LOW, HIGH))
    assert Finding([figure(HIGH), no]).verdict() == "not settled"
    assert Finding([figure(HIGH), yes]).verdict() == "holds"
    assert Finding([figure(LOW), yes]).verdict() == "does not hold"
    assert Finding([yes]).verdict() == "not tested"
    assert Finding([figure(HIGH), figure(LOW, role="beside")]).verdict() == "holds"


def test_what_is_presupposed_comes_first() -> None:
    there, not_there = (figure(values, role="presupposed") for values in (HIGH, WIDE))
    assert Finding([figure(LOW), there]).verdict() == "does not hold"
    finding = Finding([figure(LOW), there, not_there])
    assert finding.verdict() == "not tested" and finding.lacking() == [not_there]
    assert not finding.unmeasured


def test_a_claim_can_be_tested_in_part() -> None:
    finding = Finding([figure(LOW), figure([])])
    assert finding.in_part and finding.verdict() == "does not hold"
    assert not Finding([figure([])]).in_part and not Finding([figure(LOW)]).in_part
    assert finding.level() == 0.95  # no share for a figure that is not there
    assert Finding([figure(LOW), figure([1.0])]).level() == 0.95


def test_figures_that_decide_share_the_error() -> None:
    border = stats.ttest_1samp(HIGH, 0).confidence_interval(0.95).low - 1e-6
    near = figure(HIGH, border=border)
    assert Finding([near]).verdict() == "holds"
    assert Finding([near, near]).verdict() == "not settled"
    assert Finding([near, figure(HIGH, role="beside")]).verdict() == "holds"
    assert Finding([near, near]).level() == pytest.approx(0.975)
    assert Finding([near]).verdict(0.99) == "not settled"


# Runs


STEPS = [0, 200, 400, 600, 800, 1000]


def test_ends_are_compared_within_a_seed() -> None:
    runs = runs_of(
        {
            ("base", "m"): {0: [0, 0, 0, 0, 0, 1.0], 1: [0, 0, 0, 0, 0, 5.0]},
            ("arm", "m"): {1: [0, 0, 0, 0, 0, 5.5], 2: [0, 0, 0, 0, 0, 9.0]},
        },
        STEPS,
    )
    assert runs.less("arm", "m").to_dict() == {1: 0.5}
    assert runs.less("none", "m").empty and runs.last("arm", "other").empty
    assert runs.arms() == ["arm", "base"] and runs.length == 1000


def test_an_arm_that_stopped_early_has_no_end() -> None:
    nan = np.nan
    runs = runs_of(
        {
            ("base", "m"): {0: [0, 1, 2, 3, 4, 5.0]},
            ("arm", "m"): {0: [0, 1, 2, nan, nan, nan]},
        },
        STEPS,
    )
    assert runs.last("arm", "m").empty


def test_a_share_is_of_the_way_from_untrained_to_the_end() -> None:
    runs = runs_of(
        {("base", "m"): {0: [0.1, 0.2, 0.2, 0.8, 1.0, 1.0], 1: [-0.1, 0, 0, 0, 0.5, 0.5]}},
        STEPS,
    )
    found = runs.steepest_fifth("base", "m")
    assert found["share"].to_dict() == pytest.approx({0: 0.6, 1: 1.0})
    assert found["begins"].to_dict() == {0: 400, 1: 600}


def test_a_run_that_comes_no_way_has_no_share() -> None:
    runs = runs_of({("base", "m"): {0: [0.5, 0.9, 0.1, 0.8, 0.6, 0.51]}}, STEPS)
    assert runs.steepest_fifth("base", "m").empty and runs.way("none", "m").empty


def test_a_loss_is_turned_and_cut_at_the_unigram_entropy() -> None:
    runs = runs_of(
        {
            ("base", "valid_loss"): {0: [9.0, 6.0, 5.0, 3.0, 2.0, 2.0]},
            ("base", "unigram_entropy"): {0: [6.0] * 6},
        },
        STEPS,
    )
    assert runs.rising("base", "valid_loss")[0].tolist() == [-6, -6, -5, -3, -2, -2]
    assert runs.steepest_fifth("base", "valid_loss")["share"][0] == pytest.approx(0.5)


def test_a_level_is_crossed_between_checkpoints_or_not_at_all() -> None:
    runs = runs_of(
        {("base", "m"): {0: [0, 0, 1, 2, 3, 4.0], 1: [0, 0, 0, 0, 0, 0.0]}},
        STEPS,
    )
    assert runs.crossing("base", "m", 1.5).to_dict() == {0: 500, 1: 1000}
    assert runs.crossing("base", "m", 1.5, since=400).to_dict() == {0: 100, 1: 600}
    assert runs.middle("m") == 1.0


def test_a_lead_is_the_mean_over_a_stretch_of_steps() -> None:
    runs = runs_of(
        {
            ("base", "unigram_entropy"): {0: [4.0] * 6, 1: [4.0] * 6},
            ("base", "valid_loss"): {0: [9, 5, 4, 3, 3, 3.0], 1: [9, 5, 4, 3, 3, 3.0]},
            ("arm", "valid_loss"): {0: [1, 5, 3, 3, 4, 4.0], 1: [1, 4, 4, 3, 4, 4.0]},
            ("base", "m"): {0: [0, 0, 1, 1, 1, 1.0]},
            ("arm", "m"): {0: [0, 0, 3, 3, 3, 3.0]},
        },
        STEPS,
    )
    lead = runs.mean_lead("arm", "valid_loss", until=600, since=200)
    assert lead.to_dict() == pytest.approx({0: 0.5, 1: 0.25})  # also above the entropy
    later = runs.mean_lead("arm", "valid_loss", until=500, since=300)
    assert later.to_dict() == pytest.approx({0: 0.75, 1: 0.125})
    assert runs.mean_lead("arm", "m", until=400, since=200)[0] == pytest.approx(1.0)
    assert runs.mean_lead("none", "valid_loss", until=600).empty


def test_the_test_for_a_break_is_asked_for_each_seed() -> None:
    steps = list(range(0, 3000, 100))
    t = np.array(steps) / 3000
    rng = np.random.default_rng(0)
    jump = np.clip((t - 0.4) / 0.05, 0, 1) + 0.01 * rng.normal(size=len(t))
    line = t + 0.01 * rng.normal(size=len(t))
    p = runs_of({("base", "m"): {0: list(jump), 1: list(line)}}, steps).break_p("base", "m")
    assert p[0] <= 0.02 < p[1]
    assert np.isnan(
        runs_of({("base", "m"): {0: [0, 1, 2.0]}}, [0, 1, 2]).break_p("base", "m")[0]
    )


def test_bundles_that_are_there_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAS_RESULTS", str(tmp_path))
    rows = pd.DataFrame(
        [("r0", 0, 10, "m", 1.0), ("r1", 1, 10, "m", 2.0)],
        columns=["run", "seed", "step", "metric", "value"],
    ).reindex(columns=results.COLUMNS)
    record = {"code": {}, "began": 0.0}
    about = {"r0": {"arm": "base"}, "r1": {"arm": "suppress"}}
    results.write("one", rows, record, {"runs": about})
    again = pd.concat([rows.assign(value=9.0), rows.assign(metric="late", value=3.0)])
    results.write("two", again, record, {"runs": about})
    results.write("plain", rows, record, {})
    runs = ledger.read("one", "two", "absent")
    assert runs.table("suppress", "m").loc[10, 1] == 2  # the first that is named counts
    assert runs.table("base", "late").loc[10, 0] == 3
    assert ledger.read("plain").table("base", "m").loc[10].tolist() == [1, 2]
    assert ledger.read("absent").length == 0


# The page


def judged(values: dict[str, list[float]]) -> list[tuple[Claim, dict[str, Finding]]]:
    entered = Ledger()
    for name, of_claim in values.items():
        entered.add(
            name,
            says="s",
            source="o",
            trust="EXACT-TEXT" if of_claim else "ours",
            holds_if="h",
            fails_if="f",
            check=name.startswith("check"),
        )(lambda runs, of_claim=of_claim: [figure(of_claim)])
    there = runs_of({("base", "m"): {0: [0.0, 1.0]}}, [0, 1])
    return entered.judge({"Toy": there, "Real": ledger.read("no such bundle")})


CLAIMS = {"up <&>": HIGH, "down": LOW, "wide": WIDE, "none": []}


def test_claims_are_judged_at_each_scale() -> None:
    found = judged(CLAIMS)
    verdicts = [finding["Toy"].verdict() for _, finding in found]
    assert verdicts == list(ledger.VERDICTS)
    assert {finding["Real"].verdict() for _, finding in found} == {"not tested"}


def test_the_table_has_every_row_escaped_and_its_filters_fit() -> None:
    shown = ledger_table.table(judged(CLAIMS), alt="a ledger")
    assert shown.html.count("<tr class=") == 4 and "up &lt;&amp;&gt;" in shown.html
    assert "1. up <&>: Toy: holds; Real: not tested" in shown.text
    ids = set(re.findall(r'id="(ledger-[\w-]+)"', shown.html))
    assert set(re.findall(r"#(ledger-[\w-]+):checked", shown.html)) <= ids
    classes = set(" ".join(re.findall(r'<tr class="([^"]+)"', shown.html)).split())
    assert {"toy-holds", "toy-does-not-hold", "real-not-tested", "trust-ours"} <= classes


def test_a_choice_hides_the_other_rows() -> None:
    shown = ledger_table.table(judged(CLAIMS), alt="a ledger").html
    rows = [set(row.split()) for row in re.findall(r'<tr class="([^"]+)"', shown)]

    def left(at: str, verdict: str) -> list[int]:
        chosen = f":has(#ledger-at-{at}:checked):has(#ledger-verdict-{verdict}:checked)"
        kept = re.search(
            re.escape(chosen) + r" tbody tr:not\(([^)]+)\) \{ display: none", shown
        )
        assert kept
        classes = {name.strip(" .") for name in kept[1].split(",")}
        return [number for number, row in enumerate(rows) if row & classes]

    assert left("toy", "holds") == left("either", "holds") == [0]
    assert left("toy", "does-not-hold") == [1] and left("real", "holds") == []
    assert left("toy", "not-tested") == [3] and left("either", "not-tested") == [0, 1, 2, 3]
    hidden = re.findall(r"#ledger-trust-(\S+):checked\) tbody tr:not\(\.trust-(\S+)\)", shown)
    assert set(hidden) == {("exact-text", "exact-text"), ("ours", "ours")}


def test_the_table_says_where_nothing_is_left() -> None:
    shown = ledger_table.table(judged({"up": HIGH, "none": []}), alt="a").html
    pattern = (
        r"at-(\w+):checked\):has\(#ledger-verdict-([\w-]+):checked\):has\(#ledger-trust-any"
    )
    never = {"does-not-hold", "not-settled"}
    wanted = {(at, verdict) for at in ("either", "toy", "real") for verdict in never}
    wanted |= {(at, "manipulation-check") for at in ("either", "toy", "real")}
    assert set(re.findall(pattern, shown)) == wanted | {("real", "holds")}


def test_sentences_follow_the_figures() -> None:
    found = judged(CLAIMS)
    up, down = (ledger_table.sentences(c, f["Toy"], "Toy") for c, f in found[:2])
    assert "A figure: 1.00 [0.87, 1.13; 4] at 95.0%, claimed above 0: for it." in up
    assert up.endswith("The claim: holds.") and "against it" in down

    def said(*figures: Figure) -> str:
        return ledger_table.sentences(found[0][0], Finding(figures), "Toy")

    assert "above 0: not shown." in said(figure(HIGH), figure(LOW, role="withholds"))
    assert said(figure(HIGH), figure(HIGH, role="presupposed")).count("A figure") == 1
    assert "the same number in every seed" in said(figure([0.0, 0.0]))
    assert "at 97.5%" in said(figure(HIGH, picked_from=2))
    votes = said(figure([0.0, 0.0], border=0.5, side=-1, votes="most"))
    assert "2 of 2 seeds, claimed in most seeds: for it" in votes
    assert "nothing to test" in said(figure(HIGH), figure(LOW, role="presupposed"))
    assert "in part" in said(figure(HIGH), figure([]))
    parts = ledger_table.details(found)
    assert parts.html.count("<details>") == 4 and ">1.10<" in parts.html


def test_a_manipulation_check_is_told_apart() -> None:
    found = judged({"check": HIGH, "check again": LOW, "up": HIGH})
    assert [claim.status(f["Toy"]) for claim, f in found] == [ledger.CHECK] * 2 + ["holds"]
    shown = ledger_table.table(found, alt="a")
    assert "1. check: Toy: manipulation check, passed" in shown.text
    assert "2. check again: Toy: manipulation check, failed" in shown.text
    rows = re.findall(r'<tr class="([^"]+)"', shown.html)
    assert ["toy-manipulation-check" in row for row in rows] == [True, True, False]
    spec = ledger_figures.nearness(found, "Toy").to_dict()
    rows = [r for data in spec["datasets"].values() for r in data]
    assert {r["claim"] for r in rows if "claim" in r} == {"3. up"}
    texts = [r["text"] for r in rows if "text" in r]
    assert "at 95.0%: holds 1, does not hold 0, not settled 0" in texts


def test_the_table_gives_two_seeds_as_they_are_and_a_level_to_others() -> None:
    found = judged({"two": [0.25, 0.75], "four": HIGH, "one": [0.5]})
    shown = ledger_table.table(found, alt="a").html
    assert "a figure: 0.25 and 0.75<" in shown and "[one seed]" in shown
    assert "a figure: 1.00 [0.87, 1.13; 4] at 95.0%" in shown


def test_nearness_is_in_half_widths_on_the_claims_side() -> None:
    spec = ledger_figures.nearness(judged(CLAIMS), "Toy").to_dict()
    rows = [r for data in spec["datasets"].values() for r in data if "figure" in r]
    at = {r["claim"]: r for r in rows if r["number_of_level"] == 2}
    assert set(at) == {"1. up <&>", "2. down", "3. wide"}
    half = stats.t.ppf(0.975, 3) * stats.sem(HIGH)
    reach = ledger_figures.REACH
    assert at["1. up <&>"]["mean"] == pytest.approx(min(1 / half, reach), abs=1e-3)
    assert at["2. down"]["mean"] == pytest.approx(-min(1 / half, reach), abs=1e-3)
    assert at["3. wide"]["mean"] == 0 and at["3. wide"]["high"] == pytest.approx(1)
    stricter = [r for r in rows if r["claim"] == "3. wide"]
    assert stricter[4]["high"] > stricter[2]["high"] > stricter[0]["high"]
    texts = [r["text"] for data in spec["datasets"].values() for r in data if "text" in r]
    assert "at 95.0%: holds 1, does not hold 1, not settled 1" in texts
