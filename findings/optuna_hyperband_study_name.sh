#!/usr/bin/env bash
# Good guess:   a study is repeated exactly by the same seed of the sampler and the same objective, one after the
#               other; its name is a label.
# What happens: HyperbandPruner chooses a trial's bracket from a checksum of the study's name and the trial's number,
#               so another name prunes other trials at other steps. Without a name Optuna makes a random one: a
#               nameless study with Hyperband is never the same twice, seed or not.
# Seen with:    optuna 5.0.0, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile optuna==5.0.0 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import optuna
from optuna.pruners import HyperbandPruner, SuccessiveHalvingPruner

optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    for step in range(1, 28):
        trial.report(x + 1 / step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x


def last_steps(name: str | None, pruner: optuna.pruners.BasePruner) -> list[int | None]:
    study = optuna.create_study(study_name=name, sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner)
    study.optimize(objective, n_trials=40)
    return [trial.last_step for trial in study.trials]


def hyperband(name: str | None) -> list[int | None]:
    return last_steps(name, HyperbandPruner(min_resource=1, max_resource=27, reduction_factor=3))


print("optuna", optuna.__version__)
first, again, other = hyperband("first"), hyperband("first"), hyperband("other")
print("name 'first':", first)
print("name 'other':", other)
assert first == again
assert first != other
assert hyperband(None) != hyperband(None)
assert last_steps("first", SuccessiveHalvingPruner()) == last_steps("other", SuccessiveHalvingPruner())
print("as described: the name of the study decides which trials Hyperband prunes")
PY
