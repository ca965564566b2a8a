"""Questions with right and wrong answers, as token sequences."""

from nas_llm.data.questions._build import build_questions
from nas_llm.data.questions._encode import Encoded, encode
from nas_llm.data.questions._question_set import QuestionSet

__all__ = ["Encoded", "QuestionSet", "build_questions", "encode"]
