//! The sections of a Markdown file. A heading in a code fence, a quote or a list is none of the file's. What reads it is behind the
//! feature `markdown`.

use std::collections::HashMap;

use super::{Part, Passage, some};
use crate::error::did_you_mean;
use crate::path::RelPath;

/// Whether a file of this name is read as Markdown.
pub(super) fn is_markdown(path: &RelPath) -> bool {
    matches!(path.ext(), "md" | "markdown")
}

/// Whether this build reads Markdown at all.
pub(super) const ARE_READ: bool = cfg!(feature = "markdown");

/// A Markdown file, parsed.
pub(super) struct Sections {
    text: String,
    list: Vec<Section>,
    by_key: HashMap<String, usize>,
    /// Several headings may have one name; in the order of the file.
    by_name: HashMap<String, Vec<usize>>,
}

struct Section {
    key: String,
    name: String,
    /// 1 for the highest.
    level: u8,
    line: usize,
    start: usize,
    /// Where the sections below it end, in the list.
    end: usize,
}

impl Sections {
    pub fn new(text: String) -> Sections {
        let mut list = headings(&text);
        // What is open is ended by the next heading of its own or a higher level.
        let mut open: Vec<usize> = Vec::new();
        for at in 0..list.len() {
            while let Some(above) = open.pop_if(|above| list[*above].level >= list[at].level) {
                list[above].end = at;
            }
            open.push(at);
        }
        let count = list.len();
        open.into_iter().for_each(|at| list[at].end = count);
        let mut by_key = HashMap::new();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, section) in list.iter().enumerate() {
            by_key.insert(section.key.clone(), at);
            by_name.entry(section.name.clone()).or_default().push(at);
        }
        Sections { text, list, by_key, by_name }
    }

    /// Each section with its own text only, so that no two overlap; or the one at the end of `headings`, with all below it.
    ///
    /// # Errors
    /// A heading that is not there: what, in words, and what may have been meant.
    pub fn select(&self, headings: &[String]) -> Result<Vec<Part>, (String, Option<String>)> {
        if headings.is_empty() {
            return Ok((0..self.list.len()).map(|at| self.part(at, at + 1)).collect());
        }
        let mut found = None;
        let mut within = 0..self.list.len();
        for heading in headings {
            let Some(at) = self.find(heading, within.clone()) else {
                let here = &self.list[within];
                let there = match here.is_empty() {
                    true => "there is none".to_owned(),
                    false => format!("there is {}", some(here.iter().map(|section| section.key.as_str()))),
                };
                let place = found.map_or(String::new(), |at: usize| format!(" below `{}`", self.list[at].name));
                let near = did_you_mean(heading, here.iter().map(|section| section.key.as_str()));
                return Err((format!("no heading `{heading}`{place}; {there}"), near));
            };
            within = at + 1..self.list[at].end;
            found = Some(at);
        }
        Ok(found.map(|at| self.part(at, self.list[at].end)).into_iter().collect())
    }

    fn find(&self, heading: &str, within: std::ops::Range<usize>) -> Option<usize> {
        if let Some(at) = self.by_key.get(heading).filter(|at| within.contains(at)) {
            return Some(*at);
        }
        let all = self.by_name.get(heading)?;
        all.get(all.partition_point(|at| *at < within.start)).copied().filter(|at| within.contains(at))
    }

    /// The text from one section up to another, without empty lines at the end: what follows does not change it.
    fn part(&self, at: usize, end: usize) -> Part {
        let section = &self.list[at];
        let end = self.list.get(end).map_or(self.text.len(), |next| next.start);
        let text = format!("{}\n", self.text[section.start..end].trim_end());
        let passage = Passage { name: section.name.clone(), line: section.line, definition: None };
        Part { keys: vec![section.key.clone()], value: text.into(), passage: Some(passage) }
    }
}

/// None: this build was made without the feature `markdown`.
#[cfg(not(feature = "markdown"))]
fn headings(_: &str) -> Vec<Section> {
    Vec::new()
}

#[cfg(feature = "markdown")]
fn headings(text: &str) -> Vec<Section> {
    use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};

    // Front matter would else be read as a heading: its last line has a rule below it.
    let options = Options::ENABLE_YAML_STYLE_METADATA_BLOCKS | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    let mut list: Vec<Section> = Vec::new();
    let mut keys = super::Keys::default();
    let (mut line, mut counted) = (1, 0);
    let mut around = 0_usize;
    let mut open: Option<(HeadingLevel, usize, String)> = None;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(Tag::BlockQuote(_) | Tag::List(_)) => around += 1,
            Event::End(TagEnd::BlockQuote(_) | TagEnd::List(_)) => around = around.saturating_sub(1),
            Event::Start(Tag::Heading { level, .. }) if around == 0 => open = Some((level, range.start, String::new())),
            Event::End(TagEnd::Heading(_)) => {
                let Some((level, start, name)) = open.take() else { continue };
                let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
                let start = text[..start].rfind('\n').map_or(0, |at| at + 1);
                line += text[counted..start].matches('\n').count();
                counted = start;
                list.push(Section { key: keys.unique(&name), name, level: level as u8, line, start, end: 0 });
            }
            Event::Text(part) | Event::Code(part) => {
                if let Some((_, _, name)) = &mut open {
                    name.push_str(&part);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some((_, _, name)) = &mut open {
                    name.push(' ');
                }
            }
            _ => {}
        }
    }
    list
}

#[cfg(feature = "markdown")]
#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    const TEXT: &str = r#"---
title: not a heading
---
Before all.

# The *shop* `go`

Intro.

```md
# not a heading
```

Install it
==========

> # quoted
>
> - # listed

## Usage ##
use

### Deep
d

## Options
o
# API
## Usage

api


"#;

    fn show(parts: Vec<Part>) -> String {
        let line = |part: &Part| {
            let passage = part.passage.as_ref().unwrap();
            format!("{} {} ({}): {}\n", passage.line, part.key(), passage.name, part.value)
        };
        parts.iter().map(line).collect()
    }

    #[track_caller]
    fn found(headings: &[&str], expected: Expect) {
        let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
        let found = match Sections::new(TEXT.to_owned()).select(&headings) {
            Ok(parts) => show(parts),
            Err((what, hint)) => format!("{what} ({hint:?})\n"),
        };
        expected.assert_eq(&found);
    }

    #[test]
    fn listed_sections_have_their_own_text() {
        found(
            &[],
            expect![[r####"
            6 The shop go (The shop go): "# The *shop* `go`\n\nIntro.\n\n```md\n# not a heading\n```\n"
            14 Install it (Install it): "Install it\n==========\n\n> # quoted\n>\n> - # listed\n"
            21 Usage (Usage): "## Usage ##\nuse\n"
            24 Deep (Deep): "### Deep\nd\n"
            27 Options (Options): "## Options\no\n"
            29 API (API): "# API\n"
            30 Usage-2 (Usage): "## Usage\n\napi\n"
        "####]],
        );
    }

    #[test]
    fn a_named_section_has_all_below_it() {
        found(
            &["Install it"],
            expect![[r#"
            14 Install it (Install it): "Install it\n==========\n\n> # quoted\n>\n> - # listed\n\n## Usage ##\nuse\n\n### Deep\nd\n\n## Options\no\n"
        "#]],
        );
        found(
            &["Usage"],
            expect![[r###"
            21 Usage (Usage): "## Usage ##\nuse\n\n### Deep\nd\n"
        "###]],
        );
        found(
            &["Usage-2"],
            expect![[r###"
            30 Usage-2 (Usage): "## Usage\n\napi\n"
        "###]],
        );
        found(
            &["API", "Usage"],
            expect![[r###"
            30 Usage-2 (Usage): "## Usage\n\napi\n"
        "###]],
        );
        found(
            &["Install it", "Deep"],
            expect![[r####"
            24 Deep (Deep): "### Deep\nd\n"
        "####]],
        );
    }

    #[test]
    fn a_heading_that_is_not_there_is_said() {
        found(
            &["Instal it"],
            expect![[r#"
            no heading `Instal it`; there is `The shop go`, `Install it`, `Usage`, `Deep`, `Options`, `API`, `Usage-2` (Some("did you mean `Install it`?"))
        "#]],
        );
        found(
            &["API", "Options"],
            expect![[r#"
            no heading `Options` below `API`; there is `Usage-2` (None)
        "#]],
        );
        found(
            &["Usage-2", "x"],
            expect![[r#"
            no heading `x` below `Usage`; there is none (None)
        "#]],
        );
    }

    #[test]
    fn listed_sections_are_the_whole_text_behind_the_first_heading() {
        let sections = Sections::new(TEXT.to_owned());
        let all: String =
            sections.select(&[]).unwrap().iter().map(|part| part.value.as_str().unwrap().to_owned()).collect();
        let lines = |text: &str| text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(&all), lines(&TEXT[TEXT.find("# The").unwrap()..]));
        assert!(Sections::new(String::new()).select(&[]).unwrap().is_empty());
    }
}
