"""Which of two media types a client would rather have. Knows nothing of answers."""

VARY = {"vary": "Accept"}


def prefers(accept: str, wanted: str, other: str) -> bool:
    """Whether an Accept header gives `wanted` a higher weight than `other`, which is meant where both have the same."""
    weights = dict(_weighted(one) for one in accept.lower().split(","))
    return _weight(weights, wanted) > _weight(weights, other)


def _weight(weights: dict[str, float], media_type: str) -> float:
    family = media_type.partition("/")[0] + "/*"
    return weights.get(media_type, weights.get(family, weights.get("*/*", 0.0)))


def _weighted(one: str) -> tuple[str, float]:
    """A media type of Accept and its weight, 1 where none can be read."""
    kind, *parameters = (part.strip() for part in one.split(";"))
    weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
    return kind, float(weight) if weight.replace(".", "", 1).isdecimal() else 1.0
