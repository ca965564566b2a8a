"""A short training of an export: LoRA or all weights, towards text or towards the dense model's predictions.

LoRA needs the optional extra, ``pip install 'nas-llm[posttrain]'``.
"""

from nas_llm.posttrain._budget import Budget, Stopwatch
from nas_llm.posttrain._card import CURVE_FILE, describe_stage, posttrained_card
from nas_llm.posttrain._curve import CurvePoint
from nas_llm.posttrain._losses import distillation_loss, next_token_loss
from nas_llm.posttrain._methods import METHODS, TrainingMethod, require_packages, training_method
from nas_llm.posttrain._settings import PosttrainSettings
from nas_llm.posttrain._teacher import check_teacher
from nas_llm.posttrain._train import Trained, train
from nas_llm.posttrain._write import write_posttrained

__all__ = [
    "CURVE_FILE",
    "METHODS",
    "Budget",
    "CurvePoint",
    "PosttrainSettings",
    "Stopwatch",
    "Trained",
    "TrainingMethod",
    "check_teacher",
    "describe_stage",
    "distillation_loss",
    "next_token_loss",
    "posttrained_card",
    "require_packages",
    "train",
    "training_method",
    "write_posttrained",
]
