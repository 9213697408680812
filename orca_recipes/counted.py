"""Numbers with their nouns, as text for people."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun: "1 row", "2,048 tokens".

    Args:
        plural: of the noun, where an s does not make it.
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
