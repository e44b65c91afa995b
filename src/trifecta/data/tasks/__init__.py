"""Readers of labelled data: classes, tags, questions, pairs and dialogues, each record with its place."""

from trifecta.data.tasks.dialogues import Dialogue, read_dialogues
from trifecta.data.tasks.labelled import Labelled, LabelledSet, read_labelled
from trifecta.data.tasks.labels import Kind, Label
from trifecta.data.tasks.pairs import Pair, read_pairs
from trifecta.data.tasks.prompts import dialogues_of, read_prompts
from trifecta.data.tasks.questions import Question, read_questions
from trifecta.data.tasks.split import split_records
from trifecta.data.tasks.tagged import Tagged, read_tagged

__all__ = [
    "Dialogue",
    "Kind",
    "Label",
    "Labelled",
    "LabelledSet",
    "Pair",
    "Question",
    "Tagged",
    "dialogues_of",
    "read_dialogues",
    "read_labelled",
    "read_pairs",
    "read_prompts",
    "read_questions",
    "read_tagged",
    "split_records",
]
