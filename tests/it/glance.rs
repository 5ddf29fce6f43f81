//! The fast start: what a glance at the tree says, and that it is what the full way says.

use std::fs::{File, FileTimes};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use genmake::{Location, Project as Loaded};

use crate::project::Project;

const GENFILE: &str = "version: 1
vars: {who: world}
include: [rules.yaml]
rules:
  pages:
    foreach: docs/*.md
    output: 'out/{{item.stem}}.txt'
    template: templates/page.hbs
    inputs: {note: {path: note.txt, optional: true}}
    env: [STYLE]
  index:
    output: index.txt
    inputs: {pages: 'rule:pages'}
    template: templates/index.hbs
";

fn built() -> Project {
    let p = Project::new()
        .file("Genfile", GENFILE)
        .file(
            "rules.yaml",
            "rules:\n  other: {output: other.txt, template: templates/other.hbs, inputs: [data.yaml#/a]}\n",
        )
        .file("data.yaml", "a: 1\nb: 2\n")
        .file("docs/a.md", "a")
        .file("docs/b.md", "b")
        .file(
            "templates/page.hbs",
            "{{vars.who}} {{default env.STYLE ''}} {{item.text}}{{#if inputs.note}}{{inputs.note.text}}{{/if}}",
        )
        .file("templates/index.hbs", "{{#each inputs.pages}}{{text}};{{/each}}")
        .file("templates/other.hbs", "{{inputs.[0]}}");
    p.run([]).exits(0);
    p
}

/// What a glance says of a project as it lies there.
fn glance(p: &Project, style: Option<&str>) -> &'static str {
    let style = style.map(str::to_owned);
    let env: genmake::engine::Env = Arc::new(move |name| style.clone().filter(|_| name == "STYLE"));
    let location = Location::find(&p.path("")).expect("a Genfile");
    match Loaded::glance(&location, &env) {
        None => "cannot say",
        Some(glance) if glance.is_fresh() => "fresh",
        Some(_) => "moved",
    }
}

/// Sets a file's times, so that a stamp shows no edit but for what the system itself notes.
fn set_time(p: &Project, path: &str, time: SystemTime) {
    let file = File::options().write(true).open(p.path(path)).expect("a file of the project");
    file.set_times(FileTimes::new().set_modified(time)).expect("times can be set");
}

#[test]
fn a_glance_sees_what_moved_and_whether_it_decides_which_tasks_there_are() {
    type Edit = fn(&Project);
    let edits: &[(&str, Edit, &str)] = &[
        ("nothing", |_| {}, "fresh"),
        (
            "an input is touched",
            |p| {
                p.edit("docs/a.md", "a");
            },
            "fresh",
        ),
        (
            "the Genfile is touched",
            |p| {
                p.edit("Genfile", GENFILE);
            },
            "fresh",
        ),
        (
            "a template is touched with an older time",
            |p| set_time(p, "templates/page.hbs", SystemTime::UNIX_EPOCH),
            "fresh",
        ),
        (
            "a time ten years ahead",
            |p| {
                set_time(p, "docs/a.md", SystemTime::now() + Duration::from_secs(315_360_000));
            },
            "fresh",
        ),
        (
            "a file comes and goes",
            |p| {
                p.edit("docs/c.md", "c").remove("docs/c.md");
            },
            "fresh",
        ),
        (
            "an input is edited",
            |p| {
                p.edit("docs/a.md", "other");
            },
            "moved",
        ),
        (
            "as many bytes, and the old time",
            |p| {
                let time = p.path("docs/a.md").metadata().expect("an input").modified().expect("a time");
                p.edit("docs/a.md", "A");
                set_time(p, "docs/a.md", time);
            },
            "moved",
        ),
        (
            "a template is edited",
            |p| {
                p.edit("templates/page.hbs", "x");
            },
            "moved",
        ),
        (
            "an output is edited",
            |p| {
                p.edit("out/a.txt", "x");
            },
            "moved",
        ),
        (
            "an output is deleted",
            |p| {
                p.remove("out/a.txt");
            },
            "moved",
        ),
        (
            "an output is a folder",
            |p| {
                p.remove("out/a.txt");
                fs_err::create_dir(p.path("out/a.txt")).expect("a folder");
            },
            "moved",
        ),
        ("a folder of outputs is deleted", |p| fs_err::remove_dir_all(p.path("out")).expect("a folder"), "cannot say"),
        (
            "a file in a folder that a glob lists",
            |p| {
                p.edit("docs/c.md", "c");
            },
            "cannot say",
        ),
        (
            "one gone from there",
            |p| {
                p.remove("docs/b.md");
            },
            "cannot say",
        ),
        ("one renamed", |p| fs_err::rename(p.path("docs/b.md"), p.path("docs/c.md")).expect("a file"), "cannot say"),
        (
            "two change places",
            |p| {
                for (from, to) in [("docs/a.md", "docs/x"), ("docs/b.md", "docs/a.md"), ("docs/x", "docs/b.md")] {
                    fs_err::rename(p.path(from), p.path(to)).expect("a file");
                }
            },
            "moved",
        ),
        (
            "a partial",
            |p| {
                p.edit("templates/new.hbs", "x");
            },
            "cannot say",
        ),
        (
            "an input that may be missing",
            |p| {
                p.edit("note.txt", "x");
            },
            "cannot say",
        ),
        (
            "the Genfile",
            |p| {
                p.edit("Genfile", &GENFILE.replace("world", "moon"));
            },
            "cannot say",
        ),
        (
            "what it includes",
            |p| {
                p.edit("rules.yaml", "rules: {}\n");
            },
            "cannot say",
        ),
        (
            "what a selector is held against",
            |p| {
                p.edit("data.yaml", "a: 2\n");
            },
            "cannot say",
        ),
        (
            "the lock",
            |p| {
                p.edit("Genfile.lock", "genmake-lock 1\n");
            },
            "cannot say",
        ),
        (
            "the lock is deleted",
            |p| {
                p.remove("Genfile.lock");
            },
            "cannot say",
        ),
        (
            "a journal",
            |p| {
                p.edit(".genmake/journal", "x");
            },
            "cannot say",
        ),
        (
            "a run that was killed",
            |p| {
                p.edit(".genmake/running", "x");
            },
            "cannot say",
        ),
        (
            "the state is deleted",
            |p| {
                p.remove(".genmake/state");
            },
            "cannot say",
        ),
        (
            "another Genfile",
            |p| {
                p.edit("Genfile.yaml", GENFILE).remove("Genfile");
            },
            "cannot say",
        ),
        #[cfg(unix)]
        (
            "another folder in a folder's place",
            |p| {
                fs_err::rename(p.path("docs"), p.path("old")).expect("a folder");
                p.edit("docs/a.md", "a").edit("docs/b.md", "b");
            },
            "cannot say",
        ),
        #[cfg(unix)]
        (
            "a link in a folder's place",
            |p| {
                fs_err::rename(p.path("out"), p.path("old")).expect("a folder");
                std::os::unix::fs::symlink("old", p.path("out")).expect("a link");
            },
            "cannot say",
        ),
        #[cfg(unix)]
        (
            "a link in a file's place",
            |p| {
                fs_err::rename(p.path("docs/a.md"), p.path("old")).expect("a file");
                std::os::unix::fs::symlink("../old", p.path("docs/a.md")).expect("a link");
            },
            "cannot say",
        ),
    ];
    for (what, edit, expected) in edits {
        let p = built();
        assert_eq!(glance(&p, None), "fresh", "before: {what}");
        edit(&p);
        assert_eq!(glance(&p, None), *expected, "{what}");
        // What the command says of the tree is what it says without a state to glance from.
        let check = p.command(["check"]).output().expect("genmake runs");
        let whole = Project::new();
        p.shell(&format!(
            "cp -a . '{0}' && rm -f '{0}/.genmake/state' '{0}/.genmake/running'",
            whole.path("").display()
        ));
        let full = whole.command(["check"]).output().expect("genmake runs");
        // What the lock lacks the state knows.
        if !what.starts_with("the lock") {
            let lines = |text: &[u8]| String::from_utf8_lossy(text).lines().count();
            let (one, other) = ((check.status, lines(&check.stdout)), (full.status, lines(&full.stdout)));
            assert_eq!(one, other, "{what}");
        }
    }
}

#[test]
fn the_environment_that_rules_name_is_a_part_of_it() {
    let p = built();
    assert_eq!(glance(&p, None), "fresh");
    assert_eq!(glance(&p, Some("bold")), "cannot say");
}

#[test]
fn a_run_that_nothing_concerns_changes_no_byte_anywhere() {
    let p = built();
    let before = (p.everything(), p.stamps(), p.path(".genmake/state").metadata().unwrap().modified().unwrap());
    for args in [&[][..], &["check"], &["-q"], &["check", "--format", "json"]] {
        p.run(args.iter().copied()).exits(0);
    }
    p.run([]).stderr_has("nothing to do: 4 targets are up to date").exits(0);
    let after = (p.everything(), p.stamps(), p.path(".genmake/state").metadata().unwrap().modified().unwrap());
    assert_eq!(before, after);
}

#[test]
fn what_moved_concerns_its_own_tasks_and_those_after_them() {
    let p = built();
    let lock = p.read("Genfile.lock");
    p.edit("docs/a.md", "new");
    assert_eq!(glance(&p, None), "moved");
    p.run([]).stderr_has("done: 2 rendered, 2 fresh").exits(0);
    assert_eq!((p.read("out/a.txt"), p.read("index.txt")), ("world  new".into(), "world  new;world  b;".into()));
    let other: Vec<(String, String)> =
        lock.lines().map(str::to_owned).zip(p.read("Genfile.lock").lines().map(str::to_owned)).collect();
    let moved: Vec<&str> =
        other.iter().filter(|(old, new)| old != new).map(|(_, new)| new.split(' ').next().unwrap()).collect();
    assert_eq!(moved, ["index.txt", "out/a.txt"]);
    assert_eq!(glance(&p, None), "fresh");
    // Back again, from what is there: a template is rendered, and the lock is what it was.
    p.edit("docs/a.md", "a").run([]).stderr_has("done: 2 rendered, 2 fresh").exits(0);
    assert_eq!(p.read("Genfile.lock"), lock);
}

#[test]
fn an_early_cutoff_stops_what_comes_after() {
    let p = built();
    p.edit("templates/page.hbs", &(p.read("templates/page.hbs") + "{{! nothing }}"));
    assert_eq!(glance(&p, None), "moved");
    p.run([]).stderr_has("nothing to do: 4 targets are up to date").exits(0);
    assert_eq!(glance(&p, None), "fresh");
}

#[test]
fn what_fails_in_a_part_is_not_forgotten() {
    let p = built();
    p.edit("templates/page.hbs", "{{nope}}");
    p.run([]).stderr_has("`nope`").exits(2);
    assert_eq!(glance(&p, None), "cannot say");
    p.run([]).exits(2);
    p.run(["check"]).exits(2);
    p.edit("templates/page.hbs", "ok").run([]).exits(0);
    assert_eq!(p.read("index.txt"), "ok;ok;");
    assert_eq!(glance(&p, None), "fresh");
}

#[test]
fn an_edit_by_hand_is_found_and_held() {
    let p = built();
    p.edit("out/a.txt", "by hand");
    p.run([]).stderr_has("edited").exits(2);
    assert_eq!(p.read("out/a.txt"), "by hand");
    p.run(["check"]).exits(1);
    p.run(["--force"]).exits(0);
    assert_eq!((p.read("out/a.txt").as_str(), glance(&p, None)), ("world  a", "fresh"));
}

/// Held as by another run, until it is dropped.
fn guarded(p: &Project) -> File {
    let guard = File::options().write(true).open(p.path(".genmake/guard")).expect("a guard");
    guard.lock().expect("a lock");
    guard
}

/// A run that found something to do, and then had to wait while `meanwhile` happened.
fn late(p: &Project, meanwhile: impl FnOnce(&Project)) -> crate::project::Run {
    let guard = guarded(p);
    let mut child = p.spawn([]);
    p.wait_for_line(&mut child, "wait  another genmake runs here");
    meanwhile(p);
    drop(guard);
    p.finish(child)
}

#[test]
fn after_a_wait_it_looks_anew() {
    let p = built();
    // The rules stand in another order.
    p.edit("docs/a.md", "new");
    let (rest, index) =
        GENFILE.split_once("  index:\n").map(|(rest, index)| (rest, format!("  index:\n{index}"))).unwrap();
    let turned = rest.replace("rules:\n", &format!("rules:\n{index}"));
    late(&p, |p| _ = p.edit("Genfile", &turned)).exits(0);
    assert_eq!((p.read("out/a.txt").as_str(), p.read("index.txt").as_str()), ("world  new", "world  new;world  b;"));
    assert!(p.read("Genfile.lock").contains(" rule:index"), "{}", p.read("Genfile.lock"));
    p.run(["check"]).exits(0);
    // What a file is made from was deleted, as by `genmake clean`, and another was edited.
    p.edit("docs/a.md", "newer");
    late(&p, |p| _ = p.edit("docs/b.md", "also new").remove("out/b.txt")).exits(0);
    assert_eq!(p.read("index.txt"), "world  newer;world  also new;");
    p.run(["check"]).exits(0);
    // Nothing is left to do.
    p.edit("docs/a.md", "a");
    late(&p, |p| _ = p.edit("docs/a.md", "newer")).stderr_has("nothing to do").exits(0);
}

#[cfg(target_os = "linux")]
#[test]
fn after_a_wait_what_a_killed_runs_commands_left_is_ended() {
    use std::os::unix::process::ExitStatusExt as _;
    let p = built();
    p.edit("docs/a.md", "new");
    let mut left = std::process::Command::new("sleep").arg("1000").env("GENMAKE_RUN", "1-2").spawn().unwrap();
    late(&p, |p| _ = p.edit(".genmake/running", "1-2")).exits(0);
    assert!(left.wait().unwrap().signal().is_some());
    assert_eq!(p.read("out/a.txt"), "world  new");
}

#[test]
fn what_is_read_for_the_first_time_counts_from_then_on() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  a: {output: a.json, template: t.hbs, check: [{schema: s.json}]}\n")
        .file("t.hbs", "{\"n\": 1}")
        .file("s.json", "{\"type\": \"object\"}");
    p.run([]).exits(0);
    // What is accepted is held against no check.
    p.edit("a.json", "{\"n\": 2}").run(["accept", "a.json"]).exits(0);
    p.run([]).exits(0);
    p.edit("a.json", "{\"n\": 1}").run([]).exits(0);
    p.edit("s.json", "{\"type\": \"array\"}");
    p.run(["check"]).exits(1);
    p.run(["check", "-v"]).exits(1);
}

#[test]
fn an_accepted_edit_is_at_rest_until_its_inputs_move() {
    let p = built();
    p.edit("out/a.txt", "by hand").run(["accept", "out/a.txt"]).exits(0);
    p.run([]).exits(0);
    assert_eq!(glance(&p, None), "fresh");
    p.run([]).stderr_has("nothing to do").exits(0);
    p.edit("docs/b.md", "else").run([]).exits(0);
    assert_eq!((p.read("out/a.txt").as_str(), glance(&p, None)), ("by hand", "fresh"));
    p.edit("docs/a.md", "new");
    assert_eq!(glance(&p, None), "moved");
    p.run([]).stderr_has("edited  out/a.txt").exits(2);
    assert_ne!(glance(&p, None), "fresh");
    p.run([]).stderr_has("edited  out/a.txt").exits(2);
    // As the full way has it.
    p.remove(".genmake").run([]).stderr_has("edited  out/a.txt").exits(2);
    assert_eq!(p.read("out/a.txt"), "by hand");
}

#[test]
fn an_edited_orphan_is_told_of_each_time() {
    let p = built();
    p.edit("out/a.txt", "by hand").remove("docs/a.md");
    for _ in 0..3 {
        p.run([]).stderr_has("out/a.txt").exits(0);
        assert_ne!(glance(&p, None), "fresh");
        p.run(["check"]).stdout_has("orphan  out/a.txt").exits(1);
    }
    assert_eq!(p.read("out/a.txt"), "by hand");
    p.run(["accept", "-n", "out/a.txt"]).exits(0);
    p.run(["check"]).exits(1);
    p.run(["accept", "out/a.txt"]).stderr_has("accept  out/a.txt: yours from now on").exits(0);
    p.run([]).stderr_has("nothing to do").exits(0);
    assert_eq!((p.read("out/a.txt").as_str(), glance(&p, None)), ("by hand", "fresh"));
}

#[test]
fn a_state_that_is_damaged_anywhere_gives_no_wrong_answer() {
    let p = built();
    let state = fs_err::read(p.path(".genmake/state")).unwrap();
    p.edit("docs/a.md", "new");
    for at in (0..state.len()).step_by(7) {
        let mut bytes = state.clone();
        bytes[at] ^= 1 << (at % 8);
        fs_err::write(p.path(".genmake/state"), bytes).unwrap();
        assert_ne!(glance(&p, None), "fresh", "flipped at {at}");
    }
    for at in [state.len() / 3, state.len() - 1] {
        fs_err::write(p.path(".genmake/state"), &state[..at]).unwrap();
        assert_eq!(glance(&p, None), "cannot say");
    }
    // Also where what is damaged is needed only for what moved.
    let mut bytes = state.clone();
    let last = bytes.len() - 30;
    bytes[last] ^= 1;
    fs_err::write(p.path(".genmake/state"), bytes).unwrap();
    p.run([]).exits(0);
    assert_eq!(p.read("index.txt"), "world  new;world  b;");
    assert_eq!(glance(&p, None), "fresh");
}
