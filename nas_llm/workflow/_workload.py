"""What the points of a run take for a workload: one of its definition, or any other."""

from __future__ import annotations

from pathlib import Path

from nas_llm.config import WorkloadSection, find_workload
from nas_llm.errors import ConfigError
from nas_llm.events import EventHandler, ignore
from nas_llm.models import load_model, resolve_device, resolve_dtype
from nas_llm.runs import read_problem, read_workloads
from nas_llm.session import measured_workload
from nas_llm.workloads import WorkloadPredictor


def run_workload(
    run_dir: Path,
    name: str | None = None,
    *,
    prompt: int | None = None,
    new_tokens: int | None = None,
    batch: int | None = None,
    on_event: EventHandler = ignore,
) -> WorkloadPredictor:
    """Predict a workload for the points of a run.

    Times that the run does not have are found in the cache folder, or measured now.

    Args:
        run_dir: The run directory.
        name: A workload of its problem; default the only one, where no numbers are given.
        prompt: Tokens of the prompt of another workload.
        new_tokens: Tokens that it decodes after the first.
        batch: Sequences side by side; default 1.
        on_event: Called with every event.

    Raises:
        ConfigError: If the problem has no such workload, or the numbers are not whole.
        NasLlmError: If the run or its model cannot be used.
    """
    problem, resolved = read_problem(run_dir)
    numbers = (prompt, new_tokens, batch)
    section = _section(problem.workload, name, *numbers)
    tables = read_workloads(run_dir).get(section.name) if section in problem.workload else None
    device = resolve_device(problem.model.device)
    dtype = resolve_dtype(resolved.dtype, device)
    if tables is None:
        dense = load_model(problem.model.source, revision=problem.model.revision, offload=problem.model.offload)
        tables = measured_workload(dense, problem, section, dtype, on_event)
    return WorkloadPredictor(section.resolved(str(dtype).removeprefix("torch.")), tables)


def _section(
    known: tuple[WorkloadSection, ...],
    name: str | None,
    prompt: int | None,
    new_tokens: int | None,
    batch: int | None,
) -> WorkloadSection:
    given = [number for number in (prompt, new_tokens, batch) if number is not None]
    if name is not None:
        if given:
            raise ConfigError(
                f"workload {name} has its numbers from the problem; leave out either its name or prompt, new tokens "
                f"and batch"
            )
        return find_workload(name, known)
    if not given and len(known) == 1:
        return known[0]
    if prompt is None or new_tokens is None:
        names = f"name one of {', '.join(workload.name for workload in known)}, or " if known else ""
        raise ConfigError(f"which workload is not said; {names}give the tokens of the prompt and the new tokens")
    return WorkloadSection(name=f"{prompt}x{new_tokens}", prompt=prompt, new_tokens=new_tokens, batch=batch or 1)
