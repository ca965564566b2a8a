"""Loading a dense model by packaged name, hub name, local directory or GGUF file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeVar

import torch
from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.constants import CONFIG_NAME
from huggingface_hub.utils import logging as hub_logging
from torch import nn
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from nas_llm.errors import ModelError, first_line
from nas_llm.hints import did_you_mean
from nas_llm.models._consumed import check_consumed
from nas_llm.models._dense import DenseModel
from nas_llm.models._gguf import convert_gguf
from nas_llm.models._identity import FileStamps, directory_revision, file_revision
from nas_llm.models._lazy import WeightFiles, load_skeleton
from nas_llm.models._memory import available_bytes, hold_in_memory
from nas_llm.models._own_exports import refuse_decilm, refuse_subnet
from nas_llm.models._packaged import PACKAGED_MODELS
from nas_llm.models._precision import bfloat16_is_faster
from nas_llm.models._whole import LOAD_FAULTS, load_fault, load_whole, refuse_adapter
from nas_llm.models.families import adapter_for, register_subnet_class
from nas_llm.plugins import named_faults
from nas_llm.settings import ModelDefaults

logger = logging.getLogger(__name__)
Module = TypeVar("Module", bound=nn.Module)


def resolve_model(source: str) -> tuple[str, str | None]:
    """Where the files of a model are, and the identity of its weights as far as it is known without loading.

    Args:
        source: Packaged name, local directory, ``.gguf`` file or hub name.

    Returns:
        A directory or a hub name for ``from_pretrained``, and a content hash (None for a hub name).

    Raises:
        ModelError: If a file or package is missing or unreadable.
    """
    path = local_model(source)
    if path is None:
        return source, None
    if path.suffix == ".gguf":
        revision = file_revision(path)
        with quiet_transformers():
            return str(convert_gguf(path, revision)), revision
    return str(path), directory_revision(path)


def locate_model(source: str) -> str:
    """Where the files of a model are: a directory or a hub name for ``from_pretrained``.

    As :func:`resolve_model`, but weights are read only where a ``.gguf`` file is to be converted.

    Args:
        source: Packaged name, local directory, ``.gguf`` file or hub name.

    Raises:
        ModelError: If a file or package is missing or unreadable.
    """
    path = local_model(source)
    if path is None or path.suffix == ".gguf":
        return resolve_model(source)[0]
    return str(path)


def hub_options(where: str, revision: str | None) -> dict[str, str]:
    """``revision`` for ``from_pretrained``: names of the hub have revisions, directories have none."""
    return {} if revision is None or Path(where).is_dir() else {"revision": revision}


def local_model(source: str) -> Path | None:
    """The directory or GGUF file that a source stands for; None for a hub name.

    Raises:
        ModelError: If a file or package is missing, or a directory holds no model.
    """
    path = Path(source).expanduser()
    if source in PACKAGED_MODELS:
        path = PACKAGED_MODELS[source].locate()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"no such GGUF file: {path}")
        return path
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{path} is no model directory: it has no config.json{_instead_of_a_model(path)}")
        return path
    if path.is_absolute() or source.startswith(".") or source.count("/") > 1:
        raise ModelError(f"no such model directory: {source}")
    return None


def _instead_of_a_model(directory: Path) -> str:
    """What a directory without a model holds, where that says what to name instead."""
    if (directory / "adapter_config.json").is_file():
        return "; it holds an adapter without its model: merge them (peft: merge_and_unload(), then save_pretrained)"
    file = next(iter(sorted(directory.glob("*.gguf"))), None)
    return "" if file is None else f"; did you mean {file}?"


def load_model(
    source: str, *, revision: str | None = None, offload: bool | Literal["auto"] = ModelDefaults.offload
) -> DenseModel:
    """Load a dense model to the CPU.

    Args:
        source: Packaged name (``smollm2-135m``), hub name, local directory or ``.gguf`` file.
        revision: Hub revision, for hub names only.
        offload: Leave the blocks' weights in their files and read them one block at a time; ``auto`` does so when they
            would take more than two thirds of the memory that is available.

    Raises:
        ModelError: If it cannot be found or read, or its family is not supported.
    """
    local = local_model(source)
    # Before the weights are hashed: what they are told apart by is what was loaded.
    stamps = None if local is None or not local.is_dir() else FileStamps(local)
    where, identity = resolve_model(source)
    kwargs = hub_options(where, revision)
    with quiet_transformers():
        config = read_config(source, where, revision=revision)
        refuse_subnet(source, config, where)
        adapter = adapter_for(config.model_type)
        try:
            with named_faults("family", adapter):
                adapter.architecture(config)
            files = _offloaded(where, offload, kwargs.get("revision"))
            if files is None:
                model = load_whole(where, source, config, dtype=None, **kwargs)
                held = hold_in_memory(model)
            else:
                refuse_adapter(where, source, **kwargs)
                model, held = load_skeleton(files, config, adapter, source), True
        except LOAD_FAULTS as error:
            raise load_fault(source, error) from error
        tokenizer = load_tokenizer(where, source, **kwargs)
    if stamps is not None:
        stamps.check()
    # Once more: where configuration and weights disagree, the loaded model's says what the weights are.
    architecture = adapter.architecture(model.config)
    check_consumed(adapter, model, architecture, source)
    return DenseModel(
        model=model.requires_grad_(False),
        tokenizer=tokenizer,
        adapter=adapter,
        architecture=architecture,
        source=source,
        revision=identity or getattr(config, "_commit_hash", None) or revision or "unknown",
        sample=source if source in PACKAGED_MODELS else None,
        files=files,
        stamps=None if held else stamps,
    )


def load_tokenizer(where: str, source: str, **kwargs: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Args:
        where: What the source stands for, from :func:`resolve_model`.
        source: What the user named.
        kwargs: ``revision``, if any.

    Raises:
        ModelError: If it has none that can be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **kwargs)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"cannot load the tokenizer of model '{source}': {first_line(error)}") from error
    return tokenizer


def read_config(source: str, where: str, *, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a model.

    Args:
        source: What the user named.
        where: What it stands for, from :func:`resolve_model`.
        revision: Hub revision, for hub names only.

    Raises:
        ModelError: If there is none, or none that can be read without running code that the model carries; says where
            it lies.
    """
    refuse_decilm(source, where)
    options = hub_options(where, revision)
    register_subnet_class(where, **options)
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(where, trust_remote_code=False, **options)
    except Exception as error:  # transformers raises many kinds for values that it does not expect
        file = cached_config(where, revision)
        if file is None:
            raise ModelError(_not_found(source, error)) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(
            f"cannot read the configuration of model '{source}': {file} is damaged or of an unknown kind ({reason})"
        ) from error
    return config


def cached_config(where: str, revision: str | None) -> Path | None:
    """The configuration of a model, if it is on this machine."""
    if Path(where).is_dir():
        return Path(where) / CONFIG_NAME
    with suppress(ValueError):
        found = try_to_load_from_cache(where, CONFIG_NAME, revision=revision)
        return Path(found) if isinstance(found, str) else None
    return None


def _offloaded(where: str, offload: bool | Literal["auto"], revision: str | None) -> WeightFiles | None:
    """The files to read blocks from, or None when the model is to be held in memory."""
    if not offload:
        return None
    directory = Path(where)
    if not directory.is_dir():
        wanted = ["*.safetensors", "*.safetensors.index.json"]
        directory = Path(snapshot_download(where, revision=revision, allow_patterns=wanted))
    try:
        files = WeightFiles(directory)
    except ModelError:
        if offload == "auto":
            return None
        raise
    return None if offload == "auto" and files.num_bytes * 3 < available_bytes() * 2 else files


def resolve_device(device: str) -> torch.device:
    """``auto`` becomes CUDA where there is one, else the CPU.

    Raises:
        ModelError: If the named device is unknown or absent.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"unknown device '{device}'; use auto, cpu, cuda or cuda:N") from error
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"device '{device}' asks for CUDA, but this machine or this torch build has none; use cpu")
    if resolved.type != "cpu":
        try:
            torch.empty(0, device=resolved)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            raise ModelError(f"device '{device}' is not there ({first_line(error)}); use another one") from error
    return resolved


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto`` becomes bfloat16 on CUDA, and on a CPU the faster of bfloat16 and float32, measured."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" or bfloat16_is_faster() else torch.float32
    resolved: torch.dtype = getattr(torch, dtype)
    return resolved


def on_device(module: Module, device: torch.device, dtype: torch.dtype | None = None) -> Module:
    """The same module, moved and, if asked for, its parameters cast.

    Buffers keep their type: rotary frequencies are float32 in every loaded model, whatever its weights are, and in
    bfloat16 they are off by radians some thousand positions on.

    Args:
        module: A model or a part of one.
        device: Where to.
        dtype: Type of the parameters; None = as they are.
    """
    for parameter in module.parameters():
        parameter.data = parameter.data.to(device, dtype)
    nn.Module.to(module, device)
    return module


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Progress bars of transformers off, and the hub client's word on each retry; then back to what they were."""
    enabled, verbosity = transformers_logging.is_progress_bar_enabled(), hub_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub_logging.set_verbosity(verbosity)
        if enabled:
            transformers_logging.enable_progress_bar()


def _not_found(source: str, error: Exception) -> str:
    hint = did_you_mean(source, PACKAGED_MODELS, quote="'", after=" ")
    return (
        f"cannot find model '{source}': {hint}it is no packaged model ({', '.join(PACKAGED_MODELS)}), no local "
        f"directory, no .gguf file, and no hub model in reach ({first_line(error)})"
    )
