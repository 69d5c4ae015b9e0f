"""Settings of every model: plain frozen pydantic classes with the defaults that serve all data sets.

In: numbers from whoever assembles the settings (`stream_app.settings`, a test). Out: validated, hashable
values. Never reads a file, a clock or the environment.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A frozen group of settings; an unknown name is an error, and so is a number that is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SequenceSettings(Section):
    """What is kept of each user's events.

    `length` events are kept in the row; the Transformer attends over a band of `length // layers` events, so
    that the stored sequence determines a user's vector exactly, whatever came before it.
    """

    length: int = Field(100, ge=4, le=1000)
    seen: int = Field(10_000, ge=100, le=10_000, description="items a user had that are remembered exactly")
    recent_ids: int = Field(64, ge=1, le=1024, description="accepted event ids kept to drop duplicates")


class Reading(Section):
    """One way to read a co-visitation matrix (see `models.online.covisit_readings`); lists credit it as
    `covisit-NAME`."""

    name: str = Field(pattern=r"^[a-z0-9-]{1,32}$")
    matrix: Literal[0, 1]
    items: int = Field(ge=1, le=50)
    decay: Fraction
    row_power: Fraction
    column_power: Fraction
    tail: float = Field(0.0, ge=0.0, le=1.0)


class SlimSettings(Section):
    """What is learned of pairs of items, beyond how often they go together (`models.online.slim`)."""

    items: int = Field(
        20, ge=1, le=50, description="latest items of a history it looks at, within the window"
    )
    decay: Fraction = 0.95
    lr: float = Field(0.03, ge=0, description="0 learns nothing of the kind")


class CovisitSettings(Section):
    """Two decayed item-item matrices and several readings of them."""

    window: tuple[int, int] = (30, 3)
    decay: tuple[Fraction, Fraction] = (0.9, 0.6)
    back: tuple[Fraction, Fraction] = (0.5, 0.3)
    shrinkage: float = Field(20.0, gt=0)
    popularity: Fraction = 0.3
    max_neighbours: int = Field(512, ge=16, le=8192)
    slim: SlimSettings = SlimSettings()
    readings: tuple[Reading, ...] = (
        Reading(name="broad", matrix=0, items=30, decay=0.8, row_power=0.8, column_power=0.3, tail=0.03),
        Reading(name="near", matrix=0, items=10, decay=0.5, row_power=0.5, column_power=0.1),
        Reading(name="profile", matrix=0, items=30, decay=0.9, row_power=0.5, column_power=0.5, tail=0.05),
        Reading(name="session", matrix=1, items=5, decay=0.5, row_power=0.7, column_power=0.1),
        Reading(name="next", matrix=1, items=1, decay=1.0, row_power=0.7, column_power=0.0),
    )

    @field_validator("readings")
    @classmethod
    def _named_apart(cls, readings: tuple[Reading, ...]) -> tuple[Reading, ...]:
        if len({r.name for r in readings}) < len(readings):
            raise ValueError("two readings have the same name")
        for matrix, most in ((0, 3), (1, 4)):
            if sum(r.matrix == matrix for r in readings) > most:
                raise ValueError(f"at most {most} readings of matrix {matrix} are possible")
        return readings


class PopularitySettings(Section):
    """Decayed popularity; a half-life is in accepted events, 0 means no decay."""

    half_lives: tuple[int, ...] = (100, 500, 5000, 0)
    candidates: int = Field(12, ge=1, le=256, description="taken from each half-life before the blend")


class BiasedMFSettings(Section):
    """Explicit-rating matrix factorisation with biases, as `river.reco.BiasedMF`."""

    factors: int = Field(10, ge=1, le=256)
    bias_lr: float = Field(0.025, gt=0)
    latent_lr: float = Field(0.05, gt=0)
    l2_bias: float = Field(0.0, ge=0)
    l2: float = Field(0.0, ge=0)
    init_std: float = Field(0.1, ge=0)


class AsymmetricMFSettings(Section):
    """Online asymmetric MF: the user is the decayed sum of the vectors of recent items."""

    factors: int = Field(64, ge=4, le=256)
    items: int = Field(20, ge=1, le=50)
    decay: Fraction = 0.8
    negatives: int = Field(64, ge=1, le=512)
    lr: float = Field(0.8, gt=0)


class BlendSettings(Section):
    """Blend of the sources' log-shares, log-linear and with a small layer, learned online."""

    lr: float = Field(0.15, ge=0)
    accumulator: float = Field(50.0, gt=0)
    hidden: int = Field(16, ge=0, le=64, description="units of the layer beside the weights (0: none)")
    layer_lr: float = Field(0.2, ge=0, description="of that layer, for its first lessons")
    learn_within: int = Field(30, ge=1, description="learn only when the target ranks under this")
    share: Fraction = Field(1.0, description="of the events teach the blend and SLIM")
    share_all_until: int = Field(
        50_000, ge=0, description="every event teaches until this many were accepted, whatever the share"
    )
    floor: float = Field(
        3e-3, gt=0, description="smallest share of the candidates that a source can give an item"
    )
    start_covisit: float = Field(0.6, description="first weight of the readings, shared out evenly")
    start_popularity: float = 0.05
    start_asymmetric_mf: float = 0.05
    start_transformer: float = 0.05
    start_slim: float = 1.0


class PolicySettings(Section):
    """What may be shown."""

    k: int = Field(10, ge=1, le=100)
    repeats: bool = False
    exploration: int = Field(
        0, ge=0, le=100, description="last places of a list drawn among new items (0: none)"
    )
    new_below: int = Field(5, ge=2, description="an item with fewer events than this is new")

    @field_validator("exploration")
    @classmethod
    def _on_the_list(cls, exploration: int, info: ValidationInfo) -> int:
        if exploration > info.data.get("k", exploration):
            raise ValueError(f"{exploration} of the {info.data['k']} places of a list can't be drawn")
        return exploration


class TransformerSettings(Section):
    """The causal Transformer and how it is trained (recipe and sources in `models.sequence.transformer`)."""

    enabled: bool = True
    d_model: int = Field(64, ge=8, le=512)
    layers: int = Field(2, ge=1, le=4)
    heads: int = Field(2, ge=1, le=16)
    dropout: Fraction = 0.2
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    batch_tokens: int = Field(512, ge=32)
    window: int = Field(100, ge=4, le=1000, description="length of a training sequence")

    @model_validator(mode="after")
    def _heads_turn_pairs(self) -> Self:
        if self.d_model % (2 * self.heads):
            raise ValueError(
                f"d_model ({self.d_model}) must be a multiple of twice the number of heads ({self.heads})"
            )
        return self


class ModelSettings(Section):
    """Everything that decides what is learned and listed; its fingerprint is kept beside the state."""

    max_items: int = Field(200_000, ge=16, le=5_000_000)
    max_cached_users: int = Field(100_000, ge=16)
    candidates: int = Field(64, ge=10, le=2000, description="taken from co-visitation before the blend")
    dense_candidates: int = Field(
        0, ge=0, le=500, description="taken from each model that scores every item (0: none)"
    )
    dense_limit: int = Field(20_000, ge=0, description="... as long as no more items than this are known")
    sequence: SequenceSettings = SequenceSettings()
    popularity: PopularitySettings = PopularitySettings()
    covisit: CovisitSettings = CovisitSettings()
    biased_mf: BiasedMFSettings = BiasedMFSettings()
    asymmetric_mf: AsymmetricMFSettings = AsymmetricMFSettings()
    blend: BlendSettings = BlendSettings()
    policy: PolicySettings = PolicySettings()
    ranker: str = Field(
        "transformer",
        description="what the trainer trains and the worker re-ranks with; or a model of the family",
    )
    ranker_settings: dict[str, Any] = Field(
        default_factory=dict, description="of that model of the family; the Transformer has its own section"
    )
    transformer: TransformerSettings = TransformerSettings()

    @field_validator("ranker")
    @classmethod
    def _there(cls, ranker: str) -> str:
        from models.family.registry import MODELS  # which imports this module

        if ranker not in ("transformer", *MODELS):
            raise ValueError(f"there is no such model; there are transformer, {', '.join(MODELS)}")
        return ranker
