"""The most memory that a model takes while it runs, and the bytes of its cache."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from nas_llm.errors import ModelError
from nas_llm.evaluation._generation import Generation
from nas_llm.evaluation._scores import Workload
from nas_llm.models import quiet_transformers
from nas_llm.models.families import family_sources, register_subnet_class
from nas_llm.plugins import load_module

_CHILD = "import sys; from nas_llm.evaluation._peak_memory import serve; serve(sys.argv[1])"


def cuda_memory(model: PreTrainedModel, workload: Workload) -> tuple[int, int]:
    """Peak and cache bytes of a model on its GPU, by torch's allocator.

    Args:
        model: The model, on a CUDA device; what else is there is not counted.
        workload: What it is put through.
    """
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    torch.cuda.reset_peak_memory_stats(model.device)
    before = torch.cuda.memory_allocated(model.device)
    run = Generation(model, workload)
    run.first_token()
    run.decode()
    return weights + torch.cuda.max_memory_allocated(model.device) - before, run.cache_bytes()


def process_memory(source: str, workload: Workload, *, dtype: torch.dtype) -> tuple[int, int]:
    """Peak and cache bytes of a model on the CPU, in a process of its own.

    Args:
        source: What ``from_pretrained`` takes.
        workload: What it is put through.
        dtype: Arithmetic.

    Raises:
        ModelError: If the process does not end well, as when memory runs out.
    """
    with tempfile.TemporaryDirectory() as folder:
        request = Path(folder) / "request.json"
        document = {
            "source": source,
            "workload": asdict(workload),
            "dtype": str(dtype).removeprefix("torch."),
            "plugins": family_sources(),
        }
        request.write_text(json.dumps(document | {"threads": torch.get_num_threads()}), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(request)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        answer = Path(folder) / "answer.json"
        if done.returncode or not answer.is_file():
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise ModelError(f"memory of {source} cannot be measured: exit code {done.returncode}, {lines[-1]}")
        found: dict[str, int] = json.loads(answer.read_text(encoding="utf-8"))
    return found["peak_bytes"], found["kv_cache_bytes"]


def saved_memory(model: PreTrainedModel, workload: Workload) -> tuple[int, int]:
    """Peak and cache bytes of a model that is only in memory, on the CPU; it is written to a temporary folder.

    Raises:
        ModelError: See :func:`process_memory`.
    """
    with tempfile.TemporaryDirectory() as folder:
        with quiet_transformers():
            model.save_pretrained(folder)
        return process_memory(folder, workload, dtype=model.dtype)


def serve(request: str) -> None:
    """What the process of its own does.

    Args:
        request: The file that says what to measure; ``answer.json`` is written beside it.
    """
    path = Path(request)
    wanted: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    torch.set_num_threads(wanted["threads"])
    for name, folder in wanted["plugins"]:
        load_module(name, base_dir=Path(folder))
    register_subnet_class(wanted["source"])
    with quiet_transformers(), torch.device("meta"):
        # The code of its class is no memory of the model.
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(wanted["source"]))
    empty = psutil.Process().memory_info().rss
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            wanted["source"], dtype=getattr(torch, wanted["dtype"]), attn_implementation="sdpa"
        ).eval()
    run = Generation(model, Workload(**wanted["workload"]))
    _forget_peak()
    run.first_token()
    run.decode()
    answer = {"peak_bytes": _peak() - empty, "kv_cache_bytes": run.cache_bytes()}
    (path.parent / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


def _forget_peak() -> None:
    """Leave out what loading took; only Linux can, elsewhere it is in the peak."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak() -> int:
    """Largest resident size of this process, in bytes."""
    with suppress(OSError):
        # Not getrusage: on Linux that one also remembers the process that this one was started from.
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
