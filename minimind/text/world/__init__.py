"""The little world: a seeded bilingual corpus in which everything can be checked.

`write_world` writes it; `pretrain_rows`, `sft_rows`, `questions` and `story_prompts`
stream it; `check_statement`, `check_text`, `check_answer`, `check_chat` and
`check_story` are its rule. Tables, phrasings, stories and talk have a module each.
"""

from .check import check_answer, check_statement, check_text
from .check_chat import check_chat
from .phrases import Question
from .rows import pretrain_rows, questions, sft_rows, story_prompts
from .story_check import check_story
from .write import write_world

__all__ = [
    "Question",
    "check_answer",
    "check_chat",
    "check_statement",
    "check_story",
    "check_text",
    "pretrain_rows",
    "questions",
    "sft_rows",
    "story_prompts",
    "write_world",
]
