"""``[[workload]]``: what subnets are asked to do, and what that may take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from nas_llm.config._section import Section
from nas_llm.errors import ConfigError
from nas_llm.hints import did_you_mean
from nas_llm.settings import LatencyDefaults
from nas_llm.sizes import size_in_bytes
from nas_llm.space import workload_objective
from nas_llm.workloads import Workload


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    size = size_in_bytes(value)
    if not size:
        raise ValueError(f'workload.max_memory = "{value}" is no size; write e.g. "2GB", "500MB" or 2000000000')
    return size


class WorkloadSection(Section):
    """One ``[[workload]]``."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", description="Names its costs: chat gives chat.seconds and chat.memory."
    )
    prompt: PositiveInt = Field(description="Tokens of a prompt.")
    new_tokens: PositiveInt = Field(description="Tokens decoded after the first.")
    batch: PositiveInt = Field(LatencyDefaults.batch, description="Sequences side by side.")
    device: str = Field(
        LatencyDefaults.device, description="Where times are measured; auto = that of candidate evaluation."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        LatencyDefaults.dtype, description="Type of weights and KV cache; auto = that of candidate evaluation."
    )
    threads: PositiveInt | None = Field(None, description="CPU threads; default those of the process.")
    max_seconds: Annotated[PositiveFloat, Field(allow_inf_nan=False)] | None = Field(
        None, description="Most predicted seconds of a reported point."
    )
    max_memory: Annotated[PositiveInt, BeforeValidator(_bytes)] | None = Field(
        None, description='Most predicted memory of a reported point, in bytes or as "2GB".'
    )

    def resolved(self, dtype: str) -> Workload:
        """The workload itself.

        Args:
            dtype: Arithmetic of candidates.
        """
        return Workload(
            name=self.name,
            prompt=self.prompt,
            new_tokens=self.new_tokens,
            batch=self.batch,
            dtype=dtype if self.dtype == "auto" else self.dtype,
        )

    @property
    def limits(self) -> tuple[tuple[str, str, float], ...]:
        """Key, cost and bound of its limits."""
        given = (("max_seconds", "seconds", self.max_seconds), ("max_memory", "memory", self.max_memory))
        return tuple(
            (f"workload.{self.name}.{key}", f"{self.name}.{cost}", limit) for key, cost, limit in given if limit
        )


def check_workloads(workloads: Sequence[WorkloadSection], objectives: Sequence[str]) -> None:
    """Refuse workloads of one name, and objectives that name a workload that is not there.

    Raises:
        ValueError: If there are such.
    """
    names = [workload.name for workload in workloads]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f'workload has the name "{twice[0]}" twice; give each its own')
    for objective in objectives:
        if workload_objective(objective) is not None and objective.rpartition(".")[0] not in names:
            raise ValueError(f'objectives has "{objective}"; {unknown_workload(objective.rpartition(".")[0], names)}')


def unknown_workload(name: str, known: Sequence[str]) -> str:
    """What is said of a workload that is not there.

    Args:
        name: Its name.
        known: Those that are there.
    """
    if not known:
        return f'there is no workload "{name}", the problem defines none; add a table [[workload]] with this name'
    hint = did_you_mean(name, known, after=" ")
    return f'there is no workload "{name}"; {hint}known are {", ".join(known)}'


def find_workload(name: str, workloads: Sequence[WorkloadSection]) -> WorkloadSection:
    """The workload of a name.

    Args:
        name: Its name.
        workloads: Those of a problem.

    Raises:
        ConfigError: If there is none.
    """
    for workload in workloads:
        if workload.name == name:
            return workload
    raise ConfigError(unknown_workload(name, [workload.name for workload in workloads]))
