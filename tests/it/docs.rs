//! Every snippet of the docs is what it says: files are written, commands are run and their output compared, Genfiles are held
//! against the language, data is parsed.
//!
//! What a fenced block is stands after its first word:
//!
//! - `LANG file=PATH` is written to that file of the page's project; with `new`, a project of its own begins there;
//! - `console` is lines that start with `$ `, and below each what it prints: `…` stands for any text, alone for any lines;
//!   lines about targets that follow each other may come in any order, as local jobs end in any;
//! - `yaml` is a Genfile or rules of one, `yaml data` any YAML; `json`, `toml` and `hbs` are what they are called;
//! - `text`, `sh`, `rust`, `make` and `gitignore` are for reading only.
//!
//! The provider of a page is the tests' own: `http://127.0.0.1:8080/v1` in a file stands for its address. With
//! `UPDATE_EXPECT=1` what a console prints otherwise is written into the page; `…` is then to be put back by hand.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use serde_json::Value;

use crate::project::{Project, mask_durations, mask_ports};
use crate::server::Server;

pub struct Block {
    /// From 1.
    line: usize,
    pub info: String,
    pub text: String,
    /// Where the text stands in its page.
    range: Range<usize>,
}

pub fn blocks(markdown: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (event, Range { start, end }) in Parser::new(markdown).into_offset_iter() {
        match (event, &mut open) {
            (Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))), _) => {
                let line = markdown[..start].matches('\n').count() + 1;
                open = Some(Block { line, info: info.to_string(), text: String::new(), range: 0..0 });
            }
            (Event::Text(text), Some(block)) => {
                block.range = if block.text.is_empty() { start..end } else { block.range.start..end };
                block.text += &text;
            }
            (Event::End(TagEnd::CodeBlock), _) => found.extend(open.take()),
            _ => {}
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs_err::read_dir(root.join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let mut pages: Vec<PathBuf> = docs.filter(|path| path.extension().is_some_and(|ext| ext == "md")).collect();
    pages.push(root.join("README.md"));
    pages.sort();
    pages
}

const ADDRESS: &str = "http://127.0.0.1:8080/v1";

struct Page {
    server: Server,
    project: Project,
}

/// An empty project, in which git knows who commits.
fn project() -> Project {
    let who = [("NAME", "A Reader"), ("EMAIL", "reader@example.com"), ("DATE", "2026-01-02T03:04:05Z")];
    who.into_iter().fold(Project::new(), |project, (what, value)| {
        project.env(&format!("GIT_AUTHOR_{what}"), value).env(&format!("GIT_COMMITTER_{what}"), value)
    })
}

/// What is wrong with a snippet, and for a console what should stand there.
struct Wrong {
    why: String,
    console: Option<String>,
}

impl From<String> for Wrong {
    fn from(why: String) -> Wrong {
        Wrong { why, console: None }
    }
}

impl Page {
    fn block(&mut self, block: &Block) -> Result<(), Wrong> {
        let mut words = block.info.split_whitespace();
        let language = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        if words.contains(&"new") {
            self.project = project();
        }
        if let Some(path) = words.iter().find_map(|word| word.strip_prefix("file=")) {
            self.project.edit(path, &block.text.replace(ADDRESS, &self.server.base_url()));
            return Ok(());
        }
        match language {
            "console" => return self.console(&block.text),
            "yaml" if words.contains(&"data") => genmake::yaml::data(&block.text).map(drop).map_err(|e| e.message),
            "yaml" => genfile(&block.text),
            "json" => serde_json::from_str::<Value>(&block.text).map(drop).map_err(|e| e.to_string()),
            "toml" => toml::from_str::<toml::Table>(&block.text).map(drop).map_err(|e| e.to_string()),
            "hbs" => genmake::expr::Template::prompt(&block.text, &[]).map(drop).map_err(|e| e.message()),
            "text" | "sh" | "rust" | "make" | "gitignore" => Ok(()),
            other => Err(format!("`{other}` says not what the block is; see tests/it/docs.rs")),
        }
        .map_err(Wrong::from)
    }

    fn console(&self, text: &str) -> Result<(), Wrong> {
        let mut commands: Vec<(&str, String)> = Vec::new();
        for line in text.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command, String::new())),
                (None, Some((_, expected))) => *expected += &format!("{line}\n"),
                (None, None) => return Err("a console starts with a line `$ COMMAND`".to_owned().into()),
            }
        }
        let (mut why, mut console) = (Vec::new(), String::new());
        for (command, expected) in commands {
            let actual = self.project.shell(command);
            let masked = mask_durations(&mask_ports(&expected));
            console += &format!("$ {command}\n");
            if fits(&masked, &actual) {
                console += &expected;
                continue;
            }
            why.push(format!("`{command}` prints\n{actual}\nand not\n{masked}"));
            console += &actual.replace("[TIME]", "0.1s").replace("[PORT]", "8080");
        }
        match why.is_empty() {
            true => Ok(()),
            false => Err(Wrong { why: why.join("\n"), console: Some(console) }),
        }
    }
}

/// Whether `actual` is `expected`, whose `…` stand for anything, trailing space aside.
fn fits(expected: &str, actual: &str) -> bool {
    let (expected, actual) = (in_order(expected), in_order(actual));
    let mut rest = actual.as_str();
    let parts: Vec<&str> = expected.split('…').collect();
    for (at, part) in parts.iter().enumerate() {
        // A line of `…` alone may stand for no line at all.
        let part = if at > 0 { part.strip_prefix('\n').unwrap_or(part) } else { part };
        let found = match (at, at + 1 == parts.len()) {
            (0, true) => (rest == part).then_some(0),
            (0, _) => rest.starts_with(part).then_some(0),
            (_, true) => rest.ends_with(part).then(|| rest.len() - part.len()),
            _ => rest.find(part),
        };
        let Some(found) = found else { return false };
        rest = &rest[found + part.len()..];
    }
    true
}

/// A run's output with lines that follow each other and each say what became of a target in the order of their texts.
fn in_order(text: &str) -> String {
    let is_progress = |line: &str| {
        line.get(..11)
            .is_some_and(|head| head.ends_with("  ") && head[..9].trim_start().chars().all(|c| c.is_ascii_lowercase()))
    };
    let mut lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.chunk_by_mut(|a, b| is_progress(a) && is_progress(b)).for_each(<[_]>::sort_unstable);
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}

/// A Genfile, or some of its keys, or rules of one: everything in it is of the language.
fn genfile(text: &str) -> Result<(), String> {
    const TOP: [&str; 8] = ["version", "vars", "provider", "providers", "batching", "budget", "include", "rules"];
    let value = genmake::yaml::data(text).map_err(|e| e.message)?;
    let keys: Vec<&String> = value.as_object().ok_or("it is no map")?.keys().collect();
    let is_top = keys.iter().any(|key| TOP.contains(&key.as_str()));
    let has = |key: &str| keys.iter().any(|known| *known == key);
    let mut whole = String::new();
    if !has("version") {
        whole += "version: 1\n";
    }
    if !has("provider") {
        whole += "provider: default\n";
    }
    match is_top {
        true => whole += text,
        false => {
            let indented: String = text.lines().map(|line| format!("  {line}\n")).collect();
            whole += &format!("rules:\n{indented}");
        }
    }
    if is_top && !has("rules") {
        whole += "\nrules: {}\n";
    }
    // Names of providers and files that a snippet leaves out are another matter.
    let elsewhere = [genmake::error::Code::UnknownProvider, genmake::error::Code::MissingInput];
    let files = HashMap::new();
    let (_, found) = genmake::manifest::load("Genfile", &whole, &files).map_err(|e| e.to_string())?;
    match found.into_iter().find(|error| !elsewhere.contains(&error.code)) {
        Some(error) => Err(error.to_string()),
        None => Ok(()),
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "as expect-test does, whose pages these are not")]
fn every_snippet_is_what_it_says() {
    let updates = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    let mut run = 0;
    for path in pages() {
        let markdown = fs_err::read_to_string(&path).expect("text");
        let mut updated = markdown.clone();
        let name = path.file_name().expect("a name").to_string_lossy();
        let mut page = Page { server: Server::start(), project: project() };
        for block in blocks(&markdown) {
            run += 1;
            let Err(Wrong { why, console }) = page.block(&block) else { continue };
            wrong.push(format!("{name}:{}: {why}", block.line));
            if let Some(console) = console.filter(|_| markdown[block.range.clone()] == block.text) {
                // From the end of the page, the places of later blocks are the same in both.
                let from_end = markdown.len() - block.range.end;
                let end = updated.len() - from_end;
                updated.replace_range(end - block.text.len()..end, &console);
            }
        }
        if updates && updated != markdown {
            fs_err::write(&path, updated).expect("a page");
        }
    }
    assert!(run > 15, "only {run} snippets were found");
    assert!(wrong.is_empty(), "{} snippets are wrong:\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn dots_stand_for_what_is_left_out() {
    assert!(fits("a\nb\n", "a\nb \n"));
    assert!(fits("a\n…\nd\n", "a\nb\nc\nd\n"));
    assert!(fits("a\n…\n", "a\n"));
    assert!(fits("a … c\n", "a b c\n"));
    assert!(fits("   render  b\n   render  a\ndone\n", "   render  a\n   render  b\ndone\n"));
    assert!(!fits("b\na\n", "a\nb\n"));
    assert!(!fits("a\n", "a\nb\n"));
    assert!(!fits("a\n…\nd\n", "a\nb\n"));
}

/// The anchors of a page's headings, as GitHub and mdBook make them: small letters, digits, `_` and `-`; a space is `-`, and
/// the second of a name ends in `-1`.
fn anchors(markdown: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut times = HashMap::new();
    let mut heading: Option<String> = None;
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match (event, &mut heading) {
            (Event::Start(Tag::Heading { .. }), _) => heading = Some(String::new()),
            (Event::Text(text) | Event::Code(text), Some(heading)) => *heading += &text,
            (Event::End(TagEnd::Heading(_)), _) => {
                let text = heading.take().unwrap_or_default().to_lowercase().replace(' ', "-");
                let name: String = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, '_' | '-')).collect();
                let count: &mut usize = times.entry(name.clone()).or_default();
                found.push(if *count == 0 { name } else { format!("{name}-{count}") });
                *count += 1;
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_link_leads_somewhere() {
    let mut wrong = Vec::new();
    let mut followed = 0;
    for page in pages() {
        let markdown = fs_err::read_to_string(&page).expect("text");
        for (event, Range { start, .. }) in Parser::new_ext(&markdown, Options::ENABLE_TABLES).into_offset_iter() {
            let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event else { continue };
            if dest_url.contains("://") {
                continue;
            }
            followed += 1;
            let (path, anchor) = dest_url.split_once('#').unwrap_or((&dest_url, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().expect("a folder").join(path) };
            let is_there = match (target.exists(), anchor) {
                (is_there, "") => is_there,
                (false, _) => false,
                _ => anchors(&fs_err::read_to_string(&target).expect("text")).iter().any(|name| name == anchor),
            };
            if !is_there {
                let line = markdown[..start].matches('\n').count() + 1;
                wrong.push(format!("{}:{line}: {dest_url}", page.display()));
            }
        }
    }
    assert!(followed > 50, "only {followed} links were found");
    assert!(wrong.is_empty(), "these links lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn anchors_are_those_of_github() {
    let page = "# A\n## `genmake check`, and -q!\n## 2. One rule\n## Größe\n## A\n";
    assert_eq!(anchors(page), ["a", "genmake-check-and--q", "2-one-rule", "größe", "a-1"]);
}

/// The rows of the page's tables, each by its cells.
fn rows(markdown: &str) -> Vec<Vec<String>> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut in_cell = false;
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::TableRow | Tag::TableHead) => rows.push(Vec::new()),
            Event::Start(Tag::TableCell) => {
                in_cell = true;
                rows.last_mut().expect("a cell stands in a row").push(String::new());
            }
            Event::End(TagEnd::TableCell) => in_cell = false,
            Event::Text(text) | Event::Code(text) if in_cell => {
                *rows.last_mut().and_then(|row| row.last_mut()).expect("a cell") += &text;
            }
            _ => {}
        }
    }
    rows
}

fn doc(name: &str) -> String {
    fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).expect("a page")
}

#[test]
fn every_command_and_option_of_the_help_is_documented() {
    let rows = rows(&doc("commands.md"));
    let is_there = |what: &str| {
        let is_word = |text: &str| text.split([' ', ',', '…', '[', ']', '|', '=']).any(|word| word == what);
        rows.iter().any(|row| row.first().is_some_and(|cell| is_word(cell)))
    };
    let project = project();
    let mut missing = Vec::new();
    let help = project.shell("genmake --help");
    let names = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> =
        names.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"build") && commands.contains(&"plan"), "{help}");
    for command in commands.iter().filter(|command| **command != "help") {
        if !rows.iter().any(|row| row[0].contains(&format!("genmake {command}"))) {
            missing.push(format!("`{command}`"));
        }
        let own = project.shell(&format!("genmake {command} --help"));
        for line in own.lines().chain(help.lines()).map(str::trim_start).filter(|line| line.starts_with('-')) {
            let named =
                line.split([' ', ',', '[']).filter(|word| word.starts_with('-') && word.len() > 1 && *word != "-");
            missing.extend(named.filter(|option| !is_there(option)).map(|option| format!("`{option}` of `{command}`")));
        }
    }
    missing.dedup();
    assert!(missing.is_empty(), "docs/commands.md lacks {}", missing.join(", "));
}

/// Where the reference has the keys of a map, by the key under which the map stands.
const SECTIONS: &[(&str, &str)] = &[
    ("", "Top level"),
    ("include", "include"),
    ("providers", "Providers"),
    ("prices", "Prices and limits"),
    ("limits", "Prices and limits"),
    ("budget", "Budget"),
    ("batching", "Batching"),
    ("batch", "Batching"),
    ("weights", "Who travels together"),
    ("rules", "Rules"),
    ("foreach", "foreach"),
    ("inputs", "Inputs"),
    ("context", "Context"),
    ("check", "check"),
    ("on_error", "on_error"),
    ("embed", "Embeddings"),
    ("items", "foreach"),
];

/// The text below a heading, up to the next.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.lines().find(|line| line.trim_start_matches('#') == format!(" {heading}"));
    let start = start.unwrap_or_else(|| panic!("no heading {heading:?}"));
    let (_, after) = page.split_once(&format!("\n{start}\n")).expect("it is there");
    &after[..after.find("\n#").unwrap_or(after.len())]
}

/// Calls `found` with each key of the schema, the key under which its map stands, and whether it is required.
fn keys(schema: &Value, at: &str, found: &mut impl FnMut(&str, &str, &Value, bool)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
        found(at, name, property, is_required);
        keys(property, name, found);
    }
    let inner = [&schema["additionalProperties"], &schema["items"]];
    let forms =
        inner.into_iter().filter(|inner| inner.is_object()).chain(schema["anyOf"].as_array().into_iter().flatten());
    forms.for_each(|form| keys(form, at, found));
}

/// The words and the ranges that a form allows, as the reference names them.
fn allowed(schema: &Value) -> Vec<String> {
    let words = schema["enum"].as_array().into_iter().flatten().filter_map(|word| Some(word.as_str()?.to_owned()));
    let number = |bound: &str| schema[bound].as_f64();
    let range = number("minimum").zip(number("maximum")).map(|(least, most)| match least == most {
        true => least.to_string(),
        false => format!("number, {least} to {most}"),
    });
    let forms = schema["anyOf"].as_array().into_iter().flatten().chain(schema.get("items"));
    words.chain(range).chain(forms.flat_map(allowed)).collect()
}

#[test]
fn every_key_is_in_the_reference_with_its_default() {
    let page = doc("genfile.md");
    let snippets: String =
        blocks(&page).into_iter().filter(|block| block.info == "yaml").map(|block| block.text).collect();
    let shown: HashSet<&str> = snippets.split(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).collect();
    let mut wrong: Vec<String> = Vec::new();
    let mut seen = 0;
    keys(&genmake::manifest::schema(), "", &mut |at, name, property, is_required| {
        seen += 1;
        let Some((_, heading)) = SECTIONS.iter().find(|(key, _)| *key == at) else {
            return wrong.push(format!("{at}.{name}: no section of the reference is for the keys of `{at}`"));
        };
        let rows = rows(section(&page, heading));
        let Some([_, form, default, about]) = rows.iter().find(|row| row[0] == name).map(Vec::as_slice) else {
            return wrong.push(format!("{at}.{name}: no row of four cells below {heading:?}"));
        };
        if !shown.contains(format!("{name}:").as_str()) {
            wrong.push(format!("{at}.{name}: no snippet of the reference has it"));
        }
        let expected = match (&property["default"], is_required) {
            (_, true) => Some("required".to_owned()),
            (Value::Null, false) => None,
            (Value::String(text), _) => Some(text.clone()),
            (value, _) => Some(value.to_string()),
        };
        let is_default = expected.as_ref().map_or(default != "required", |expected| expected == default);
        if !is_default {
            wrong.push(format!("{at}.{name}: its default is {expected:?}, and the reference says {default:?}"));
        }
        let lacking = allowed(property).into_iter().filter(|word| !form.contains(word.as_str()));
        wrong.extend(lacking.map(|word| format!("{at}.{name}: its type {form:?} lacks {word:?}")));
        if about.is_empty() {
            wrong.push(format!("{at}.{name}: the reference does not say what it means"));
        }
    });
    assert!(seen > 50, "only {seen} keys were found");
    wrong.dedup();
    assert!(wrong.is_empty(), "docs/genfile.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_book() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let summary = fs_err::read_to_string(root.join("SUMMARY.md")).expect("a summary");
    for page in pages().iter().filter(|page| page.starts_with(&root) && !page.ends_with("SUMMARY.md")) {
        let name = page.file_name().expect("a name").to_string_lossy();
        assert!(summary.contains(&format!("({name})")), "SUMMARY.md lacks {name}");
    }
    for event in Parser::new(&summary) {
        if let Event::Start(Tag::Link { dest_url, .. }) = event {
            assert!(root.join(&*dest_url).is_file(), "SUMMARY.md names {dest_url}, which is not there");
        }
    }
}

#[test]
fn what_trust_rests_on_is_tested() {
    let mut wrong = Vec::new();
    let page = doc("trust.md");
    let rows: Vec<Vec<String>> =
        rows(&page).into_iter().filter(|row| row.last().is_some_and(|by| by.contains("::"))).collect();
    assert!(rows.len() >= 15, "{rows:?}");
    for name in rows.iter().filter_map(|row| row.last()).flat_map(|by| by.split_whitespace()) {
        let Some((file, test)) = name.trim_matches('`').split_once("::") else {
            wrong.push(format!("{name} is not FILE::TEST"));
            continue;
        };
        let text = fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default();
        // Between the mark and the function there may be another attribute.
        let is_marked = |above: &str| above.trim_end().lines().rev().take(3).any(|line| line.trim() == "#[test]");
        if !text.split_once(&format!("fn {test}(")).is_some_and(|(above, _)| is_marked(above)) {
            wrong.push(format!("{name} is no test"));
        }
    }
    assert!(wrong.is_empty(), "docs/trust.md:\n{}", wrong.join("\n"));
}
