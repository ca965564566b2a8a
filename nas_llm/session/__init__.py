"""What a search needs, loaded: model, text, scores, space, workers; and the session that scripts work with."""

from nas_llm.session._cost_model import problem_costs
from nas_llm.session._latency import check_same_device, run_latency, write_latency
from nas_llm.session._prepare import prepare
from nas_llm.session._prepared import Prepared, search_space
from nas_llm.session._ray import RayEvaluator, RayPool
from nas_llm.session._reopen import reopen
from nas_llm.session._resources import Resources, check_memory
from nas_llm.session._scores import scores_of_run
from nas_llm.session._self_texts import self_texts
from nas_llm.session._session import Session
from nas_llm.session._workers import with_workers
from nas_llm.session._workloads import measured_workload, run_workloads, write_workloads
from nas_llm.session.front import build_front
from nas_llm.session.subnets import ExportedSubnet, FinishedSubnet, SubnetMeasure, SubnetScores, subnet_provenance

__all__ = [
    "ExportedSubnet",
    "FinishedSubnet",
    "Prepared",
    "RayEvaluator",
    "RayPool",
    "Resources",
    "Session",
    "SubnetMeasure",
    "SubnetScores",
    "build_front",
    "check_memory",
    "check_same_device",
    "measured_workload",
    "prepare",
    "problem_costs",
    "reopen",
    "run_latency",
    "run_workloads",
    "scores_of_run",
    "search_space",
    "self_texts",
    "subnet_provenance",
    "with_workers",
    "write_latency",
    "write_workloads",
]
