"""How the points of a problem are finished: the method with its settings, what an export is known by, and words."""

from __future__ import annotations

import inspect
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nas_llm import display
from nas_llm.config import Problem
from nas_llm.data import WindowSet
from nas_llm.errors import ConfigError, NasLlmError, first_line
from nas_llm.finishing.methods import FINISHING, FinishingMethod
from nas_llm.hints import did_you_mean
from nas_llm.plugins import PluginUse, short_reference
from nas_llm.runs import Run, read_resolved

_SECTION = "reconstruction"


@dataclass(frozen=True, kw_only=True)
class FinishPlan:
    """How the points of a problem are finished.

    Attributes:
        problem: The definition.
        kind: The method that it names.
        code: What of a stranger's method was found; None for the package's own.
    """

    problem: Problem
    kind: type[FinishingMethod]
    code: PluginUse | None

    @property
    def method(self) -> str:
        """What the definition calls the method, without the folder of its file."""
        return short_reference(self.problem.reconstruction.method)

    def make(self) -> FinishingMethod:
        """The method with its settings, not started.

        Raises:
            ConfigError: If an argument is unknown, missing or not usable.
        """
        section = self.problem.reconstruction
        given = {key: getattr(section, key) for key in self.kind.keys}
        self._check(given, section.method_args)
        try:
            return self.kind(**given, **section.method_args)
        except NasLlmError as error:
            raise ConfigError(f"{_SECTION}.method_args: {error}") from error
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{_SECTION}.method_args: {self.method} cannot be made: {first_line(error)}") from error

    def identity(self) -> dict[str, Any]:
        """Everything of the problem and of the method that the weights depend on, as plain data."""
        split = self.problem.reconstruction_split
        return self._how() | ({} if split is None else split.model_dump(mode="json"))

    def describe(self, windows: WindowSet, chosen: Mapping[str, float] = MappingProxyType({})) -> dict[str, Any]:
        """Method, settings and text, as plain data.

        Args:
            windows: What the points are finished with.
            chosen: See :class:`Finished`; goes under the key of that name.
        """
        if not self.kind.refits:
            return {"method": self.method}
        text = {"tokens": windows.num_tokens, "text": windows.describe()} if self.kind.needs_text else {}
        return self._how() | ({"chosen": dict(chosen)} if chosen else {}) | text

    def as_options(self) -> str:
        """What to say to ``nas-llm export`` for the same weights, whatever the run's own problem says."""
        split = self.problem.reconstruction_split
        samples = "" if split is None else f" --samples {split.tokens // self.problem.data.window}"
        return f"--method {shlex.quote(self.method)}{samples}"

    def in_words(self, windows: WindowSet, chosen: Mapping[str, float] = MappingProxyType({})) -> str:
        """What becomes of the weights, for a person.

        Args:
            windows: What the points are finished with.
            chosen: See :class:`Finished`.
        """
        words = self.make().in_words()
        if chosen:
            words += f", of these {' and '.join(f'{name} {value:g}' for name, value in chosen.items())},"
        if self.code is not None:
            words = f"{words} by {self.method} ({self.code})"
        if not self.kind.needs_text:
            return words
        return f"{words} on {windows.num_tokens:,} tokens: {display.text_of(windows.describe())}"

    def _how(self) -> dict[str, Any]:
        section = self.problem.reconstruction
        values = section.model_dump(mode="json")
        # Exports have always been known by the damping, also those of methods that do not look at it.
        names = ["method", *(["damping"] if self.code is None else []), *self.kind.keys]
        if len(section.dampings) == 1:
            names = [name for name in names if name != "validation"]
        how = {name: _plain(values[name]) for name in names} | {"method": self.method}
        if self.code is not None:
            how |= {"method_args": {name: _plain(value) for name, value in section.method_args.items()}}
            how |= {"code": {"version": self.code.version, "sha256": self.code.sha256}}
        return how

    def _check(self, given: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        parameters = inspect.signature(self.kind).parameters
        free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        names = [
            name
            for name, parameter in parameters.items()
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and name not in given
        ]
        for name in own:
            if name in given:
                raise ConfigError(f"{_SECTION}.method_args.{name} is {_SECTION}.{name}; give it there")
            if name not in names and not free:
                known = f"known are {', '.join(names)}" if names else "it has none"
                raise ConfigError(
                    f"{_SECTION}.method_args.{name} is unknown for {self.method}; {did_you_mean(name, names) or known}"
                )
        for name in names:
            if parameters[name].default is inspect.Parameter.empty and name not in own:
                raise ConfigError(f"{_SECTION}.method_args.{name} is missing: {self.method} cannot do without it")


def finish_plan(problem: Problem, *, base_dir: Path | None = None) -> FinishPlan:
    """How the points of a problem are finished; nothing is loaded but the method's code.

    Args:
        problem: The definition.
        base_dir: Folder that relative paths of the definition start from.

    Raises:
        ConfigError: If the method cannot be found, or its arguments are not usable.
    """
    name = problem.reconstruction.method
    kind = FINISHING.get(name, where=f"{_SECTION}.method", base_dir=base_dir)
    plan = FinishPlan(problem=problem, kind=kind, code=FINISHING.use(name))
    plan.make()
    return plan


def plan_of_run(run: Run) -> FinishPlan:
    """How the points of a run are finished.

    Args:
        run: The run; its method is looked for where the paths of its definition start from.

    Raises:
        ConfigError: If the method cannot be found, or its arguments are not usable.
        RunError: If the run cannot be read.
    """
    return finish_plan(run.problem, base_dir=Path(read_resolved(run.directory).base_dir))


def _plain(value: Any) -> Any:
    """As JSON has it: it has no infinity."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return "inf" if value == math.inf else value
