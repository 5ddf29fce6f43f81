"""Texts with holes in them, and what goes into the holes."""
import html
import re

HOLE = re.compile(r"\{\{(\{?)\s*([\w.]+)\s*\}?\}\}")
LOOP = re.compile(r"\{\{#each ([\w.]+)\}\}(.*?)\{\{/each\}\}", re.DOTALL)


class Template:
    """A page with holes such as {{title}}, which is filled as often as you like."""

    def __init__(self, source):
        self.source = source

    def render(self, values):
        """Fills every hole of the template with the value of its name, and repeats each loop for the entries of its list."""

        def repeat(loop):
            entries = lookup(values, loop[1]) or []
            return "".join(Template(loop[2]).render({**values, "this": entry}) for entry in entries)

        return HOLE.sub(lambda hole: fill(hole, values), LOOP.sub(repeat, self.source))

    def names(self):
        """The names of all values that the template wants, each once, in alphabetical order."""
        return sorted({hole[2] for hole in HOLE.finditer(self.source)})


def fill(hole, values):
    """What stands in place of one hole: its value, escaped unless it has three braces."""
    value = lookup(values, hole[2])
    text = "" if value is None else str(value)
    return text if hole[1] else html.escape(text)


def lookup(values, path):
    """Follows a dotted path such as `order.customer.name` into nested dictionaries; None where it leads nowhere."""
    for step in path.split("."):
        if not isinstance(values, dict) or step not in values:
            return None
        values = values[step]
    return values


def load_template(path):
    """Reads a template from a file."""
    with open(path, encoding="utf-8") as file:
        return Template(file.read())
