"""Points of a front become models on disk: reconstructed, written, reloaded, measured."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.data import WindowSet
from nas_llm.errors import ConfigError, ExportError
from nas_llm.evaluation import load_any, model_perplexity
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.export import FORMATS, Provenance, export_hf
from nas_llm.models import on_device
from nas_llm.reconstruction import BlockReconstructor, Residual
from nas_llm.subnet import build_subnet
from nas_llm.workflow._prepare import Prepared, prepare
from nas_llm.workflow._run_files import check_same_inputs, package_versions, read_problem, write_atomic
from nas_llm.workflow._types import ExportRecord, FrontPoint, Run

INDEX_FILE = "front.json"
RESIDUALS_FILE = "reconstruction.csv"


def export_points(
    run: Run,
    points: Sequence[FrontPoint],
    *,
    out: Path | None = None,
    formats: Sequence[str] = ("hf",),
    force: bool = False,
    on_event: EventHandler = ignore,
) -> list[ExportRecord]:
    """Finish points of a run and write them as ``OUT/<point>/<format>``.

    Args:
        run: The run, from :func:`open_run`.
        points: Points of its front.
        out: Where to; default ``exports`` inside the run directory.
        formats: Formats to write; ``hf`` so far.
        force: Replace earlier exports of these points.
        on_event: Told what happens.

    Returns:
        One record a point; every export is loaded back from disk and compared bit for bit with what was measured.

    Raises:
        ConfigError: If a format is unknown or no point is given.
        ExportError: If an export exists, or cannot be written.
        RunError: If the run's model or text changed.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats or not points:
        wrong = f"unknown export format '{unknown[0]}'" if unknown else "nothing to export"
        raise ConfigError(f"{wrong}; formats are {', '.join(FORMATS)}, points are those of nas-llm front")
    out = run.directory / "exports" if out is None else out
    targets = {point.id: out / point.id / "hf" for point in points}
    for target in targets.values():
        if target.exists() and not force:
            raise ExportError(f"{target} exists; replace it with --force or export to another place with --out")
    _, resolved = read_problem(run.directory)
    prepared = prepare(run.problem, base_dir=Path(resolved["base_dir"]), on_event=on_event)
    check_same_inputs(run.directory, prepared)
    on_event(StageStarted("export", f"{len(points)} points to {out}", len(points)))
    records = []
    for done, point in enumerate(points, start=1):
        records.append(_export(run, point, prepared, targets[point.id], force=force))
        on_event(StageAdvanced("export", done))
    write_atomic(out / INDEX_FILE, run.front.to_json())
    on_event(StageFinished("export", str(out)))
    return records


def _export(run: Run, point: FrontPoint, prepared: Prepared, target: Path, *, force: bool) -> ExportRecord:
    reconstructor = None
    if run.problem.reconstruction.method == "closed_form":
        reconstructor = prepared.reconstructor(residuals=True)

    def edit(layer: int, sliced: dict[str, Tensor]) -> dict[str, Tensor]:
        if reconstructor is None:
            return sliced
        return reconstructor.refit(layer, sliced, point.genome.attn_mask[layer], point.genome.mlp_mask[layer])

    subnet = build_subnet(prepared.dense, point.genome, edit=edit)
    # Measured in the arithmetic of the search, on a copy: the export keeps the dense model's dtype.
    measured = subnet if subnet.dtype == prepared.dtype else copy.deepcopy(subnet)
    on_device(measured, prepared.device, prepared.dtype)
    splits = prepared.splits
    fitness, held_out = (model_perplexity(measured, windows) for windows in (splits.fitness, splits.held_out))
    on_device(subnet, torch.device("cpu"))
    dense = run.front.dense
    perplexities = {
        name: (before, after)
        for name, before, after in (
            ("fitness", dense.fitness_perplexity, fitness),
            ("held_out", dense.held_out_perplexity, held_out),
        )
        if before is not None
    }
    provenance = Provenance(
        base_model=prepared.dense.source,
        base_revision=prepared.dense.revision,
        problem=run.problem.name,
        seed=run.problem.seed,
        point=point.id,
        genome=point.genome,
        cost=point.cost,
        dense_cost=prepared.cost_model.dense,
        sequence_length=run.problem.sequence_length,
        weights=_weights(reconstructor, run),
        texts=run.front.data,
        perplexities=perplexities,
        reproduce=(
            f"pip install nas-llm=={package_versions()['nas-llm']}",
            "# problem.toml is the file of that name in the run directory",
            f"nas-llm search problem.toml --run runs/{run.problem.name}",
            f"nas-llm export runs/{run.problem.name} --point {point.id}",
        ),
        versions=package_versions(),
    )
    export_hf(subnet, prepared.dense, target, provenance=provenance, force=force)
    if reconstructor is not None:
        write_atomic(target.parent / RESIDUALS_FILE, _residual_table(reconstructor.residuals))
    _check_reload(subnet, target, splits.held_out)
    return ExportRecord(
        point=point,
        path=target,
        cost=point.cost,
        fitness_perplexity=fitness,
        held_out_perplexity=held_out,
    )


def _check_reload(subnet: PreTrainedModel, target: Path, windows: WindowSet) -> None:
    """Load an export back and compare it bit for bit: what was measured is what lies on disk."""
    reloaded, _ = load_any(str(target), dtype=None)
    wanted, found = subnet.state_dict(), reloaded.state_dict()
    ids = torch.from_numpy(windows.tokens[:1].copy())
    with torch.inference_mode():
        same = wanted.keys() == found.keys() and all(torch.equal(found[name], value) for name, value in wanted.items())
        same = same and torch.equal(reloaded(ids).logits, subnet(ids).logits)
    if not same:
        raise ExportError(
            f"{target} does not reload to what was written; please report this with your versions of torch, "
            f"transformers and safetensors"
        )


def _weights(reconstructor: BlockReconstructor | None, run: Run) -> str:
    if reconstructor is None:
        return "inherited as they are"
    return f"inherited, output projections refitted in closed form (damping {run.problem.reconstruction.damping:g})"


def _residual_table(residuals: Sequence[Residual]) -> str:
    lines = ["layer,projection,residual_before,residual_after"]
    lines += [f"{r.layer},{r.projection},{r.before:.6g},{r.after:.6g}" for r in residuals]
    return "\n".join(lines) + "\n"
