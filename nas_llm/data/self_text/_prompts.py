"""What the dense model is asked to go on from, one list of openings a kind of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Raised whenever the openings change.
PROMPTS_VERSION = 1

_TOPICS = (
    ("the Danube", "rivers"),
    ("photosynthesis", "plants"),
    ("the printing press", "machines"),
    ("the Byzantine Empire", "empires"),
    ("jazz", "music"),
    ("the human heart", "the body"),
    ("volcanoes", "mountains"),
    ("the stock market", "money"),
    ("the Olympic Games", "sports"),
    ("bridges", "buildings"),
    ("coffee", "food and drink"),
    ("the Moon", "space"),
    ("vaccines", "medicine"),
    ("the Sahara", "deserts"),
    ("chess", "games"),
    ("railways", "transport"),
    ("honey bees", "insects"),
    ("the French Revolution", "history"),
    ("electric cars", "engines"),
    ("glaciers", "ice"),
    ("Shakespeare's plays", "theatre"),
    ("prime numbers", "mathematics"),
    ("the Supreme Court", "law"),
    ("wheat", "farming"),
    ("submarines", "ships"),
    ("the Silk Road", "trade"),
    ("whales", "animals"),
    ("gravity", "physics"),
    ("earthquakes", "disasters"),
    ("the internet", "computers"),
    ("marathon running", "exercise"),
    ("oil painting", "art"),
    ("democracy", "politics"),
    ("the Amazon rainforest", "forests"),
    ("steel", "metals"),
    ("a hospital", "work"),
    ("school", "learning"),
    ("hurricanes", "weather"),
    ("medieval castles", "war"),
    ("sleep", "health"),
)

# {0} is a topic, {1} what it belongs to.
_TEMPLATES: Mapping[str, Sequence[str]] = {
    "prose": (
        "{0} is one of the best known examples of {1}. It was",
        "An article about {0}\n\nThe history of {0} goes back to",
        "In 1908 the first serious study of {0} was published by",
        "The city council met on Tuesday to discuss {0}. According to",
        "It was raining when Anna came home, and she was still thinking about {0}.",
        "Most people believe that {0} has little to do with their daily lives. In fact,",
        "Researchers at the university reported on Monday that {0}",
        "Chapter 3\n\nThe old man had spent his life with {0}, and",
        "There are three reasons why {0} matters more than it did fifty years ago. First,",
        "The film, which opened in March, tells the story of {0} through",
        "He was born in 1874, the son of a merchant, and became known for his work on {0}.",
        "After the war, {0} changed quickly: between 1946 and 1960",
    ),
    "questions": (
        "Question: What is the main purpose of {0}?\nAnswer:",
        "Q: How does {0} work?\nA:",
        "Question: Which of these is true of {0}?\nA.",
        "Read the passage about {0} and answer the questions.\n\nPassage:",
        "Here are ten quiz questions about {1}, with answers.\n\n1.",
        "What happens to {0} when it gets very cold? Explain your answer.\n",
    ),
    "code": (
        'def find_{2}(items):\n    """Return the',
        "# A small program about {0}\nimport",
        "class {3}:\n    def __init__(self",
        "#include <stdio.h>\n\n/* {0} */\nint main(",
        "function get{3}(values) {{\n",
        "SELECT name, COUNT(*) FROM {2}",
        "<html>\n<head><title>{0}</title></head>\n<body>",
    ),
    "lists": (
        "Ten facts about {0}:\n1.",
        "How to write a report on {0}:\n- ",
        "| Name | Year | Notes on {1} |\n|---|---|---|\n|",
        "Ingredients and tools you need before you start with {0}:\n*",
        "Glossary of {1}\n\n",
    ),
    "dialogue": (
        'Teacher: Today we will talk about {0}.\nStudent: "',
        "Interviewer: What first made you interested in {1}?\nGuest:",
        '"Have you ever thought about {0}?" she asked.\n"',
        "Tom: I cannot stop reading about {0}.\nMaria:",
    ),
    "letters": (
        "Dear Sir or Madam,\n\nI am writing to you about {0}",
        "Subject: {0}\n\nHi Peter,\n\nthank you for",
        "Dear diary,\n\ntoday we saw {0}",
        "To whom it may concern:\n\nWith regard to {0}, we",
    ),
}
# Messages of a user; the model answers in its chat template.
_MESSAGES = (
    "Explain {0} to a ten-year-old.",
    "Write a short story in which {0} plays a part.",
    "What are the advantages and disadvantages of {0}?",
    "Summarize what is known about {0} in three sentences.",
    "Give me five ideas for a talk on {1}.",
    "I have to write an essay about {0}. How should I begin?",
    "Is it true that {0} is older than most people think?",
    "Translate into simpler words: the significance of {0} can hardly be overstated.",
    "Compare {0} with something similar.",
)


def openings(tokenizer: PreTrainedTokenizerBase, kind: str, first: int, count: int) -> list[str]:
    """Openings of one kind: each topic with each template, in an order that changes both from one to the next.

    Args:
        tokenizer: Of the model; its chat template, if it has one, makes those of ``chat``.
        kind: One of the kinds of ``auto``, or ``letters``.
        first: Number of the first opening; after the last one they begin again.
        count: How many.
    """
    templates = _MESSAGES if kind == "chat" else _TEMPLATES[kind]
    made = []
    for number in range(first, first + count):
        topic, field = _TOPICS[number * 7 % len(_TOPICS)]
        words = [word for word in topic.replace("'", " ").split() if word not in ("the", "a")]
        # A template of its own for every topic of a round, all of them after as many rounds as there are templates.
        template = templates[(number + number // len(_TOPICS)) % len(templates)]
        text = template.format(topic, field, "_".join(words).lower(), "".join(word.capitalize() for word in words))
        made.append(
            _asked(tokenizer, text) if kind == "chat" else text[0].upper() + text[1:] if kind != "code" else text
        )
    return made


def _asked(tokenizer: PreTrainedTokenizerBase, message: str) -> str:
    if not getattr(tokenizer, "chat_template", None):
        return f"Instruction: {message}\n\nResponse:"
    turn = [{"role": "user", "content": message}]
    return str(tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
