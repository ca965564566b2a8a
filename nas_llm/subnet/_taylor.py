"""First-order marginals: what each sublayer's next channels are worth to one subnet, from one backward pass."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from nas_llm.data import QuestionSet, WindowSet
from nas_llm.data.questions import Encoded
from nas_llm.errors import ConfigError
from nas_llm.models import DenseModel, fast_float32, on_device
from nas_llm.models.families import placed
from nas_llm.settings import DescentDefaults
from nas_llm.space import BoolArray, Genome, Marginals, UnitScores, resize_attention, resize_mask
from nas_llm.subnet._blocks import Reconstructor
from nas_llm.subnet.losses import Batch, WindowBatch, quality_named, question_batches

T = TypeVar("T")

# Tokens that run through a block together.
_BATCH_TOKENS = 2048
# Refitted projections that are kept: the next subnet that is asked about has most of them, too.
_KEPT_BYTES = 512_000_000


class _Projection(NamedTuple):
    """An output projection: ``D x n`` weight and ``D`` bias, on the device in its dtype."""

    weight: Tensor
    bias: Tensor | None


@dataclass(eq=False)
class _Gradient:
    """Derivative of the summed loss by a projection that has all units within reach.

    Attributes:
        weight: ``D x n`` float32, of q ``n x D``.
        bias: ``D`` float32, of q ``n``.
    """

    weight: Tensor | float = 0.0
    bias: Tensor | float = 0.0


@dataclass(eq=False)
class _Gradients:
    """Of one layer: fc2, and where masks lie inside heads o and q."""

    fc2: _Gradient = field(default_factory=_Gradient)
    o: _Gradient = field(default_factory=_Gradient)
    q: _Gradient = field(default_factory=_Gradient)


class _Turns(Generic[T]):
    """What each turn takes of some items: the next ones, in an order of their own, round and round.

    Args:
        items: All of them.
        count: How many a turn takes; at most all.
        seed: Of the order.
    """

    def __init__(self, items: Sequence[T], count: int, seed: int) -> None:
        self._items = items
        self._order = np.random.default_rng(seed).permutation(len(items))
        self._count = min(len(items), count)

    def of(self, turn: int) -> list[T]:
        """The items of a turn."""
        places = np.arange(turn * self._count, (turn + 1) * self._count) % len(self._order)
        return [self._items[place] for place in self._order[places]]


class TaylorMarginals:
    """Predicts, to first order, what adding or removing a few channels of any FFN does to a subnet's loss.

    The loss is expanded in fc2 (a Taylor expansion as in Molchanov et al., CVPR 2019, but of whole steps): channels
    within reach that are not inherited take part in the pass with zero columns, so their derivatives are known, too,
    and the change of fc2 is the difference of its refits for both masks, so that the prediction accounts for what
    reconstruction will repair. One pass gives both directions for all layers, at about the cost of four candidates.
    No weight is ever changed by a derivative. What more channels of v and o inside heads are worth is read from
    o in the same way, what those of q and k are from q.

    Args:
        dense: The model to slice.
        windows: The text; each call takes the next of them, in an order of its own.
        metric: ``perplexity`` (the loss is the token NLL), ``kl`` (KL divergence from the dense model), ``margin`` (of
            the right choice of a question) or ``fitness``, the weighted sum of ``terms``.
        scores: Importance of all units: what leaves or enters first.
        step: FFN channels of a step.
        head_step: Channels of a head of a step, where masks lie inside heads.
        tokens: Of a call, rounded up to whole windows; at most all.
        device: Where to compute.
        dtype: Arithmetic of the blocks.
        reconstructor: Refits the output projections; None for inherited weights.
        seed: Of the order of the windows and questions.
        questions: What ``margin`` is measured on; each call takes about ``tokens`` of them, the next in their order.
        terms: Weights of the mean losses of ``fitness``.

    Raises:
        ConfigError: If the metric is unknown, or lacks its terms or questions.
    """

    def __init__(
        self,
        dense: DenseModel,
        windows: WindowSet,
        *,
        metric: str,
        scores: UnitScores,
        step: int,
        head_step: int = 0,
        tokens: int = DescentDefaults.tokens,
        device: torch.device,
        dtype: torch.dtype,
        reconstructor: Reconstructor | None = None,
        seed: int = 0,
        questions: QuestionSet | None = None,
        terms: Mapping[str, float] | None = None,
    ) -> None:
        self._dense = dense
        self._quality = quality_named(metric, terms)
        self._scores = scores
        self._step, self._head_step = step, head_step
        self._device = device
        self._dtype = dtype
        self._reconstructor = reconstructor
        self._windows = _Turns(list(windows.tokens), -(-tokens // windows.tokens.shape[1]), seed)
        self._questions: _Turns[Encoded] | None = None
        if self._quality.asks:
            if questions is None:
                raise ConfigError(f"{metric} is measured on questions, and there are none; give some")
            self._questions = _Turns(questions.questions, -(-tokens * len(questions) // questions.num_tokens), seed)
        self._outer = on_device(copy.deepcopy(dense.adapter.outer(dense.model)), device, dtype).requires_grad_(False)
        self._kept: OrderedDict[tuple[int, str, bytes], tuple[_Projection, ...]] = OrderedDict()
        self._kept_bytes = 0

    def __call__(self, genome: Genome, turn: int) -> Marginals:
        """Marginals of one subnet.

        Args:
            genome: The subnet.
            turn: Which windows: those after the ones of turn - 1, from the beginning again after the last.
        """
        batches, total = self._batches(turn)
        layers = range(genome.num_layers)
        gradients = [_Gradients() for _ in layers]
        with fast_float32(self._device):
            for batch, scale in batches:
                self._backward(genome, batch, scale, gradients)
            found = np.array(
                [
                    [*self._changes(genome, layer, gradients[layer].fc2), *self._head_changes(genome, layer, gradients)]
                    for layer in layers
                ]
            )
        # Rounded as far as the order of summation does not matter.
        less, more, *heads = np.round(found / total, 9).T
        return Marginals(
            mlp_less=less,
            mlp_more=more,
            step=self._step,
            heads_more=tuple(heads),
            head_step=self._head_step,
        )

    def _batches(self, turn: int) -> tuple[list[tuple[Batch, float]], int]:
        """Batches of a turn with what their summed losses count, and what the sum of all is to be divided by."""
        found: list[tuple[Batch, float]] = []
        total = 0
        for term in self._quality.terms:
            own: Sequence[Batch]
            if term.metric.asks:
                assert self._questions is not None
                own = question_batches(
                    self._questions.of(turn),
                    tokens=_BATCH_TOKENS,
                    device=self._device,
                    positions=self._dense.architecture.max_positions,
                )
            else:
                ids = torch.from_numpy(np.stack(self._windows.of(turn))).to(self._device)
                parts = ids.split(max(1, _BATCH_TOKENS // ids.shape[1]))
                own = [WindowBatch(part, against_dense=term.metric.against_dense) for part in parts]
            losses = sum(batch.losses for batch in own)
            # The first term's sum stays as it is: small numbers suffer in half precision.
            total = total or losses
            found += [(batch, term.weight * total / losses) for batch in own]
        return found, total

    def _backward(self, genome: Genome, batch: Batch, scale: float, gradients: Sequence[_Gradients]) -> None:
        """Add the derivatives on a batch; memory is that of the blocks' inputs and one block's activations."""
        adapter, config = self._dense.adapter, self._dense.model.config
        with torch.no_grad():
            hidden, context = adapter.embed(self._outer, batch.ids)
            target = self._dense_states(hidden, context) if batch.against_dense else None
            inputs = []
            for layer in range(genome.num_layers):
                inputs.append(hidden)
                state = self._state(genome, layer, genome.attn_mask[layer], genome.mlp_mask[layer])
                hidden = adapter.block(config, state, layer)(hidden, **context)
        upstream = self._loss_gradient(hidden, target, batch, scale)
        for layer in reversed(range(genome.num_layers)):
            upstream = self._block_backward(genome, layer, inputs.pop(), upstream, context, gradients[layer])

    def _block_backward(
        self,
        genome: Genome,
        layer: int,
        hidden: Tensor,
        upstream: Tensor,
        context: dict[str, Any],
        gradients: _Gradients,
    ) -> Tensor:
        """Derivative of the loss by a block's input, from that by its output; adds those of its projections."""
        adapter, names = self._dense.adapter, self._dense.adapter.names
        row, reach = self._head_reach(genome, layer), self._reach(genome, layer)
        state = self._state(genome, layer, row, reach)
        block = adapter.block_module(
            self._dense.model.config, *adapter.sizes(self._dense.architecture, state), layer=layer
        )
        block.load_state_dict(state, assign=True)
        block.requires_grad_(False)
        watched = [(names.fc2, gradients.fc2)] if reach.any() else []
        if genome.layout.axes and row.any():
            watched += [(names.o, gradients.o), (names.q, gradients.q)]
        hooks = [block.get_submodule(name).register_forward_hook(_adder(gradient)) for name, gradient in watched]
        with torch.enable_grad():
            entering = hidden.detach().requires_grad_()
            own = adapter.layer_context(self._dense.model.config, context, layer)
            block(entering, **own).backward(upstream)
        for hook in hooks:
            hook.remove()
        assert entering.grad is not None
        return entering.grad

    def _dense_states(self, hidden: Tensor, context: dict[str, Any]) -> Tensor:
        """The dense model's hidden states after its last block."""
        for layer in range(self._dense.architecture.num_layers):
            state = self._placed(self._dense.block_state(layer))
            hidden = self._dense.adapter.block(self._dense.model.config, state, layer)(hidden, **context)
        return hidden

    def _loss_gradient(self, hidden: Tensor, target: Tensor | None, batch: Batch, scale: float) -> Tensor:
        """Derivative of a batch's summed losses by its last hidden state, times ``scale``: ``B x T x D``."""
        adapter = self._dense.adapter
        head = adapter.lm_head(self._outer)
        with torch.enable_grad():
            leaving = hidden.detach().requires_grad_()
            states = adapter.finish(self._outer, batch.predicting(leaving)).flatten(0, 1)
        with torch.no_grad():
            wanted = None if target is None else adapter.finish(self._outer, batch.predicting(target)).flatten(0, 1)
            result = batch.gradient(head, states.detach(), wanted) * scale
        states.backward(result)
        assert leaving.grad is not None
        return leaving.grad

    def _changes(self, genome: Genome, layer: int, gradient: _Gradient) -> Iterator[float]:
        """Derivatives in the direction of one step less and one step more; nan where there is no such step."""
        mask, ranks, reach = genome.mlp_mask[layer], self._scores.mlp_ranks(layer), self._reach(genome, layer)
        kept = int(mask.sum())
        own = self._value(gradient, self._fc2(layer, mask), mask, reach)
        for count in (max(0, kept - self._step), min(len(mask), kept + self._step)):
            if not kept or count == kept:
                yield np.nan
            else:
                other = resize_mask(mask, ranks, count)
                yield self._value(gradient, self._fc2(layer, other), other, reach) - own

    def _value(self, gradient: _Gradient, projection: _Projection, kept: BoolArray, reach: BoolArray) -> float:
        """Derivative of the loss in the direction of a projection."""
        if not kept.any():
            return 0.0
        assert isinstance(gradient.weight, Tensor)
        value = (gradient.weight[:, self._places(kept, reach)] * projection.weight).sum(dtype=torch.float64)
        if projection.bias is not None:
            value += (gradient.bias * projection.bias).sum(dtype=torch.float64)
        return float(value)

    def _places(self, kept: BoolArray, reach: BoolArray) -> Tensor:
        return torch.from_numpy(np.flatnonzero(kept[reach])).to(self._device)

    def _reach(self, genome: Genome, layer: int) -> BoolArray:
        """Channels of a layer after one step more; a removed FFN stays removed."""
        mask = genome.mlp_mask[layer]
        kept = int(mask.sum())
        return resize_mask(mask, self._scores.mlp_ranks(layer), min(len(mask), kept + self._step)) if kept else mask

    def _head_changes(self, genome: Genome, layer: int, gradients: Sequence[_Gradients]) -> Iterator[float]:
        """For each kind of unit inside heads the derivative in the direction of one step more."""
        row, widths = genome.attn_mask[layer], [int(width[layer]) for width in genome.head_widths]
        for index, axis in enumerate(genome.layout.axes):
            wanted = widths[index] + self._head_step
            if not widths[index] or wanted > genome.layout.head_dim:
                yield np.nan
                continue
            other = self._resized(genome, layer, [*widths[:index], wanted, *widths[index + 1 :]])
            change = 0.0
            if axis.name != "qk":
                change += self._o_value(genome, layer, other, gradients[layer].o)
                change -= self._o_value(genome, layer, row, gradients[layer].o)
            if axis.name != "vo":
                change += self._q_value(genome, layer, other, gradients[layer].q)
                change -= self._q_value(genome, layer, row, gradients[layer].q)
            yield change

    def _o_value(self, genome: Genome, layer: int, row: BoolArray, gradient: _Gradient) -> float:
        """Derivative of the loss in the direction of the o of an attention mask."""
        kept, reach = (self._columns(mask) for mask in (row, self._head_reach(genome, layer)))
        return self._value(gradient, self._o(layer, row), kept, reach)

    def _q_value(self, genome: Genome, layer: int, row: BoolArray, gradient: _Gradient) -> float:
        """Derivative of the loss in the direction of the q of an attention mask."""
        kept, reach = (self._rows(mask) for mask in (row, self._head_reach(genome, layer)))
        turned = _Gradient(gradient.weight.T if isinstance(gradient.weight, Tensor) else 0.0)
        queries, places = self._q(layer, row), self._places(kept, reach)
        value = self._value(turned, _Projection(queries.weight.T, None), kept, reach)
        if queries.bias is not None:
            assert isinstance(gradient.bias, Tensor)
            value += float((gradient.bias[places] * queries.bias).sum(dtype=torch.float64))
        return value

    def _columns(self, row: BoolArray) -> BoolArray:
        """``H d`` columns of o that an attention mask keeps."""
        architecture = self._dense.architecture
        return architecture.of_query_heads(architecture.head_channels(row)[1])

    def _rows(self, row: BoolArray) -> BoolArray:
        """``H d`` rows of q that an attention mask keeps."""
        architecture = self._dense.architecture
        return architecture.of_query_heads(architecture.head_channels(row)[0])

    def _head_reach(self, genome: Genome, layer: int) -> BoolArray:
        """The attention mask of a layer after one step more of every kind; a removed attention stays removed."""
        row: BoolArray = genome.attn_mask[layer]
        if not genome.layout.axes or not row.any():
            return row
        most = genome.layout.head_dim
        return self._resized(
            genome, layer, [min(most, int(width[layer]) + self._head_step) for width in genome.head_widths]
        )

    def _resized(self, genome: Genome, layer: int, widths: Sequence[int]) -> BoolArray:
        groups = int(genome.kv_groups[layer])
        return resize_attention(genome.attn_mask[layer], self._scores, layer, groups=groups, widths=widths)

    def _state(self, genome: Genome, layer: int, row: BoolArray, reach: BoolArray) -> dict[str, Tensor]:
        """State of a block that computes what the subnet's does, with all units within reach."""
        dense, names = self._dense, self._dense.adapter.names
        attn, mlp = genome.attn_mask[layer], genome.mlp_mask[layer]
        state = self._placed(dense.adapter.slice_block(dense.architecture, dense.block_state(layer), row, reach))
        if attn.any():
            o = self._o(layer, attn)
            if genome.layout.axes:
                columns = o.weight.new_zeros(len(o.weight), int(self._columns(row).sum()))
                columns[:, self._places(self._columns(attn), self._columns(row))] = o.weight
                o = o._replace(weight=columns)
                places = self._places(self._rows(attn), self._rows(row))
                for key, queries in self._named(names.q, self._q(layer, attn)).items():
                    state[key] = torch.zeros_like(state[key]).index_copy(0, places, queries)
            state.update(self._named(names.o, o))
        if mlp.any():
            own = self._fc2(layer, mlp)
            wide = own.weight.new_zeros(len(own.weight), int(reach.sum()))
            wide[:, self._places(mlp, reach)] = own.weight
            state.update(self._named(names.fc2, own._replace(weight=wide)))
        return state

    @staticmethod
    def _named(name: str, projection: _Projection) -> dict[str, Tensor]:
        parts = {f"{name}.weight": projection.weight, f"{name}.bias": projection.bias}
        return {key: part for key, part in parts.items() if part is not None}

    def _o(self, layer: int, mask: BoolArray) -> _Projection:
        return self._attention(layer, mask)[0]

    def _q(self, layer: int, mask: BoolArray) -> _Projection:
        """q, its rows in the place of the columns of an output projection: ``n x D`` weight and ``n`` bias."""
        return self._attention(layer, mask)[1]

    def _attention(self, layer: int, mask: BoolArray) -> tuple[_Projection, ...]:
        """o, and q where masks lie inside heads."""
        names, whole = self._dense.adapter.names, np.ones(self._dense.architecture.intermediate_size, dtype=bool)
        wanted = (names.o, names.q) if self._scores.layout.axes else (names.o,)
        return self._projections(layer, wanted, mask, whole)

    def _fc2(self, layer: int, mask: BoolArray) -> _Projection:
        whole = np.ones(self._dense.architecture.num_kv_heads, dtype=bool)
        return self._projections(layer, (self._dense.adapter.names.fc2,), whole, mask)[0]

    def _projections(
        self, layer: int, names: Sequence[str], attn: BoolArray, mlp: BoolArray
    ) -> tuple[_Projection, ...]:
        """The (refitted) projections of a sublayer; the other one is whole, so that it costs no refit."""
        key = (layer, names[0], np.packbits(np.concatenate([attn, mlp])).tobytes())
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        weights = self._dense.block_state(layer)
        state = self._dense.adapter.slice_block(self._dense.architecture, weights, attn, mlp)
        if self._reconstructor is not None:
            state = self._reconstructor.refit(layer, state, attn, mlp)
        # Without any unit left an output projection has no columns, and no bias.
        none = weights[f"{names[0]}.weight"][:, :0]
        found = tuple(
            _Projection(
                state.get(f"{name}.weight", none).to(self._device, self._dtype),
                None if (bias := state.get(f"{name}.bias")) is None else bias.to(self._device, self._dtype),
            )
            for name in names
        )
        self._kept[key] = found
        self._kept_bytes += _nbytes(found)
        while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= _nbytes(self._kept.popitem(last=False)[1])
        return found

    def _placed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return placed(state, self._device, self._dtype)


def _nbytes(projections: Sequence[_Projection]) -> int:
    return sum(projection.weight.nbytes for projection in projections)


def _adder(gradient: _Gradient) -> Any:
    """A forward hook that adds a projection's derivatives once its output's derivative is known."""

    def watch(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        inputs = args[0].detach().flatten(0, -2)

        def add(upstream: Tensor) -> None:
            flat = upstream.detach().flatten(0, -2)
            gradient.weight = gradient.weight + (flat.T @ inputs).float()
            gradient.bias = gradient.bias + flat.float().sum(0)

        output.register_hook(add)

    return watch
