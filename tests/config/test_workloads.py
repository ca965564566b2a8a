from __future__ import annotations

from pathlib import Path

import pytest

from nas_llm.config import dump_problem, find_workload, load_problem, problems_directory
from nas_llm.errors import ConfigError

CHAT = 'name = "chat", prompt = 24, new_tokens = 8'
OBJECTIVES = 'objectives=["perplexity", "chat.seconds", "chat.memory"]'


def refusal(workload: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_problem("tiny-llama", overrides=[f"workload=[{{{workload}}}]", *overrides])
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_limits_of_workloads_stand_with_the_constraints() -> None:
    found = load_problem(
        "tiny-llama",
        overrides=[
            f'workload=[{{{CHAT}, max_memory = "1.5 GB", max_seconds = 2}}]',
            OBJECTIVES,
            "constraints.max_params=9",
        ],
    ).problem
    assert found.bounds.max_params == 9
    assert found.bounds.further == (
        ("workload.chat.max_seconds", "chat.seconds", 2.0),
        ("workload.chat.max_memory", "chat.memory", 1_500_000_000),
    )
    assert found.objective_names == ("perplexity", "chat.seconds", "chat.memory")
    assert [workload.name for workload in found.timed_workloads] == ["chat"]
    assert find_workload("chat", found.workload).batch == 1


def test_a_definition_with_workloads_comes_back(tmp_path: Path) -> None:
    overrides = [f'workload=[{{{CHAT}, max_memory = "2GB"}}, {{name = "batch", prompt = 8, new_tokens = 1}}]']
    found = load_problem("tiny-llama", overrides=overrides).problem
    path = tmp_path / "again.toml"
    path.write_text(dump_problem(found), encoding="utf-8")
    assert load_problem(path).problem == found
    assert found.timed_workloads == ()


def test_tables_of_toml_are_read(tmp_path: Path) -> None:
    text = (problems_directory() / "tiny-llama.toml").read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    tables = "".join(f'[[workload]]\nname = "{name}"\nprompt = 24\nnew_tokens = 8\n' for name in ("chat", "b"))
    path.write_text(f"{text}\n{tables}", encoding="utf-8")
    assert [workload.name for workload in load_problem(path).problem.workload] == ["chat", "b"]


@pytest.mark.parametrize(
    ("workload", "overrides", "message"),
    [
        (
            f'{CHAT}, max_memory = "2 apples"',
            (),
            'max_memory = "2 apples" is no size; write e.g. "2GB", "500MB" or 20000',
        ),
        (f"{CHAT}, max_seconds = 0", (), "workload[0].max_seconds = 0 should be greater than 0"),
        ('name = "chat", prompt = 24, new_tokens = 0', (), "workload[0].new_tokens = 0 should be greater than 0"),
        ('name = "chat", prompt = 24', (), '"workload[0].new_tokens" is missing'),
        (f"{CHAT}, promt = 3", (), 'unknown key "workload[0].promt"; did you mean "workload[0].prompt"?'),
        (f"{CHAT}}}, {{{CHAT}", (), 'workload has the name "chat" twice; give each its own'),
        (
            CHAT,
            ('objectives=["perplexity", "chta.memory"]',),
            'no workload "chta"; did you mean "chat"? known are chat',
        ),
        ('name = "a.b", prompt = 1, new_tokens = 1', (), 'workload[0].name = "a.b" should match pattern'),
    ],
)
def test_mistakes_are_one_line(workload: str, overrides: tuple[str, ...], message: str) -> None:
    assert message in refusal(workload, *overrides)


def test_a_workload_that_no_table_defines() -> None:
    with pytest.raises(
        ConfigError, match=r'objectives has "chat.memory"; there is no workload "chat", the problem defin'
    ):
        load_problem("tiny-llama", overrides=['objectives=["perplexity", "chat.memory"]'])
