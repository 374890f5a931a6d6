"""A plain function, as in Optuna: no module, no model, the same study.

python examples/plain_function.py
"""

from __future__ import annotations

import dspex


def objective(trial: dspex.Trial) -> float:
    """How far a made-up oven is from the perfect loaf; the steam setting exists only for the steam oven."""
    oven = trial.suggest_categorical("oven", ["stone", "steam"])
    heat = trial.suggest_float("heat", 150.0, 260.0)
    minutes = trial.suggest_int("minutes", 10, 60)
    loss = ((heat - 230.0) / 40.0) ** 2 + ((minutes - 35) / 15) ** 2
    if oven == "steam":
        steam = trial.suggest_float("steam", 0.01, 1.0, log=True)
        return loss + (steam - 0.2) ** 2
    return loss + 0.5


def main(n_trials: int = 80) -> dspex.Study:
    study = dspex.create_study(direction="minimize", sampler=dspex.samplers.TPESampler(seed=1))
    study.optimize(objective, n_trials=n_trials)
    print(f"best of {len(study.trials)} trials: {study.best_value:.4f} with {study.best_params}")
    return study


if __name__ == "__main__":
    main()
