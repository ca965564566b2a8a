"""Where an exported subnet comes from, as its card tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas_llm.export import Provenance
from nas_llm.finishing import FinishPlan
from nas_llm.runs import package_versions
from nas_llm.session._prepared import Prepared
from nas_llm.space import Genome


def subnet_provenance(
    prepared: Prepared,
    plan: FinishPlan,
    chosen: Mapping[str, float],
    genome: Genome,
    *,
    point: str,
    texts: Mapping[str, Mapping[str, Any]],
    perplexities: Mapping[str, tuple[float | None, float]],
    reproduce: Sequence[str],
) -> Provenance:
    """Everything that the card of a finished subnet says.

    Args:
        prepared: The problem.
        plan: How it was finished.
        chosen: What it took where the plan names several values.
        genome: Its masks.
        point: What it is called.
        texts: Split name to description of its windows; the text of the finish is added.
        perplexities: Split name to (dense, subnet) perplexity; those whose dense one is not known are dropped.
        reproduce: Shell commands, behind the installation of this version.
    """
    made_by, versions = plan.describe(prepared.splits.finish), package_versions()
    return Provenance(
        base_model=prepared.dense.source,
        base_revision=prepared.dense.revision,
        problem=prepared.problem.name,
        seed=prepared.problem.seed,
        point=point,
        genome=genome,
        cost=prepared.cost_model(genome),
        dense_cost=prepared.cost_model.dense,
        sequence_length=prepared.problem.sequence_length,
        weights=plan.in_words(prepared.splits.finish, chosen),
        texts={**texts, **({"reconstruction": made_by["text"]} if "text" in made_by else {})},
        perplexities={name: (dense, subnet) for name, (dense, subnet) in perplexities.items() if dense is not None},
        reproduce=(f"pip install nas-llm=={versions['nas-llm']}", *reproduce),
        versions=versions,
    )
