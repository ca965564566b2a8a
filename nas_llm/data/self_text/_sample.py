"""Text that the dense model writes itself: ancestral sampling (Williams et al., NAACL 2025), from nothing or on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from nas_llm.data._tokens import END_OF_TEXT
from nas_llm.errors import DataError
from nas_llm.settings import SelfSampleDefaults

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH_SIZE = 64
# Tokens over which the temperature falls behind an opening.
COOLING_TOKENS = 16
# Tokens that a document has behind its opening, at least.
_LEAST_TOKENS = 8
_SEED_STRIDE = 1_000_003


def sample_documents(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    tokens: int,
    temperature: float = SelfSampleDefaults.temperature,
    document_tokens: int = SelfSampleDefaults.document_tokens,
    seed: int = SelfSampleDefaults.seed,
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[int], None] | None = None,
) -> list[str]:
    """Let a causal language model write documents from nothing.

    Every document starts from the end-of-text (or bos) token and ends at an end-of-text/eos token or at
    ``document_tokens``. Tokens are drawn from softmax(logits / temperature), nothing truncated. Documents that decode
    to blank text are dropped. Asking for more ``tokens`` only appends documents; the global RNG is left untouched.

    Args:
        model: Causal LM of transformers, on any device.
        tokenizer: Its tokenizer.
        tokens: Sampled tokens wanted; the kept documents were at least that many when they were drawn.
        temperature: Softmax temperature, > 0.
        document_tokens: Longest document, in tokens.
        seed: Seed of the draws.
        batch_size: Documents sampled side by side; changes the draws.
        on_progress: Told the number of tokens drawn so far, after every step.

    Raises:
        DataError: If an argument is out of range, the model has no token to start from, or it writes nothing.
    """
    documents: list[str] = []
    done = 0
    batches = sample_batches(
        model,
        tokenizer,
        temperature=temperature,
        document_tokens=document_tokens,
        seed=seed,
        batch_size=batch_size,
        on_progress=on_progress,
    )
    while done < tokens:
        for text, length in next(batches):
            if done < tokens:
                documents.append(text)
                done += length
    return documents


def sample_batches(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    temperature: float = SelfSampleDefaults.temperature,
    document_tokens: int = SelfSampleDefaults.document_tokens,
    seed: int = SelfSampleDefaults.seed,
    batch_size: int = BATCH_SIZE,
    first: int = 0,
    on_progress: Callable[[int], None] | None = None,
    openings: Callable[[int], list[str]] | None = None,
    first_temperature: float | None = None,
) -> Iterator[list[tuple[str, int]]]:
    """Endless batches of ``(document, tokens drawn)``; batch b depends on nothing but ``seed`` and b.

    Args:
        first: Batch to begin with; the rest as in :func:`sample_documents`.
        openings: What the documents of a batch begin with, ``batch_size`` texts; they are part of the documents, whose
            special tokens stay. None = nothing.
        first_temperature: Temperature of the first token behind an opening; it falls to ``temperature`` over the next
            :data:`COOLING_TOKENS`. None = ``temperature``.
    """
    for name, value in (("temperature", temperature), ("document_tokens", document_tokens), ("batch_size", batch_size)):
        if value <= 0:
            raise DataError(f"{name} must be positive, got {value}")
    start = _start_token(model, tokenizer)
    stops = _stop_tokens(model, tokenizer)
    drawn, batch = 0, first
    while True:
        rows: list[list[int]] = [[] for _ in range(batch_size)]
        given = (
            [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in openings(batch)]
            if openings
            else None
        )
        for alive, ids in _steps(
            model,
            start=start,
            stops=stops,
            rows=batch_size,
            temperature=temperature,
            limit=document_tokens,
            seed=seed * _SEED_STRIDE + batch,
            openings=given or [],
            first_temperature=temperature if first_temperature is None else first_temperature,
        ):
            for row, token in zip(alive, ids, strict=True):
                rows[row].append(token)
            drawn += len(alive)
            if on_progress is not None:
                on_progress(drawn)
        texts = tokenizer.batch_decode(rows, skip_special_tokens=openings is None)
        # An opening that the model had nothing to add to is no text of its own.
        least = (
            [0] * batch_size
            if given is None
            else [min(len(opening) + _LEAST_TOKENS, document_tokens) for opening in given]
        )
        written = [
            (text, len(row))
            for text, row, few in zip(texts, rows, least, strict=True)
            if text.strip() and len(row) >= few
        ]
        if not written:
            raise DataError(
                f"the model wrote {batch_size} blank documents in a row from its start token {start}; "
                "give a text file or a hub dataset instead of the source 'self'"
            )
        yield written
        batch += 1


def _steps(
    model: PreTrainedModel,
    *,
    start: int,
    stops: list[int],
    rows: int,
    temperature: float,
    limit: int,
    seed: int,
    openings: Sequence[Sequence[int]] = (),
    first_temperature: float = 1.0,
) -> Iterator[tuple[list[int], list[int]]]:
    """One batch, step by step: the rows still being written and the token each of them got (stop tokens left out)."""
    import torch

    from nas_llm.data.self_text._kv_cache import growing_cache

    generator = torch.Generator(device=model.device).manual_seed(seed % 2**63)
    cache = growing_cache(model.config)
    ids = torch.full((rows, 1), start, dtype=torch.long, device=model.device)
    alive = torch.arange(rows, device=model.device)
    stop = torch.tensor(stops, dtype=torch.long, device=model.device)
    lengths = torch.tensor([len(row) for row in openings], dtype=torch.long, device=model.device)
    # Tokens of openings, -1 where the model goes on.
    given = torch.full((rows, limit), -1, dtype=torch.long, device=model.device)
    for row, tokens in enumerate(openings):
        given[row, : len(tokens)] = torch.tensor(tokens[:limit], dtype=torch.long, device=model.device)
    was_training = model.training
    model.train(False)
    try:
        for step in range(limit):
            with torch.inference_mode():
                logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits[:, -1].float()
                if len(openings):
                    cooled = ((step - lengths[alive]) / COOLING_TOKENS).clamp(0.0, 1.0)
                    logits = logits / torch.lerp(
                        torch.full_like(cooled, first_temperature), torch.full_like(cooled, temperature), cooled
                    ).unsqueeze(1)
                else:
                    logits = logits / temperature
                ids = torch.multinomial(torch.softmax(logits, dim=-1), 1, generator=generator)
                forced = given[alive, step, None]
                ids = torch.where(forced >= 0, forced, ids)
                going = (~torch.isin(ids[:, 0], stop) | (forced[:, 0] >= 0)).nonzero()[:, 0]
                if len(going) < len(ids):
                    # Finished rows leave the batch, so that short documents cost nothing.
                    ids, alive = ids[going], alive[going]
                    cache.batch_select_indices(going)
            if not len(going):
                return
            yield alive.tolist(), ids[:, 0].tolist()
    finally:
        model.train(was_training)


def _start_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    candidates = (
        tokenizer.get_vocab().get(END_OF_TEXT),
        tokenizer.bos_token_id,
        getattr(model.config, "bos_token_id", None),
        tokenizer.eos_token_id,
    )
    for token in candidates:
        if token is not None:
            return int(token)
    raise DataError(
        "the tokenizer has no end-of-text, bos or eos token to start a document from; "
        "give a text file or a hub dataset instead of the source 'self'"
    )


def _stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    configured = model.generation_config.eos_token_id if model.generation_config is not None else None
    declared = configured if isinstance(configured, list) else [configured]
    tokens = {tokenizer.get_vocab().get(END_OF_TEXT), tokenizer.eos_token_id, *declared}
    return sorted(int(token) for token in tokens if token is not None)
