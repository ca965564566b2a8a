"""Text out of rows with several columns, such as questions with their answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter, ascii_uppercase
from typing import Any

from nas_llm.config import SourceSection, template_fields
from nas_llm.errors import DataError

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A prompt and what may follow it.

    Attributes:
        prompt: What stands before the answer.
        choices: The answers to choose from.
        answer: Place of the right one.
    """

    prompt: str
    choices: tuple[str, ...]
    answer: int


@dataclass(frozen=True, kw_only=True)
class RowTemplate:
    """A template whose names in braces stand for columns.

    A name may go into a column by dots (``choices.text``). With ``choices`` and ``answer`` two names mean more:
    ``{answer}`` is the text of the right choice, ``{choices}`` all of them, one a line behind its label.

    Attributes:
        template: The text.
        choices: Column with the list of choices, or the columns with one each.
        labels: Column with the list of their labels, or the labels; None: choices are named by their position from 0
            or by A, B, ...
        answer: Column that names the right choice.
    """

    template: str
    choices: str | tuple[str, ...] | None = None
    labels: str | tuple[str, ...] | None = None
    answer: str | None = None

    @classmethod
    def of(cls, section: SourceSection) -> RowTemplate | None:
        """The template of a source, if it has one."""
        if section.template is None:
            return None
        return cls(template=section.template, choices=section.choices, labels=section.labels, answer=section.answer)

    @property
    def names(self) -> tuple[str, ...]:
        """Columns that it reads, dotted as they were given."""
        names = list(template_fields(self.template))
        if self.choices is not None:
            assert self.answer is not None
            names = [name for name in names if name not in ("answer", "choices")]
            names += [self.choices] if isinstance(self.choices, str) else self.choices
            names += [self.labels] if isinstance(self.labels, str) else ()
            names.append(self.answer)
        return tuple(dict.fromkeys(names))

    def columns(self, available: Iterable[str], *, where: str) -> list[str]:
        """The columns of a table that it reads, whole.

        Raises:
            DataError: If one is not there.
        """
        there = list(available)
        return list(dict.fromkeys(_column(name, there, where) for name in self.names))

    def text(self, row: Row, *, where: str) -> str | None:
        """The text of a row; None where a value is missing (null).

        Raises:
            DataError: If the row lacks a column, a value is no text, or the answer is none of the choices.
        """
        values = self._values(row, where)
        if values is None:
            return None
        texts: dict[str, str] = {}
        if self.choices is not None:
            choices, place = self._choices(values, where), self._answer(values, where)
            texts = {"choices": self._listed(values, where), "answer": choices[place]}
        return self._filled(values, texts, where)

    def question(self, row: Row, *, where: str) -> Question | None:
        """The question of a row, its prompt being the text before the answer; None where a value is missing (null).

        Raises:
            DataError: As for :meth:`text`, and if there are not two choices with text, or no prompt.
        """
        values = self._values(row, where)
        if values is None:
            return None
        choices = self._choices(values, where)
        prompt = self._filled(values, {"choices": self._listed(values, where), "answer": ""}, where)
        if len(choices) < 2 or not all(choice.strip() for choice in choices):
            raise DataError(f"{where}: the choices are {choices}; a question needs two or more, none of them empty")
        if not prompt.strip():
            raise DataError(f"{where}: nothing stands before the answer; let the template begin with the question")
        return Question(prompt=prompt, choices=tuple(choices), answer=self._answer(values, where))

    def _values(self, row: Row, where: str) -> dict[str, Any] | None:
        values = {name: _look_up(name, row, where) for name in self.names}
        return None if any(value is None for value in values.values()) else values

    def _filled(self, values: Mapping[str, Any], texts: Mapping[str, str], where: str) -> str:
        """The template with ``texts`` for what is not a column."""
        names = template_fields(self.template)
        columns = {name: _text(values[name], name, where) for name in names if name not in texts}
        # Not str.format, which would take dots for attributes.
        return _fill(self.template, {**texts, **columns})

    def _listed(self, values: Mapping[str, Any], where: str) -> str:
        """All choices, one a line behind its label."""
        shown = self._labels(values, where) or list(ascii_uppercase)
        pairs = zip(shown, self._choices(values, where), strict=False)
        return "\n".join(f"{name}. {choice}" for name, choice in pairs)

    def _answer(self, values: Mapping[str, Any], where: str) -> int:
        count = len(self._choices(values, where))
        return self._position(values[str(self.answer)], self._labels(values, where), count, where)

    def _choices(self, values: Mapping[str, Any], where: str) -> list[str]:
        if isinstance(self.choices, tuple):
            return [_text(values[name], name, where) for name in self.choices]
        return _texts(values[str(self.choices)], str(self.choices), where)

    def _labels(self, values: Mapping[str, Any], where: str) -> list[str]:
        if isinstance(self.labels, str):
            return _texts(values[self.labels], self.labels, where)
        return list(self.labels or ())

    def _position(self, answer: Any, labels: Sequence[str], count: int, where: str) -> int:
        """Place of the right choice."""
        name = str(int(answer)) if isinstance(answer, bool) else str(answer).strip()
        letters = ascii_uppercase[:count]
        known = list(labels) or [*map(str, range(count)), *letters]
        if name not in known:
            raise DataError(
                f"{where}: the answer {name!r} is none of {', '.join(map(repr, known))}; say with labels how the "
                f"choices are called"
            )
        place = letters.index(name) if not labels and name in letters else known.index(name)
        if place >= count:
            raise DataError(f"{where}: the answer {name!r} is choice {place + 1} of {count}; check labels and choices")
        return place


def _fill(template: str, texts: Mapping[str, str]) -> str:
    return "".join(
        literal + (texts[name] if name is not None else "") for literal, name, _, _ in Formatter().parse(template)
    )


def _column(name: str, available: Sequence[str], where: str) -> str:
    """The column that a dotted name begins with; a column may have dots in its own name."""
    for column in (name, name.partition(".")[0]):
        if column in available:
            return column
    raise missing_column(column=name, columns=available, where=where)


def _look_up(name: str, row: Row, where: str) -> Any:
    column = _column(name, list(row), where)
    value = row[column]
    for step in name.removeprefix(column).split(".")[1:]:
        if value is None:
            return None
        if not isinstance(value, Mapping) or step not in value:
            inside = f"; there are {', '.join(map(repr, value))}" if isinstance(value, Mapping) else ""
            raise DataError(f"{where}: column {column!r} holds no {step!r} ({name}){inside}")
        value = value[step]
    return value


def _texts(value: Any, name: str, where: str) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise DataError(f"{where}: {name!r} is {type(value).__name__}, not a list of texts; name the list, or columns")
    return [_text(item, name, where) for item in value]


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    raise DataError(
        f"{where}: {name!r} is {type(value).__name__}, not text; name a part of it (with a dot), or give choices and "
        f"answer"
    )


def missing_column(*, column: str, columns: Iterable[str], where: str) -> DataError:
    """The error for a column that is not there."""
    return DataError(f"{where}: no column {column!r}; its columns are {', '.join(map(repr, columns)) or 'none'}")
