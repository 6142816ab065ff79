"""Numbers of things in words, and first letters."""

from __future__ import annotations

__all__ = ["capitalized", "number_of", "there_are"]


def number_of(count: float | str, what: str, of: str = "") -> str:
    """The number and its noun, which takes an s: "1 seed", "3 seeds", with `of` "1 more seed".

    count: a number, or a text such as "2 to 4", which is more than one.
    """
    shown = f"{count:g}" if isinstance(count, float) else str(count)
    return f"{shown} {of}{what}{'' if shown == '1' else 's'}"


def there_are(count: float) -> str:
    """How many there are: "there is 1", "there are 4"."""
    return f"there {'is' if count == 1 else 'are'} {count:g}"


def capitalized(text: str) -> str:
    """The text with its first letter as a capital, and the others as they are."""
    return f"{text[:1].upper()}{text[1:]}"
