#!/usr/bin/env bash
# Good guess:   get_param_importances without an evaluator is fANOVA: the share of the variance that a parameter
#               explains. In f = 1000 x (kind == "b") + x with x from 0 to 1, "kind" explains all of it and x nothing.
# What happens: Optuna 5 uses PED-ANOVA by default, which asks what tells the best trials from the rest: x gets most
#               of it, since all trials of the good kind look alike to it but for x. fANOVA, asked by name, says the
#               opposite. The plots of plot_param_importances change with it.
# Seen with:    optuna 5.0.0, scikit-learn 1.9.1, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile optuna==5.0.0 scikit-learn==1.9.1 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
study.optimize(
    lambda trial: 1000 * (trial.suggest_categorical("kind", ["a", "b"]) == "b") + trial.suggest_float("x", 0, 1),
    n_trials=200,
)
default = get_param_importances(study)
variance = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
print("optuna", optuna.__version__)
for name, values in (("default", default), ("fANOVA", variance)):
    print(f"{name}:", {key: round(float(value), 3) for key, value in values.items()})
assert default["x"] > 0.8 > 0.2 > default["kind"]
assert variance["kind"] > 0.99
print("as described: the default calls the parameter that moves nothing the important one")
PY
