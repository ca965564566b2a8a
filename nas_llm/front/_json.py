"""``front.json``, schema 1."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from nas_llm.errors import NasLlmError, RunError
from nas_llm.front._point import FrontPoint, UniformBaseline
from nas_llm.space import Cost, Genome, the_quality

FRONT_FILE = "front.json"
_SCHEMA = 1
_NUMBER = (int, float)
# Keys of the document and what they have to be; those of a point below.
_FRONT: Mapping[str, type | tuple[type, ...]] = {
    "problem": str,
    "seed": int,
    "model": dict,
    "data": dict,
    "objectives": list,
    "weights": str,
    "hypervolume": _NUMBER,
    "dense": dict,
    "points": list,
}
_POINT: Mapping[str, type | tuple[type, ...]] = {
    "id": str,
    "digest": str,
    "genome": str,
    "objectives": dict,
    "cost": dict,
    "fitness_perplexity": (*_NUMBER, type(None)),
    "held_out_perplexity": (*_NUMBER, type(None)),
    "generation": int,
    "knee": bool,
}
_WORDS = {str: "a string", int: "a whole number", dict: "an object", list: "a list", bool: "true or false"}


def front_text(facts: Mapping[str, Any], *, dense: FrontPoint, points: Sequence[FrontPoint]) -> str:
    """The text of ``front.json``.

    Args:
        facts: Everything but the points, as plain data.
        dense: The dense model.
        points: The points.
    """
    document = {
        "schema": _SCHEMA,
        **facts,
        "dense": _point_to_data(dense),
        "points": [_point_to_data(point) for point in points],
    }
    return json.dumps(document, indent=1)


def front_fields(text: str) -> dict[str, Any]:
    """What :func:`front_text` wrote, as arguments of :class:`nas_llm.front.Front`.

    Raises:
        RunError: If the text is no front of a known schema, something in it is of a wrong type, or a genome does not
            match its digest.
    """
    try:
        data = json.loads(text)
        if not isinstance(data, dict) or data.get("schema") != _SCHEMA:
            found = data.get("schema") if isinstance(data, dict) else type(data).__name__
            raise RunError(f"the front has schema {found}, this version of nas-llm reads {_SCHEMA}")
        _check(data, _FRONT, "")
        _check(data["model"], {"source": str, "revision": str}, "model.")
        _check(data["data"], dict.fromkeys(data["data"], dict), "data.")
        if not all(isinstance(name, str) for name in data["objectives"]):
            raise TypeError("objectives should be a list of strings")
        the_quality(data["objectives"])
        return {
            **{name: data[name] for name in ("problem", "seed", "model", "data", "weights", "hypervolume")},
            "objectives": tuple(data["objectives"]),
            "dense": _point_from_data(data["dense"], "dense."),
            "points": tuple(_point_from_data(point, f"points[{n}].") for n, point in enumerate(data["points"])),
            "labels": _labels(data.get("labels", {})),
        }
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
        "cost": {name: value for name, value in asdict(point.cost).items() if name != "further" or value},
        "fitness_perplexity": point.fitness_perplexity,
        "held_out_perplexity": point.held_out_perplexity,
        **({"texts": dict(point.texts)} if point.texts else {}),
        **({} if point.uniform is None else {"uniform": asdict(point.uniform)}),
        "layers": [dict(layer) for layer in point.layers],
        "knee": point.knee,
        "generation": point.generation,
        "genome": base64.b64encode(point.genome.to_bytes()).decode("ascii"),
    }


def _point_from_data(data: Any, place: str) -> FrontPoint:
    if not isinstance(data, dict):
        raise TypeError(f"{place.rstrip('.')} should be an object, is {_shown(data)}")
    _check(data, _POINT, place)
    _check(data["objectives"], dict.fromkeys(data["objectives"], _NUMBER), f"{place}objectives.")
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
        cost=_cost(data["cost"], f"{place}cost."),
        fitness_perplexity=data["fitness_perplexity"],
        held_out_perplexity=data["held_out_perplexity"],
        texts=_texts(data.get("texts", {}), f"{place}texts"),
        uniform=_uniform(data.get("uniform"), f"{place}uniform"),
        generation=data["generation"],
        knee=data["knee"],
    )


def _cost(data: dict[str, Any], place: str) -> Cost:
    known = {field.name for field in fields(Cost)}
    optional: dict[str, type | tuple[type, ...]] = {"latency": (*_NUMBER, type(None)), "further": dict}
    _check(data, dict.fromkeys(known - optional.keys(), _NUMBER), place)
    _check(data, {name: kind for name, kind in optional.items() if name in data}, place)
    stray = sorted(data.keys() - known)
    if stray:
        raise TypeError(f"{place}{stray[0]} is no cost that this version of nas-llm knows")
    further = data.get("further", {})
    _check(further, dict.fromkeys(further, _NUMBER), f"{place}further.")
    return Cost(**data)


def _texts(data: Any, place: str) -> dict[str, float]:
    _check({place: data}, {place: dict}, "")
    _check(data, dict.fromkeys(data, _NUMBER), f"{place}.")
    return dict(data)


def _uniform(data: Any, place: str) -> UniformBaseline | None:
    if data is None:
        return None
    _check({place: data}, {place: dict}, "")
    numbers = dict.fromkeys(("inheriting_ratio", "quality", "held_out_perplexity"), _NUMBER)
    _check(data, {"allocation": str, **numbers, "texts": dict}, f"{place}.")
    texts = _texts(data["texts"], f"{place}.texts")
    return UniformBaseline(allocation=data["allocation"], **{name: data[name] for name in numbers}, texts=texts)


def _labels(data: Any) -> dict[str, Any]:
    _check({"labels": data}, {"labels": dict}, "")
    _check(data, dict.fromkeys(data, dict), "labels.")
    for name, said in data.items():
        _check(said, {"title": str, "unit": str}, f"labels.{name}.")
    return {name: {"title": said["title"], "unit": said["unit"]} for name, said in data.items()}


def _check(data: Mapping[str, Any], wanted: Mapping[str, type | tuple[type, ...]], place: str) -> None:
    """Every key is there and of its type; a bool is no number."""
    for name, kinds in wanted.items():
        if name not in data:
            raise KeyError(f"{place}{name}")
        value, allowed = data[name], kinds if isinstance(kinds, tuple) else (kinds,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
            words = _WORDS.get(allowed[0], "a number") if len(allowed) == 1 else "a number"
            raise TypeError(f"{place}{name} should be {words}, is {_shown(value)}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
