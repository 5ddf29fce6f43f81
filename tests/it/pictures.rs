//! The pictures of the docs: screens of genmake as it is, drawn as SVG.
//!
//! A test plays each scene and holds its screen against the picture in docs/pictures; `UPDATE_EXPECT=1` draws it anew. Durations
//! differ from run to run, and count for nothing.

use std::fmt::Write as _;
use std::path::Path;

use rustix::process::Signal;

use crate::killed::send;
use crate::project::{Project, mask_durations, updates};
use crate::pty::Terminal;
use crate::server::{Act, Gate, Server};

const COLUMNS: u16 = 100;

/// In the units of a picture.
const LETTER: f64 = 8.4;
const LINE: f64 = 18.0;
const EDGE: f64 = 14.0;

const STYLE: &str = "\
svg { --back: #ffffff; --fore: #1b1f24; --edge: #d0d7de; --soft: #57606a; --red: #c62030; --green: #1a7f37; --yellow: #9a6700; \
--blue: #0550ae; --purple: #8250df; --cyan: #0a7ea4; }
@media (prefers-color-scheme: dark) { svg { --back: #0d1117; --fore: #e6edf3; --edge: #30363d; --soft: #9ba6b2; --red: #ff7b72; \
--green: #56d364; --yellow: #d9a13b; --blue: #6cb6ff; --purple: #bc8cff; --cyan: #4cc2e0; } }
rect { fill: var(--back); stroke: var(--edge); }
text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: var(--fore); white-space: pre; }
.b { font-weight: 700; } .d { fill: var(--soft); }
.c1 { fill: var(--red); } .c2 { fill: var(--green); } .c3 { fill: var(--yellow); } .c4 { fill: var(--blue); } .c5 { fill: var(--purple); } \
.c6 { fill: var(--cyan); }
";

/// A screen as a picture, under the line that was typed.
fn drawn(typed: &str, screen: &vt100::Screen) -> String {
    let (rows, columns) = screen.size();
    let used = (0..rows.get()).rev().find(|row| (0..columns.get()).any(|column| is_used(screen, *row, column)));
    let lines = used.map_or(0, |row| row + 1) + 1;
    let (width, height) = (f64::from(columns.get()) * LETTER + 2.0 * EDGE, f64::from(lines) * LINE + 2.0 * EDGE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} \
         {height:.0}\">\n<style>\n{STYLE}</style>\n<rect x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"6\"/>\n",
        width - 1.0,
        height - 1.0
    );
    let mut line = |at: u16, spans: &str| {
        let y = EDGE + f64::from(at) * LINE + 13.0;
        writeln!(svg, "<text x=\"{EDGE:.0}\" y=\"{y:.0}\" xml:space=\"preserve\">{spans}</text>")
            .expect("a string takes all");
    };
    line(0, &format!("<tspan class=\"d\">$</tspan> <tspan class=\"b\">{}</tspan>", escaped(typed)));
    for row in 0..lines - 1 {
        line(row + 1, &spans(screen, row));
    }
    svg + "</svg>\n"
}

fn is_used(screen: &vt100::Screen, row: u16, column: u16) -> bool {
    screen.cell(row, column).is_some_and(|cell| !cell.contents().trim().is_empty())
}

/// What is in a row, a piece for each way in which it is written.
fn spans(screen: &vt100::Screen, row: u16) -> String {
    let columns = screen.size().1.get();
    let end = (0..columns).rev().find(|column| is_used(screen, row, *column)).map_or(0, |column| column + 1);
    let mut pieces: Vec<(String, String)> = Vec::new();
    for cell in (0..end).filter_map(|column| screen.cell(row, column)) {
        if cell.is_wide_continuation() {
            continue;
        }
        let mut class = match cell.fgcolor() {
            vt100::Color::Idx(color) => format!("c{}", color % 8),
            _ => String::new(),
        };
        class += if cell.bold() { " b" } else { "" };
        class += if cell.dim() { " d" } else { "" };
        let text = if cell.contents().is_empty() { " " } else { cell.contents() };
        match pieces.last_mut() {
            Some((last, piece)) if *last == class => piece.push_str(text),
            _ => pieces.push((class, text.to_owned())),
        }
    }
    let piece = |(class, text): &(String, String)| match class.trim() {
        "" => escaped(text),
        class => format!("<tspan class=\"{class}\">{}</tspan>", escaped(text)),
    };
    pieces.iter().map(piece).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Holds a picture of the docs against what is on the screen now.
#[track_caller]
fn is_pictured(name: &str, picture: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures").join(name);
    if updates() {
        fs_err::write(&file, picture).expect("a picture");
    }
    let there = fs_err::read_to_string(&file).unwrap_or_default();
    // Where a line stands may differ: what several threads say comes as it comes.
    let plain = |text: &str| -> Vec<String> {
        let is_told_apart = |line: &&str| !line.contains("slowest") && !line.contains("<svg ");
        let words = |line: &str| {
            mask_durations(line.split_once(" y=").map_or(line, |(_, rest)| &rest[rest.find('>').unwrap_or(0)..]))
        };
        let mut lines: Vec<String> = text.lines().filter(is_told_apart).map(words).collect();
        lines.sort();
        lines
    };
    assert_eq!(plain(&there), plain(picture), "`UPDATE_EXPECT=1` draws docs/pictures/{name} anew");
}

/// A handbook of a shop: a page for each of eight entities, and an index of them. Its model is priced.
fn handbook(server: &Server) -> Project {
    server.reply(|_, slot| {
        format!("# {}\n\nWhat it is, who needs it, and what follows from it.\n", slot.unwrap_or("Page"))
    });
    let about = [
        ("Author", "writes books"),
        ("Book", "is sold"),
        ("Customer", "buys books"),
        ("Invoice", "asks for money"),
        ("Order", "is what a customer sent"),
        ("Payment", "settles an invoice"),
        ("Review", "says what a customer thinks of a book"),
        ("Shipment", "brings an order"),
    ];
    let entities: String = about.iter().map(|(name, text)| format!("  {name}: {{ about: {text} }}\n")).collect();
    let project = Project::new()
        .genfile_for(
            server,
            "version: 1\nprovider: claude\nproviders:\n  claude: {api: openai, base_url: \"{base_url}\", model: m, in_flight: 1, \
             prices: {input: 3, output: 15}}\nrules:\n  index:\n    output: docs/index.md\n    inputs: {shop: spec/shop.yaml}\n    \
             template: templates/index.hbs\n  pages:\n    foreach: spec/shop.yaml#/entities/*\n    output: \
             \"docs/{{kebab_case item.key}}.md\"\n    prompt: prompts/page.prompt\n    batching: {max_batch_size: 3}\n",
        )
        .file("spec/shop.yaml", &format!("entities:\n{entities}"))
        .file("templates/index.hbs", "# The shop\n{{#each inputs.shop.data.entities}}\n- {{@key}}: {{this.about}}\n{{/each}}\n")
        .file(
            "prompts/page.prompt",
            "{{role \"system\"}}\nYou write the handbook of a bookshop.\n{{role \"user\"}}\nWrite about {{item.key}}: it \
             {{item.value.about}}.\n",
        );
    project.env("TERM", "xterm-256color").env("NO_COLOR", "")
}

/// Plays a command to its end, and holds its picture.
#[track_caller]
fn ends_as(name: &str, p: &Project, args: &[&str]) {
    let terminal = Terminal::start(p, COLUMNS, args.iter().copied());
    let screen = terminal.ends().parsed;
    is_pictured(name, &drawn(&["genmake"].iter().chain(args).copied().collect::<Vec<_>>().join(" "), &screen));
}

#[test]
fn a_first_day() {
    let server = Server::start();
    let p = handbook(&server);
    ends_as("help.svg", &p, &["help"]);
    ends_as("plan.svg", &p, &["plan"]);
    ends_as("build.svg", &p, &[]);
    p.edit("spec/shop.yaml", &p.read("spec/shop.yaml").replace("brings an order", "brings an order to its customer"));
    ends_as("explain.svg", &p, &["explain", "docs/shipment.md"]);
    p.edit("Genfile", &p.read("Genfile").replace("templates/index.hbs", "templates/idnex.hbs"));
    ends_as("mistake.svg", &p, &["check"]);
}

#[test]
fn a_run_that_is_interrupted() {
    let server = Server::start();
    let p = handbook(&server);
    let gate = Gate::new();
    server.script([Act::Default, Act::Hold(gate.clone())]);
    let terminal = Terminal::start(&p, COLUMNS, []);
    server.wait_for(2);
    terminal.wait_for(|screen| screen.contains("request 2, 2s"));
    is_pictured("progress.svg", &drawn("genmake", &terminal.screen()));
    send(Signal::INT, &terminal.child);
    terminal.wait_for(|screen| screen.contains("Ctrl-C again stops at once"));
    gate.open();
    is_pictured("interrupted.svg", &drawn("genmake", &terminal.ends().parsed));
}

#[test]
fn every_picture_is_in_the_docs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = fs_err::read_to_string(root.join("README.md")).expect("the README");
    for page in fs_err::read_dir(root.join("docs")).expect("the docs").flatten() {
        pages += &fs_err::read_to_string(page.path()).unwrap_or_default();
    }
    for picture in fs_err::read_dir(root.join("docs/pictures")).expect("the pictures").flatten() {
        let name = picture.file_name().to_string_lossy().into_owned();
        assert!(pages.contains(&format!("pictures/{name})")), "{name} is shown nowhere");
    }
}
