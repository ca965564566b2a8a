"""``front.json``, schema 1."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict
from typing import Any

from nas_llm.errors import NasLlmError, RunError
from nas_llm.space import Cost, Genome
from nas_llm.workflow._types import Front, FrontPoint

_SCHEMA = 1


def front_to_json(front: Front) -> str:
    """The text of ``front.json``."""
    return json.dumps(
        {
            "schema": _SCHEMA,
            "problem": front.problem,
            "seed": front.seed,
            "model": dict(front.model),
            "data": {name: dict(windows) for name, windows in front.data.items()},
            "objectives": list(front.objectives),
            "weights": front.weights,
            "hypervolume": front.hypervolume,
            "dense": _point_to_data(front.dense),
            "points": [_point_to_data(point) for point in front.points],
        },
        indent=1,
    )


def front_from_json(text: str) -> Front:
    """Inverse of :func:`front_to_json`.

    Raises:
        RunError: If the text is no front of a known schema, or a genome does not match its digest.
    """
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("schema") != _SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise RunError(f"the front has schema {found}, this version of nas-llm reads {_SCHEMA}")
        return Front(
            problem=data["problem"],
            seed=data["seed"],
            model=data["model"],
            data=data["data"],
            objectives=tuple(data["objectives"]),
            weights=data["weights"],
            hypervolume=data["hypervolume"],
            dense=_point_from_data(data["dense"]),
            points=tuple(_point_from_data(point) for point in data["points"]),
        )
    except RunError:
        raise
    except (ValueError, KeyError, TypeError, NasLlmError) as error:
        what = f"no key {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(f"the front is corrupt ({what}); resume the search to write it again") from error


def _point_to_data(point: FrontPoint) -> dict[str, Any]:
    return {
        "id": point.id,
        "digest": point.digest,
        "objectives": dict(point.objectives),
        "cost": asdict(point.cost),
        "fitness_perplexity": point.fitness_perplexity,
        "held_out_perplexity": point.held_out_perplexity,
        "layers": [dict(layer) for layer in point.layers],
        "knee": point.knee,
        "generation": point.generation,
        "genome": base64.b64encode(point.genome.to_bytes()).decode("ascii"),
    }


def _point_from_data(data: dict[str, Any]) -> FrontPoint:
    try:
        genome = Genome.from_bytes(base64.b64decode(data["genome"], validate=True))
    except binascii.Error as error:
        raise RunError(f"the genome of point {data['id']} is corrupt: {error}") from error
    if genome.digest() != data["digest"]:
        raise RunError(f"the genome of point {data['id']} does not match its digest; the front was edited or damaged")
    return FrontPoint(
        id=data["id"],
        genome=genome,
        objectives=data["objectives"],
        cost=Cost(**data["cost"]),
        fitness_perplexity=data["fitness_perplexity"],
        held_out_perplexity=data["held_out_perplexity"],
        generation=data["generation"],
        knee=data["knee"],
    )
