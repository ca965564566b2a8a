"""``[data.questions]`` and the terms of a weighted fitness: what a search asks of answers."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt

from nas_llm.config._section import Section
from nas_llm.config._source import SourceSection
from nas_llm.config._template import ends_with_field
from nas_llm.hints import did_you_mean
from nas_llm.settings import QuestionDefaults
from nas_llm.space import objective
from nas_llm.space.objectives import BUILT_IN

TERMS = tuple(known.name for known in BUILT_IN if known.measured and known.of != "terms")
"""What a weighted fitness may be made of."""


def _question_source(section: SourceSection) -> SourceSection:
    if section.choices is None:
        raise ValueError(
            f"source {section.source!r} of questions has no choices; give template, choices and answer, e.g. "
            'template = "Question: {question}\\nAnswer: {answer}", choices = "choices", answer = "answer"'
        )
    if not ends_with_field(section.template or "", "answer"):
        raise ValueError(
            f"template {section.template!r} of questions must end with {{answer}}, and have it once: what stands "
            "before is the prompt, and each choice is scored in its place"
        )
    return section


class QuestionSection(Section):
    """``[data.questions]``: questions with right and wrong answers."""

    count: PositiveInt = Field(QuestionDefaults.count, description="Questions in all, shared between the sources.")
    tokens: PositiveInt = Field(
        QuestionDefaults.tokens,
        description="Most tokens of all choices, each with its prompt; fewer questions if need be.",
    )
    sources: tuple[Annotated[SourceSection, AfterValidator(_question_source)], ...] = Field(min_length=1)


def checked_terms(terms: Mapping[str, float]) -> Mapping[str, float]:
    """Refuse terms that cannot be added up.

    Raises:
        ValueError: If one is unknown, a weight is not positive, or two of them measure the same text.
    """
    for name, weight in terms.items():
        if name not in TERMS:
            hint = did_you_mean(name, TERMS, 0.4)
            raise ValueError(
                f'fitness.terms has an unknown term "{name}"; {hint}{" " if hint else ""}known are {", ".join(TERMS)}'
            )
        if not (isfinite(weight) and weight > 0.0):
            raise ValueError(f"fitness.terms.{name} = {weight} is no weight; give a number above 0, or leave it out")
    same = [name for name in terms if objective(name).of == "tokens"]
    if len(same) > 1:
        raise ValueError(f"fitness.terms has {' and '.join(same)}, which measure the same text; give one of them")
    return terms


def losses_of(quality: str, terms: Mapping[str, float]) -> tuple[str, ...]:
    """The losses that a measured objective is made of."""
    return tuple(terms) if objective(quality).of == "terms" else (quality,)


def asks_questions(quality: str, terms: Mapping[str, float]) -> bool:
    """Whether a measured objective looks at answers."""
    return any(objective(name).of == "questions" for name in losses_of(quality, terms))


def check_quality(quality: str, terms: Mapping[str, float], questions: QuestionSection | None) -> None:
    """Refuse a quality objective that lacks its terms or questions.

    Raises:
        ValueError: If it does; says what to add.
    """
    summed = objective(quality).of == "terms"
    if summed and not terms:
        raise ValueError(
            f'the objective "{quality}" is a weighted sum of terms; give them, e.g. fitness.terms = {{kl = 1.0, '
            "margin = 0.5}"
        )
    if terms and not summed:
        raise ValueError(
            f'fitness.terms are those of the objective "fitness", but objectives name "{quality}"; name "fitness" '
            "instead, or leave the terms out"
        )
    if asks_questions(quality, terms) and questions is None:
        raise ValueError(
            "margin is measured on questions, and there are none; give [data.questions] with sources that have "
            "template, choices and answer"
        )
