"""Figures of written texts against references: BLEU, chrF, ROUGE. The first two and ROUGE need the extra `metrics`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from trifecta.errors import RecipeError
from trifecta.evaluation.classification import mean, require_pairs

_INSTALL = "pip install 'trifecta[metrics]'"
_ROUGE = ("rouge1", "rouge2", "rougeL")


def bleu_chrf(hypotheses: Sequence[str], references: Sequence[str]) -> dict[str, float | None]:
    """bleu and chrf of the whole split, 0 to 100, by sacrebleu's defaults (Post 2018); None without texts.

    bleu: tokenizer 13a, made for languages with spaces between words; chrf (Popovic 2015) needs no tokenizer.

    Raises:
        DataError: unequal numbers of texts. RecipeError: sacrebleu isn't installed.
    """
    require_pairs(references, hypotheses)
    sacrebleu = _library("sacrebleu", "bleu and chrf")
    if not references:
        return {"bleu": None, "chrf": None}
    with _quiet():
        # force: no note on stderr about text that looks tokenized.
        bleu = sacrebleu.BLEU(force=True).corpus_score(list(hypotheses), [list(references)])
        chrf = sacrebleu.CHRF().corpus_score(list(hypotheses), [list(references)])
    return {"bleu": float(bleu.score), "chrf": float(chrf.score)}


def rouge(hypotheses: Sequence[str], references: Sequence[str], *, stem: bool = False) -> dict[str, float | None]:
    """rouge1, rouge2 and rougeL: F-measures, 0 to 1, each the mean over the texts (Lin 2004); None without texts.

    By rouge-score, which knows only the letters a to z and digits: text in other scripts scores 0.

    Args:
        stem: strip English suffixes first, as papers on summaries do.

    Raises:
        DataError: unequal numbers of texts. RecipeError: rouge-score isn't installed.
    """
    require_pairs(references, hypotheses)
    library = _library("rouge_score.rouge_scorer", "rouge")
    with _quiet():
        scorer = library.RougeScorer(_ROUGE, use_stemmer=stem)
        rows = [scorer.score(truth, text) for truth, text in zip(references, hypotheses, strict=True)]
    return {name: mean(float(row[name].fmeasure) for row in rows) for name in _ROUGE}


def exact_match_rate(hypotheses: Sequence[str], references: Sequence[str]) -> float | None:
    """Share of texts that are their reference, character by character; None without texts.

    Raises:
        DataError: unequal numbers of texts.
    """
    require_pairs(references, hypotheses)
    return mean(float(text == truth) for text, truth in zip(hypotheses, references, strict=True))


def _quiet() -> warnings.catch_warnings[None]:
    """What these libraries warn of is nothing that a user can mend."""
    return warnings.catch_warnings(action="ignore")


def _library(module: str, figures: str) -> Any:
    try:
        with _quiet():
            return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise RecipeError(f"{figures} need the package {package}, which can't be imported", fix=_INSTALL) from error
