"""Every test runs offline, on one thread, with a cache of its own, without a GPU (``make test-cuda`` has one)."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Test processes share the cores: waiting threads must not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["OMP_NUM_THREADS"] = "1"
# Most tests compare bits, and count on processes side by side, as there are on a CPU.
if "NAS_LLM_TEST_CUDA" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
# A shell's background jobs ignore Ctrl-C and hand that on; tests that interrupt a command would then wait in vain.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A deadline measures the machine's other tenants.
settings.register_profile("nas_llm", deadline=None)
settings.load_profile("nas_llm")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh cache folder, for this process and its children."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["NAS_LLM_CACHE"] = str(folder)
    return folder
