"""The signed-rank rule: a trial ends when it is significantly worse than the best one, example by example.

Wilcoxon, "Individual Comparisons by Ranking Methods", Biometrics Bulletin 1945. Equal magnitudes share the mean of
their ranks, and the ranks of pairs without a difference are split between the two sides, as
`scipy.stats.wilcoxon` does with ``zero_method="zsplit"``.
"""

from __future__ import annotations

import math
import threading

import numpy as np
from numpy.typing import NDArray

from dspex.pruners.base import Pruner
from dspex.pruners.checks import number_in
from dspex.trials import FrozenTrial, PerView, StudyView, TrialState
from dspex.trials.checks import at_least

__all__ = ["WilcoxonPruner"]

_EXACT = 50  # pairs up to which the distribution is counted and not approximated


class _Best:
    """The best completed trial of one study."""

    def __init__(self) -> None:
        self.cursor = 0
        self.trial: FrozenTrial | None = None
        self.lock = threading.Lock()

    def read(self, view: StudyView) -> FrozenTrial | None:
        with self.lock:
            changed, self.cursor = view.changes(self.cursor)
            sign = view.directions[0].sign
            for trial in changed:
                if trial.state is TrialState.COMPLETE and trial.feasible:
                    key = (sign * trial.value, trial.number)  # type: ignore[operator]
                    if self.trial is None or key < (sign * self.trial.value, self.trial.number):  # type: ignore[operator]
                        self.trial = trial
            return self.trial


class WilcoxonPruner(Pruner):
    """Ends a trial when the values it reported are significantly worse than the best trial's at the same steps.

    For objectives that are the mean over examples: report the score of example i as step i, in any order. The steps
    that both trials have reported are paired; the test is one-sided, exact up to 50 pairs and by the normal
    approximation beyond. A trial whose mean over all its values is no worse than the best one's mean is not ended
    whatever the test says. Neither is one that has reported NaN or an infinity, or whose opponent has.

    The test is repeated at each look without a correction, so it ends more good trials than ``p_threshold`` says.

    Args:
        p_threshold: The p-value below which a trial is ended, between 0 and 1.
        n_startup_steps: So many pairs are wanted before it is tested, and two at least.

    Raises:
        StudyError: when an argument is out of its bounds.

    >>> from dspex.study import create_study
    >>> study = create_study(pruner=WilcoxonPruner(), direction="maximize")
    >>> for scores in ([0.9, 0.8, 0.7, 1.0], [0.2, 0.3, 0.1, 0.4]):
    ...     trial = study.ask()
    ...     answers = []
    ...     for example, score in enumerate(scores):
    ...         trial.report(score, step=example)
    ...         answers.append(trial.should_prune())
    ...     finished = study.tell(trial, sum(scores) / 4)
    >>> answers
    [False, False, False, True]
    """

    def __init__(self, *, p_threshold: float = 0.1, n_startup_steps: int = 2) -> None:
        self.p_threshold = number_in("p_threshold", p_threshold, 0.0, 1.0)
        self.n_startup_steps = at_least("n_startup_steps", n_startup_steps, 0)
        self._studies = PerView(_Best)

    def prune(self, view: StudyView, trial: FrozenTrial) -> bool:
        best = self._studies.of(view).read(view)
        if best is None:
            return False
        sign = view.directions[0].sign
        mine = {step: sign * value for step, value in trial.intermediate_values.items()}
        others = {step: sign * value for step, value in best.intermediate_values.items()}
        if not all(map(math.isfinite, [*mine.values(), *others.values()])):
            return False
        worse = np.array([mine[step] - others[step] for step in sorted(mine.keys() & others.keys())])
        if len(worse) < max(2, self.n_startup_steps):
            return False
        if sum(mine.values()) / len(mine) <= sum(others.values()) / len(others):
            return False
        return signed_rank_p(worse) < self.p_threshold

    def __repr__(self) -> str:
        return f"WilcoxonPruner(p_threshold={self.p_threshold}, n_startup_steps={self.n_startup_steps})"


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """The probability of a rank sum as large as that of ``differences``, if each sign were a fair coin.

    >>> signed_rank_p(np.array([1.0, 2.0, 3.0, 4.0]))
    0.0625
    """
    # Twice the ranks, because shared ones may be halves and whole numbers can be counted.
    doubled = _doubled_ranks(np.abs(differences))
    moving = doubled[differences != 0]
    total = int(doubled[differences > 0].sum())  # what a zero adds to both sides changes nothing in the comparison
    if len(differences) <= _EXACT:
        ways = np.ones(1)
        for rank in moving:
            more = np.zeros(len(ways) + rank)
            more[: len(ways)] += ways / 2
            more[rank:] += ways / 2
            ways = more
        return float(min(ways[total:].sum(), 1.0))
    deviation = math.sqrt(float((moving.astype(np.float64) ** 2).sum()) / 4)
    if deviation == 0:
        return 1.0
    return 0.5 * math.erfc((total - moving.sum() / 2) / deviation / math.sqrt(2))


def _doubled_ranks(magnitudes: NDArray[np.float64]) -> NDArray[np.int64]:
    ordered = np.sort(magnitudes)
    found = ordered.searchsorted(magnitudes, "left") + ordered.searchsorted(magnitudes, "right") + 1
    return found.astype(np.int64)
