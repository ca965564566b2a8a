"""Fronts as data: points, choosing among them, JSON, CSV. Numpy only: reading a front loads no tensor library."""

from nas_llm.front._front import Front
from nas_llm.front._genomes import load_genome, read_genomes
from nas_llm.front._json import FRONT_FILE
from nas_llm.front._point import FrontPoint, UniformBaseline
from nas_llm.front._select import Limit, select_points
from nas_llm.front._texts_table import texts_table
from nas_llm.front._thin import knee, non_dominated, thin_front
from nas_llm.front._workload_limits import workload_limits

__all__ = [
    "FRONT_FILE",
    "Front",
    "FrontPoint",
    "Limit",
    "UniformBaseline",
    "knee",
    "load_genome",
    "non_dominated",
    "read_genomes",
    "select_points",
    "texts_table",
    "thin_front",
    "workload_limits",
]
