"""The studies of a storage as one self-contained page, to be read without a server."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from nas_llm.errors import StudyError
from nas_llm.files import write_atomic
from nas_llm.studies._optuna import dashboard_plots
from nas_llm.studies._storage import open_storage, shown
from nas_llm.studies.dashboard import PAGE, find_studies
from nas_llm.studies.mirror import PLOTS

if TYPE_CHECKING:
    from optuna import Study
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

_MOST_ROWS = 500
# Attributes that are a column each, and those that say the same elsewhere or nothing to a reader.
_HIDDEN = (
    "owner",
    "heartbeat",
    "slot",
    "kv_groups",
    "head_channels",
    "qk_channels",
    "vo_channels",
    "ffn_channels",
    "settings",
    "definition",
    "identity",
    "run",
)


def export_html(source: str, *, path: Path, force: bool = False) -> None:
    """Write every study of a storage, with figures and trials, as one HTML file that opens offline.

    Args:
        source: A run directory, a journal file or a storage URL.
        path: The file.
        force: Whether an existing file is replaced.

    Raises:
        StudyError: If there is no study, or the file exists or cannot be written.
    """
    import optuna

    if path.exists() and not force:
        raise StudyError(f"{path} exists; --force overwrites it")
    url, _ = find_studies(source)
    storage = open_storage(url, create=False)
    studies = [optuna.load_study(study_name=entry.study_name, storage=storage) for entry in storage.get_all_studies()]
    if not studies:
        raise StudyError(f"{shown(url)} holds no study")
    page = PAGE
    fields = {
        "title": escape(", ".join(study.study_name for study in studies)),
        "studies": "\n".join(_section(study, index) for index, study in enumerate(studies)),
        "plotly": get_plotlyjs(),
    }
    for name, text in fields.items():
        page = page.replace(f"<!--{name}-->", text)
    write_atomic(path, page, parents=True, error=StudyError)


def _section(study: Study, index: int) -> str:
    names = study.metric_names or [f"value {place}" for place in range(len(study.directions))]
    trials = study.get_trials(deepcopy=False)
    figures = "".join(
        f"<h3>{escape(title)}</h3>\n<div role='figure'>{_figure(figure, f'study-{index}-{place}')}</div>\n"
        for place, (title, figure) in enumerate(_figures(study, names, trials))
    )
    note = _note(study)
    return (
        f"<section>\n<h2>{escape(study.study_name)}</h2>\n"
        f"<p class='lead'>{escape(_summary(study, trials, names))}</p>\n{figures}"
        f"<h3>Trials</h3>\n{_table(trials, names)}\n"
        + (f"<h3>Note</h3>\n<pre>{escape(note)}</pre>\n" if note else "")
        + "</section>"
    )


def _summary(study: Study, trials: Sequence[FrozenTrial], names: Sequence[str]) -> str:
    states: dict[str, int] = {}
    for trial in trials:
        states[trial.state.name.lower()] = states.get(trial.state.name.lower(), 0) + 1
    ways = [f"{name} ({direction.name.lower()})" for name, direction in zip(names, study.directions, strict=True)]
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return f"{len(trials)} trials: {counts}. Objectives: {', '.join(ways)}."


def _figures(study: Study, names: Sequence[str], trials: Sequence[FrozenTrial]) -> Iterator[tuple[str, go.Figure]]:
    """What the dashboard was given, and what Optuna itself draws; figures that need more trials are left out."""
    import optuna.visualization as draw

    saved = list(_saved_plots(study))
    yield from saved
    complete = [trial for trial in trials if trial.values is not None]
    if len(complete) < 2:
        return
    several = len(study.directions) > 1
    if several and not saved and len(study.directions) <= 3:
        yield "Pareto front", draw.plot_pareto_front(study, target_names=list(names))
    if not several:
        yield "Optimization history", draw.plot_optimization_history(study, target_name=names[0])
        yield "Reported on the way", draw.plot_intermediate_values(study)
    for place, (name, direction) in enumerate(zip(names, study.directions, strict=True)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                target = _lower_is_better(place, direction) if several else None
                figure = draw.plot_param_importances(study, target=target, target_name=name)
        except (ValueError, RuntimeError):
            # Too few trials, or all of one value.
            continue
        yield f"What {name} depends on", figure


def _lower_is_better(place: int, direction: StudyDirection) -> Callable[[FrozenTrial], float]:
    """One objective as Optuna's importances take it: they tell what reaches its low values."""
    sign = -1.0 if direction.name == "MAXIMIZE" else 1.0
    return lambda trial: sign * trial.values[place]


def _saved_plots(study: Study) -> Iterator[tuple[str, go.Figure]]:
    saved = dashboard_plots(study)
    for name in sorted(saved, key=lambda name: (PLOTS.index(name) if name in PLOTS else len(PLOTS), name)):
        figure = go.Figure(json.loads(saved[name]))
        figure.update_layout(title=None, margin={"t": 40})
        yield name.replace("-", " ").capitalize(), figure


def _note(study: Study) -> str:
    try:
        from optuna_dashboard import get_note
    except ImportError:
        return ""
    return str(get_note(study))


def _figure(figure: go.Figure, name: str) -> str:
    buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]]
    config = {"displaylogo": False, "responsive": True, "modeBarButtons": buttons}
    figure.update_layout(height=460)
    return str(figure.to_html(full_html=False, include_plotlyjs=False, div_id=name, config=config))


def _table(trials: Sequence[FrozenTrial], names: Sequence[str]) -> str:
    if len(trials) > _MOST_ROWS:
        return f"<p>The last {_MOST_ROWS} of {len(trials)}.</p>" + _table(trials[-_MOST_ROWS:], names)
    params = list(dict.fromkeys(key for trial in trials for key in trial.params))
    attributes = list(dict.fromkeys(key for trial in trials for key in trial.user_attrs if key not in _HIDDEN))
    head = "".join(f"<th scope='col'>{escape(name)}</th>" for name in ("trial", "state", *names, *params, *attributes))
    rows = []
    for trial in trials:
        values = trial.values or [None] * len(names)
        cells = [trial.state.name.lower(), *values, *(trial.params.get(key) for key in params)]
        cells += [trial.user_attrs.get(key) for key in attributes]
        columns = "".join(f"<td>{escape(_cell(cell))}</td>" for cell in cells)
        rows.append(f"<tr><th scope='row'>{trial.number}</th>{columns}</tr>")
    body = "\n".join(rows)
    return f"<div class='scroll'><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
