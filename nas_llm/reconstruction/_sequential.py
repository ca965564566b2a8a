"""Sequential reconstruction: every projection is refitted to the inputs that the refitted layers below it produce."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas_llm.calibration import Gram, KeptGrams, ScoreGrams, keep_grams
from nas_llm.data import WindowSet
from nas_llm.errors import ConfigError
from nas_llm.models import DenseModel, fast_float32, on_device
from nas_llm.reconstruction._block import BlockReconstructor
from nas_llm.reconstruction._damping import DAMPING_SCALES, choose_damping, ridge
from nas_llm.reconstruction._held_out import held_out_windows
from nas_llm.reconstruction._hidden import HiddenStates, hidden_storage
from nas_llm.reconstruction._moments import Moments, TokenWeights
from nas_llm.reconstruction._reconstruction import Reconstruction, SequentialResidual
from nas_llm.reconstruction._sublayer import Sublayer, Trace
from nas_llm.reconstruction._target import upstream_share
from nas_llm.settings import ReconstructionDefaults, SequentialDefaults, several
from nas_llm.space import BoolArray, Genome
from nas_llm.subnet import Reconstructor

# Of the mean diagonal, for the refit of first projections: their inputs are normed, so one value fits all layers.
_INPUT_DAMPING = 1e-2


@dataclass(eq=False)
class _Subnet:
    """A subnet on its way through the layers; ``hidden`` is None as long as it equals the dense model's."""

    genome: Genome
    layers: list[dict[str, Tensor]]
    began: list[dict[str, Tensor]]
    hidden: HiddenStates | None = None
    residuals: list[SequentialResidual] = field(default_factory=list)


@dataclass(eq=False)
class _Step:
    """What one sublayer of one subnet needs while the windows run through it."""

    subnet: _Subnet
    sublayer: Sublayer
    hidden: HiddenStates
    fresh: bool
    train: Moments | None
    held_out: Moments | None
    inputs: list[Tensor] | None = None


class _OwnGrams:
    """Grams of the windows of a reconstruction, made when they are first needed."""

    def __init__(self, dense: DenseModel, windows: WindowSet, device: torch.device) -> None:
        self._dense, self._windows, self._device = dense, windows, device
        self._kept: KeptGrams | None = None

    @property
    def key(self) -> str:
        """Identity of model, text and device."""
        return f"{self._dense.identity}:{self._windows.digest()}:{self._device.type}"

    def grams(self, layer: int) -> tuple[Gram, Gram]:
        """Grams of the inputs of a block's o and fc2."""
        if self._kept is None:
            self._kept = keep_grams(self._dense, self._windows, device=self._device)
        return self._kept.grams(layer)

    def score_gram(self, layer: int) -> Tensor:
        """What the channels of q and k add to the attention scores: ``H x d x d``."""
        return ScoreGrams(self._dense, self._windows, self._device).get(layer)


class SequentialReconstructor:
    """Refits subnets sublayer by sublayer on calibration text (section 3.4 of the paper, carried on to the residual).

    With X the inputs of o or fc2 in the subnet, whose layers below are refitted already, W_S the inherited weights and
    Y the target, the new weights are ``W' = W_S + (Y - W_S X) X^T (X X^T + lambda I)^-1``, which is
    ``(Y X^T + lambda W_S) (X X^T + lambda I)^-1``: lambda pulls towards the inherited weights. An output bias is
    refitted too, without a ridge. Of every update W' - W_S, the share ``step`` is made. The target is the dense
    model's sublayer output plus a share of the difference that has built up between the dense and the subnet's
    residual stream: all of it for ``residual`` (Y = what the dense model's stream is behind the sublayer, minus what
    the subnet's is before it), none for ``sublayer``. A removed sublayer leaves nothing to refit; with a share above
    zero the next one repairs what it can.

    Time: the dense model runs once for all subnets, each subnet twice (once to collect moments, once to go on), or once
    where the budget has room for a sublayer's inputs. Each of its projections costs tokens x n x (n + D)
    multiply-accumulates for its moments and about n^3 / 3 + 2 D n^2 a damping for the solve, with n = H d or P kept
    inputs.

    Memory beside the model, for N tokens, G subnets, b bytes of ``hidden_dtype`` and F = 2 if several dampings are
    tried, else 1: hidden states N x D x b x (1 + G), in files if that exceeds ``budget_bytes``; moments
    8 x G x F x (n^2 + D n), and 24 n^2 + 16 D n while solving; one dense and G sliced sublayers; activations of
    ``batch_tokens`` tokens in one sublayer, about batch_tokens x (4 P + 8 D) x 4. Only the first term grows with N.
    The results are on the CPU: G x L x D x (H d + P) parameters at most, with ``refit_inputs`` G times the block
    parameters.

    Args:
        dense: The model that subnets inherit from; untouched.
        windows: Calibration windows.
        target: ``residual``, ``sublayer``, or the share of the upstream error as a number between 0 and 1.
        damping: lambda as a fraction of the scale of X X^T's diagonal. Of several, each projection takes the one with
            the least residual on held-out windows, and is then refitted on all windows; infinity stands for keeping the
            inherited weights. The part of the target that the inputs do not explain enters the weights as noise,
            about n / N of its energy: large for the residual target and few tokens, so give several dampings then.
        step: Share of each update that is made, between 0 and 1 (under-relaxation); 1 is the textbook's. Greedy refits
            overshoot: each corrects all of the upstream error on its own, however little of it its inputs can explain,
            and all of them together fit the calibration text. Half steps leave less perplexity on other text.
        blend: Share of the made update that ends in the result, the rest being the weights it began with, between 0 and
            1: an average of two models that err differently. The layers above are refitted to the made update.
        start: Weights to begin with: ``inherited`` (or None); ``closed_form``, each block refitted for itself with the
            middle finite damping, on Grams of the same windows that are kept in the cache folder; or those of anything
            that refits sliced weights on its own terms. They then stand for the inherited weights W_S, so that lambda
            pulls towards them. Choosing between dampings favours them if they were fitted to the held-out windows too.
        scale: What damping is a fraction of: ``mean``, ``median`` or ``trimmed`` mean of the diagonal.
        validation: Fraction of windows, evenly spaced, held out for choosing between several dampings.
        tokens: How much each token counts.
        refit_full: Also refit sublayers that keep everything, once their inputs differ from the dense model's.
        refit_inputs: Also refit q, k, v, gate and up (fc1): W x becomes W (x + U x) with the U that brings the subnet's
            inputs nearest to the dense model's, by the same ridge. It costs two D x D products a token and sublayer.
        device: Where to compute; one sublayer's weights are there at a time.
        dtype: Arithmetic of the blocks; sums over tokens and solves are float64.
        hidden_dtype: What hidden states are kept in between sublayers.
        batch_tokens: Tokens that run through a sublayer together (at least one window); no result depends on it but by
            rounding.
        budget_bytes: Memory for hidden states, and on a CPU, as far as it goes, for the N x n inputs of the output
            projections under way, which saves running each sublayer twice.
        device_budget_bytes: A GPU's memory for hidden states: where all of them fit there, none go over the bus.
        offload_dir: Folder for what exceeds it; the cache folder if None. A folder in memory (tmpfs) saves nothing.
        keep_began: Keep what refitted parameters were before, for :meth:`Reconstruction.blended`; as much memory again
            as the results take.

    Raises:
        ConfigError: If an argument is out of range.
    """

    def __init__(
        self,
        dense: DenseModel,
        windows: WindowSet,
        *,
        target: str | float = SequentialDefaults.target,
        damping: float | Sequence[float] = ReconstructionDefaults.damping,
        step: float = SequentialDefaults.step,
        blend: float = SequentialDefaults.blend,
        start: Reconstructor | str | None = SequentialDefaults.start,
        scale: str = "mean",
        validation: float = ReconstructionDefaults.validation,
        tokens: TokenWeights | None = None,
        refit_full: bool = True,
        refit_inputs: bool = SequentialDefaults.refit_inputs,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        hidden_dtype: torch.dtype = torch.float32,
        batch_tokens: int = SequentialDefaults.batch_tokens,
        budget_bytes: int = 4 << 30,
        device_budget_bytes: int = 0,
        offload_dir: Path | None = None,
        keep_began: bool = False,
    ) -> None:
        self._dense = dense
        self._share = upstream_share(target)
        self._dampings = several(damping)
        self._step_share, self._blend = step, blend
        self._keep_began = keep_began
        self._scale = scale
        self._tokens = tokens or TokenWeights()
        self._refit_full = refit_full
        self._refit_inputs = refit_inputs
        self._device = device
        self._start = self._beginning(windows, start)
        self._dtype = dtype
        self._hidden_dtype = hidden_dtype
        self._budget, self._device_budget = budget_bytes, device_budget_bytes
        self._offload_dir = offload_dir
        count, length = windows.tokens.shape
        self._check(length)
        choosing = len(self._dampings) > 1
        held_out = held_out_windows(count, validation) if choosing else np.zeros(count, dtype=bool)
        # Held-out windows go last, so that no batch is of both kinds.
        order = np.argsort(held_out, kind="stable")
        self._ids = torch.from_numpy(windows.tokens[order])
        together, cut = max(1, batch_tokens // length), int((~held_out).sum())
        self._batches = [
            (slice(at, min(at + together, stop)), first > 0)
            for first, stop in ((0, cut), (cut, count))
            for at in range(first, stop, together)
        ]
        self._choosing = choosing
        settings = (windows.digest(), self._share, self._dampings, step, blend, scale, held_out.tobytes(), self._tokens)
        options = (
            self._start.identity if self._start else None,
            refit_full,
            refit_inputs,
            str(dtype),
            str(hidden_dtype),
            device.type,
        )
        self._digest = hashlib.sha256(repr(settings + options).encode()).hexdigest()[:32]

    @property
    def identity(self) -> str:
        """What results depend on beside model and genome, for cache keys."""
        return f"sequential:{self._digest}"

    def reconstruct(
        self, genome: Genome, *, on_layer: Callable[[int, Sequence[SequentialResidual]], None] | None = None
    ) -> Reconstruction:
        """Refit one subnet.

        Args:
            genome: Its masks.
            on_layer: Called after each block, in order, with its index and the residuals of its refits.
        """
        return self.reconstruct_many([genome], on_layer=on_layer)[0]

    def reconstruct_many(
        self, genomes: Sequence[Genome], *, on_layer: Callable[[int, Sequence[SequentialResidual]], None] | None = None
    ) -> list[Reconstruction]:
        """Refit several subnets in one pass over the layers; the dense model runs once for all of them.

        Args:
            genomes: Their masks.
            on_layer: Called after each block, in order, with its index and all subnets' residuals of that block.

        Returns:
            One result a genome, in the order given; none depends on the other genomes.

        Raises:
            ConfigError: If a genome is not of the model's shape.
            ModelError: If hidden states go to files and the disk does not take them.
        """
        shape = self._dense.architecture
        for genome in genomes:
            if not genome.fits(shape):
                sizes = (genome.num_layers, genome.layout.num_kv_heads, genome.mlp_mask.shape[1])
                raise ConfigError(f"genome of {sizes} layers, KV groups and channels does not fit the model")
        layers = range(shape.num_layers)
        subnets = [_Subnet(genome, [{} for _ in layers], [{} for _ in layers]) for genome in genomes]
        if not subnets:
            return []
        room = hidden_storage(
            (*self._ids.shape, shape.hidden_size),
            self._hidden_dtype,
            count=1 + len(subnets),
            device=self._device,
            device_bytes=self._device_budget,
            budget_bytes=self._budget,
            folder=self._offload_dir,
        )
        with room as storage, torch.no_grad(), fast_float32(self._device):
            hidden, context = self._embed(storage)
            for layer in layers:
                done = [len(subnet.residuals) for subnet in subnets]
                weights = self._dense.block_state(layer)
                for attention in (True, False):
                    last = not attention and layer == shape.num_layers - 1
                    self._sublayer(layer, weights, attention, subnets, hidden, context, storage, last=last)
                if on_layer is not None:
                    new = [r for subnet, old in zip(subnets, done, strict=True) for r in subnet.residuals[old:]]
                    on_layer(layer, new)
        return [
            Reconstruction(s.genome, tuple(s.layers), tuple(s.residuals), tuple(s.began) if self._keep_began else ())
            for s in subnets
        ]

    def _sublayer(
        self,
        layer: int,
        weights: Mapping[str, Tensor],
        attention: bool,
        subnets: Sequence[_Subnet],
        hidden: HiddenStates,
        context: Mapping[str, Any],
        storage: Callable[[], HiddenStates],
        *,
        last: bool,
    ) -> None:
        """Move the dense model and all subnets across one sublayer."""
        steps = []
        for subnet in subnets:
            masks = subnet.genome.attn_mask if attention else subnet.genome.mlp_mask
            step = self._step(layer, subnet, weights, attention, masks[layer], storage)
            if step is not None:
                steps.append(step)
        shape = self._dense.architecture
        full = np.ones(shape.num_kv_heads if attention else shape.intermediate_size, dtype=bool)
        reference = self._make(layer, weights, attention, full)
        if self._refit_inputs:
            self._realign(layer, [step for step in steps if not step.fresh], reference, hidden)
        self._keep_inputs(steps)
        for windows, held_out in self._batches:
            before = hidden.read(windows, self._device, self._dtype)
            wanted = reference.trace(before, context)
            gain = reference.gain(wanted.outputs)
            hidden.write(windows, wanted.hidden)
            for step in steps:
                if step.fresh:
                    step.hidden.write(windows, before)
                self._collect(step, windows, held_out, before, wanted, gain, context)
        for step in steps:
            self._solve(layer, step)
            if last:
                continue
            for index, (windows, _) in enumerate(self._batches):
                states = step.hidden.read(windows, self._device, self._dtype)
                kept = step.inputs[index] if step.inputs else None
                after = (
                    step.sublayer.run(states, context)
                    if kept is None
                    else states + step.sublayer.added(step.sublayer.project(kept))
                )
                step.hidden.write(windows, after)
            step.inputs = None

    def _keep_inputs(self, steps: Sequence[_Step]) -> None:
        """Let steps keep the inputs of their output projections where the budget has room: that saves a run."""
        hidden = self._ids.numel() * self._dense.architecture.hidden_size * self._hidden_dtype.itemsize
        room = self._budget - hidden * (1 + len(steps))
        for step in steps:
            room -= self._ids.numel() * step.sublayer.weight.shape[1] * self._dtype.itemsize if step.train else 0
            if step.train is not None and step.sublayer.sums and room >= 0 and self._device.type == "cpu":
                step.inputs = []

    def _realign(self, layer: int, steps: Sequence[_Step], reference: Sublayer, hidden: HiddenStates) -> None:
        """Refit the first projections of all steps to their own inputs."""
        size = self._dense.architecture.hidden_size
        steps = [step for step in steps if step.sublayer.attn_mask.any() or step.sublayer.mlp_mask.any()]
        sums = [Moments(size, size, bias=step.sublayer.biased, device=self._device) for step in steps]
        for windows, _ in self._batches if steps else ():
            wanted = reference.normed(hidden.read(windows, self._device, self._dtype)).flatten(0, 1)
            for step, moments in zip(steps, sums, strict=True):
                inputs = step.sublayer.normed(step.hidden.read(windows, self._device, self._dtype)).flatten(0, 1)
                moments.add(inputs, wanted - inputs, wanted, None)
        for step, moments in zip(steps, sums, strict=True):
            update, constant = moments.update(ridge(moments, _INPUT_DAMPING, self._scale), step=self._step_share)
            self._replace(layer, step, step.sublayer.realigned(update, constant))

    def _step(
        self,
        layer: int,
        subnet: _Subnet,
        weights: Mapping[str, Tensor],
        attention: bool,
        mask: BoolArray,
        storage: Callable[[], HiddenStates],
    ) -> _Step | None:
        fresh = subnet.hidden is None
        if fresh and mask.all():
            return None
        sublayer = self._make(layer, weights, attention, mask)
        train = held_out = None
        if mask.any() and (self._refit_full or not mask.all()):
            if self._start is not None:
                started = self._start.refit(layer, sublayer.state, sublayer.attn_mask, sublayer.mlp_mask)
                changed = {key: w for key, w in started.items() if w is not sublayer.state.get(key)}
                # What is refitted below is kept then.
                subnet.layers[layer] |= {
                    key: w.cpu() for key, w in changed.items() if not key.startswith(f"{sublayer.name}.")
                }
                sublayer.replace(changed)
            (outputs, inputs), bias = sublayer.weight.shape, sublayer.bias is not None
            train = Moments(inputs, outputs, bias=bias, device=self._device)
            held_out = Moments(inputs, outputs, bias=bias, device=self._device) if self._choosing else None
        if subnet.hidden is None:
            subnet.hidden = storage()
        return _Step(subnet, sublayer, subnet.hidden, fresh, train, held_out)

    def _collect(
        self,
        step: _Step,
        windows: slice,
        held_out: bool,
        dense_hidden: Tensor,
        wanted: Trace,
        gain: Tensor | None,
        context: Mapping[str, Any],
    ) -> None:
        moments = step.held_out if held_out else step.train
        if moments is None:
            return
        states = step.hidden.read(windows, self._device, self._dtype)
        trace = step.sublayer.trace(states, context)
        if step.inputs is not None:
            step.inputs.append(trace.inputs)
        missing = dense_hidden - states
        target = wanted.outputs + self._share * (missing if gain is None else missing / gain)
        roots = self._tokens.roots(trace.inputs, wanted.hidden)
        moments.add(
            trace.inputs.flatten(0, 1),
            (target - trace.outputs).flatten(0, 1),
            target.flatten(0, 1),
            None if roots is None else roots.flatten(),
        )

    def _solve(self, layer: int, step: _Step) -> None:
        moments, name = step.train, step.sublayer.name
        if moments is None:
            return
        weight, bias = step.sublayer.weight, step.sublayer.bias
        damping, judged = self._dampings[0], None
        if step.held_out is not None:
            damping, judged = choose_damping(
                moments, step.held_out, self._dampings, scale=self._scale, step=self._step_share
            )
            moments.merge(step.held_out)
        update, constant = moments.update(ridge(moments, damping, self._scale), step=self._step_share)
        refitted = {f"{name}.weight": (weight.to(update) + update).to(weight)}
        if bias is not None and constant is not None:
            refitted[f"{name}.bias"] = (bias.to(constant) + constant).to(bias)
        self._replace(layer, step, refitted)
        after = moments.after(update, constant)
        step.subnet.residuals.append(SequentialResidual(layer, name, moments.before(), after, damping, judged))
        step.train = step.held_out = None

    def _replace(self, layer: int, step: _Step, refitted: Mapping[str, Tensor]) -> None:
        """Let the layers above see the refitted parameters, and keep their blend with what was there."""
        for name, value in refitted.items():
            began = step.sublayer.state[name].to(value)
            step.subnet.layers[layer][name] = torch.lerp(began, value, self._blend).cpu()
            if self._keep_began:
                step.subnet.began[layer][name] = began.cpu()
        step.sublayer.replace(refitted)

    def _make(self, layer: int, weights: Mapping[str, Tensor], attention: bool, mask: BoolArray) -> Sublayer:
        return Sublayer(
            self._dense,
            weights,
            layer=layer,
            attention=attention,
            mask=mask,
            device=self._device,
            dtype=self._dtype,
        )

    def _embed(self, storage: Callable[[], HiddenStates]) -> tuple[HiddenStates, dict[str, Any]]:
        adapter = self._dense.adapter
        outer = on_device(copy.deepcopy(adapter.outer(self._dense.model)), self._device, self._dtype)
        hidden = storage()
        context: dict[str, Any] = {}
        for windows, _ in self._batches:
            states, context = adapter.embed(outer, self._ids[windows].to(self._device))
            hidden.write(windows, states)
        return hidden, context

    def _beginning(self, windows: WindowSet, start: Reconstructor | str | None) -> Reconstructor | None:
        """What refits the weights to begin with; None = nothing."""
        if not isinstance(start, str):
            return start
        if start not in ("closed_form", "inherited"):
            raise ConfigError(f"unknown start '{start}'; known are closed_form, inherited, and objects with a refit")
        finite = [damping for damping in self._dampings if math.isfinite(damping)]
        if start == "inherited" or not finite:
            return None
        grams = _OwnGrams(self._dense, windows, self._device)
        return BlockReconstructor(self._dense, grams, damping=median_low(finite), device=self._device)

    def _check(self, length: int) -> None:
        if not self._dampings or min(self._dampings) < 0 or any(map(math.isnan, self._dampings)):
            raise ConfigError(f"damping must be one or more numbers of at least 0, got {self._dampings}")
        for name, share in (("step", self._step_share), ("blend", self._blend)):
            if not 0 < share <= 1:
                raise ConfigError(f"{name} must be above 0 and at most 1, got {share:g}")
        if self._scale not in DAMPING_SCALES:
            raise ConfigError(f"unknown damping scale '{self._scale}'; known are {', '.join(DAMPING_SCALES)}")
        if not 0 <= self._tokens.skip_positions < length:
            raise ConfigError(f"skip_positions is {self._tokens.skip_positions}, but windows have {length} tokens")
