"""The model card of an export: what it is, what it was made from, how to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas_llm.space import Cost, Genome


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where an exported subnet comes from.

    Attributes:
        base_model: What the user named as the dense model.
        base_revision: Identity of its weights.
        problem: Name of the problem.
        seed: Seed of the search.
        point: Id of the point on the front.
        genome: The masks.
        cost: Exact cost of the subnet.
        dense_cost: Exact cost of the dense model.
        sequence_length: Length at which MACs are stated.
        weights: How the weights were finished, e.g. ``closed_form``.
        texts: Split name to description of its windows.
        perplexities: Split name to (dense, subnet) perplexity.
        reproduce: Shell commands.
        versions: Package name to version.
        posttraining: What was trained on it since, one entry a training, the first one first.
    """

    base_model: str
    base_revision: str
    problem: str
    seed: int
    point: str
    genome: Genome
    cost: Cost
    dense_cost: Cost
    sequence_length: int
    weights: str
    texts: Mapping[str, Mapping[str, Any]]
    perplexities: Mapping[str, tuple[float, float]]
    reproduce: Sequence[str]
    versions: Mapping[str, str] = field(default_factory=dict)
    posttraining: Sequence[Mapping[str, Any]] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain-data form, for ``nas_llm.json`` beside the weights."""
        return {
            "base_model": self.base_model,
            "base_revision": self.base_revision,
            "problem": self.problem,
            "seed": self.seed,
            "point": self.point,
            "genome_digest": self.genome.digest(),
            "inheriting_ratio": self.cost.inheriting_ratio,
            "block_params": self.cost.block_params,
            "params": self.cost.params,
            "macs_per_token": self.cost.macs_per_token,
            "sequence_length": self.sequence_length,
            "weights": self.weights,
            "texts": {name: dict(text) for name, text in self.texts.items()},
            "perplexities": {name: {"dense": d, "subnet": s} for name, (d, s) in self.perplexities.items()},
            "versions": dict(self.versions),
            **({"posttraining": list(self.posttraining)} if self.posttraining else {}),
        }


def model_card(provenance: Provenance, *, remote_code: bool) -> str:
    """Markdown of the card.

    Args:
        provenance: What to tell.
        remote_code: Whether loading needs ``trust_remote_code=True``.
    """
    p = provenance
    trust = ", trust_remote_code=True" if remote_code else ""
    rows = "\n".join(
        f"| {name} | {dense:,} | {subnet:,} | {subnet / dense:.3f} |"
        for name, dense, subnet in (
            ("Decoder-block parameters", p.dense_cost.block_params, p.cost.block_params),
            ("All parameters", p.dense_cost.params, p.cost.params),
            (f"MACs per token at {p.sequence_length} tokens", p.dense_cost.macs_per_token, p.cost.macs_per_token),
            ("KV-cache bytes per token (16 bit)", p.dense_cost.kv_cache_bytes, p.cost.kv_cache_bytes),
        )
    )
    measured = "\n".join(
        f"| {name.replace('_', '-')} | {dense:.3f} | {subnet:.3f} | {_text(p.texts.get(name, {}))} |"
        for name, (dense, subnet) in p.perplexities.items()
    )
    layers = "\n".join(
        f"| {layer} | {groups or 'removed'} | {channels or 'removed'} |"
        for layer, (groups, channels) in enumerate(
            zip(p.genome.kv_groups.tolist(), p.genome.ffn_channels.tolist(), strict=True)
        )
    )
    commands = "\n".join(p.reproduce)
    versions = ", ".join(f"{name} {version}" for name, version in p.versions.items())
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [nas-llm, pruned]
---

# A subnet of {p.base_model}, inheriting ratio {p.cost.inheriting_ratio:.3f}

Found inside `{p.base_model}` (revision `{p.base_revision}`) by nas_llm (Python package `nas-llm`), without
training: problem `{p.problem}`, seed {p.seed}, point `{p.point}`, genome `{p.genome.digest()}`. Weights: {p.weights}.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(DIRECTORY{trust})
tokenizer = AutoTokenizer.from_pretrained(DIRECTORY{trust})
```

| | dense | this model | ratio |
|---|---|---|---|
{rows}

Perplexity, exp(mean token NLL) over non-overlapping windows:

| text | dense | this model | measured on |
|---|---|---|---|
{measured}

The subnet was optimised for the fitness text above; on text of another kind it will do worse than these numbers say.

## Layers

| layer | KV groups | FFN channels |
|---|---|---|
{layers}

## How to make it again

```sh
{commands}
```

Made with {versions}.
"""


def _text(description: Mapping[str, Any]) -> str:
    names = ", ".join(str(source.get("source", "?")) for source in description.get("sources", ()))
    if not description:
        return "?"
    return f"{description['windows']} windows of {description['window']} tokens of {names}, `{description['digest']}`"
