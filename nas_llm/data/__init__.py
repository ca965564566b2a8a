"""Text: token windows from files, hub datasets or the dense model itself."""

from nas_llm.data._folders import read_texts
from nas_llm.data._hub import read_hub
from nas_llm.data._named_texts import NAMED_TEXTS, ReportingText, read_reporting_text
from nas_llm.data._packaged import packaged_sample
from nas_llm.data._reporting import perplexity_windows
from nas_llm.data._splits import Splits, build_splits
from nas_llm.data._tokens import TokenArray, end_of_text_id, token_windows
from nas_llm.data._window_set import WindowSet
from nas_llm.data._written import written_questions
from nas_llm.data.questions import QuestionSet, build_questions
from nas_llm.data.self_text import cached_self_texts, sample_documents

__all__ = [
    "NAMED_TEXTS",
    "QuestionSet",
    "ReportingText",
    "Splits",
    "TokenArray",
    "WindowSet",
    "build_questions",
    "build_splits",
    "cached_self_texts",
    "end_of_text_id",
    "packaged_sample",
    "perplexity_windows",
    "read_hub",
    "read_reporting_text",
    "read_texts",
    "sample_documents",
    "token_windows",
    "written_questions",
]
