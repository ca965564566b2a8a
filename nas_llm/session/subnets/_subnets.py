"""Finished subnets of a session: in memory, and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PreTrainedModel

from nas_llm.errors import ExportError
from nas_llm.evaluation import check_reload
from nas_llm.export import (
    ExportFormat,
    WriteSettings,
    cast_weights,
    check_padding,
    export_format,
    parse_size,
    staged_directory,
)
from nas_llm.finishing import Finished, Finisher, NamedGenome, ResidualRow, finish_plan, residual_rows
from nas_llm.session._prepared import Prepared
from nas_llm.session.subnets._measure import SubnetMeasure, SubnetScores
from nas_llm.session.subnets._provenance import subnet_provenance
from nas_llm.settings import ExportDefaults
from nas_llm.space import Cost, Genome
from nas_llm.subnet import build_subnet


@dataclass(frozen=True, kw_only=True, eq=False)
class FinishedSubnet:
    """One finished subnet.

    Attributes:
        genome: Its masks.
        cost: Its exact cost.
        model: A transformers model on the CPU, in the dense model's type.
        residuals: One row a refitted projection; empty where the method has none.
        chosen: What it took where ``[reconstruction]`` names several steps or blends.
    """

    genome: Genome
    cost: Cost
    model: PreTrainedModel
    residuals: tuple[ResidualRow, ...]
    chosen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExportedSubnet:
    """One subnet on disk.

    Attributes:
        path: The directory.
        cost: Its exact cost.
        fitness_perplexity: Perplexity on the windows that candidates are evaluated on.
        held_out_perplexity: Perplexity on windows that no candidate has seen.
        texts: Perplexity of every kind of that text and of off-text.
    """

    path: Path
    cost: Cost
    fitness_perplexity: float
    held_out_perplexity: float
    texts: Mapping[str, float]


def finish_subnet(prepared: Prepared, finisher: Finisher, point: NamedGenome | Genome) -> FinishedSubnet:
    """Finish one genome and build its model.

    Args:
        prepared: The problem.
        finisher: Its finishing method.
        point: The genome, or a point that has one.
    """
    (finished,) = finisher.finish([point])
    return as_subnet(prepared, point if isinstance(point, Genome) else point.genome, finished)


def as_subnet(prepared: Prepared, genome: Genome, finished: Finished) -> FinishedSubnet:
    """The model of a genome that is finished.

    Args:
        prepared: The problem.
        genome: The genome.
        finished: Its weights.
    """
    return FinishedSubnet(
        genome=genome,
        cost=prepared.cost_model(genome),
        model=build_subnet(prepared.dense, genome, edit=finished.edit),
        residuals=() if finished.residuals is None else residual_rows(finished.residuals),
        chosen=finished.chosen,
    )


def check_form(
    prepared: Prepared,
    genome: Genome,
    form: ExportFormat,
    *,
    point: str,
    dtype: str | None,
    max_shard_size: str,
    pad: bool,
) -> WriteSettings:
    """Settings of an export, refused before anything is finished if a format has no form for a genome.

    Arguments and errors are those of :func:`export_subnet`.
    """
    parse_size(max_shard_size)
    if pad:
        check_padding([form])
    settings = form.settings(dtype=dtype, max_shard_size=max_shard_size, pad=pad)
    reason = form.refuses(genome, prepared.dense.model.config, settings)
    if reason is not None:
        raise ExportError(f"{point} has no form in {form.name}: {reason}")
    return settings


def export_subnet(
    prepared: Prepared,
    subnet: FinishedSubnet,
    directory: Path,
    *,
    point: str,
    dense: SubnetScores,
    format: str = ExportDefaults.formats[0],
    dtype: str | None = None,
    max_shard_size: str = ExportDefaults.max_shard_size,
    pad: bool = ExportDefaults.pad,
) -> ExportedSubnet:
    """Write a finished subnet, whole or not at all, and measure it.

    Args:
        prepared: The problem.
        subnet: The subnet.
        directory: Where to; must not exist.
        point: What its card calls it.
        dense: What the dense model scores.
        format: ``hf``, ``gguf``, ``decilm``, or one of your own.
        dtype: Type of the weights; default the format's own.
        max_shard_size: Largest weight file, of formats that can split.
        pad: Fill up with zeros what a format has no form for: parts of heads, or layers that differ.

    Raises:
        ConfigError: If the format has no such type, or pads no heads.
        ExportError: If the format has no form for it, something is in the way, or the disk does not take it.
    """
    form = export_format(format)
    settings = check_form(
        prepared,
        subnet.genome,
        form,
        point=point,
        dtype=dtype,
        max_shard_size=max_shard_size,
        pad=pad,
    )
    # Other formats have arithmetic of their own; what is stated for them is measured before their rounding.
    written = cast_weights(subnet.model, settings.dtype) if form.name == "hf" else subnet.model
    scores = SubnetMeasure(prepared)(written)
    splits = prepared.splits
    provenance = subnet_provenance(
        prepared,
        finish_plan(prepared.problem),
        subnet.chosen,
        subnet.genome,
        point=point,
        texts={text.name: text.describe() for text in splits.measured},
        perplexities=scores.beside(fitness=dense.fitness, held_out=dense.held_out, texts=dense.texts),
        reproduce=("# found by a script around nas_llm.Session; its masks are in genome.bin",),
    )
    with staged_directory(directory, force=False) as staging:
        # A writer makes the folder that it is given.
        staging.rmdir()
        form.write(subnet.model, prepared.dense, staging, provenance=provenance, settings=settings)
        if form.name == "hf":
            check_reload(written, staging, directory, splits.held_out)
    return ExportedSubnet(
        path=directory,
        cost=subnet.cost,
        fitness_perplexity=scores.fitness,
        held_out_perplexity=scores.held_out,
        texts=scores.texts,
    )
