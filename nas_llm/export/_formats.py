"""The registry of export formats: what the workflow and the command line know of each."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from nas_llm.errors import ConfigError, ExportError, NasLlmError, first_line
from nas_llm.export._card import Provenance
from nas_llm.export._decilm import DECILM_LOADS, write_decilm
from nas_llm.export._expressible import expressible
from nas_llm.export._format import ExportFormat, Judging, Refusing, Writer, WriteSettings, expresses_everything
from nas_llm.export._hf import HF_TYPES, write_hf
from nas_llm.export._servable import Servability, decilm_servable, gguf_servable, tried_servable
from nas_llm.export.gguf import write_gguf
from nas_llm.hints import did_you_mean
from nas_llm.models import DenseModel
from nas_llm.plugins import Registry, load_entry_points
from nas_llm.space import Genome, SearchSpace

_NAME = re.compile(r"[a-z][a-z0-9_-]*")


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
        pad=settings.pad,
    )


def _write_decilm(
    subnet: PreTrainedModel, dense: DenseModel, directory: Path, *, provenance: Provenance, settings: WriteSettings
) -> None:
    write_decilm(subnet, dense, directory, provenance=provenance, pad=settings.pad)


def _refusal(name: str) -> Refusing:
    def refusal(genome: Genome, config: PretrainedConfig) -> str | None:
        return ". ".join(str(problem) for problem in expressible(name, genome, config)) or None

    return refusal


def _accepted(found: Any) -> ExportFormat:
    if not isinstance(found, ExportFormat):
        raise TypeError("is no nas_llm.export.ExportFormat")
    if not _NAME.fullmatch(found.name):
        raise TypeError("has a name that is none for a folder: take small letters, digits, - and _")
    if not found.dtypes:
        raise TypeError("names no type of weights in dtypes")
    return found


EXPORT_FORMATS: Registry[ExportFormat] = Registry("export format", _accepted)
"""All formats by name."""

_BUILT_IN = (
    ExportFormat(
        name="hf",
        summary="a Hugging Face directory",
        dtypes=HF_TYPES,
        write=_write_hf,
        loads="nas_llm.load(DIRECTORY), or AutoModelForCausalLM.from_pretrained(DIRECTORY, trust_remote_code=True)",
        splits=True,
        suffixes=(".safetensors",),
    ),
    ExportFormat(
        name="gguf",
        summary="a file for llama.cpp",
        dtypes=("f16", "f32", "bf16", "q8_0"),
        write=_write_gguf,
        refusal=_refusal("gguf"),
        loads="llama-cli -m DIRECTORY/model-TYPE.gguf",
        suffixes=(".gguf",),
        judge=gguf_servable,
        pads=True,
    ),
    ExportFormat(
        name="decilm",
        summary="a directory for vLLM and SGLang",
        dtypes=("keep",),
        write=_write_decilm,
        refusal=_refusal("decilm"),
        loads=DECILM_LOADS,
        suffixes=(".safetensors",),
        judge=decilm_servable,
        pads=True,
    ),
)
FORMATS = tuple(form.name for form in _BUILT_IN)
"""Names of the package's own formats."""

for _form in _BUILT_IN:
    EXPORT_FORMATS.add(_form.name, _form)


def register_format(
    name: str,
    *,
    dtypes: tuple[str, ...],
    loads: str,
    summary: str = "",
    refusal: Refusing = expresses_everything,
    splits: bool = False,
    suffixes: tuple[str, ...] = (),
    judge: Judging | None = None,
) -> Callable[[Writer], Writer]:
    """Decorator of a :class:`Writer`: points can be exported in this format from now on, ``--format NAME``.

    What the writer raises of its own accord, other than :class:`nas_llm.errors.ExportError`, becomes a refusal of the
    point that names the format; other points and formats are written.

    Args:
        name: Its name, in small letters; none of the package's own.
        dtypes: See :class:`ExportFormat`, as for all others.
        loads: How to load what was written.
        summary: One line for a person.
        refusal: Why a genome cannot be written.
        splits: Whether ``max_shard_size`` matters.
        suffixes: Ends of the names of its weight files.
        judge: How much of a search space it can hold.

    Raises:
        ConfigError: If the name is taken or none, or there is no type.
    """

    def decorate(write: Writer) -> Writer:
        form = ExportFormat(
            name=name,
            summary=summary or name,
            dtypes=dtypes,
            write=_guarded(name, write),
            refusal=refusal,
            loads=loads,
            splits=splits,
            suffixes=suffixes,
            judge=judge,
        )
        EXPORT_FORMATS.register(name, source=write)(form)
        return write

    return decorate


def export_format(name: str) -> ExportFormat:
    """A format by its name.

    Raises:
        ConfigError: If there is none; names the nearest.
    """
    found = EXPORT_FORMATS.known(name)
    if found is None:
        broken = load_entry_points()
        found = EXPORT_FORMATS.known(name)
    if found is None:
        known = EXPORT_FORMATS.names()
        hint = did_you_mean(name.lower(), known, quote="'", after=" ")
        lost = "".join(f"; plugin {entry} does not load: {reason}" for entry, reason in broken.items())
        raise ConfigError(
            f"unknown export format '{name}'; {hint}formats are {', '.join(known)}, and those that modules under "
            f"plugins register{lost}"
        )
    return found


def check_padding(formats: Iterable[ExportFormat]) -> None:
    """Refuse to pad where no format would do it.

    Raises:
        ConfigError: If none of the formats pads.
    """
    formats = list(formats)
    if not any(form.pads for form in formats):
        able = " and ".join(name for name in EXPORT_FORMATS.names() if export_format(name).pads)
        chosen = " and ".join(form.name for form in formats)
        raise ConfigError(f"pad is for the formats {able}; {chosen} is written without padded heads, so leave it away")


def servable(
    space: SearchSpace, config: PretrainedConfig, *, dense: DenseModel | None = None
) -> dict[str, Servability]:
    """For each format: which of a space's genomes it can hold, and which setting would widen that.

    Args:
        space: The genomes that a search may visit.
        config: Configuration of the dense model.
        dense: The model itself, if it is loaded: then its tokenizer is judged too.

    Returns:
        Format name to its answer, the package's own formats first.
    """
    answers = {}
    for name in EXPORT_FORMATS.names():
        form = export_format(name)
        if form.judge is not None:
            answers[name] = form.judge(space, config, dense)
        elif form.refusal is expresses_everything:
            answers[name] = Servability(format=name, genomes="all")
        else:
            answers[name] = tried_servable(name, form.refusal, space, config)
    return answers


def _guarded(name: str, write: Writer) -> Writer:
    @functools.wraps(write)
    def guarded(
        subnet: PreTrainedModel,
        dense: DenseModel,
        directory: Path,
        *,
        provenance: Provenance,
        settings: WriteSettings,
    ) -> None:
        try:
            write(subnet, dense, directory, provenance=provenance, settings=settings)
        except (NasLlmError, OSError):
            raise
        except Exception as error:  # whatever a stranger's writer raises
            raise ExportError(f"format '{name}' failed: {type(error).__name__}: {first_line(error)}") from error
        if not directory.is_dir():
            raise ExportError(f"format '{name}' wrote no directory; its writer has to make the one that it is given")

    return guarded
