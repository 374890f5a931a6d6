"""The functions that say what matters, by whichever evaluator."""

from __future__ import annotations

from collections.abc import Sequence

from dspex.errors import StudyError
from dspex.importance.evaluator import ImportanceEvaluator
from dspex.importance.fanova import FanovaImportanceEvaluator
from dspex.importance.ped_anova import PedAnovaImportanceEvaluator
from dspex.importance.targets import Target
from dspex.study import Study

__all__ = ["get_param_importances", "get_param_interactions"]


def get_param_importances(
    study: Study,
    *,
    evaluator: ImportanceEvaluator | None = None,
    params: Sequence[str] | None = None,
    target: Target = None,
    normalize: bool = True,
) -> dict[str, float]:
    """How much each variable matters, by path, the most important first.

    Every variable that a completed trial has is assessed, conditional ones and the texts of prompts and demos
    included (as one of the candidates that were tried).

    Args:
        study: What was tried.
        evaluator: `PedAnovaImportanceEvaluator` by default: what sets the best trials apart.
            `FanovaImportanceEvaluator` says instead which share of the variance of the objective is due to a
            variable.
        params: The variables to assess; all by default.
        target: What they matter for: the index or name of an objective, or a function of the trial, of which less is
            better. By default the only objective; with several of them PED-ANOVA asks what matters for reaching the
            Pareto front.
        normalize: Whether to divide by the sum, so that they add up to 1.

    Raises:
        StudyError: when there are fewer than two completed trials, or an argument makes no sense.

    >>> from dspex.samplers import RandomSampler
    >>> from dspex.study import create_study
    >>> study = create_study(sampler=RandomSampler(seed=0))
    >>> study.optimize(lambda t: t.suggest_float("x", -1, 1) ** 2 + 0.1 * t.suggest_int("k", 0, 3), n_trials=200)
    >>> found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), normalize=False)
    >>> {path: round(share, 1) for path, share in found.items()}
    {'x': 0.9, 'k': 0.1}
    """
    if evaluator is not None and not isinstance(evaluator, ImportanceEvaluator):
        raise StudyError(
            f"evaluator must be an ImportanceEvaluator, got {evaluator!r} ({type(evaluator).__name__}); write "
            "evaluator=FanovaImportanceEvaluator()"
        )
    found = (evaluator or PedAnovaImportanceEvaluator()).evaluate(study, params, target=target)
    if not normalize:
        return found
    total = sum(found.values())
    return {path: value / total if total > 0 else 1.0 / len(found) for path, value in found.items()}


def get_param_interactions(
    study: Study,
    *,
    evaluator: FanovaImportanceEvaluator | None = None,
    params: Sequence[str] | None = None,
    target: Target = None,
) -> dict[tuple[str, str], float]:
    """Which share of the variance two variables explain only together, the largest first.

    Not normalized: next to the importances that `FanovaImportanceEvaluator` gives without normalizing, these are
    shares of the same variance. Costs a pass over each pair, so name ``params`` when there are many.

    Raises:
        StudyError: when there are fewer than two completed trials, or an argument makes no sense.

    >>> from dspex.samplers import RandomSampler
    >>> from dspex.study import create_study
    >>> study = create_study(sampler=RandomSampler(seed=0))
    >>> study.optimize(lambda t: t.suggest_float("x", -1, 1) * t.suggest_float("y", -1, 1), n_trials=200)
    >>> get_param_interactions(study)[("x", "y")] > 0.8
    True
    """
    return (evaluator or FanovaImportanceEvaluator()).interactions(study, params, target=target)
