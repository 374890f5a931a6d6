"""Which variables matter: importances, interactions, and the way from the defaults to the best, step by step.

>>> from dspex.samplers import RandomSampler
>>> from dspex.study import create_study
>>> study = create_study(sampler=RandomSampler(seed=1))
>>> study.optimize(lambda t: 4 * t.suggest_float("x", 0, 1) + t.suggest_float("y", 0, 1), n_trials=100)
>>> list(get_param_importances(study))
['x', 'y']
"""

from dspex.importance.ablation import Ablation, AblationStep, ablate
from dspex.importance.asking import get_param_importances, get_param_interactions
from dspex.importance.evaluator import ImportanceEvaluator
from dspex.importance.fanova import FanovaImportanceEvaluator
from dspex.importance.ped_anova import PedAnovaImportanceEvaluator
from dspex.importance.targets import Target

__all__ = [
    "Ablation",
    "AblationStep",
    "FanovaImportanceEvaluator",
    "ImportanceEvaluator",
    "PedAnovaImportanceEvaluator",
    "Target",
    "ablate",
    "get_param_importances",
    "get_param_interactions",
]
