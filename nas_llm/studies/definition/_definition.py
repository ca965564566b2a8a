"""The study definition: which evolution hyperparameters of which problem are tuned, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from nas_llm.search.engine import WORST_COST, WORST_QUALITY

Scalar = bool | int | float | str


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ParameterSection(_Section):
    """The range of one hyperparameter: ``low`` and ``high``, both included, or ``choices``."""

    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = Field(None, description="Distance of neighbouring values.")
    log: bool = Field(False, description="Draw on a logarithmic scale.")
    choices: tuple[Scalar, ...] | None = None


class ReferenceSection(_Section):
    """``reference``: where the box ends that hypervolumes are shares of."""

    quality: float = Field(WORST_QUALITY, gt=1.0, description="Times the dense model's perplexity.")
    cost: float = Field(WORST_COST, gt=0.0, description="Times the dense model's costs.")


class SamplerSection(_Section):
    """``[sampler]``: an Optuna sampler by name."""

    name: str = "tpe"
    args: dict[str, Any] = Field(default_factory=dict)


class PrunerSection(_Section):
    """``[pruner]``: an Optuna pruner by name."""

    name: str = "median"
    args: dict[str, Any] = Field(default_factory=dict)


class StudyDefinition(_Section):
    """A study; see ``docs/studies.md`` for every key."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    problem: str = Field(description="A packaged problem, or a TOML file relative to this one.")
    set: tuple[str, ...] = Field((), description="Overrides of the problem, as behind --set of a search.")
    evaluations: PositiveInt = Field(description="Budget of every search.")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 1), min_length=1, description="One search for each.")
    trials: PositiveInt = 20
    objectives: tuple[Literal["hypervolume", "seconds"], ...] = ("hypervolume",)
    reference: ReferenceSection = ReferenceSection()
    report_every: PositiveInt | None = Field(None, description="Evaluations between reports; default an eighth.")
    seed: int = Field(0, ge=0, description="Seed of the sampler.")
    sampler: SamplerSection = SamplerSection()
    pruner: PrunerSection = PrunerSection()
    parameters: dict[str, ParameterSection] = Field(min_length=1)

    @model_validator(mode="after")
    def _objectives(self) -> StudyDefinition:
        if self.objectives not in (("hypervolume",), ("hypervolume", "seconds")):
            raise ValueError(
                f'objectives must be ["hypervolume"] or ["hypervolume", "seconds"], got {list(self.objectives)}'
            )
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds must be different, got {list(self.seeds)}")
        return self

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers of evaluations at which hypervolumes are reported, the whole budget last."""
        every = self.report_every or max(1, self.evaluations // 8)
        return (*range(every, self.evaluations, every), self.evaluations)
