//! `check --format github|gitlab|sarif`: what is not up to date, as CI shows it beside the lines that are concerned.
//!
//! Each finding has one place: the line of a rule in its Genfile, an output, or where a mistake is. Paths are relative to the
//! repository, not to the Genfile.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::args::Format;
use super::verdicts::{Row, mistakes as mistakes_of, to_do};
use crate::digest::Framed;
use crate::error::{Error, Errors, Place};
use crate::packs;
use crate::project::{Location, Planned};
use crate::ui;
use crate::wording;

/// GitHub shows no more of one step.
const MOST: usize = 10;

/// How many names a message lists.
const MOST_NAMES: usize = 3;

/// Something to be shown beside a line.
struct Finding {
    /// What kind of thing: a status, or an error's code.
    kind: String,
    title: String,
    message: String,
    /// Relative to the repository; none of a mistake that is in no file.
    file: Option<String>,
    region: Region,
    /// Whether it is no more than worth knowing.
    is_minor: bool,
}

/// Where in a file, from 1.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Region {
    start_line: usize,
    #[serde(skip_serializing_if = "is_zero")]
    start_column: usize,
    #[serde(skip_serializing_if = "is_zero")]
    end_line: usize,
    #[serde(skip_serializing_if = "is_zero")]
    end_column: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Format {
    /// Whether it is one of those that CI reads.
    pub(super) fn is_of_ci(self) -> bool {
        matches!(self, Format::Github | Format::Gitlab | Format::Sarif)
    }
}

/// Prints what is not up to date. `list` is all of it for people.
pub(super) fn verdicts(format: Format, planned: &Planned, rows: &[Row], list: &str) {
    let location = planned.location();
    let prefix = prefix(&location.root);
    let mut findings = rules(planned, rows, &prefix, &location.name);
    let made = rows.iter().filter(|row| row.status != "failed");
    findings.extend(made.flat_map(|row| row.outputs.iter().map(|output| of_output(row, output, &prefix))));
    let mut failed: Vec<Finding> = mistakes_of(planned).into_iter().map(|error| of_error(error, &prefix)).collect();
    findings.extend(planned.plan.orphans.iter().map(|orphan| Finding {
        kind: "orphan".to_owned(),
        title: "genmake: orphan".to_owned(),
        message: format!("`{}`: {}", orphan.path, wording::orphan(orphan)),
        file: Some(format!("{prefix}{}", orphan.path)),
        region: Region { start_line: 1, ..Region::default() },
        is_minor: true,
    }));
    failed.extend(findings);
    let count = rows.len() + planned.plan.orphans.len();
    let summary =
        format!("{} not up to date: {}", is_or_are(count), to_do(rows, "run `genmake` and commit what it writes"));
    print(format, &failed, (count > 0).then_some((summary.as_str(), list)));
}

/// Prints the mistakes for which there is no verdict.
pub(super) fn mistakes(format: Format, location: Option<&Location>, errors: &Errors) {
    let prefix = location.map(|location| prefix(&location.root)).unwrap_or_default();
    let findings: Vec<Finding> = errors.0.iter().map(|error| of_error(error, &prefix)).collect();
    print(format, &findings, None);
}

/// Prints that there is nothing to be shown.
pub(super) fn none(format: Format) {
    print(format, &[], None);
}

fn is_or_are(count: usize) -> String {
    format!("{} {}", ui::count(count, "target"), if count == 1 { "is" } else { "are" })
}

/// A finding for each rule that has something to be made, at its line.
fn rules(planned: &Planned, rows: &[Row], prefix: &str, genfile: &str) -> Vec<Finding> {
    let mut by_rule: BTreeMap<usize, Vec<&Row>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.status != "failed") {
        by_rule.entry(planned.graph().tasks[row.task].rule).or_default().push(row);
    }
    let finding = |(rule, rows): (usize, Vec<&Row>)| {
        let rule = &planned.graph().manifest.rules[rule];
        let mut names: Vec<String> = rows.iter().take(MOST_NAMES).map(|row| format!("`{}`", row.name())).collect();
        if rows.len() > MOST_NAMES {
            names.push("…".to_owned());
        }
        let (file, region) = place(&rule.place, prefix)
            .unwrap_or_else(|| (format!("{prefix}{genfile}"), Region { start_line: 1, ..Region::default() }));
        Finding {
            kind: rows[0].status.to_owned(),
            title: format!("genmake: rule {}", rule.name),
            message: format!("{} not up to date: {}", is_or_are(rows.len()), names.join(", ")),
            file: Some(file),
            region,
            is_minor: false,
        }
    };
    by_rule.into_iter().map(finding).collect()
}

fn of_output(row: &Row, output: &str, prefix: &str) -> Finding {
    let (why, then) = match row.status {
        "edited" => (" by hand".to_owned(), "`genmake diff` shows the edit, `genmake accept` keeps it"),
        _ if row.reasons.is_empty() => (String::new(), "run `genmake`"),
        _ => (format!(": {}", row.reasons.join("; ")), "run `genmake`"),
    };
    Finding {
        kind: row.status.to_owned(),
        title: format!("genmake: {}", row.status),
        message: format!("`{output}` is {}{why}; {then}", row.status),
        file: Some(format!("{prefix}{output}")),
        region: Region { start_line: 1, ..Region::default() },
        is_minor: false,
    }
}

fn of_error(error: &Error, prefix: &str) -> Finding {
    let (file, region) = error.place.as_ref().and_then(|at| place(at, prefix)).unzip();
    let hints: String = error.hints.iter().map(|hint| format!("\n{hint}")).collect();
    Finding {
        kind: error.code.as_str().to_owned(),
        title: error.code.as_str().to_owned(),
        message: error.message.clone() + &hints,
        file,
        region: region.unwrap_or_default(),
        is_minor: false,
    }
}

/// A place in a file of the repository; none of one that ships with genmake.
fn place(place: &Place, prefix: &str) -> Option<(String, Region)> {
    let source = &place.source;
    if packs::is_shipped(&source.name) {
        return None;
    }
    let (start_line, start_column) = source.line_column(place.span.start);
    let (end_line, end_column) = source.line_column(place.span.end.max(place.span.start));
    Some((format!("{prefix}{}", source.name), Region { start_line, start_column, end_line, end_column }))
}

/// Where a root lies below the top of its repository: empty, or ending in a slash.
fn prefix(root: &Path) -> String {
    let top = root.ancestors().find(|folder| folder.join(".git").exists());
    let below = top.and_then(|top| root.strip_prefix(top).ok());
    let parts: Vec<String> =
        below.into_iter().flatten().map(|part| part.to_string_lossy().into_owned() + "/").collect();
    parts.concat()
}

/// Prints findings, and for GitHub what a person is to do and all of it as a list.
fn print(format: Format, findings: &[Finding], summary: Option<(&str, &str)>) {
    match format {
        Format::Gitlab => ui::out(&pretty(&findings.iter().map(Finding::quality).collect::<Vec<_>>())),
        Format::Sarif => ui::out(&pretty(&log(findings))),
        _ => {
            let mut text: String = findings.iter().take(MOST).map(Finding::command).collect();
            if let Some((what, list)) = summary {
                // A reason may quote anything, commands of GitHub's too.
                let end = Framed::new("genmake-list-1").field(list).finish().short();
                text += &format!("::group::{}\n::stop-commands::{end}\n{list}::{end}::\n::endgroup::\n", data(what));
            } else if findings.len() > MOST {
                text += &format!("{} more\n", ui::count(findings.len() - MOST, "mistake"));
            }
            ui::out(&ui::sanitize(&text));
        }
    }
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

impl Finding {
    /// A command of GitHub's workflows.
    fn command(&self) -> String {
        let Region { start_line, start_column, end_line, end_column } = self.region;
        let mut properties = Vec::new();
        if let Some(file) = &self.file {
            properties.push(format!("file={}", property(file)));
            let numbers =
                [("line", start_line), ("endLine", end_line), ("col", start_column), ("endColumn", end_column)];
            // Columns count only within one line.
            let is_said = |name: &str| !name.ends_with("ol") && name != "endColumn" || start_line == end_line;
            let said = numbers.into_iter().filter(|(name, number)| *number > 0 && is_said(name));
            properties.extend(said.map(|(name, number)| format!("{name}={number}")));
        }
        properties.push(format!("title={}", property(&self.title)));
        let level = if self.is_minor { "warning" } else { "error" };
        format!("::{level} {}::{}\n", properties.join(","), data(&self.message))
    }

    /// An issue of GitLab's reports on code quality. It has to be in a file.
    fn quality(&self) -> Quality<'_> {
        let path = self.file.as_deref().unwrap_or("Genfile");
        Quality {
            description: &self.message,
            check_name: &self.kind,
            fingerprint: self.fingerprint(),
            severity: match (self.is_minor, self.kind.starts_with("genmake::")) {
                (true, _) => "minor",
                (false, true) => "critical",
                (false, false) => "major",
            },
            location: QualityPlace { path, lines: Lines { begin: self.region.start_line.max(1) } },
        }
    }

    /// A result of SARIF's.
    fn outcome(&self) -> Outcome<'_> {
        let spot = |file: &String| Spot {
            physical_location: Physical {
                artifact_location: Artifact { uri: uri(file), uri_base_id: "%SRCROOT%" },
                region: Some(&self.region).filter(|region| region.start_line > 0),
            },
        };
        Outcome {
            rule_id: &self.kind,
            level: if self.is_minor { "warning" } else { "error" },
            message: Message { text: &self.message },
            locations: self.file.iter().map(spot).collect(),
            partial_fingerprints: [("genmake/v1", self.fingerprint())].into(),
        }
    }

    /// What tells it from all others, and stays if only lines move.
    fn fingerprint(&self) -> String {
        let file = self.file.as_deref().unwrap_or_default();
        let fields = [self.kind.as_str(), &self.title, file, &self.message];
        let framed = fields.iter().fold(Framed::new("genmake-finding-1"), |framed, field| framed.field(field));
        framed.finish().to_string().trim_start_matches("sha256:").to_owned()
    }
}

/// As the text of a workflow command.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As a property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[derive(Serialize)]
struct Quality<'a> {
    description: &'a str,
    check_name: &'a str,
    fingerprint: String,
    severity: &'static str,
    location: QualityPlace<'a>,
}

#[derive(Serialize)]
struct QualityPlace<'a> {
    path: &'a str,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: usize,
}

/// A log in SARIF 2.1.0.
#[derive(Serialize)]
struct Log<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    version: &'static str,
    runs: [Run<'a>; 1],
}

#[derive(Serialize)]
struct Run<'a> {
    tool: Tool<'a>,
    results: Vec<Outcome<'a>>,
    #[serde(rename = "columnKind")]
    column_kind: &'static str,
}

#[derive(Serialize)]
struct Tool<'a> {
    driver: Driver<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Driver<'a> {
    name: &'static str,
    semantic_version: &'static str,
    rules: Vec<Kind<'a>>,
}

#[derive(Serialize)]
struct Kind<'a> {
    id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    rule_id: &'a str,
    level: &'static str,
    message: Message<'a>,
    locations: Vec<Spot<'a>>,
    partial_fingerprints: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Message<'a> {
    text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spot<'a> {
    physical_location: Physical<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Physical<'a> {
    artifact_location: Artifact,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a Region>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Artifact {
    uri: String,
    uri_base_id: &'static str,
}

fn log(findings: &[Finding]) -> Log<'_> {
    let mut kinds: Vec<&str> = findings.iter().map(|finding| finding.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let driver = Driver {
        name: "genmake",
        semantic_version: env!("CARGO_PKG_VERSION"),
        rules: kinds.into_iter().map(|id| Kind { id }).collect(),
    };
    let results = findings.iter().map(Finding::outcome).collect();
    Log {
        schema: "https://json.schemastore.org/sarif-2.1.0.json",
        version: "2.1.0",
        runs: [Run { tool: Tool { driver }, results, column_kind: "unicodeCodePoints" }],
    }
}

/// A relative path as a URI.
fn uri(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_in_a_command_stays_in_its_place() {
        let region = Region { start_line: 3, start_column: 2, end_line: 3, end_column: 9 };
        let finding = Finding {
            kind: "stale".to_owned(),
            title: "a, b: c".to_owned(),
            message: "50 %\r\n::error::no".to_owned(),
            file: Some("a,b:%.md".to_owned()),
            region,
            is_minor: false,
        };
        let expected = "::error file=a%2Cb%3A%25.md,line=3,endLine=3,col=2,endColumn=9,title=a%2C b%3A c::50 %25%0D%0A::error::no\n";
        assert_eq!(finding.command(), expected);
        let finding = Finding { file: None, is_minor: true, ..finding };
        assert_eq!(finding.command(), "::warning title=a%2C b%3A c::50 %25%0D%0A::error::no\n");
        assert_eq!(uri("a b/ä%.md"), "a%20b/%C3%A4%25.md");
    }
}
