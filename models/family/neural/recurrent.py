"""GRU4Rec and its LSTM twin: a recurrent network over what a user took, in order.

Hidasi, Karatzoglou, Baltrunas and Tikk: Session-based Recommendations with Recurrent Neural Networks, ICLR 2016. With
the cross-entropy and the one item table on both ends ("constrained embedding") of Hidasi and Karatzoglou: Recurrent
Neural Networks with Top-k Gains for Session-based Recommendations, CIKM 2018; negatives are those of the step, shared.
The gates of the one are Cho et al.'s (EMNLP 2014), of the other Hochreiter and Schmidhuber's (Neural Computation 1997).
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from models.config import Section
from models.family.parts.sequential import Sequential, SequentialNetwork, SequentialSettings
from models.training.dropout import KeyedDropout


class RecurrentSettings(SequentialSettings):
    """A recurrent network."""

    length: int = Field(50, ge=2, description="events of a user that are looked at")
    hidden: int = Field(128, ge=2, description="size of the state")


class RecurrentNetwork(SequentialNetwork):
    """Item rows [n, length] → query vectors [n, length, width], by one recurrent layer."""

    def __init__(self, settings: RecurrentSettings, cell: type[nn.GRU] | type[nn.LSTM], seed: int) -> None:
        super().__init__(settings.width, seed)
        self.dropout = KeyedDropout(settings.dropout, self.noise)
        self.cell = cell(settings.width, settings.hidden, batch_first=True)
        self.out = nn.Linear(settings.hidden, settings.width)

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.cell(self.dropout(self.item(rows)))
        query: Tensor = self.out(self.dropout(states))
        return query


class GRU4Rec(Sequential):
    """The next item by gated recurrent units (Hidasi et al., ICLR 2016)."""

    name = "gru4rec"
    Settings: ClassVar[type[Section]] = RecurrentSettings
    Cell: ClassVar[type[nn.GRU] | type[nn.LSTM]] = nn.GRU
    settings: RecurrentSettings

    def build(self) -> RecurrentNetwork:
        return RecurrentNetwork(self.settings, self.Cell, self.seed)


class LSTM(GRU4Rec):
    """The next item by long short-term memory (Hochreiter and Schmidhuber, Neural Computation 1997)."""

    name = "lstm"
    Cell = nn.LSTM
