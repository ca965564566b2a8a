"""What a search begins with, kept as it was when the run began: scores, and genomes of earlier searches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nas_llm.config import Problem
from nas_llm.errors import RunError, SpaceError, first_line
from nas_llm.files import write_atomic
from nas_llm.front import read_genomes
from nas_llm.models import DenseModel
from nas_llm.runs import START_FILE, checkpoint_folder
from nas_llm.session import Prepared
from nas_llm.space import AttentionLayout, Genome


def start_of_run(run_dir: Path, prepared: Prepared, base_dir: Path) -> list[Genome]:
    """Genomes that the first population takes in, as they were when the run began."""
    if not prepared.problem.search.start_from:
        return []
    path = checkpoint_folder(run_dir) / START_FILE
    if not path.is_file():
        found = named_genomes(prepared.problem, base_dir)
        write_atomic(path, json.dumps([genome.to_bytes().hex() for genome in found]) + "\n")
    try:
        return [Genome.from_bytes(bytes.fromhex(text)) for text in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, SpaceError) as error:
        raise RunError(f"cannot read {path}: {first_line(error)}; start a new run") from error


def named_genomes(problem: Problem, base_dir: Path) -> list[Genome]:
    """The genomes that ``search.start_from`` names, none twice."""
    sources = [base_dir / Path(source).expanduser() for source in problem.search.start_from]
    return list(dict.fromkeys(genome for source in sources for genome in read_genomes(source)))


def check_shapes(genomes: Sequence[Genome], dense: DenseModel, layout: AttentionLayout) -> None:
    """Refuse genomes of another model, or of a mode of attention masks that the search has no masks for.

    Args:
        genomes: The genomes.
        dense: The model.
        layout: Of the search's attention masks.

    Raises:
        RunError: If their masks have other shapes than the model's, or cannot be said in the layout.
    """
    for genome in genomes:
        if not genome.fits(dense.architecture):
            raise RunError(
                f"search.start_from names subnets of another model: {_shape(genome)}, but {dense.source} has "
                f"{_shape(Genome.dense(dense.architecture))}"
            )
        if genome.to_layout(dense.architecture, layout) is None:
            raise RunError(
                f"search.start_from names subnets of attention mode {genome.layout.mode}, which this search has no "
                f"masks for; set space.attention = {genome.layout.mode!r}, or name subnets of mode {layout.mode}"
            )


def _shape(genome: Genome) -> str:
    return (
        f"{genome.num_layers} layers of {genome.layout.num_kv_heads} KV groups and {genome.mlp_mask.shape[1]} channels"
    )
