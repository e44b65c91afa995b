"""What can be learned, by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trifecta.objectives.answer import Answer
from trifecta.objectives.base import Objective, Text
from trifecta.objectives.causal import Causal
from trifecta.objectives.classify import Classify
from trifecta.objectives.images import Images
from trifecta.objectives.loss import LossModule
from trifecta.objectives.masked import Masked
from trifecta.objectives.prompted import Prompted
from trifecta.objectives.seq2seq import Seq2Seq
from trifecta.objectives.span import Span
from trifecta.objectives.tag import Tag

OBJECTIVES: dict[str, Callable[..., Any]] = {
    "causal": Causal,
    "masked": Masked,
    "span": Span,
    "classify": Classify,
    "tag": Tag,
    "answer": Answer,
    "seq2seq": Seq2Seq,
    "prompted": Prompted,
    "images": Images,
}

__all__ = ["OBJECTIVES", "LossModule", "Objective", "Text"]
