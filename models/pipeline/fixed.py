"""Settings as the kernels take them: numbers side by side, which no event changes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.config import ModelSettings
from models.online import asymmetric_mf, biased_mf, blend, covisit, covisit_readings
from models.online.covisit_readings import Readings
from models.randomness import hash64


class Fixed(NamedTuple):
    """What decides how events are learned and lists are made."""

    covisit: covisit.Rates
    readings: Readings
    amf: asymmetric_mf.Rates
    mf: biased_mf.Rates
    low: float  # lowest and highest rating
    high: float
    k: int
    repeats: bool
    seen: int  # remembered exactly
    candidates: int
    popular: int  # taken from each half-life
    dense: int  # taken from each model that scores the whole catalogue
    dense_limit: int  # ... up to this many items
    half_lives: int  # how many there are
    plain: int  # index of the slowest half-life
    baseline: int  # index of the half-life that stands for "popularity"
    floor: float
    blend: blend.Rates
    blend_hidden: int
    blend_share: float
    blend_all_until: int
    explored: int  # places of a list that new items are tried out on
    new_below: int  # events that make an item known
    seed: np.uint64


def fixed_of(settings: ModelSettings, scale: tuple[float, float], seed: int) -> Fixed:
    """The settings, the lowest and highest rating, and the seed of every draw."""
    mf = settings.biased_mf
    lives = settings.popularity.half_lives
    slowest = max(range(len(lives)), key=lambda p: lives[p] if lives[p] else float("inf"))
    nearest = min(range(len(lives)), key=lambda p: abs(lives[p] - 5000))
    return Fixed(
        covisit=covisit.rates(settings.covisit),
        readings=covisit_readings.readings(settings.covisit),
        amf=asymmetric_mf.Rates(
            settings.asymmetric_mf.items,
            settings.asymmetric_mf.decay,
            settings.asymmetric_mf.negatives,
            settings.asymmetric_mf.lr,
        ),
        mf=biased_mf.Rates(mf.bias_lr, mf.latent_lr, mf.l2_bias, mf.l2),
        low=scale[0],
        high=scale[1],
        k=settings.policy.k,
        repeats=settings.policy.repeats,
        seen=settings.sequence.seen,
        candidates=settings.candidates,
        popular=settings.popularity.candidates,
        dense=settings.dense_candidates,
        dense_limit=settings.dense_limit,
        half_lives=len(lives),
        plain=slowest,
        baseline=nearest,
        floor=settings.blend.floor,
        blend=blend.Rates(settings.blend.lr, settings.blend.layer_lr, settings.blend.learn_within),
        blend_hidden=settings.blend.hidden,
        blend_share=settings.blend.share,
        blend_all_until=settings.blend.share_all_until,
        explored=min(settings.policy.exploration, settings.policy.k),
        new_below=settings.policy.new_below,
        seed=np.uint64(hash64(f"seed {seed}")),
    )
