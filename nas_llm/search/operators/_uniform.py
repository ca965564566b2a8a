"""The models that a search has to beat: the same size, allocated without one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nas_llm.search.operators._sampling import ImportanceSampling
from nas_llm.search.operators.repair import GenomeRepair
from nas_llm.space import Genome

_HALVINGS = 14


def uniform_genomes(repair: GenomeRepair, ratio: float) -> Mapping[str, Genome]:
    """Genomes that keep the same share of every layer, no larger than an inheriting ratio and as near as they come.

    ``FFN first``: every FFN the same channels, attention whole as long as FFNs can give; ``everything``: the same
    share of attention and FFN (the paper's initial subnet). The most important units of every layer are inherited.
    What the space does not allow, or what stays far above the ratio, is left out.

    Args:
        repair: Knows space, scores and costs.
        ratio: The inheriting ratio.
    """
    sampling = ImportanceSampling(repair)
    kinds: Mapping[str, Callable[[float], Genome]] = {
        "FFN first": sampling.anchor,
        "everything": sampling.initial_subnet,
    }
    found: dict[str, Genome] = {}
    for name, make in kinds.items():
        genome = _largest(make, ratio, repair)
        if genome is not None and genome not in found.values():
            found[name] = genome
    return found


def _largest(make: Callable[[float], Genome], ratio: float, repair: GenomeRepair) -> Genome | None:
    """The largest genome at or below a ratio, of a maker whose genomes grow with what it is given."""
    low, high, best, best_ratio = 0.0, 1.0, None, 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        genome = make(middle)
        found = repair.cost_model(genome).inheriting_ratio
        if found > ratio:
            high = middle
            continue
        low = middle
        if found >= best_ratio and repair.space.contains(genome):
            best, best_ratio = genome, found
    return best
