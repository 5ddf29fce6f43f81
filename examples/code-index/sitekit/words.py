"""Small things that are done to texts."""
import re
import unicodedata


def slug(title):
    """A title as part of a web address: lower case, ASCII, words joined by hyphens."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def shorten(text, most):
    """Cuts a long text at the end of a word and puts an ellipsis behind it."""
    if len(text) <= most:
        return text
    return text[: most - 1].rpartition(" ")[0].rstrip(",.;: ") + "…"


def reading_minutes(text, words_per_minute=220):
    """How many minutes it takes to read a text, at least one."""
    return max(1, round(len(text.split()) / words_per_minute))


def plural(count, singular, several=None):
    """A number with its noun: 1 page, 2 pages."""
    return f"{count} {singular if count == 1 else several or singular + 's'}"


def distance(a, b):
    """How many letters must be changed, added or taken away to make one word of another (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (left != right))
    return row[-1]


def did_you_mean(word, known):
    """The known word that a misspelt one is closest to, if any is close enough."""
    best = min(known, key=lambda other: distance(word, other), default=None)
    return best if best is not None and distance(word, best) <= max(1, len(word) // 3) else None
