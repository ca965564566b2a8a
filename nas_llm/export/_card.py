"""The model card of an export: what it is, what it was made from, how to make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas_llm.export._expressible import ONE_HEAD_WIDTH, layers_in_words
from nas_llm.export._padding import Padding
from nas_llm.space import Cost, Genome

CARD_FILE = "README.md"


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
        padding: What the file does not save, where its heads were padded.
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
    padding: Padding | None = None

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
            "kv_cache_bytes": self.cost.kv_cache_bytes,
            "sequence_length": self.sequence_length,
            "layers": [dict(layer) for layer in self.genome.layer_sizes()],
            "weights": self.weights,
            "texts": {name: dict(text) for name, text in self.texts.items()},
            "perplexities": {name: {"dense": d, "subnet": s} for name, (d, s) in self.perplexities.items()},
            "versions": dict(self.versions),
            **({"posttraining": list(self.posttraining)} if self.posttraining else {}),
            **({} if self.padding is None else {"padding": self.padding.to_dict()}),
        }


def model_card(provenance: Provenance, *, remote_code: bool, loads: str | None = None) -> str:
    """Markdown of the card.

    Args:
        provenance: What to tell.
        remote_code: Whether loading needs ``trust_remote_code=True``.
        loads: Shell command that loads it, where that is not transformers.
    """
    p = provenance
    trust = ", trust_remote_code=True" if remote_code else ""
    library = "library_name: transformers\n" if loads is None else ""
    loading = f"""```sh
{loads}
```"""
    if loads is None:
        loading = f"""```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(DIRECTORY{trust})
tokenizer = AutoTokenizer.from_pretrained(DIRECTORY{trust})
```"""
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
        f"| {name.replace('_', '-')} | {dense:.3f} | {subnet:.3f} | {subnet / dense:.3f} "
        f"| {_text(p.texts.get(name, {}))} |"
        for name, (dense, subnet) in p.perplexities.items()
    )
    commands = "\n".join(p.reproduce)
    versions = ", ".join(f"{name} {version}" for name, version in p.versions.items())
    return f"""---
{library}pipeline_tag: text-generation
tags: [nas-llm, pruned]
---

# A subnet of {p.base_model}, inheriting ratio {p.cost.inheriting_ratio:.3f}

Found inside `{p.base_model}` (revision `{p.base_revision}`) by nas_llm (Python package `nas-llm`), without
training: problem `{p.problem}`, seed {p.seed}, point `{p.point}`, genome `{p.genome.digest()}`. Weights: {p.weights}.

{loading}

| | dense | this model | ratio |
|---|---|---|---|
{rows}

Perplexity, exp(mean token NLL) over non-overlapping windows:

| text | dense | this model | times dense | measured on |
|---|---|---|---|---|
{measured}

The subnet was optimised for the fitness text above; on text of another kind it will do worse than these numbers say.

{_padded(p)}## Layers

{_layers(p.genome)}

## How to make it again

```sh
{commands}
```

Made with {versions}.
"""


def _layers(genome: Genome) -> str:
    """Table of what each layer keeps; channels of heads only where some are not whole."""
    titles = {"kv_groups": "KV groups"}
    if genome.cut_layers.size:
        titles |= {
            "head_channels": "channels of a head",
            "qk_channels": "q and k channels of a head",
            "vo_channels": "v and o channels of a head",
        }
    titles["ffn_channels"] = "FFN channels"
    sizes = genome.layer_sizes()
    names = [name for name in titles if name in sizes[0]]
    rows = [
        [
            str(layer),
            *(str(size[name] or ("removed" if name in ("kv_groups", "ffn_channels") else "")) for name in names),
        ]
        for layer, size in enumerate(sizes)
    ]
    head = ["layer", *(titles[name] for name in names)]
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


def _padded(p: Provenance) -> str:
    """What the file does not save; nothing where no head was padded."""
    if p.padding is None:
        return ""
    q = p.padding
    rows = "\n".join(
        f"| {name} | {file:,} | {without:,} | {file / without:.3f} |"
        for name, (file, without) in (
            ("Bytes of weights", q.weight_bytes),
            ("KV-cache bytes per token (16 bit)", q.kv_cache_bytes),
            (f"MACs per token at {p.sequence_length} tokens", q.macs_per_token),
        )
    )
    if q.sizes is not None:
        groups, channels = q.sizes
        return f"""## What this file does not save

Layers of this subnet differ in size, and here (`{q.format}`) the family has one size for all layers. So
{layers_in_words(q.layers)} are filled up with zeros to the largest: {groups} KV groups of {q.head_dim} channels and
{channels:,} FFN channels. The model computes the same; what that costs is in the table, and the numbers above are those
of the subnet without the zeros. The format `hf` has none.

{_of_padding(rows)}"""
    return f"""## What this file does not save

In {layers_in_words(q.layers)} heads keep some of their channels only. Here (`{q.format}`) {ONE_HEAD_WIDTH},
so they are filled up with zeros to {q.head_dim} channels. The model computes the same; what that costs is in the table,
and the numbers above are those of the subnet without the zeros. The format `hf` has none.

{_of_padding(rows)}"""


def _of_padding(rows: str) -> str:
    return f"| | this file | without the zeros | ratio |\n|---|---|---|---|\n{rows}\n\n"


def _text(description: Mapping[str, Any]) -> str:
    names = ", ".join(str(source.get("source", "?")) for source in description.get("sources", ()))
    if not description:
        return "?"
    return f"{description['windows']} windows of {description['window']} tokens of {names}, `{description['digest']}`"
