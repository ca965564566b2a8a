"""An Optuna script of one's own around nas-llm's objective: own names, own ranges, any sampler, any pruner.

``python examples/own_optuna_script.py`` takes about a minute. Look at it with ``nas-llm dashboard own.journal``.
"""

from __future__ import annotations

from typing import Any

import optuna

from nas_llm.studies import ParameterSection, StudyDefinition, make_objective, open_storage, resolve_study

# What all trials have in common. The ranges here are what the objective would suggest by itself.
definition = StudyDefinition(
    name="own",
    problem="tiny-llama",
    evaluations=32,
    seeds=(0, 1),
    parameters={"search.population": ParameterSection(low=8, high=16)},
)


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Settings of a trial: any key of a problem's [search], [search.operators] and [fitness]."""
    guided = trial.suggest_float("guided", 0.0, 1.0)
    return {
        "search.population": trial.suggest_int("population", 8, 16, step=4),
        "search.operators.guided_probability": guided,
        # Something that ranges alone cannot say.
        "search.operators.mask_probability": 1.0 - guided,
    }


def main() -> None:
    """Run a few trials and say which was best."""
    # Model, text and calibration are prepared here, once for all trials.
    objective = make_objective(resolve_study(definition), suggest=suggest)
    study = optuna.create_study(
        study_name="own",
        storage=open_storage("own.journal"),
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
        load_if_exists=True,
    )
    study.optimize(objective, n_trials=6)
    print(f"hypervolume {study.best_value:.4f} with {study.best_params}")


if __name__ == "__main__":
    main()
