"""The registry of export formats: what the workflow and the command line know of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transformers import PretrainedConfig, PreTrainedModel

from nas_llm.errors import ConfigError
from nas_llm.export._card import Provenance
from nas_llm.export._decilm import write_decilm
from nas_llm.export._expressible import expressible
from nas_llm.export._hf import HF_TYPES, MAX_SHARD_SIZE, write_hf
from nas_llm.export.gguf import write_gguf
from nas_llm.hints import did_you_mean
from nas_llm.models import DenseModel
from nas_llm.space import Genome

_SYNONYMS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "fp32": "float32", "fp16": "float16"}
_SYNONYMS |= {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


@dataclass(frozen=True, kw_only=True)
class WriteSettings:
    """What a person may choose beside the format itself.

    Attributes:
        dtype: One of the format's types.
        max_shard_size: Largest weight file, for formats that can split.
    """

    dtype: str
    max_shard_size: str = MAX_SHARD_SIZE


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


def _expresses_everything(genome: Genome, config: PretrainedConfig) -> str | None:
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
    """

    name: str
    summary: str
    dtypes: tuple[str, ...]
    write: Writer
    refusal: Callable[[Genome, PretrainedConfig], str | None] = _expresses_everything
    loads: str
    splits: bool = False

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
        raise ConfigError(f"unknown dtype '{name}' for {self.name}; {_meant(name, self.dtypes)}take {_or(self.dtypes)}")


def _write_hf(
    subnet: PreTrainedModel, dense: DenseModel, directory: Path, *, provenance: Provenance, settings: WriteSettings
) -> None:
    write_hf(
        subnet,
        dense,
        directory,
        provenance=provenance,
        dtype=settings.dtype,
        max_shard_size=settings.max_shard_size,
    )


def _write_gguf(
    subnet: PreTrainedModel, dense: DenseModel, directory: Path, *, provenance: Provenance, settings: WriteSettings
) -> None:
    write_gguf(
        subnet,
        dense,
        directory,
        provenance=provenance,
        dtype=settings.dtype,  # type: ignore[arg-type] # validated by the registry
    )


def _write_decilm(
    subnet: PreTrainedModel, dense: DenseModel, directory: Path, *, provenance: Provenance, settings: WriteSettings
) -> None:
    write_decilm(subnet, dense, directory, provenance=provenance)


def _refusal(name: str) -> Callable[[Genome, PretrainedConfig], str | None]:
    def refusal(genome: Genome, config: PretrainedConfig) -> str | None:
        return ". ".join(str(problem) for problem in expressible(name, genome, config)) or None

    return refusal


EXPORT_FORMATS: dict[str, ExportFormat] = {
    "hf": ExportFormat(
        name="hf",
        summary="a Hugging Face directory",
        dtypes=HF_TYPES,
        write=_write_hf,
        loads="nas_llm.load(DIRECTORY), or AutoModelForCausalLM.from_pretrained(DIRECTORY, trust_remote_code=True)",
        splits=True,
    ),
    "gguf": ExportFormat(
        name="gguf",
        summary="a file for llama.cpp",
        dtypes=("f16", "f32", "bf16", "q8_0"),
        write=_write_gguf,
        refusal=_refusal("gguf"),
        loads="llama-cli -m DIRECTORY/model-TYPE.gguf",
    ),
    "decilm": ExportFormat(
        name="decilm",
        summary="a directory for vLLM and SGLang",
        dtypes=("keep",),
        write=_write_decilm,
        refusal=_refusal("decilm"),
        loads="vllm serve DIRECTORY --trust-remote-code",
    ),
}


def export_format(name: str) -> ExportFormat:
    """A format by its name.

    Raises:
        ConfigError: If there is none; names the nearest.
    """
    if name not in EXPORT_FORMATS:
        raise ConfigError(
            f"unknown export format '{name}'; {_meant(name, EXPORT_FORMATS)}formats are {', '.join(EXPORT_FORMATS)}"
        )
    return EXPORT_FORMATS[name]


def _meant(name: str, known: dict[str, ExportFormat] | tuple[str, ...]) -> str:
    return did_you_mean(name.lower(), known, quote="'", after=" ")


def _or(names: tuple[str, ...]) -> str:
    return " or ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]
