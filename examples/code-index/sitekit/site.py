"""From a folder of Markdown pages to a folder of HTML."""
import pathlib
import shutil
import time
import xml.sax.saxutils

from . import markdown, templates, words


class Site:
    """A web site: pages below `source`, a layout that they share, and a folder to write them to."""

    def __init__(self, source, layout, target):
        self.source, self.target = pathlib.Path(source), pathlib.Path(target)
        self.layout = templates.load_template(layout)

    def build(self):
        """Makes every page whose source is newer than what was written last, and copies all other files."""
        for path in sorted(self.source.rglob("*")):
            target = self.output_path(path)
            if path.is_dir() or not is_outdated(path, target):
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".md":
                target.write_text(self.page(path), encoding="utf-8")
            else:
                shutil.copyfile(path, target)

    def page(self, path):
        """One page in the site's layout."""
        settings, text = markdown.front_matter(path.read_text(encoding="utf-8"))
        body = markdown.to_html(text)
        values = {"title": path.stem, "minutes": words.reading_minutes(text), **settings, "body": body}
        return self.layout.render(values)

    def output_path(self, path):
        """Where a source goes: the same place below the target, with `.html` in place of `.md`."""
        place = self.target / path.relative_to(self.source)
        return place.with_suffix(".html") if path.suffix == ".md" else place

    def broken_links(self):
        """Links between pages that lead to a file that does not exist."""
        for path in sorted(self.target.rglob("*.html")):
            for link in links(path.read_text(encoding="utf-8")):
                if "://" not in link and not (path.parent / link.partition("#")[0]).exists():
                    yield path, link


def is_outdated(source, target):
    """Whether a file must be made anew: it is missing, or older than its source."""
    return not target.exists() or target.stat().st_mtime < source.stat().st_mtime


def links(page):
    """The addresses of all links of an HTML page."""
    return [part.partition('"')[0] for part in page.split('href="')[1:]]


def sitemap(addresses):
    """The XML file that tells search engines which pages there are."""
    entries = "".join(f"<url><loc>{xml.sax.saxutils.escape(address)}</loc></url>" for address in addresses)
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</urlset>'


def watch(site, seconds=1.0):
    """Builds the site again and again, until Ctrl-C."""
    while True:
        site.build()
        time.sleep(seconds)
