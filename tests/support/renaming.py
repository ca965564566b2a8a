"""Renaming a study as optuna-dashboard does it, by a real request to it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

from nas_llm.studies import open_storage


def rename(url: str | Path, old: str, new: str) -> None:
    """Give a study another name in the dashboard.

    Args:
        url: Its storage.
        old: Its name.
        new: What it is called then.
    """
    from optuna_dashboard import wsgi

    storage = open_storage(url)
    number = storage.get_study_id_from_name(old)
    body = json.dumps({"study_name": new}).encode()
    environment: dict[str, Any] = {}
    setup_testing_defaults(environment)
    environment |= {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": f"/api/studies/{number}/rename",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    answers: list[str] = []
    b"".join(wsgi(storage)(environment, lambda status, *_: answers.append(status)))
    assert answers == ["201 Created"]
