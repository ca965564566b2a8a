"""pymoo's multi-objective algorithms and the paper's evolution, with our operators in them."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from pymoo.core.termination import NoTermination
from pymoo.termination.max_gen import MaximumGenerationTermination
from pymoo.util.ref_dirs import get_reference_directions

from nas_llm.config import SearchSection
from nas_llm.errors import ConfigError
from nas_llm.hints import did_you_mean
from nas_llm.search.engine._duplicates import DigestDuplicates
from nas_llm.search.engine._problem import SubnetProblem
from nas_llm.search.engine._pymoo import PymooCrossover, PymooMutation, PymooRepair, PymooSampling
from nas_llm.search.engine.paper import InitialPopulation, PaperEvolution, check_window, paper_schedule
from nas_llm.search.operators import AssortativeSelection, ImportanceSampling, Operators, build_mutation
from nas_llm.space import CostConstraints, FloatArray


class _Entry(NamedTuple):
    module: str
    name: str


# Those that take sampling, crossover, mutation and repair, and whose state can be written to a checkpoint. MOEA/D
# keeps a running generator and refuses constraints; C-TAEA does not end when a generation is cut short.
_ALGORITHMS = {
    "nsga2": _Entry("nsga2", "NSGA2"),
    "nsga3": _Entry("nsga3", "NSGA3"),
    "unsga3": _Entry("unsga3", "UNSGA3"),
    "rvea": _Entry("rvea", "RVEA"),
    "sms": _Entry("sms", "SMSEMOA"),
    "spea2": _Entry("spea2", "SPEA2"),
    "age": _Entry("age", "AGEMOEA"),
    "age2": _Entry("age2", "AGEMOEA2"),
}
_PAPER = "paper"
_ALIASES = {"smsemoa": "sms", "agemoea": "age", "agemoea2": "age2"}
_OURS = ("pop_size", "sampling", "crossover", "mutation", "repair", "eliminate_duplicates", "ref_dirs", "seed")
# Mating gives up after so many fruitless rounds; the runner asks again a few times before it calls a space exhausted.
_MATING_ROUNDS = 10


def algorithm_names() -> tuple[str, ...]:
    """The algorithms that :func:`build_algorithm` knows."""
    return (*_ALGORITHMS, _PAPER)


def check_algorithm(section: SearchSection, constraints: CostConstraints) -> None:
    """Refuse an algorithm, or arguments of it, that a search could not begin with.

    Args:
        section: Name and further arguments of the algorithm.
        constraints: Bounds on the cost; the paper's evolution needs an upper one.

    Raises:
        ConfigError: See :func:`build_algorithm`.
    """
    if section.algorithm == _PAPER:
        paper_schedule(section)
        check_window(section, constraints)
    else:
        _arguments(_find(section.algorithm), section)


def build_algorithm(section: SearchSection, operators: Operators, problem: SubnetProblem, *, seed: int) -> Any:
    """Set an algorithm up for a problem; its random state depends on the seed alone.

    Args:
        section: Name, population, budget and further arguments of the algorithm.
        operators: What makes and mends genomes.
        problem: The problem.
        seed: Seed of all randomness.

    Returns:
        The pymoo algorithm, ready for ``ask``.

    Raises:
        ConfigError: If the name or an argument is unknown, a value is of a wrong type or out of range, a package that
            the algorithm needs is missing, or the paper's evolution has no window of cost.
    """
    if section.algorithm == _PAPER:
        check_window(section, problem.constraints)
        return _paper(section, operators, problem).setup(problem, seed=seed, termination=NoTermination())
    kind = _find(section.algorithm)
    arguments = _arguments(kind, section)
    ref_dirs = "ref_dirs" in inspect.signature(kind).parameters
    if ref_dirs:
        arguments["ref_dirs"] = _reference_directions(problem.n_obj, section.population)
    if kind.__name__ == "SPEA2":
        # pymoo's default is one object with state, shared by all runs of a process.
        arguments["survival"] = importlib.import_module("pymoo.algorithms.moo.spea2").SPEA2Survival(normalize=True)
    # Small generations: what one has taught guides the next.
    arguments.setdefault("n_offsprings", -(-section.population // 4))
    algorithm = kind(
        pop_size=section.population,
        sampling=PymooSampling(operators.sampling.draw),
        crossover=PymooCrossover(operators.crossover, probability=operators.crossover_probability),
        mutation=PymooMutation(operators.mutation),
        repair=PymooRepair(operators.repair),
        eliminate_duplicates=DigestDuplicates(),
        **arguments,
    )
    algorithm.output = None
    algorithm.mating.n_max_iterations = _MATING_ROUNDS
    price = next(index for index, name in enumerate(problem.objectives) if name != problem.quality)
    algorithm.mating.selection = AssortativeSelection(kind, objective=price)
    generations = 1 - (section.population - section.evaluations) // arguments["n_offsprings"]
    # The budget is the runner's business; RVEA alone schedules by the number of generations.
    termination = MaximumGenerationTermination(generations) if section.algorithm == "rvea" else NoTermination()
    return algorithm.setup(problem, seed=seed, termination=termination)


def _paper(section: SearchSection, operators: Operators, problem: SubnetProblem) -> PaperEvolution:
    schedule = paper_schedule(section)
    mutation = build_mutation(schedule.ordinary, operators.context)
    sampling = operators.sampling
    if type(sampling) is ImportanceSampling:
        # Ours spreads over the ratios; the paper begins at one. Somebody's own is taken as it is.
        sampling = InitialPopulation(sampling, mutation)
    return PaperEvolution(
        schedule=schedule,
        sampling=sampling,
        mutation=mutation,
        strong=build_mutation(schedule.stronger, operators.context),
        crossover=operators.crossover,
        repair=operators.repair,
        objective=problem.objectives.index(problem.quality),
        pop_size=section.population,
    )


def _find(name: str) -> Any:
    entry = _ALGORITHMS.get(_ALIASES.get(name, name))
    if entry is None:
        hint = did_you_mean(name, [*algorithm_names(), *_ALIASES], 0.4, most=2, quote="", after=" ")
        raise ConfigError(f"search.algorithm {name!r} is unknown; {hint}known are {', '.join(algorithm_names())}")
    try:
        module = importlib.import_module(f"pymoo.algorithms.moo.{entry.module}")
    except Exception as error:
        # pymoo raises a bare Exception where numba is missing.
        raise ConfigError(f"search.algorithm {name!r} cannot be used: {error}") from error
    return getattr(module, entry.name)


def _arguments(kind: Any, section: SearchSection) -> dict[str, Any]:
    arguments: Mapping[str, Any] = section.algorithm_args
    signature = inspect.signature(kind).parameters
    defaults = {
        name: parameter.default
        for name, parameter in signature.items()
        if isinstance(parameter.default, int | float | str | type(None))
    }
    allowed = {name: defaults.get(name) for name in {*defaults, "n_offsprings"} - {*_OURS, "kwargs", "self"}}
    for name, value in arguments.items():
        if name not in allowed:
            raise ConfigError(
                f"search.algorithm_args.{name} is unknown for {section.algorithm}; known are "
                f"{', '.join(sorted(allowed))}"
            )
        wanted = _wanted(value, allowed[name])
        if wanted:
            raise ConfigError(f"search.algorithm_args.{name} = {value!r} should be {wanted}")
    return dict(arguments)


def _wanted(value: Any, default: Any) -> str:
    """What an argument should be, by the default that pymoo gives it; nothing where it is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, str):
        return "" if isinstance(value, str) else "a name"
    if isinstance(default, float):
        return "" if is_number and 0 < value < math.inf else "a number above 0"
    # Counts, of which None stands for one that follows from the population.
    return "" if is_number and isinstance(value, int) and value > 0 else "a whole number above 0"


def _reference_directions(objectives: int, population: int) -> FloatArray:
    """As many evenly spaced directions as fit into the population (Das-Dennis)."""
    partitions = 1
    while _simplex_points(objectives, partitions + 1) <= population:
        partitions += 1
    return np.asarray(get_reference_directions("das-dennis", objectives, n_partitions=partitions), dtype=np.float64)


def _simplex_points(objectives: int, partitions: int) -> int:
    points = 1
    for index in range(1, objectives):
        points = points * (partitions + index) // index
    return points
