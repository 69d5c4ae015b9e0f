"""The one settings class: flags over `HEADRACE_*` variables over a TOML file over the defaults.

In: `load(config, **overrides)`. Out: a frozen `Settings`. Never opens a connection. A nested value is named
`HEADRACE_BROKER__URL` in the environment, `[broker] url = …` in the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from models.config import Fraction, ModelSettings, Section
from models.vocabulary import parted

DEFAULT_WEIGHTS = {
    "view": 0.5,
    "click": 1.0,
    "rating": 1.0,
    "like": 1.5,
    "add_to_cart": 1.5,
    "purchase": 2.0,
    "share": 2.0,
    "skip": -1.0,
    "dislike": -1.5,
}

SECURITY = (
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_plain_password",
    "ssl_cafile",
    "ssl_certfile",
    "ssl_keyfile",
    "ssl_password",
    "ssl_check_hostname",
)
"""What of a log-in every client here understands: aiokafka, kafka-python and Faust."""


class BrokerSettings(Section):
    """Where Kafka is and how to log in; `security` is what aiokafka and kafka-python call it."""

    url: str = Field("127.0.0.1:9092", description="HOST:PORT[,HOST:PORT…]")
    group: str = "headrace"
    connect_timeout_s: float = Field(15.0, gt=0, description="how long a first connection is tried")
    security: dict[str, str] = Field(
        default_factory=dict,
        description="security_protocol, sasl_mechanism, sasl_plain_username, sasl_plain_password, ssl_cafile, …",
    )

    @field_validator("security")
    @classmethod
    def _known(cls, security: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(security.keys() - set(SECURITY)):
            raise ValueError(f"has no entry {', '.join(unknown)}; there are {', '.join(SECURITY)}")
        return security


class TopicSettings(Section):
    """Names of the topics and what a record may weigh."""

    events: tuple[str, ...] = Field(("events",), min_length=1)
    items: str = "items"
    recommendations: str = "recommendations"
    dead_letters: str = "events.dlq"
    models: str = "models"
    control: str = "control"
    max_message_bytes: int = Field(1_048_576, ge=1024, description="of an input record")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        """A topic that is read as two things would feed the worker its own records, or teach an event twice."""
        names = [
            *self.events, self.items, self.recommendations, self.dead_letters, self.models, self.control,
        ]  # fmt: skip
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"should be a topic of its own for each purpose: {', '.join(twice)} is named twice"
            )
        return self


class EventSettings(Section):
    """How events are read: vocabulary, rating scale, field names."""

    weights: dict[str, float] = Field(
        default_factory=lambda: dict(DEFAULT_WEIGHTS),
        description="of the types named here; the others keep theirs",
    )
    default_weight: float = Field(1.0, description="of every other type")
    map: dict[str, str] = Field(
        default_factory=dict, description="our field → their field, for topics with other names"
    )
    context: str = Field(
        "",
        max_length=256,
        description="field of an event's `context`, such as device, that stands for a scenario it does not name",
    )
    ts_unit: Literal["ms", "s", "iso"] = "ms"
    rating_low: float = 1.0
    rating_high: float = 5.0

    @field_validator("weights")
    @classmethod
    def _beside_the_defaults(cls, weights: dict[str, float]) -> dict[str, float]:
        """Who gives `click` a weight does not mean that a `skip` is now a good thing."""
        return DEFAULT_WEIGHTS | weights

    def weight_of(self, kind: str) -> float:
        """What an event of this kind teaches, wherever it took place."""
        return self.weights.get(parted(kind)[0], self.default_weight)

    @model_validator(mode="after")
    def _a_scale(self) -> Self:
        if self.rating_low >= self.rating_high:
            raise ValueError(
                f"rating_low {self.rating_low:g} should be below rating_high {self.rating_high:g}"
            )
        return self


class WorkerSettings(Section):
    """The stream processor."""

    state_dir: Path = Path("headrace-state")
    snapshots: Path | None = None
    batch_events: int = Field(2000, ge=1, le=5000)
    poll_ms: int = Field(20, ge=1, description="longest wait of one fetch")
    linger_ms: float = Field(
        5.0, ge=0, le=1000, description="time between two fetches at least: tiny batches are dear"
    )
    commit_s: float = Field(
        5.0, gt=0, description="events of about so long are redone from the log after a crash"
    )
    commit_bytes: int = Field(32 << 20, ge=1 << 16, description="about so much is written at once")
    commit_share: Fraction = Field(0.02, description="commits take at most this share of the time")
    one_list_per_event: bool = False
    restarts_before_bisect: int = Field(3, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    torch_threads: int = Field(1, ge=1)
    lag_coalesce: int = Field(20_000, ge=1, description="lag from which one list stands for more events")
    lag_skip_rerank: int = Field(100_000, ge=1, description="lag from which the re-ranker is skipped")
    refresh_users: int = Field(2000, ge=0, description="recently active users re-scored after a model swap")
    web_port: int = Field(6066, ge=1, le=65535)
    web_bind: str = "127.0.0.1"


class TrainerSettings(Section):
    """The refresh of the Transformer."""

    snapshots: Path = Path("headrace-snapshots")
    state_dir: Path = Path("headrace-trainer")
    every_events: int = Field(20_000, ge=100)
    every_s: float = Field(600.0, gt=0)
    history_events: int = Field(2_000_000, ge=1000)
    warmup_tokens_per_event: float = Field(14.0, gt=0)
    warmup_events: int = Field(100_000, ge=0)
    tokens_per_event: float = Field(14.0, gt=0)
    replay_share: Fraction = 2 / 3
    gate_events: int = Field(2000, ge=1)
    gate_wait_s: float = Field(120.0, gt=0, description="T_max: judged on what there is after this long")
    gate_margin: float = Field(0.001, ge=0)
    keep_snapshots: int = Field(10, ge=2)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    torch_threads: int = Field(1, ge=1)
    niceness: int = Field(
        10, ge=0, le=19, description="lets workers on the same machine go first (not on Windows)"
    )


class Settings(BaseSettings):
    """All of headrace's settings."""

    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", env_nested_delimiter="__", frozen=True, extra="forbid"
    )

    seed: int = 0
    broker: BrokerSettings = BrokerSettings()
    topics: TopicSettings = TopicSettings()
    events: EventSettings = EventSettings()
    worker: WorkerSettings = WorkerSettings()
    trainer: TrainerSettings = TrainerSettings()
    models: ModelSettings = ModelSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, os.environ.get("HEADRACE_CONFIG", "headrace.toml"))
        return init_settings, env_settings, toml


def load(overrides: dict[str, Any] | None = None) -> Settings:
    """Settings with `overrides`, named by their dotted path, on top.

    >>> load({"broker.url": "localhost:1", "worker.batch_events": 5}).worker.batch_events
    5

    Raises pydantic.ValidationError, which names the field and what it takes.
    """
    nested: dict[str, Any] = {}
    for path, value in (overrides or {}).items():
        if value is None:
            continue
        *parents, leaf = path.split(".")
        at = nested
        for parent in parents:
            at = at.setdefault(parent, {})
        at[leaf] = value
    return Settings(**nested)
