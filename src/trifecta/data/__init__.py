"""The user's text, read as it is, to tokens on disk, to batches."""

from trifecta.data.grammar import grammar_entropy
from trifecta.data.loader import load_batches
from trifecta.data.packing import Windows
from trifecta.data.pieces import Piece
from trifecta.data.prepare import Prepared, prepare
from trifecta.data.sampler import Sampler
from trifecta.data.sources import Progress, Scan, Sources
from trifecta.data.store import TokenStore

__all__ = [
    "Piece",
    "Prepared",
    "Progress",
    "Sampler",
    "Scan",
    "Sources",
    "TokenStore",
    "Windows",
    "grammar_entropy",
    "load_batches",
    "prepare",
]
