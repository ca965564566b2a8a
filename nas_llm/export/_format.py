"""What the package knows of one export format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transformers import PretrainedConfig, PreTrainedModel

from nas_llm.errors import ConfigError
from nas_llm.export._card import Provenance
from nas_llm.export._expressible import written_genome
from nas_llm.export._hf import MAX_SHARD_SIZE
from nas_llm.export._servable import Servability
from nas_llm.hints import did_you_mean
from nas_llm.models import DenseModel
from nas_llm.settings import ExportDefaults
from nas_llm.space import Genome, SearchSpace

_SYNONYMS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "fp32": "float32", "fp16": "float16"}
_SYNONYMS |= {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True, kw_only=True)
class WriteSettings:
    """What a person may choose beside the format itself.

    Attributes:
        dtype: One of the format's types.
        max_shard_size: Largest weight file, for formats that can split.
        pad: Fill up with zeros what the format has no form for: parts of heads, or layers that differ.
    """

    dtype: str
    max_shard_size: str = MAX_SHARD_SIZE
    pad: bool = ExportDefaults.pad


class Writer(Protocol):
    """Writes a subnet into a directory that does not exist yet."""

    def __call__(
        self,
        subnet: PreTrainedModel,
        dense: DenseModel,
        directory: Path,
        *,
        provenance: Provenance,
        settings: WriteSettings,
    ) -> None:
        """Write it; ExportError if the format has no form for the subnet or the disk does not take it."""
        ...


Refusing = Callable[[Genome, PretrainedConfig], str | None]
"""Why a genome of a dense model cannot be written, or None."""

Judging = Callable[[SearchSpace, PretrainedConfig, DenseModel | None], Servability]
"""How much of a space can be written; see :func:`nas_llm.export.servable`."""


def expresses_everything(genome: Genome, config: PretrainedConfig) -> str | None:
    """The refusal of a format that has a form for every subnet."""
    return None


@dataclass(frozen=True, kw_only=True)
class ExportFormat:
    """One format.

    Attributes:
        name: What it is called on the command line; also the name of its folder.
        summary: One line for a person.
        dtypes: Types that its weights can have, the default first.
        write: Writes it.
        refusal: Why a genome of a dense model cannot be written, or None; cheap, asked before anything is computed.
        loads: How to load what was written.
        splits: Whether ``max_shard_size`` matters.
        suffixes: Ends of the names of its weight files; none = every file counts as one.
        judge: How much of a search space it can hold; None = some genomes are tried on ``refusal``.
        pads: Whether its writer knows ``pad``.
    """

    name: str
    summary: str
    dtypes: tuple[str, ...]
    write: Writer
    refusal: Refusing = expresses_everything
    loads: str
    splits: bool = False
    suffixes: tuple[str, ...] = ()
    judge: Judging | None = None
    pads: bool = False

    def settings(
        self,
        *,
        dtype: str | None = None,
        max_shard_size: str = MAX_SHARD_SIZE,
        pad: bool = ExportDefaults.pad,
    ) -> WriteSettings:
        """What was chosen, as far as it concerns this format.

        Raises:
            ConfigError: If it has no such type.
        """
        return WriteSettings(dtype=self.dtype(dtype), max_shard_size=max_shard_size, pad=pad and self.pads)

    def refuses(self, genome: Genome, config: PretrainedConfig, settings: WriteSettings) -> str | None:
        """Why a genome cannot be written with these settings, or None."""
        return self.refusal(self.written(genome, config, settings), config)

    def written(self, genome: Genome, config: PretrainedConfig, settings: WriteSettings) -> Genome:
        """The sizes that a file has: the genome's, or what they are filled up to."""
        return written_genome(self.name, genome, config) if settings.pad else genome

    def dtype(self, name: str | None) -> str:
        """The format's own name of a type; its default for None.

        Raises:
            ConfigError: If it has no such type.
        """
        if name is None:
            return self.dtypes[0]
        for candidate in (name.lower(), _SYNONYMS.get(name.lower(), "")):
            if candidate in self.dtypes:
                return candidate
        hint = did_you_mean(name.lower(), self.dtypes, quote="'", after=" ")
        raise ConfigError(f"unknown dtype '{name}' for {self.name}; {hint}take {_or(self.dtypes)}")


def _or(names: tuple[str, ...]) -> str:
    return " or ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]
