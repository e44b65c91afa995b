"""Token ids to vectors, with absolute positions where the model has them."""

from __future__ import annotations

import math

from torch import Tensor, arange, nn

from trifecta.errors import RecipeError
from trifecta.nn.dropout import Dropout
from trifecta.nn.position import sinusoidal_table


class Embedding(nn.Module):
    """Token vectors, plus a learned table (learned) or sines (sinusoidal), plus segment vectors; norm; then dropout.

    With sines the token vectors are multiplied by sqrt(d_model), as Vaswani et al. (2017) do: else the sines, of
    amplitude 1, would drown them.

    Args:
        position: learned, sinusoidal, or anything else for none here.
        max_sequence_length: rows of the learned table.
        segment_types: kinds of text that have a vector each, as BERT's first and second sentence; 0 for none.
        norm: after the sum, before dropout.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        *,
        position: str,
        max_sequence_length: int | None,
        dropout: float,
        segment_types: int = 0,
        norm: nn.Module | None = None,
    ):
        super().__init__()
        self.token = nn.Embedding(vocab_size, d_model)
        self.position: nn.Embedding | None = None
        if position == "learned":
            if max_sequence_length is None:
                raise RecipeError(
                    "a learned position table needs a length", fix="set model.max_sequence_length, e.g. to 128"
                )
            self.position = nn.Embedding(max_sequence_length, d_model)
        self.sines = sinusoidal_table(d_model) if position == "sinusoidal" else None
        self.token_scale = math.sqrt(d_model) if position == "sinusoidal" else 1.0
        self.segment = nn.Embedding(segment_types, d_model) if segment_types else None
        self.norm = norm
        self.dropout = Dropout(dropout)

    def forward(
        self,
        tokens_BT: Tensor,
        start: int = 0,
        positions_BT: Tensor | None = None,
        types_BT: Tensor | None = None,
    ) -> Tensor:
        """start: position of the first token. positions_BT: of every token, where a row holds several documents.
        types_BT: kind of text; None: the first everywhere.

        Raises:
            RecipeError: more positions than the learned table has.
        """
        x_BTD = self.token(tokens_BT)
        stop = start + tokens_BT.shape[1]
        if self.position is not None and positions_BT is not None:
            x_BTD = x_BTD + self.position(positions_BT)
        elif self.position is not None:
            if stop > self.position.num_embeddings:
                raise RecipeError(
                    f"input of {stop} tokens, but the learned position table has {self.position.num_embeddings} rows",
                    fix="shorten the input, or train with a larger model.max_sequence_length",
                )
            x_BTD = x_BTD + self.position(arange(start, stop, device=tokens_BT.device))
        if self.sines is not None:
            sines = self.sines(start, stop)
            if positions_BT is not None:
                sines = sines[positions_BT]
            x_BTD = x_BTD * self.token_scale + sines.to(x_BTD.dtype)
        if self.segment is not None:
            x_BTD = x_BTD + (self.segment.weight[0] if types_BT is None else self.segment(types_BT))
        if self.norm is not None:
            x_BTD = self.norm(x_BTD)
        embedded: Tensor = self.dropout(x_BTD)
        return embedded
