"""An hf export written in another format, with the weights that it has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_llm.errors import ConfigError, ExportError, ModelError
from nas_llm.evaluation import load
from nas_llm.events import EventHandler, StageFinished, StageStarted, ignore
from nas_llm.export import (
    PROVENANCE_FILE,
    Provenance,
    check_padding,
    check_place,
    export_format,
    read_provenance,
    staged_directory,
)
from nas_llm.front import load_genome
from nas_llm.models import DenseModel, load_model
from nas_llm.runs import package_versions
from nas_llm.settings import CostDefaults, ExportDefaults
from nas_llm.space import CostModel, Genome
from nas_llm.workflow._exports import compare_revision, named_by_export

_HF = "hf"


def convert_export(
    export: Path,
    format: str,
    *,
    dtype: str | None = None,
    pad: bool = ExportDefaults.pad,
    model: str | None = None,
    output: Path | None = None,
    force: bool = False,
    on_event: EventHandler = ignore,
) -> Path:
    """Write an ``hf`` export, post-trained or not, in another format; whole or not at all. Its run is not needed.

    Args:
        export: What ``nas-llm export`` wrote in the format ``hf``, or ``nas-llm posttrain`` did.
        format: Name of the format, e.g. ``gguf``.
        dtype: Type of the weights; default the format's first.
        pad: Fill up with zeros what the format has no form for: parts of heads, or layers that differ.
        model: Where the dense model is now; default where it was when the point was exported. It gives sizes and
            tokenizer, no weights.
        output: Where to; default ``<export>-<format>`` beside it.
        force: Replace an earlier export at ``output``.
        on_event: Told what happens.

    Returns:
        The written directory.

    Raises:
        ConfigError: If there is no such format or type.
        ModelError: If the export cannot be used, or the dense model is not the one that it comes from.
        ExportError: If the format has no form for it, something is in the way, or it cannot be written.
    """
    form = export_format(format)
    if form.name == _HF:
        raise ConfigError(f"an export is converted from {_HF}, not to it; name another format, e.g. gguf")
    if pad:
        check_padding([form])
    settings = form.settings(dtype=dtype, pad=pad)
    target = output or export.parent / f"{export.name}-{form.name}"
    check_place(target, force=force)
    document = read_provenance(export)
    if document is None:
        raise ModelError(f"{export} is no export of nas-llm: it has no {PROVENANCE_FILE}")
    on_event(StageStarted("model", str(export)))
    subnet, _ = load(export)
    genome = load_genome(export)
    dense = _dense(document, model, genome, on_event)
    on_event(StageFinished("model"))
    reason = form.refuses(genome, dense.model.config, settings)
    if reason is not None:
        raise ExportError(f"{form.name}: {reason}")
    provenance = _provenance(document, dense, genome, export)
    on_event(StageStarted("export", form.name))
    with staged_directory(target, force=force) as staging:
        # A writer makes the folder that it is given.
        staging.rmdir()
        form.write(subnet, dense, staging, provenance=provenance, settings=settings)
    on_event(StageFinished("export"))
    return target


def _dense(document: Mapping[str, Any], named: str | None, genome: Genome, on_event: EventHandler) -> DenseModel:
    source = named or str(document["base_model"])
    with named_by_export(named, option="--model"):
        dense = load_model(source)
    if not genome.fits(dense.architecture):
        raise ModelError(f"{source} has other sizes than the dense model that the export comes from")
    compare_revision(source, dense.revision, document, on_event)
    return dense


def _provenance(document: Mapping[str, Any], dense: DenseModel, genome: Genome, export: Path) -> Provenance:
    length = int(document.get("sequence_length", CostDefaults.sequence_length))
    costs = CostModel(dense.architecture, sequence_length=length)
    return Provenance(
        base_model=str(document["base_model"]),
        base_revision=str(document.get("base_revision", dense.revision)),
        problem=str(document.get("problem", "unknown")),
        seed=int(document.get("seed", 0)),
        point=str(document.get("point", export.name)),
        genome=genome,
        cost=costs(genome),
        dense_cost=costs.dense,
        sequence_length=length,
        weights=str(document.get("weights", "unknown")),
        texts=document.get("texts", {}),
        perplexities=_perplexities(document, export),
        reproduce=(),
        versions=package_versions(),
        posttraining=document.get("posttraining", ()),
    )


def _perplexities(document: Mapping[str, Any], export: Path) -> dict[str, tuple[float, float]]:
    try:
        return {
            name: (float(of["dense"]), float(of["subnet"])) for name, of in document.get("perplexities", {}).items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{export / PROVENANCE_FILE} is damaged: each of its perplexities should have numbers dense and subnet; "
            "export the point again, or put back the file that it had"
        ) from error
