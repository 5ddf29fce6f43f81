"""Enough of Markdown for a handbook."""
import html
import re


def to_html(source):
    """Turns Markdown into HTML: headings, lists, code blocks and paragraphs."""
    blocks = [block for block in re.split(r"\n\s*\n", source.strip()) if block]
    return "\n".join(block_to_html(block) for block in blocks)


def block_to_html(block):
    """One block of Markdown, whichever kind it is, as HTML."""
    lines = block.splitlines()
    if heading := re.match(r"(#{1,6})\s+(.*)", lines[0]):
        level = len(heading[1])
        return f"<h{level}>{inline_to_html(heading[2])}</h{level}>"
    if lines[0].startswith("```"):
        return code_block(lines)
    if all(re.match(r"[-*] ", line) for line in lines):
        return bullet_list(lines)
    return f"<p>{inline_to_html(' '.join(lines))}</p>"


def code_block(lines):
    """A fenced block of code; the word behind the fence is the language for the highlighter."""
    language = lines[0].strip("`").strip()
    kind = f' class="language-{language}"' if language else ""
    return f"<pre><code{kind}>{html.escape(chr(10).join(lines[1:-1]))}</code></pre>"


def bullet_list(lines):
    """Lines that begin with a dash or a star become the entries of an unordered list."""
    entries = "".join(f"<li>{inline_to_html(line[2:])}</li>" for line in lines)
    return f"<ul>{entries}</ul>"


def inline_to_html(text):
    """Bold, italics, code and links within a line."""
    text = html.escape(text, quote=False)
    for pattern, replacement in [
        (r"`([^`]+)`", r"<code>\1</code>"),
        (r"\*\*([^*]+)\*\*", r"<strong>\1</strong>"),
        (r"\*([^*]+)\*", r"<em>\1</em>"),
        (r"\[([^\]]+)\]\(([^)\s]+)\)", r'<a href="\2">\1</a>'),
    ]:
        text = re.sub(pattern, replacement, text)
    return text


def headings(source):
    """The headings of a Markdown text with their levels, for a table of contents. Those in code do not count."""
    found, in_code = [], False
    for line in source.splitlines():
        if line.startswith("```"):
            in_code = not in_code
        elif not in_code and (heading := re.match(r"(#{1,6})\s+(.*)", line)):
            found.append((len(heading[1]), heading[2].strip()))
    return found


def front_matter(source):
    """Splits the settings between two lines of dashes at the start of a page from its text."""
    match = re.match(r"---\n(.*?)\n---\n", source, re.DOTALL)
    if not match:
        return {}, source
    pairs = (line.partition(":") for line in match[1].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, _, value in pairs}, source[match.end():]
