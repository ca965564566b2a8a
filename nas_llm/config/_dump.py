"""Writing a problem definition back as TOML."""

from __future__ import annotations

import tomli_w

from nas_llm.config._problem import Problem


def dump_problem(problem: Problem) -> str:
    """The resolved definition as TOML, defaults written out; reading it gives an equal problem.

    Keys that are not set have no line: TOML has no null.
    """
    return tomli_w.dumps(problem.model_dump(exclude_none=True))
