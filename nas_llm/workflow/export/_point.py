"""One point of a front: reconstructed, measured, written in each format, checked, moved into place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from nas_llm.errors import ExportError
from nas_llm.evaluation import check_reload
from nas_llm.export import Provenance, cast_weights, padded_layers
from nas_llm.files import staged_folder, write_atomic
from nas_llm.finishing import Finished, residual_csv, residual_rows
from nas_llm.runs import Run
from nas_llm.session import Prepared, SubnetMeasure, SubnetScores, subnet_provenance
from nas_llm.subnet import build_subnet
from nas_llm.workflow.export._record import ExportRecord
from nas_llm.workflow.export._task import ExportTask, write_completion

RESIDUALS_FILE = "reconstruction.csv"
WORK_PREFIX = ".partial-"


@dataclass(frozen=True)
class Refusal:
    """A format has no form for a point."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class _NoFormError(Exception):
    """A writer found out that its format has no form for a subnet."""


def refusal(task: ExportTask, prepared: Prepared) -> str | None:
    """Why a format has no form for a point; None if it has."""
    return task.format.refuses(task.point.genome, prepared.dense.model.config, task.settings)


def export_point(
    run: Run, tasks: Sequence[ExportTask], prepared: Prepared, finished: Finished | None
) -> list[ExportRecord | Refusal]:
    """Write one point in some formats.

    Args:
        run: The run.
        tasks: Tasks of the same point.
        prepared: The run's model and calibration.
        finished: Its weights; None if no format takes it.

    Returns:
        One answer for each task, in their order.

    Raises:
        ExportError: If the disk does not take it, or an export does not reload to what was written.
    """
    answers: dict[str, ExportRecord | Refusal] = {}
    for task in tasks:
        reason = refusal(task, prepared)
        if reason is not None:
            answers[task.name] = Refusal(task.name, reason)
    remaining = [task for task in tasks if task.name not in answers]
    if remaining:
        assert finished is not None
        subnet = build_subnet(prepared.dense, remaining[0].point.genome, edit=finished.edit)
        measure = SubnetMeasure(prepared)
        residuals = None if finished.residuals is None else residual_csv(residual_rows(finished.residuals))
        for task in remaining:
            answers[task.name] = _write(run, task, subnet, prepared, measure, residuals, finished.chosen)
    return [answers[task.name] for task in tasks]


def _write(
    run: Run,
    task: ExportTask,
    subnet: PreTrainedModel,
    prepared: Prepared,
    measure: SubnetMeasure,
    residuals: str | None,
    chosen: Mapping[str, float],
) -> ExportRecord | Refusal:
    # Other formats have arithmetic of their own; what is stated for them is measured before their rounding.
    written = cast_weights(subnet, task.settings.dtype) if task.format.name == "hf" else subnet
    scores = measure(written)
    made_by = task.plan.describe(prepared.splits.finish, chosen)
    provenance = _provenance(run, task, prepared, scores, chosen)
    try:
        with staged_folder(task.target, existing="replace", prefix=WORK_PREFIX, error=ExportError) as staging:
            # A writer makes the folder that it is given.
            staging.rmdir()
            try:
                task.format.write(subnet, prepared.dense, staging, provenance=provenance, settings=task.settings)
            except ExportError as error:
                if isinstance(error.__cause__, OSError):
                    # Named by the place that the user knows, not by our own folder.
                    raise error.__cause__ from error
                raise _NoFormError(str(error)) from error
            if task.format.name == "hf":
                check_reload(written, staging, task.target, prepared.splits.held_out)
            record = write_completion(task, staging, scores=scores, reconstruction=made_by)
            if residuals is not None:
                write_atomic(task.target.parent / RESIDUALS_FILE, residuals)
    except _NoFormError as error:
        return Refusal(task.name, str(error))
    return record


def _provenance(
    run: Run, task: ExportTask, prepared: Prepared, scores: SubnetScores, chosen: Mapping[str, float]
) -> Provenance:
    dense, point, name = run.front.dense, task.point, run.problem.name
    written = task.format.written(point.genome, prepared.dense.model.config, task.settings)
    padding = "--pad " if padded_layers(point.genome, written) else ""
    options = f"--format {task.format.name} --dtype {task.settings.dtype} {padding}{task.plan.as_options()}"
    return subnet_provenance(
        prepared,
        task.plan,
        chosen,
        point.genome,
        point=point.id,
        texts=run.front.data,
        perplexities=scores.beside(
            fitness=dense.fitness_perplexity, held_out=dense.held_out_perplexity, texts=dense.texts
        ),
        reproduce=(
            "# problem.toml is the file of that name in the run directory",
            f"nas-llm search problem.toml --run runs/{name}",
            f"nas-llm export runs/{name} --point {point.id} {options}",
        ),
    )
