"""Which noise a network is compared on: of a magnitude at which it still tells one value from another.

The rule: of 64, 8, 1, 1/8 and 1/64 the first s is taken at which, for one sample drawn from N(0, s^2),

    every output of the reference has a finite value,
    in each blob behind a Softmax, Sigmoid or TanH less than half of the positions are saturated (`saturation`), and
    no blob of float16 reaches half of where float16 ends: beyond that end one network may round to infinity
    what the other does not, and what is infinite in both is not compared;

if there is none, the first two count for more than the last, and the first for most: what saturates at any magnitude
does so by its biases, and is judged by what stands in front, and what is large at any magnitude is a mask. The samples
are then drawn with s/64, s/8 and s in turn: 1, 8, 64 unless the network says otherwise. Where no s gives finite values
in every output, the same is tried with magnitudes |x| (a Log or a root in front). The reference alone decides, once,
from the seed: neither the candidate nor the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bnfold.compare.batches import BatchLayout, runs
from bnfold.compare.models import Model
from bnfold.compare.saturation import MOSTLY, SQUASHING, Positions, sources, type_of
from bnfold.data.samples import Noise
from bnfold.errors import ModelError, named
from bnfold.options import MOST_OF_FLOAT16
from bnfold.runtime import AnyArray, Session, give_back, to_host

if TYPE_CHECKING:
    from bnfold.compare.matched import MatchedCandidate

MAGNITUDES = (64.0, 8.0, 1.0, 1 / 8, 1 / 64)
SATURATED = "saturated by the noise, whatever its magnitude, so outputs show little of what stands in front"
STEPS = (1 / 64, 1 / 8, 1.0)
NEAR_THE_END = MOST_OF_FLOAT16 / 2


class _Trial(NamedTuple):
    """What one magnitude gave: whether it is finite, the share of each watched blob that is saturated, and whether
    values of float16 are near the end of that type.
    """

    finite: bool
    shares: Mapping[str, float]
    is_near_the_end: bool = False

    @property
    def is_alive(self) -> bool:
        """Whether it tells one value from another."""
        return self.finite and max(self.shares.values(), default=0.0) < MOSTLY

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """What is better is larger."""
        return self.is_alive, self.finite and not self.is_near_the_end, self.finite


class ChosenNoise(NamedTuple):
    """Noise with the scales and the sign that a network needs.

    Attributes:
        noise: the noise.
        layout: what the run took that showed it.
        shares: blob that was watched -> the share of its positions that the largest scale saturates.
    """

    noise: Noise
    layout: BatchLayout
    shares: Mapping[str, float]

    def scaled(self, noise: Noise) -> Noise:
        """Other noise with these scales and this sign."""
        return replace(noise, scales=self.noise.scales, signed=self.noise.signed)


def watched_blobs(reference: Model) -> dict[str, str]:
    """Blob -> type of the layer that may saturate it, over the whole network."""
    types = {blob: type_of(reference, blob) for blob in reference.writers}
    return {blob: layer_type for blob, layer_type in types.items() if layer_type in SQUASHING}


def choose_noise(
    noise: Noise,
    layout: BatchLayout,
    reference: Model,
    session: Session,
    telling: Session | None = None,
    *,
    sparing: bool = True,
) -> ChosenNoise:
    """The noise with scales and sign as the reference needs them.

    Args:
        noise, layout: how many samples of what, and how they are run.
        reference: decides.
        session: gives its outputs and `watched_blobs`.
        telling: gives the largest magnitude of each of its blobs of float16; None where it has none.
        sparing: give back what the allocator holds of each trial before the next one, which then asks the system for
            every page again.
    """
    outputs, watched = reference.outputs, watched_blobs(reference)
    if not outputs or all(meaning is not None for _, meaning in noise.feeds.values()):
        return ChosenNoise(noise, layout, {})
    found: dict[tuple[float, bool], _Trial] = {}

    def chosen(magnitude: float, signed: bool) -> ChosenNoise:
        drawn = replace(noise, scales=tuple(magnitude * step for step in STEPS), signed=signed)
        return ChosenNoise(drawn, layout, found[magnitude, signed].shares)

    for signed in (True, False):
        for magnitude in MAGNITUDES:
            tried = replace(noise, count=1, scales=(magnitude,), signed=signed)
            if sparing:
                give_back()
            trial = _try(tried, layout, session, outputs, watched)
            if trial.finite and telling is not None:
                trial = trial._replace(is_near_the_end=_is_near_the_end(tried, layout, telling))
            found[magnitude, signed] = trial
            if all(trial.rank):
                return chosen(magnitude, signed)
        if any(trial.finite for trial in found.values()):
            break
    # What saturates at any magnitude does so by its biases, and smaller noise would only say less of the weights.
    return chosen(*max(found, key=lambda tried: found[tried].rank))


def hiding_blobs(reference: Model, candidates: Sequence[MatchedCandidate]) -> dict[str, str]:
    """The `watched_blobs` between layers, which may hide what is in front of them with one of the candidates.

    Outputs are judged by what stands in front of them where they are saturated; these are not.
    """
    judged = {blob for output in reference.outputs for blob in sources(reference, output)}
    unjudged = {blob: layer_type for blob, layer_type in watched_blobs(reference).items() if blob not in judged}
    return {blob: kind for blob, kind in unjudged.items() if any(_is_unseen(blob, one) for one in candidates)}


def saturated_blobs(
    noise: Noise, layout: BatchLayout, watched: Mapping[str, str], session: Session, chosen: ChosenNoise
) -> list[str]:
    """Those of some blobs of `hiding_blobs` that are saturated by noise whose scales were chosen.

    What showed them showed that, too, where it is of the same layout.
    """
    shares = chosen.shares if layout == chosen.layout else {}
    if not watched.keys() <= shares.keys():
        one = replace(noise, count=1, scales=noise.scales[-1:])
        values = session.run(next(runs(one, layout)).feeds, list(watched))
        shares = {name: _saturated(value, watched[name]) for name, value in values.items()}
    return [name for name in watched if shares[name] >= MOSTLY]


def _is_unseen(blob: str, one: MatchedCandidate) -> bool:
    """Whether nothing that a blob of the reference is made of is compared, unless outputs differ."""
    return not one.options.layers or one.options.bisect or one.pairs.keys().isdisjoint(one.ours.reads[blob])


def saturation_notes(blobs: Sequence[str], one: MatchedCandidate) -> list[str]:
    """A note on those of some blobs that the noise saturates which hide something, with what the user can do."""
    hiding = [blob for blob in blobs if _is_unseen(blob, one)]
    way = "give their names inside with --map" if one.options.layers else "compare without --outputs-only"
    way = "compare without --bisect" if one.options.bisect else way
    return [f"{named('blob', hiding)}: {SATURATED}; {way}, or give real inputs with --data"] if hiding else []


def _try(
    noise: Noise, layout: BatchLayout, session: Session, outputs: Sequence[str], watched: Mapping[str, str]
) -> _Trial:
    """Run one sample."""
    run = next(runs(noise, layout))
    try:
        given = session.run(run.feeds, list(dict.fromkeys([*outputs, *watched])))
        values = {name: to_host(value) for name, value in given.items()}
    except ModelError:  # an operator that cannot take such values; if none can be taken, the comparison says so
        return _Trial(False, {})
    shares = {name: _saturated(values[name], layer_type) for name, layer_type in watched.items()}
    return _Trial(all(np.isfinite(values[name]).any() or not values[name].size for name in outputs), shares)


def _is_near_the_end(noise: Noise, layout: BatchLayout, telling: Session) -> bool:
    """Whether a value of one sample is beyond `NEAR_THE_END`, or not finite."""
    largest = telling.run(next(runs(noise, layout)).feeds)
    return not all(to_host(value) <= NEAR_THE_END for value in largest.values())


def _saturated(values: AnyArray, layer_type: str) -> float:
    """The share of saturated positions."""
    positions = Positions()
    positions.add(layer_type, to_host(values))
    return positions.share
