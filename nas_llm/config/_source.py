"""One source of text in a problem definition."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from nas_llm.config._section import Section
from nas_llm.config._template import template_fields
from nas_llm.settings import SourceDefaults

AutoKind = Literal["prose", "questions", "chat", "code", "lists", "dialogue", "letters"]


class SourceSection(Section):
    """One source of text within a split."""

    source: str = Field(
        description="auto, self, a text, .jsonl or .parquet file, a folder of texts or of save_to_disk, or a hub name."
    )
    kind: AutoKind | None = Field(
        None, description="Of auto: one kind of text; default a mix of all but letters, which are left to judge by."
    )
    weight: float = Field(1.0, gt=0.0, description="Share of the split's windows.")
    column: str = Field(SourceDefaults.column, description="Text column of jsonl, parquet and hub sources.")
    template: str | None = Field(
        None, description="Text of a row, {name} standing for its column; {answer} and {choices} see below."
    )
    choices: str | tuple[str, ...] | None = Field(
        None, description="Column with the list of answers to choose from, or the columns with one each."
    )
    labels: str | tuple[str, ...] | None = Field(
        None, description="Column with the list of their labels, or the labels; none = positions from 0, or letters."
    )
    answer: str | None = Field(None, description="Column that names the right choice.")
    split: str = Field(SourceDefaults.split, description="Split of a hub dataset or of a folder.")
    subset: str | None = Field(None, description="Configuration name of a hub dataset.")
    revision: str | None = Field(None, description="Revision of a hub dataset.")

    @property
    def own(self) -> bool:
        """Whether it is text that the dense model writes."""
        return self.source in ("auto", "self")

    @model_validator(mode="after")
    def _template(self) -> SourceSection:
        if self.kind is not None and self.source != "auto":
            raise ValueError(f'kind is for source = "auto"; leave it out for {self.source!r}')
        if self.template is None:
            for name in ("choices", "labels", "answer"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f'{name} is for sources with a template, e.g. template = "{{question}} {{answer}}"'
                    )
            return self
        if self.column != SourceSection.model_fields["column"].default:
            raise ValueError("give column (the text of a row) or template (made from several columns), not both")
        if self.own:
            raise ValueError("a template needs columns, which the model's own text has not; name a file or a data set")
        template_fields(self.template)
        if (self.choices is None) != (self.answer is None):
            raise ValueError("choices (the answers) and answer (which one is right) go together; give both or none")
        if self.choices is None and self.labels is not None:
            raise ValueError("labels are those of choices; give choices too")
        return self
