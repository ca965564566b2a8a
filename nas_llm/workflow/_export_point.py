"""One point of a front: reconstructed, measured, written in each format, checked, moved into place."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.data import WindowSet
from nas_llm.errors import ExportError
from nas_llm.evaluation import load_any, model_perplexity
from nas_llm.export import Provenance, cast_weights
from nas_llm.models import on_device
from nas_llm.reconstruction import Residual
from nas_llm.subnet import build_subnet
from nas_llm.workflow._export_task import ExportTask, write_completion
from nas_llm.workflow._prepare import Prepared
from nas_llm.workflow._run_files import package_versions, write_atomic
from nas_llm.workflow._types import ExportRecord, Run

RESIDUALS_FILE = "reconstruction.csv"
WORK_PREFIX = ".partial-"


@dataclass(frozen=True)
class Refusal:
    """A format has no form for a point."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def export_point(run: Run, tasks: Sequence[ExportTask], prepared: Prepared) -> list[ExportRecord | Refusal]:
    """Write one point in some formats; the weights are made once.

    Args:
        run: The run.
        tasks: Tasks of the same point.
        prepared: The run's model and calibration.

    Returns:
        One answer for each task, in their order.

    Raises:
        ExportError: If the disk does not take it, or an export does not reload to what was written.
    """
    answers: dict[str, ExportRecord | Refusal] = {}
    for task in tasks:
        reason = task.format.refusal(task.point.genome, prepared.dense.model.config)
        if reason is not None:
            answers[task.name] = Refusal(task.name, reason)
    remaining = [task for task in tasks if task.name not in answers]
    if remaining:
        point = remaining[0].point
        reconstructor = None
        if run.problem.reconstruction.method == "closed_form":
            reconstructor = prepared.reconstructor(residuals=True)

        def edit(layer: int, sliced: dict[str, Tensor]) -> dict[str, Tensor]:
            if reconstructor is None:
                return sliced
            return reconstructor.refit(layer, sliced, point.genome.attn_mask[layer], point.genome.mlp_mask[layer])

        subnet = build_subnet(prepared.dense, point.genome, edit=edit)
        measure = _Measure(prepared)
        residuals = None if reconstructor is None else _residual_table(reconstructor.residuals)
        for task in remaining:
            answers[task.name] = _write(run, task, subnet, prepared, measure, residuals)
    return [answers[task.name] for task in tasks]


class _Measure:
    """Perplexities of a subnet, once for each type of weights."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._known: dict[torch.dtype, tuple[float, float]] = {}

    def __call__(self, model: PreTrainedModel) -> tuple[float, float]:
        """(fitness, held-out) perplexity in the arithmetic of the search."""
        weights = model.dtype
        if weights not in self._known:
            prepared = self._prepared
            # On a copy: what is exported keeps its own type and place.
            same = model.dtype == prepared.dtype and prepared.device.type == "cpu"
            measured = model if same else copy.deepcopy(model)
            on_device(measured, prepared.device, prepared.dtype)
            splits = prepared.splits
            self._known[weights] = (
                model_perplexity(measured, splits.fitness),
                model_perplexity(measured, splits.held_out),
            )
        return self._known[weights]


def _write(
    run: Run,
    task: ExportTask,
    subnet: PreTrainedModel,
    prepared: Prepared,
    measure: _Measure,
    residuals: str | None,
) -> ExportRecord | Refusal:
    # Other formats have arithmetic of their own; what is stated for them is measured before their rounding.
    written = cast_weights(subnet, task.settings.dtype) if task.format.name == "hf" else subnet
    fitness, held_out = measure(written)
    provenance = _provenance(run, task, prepared, fitness, held_out)
    folder = task.target.parent
    work: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=folder, prefix=WORK_PREFIX))
        finished = work / task.format.name
        try:
            task.format.write(subnet, prepared.dense, finished, provenance=provenance, settings=task.settings)
        except ExportError as error:
            if isinstance(error.__cause__, OSError):
                # Named by the place that the user knows, not by our own folder.
                raise error.__cause__ from error
            return Refusal(task.name, str(error))
        if task.format.name == "hf":
            _check_reload(written, finished, task.target, prepared.splits.held_out)
        record = write_completion(task, finished, fitness=fitness, held_out=held_out)
        if residuals is not None:
            write_atomic(folder / RESIDUALS_FILE, residuals)
        if os.path.lexists(task.target):
            os.replace(task.target, work / "replaced")
        os.replace(finished, task.target)
    except OSError as error:
        raise ExportError(f"cannot write {task.target}: {error.strerror or error}") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    return record


def _provenance(run: Run, task: ExportTask, prepared: Prepared, fitness: float, held_out: float) -> Provenance:
    dense, point = run.front.dense, task.point
    pairs = (
        ("fitness", dense.fitness_perplexity, fitness),
        ("held_out", dense.held_out_perplexity, held_out),
    )
    versions = package_versions()
    options = f"--format {task.format.name} --dtype {task.settings.dtype}"
    return Provenance(
        base_model=prepared.dense.source,
        base_revision=prepared.dense.revision,
        problem=run.problem.name,
        seed=run.problem.seed,
        point=point.id,
        genome=point.genome,
        cost=point.cost,
        dense_cost=prepared.cost_model.dense,
        sequence_length=run.problem.sequence_length,
        weights=_weights(run),
        texts=run.front.data,
        perplexities={name: (before, after) for name, before, after in pairs if before is not None},
        reproduce=(
            f"pip install nas-llm=={versions['nas-llm']}",
            "# problem.toml is the file of that name in the run directory",
            f"nas-llm search problem.toml --run runs/{run.problem.name}",
            f"nas-llm export runs/{run.problem.name} --point {point.id} {options}",
        ),
        versions=versions,
    )


def _check_reload(written: PreTrainedModel, found_at: Path, target: Path, windows: WindowSet) -> None:
    """Load an export back and compare it bit for bit: what was measured is what lies on disk."""
    reloaded, _ = load_any(str(found_at), dtype=None)
    wanted, found = written.state_dict(), reloaded.state_dict()
    ids = torch.from_numpy(windows.tokens[:1].copy())
    with torch.inference_mode():
        same = wanted.keys() == found.keys() and all(torch.equal(found[name], value) for name, value in wanted.items())
        same = same and torch.equal(reloaded(ids).logits, written(ids).logits)
    if not same:
        raise ExportError(
            f"{target} does not reload to what was written; please report this with your versions of torch, "
            f"transformers and safetensors"
        )


def _weights(run: Run) -> str:
    if run.problem.reconstruction.method == "none":
        return "inherited as they are"
    return f"inherited, output projections refitted in closed form (damping {run.problem.reconstruction.damping:g})"


def _residual_table(residuals: Sequence[Residual]) -> str:
    lines = ["layer,projection,residual_before,residual_after"]
    lines += [f"{r.layer},{r.projection},{r.before:.6g},{r.after:.6g}" for r in residuals]
    return "\n".join(lines) + "\n"
