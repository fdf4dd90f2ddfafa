"""'Did you mean ...?' for every name a user can mistype."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Make a sentence that suggests the nearest of the ``known`` names, or lists all of them if none is near."""
    known = sorted(known)
    by_lower = {candidate.lower(): candidate for candidate in known}
    nearest = get_close_matches(name.lower(), by_lower, n=1)
    if nearest:
        return f"did you mean '{by_lower[nearest[0]]}'?"
    return f"known: {', '.join(known) or 'none'}"
