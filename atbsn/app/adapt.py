"""The sentences that report an adaptation to the user."""

from atbsn.engine.adaptation import Adapted
from atbsn.engine.evaluation.judgement import Judgement

_WHY = {
    "clean": "The weights before are kept: the pictures are nearly clean, so there is no noise to learn",
    "error": "The weights before are kept, since the adapted ones would leave as large an error or a larger one",
    "detail": "The weights before are kept, since with the adapted ones fine detail would be lost",
}
"""Why the weights before are kept, by ``Adapted.fault``."""


def sentence(result: Adapted) -> str:
    """One or two sentences: which weights are kept and why, and what the weights before and after remove."""
    if result.judgements is None or result.fault == "clean":
        return f"{_WHY['clean']} (their noise has a level of {result.level:.1f} grey values of 255)."
    verdict = "The adapted weights suit these pictures better" if result.fault is None else _WHY[result.fault]
    before, after = result.judgements
    return f"{verdict}: before, {taken_off(before)}; after {result.iterations} iterations, {taken_off(after)}."


def taken_off(judgement: Judgement) -> str:
    """A clause of a sentence on what weights remove from the pictures."""
    level, lag1, noise_lag1 = (judgement.mean(name) for name in ("level", "lag1", "noise_lag1"))
    return (
        f"they take off {level:.2f} of the noise's level, correlation {lag1:.2f} (noise {noise_lag1:.2f}), "
        f"structure in it {judgement.mean('structure'):.2f}, "
        f"estimated error {max(0.0, judgement.error) ** 0.5:.2f} grey values"
    )


def warnings(result: Adapted) -> list[str]:
    """Warnings about the pictures: that several cameras took them."""
    cameras = result.cameras
    if len(cameras.named) > 1:
        counted = ", ".join(f"{name} ({number})" for name, number in cameras.named.items())
        return [f"the pictures are of several cameras: {counted}; adapt to each camera's pictures alone"]
    if cameras.are_several:
        return [
            "the noise of the pictures differs as that of several cameras does; if so, adapt to each camera's alone"
        ]
    return []
