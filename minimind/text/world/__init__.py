"""The little world: a seeded bilingual corpus in which everything can be checked.

`write_world` writes it; `pretrain_rows`, `sft_rows`, `questions` and `story_prompts`
stream it; `check_statement`, `check_text`, `check_answer`, `check_chat` and
`check_story` are its rule. Tables, phrasings, stories and talk have a module each;
`tuning` has the sets of the stages after SFT.
"""

from minimind.text.world.check import check_answer, check_statement, check_text
from minimind.text.world.check_chat import check_chat
from minimind.text.world.phrases import Question
from minimind.text.world.rows import pretrain_rows, questions, sft_rows, story_prompts
from minimind.text.world.story_check import check_story
from minimind.text.world.write import write_world

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
