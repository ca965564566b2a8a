"""What all tables of a definition have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)
