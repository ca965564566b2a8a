"""A post-trained export on disk: the files of the export that it was, with other weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from nas_llm.export import MAX_SHARD_SIZE, PROVENANCE_FILE
from nas_llm.models import quiet_transformers
from nas_llm.posttrain._card import CURVE_FILE, curve_text, posttrained_card
from nas_llm.posttrain._curve import CurvePoint

_CARD_FILE = "README.md"
# The completion record says what nas-llm export wrote; these weights are others.
_LEFT_OUT = ("*.safetensors", "*.safetensors.index.json", "export.json", CURVE_FILE)


def write_posttrained(
    model: PreTrainedModel,
    export: Path,
    directory: Path,
    *,
    document: Mapping[str, Any],
    stage: Mapping[str, Any],
    curve: tuple[CurvePoint, ...],
) -> None:
    """Fill a directory with a post-trained export.

    Configuration, modelling file, tokenizer and masks are copied as they are.

    Args:
        model: The trained subnet, of the sizes and type that the export has.
        export: The export that it was.
        directory: Where to.
        document: What the export says of itself, from :func:`nas_llm.export.read_provenance`.
        stage: What :func:`describe_stage` returned.
        curve: The learning curve.
    """
    before = {"weights": document.get("weights"), "perplexities": document.get("perplexities", {})}
    after = {
        **document,
        "posttraining": [*document.get("posttraining", ()), {**stage, "before": before}],
        "weights": f"{document.get('weights')}; then post-trained ({stage['in_words']})",
        # What was measured before says nothing of these weights.
        "perplexities": {},
    }
    with quiet_transformers():
        model.save_pretrained(directory, max_shard_size=MAX_SHARD_SIZE)
    shutil.copytree(export, directory, ignore=shutil.ignore_patterns(*_LEFT_OUT), dirs_exist_ok=True)
    (directory / PROVENANCE_FILE).write_text(json.dumps(after, indent=2) + "\n", encoding="utf-8")
    card = export / _CARD_FILE
    text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
    (directory / _CARD_FILE).write_text(posttrained_card(text, after), encoding="utf-8")
    (directory / CURVE_FILE).write_text(curve_text(curve), encoding="utf-8")
