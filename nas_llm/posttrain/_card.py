"""What an export says of its post-training, for programs and for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_llm.posttrain._curve import CurvePoint
from nas_llm.posttrain._methods import training_method
from nas_llm.posttrain._settings import PosttrainSettings
from nas_llm.posttrain._train import Trained

CURVE_FILE = "learning_curve.jsonl"


def describe_stage(
    trained: Trained,
    settings: PosttrainSettings,
    *,
    text: Mapping[str, Any],
    held_out: Mapping[str, Any] | None,
    teacher: Mapping[str, str] | None,
    source_revision: str,
    command: str,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """One post-training as plain data: an entry of ``posttraining`` in ``nas_llm.json``.

    Args:
        trained: What came of it.
        settings: How it was done.
        text: Description of the windows that it was trained on.
        held_out: Description of the windows that were measured, if any were.
        teacher: ``source`` and ``revision`` of the teacher, if there was one.
        source_revision: Identity of the weights before.
        command: What does it again.
        versions: Package name to version.
    """
    last, method = trained.last, training_method(settings.method)
    perplexities = None if held_out is None else {"before": trained.curve[0].perplexity, "after": last.perplexity}
    return {
        "method": settings.method,
        "in_words": method.in_words(rank=settings.rank),
        "loss": "next_token" if teacher is None else "kl",
        "teacher": None if teacher is None else dict(teacher),
        "settings": settings.to_dict() | {"dtype": trained.dtype},
        "text": dict(text),
        "steps": last.step,
        "tokens": last.tokens,
        "seconds": last.seconds,
        "seed": settings.seed,
        "interrupted": trained.interrupted,
        "last_loss": last.loss,
        "held_out": None if held_out is None else {"text": dict(held_out), "perplexities": perplexities},
        "source_revision": source_revision,
        "command": command,
        "versions": dict(versions),
    }


def posttrained_card(card: str, document: Mapping[str, Any]) -> str:
    """The card of an export after post-training: what was done, then the card that it had.

    Args:
        card: The card before.
        document: ``nas_llm.json`` after, the new stage last.
    """
    stage = document["posttraining"][-1]
    front_matter, body = _split(card)
    towards = "the text's own tokens"
    if stage["teacher"] is not None:
        towards = f"the predictions of `{stage['teacher']['source']}` (KL, revision `{stage['teacher']['revision']}`)"
    text = stage["text"]
    ended = " Somebody stopped it before its budget was spent." if stage["interrupted"] else ""
    title = f"A subnet of {document['base_model']}, inheriting ratio {document['inheriting_ratio']:.3f}, post-trained"
    return f"""{front_matter}# {title}

The subnet that is described below, trained after it was found: {stage["in_words"]}, towards {towards}, on
{_text(text)}. {stage["steps"]:,} steps,
{stage["tokens"]:,} tokens, {stage["seconds"]:.0f} s, peak learning rate {stage["settings"]["learning_rate"]:g}, seed
{stage["seed"]}.{ended} Masks, sizes and how to load it are unchanged; its weights and perplexities are not those below.
`{CURVE_FILE}` is its learning curve.
{_held_out(stage)}
```sh
{stage["command"]}
```

## Before post-training

{body}"""


def curve_text(curve: tuple[CurvePoint, ...]) -> str:
    """The file of a learning curve: one JSON object a line."""
    return "".join(point.to_json() for point in curve)


def _held_out(stage: Mapping[str, Any]) -> str:
    if stage["held_out"] is None:
        return ""
    text, measured = stage["held_out"]["text"], stage["held_out"]["perplexities"]
    return f"""
| held-out perplexity before | after | measured on |
|---|---|---|
| {measured["before"]:.3f} | {measured["after"]:.3f} | {_text(text)} |
"""


def _text(description: Mapping[str, Any]) -> str:
    names = ", ".join(str(source.get("source", "?")) for source in description["sources"])
    return f"{description['windows']} windows of {description['window']} tokens of {names}, `{description['digest']}`"


def _split(card: str) -> tuple[str, str]:
    """Front matter with its fences and a blank line, and the rest without its title."""
    front_matter, body = "", card
    if card.startswith("---\n") and "\n---\n" in card:
        head, _, body = card.partition("\n---\n")
        front_matter = f"{head}\n---\n\n"
    body = body.lstrip("\n")
    if body.startswith("# "):
        body = body.partition("\n")[2].lstrip("\n")
    return front_matter, body
