"""Defaults of studies and of their dashboard: the library and the command take them from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StudyDefaults:
    """Processes of a study on this machine."""

    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class DashboardDefaults:
    """Where the dashboard listens."""

    host: str = "127.0.0.1"
    port: int = 8080
