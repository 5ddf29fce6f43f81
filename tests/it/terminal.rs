//! A run as a person sees it on a terminal: its status at each width, Ctrl-C, colors, and names that are not plain.

use rustix::process::Signal;

use crate::killed::send;
use crate::project::Project;
use crate::pty::Terminal;
use crate::server::{Act, Gate, Server};
use crate::shop::{page, shop_with};

/// A shop on a terminal, whose second request of three is held until its gate opens.
fn held(pages: usize, columns: u16) -> (Server, Project, Gate, Terminal) {
    let server = Server::start();
    let p = shop_with(&server, pages, "in_flight: 1", "batching: {max_batch_size: 2}").env("TERM", "xterm");
    let gate = Gate::new();
    server.script([Act::Default, Act::Hold(gate.clone())]);
    let terminal = Terminal::start(&p, columns, []);
    server.wait_for(2);
    (server, p, gate, terminal)
}

#[test]
fn the_status_fits_each_width_and_is_gone_at_the_end() {
    for columns in [40, 80, 120] {
        let (_server, p, gate, terminal) = held(6, columns);
        let is_shown = |screen: &str| {
            screen.contains("3 of 7 · ") && ["1 request, 2s", "request 2, 2s:"].iter().any(|part| screen.contains(part))
        };
        let screen = terminal.wait_for(is_shown);
        let status: Vec<&str> = screen.trim_end().lines().skip_while(|line| !line.starts_with("3 of 7 · ")).collect();
        match columns {
            40 => assert_eq!(status.len(), 1, "{screen}"),
            _ => assert!(
                status.len() == 2 && status[1].starts_with("  request 2, 2s: p for docs/e3.md, docs/e4.md"),
                "{screen}"
            ),
        }
        gate.open();
        let ended = terminal.ends();
        assert!(ended.status.success() && ended.screen.contains("done: 6 generated, 1 rendered"), "{}", ended.screen);
        assert!(!ended.screen.contains("of 7 ·"), "{}", ended.screen);
        assert_eq!(p.read("docs/e6.md"), page("e6", "about e6"));
    }
}

#[test]
fn ctrl_c_begins_nothing_new_and_keeps_what_is_under_way() {
    let (server, p, gate, terminal) = held(6, 80);
    terminal.wait_for(|screen| screen.contains("of 7 ·"));
    terminal.ctrl_c();
    terminal.wait_for(|screen| {
        screen.contains("ending  waits for 1 request, begins nothing new; Ctrl-C again stops at once")
    });
    gate.open();
    let ended = terminal.ends();
    assert_eq!(ended.signal(), Some(Signal::INT.as_raw()));
    assert!(ended.screen.contains("interrupted: 4 generated, 1 rendered, 2 skipped"), "{}", ended.screen);
    assert!(!ended.screen.contains("of 7 ·"), "{}", ended.screen);
    assert_eq!(server.count(), 2);
    assert_eq!(p.read("docs/e4.md"), page("e4", "about e4"));
    // What was paid for is not asked for again.
    p.run([]).stderr_has("done: 2 generated, 5 fresh").exits(0);
    assert_eq!(server.count(), 3);
}

#[test]
fn ctrl_c_twice_stops_at_once() {
    let (server, p, gate, terminal) = held(6, 40);
    terminal.wait_for(|screen| screen.contains("of 7 ·"));
    terminal.ctrl_c();
    terminal.wait_for(|screen| {
        screen.replace('\n', "").contains("Ctrl-C again stops at once") && screen.contains("ending ·")
    });
    terminal.ctrl_c();
    let ended = terminal.ends();
    assert_eq!(ended.signal(), Some(Signal::INT.as_raw()));
    assert!(ended.screen.contains("interrupted: 2 generated"), "{}", ended.screen);
    assert!(!ended.screen.contains("of 7 ·") && !ended.screen.contains("ending ·"), "{}", ended.screen);
    assert_eq!(server.count(), 2);
    assert!(p.read("Genfile.lock").contains("docs/e1.md "), "what is there stands in the lock");
    drop(gate);
}

#[test]
fn a_signal_of_a_program_is_not_kept_waiting() {
    let (_server, _p, gate, terminal) = held(4, 80);
    send(Signal::TERM, &terminal.child);
    let ended = terminal.ends();
    assert_eq!(ended.signal(), Some(Signal::TERM.as_raw()));
    assert!(ended.screen.contains("interrupted: 2 generated"), "{}", ended.screen);
    drop(gate);
}

const TEMPLATES: &str =
    "version: 1\nrules:\n  a: {foreach: [日本, שלום], template: t.hbs, output: 'docs/{{item}}.md'}\n";

#[test]
fn colors_are_as_the_environment_wants_them() {
    let on_terminal = |env: &[(&str, &str)]| {
        let p = Project::new().file("Genfile", TEMPLATES).file("t.hbs", "{{item}}\n");
        let p = env.iter().fold(p, |p, (name, value)| p.env(name, value));
        Terminal::start(&p, 80, []).ends().raw
    };
    let has_colors = |raw: &str| raw.contains("\u{1b}[3");
    assert!(has_colors(&on_terminal(&[("TERM", "xterm"), ("NO_COLOR", "")])));
    assert!(!has_colors(&on_terminal(&[("TERM", "xterm"), ("NO_COLOR", "1")])));
    // Nothing at all but text.
    let dumb = on_terminal(&[("TERM", "dumb"), ("NO_COLOR", "")]);
    assert!(!dumb.contains('\u{1b}') && dumb.contains("render  docs/日本.md"), "{dumb:?}");
    let p = Project::new().file("Genfile", TEMPLATES).file("t.hbs", "{{item}}\n");
    assert!(has_colors(&p.env("NO_COLOR", "").env("CLICOLOR_FORCE", "1").run([]).stderr));
}

#[test]
fn names_from_right_to_left_turn_nothing_around_them() {
    let p = Project::new().file("Genfile", TEMPLATES).file("t.hbs", "{{item}}\n").env("TERM", "xterm");
    let raw = Terminal::start(&p, 40, []).ends().raw;
    assert!(raw.contains("render  \u{2068}docs/שלום.md\u{2069}") && raw.contains("render  docs/日本.md"), "{raw}");
    // Data and pipes have names as they are.
    p.remove("docs").run([]).stderr_has("render  docs/שלום.md\n").exits(0);
}

#[test]
fn a_plan_fits_the_terminal_and_wide_names_count_twice() {
    let server = Server::start();
    let p = shop_with(&server, 3, "", "group: all").env("TERM", "xterm");
    p.edit("Genfile", &p.read("Genfile").replace("docs/{{item.key}}", "docs/日本語/a-rather-long-folder/{{item.key}}"));
    for (columns, expected) in [
        (40, "generate  …older/e1.md  new  [request 1]\n"),
        (80, "generate  docs/日本語/a-rather-long-folder/e1.md  new  [request 1]\n"),
    ] {
        let ended = Terminal::start(&p, columns, ["plan"]).ends();
        assert!(ended.screen.contains(expected), "{}", ended.screen);
        let is_table = |line: &&str| ["request ", "in all ", "without "].iter().any(|head| line.starts_with(head));
        assert_eq!(ended.screen.lines().filter(is_table).count(), 3, "{}", ended.screen);
    }
}

#[test]
fn what_is_explained_fits_the_terminal() {
    let p = Project::new().file("Genfile", TEMPLATES).file("t.hbs", "{{item}}\n").env("TERM", "xterm");
    let at = |columns: u16, args: &[&str]| Terminal::start(&p, columns, args.iter().copied()).ends().screen;
    let explained = at(40, &["explain", "docs/日本.md"]);
    // What goes on in another line stands below where it began, and not at the edge.
    let is_at_edge = |line: &&str| !line.is_empty() && !line.starts_with(' ');
    assert_eq!(explained.lines().filter(is_at_edge).count(), 1, "{explained}");
    assert!(explained.contains("\n  recipe   t.hbs       no record of what\n"), "{explained}");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    // Nothing of it is cut; its beginning has left the screen.
    let (help, all) = (words(&at(40, &["help"])), words(&p.run(["help"]).stdout));
    assert!(help.len() > 60 && all.ends_with(&help), "{help:?}");
}

#[test]
fn a_large_plan_is_shown_by_rule() {
    let server = Server::start();
    let p = shop_with(&server, 61, "", "batch: false");
    p.run(["plan"])
        .stdout_has("generate  61 targets of rule `pages`  new\n")
        .stdout_has("pages            61 tasks in 61 requests  p (m)")
        .stdout_has("in all           61 requests ")
        .exits(0);
    p.run(["plan", "-v"]).stdout_has("generate  docs/e61.md").stdout_has("\n61               1 task").exits(0);
}
