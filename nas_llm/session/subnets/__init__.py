"""Finished subnets of a problem: measured, with their provenance, in memory and on disk."""

from nas_llm.session.subnets._measure import SubnetMeasure, SubnetScores
from nas_llm.session.subnets._provenance import subnet_provenance
from nas_llm.session.subnets._subnets import (
    ExportedSubnet,
    FinishedSubnet,
    as_subnet,
    check_form,
    export_subnet,
    finish_subnet,
)

__all__ = [
    "ExportedSubnet",
    "FinishedSubnet",
    "SubnetMeasure",
    "SubnetScores",
    "as_subnet",
    "check_form",
    "export_subnet",
    "finish_subnet",
    "subnet_provenance",
]
