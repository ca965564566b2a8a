"""The dense model's own text, kept between runs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_llm.cache import keep_file
from nas_llm.config import SelfSampleSection
from nas_llm.data._tokens import end_of_text_id
from nas_llm.data.self_text._prompts import PROMPTS_VERSION, openings
from nas_llm.data.self_text._repetition import new_texts
from nas_llm.data.self_text._sample import BATCH_SIZE, sample_batches
from nas_llm.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Documents of a kind that are sampled side by side: a kind is asked for little at a time.
KIND_BATCH = 16
# Of the first token behind an opening: the same opening goes on in several ways.
_FIRST_TEMPERATURE = 1.5

_LOG = logging.getLogger(__name__)


def cached_self_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    identity: str,
    settings: SelfSampleSection,
    min_tokens: int,
    cache_dir: Path,
    kind: str = "",
    on_progress: Callable[[int], None] | None = None,
) -> list[str]:
    """The first documents the model writes that hold ``min_tokens``, sampled at most once.

    Of a kind of text, documents that say again what came before them are left out.

    What is returned depends on the arguments alone, not on what the cache held: a cache that is too short grows, one
    that is longer is read as far as needed.

    Args:
        model: Causal LM of transformers.
        tokenizer: Its tokenizer.
        identity: What identifies the weights, e.g. the model's revision hash.
        settings: How to sample.
        min_tokens: Tokens the documents hold together when they are tokenised again and joined.
        cache_dir: Folder of the cache; made if missing.
        kind: What it writes: a kind of the source ``auto``, or ``letters``; "" = whatever comes to it.
        on_progress: Told the number of tokens drawn in this call, after every step.

    Raises:
        DataError: If the model writes nothing, or the cache file is damaged or cannot be written.
    """
    path = cache_dir / f"{_cache_key(identity, settings, kind)}.jsonl"
    batches = _read(path)

    def taken() -> list[str] | None:
        texts = [text for batch in batches for text in batch]
        return shortest_prefix(tokenizer, new_texts(texts) if kind else texts, min_tokens)

    found = taken()
    if found is not None:
        return found
    _LOG.info("sampling the model's own text into %s", path)
    more = sample_batches(
        model,
        tokenizer,
        temperature=settings.temperature,
        document_tokens=settings.document_tokens,
        seed=settings.seed,
        first=len(batches),
        on_progress=on_progress,
        **_asked(tokenizer, kind),
    )
    while found is None:
        batches.append([text for text, _ in next(more)])
        _write(path, batches)
        found = taken()
    return found


def _asked(tokenizer: PreTrainedTokenizerBase, kind: str) -> dict[str, Any]:
    """What the sampler is told of a kind."""
    if not kind:
        return {}
    return {
        "batch_size": KIND_BATCH,
        "openings": lambda batch: openings(tokenizer, kind, batch * KIND_BATCH, KIND_BATCH),
        "first_temperature": _FIRST_TEMPERATURE,
    }


def shortest_prefix(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], tokens: int) -> list[str] | None:
    """The fewest first texts that hold ``tokens`` when joined, or None if all of them do not."""
    if not texts:
        return None
    separator = int(end_of_text_id(tokenizer) is not None)
    held = -separator
    for count, ids in enumerate(tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"], start=1):
        held += len(ids) + separator
        if held >= tokens:
            return list(texts[:count])
    return None


def _cache_key(identity: str, settings: SelfSampleSection, kind: str) -> str:
    described: dict[str, Any] = {"identity": identity, "batch_size": BATCH_SIZE} | settings.model_dump()
    if kind:
        described |= {"kind": kind, "version": PROMPTS_VERSION, "batch_size": KIND_BATCH, "first": _FIRST_TEMPERATURE}
    return hashlib.blake2b(json.dumps(described, sort_keys=True).encode(), digest_size=16).hexdigest()


def _read(path: Path) -> list[list[str]]:
    """Cached batches, in order; none if there is no cache yet."""
    if not path.exists():
        return []
    batches: list[list[str]] = []
    try:
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            record = json.loads(line)
            if record["batch"] == len(batches):
                batches.append([])
            batches[record["batch"]].append(record["text"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{path} is damaged: it does not hold sampled documents; delete it") from error
    return batches


def _write(path: Path, batches: Sequence[Sequence[str]]) -> None:
    lines = (
        json.dumps({"batch": number, "text": text}) + "\n" for number, batch in enumerate(batches) for text in batch
    )
    keep_file(path, "".join(lines), sync=True, error=DataError)
