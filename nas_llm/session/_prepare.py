"""From a problem definition to everything that a search of it needs: model, text, scores, space."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from nas_llm.calibration import calibrate
from nas_llm.config import OffTextSection, Problem, load_plugins
from nas_llm.data import build_splits
from nas_llm.errors import Interrupted
from nas_llm.events import EventHandler, Notice, StageAdvanced, StageFinished, StageStarted
from nas_llm.models import family_use, load_model, resolve_device, resolve_dtype
from nas_llm.session._cost_model import problem_costs
from nas_llm.session._latency import measured_latency
from nas_llm.session._prepared import Prepared, search_space
from nas_llm.session._resources import Resources
from nas_llm.session._self_texts import self_texts
from nas_llm.session._workloads import measured_workload
from nas_llm.space import CostConstraints, LatencyTable, check_feasible
from nas_llm.subnet import check_family
from nas_llm.workloads import WorkloadTables


def prepare(
    problem: Problem,
    *,
    base_dir: Path,
    on_event: EventHandler,
    should_stop: Callable[[], bool] = lambda: False,
    resources: Resources | None = None,
    dtype: str | None = None,
    latency: LatencyTable | None = None,
    workloads: Mapping[str, WorkloadTables] | None = None,
    to_search: bool = True,
) -> Prepared:
    """Load the model, cut the text into splits, calibrate.

    What is cheap to check is checked first. Converted models, sampled text, calibrations and latency tables are kept in
    the cache folder and found again.

    Args:
        problem: The definition.
        base_dir: Folder that its relative paths start from.
        on_event: Called with every event.
        should_stop: Polled between steps.
        resources: What may be used; the workers themselves are started by :func:`with_workers`.
        dtype: Arithmetic that an earlier run was resolved to; default: what the problem says.
        latency: Latency table that an earlier run began with; default: where an objective needs one, the one in the
            cache, or one that is measured now.
        workloads: Measured times of workloads that an earlier run began with, by name; default likewise.
        to_search: Whether it is for a search, so that some genome must meet the constraints and a family that is not
            the package's is tried first; points that were found already do not ask.

    Raises:
        NasLlmError: If any part of the definition cannot be met.
        Interrupted: If ``should_stop`` said so.
    """

    def checkpoint() -> None:
        if should_stop():
            raise Interrupted

    load_plugins(problem, base_dir)
    on_event(StageStarted("model", problem.model.source))
    device = resolve_device(problem.model.device)
    timed = problem.timed and latency is None
    timed_device = resolve_device(problem.latency.device) if timed and problem.latency.device != "auto" else device
    dense = load_model(problem.model.source, revision=problem.model.revision, offload=problem.model.offload)
    if to_search and family_use(dense.adapter) is not None:
        check_family(dense)
    architecture = dense.architecture
    resolved_dtype = resolve_dtype(dtype or problem.model.dtype, device)
    costs = partial(
        problem_costs, problem, architecture, base_dir=base_dir, dtype=str(resolved_dtype).removeprefix("torch.")
    )
    cost_model, constraints = costs(latency=latency, workloads=workloads), CostConstraints(problem.bounds)
    if to_search:
        check_feasible(search_space(problem, architecture), cost_model, constraints)
    on_event(
        StageFinished(
            "model",
            f"{architecture.num_layers} layers, {cost_model.dense.params / 1e6:.1f} M parameters, of which "
            f"{cost_model.dense.block_params / 1e6:.1f} M in decoder blocks",
        )
    )
    checkpoint()
    if timed:
        latency = measured_latency(dense, problem, timed_device, resolved_dtype, on_event, checkpoint)
    if workloads is None:
        workloads = {
            workload.name: measured_workload(dense, problem, workload, resolved_dtype, on_event, checkpoint)
            for workload in problem.timed_workloads
        }
    if timed or workloads:
        cost_model = costs(latency=latency, workloads=workloads)
        if to_search:
            check_feasible(search_space(problem, architecture), cost_model, constraints)

    on_event(StageStarted("data"))
    data = problem.data
    if dense.files is not None and all(source.own for source in data.off_text.sources):
        on_event(
            Notice("a model that stays on disk writes no text of another kind to judge by; name data.off_text.sources")
        )
        data = data.model_copy(update={"off_text": OffTextSection(tokens=0)})
    splits = build_splits(
        data,
        tokenizer=dense.tokenizer,
        self_texts=lambda tokens, kind="": self_texts(
            dense, tokens, kind, settings=data.self_sample, device=device, on_event=on_event
        ),
        base_dir=base_dir,
        reconstruction=problem.reconstruction_split,
    )
    sizes = ", ".join(
        f"{windows.name.replace('_', '-')} {windows.num_tokens:,}"
        for windows in (splits.calibration, splits.fitness, splits.held_out, splits.off_text, splits.reconstruction)
        if windows is not None
    )
    asked = "" if splits.questions is None else f"; {len(splits.questions)} questions, {splits.questions.num_tokens:,}"
    on_event(StageFinished("data", f"{sizes} tokens{asked}"))
    checkpoint()

    def on_layer(layer: int) -> None:
        on_event(StageAdvanced("calibration", layer + 1))
        checkpoint()

    on_event(StageStarted("calibration", f"{problem.calibration.scorer} scores", architecture.num_layers))
    calibration = calibrate(
        dense,
        splits.calibration,
        scorer=problem.calibration.scorer,
        damping=problem.calibration.damping,
        layout=search_space(problem, architecture).layout,
        rotate=problem.space.rotate_values,
        device=device,
        on_layer=on_layer,
    )
    on_event(StageFinished("calibration", f"{splits.calibration.num_tokens:,} tokens"))
    return Prepared(
        problem=problem,
        dense=calibration.dense,
        device=device,
        dtype=resolved_dtype,
        splits=splits,
        calibration=calibration,
        cost_model=cost_model,
        base_dir=base_dir,
        resources=resources or Resources(),
        workloads=workloads,
    )
