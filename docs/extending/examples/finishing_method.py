"""A finishing method: each row of the output projections is scaled so that it comes nearest to the dense model's."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, tensor

from nas_llm.finishing import FinishingMethod, FinishInputs, grams_of
from nas_llm.space import Genome
from nas_llm.subnet import BlockEdit


class ScaledRows(FinishingMethod):
    """One number a row, by least squares: less than the package's own methods do, and hard to overfit."""

    name = "scaled_rows"

    def __init__(self, *, largest: float = 4.0) -> None:
        self.largest = largest

    def in_words(self) -> str:
        return f"inherited, rows of the output projections scaled by least squares (at most {self.largest:g} times)"

    def refit(self, inputs: FinishInputs, genome: Genome, on_layer: Callable[[int], None]) -> BlockEdit:
        dense, grams = inputs.dense, grams_of(inputs)
        sizes, names = dense.architecture, dense.adapter.names
        scales: list[dict[str, Tensor]] = []
        for layer in range(genome.num_layers):
            heads = genome.attn_mask[layer].repeat(sizes.heads_per_group * sizes.head_dim)
            weights, (o_gram, fc2_gram) = dense.block_state(layer), grams.grams(layer)
            found = {}
            for module, gram, kept in ((names.o, o_gram, heads), (names.fc2, fc2_gram, genome.mlp_mask[layer])):
                if kept.any():
                    key = f"{module}.weight"
                    found[key] = self.rows(weights[key].double(), gram.matrix.double(), tensor(kept))
            scales.append(found)
            on_layer(layer)

        def edit(layer: int, sliced: dict[str, Tensor]) -> dict[str, Tensor]:
            return {**sliced, **{key: sliced[key] * scale.to(sliced[key]) for key, scale in scales[layer].items()}}

        return edit

    def rows(self, weight: Tensor, gram: Tensor, kept: Tensor) -> Tensor:
        """With y = W x and z = W_kept x_kept, over all tokens: the number s of each row that makes s z nearest to y."""
        inherited = weight * kept
        outputs = inherited @ gram
        scale = (outputs * weight).sum(1, keepdim=True) / (outputs * inherited).sum(1, keepdim=True)
        return scale.nan_to_num(1.0).clamp(0.0, self.largest)
