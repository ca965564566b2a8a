"""An hf export written in another format, with the weights that it has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_llm.errors import ConfigError, ExportError, ModelError
from nas_llm.evaluation import load
from nas_llm.events import EventHandler, Notice, StageFinished, StageStarted, ignore
from nas_llm.export import (
    PROVENANCE_FILE,
    Provenance,
    WriteSettings,
    check_place,
    export_format,
    read_provenance,
    staged_directory,
)
from nas_llm.front import load_genome
from nas_llm.models import DenseModel, load_model
from nas_llm.runs import package_versions
from nas_llm.settings import CostDefaults
from nas_llm.space import CostModel, Genome

_HF = "hf"
# What the writers do not know: it is handed on as the export has it.
_HANDED_ON = ("posttraining", "perplexities")


def convert_export(
    export: Path,
    format: str,
    *,
    dtype: str | None = None,
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
    settings = WriteSettings(dtype=form.dtype(dtype))
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
    reason = form.refusal(genome, dense.model.config)
    if reason is not None:
        raise ExportError(f"{form.name}: {reason}")
    on_event(StageStarted("export", form.name))
    with staged_directory(target, force=force) as staging:
        # A writer makes the folder that it is given.
        staging.rmdir()
        form.write(subnet, dense, staging, provenance=_provenance(document, dense, genome, export), settings=settings)
        _hand_on(document, staging / PROVENANCE_FILE)
    on_event(StageFinished("export"))
    return target


def _dense(document: Mapping[str, Any], named: str | None, genome: Genome, on_event: EventHandler) -> DenseModel:
    source = named or str(document["base_model"])
    try:
        dense = load_model(source)
    except ModelError as error:
        mend = "" if named else "; the export names it as its dense model, say where it is with --model"
        raise ModelError(f"{error}{mend}") from error
    whole = Genome.dense(dense.architecture)
    if genome.attn_mask.shape != whole.attn_mask.shape or genome.mlp_mask.shape != whole.mlp_mask.shape:
        raise ModelError(f"{source} has other sizes than the dense model that the export comes from")
    before = document.get("base_revision")
    if before is not None and dense.revision != before:
        on_event(Notice(f"{source} has revision {dense.revision}, the export was made from {before}"))
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
        perplexities={},
        reproduce=(),
        versions=package_versions(),
    )


def _hand_on(document: Mapping[str, Any], path: Path) -> None:
    written = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    known = {key: document[key] for key in _HANDED_ON if key in document}
    path.write_text(json.dumps({**written, **known}, indent=2) + "\n", encoding="utf-8")
