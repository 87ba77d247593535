"""How numbers are written, without matplotlib: the commands start without it."""


def size_text(size: float) -> str:
    """A count in at most three digits: 373, 14.6k, 1.16M; beyond the names of numbers 3e+20."""
    if size >= 1e15:
        return f"{size:.3g}"
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= 0.9995 * limit:
            return f"{size / limit:.3g}{suffix}"
    return f"{size:.3g}"
