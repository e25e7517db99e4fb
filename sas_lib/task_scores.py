"""The metrics of the tasks of ``glue``, and what the commonest class gets.

Metrics are scikit-learn's and scipy's. A model that always gives one answer has no
correlation with anything: Matthews's, Pearson's and Spearman's are then 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import stats
from sklearn import metrics

from sas_lib.glue import Task
from sas_lib.toy_english import Example


def scores(task: Task, outputs: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """The metrics of a task. outputs: [examples, outputs]; gold: [examples]."""
    predicted = outputs.argmax(1) if task.labels else outputs[:, 0]
    return {name: _METRICS[name](gold, predicted) for name in task.metrics}


def _correlation(measure: Callable[..., Any]) -> Callable[..., float]:
    """A correlation that is 0, as Matthews's is, where all predictions are the same."""

    def value(gold: np.ndarray, predicted: np.ndarray) -> float:
        constant = np.ptp(predicted) == 0 or np.ptp(gold) == 0
        return 0.0 if constant else float(measure(gold, predicted).statistic)

    return value


_METRICS: dict[str, Callable[..., float]] = {
    "accuracy": lambda gold, predicted: float(metrics.accuracy_score(gold, predicted)),
    "f1": lambda gold, predicted: float(metrics.f1_score(gold, predicted, zero_division=0)),
    "mcc": lambda gold, predicted: float(metrics.matthews_corrcoef(gold, predicted)),
    "pearson": _correlation(stats.pearsonr),
    "spearman": _correlation(stats.spearmanr),
}


def majority(task: Task, train: Sequence[Example], test: Sequence[Example]) -> dict[str, float]:
    """The scores of always giving the commonest training class (or the mean score)."""
    gold = np.array([e.label for e in test])
    if not task.labels:
        return scores(task, np.zeros((len(gold), 1)), gold)
    counts = Counter(int(e.label) for e in train)
    outputs = np.zeros((len(gold), len(task.labels)))
    outputs[:, counts.most_common(1)[0][0]] = 1
    return scores(task, outputs, gold)


def hans_scores(
    outputs: np.ndarray, gold: np.ndarray, heuristics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Accuracy of a model of MNLI on HANS, by heuristic and gold label.

    outputs: [examples, 3], entailment first; the other two classes count as no entailment
    (McCoy et al. 2019). A model that goes by the heuristic is right on ``entailment`` and
    wrong on ``non-entailment``.
    """
    right = (outputs.argmax(1) == 0) == (gold == 1)
    of = np.array(heuristics)
    return {
        heuristic: {
            name: float(right[(of == heuristic) & (gold == label)].mean())
            for name, label in (("entailment", 1), ("non-entailment", 0))
            if ((of == heuristic) & (gold == label)).any()
        }
        for heuristic in dict.fromkeys(heuristics)
    }
