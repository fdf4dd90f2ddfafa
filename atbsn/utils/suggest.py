"""'Did you mean ...?' for every name a user can mistype."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known name, or else lists all of them."""
    known = sorted(known)
    by_lower = {candidate.lower(): candidate for candidate in known}
    nearest = get_close_matches(name.lower(), by_lower, n=1)
    if nearest:
        return f"did you mean '{by_lower[nearest[0]]}'?"
    return f"known: {', '.join(known) or 'none'}"
