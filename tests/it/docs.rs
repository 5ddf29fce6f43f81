//! Every snippet of the docs is what it says: files are written, commands are run and their output compared, Genfiles are held
//! against the language, data is parsed.
//!
//! What a fenced block is stands after its first word:
//!
//! - `LANG file=PATH` is written to that file of the page's project; with `new`, a project of its own begins there;
//! - `console` is lines that start with `$ `, and below each what it prints: `…` stands for any text, alone for any lines;
//! - `yaml` is a Genfile or rules of one, `yaml data` any YAML; `json`, `toml` and `hbs` are what they are called;
//! - `text`, `sh`, `rust`, `make` and `gitignore` are for reading only.
//!
//! The provider of a page is the tests' own: `http://127.0.0.1:8080/v1` in a file stands for its address.

use std::ops::Range;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};

use crate::project::{Project, mask_durations};
use crate::server::Server;

struct Block {
    /// From 1.
    line: usize,
    info: String,
    text: String,
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (event, Range { start, .. }) in Parser::new(markdown).into_offset_iter() {
        match (event, &mut open) {
            (Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))), _) => {
                let line = markdown[..start].matches('\n').count() + 1;
                open = Some(Block { line, info: info.to_string(), text: String::new() });
            }
            (Event::Text(text), Some(block)) => block.text += &text,
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
    name: String,
    server: Server,
    project: Project,
}

impl Page {
    fn block(&mut self, block: &Block) -> Result<(), String> {
        let mut words = block.info.split_whitespace();
        let language = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        if words.contains(&"new") {
            self.project = Project::new();
        }
        if let Some(path) = words.iter().find_map(|word| word.strip_prefix("file=")) {
            self.project.edit(path, &block.text.replace(ADDRESS, &self.server.base_url()));
            return Ok(());
        }
        match language {
            "console" => self.console(&block.text),
            "yaml" if words.contains(&"data") => genmake::yaml::data(&block.text).map(drop).map_err(|e| e.message),
            "yaml" => genfile(&block.text),
            "json" => serde_json::from_str::<serde_json::Value>(&block.text).map(drop).map_err(|e| e.to_string()),
            "toml" => toml::from_str::<toml::Table>(&block.text).map(drop).map_err(|e| e.to_string()),
            "hbs" => genmake::expr::Template::prompt(&block.text, &[]).map(drop).map_err(|e| e.message()),
            "text" | "sh" | "rust" | "make" | "gitignore" => Ok(()),
            other => Err(format!("`{other}` says not what the block is; see tests/it/docs.rs")),
        }
    }

    fn console(&self, text: &str) -> Result<(), String> {
        let mut commands: Vec<(&str, String)> = Vec::new();
        for line in text.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push((command, String::new())),
                (None, Some((_, expected))) => *expected += &format!("{line}\n"),
                (None, None) => return Err("a console starts with a line `$ COMMAND`".to_owned()),
            }
        }
        for (command, expected) in commands {
            let actual = self.project.shell(command);
            let expected = mask_durations(&expected);
            if !fits(&expected, &actual) {
                return Err(format!("`{command}` prints\n{actual}\nand not\n{expected}"));
            }
        }
        Ok(())
    }
}

/// Whether `actual` is `expected`, whose `…` stand for anything, trailing space aside.
fn fits(expected: &str, actual: &str) -> bool {
    let trimmed = |text: &str| text.lines().map(|line| line.trim_end().to_owned() + "\n").collect::<String>();
    let (expected, actual) = (trimmed(expected), trimmed(actual));
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

/// A Genfile, or some of its keys, or rules of one: everything in it is of the language.
fn genfile(text: &str) -> Result<(), String> {
    const TOP: [&str; 7] = ["version", "vars", "provider", "providers", "batching", "include", "rules"];
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
    let files = std::collections::HashMap::new();
    let (_, found) = genmake::manifest::load("Genfile", &whole, &files).map_err(|e| e.to_string())?;
    match found.into_iter().find(|error| !elsewhere.contains(&error.code)) {
        Some(error) => Err(error.to_string()),
        None => Ok(()),
    }
}

#[test]
fn every_snippet_is_what_it_says() {
    let mut wrong = Vec::new();
    let mut run = 0;
    for path in pages() {
        let markdown = fs_err::read_to_string(&path).expect("text");
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let mut page = Page { name, server: Server::start(), project: Project::new() };
        for block in blocks(&markdown) {
            run += 1;
            if let Err(why) = page.block(&block) {
                wrong.push(format!("{}:{}: {why}", page.name, block.line));
            }
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
    assert!(!fits("a\n", "a\nb\n"));
    assert!(!fits("a\n…\nd\n", "a\nb\n"));
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
