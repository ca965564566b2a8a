"""The problem definition: one TOML file says model, text, space, objectives, budget."""

from __future__ import annotations

from math import isfinite
from statistics import median_low
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    model_validator,
)

from nas_llm.config._objectives import check_objectives, known_objective, load_objectives, measured_objectives
from nas_llm.config._questions import QuestionSection, asks_questions, check_quality, checked_terms, losses_of
from nas_llm.config._refit_values import Damping, Method, Share, Target
from nas_llm.config._section import Section
from nas_llm.config._source import SourceSection
from nas_llm.config._workload import WorkloadSection, check_workloads
from nas_llm.errors import SpaceError
from nas_llm.settings import (
    FINISHING_METHODS,
    AdmmDefaults,
    CalibrationDefaults,
    CostDefaults,
    CrossoverDefaults,
    DepthDefaults,
    DescentDefaults,
    FrontDefaults,
    GuidedDefaults,
    LatencyDefaults,
    MaskDefaults,
    ModelDefaults,
    OffTextDefaults,
    RatioDefaults,
    ReconstructionDefaults,
    SelfSampleDefaults,
    SequentialDefaults,
    SpaceDefaults,
    several,
)
from nas_llm.space import attention_modes, objective

Ratio = Annotated[float, Field(gt=0.0, le=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Plain = bool | int | float | str
Objective = Annotated[str, AfterValidator(known_objective)]


class ModelSection(Section):
    """``[model]``: the dense model and how candidates are evaluated on the device."""

    source: str = Field(description="Packaged name, hub name, local directory or .gguf file.")
    revision: str | None = Field(None, description="Hub revision; a commit hash is best.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        ModelDefaults.dtype,
        description="Arithmetic of candidate evaluation; auto = bfloat16 on CUDA, the faster of float32 and bfloat16 "
        "on a CPU.",
    )
    device: str = Field(ModelDefaults.device, description="auto, cpu, cuda, cuda:0, ...")
    offload: bool | Literal["auto"] = Field(
        ModelDefaults.offload,
        description="Read the blocks' weights from disk one block at a time; auto = when they would take two thirds "
        "of the free memory.",
    )


class SplitSection(Section):
    """``[data.calibration]``, ``[data.fitness]``, ``[data.held_out]``."""

    tokens: PositiveInt = Field(description="Tokens in all, rounded down to whole windows.")
    sources: tuple[SourceSection, ...] = Field((SourceSection(source="auto"),), min_length=1)


class OffTextSection(Section):
    """``[data.off_text]``: text of a kind that neither search nor finish see, to judge by."""

    tokens: int = Field(OffTextDefaults.tokens, ge=0, description="Tokens in all, at least one window; 0 = none.")
    sources: tuple[SourceSection, ...] = Field((SourceSection(source="auto", kind="letters"),), min_length=1)


class SelfSampleSection(Section):
    """``[data.self_sample]``: how the dense model writes its own text."""

    temperature: float = Field(SelfSampleDefaults.temperature, gt=0.0)
    document_tokens: PositiveInt = Field(SelfSampleDefaults.document_tokens, description="Longest sampled document.")
    seed: int = SelfSampleDefaults.seed


class DataSection(Section):
    """``[data]``: three splits that never share a window, and text of another kind."""

    window: PositiveInt = Field(512, description="Tokens of one window.")
    calibration: SplitSection = SplitSection(tokens=32768)
    fitness: SplitSection = SplitSection(tokens=2048)
    held_out: SplitSection = SplitSection(tokens=8192)
    off_text: OffTextSection = OffTextSection()
    questions: QuestionSection | None = Field(None, description="What margin is measured on.")
    self_sample: SelfSampleSection = SelfSampleSection()

    @model_validator(mode="after")
    def _whole_windows(self) -> DataSection:
        for name in ("calibration", "fitness", "held_out"):
            tokens = getattr(self, name).tokens
            if tokens < self.window:
                raise ValueError(f"data.{name}.tokens ({tokens}) is less than one window ({self.window})")
        if self.window < 2:
            raise ValueError("data.window must be at least 2: the first token of a window is never predicted")
        return self


AttentionMode = Literal["kv_group", "head_dim", "head_dim_split"]


class SpaceSection(Section):
    """``[space]``: which genomes are allowed."""

    attention: AttentionMode | tuple[AttentionMode, ...] = Field(
        SpaceDefaults.attention,
        description="Unit of attention pruning: kv_group = whole KV groups, head_dim = channels inside every head (the "
        "paper's), head_dim_split = those of q/k and of v/o apart; kv_group together with one of the others = both.",
    )
    head_multiple: PositiveInt | None = Field(
        None, description="Alignment of the channels that a head keeps; default an eighth of a head."
    )
    rotate_values: bool = Field(
        SpaceDefaults.rotate_values,
        description="Turn v and o inside each KV group first, exactly, so that their channels stand in the order of "
        "their worth.",
    )
    ffn_multiple: PositiveInt = SpaceDefaults.ffn_multiple
    attn_ratio: tuple[Ratio, Ratio] = SpaceDefaults.attn_ratio
    mlp_ratio: tuple[Ratio, Ratio] = SpaceDefaults.mlp_ratio
    min_attn_layers: int | None = Field(None, ge=0, description="Attention sublayers that stay; default all.")
    min_mlp_layers: int | None = Field(None, ge=0, description="FFN sublayers that stay; default all.")
    protected_layers: tuple[int, ...] = SpaceDefaults.protected_layers

    @model_validator(mode="after")
    def _ordered(self) -> SpaceSection:
        try:
            attention_modes(self.attention)
        except SpaceError as error:
            raise ValueError(f"space.{error}") from error
        if self.head_multiple is not None and attention_modes(self.attention) == ("kv_group",):
            raise ValueError('space.head_multiple is for attention = "head_dim" or "head_dim_split"; leave it out')
        for name in ("attn_ratio", "mlp_ratio"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"space.{name} has its floor {low} above its ceiling {high}; give [low, high]")
        return self


class ConstraintSection(Section):
    """``[constraints]``: what every reported point obeys."""

    min_ratio: Ratio | None = Field(None, description="Lowest inheriting ratio.")
    max_ratio: Ratio | None = Field(None, description="Highest inheriting ratio.")
    max_macs_per_token: PositiveInt | None = None
    max_params: PositiveInt | None = None
    max_kv_cache_bytes: PositiveInt | None = None

    @model_validator(mode="after")
    def _ordered(self) -> ConstraintSection:
        if self.min_ratio is not None and self.max_ratio is not None and self.min_ratio > self.max_ratio:
            raise ValueError(f"constraints.min_ratio {self.min_ratio} is above constraints.max_ratio {self.max_ratio}")
        return self


class Bounds(ConstraintSection):
    """``[constraints]`` and the limits of all workloads.

    Attributes:
        further: Key, cost and upper bound of each of those.
    """

    further: tuple[tuple[str, str, float], ...] = ()


class LatencySection(Section):
    """``[latency]``: the forward pass that the objective ``latency`` predicts, and how its table is measured."""

    phase: Literal["prefill", "decode"] = Field(
        LatencyDefaults.phase,
        description="prefill = a prompt up to its next token; decode = one more token behind a KV cache.",
    )
    tokens: PositiveInt = Field(LatencyDefaults.tokens, description="Tokens of the prompt in a prefill.")
    context: PositiveInt = Field(LatencyDefaults.context, description="Tokens in the KV cache in a decode.")
    batch: PositiveInt = Field(LatencyDefaults.batch, description="Sequences side by side.")
    device: str = Field(
        LatencyDefaults.device, description="Where the table is measured; auto = that of candidate evaluation."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        LatencyDefaults.dtype, description="Type of the weights; auto = that of candidate evaluation."
    )
    threads: PositiveInt | None = Field(None, description="CPU threads; default those of the process.")
    points: int = Field(LatencyDefaults.points, ge=2, description="Sizes of a sublayer that are measured, at most.")
    repeats: PositiveInt = Field(LatencyDefaults.repeats, description="Rounds of measurement.")

    @property
    def length(self) -> int:
        """Tokens that the pass is stated at."""
        return self.tokens if self.phase == "prefill" else self.context


class CalibrationSection(Section):
    """``[calibration]``: how units are scored."""

    scorer: Literal["importance", "obs"] = CalibrationDefaults.scorer
    damping: float = Field(
        CalibrationDefaults.damping, gt=0.0, description="Ridge of X X^T, as a fraction of its mean diagonal."
    )


class FitnessSection(Section):
    """``[fitness]``: which weights a candidate is evaluated with, and what is added up."""

    weights: Literal["inherited", "reconstructed"] = Field(
        "reconstructed", description="reconstructed = after the closed form; inherited = sliced dense weights."
    )
    racing: bool = Field(
        False, description="Give a candidate up when part of the fitness text shows that it is clearly dominated."
    )
    terms: Annotated[dict[str, float], AfterValidator(checked_terms)] = Field(
        default_factory=dict,
        description="Weights of the losses that the objective fitness adds up: kl or perplexity, margin.",
    )


class OperatorEntry(BaseModel):
    """One operator of ``[search.operators]``: ``{use = "mask", alpha = 0.8}`` or ``{use = "my_pkg.ops:Swap"}``.

    Everything beside ``use`` is a setting of the operator.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str = Field(min_length=1, description='A name, "package.module:Class" or "file.py:Class".')

    @property
    def settings(self) -> dict[str, Any]:
        """What its constructor is given."""
        return dict(self.model_extra or {})


def _entry(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


Entry = Annotated[OperatorEntry, BeforeValidator(_entry)]


class OperatorSection(Section):
    """``[search.operators]``: the variation operators, in the paper's symbols."""

    mask_probability: Probability = Field(
        MaskDefaults.probability, description="P_m: a layer's mask is redrawn at its ratio."
    )
    ratio_probability: Probability = Field(RatioDefaults.probability, description="P_s: a layer's ratio moves.")
    depth_probability: Probability = Field(
        DepthDefaults.probability, description="P_d: a genome loses or regains a sublayer."
    )
    guided_probability: Probability = Field(
        GuidedDefaults.probability,
        description="P_g: a genome's budget moves to where evaluations so far say it is worth most.",
    )
    alpha: Probability = Field(MaskDefaults.alpha, description="Least share of the old mask that a redrawn mask keeps.")
    temperature: float = Field(
        MaskDefaults.temperature, ge=0.0, description="Importance temperature: 0 = pure importance, inf = uniform."
    )
    ratio_step: Ratio = Field(RatioDefaults.ratio_step, description="Largest move of an FFN ratio.")
    transfer_probability: Probability = Field(
        RatioDefaults.transfer_probability, description="Share of ratio moves that keep the model's cost."
    )
    mutations: tuple[Entry, ...] | None = Field(
        None,
        min_length=1,
        description="Mutations in the order in which they are applied, each a name or a table with use and settings; "
        "default guided, depth, ratio, mask with the settings above.",
    )
    crossover: str | OperatorEntry = Field(
        CrossoverDefaults.kind, description="uniform, one_point, or one of your own, by reference or as a table."
    )
    crossover_probability: Probability = Field(
        CrossoverDefaults.probability, description="Share of matings that are crossed."
    )
    sampling: str | OperatorEntry = Field(
        "importance", description="The first population: importance, or one of your own."
    )


class DescentSection(Section):
    """``[search.descent]``: a first population from first-order marginals."""

    looks: int = Field(
        DescentDefaults.looks,
        ge=0,
        description="Looks at each target ratio (or, without targets, at each of five); 0 = no descent.",
    )
    tokens: PositiveInt = Field(DescentDefaults.tokens, description="Calibration tokens of one look.")
    step_ratio: Ratio = Field(
        DescentDefaults.step_ratio,
        description="Share of an FFN that one step adds or removes, in multiples of space.ffn_multiple.",
    )


class SearchSection(Section):
    """``[search]``: the algorithm and its budget."""

    algorithm: str = Field(
        "nsga2",
        description="A multi-objective algorithm of pymoo: nsga2, nsga3, unsga3, rvea, sms, spea2, age, age2; or "
        "paper: the paper's evolution, for quality alone in one window of cost.",
    )
    algorithm_args: dict[str, int | float | str | bool] = Field(default_factory=dict)
    population: PositiveInt = 16
    evaluations: PositiveInt = Field(200, description="Budget of evaluated genomes, the first population included.")
    target_ratios: tuple[Ratio, ...] = Field(
        (), description="Inheriting ratios that all candidates are brought to, from below; none = any ratio."
    )
    start_from: tuple[str, ...] = Field(
        (), description="Runs, exports or folders of exports whose genomes the first population takes in."
    )
    descent: DescentSection = DescentSection()
    operators: OperatorSection = OperatorSection()


class FrontSection(Section):
    """``[front]``: the reported points."""

    size: PositiveInt = Field(
        FrontDefaults.size, description="Most points that are re-scored on held-out text and reported."
    )


class ReconstructionSection(Section):
    """``[reconstruction]``: how chosen points are finished."""

    method: Method = Field(
        ReconstructionDefaults.method,
        description="; ".join(f"{name} = {facts.meaning}" for name, facts in FINISHING_METHODS.items())
        + '; or one of your own, as "module:Class" or "file.py:Class".',
    )
    method_args: dict[str, Plain | tuple[Plain, ...]] = Field(
        default_factory=dict, description="Arguments of a method of your own, as a table."
    )
    tokens: PositiveInt | None = Field(
        None, description="Calibration tokens of the finish; default: the windows of data.calibration."
    )
    sources: tuple[SourceSection, ...] | None = Field(
        None, min_length=1, description="Their text; default: the sources of data.calibration."
    )
    damping: Damping = Field(
        ReconstructionDefaults.damping,
        description="Ridge on the weight update, fraction of the mean diagonal; of a list, each projection takes the "
        "one that does best on held-out windows.",
    )
    target: Target = Field(
        SequentialDefaults.target,
        description="What sequential aims at: the dense residual stream, the dense sublayer output, or a number from "
        "0 (sublayer) to 1 (residual).",
    )
    step: Share = Field(
        SequentialDefaults.step,
        description="Share of each update that sequential makes; less is safer where the text is short. Of a list, "
        "each point takes the one that does best on the fitness windows, which weights are never fitted to; all kinds "
        "of text count alike.",
    )
    blend: Share = Field(
        SequentialDefaults.blend,
        description="Share of what sequential made that ends in the weights; the rest is what it began with. Of a "
        "list, as of step.",
    )
    start: Literal["closed_form", "inherited"] = Field(
        SequentialDefaults.start,
        description="Weights that sequential begins with, and that its ridge pulls towards.",
    )
    token_weights: Literal["relative", "uniform"] = Field(
        SequentialDefaults.token_weights,
        description="relative = sequential counts errors relative to the length of the residual stream; uniform = as "
        "they are, so that a few tokens of huge activations decide.",
    )
    refit_inputs: bool = Field(
        SequentialDefaults.refit_inputs, description="Sequential also refits q, k, v and gate, up (fc1)."
    )
    validation: float = Field(
        ReconstructionDefaults.validation,
        gt=0.0,
        lt=1.0,
        description="Share of the windows held out to choose between dampings.",
    )
    rho: float = Field(AdmmDefaults.rho, gt=0.0, allow_inf_nan=False, description="Penalty of ADMM.")
    iterations: PositiveInt = Field(AdmmDefaults.iterations, description="Iterations of ADMM.")

    @property
    def dampings(self) -> tuple[float, ...]:
        """All dampings, as they were given."""
        return several(self.damping)

    @property
    def pricing_damping(self) -> float:
        """The damping of the closed form that candidates are evaluated with: the middle finite one of a list."""
        return median_low(damping for damping in self.dampings if isfinite(damping))


class Problem(Section):
    """A resolved problem definition; see ``docs/problems.md`` for every key."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    seed: int = Field(0, ge=0)
    objectives: tuple[Objective, ...] = ("perplexity", "macs_per_token")
    sequence_length: PositiveInt = Field(
        CostDefaults.sequence_length, description="Length at which MACs per token are stated."
    )
    plugins: tuple[str, ...] = Field(
        (), description="Modules or .py files that register operators, objectives, methods, families or formats."
    )
    model: ModelSection
    data: DataSection = DataSection()
    space: SpaceSection = SpaceSection()
    constraints: ConstraintSection = ConstraintSection()
    latency: LatencySection = LatencySection()
    workload: tuple[WorkloadSection, ...] = ()
    calibration: CalibrationSection = CalibrationSection()
    fitness: FitnessSection = FitnessSection()
    search: SearchSection = Field(default_factory=lambda: SearchSection())
    front: FrontSection = FrontSection()
    reconstruction: ReconstructionSection = ReconstructionSection()

    @model_validator(mode="after")
    def _objectives(self) -> Problem:
        check_objectives(self.objectives)
        check_workloads(self.workload, self.objectives)
        check_quality(self.quality, self.fitness.terms, self.data.questions)
        if self.fitness.racing and objective(self.quality).of != "tokens":
            raise ValueError(
                "fitness.racing judges by parts of the text, which works for perplexity and kl, not for "
                f"{self.quality}; set it to false"
            )
        if self.search.evaluations < self.search.population:
            raise ValueError(
                f"search.evaluations ({self.search.evaluations}) is below search.population "
                f"({self.search.population}); the first population alone needs that many"
            )
        return self

    @model_validator(mode="after")
    def _whole_window(self) -> Problem:
        tokens = self.reconstruction.tokens
        if tokens is not None and tokens < self.data.window:
            raise ValueError(f"reconstruction.tokens ({tokens}) is less than one window ({self.data.window})")
        return self

    @property
    def reconstruction_split(self) -> SplitSection | None:
        """Text of the finish where it asks for its own; None where it takes the calibration windows, or none."""
        own, calibration = self.reconstruction, self.data.calibration
        facts = FINISHING_METHODS.get(own.method)
        if (facts is not None and not facts.needs_text) or (own.tokens is None and own.sources is None):
            return None
        return SplitSection(tokens=own.tokens or calibration.tokens, sources=own.sources or calibration.sources)

    @property
    def bounds(self) -> Bounds:
        """All that points obey: the constraints and the limits of the workloads."""
        limits = tuple(limit for workload in self.workload for limit in workload.limits)
        return Bounds(**self.constraints.model_dump(), further=limits)

    @property
    def timed_workloads(self) -> tuple[WorkloadSection, ...]:
        """Workloads whose seconds are minimised or limited."""
        wanted = {*self.objectives, *(cost for _, cost, _ in self.bounds.further)}
        return tuple(workload for workload in self.workload if f"{workload.name}.seconds" in wanted)

    @property
    def objective_names(self) -> tuple[str, ...]:
        """What histories, fronts and events call the objectives, in order; classes of one's own are loaded."""
        return tuple(record.name for record in load_objectives(self.objectives))

    @property
    def quality(self) -> str:
        """The measured objective: ``perplexity``, ``kl``, ``margin`` or ``fitness``."""
        return measured_objectives(self.objectives)[0]

    @property
    def asks_questions(self) -> bool:
        """Whether the measured objective looks at answers."""
        return asks_questions(self.quality, self.fitness.terms)

    @property
    def reads_text(self) -> bool:
        """Whether it looks at the windows of ``data.fitness``."""
        return any(objective(name).of == "tokens" for name in losses_of(self.quality, self.fitness.terms))

    @property
    def prices(self) -> tuple[str, ...]:
        """The names of all cost objectives, in order; classes of one's own are loaded."""
        return tuple(name for name in self.objective_names if name != self.quality)

    @property
    def timed(self) -> bool:
        """Whether an objective is predicted from a latency table."""
        return any(objective(name).timed for name in self.objectives)
