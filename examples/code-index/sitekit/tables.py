"""Rows and columns: from CSV, to Markdown, and what one does in between."""
import csv
import io


def read_csv(text, delimiter=","):
    """Reads comma-separated values into a list of dictionaries; the first line names the columns."""
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def write_csv(rows):
    """Writes rows as comma-separated values, quoted where that is needed."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def columns(rows):
    """The names of all columns that any row has, in the order in which they first come up."""
    return list(dict.fromkeys(name for row in rows for name in row))


def sort_rows(rows, column, descending=False):
    """Sorts rows by a column: numbers by their size, and before all texts."""

    def key(row):
        number = to_number(row.get(column))
        return (number is None, number if number is not None else 0, str(row.get(column, "")))

    return sorted(rows, key=key, reverse=descending)


def to_number(value):
    """A number out of a cell, without the separators of thousands; None if it is not one."""
    try:
        return float(str(value).replace(",", "").strip())
    except ValueError:
        return None


def group_by(rows, column):
    """Puts rows with the same value in a column together."""
    groups = {}
    for row in rows:
        groups.setdefault(row.get(column), []).append(row)
    return groups


def summarize(rows, column):
    """Count, sum, mean, smallest and largest of the numbers in a column."""
    numbers = [number for row in rows if (number := to_number(row.get(column))) is not None]
    if not numbers:
        return {"count": 0}
    total = sum(numbers)
    return {"count": len(numbers), "sum": total, "mean": total / len(numbers), "min": min(numbers), "max": max(numbers)}


def to_markdown(rows):
    """Lays rows out as a Markdown table whose columns are aligned."""
    names = columns(rows)
    lines = [names] + [[str(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in ruled)
