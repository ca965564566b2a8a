"""Tasks on one model."""

from __future__ import annotations

from nas_llm.evaluation import TaskScore, TaskSuite
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted
from nas_llm.workflow.evaluate._subjects import Loaded


def score_tasks(loaded: Loaded, suite: TaskSuite | None, *, on_event: EventHandler) -> tuple[TaskScore, ...]:
    """Scores of a model.

    Args:
        loaded: The model.
        suite: The tasks; None = none.
        on_event: Told what happens.
    """
    if suite is None:
        return ()
    stage, known = f"tasks {loaded.name}", 0

    def on_requests(done: int, total: int) -> None:
        nonlocal known
        if total != known:
            # lm-eval makes its requests in several portions.
            known = total
            on_event(StageStarted(stage, total=total))
        on_event(StageAdvanced(stage, done))

    on_event(StageStarted(stage, "lm-eval"))
    scores = tuple(suite.run(loaded.model, loaded.tokenizer, identity=loaded.identity, on_requests=on_requests))
    on_event(StageFinished(stage))
    return scores
