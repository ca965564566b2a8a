"""``nas-llm dashboard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_llm.cli.terminal import line, output, quiet_libraries, quiet_optuna
from nas_llm.errors import StudyError
from nas_llm.settings import DashboardDefaults

_FORMATS = ("html",)


def dashboard(
    source: Annotated[str, typer.Argument(metavar="RUN_OR_STORAGE", help="A run, a folder of a study, or a storage.")],
    port: Annotated[
        int, typer.Option(metavar="N", help="Port to listen on; 0 = any free one.")
    ] = DashboardDefaults.port,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = DashboardDefaults.host,
    artifacts: Annotated[
        Path | None, typer.Option("--artifacts", metavar="DIR", help="Folder of artifacts; default beside the study.")
    ] = None,
    export: Annotated[
        str | None, typer.Option("--export", metavar="html", help="Write a page to share instead of serving one.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where --export writes.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --export overwrite a file.")] = False,
) -> None:
    """Look at searches and studies in a browser (optuna-dashboard).

    \b
    Examples:
      nas-llm dashboard runs/demo
      nas-llm dashboard runs/studies/tiny-llama --port 9000
      nas-llm dashboard postgresql://user@host/studies --artifacts runs/demo/artifacts
      nas-llm dashboard runs/demo --export html --out demo.html

    It listens on this machine only unless --host says otherwise; whoever reaches it can write notes and delete trials.
    The exported page is one file, for reading only.
    """
    if export is None:
        if out is not None or force:
            raise StudyError("--out and --force belong to --export html")

        def ready(address: str) -> None:
            line(output(), f"dashboard: {address} (Ctrl-C ends it)")

        quiet_libraries()
        from nas_llm.studies import require_dashboard

        require_dashboard("nas-llm dashboard")
        quiet_optuna()
        from nas_llm.studies import serve_dashboard

        serve_dashboard(source, artifacts=artifacts, host=host, port=port, on_ready=ready)
        return
    if export not in _FORMATS:
        raise StudyError(f"--export {export!r} is unknown; there is html")
    path = out or Path("study.html")
    quiet_libraries()
    from nas_llm.studies import require_optuna

    require_optuna("nas-llm dashboard --export")
    quiet_optuna()
    from nas_llm.studies import export_html

    export_html(source, path=path, force=force)
    line(output(), f"written: {path}")
