//! Runs that are killed, or refused, at each of their system calls.
//!
//! An ordinary test takes a sample of the points, spread evenly; with `GENMAKE_ALL=1` in the environment it takes all.

#![allow(clippy::print_stdout, reason = "how many points were tried is shown with `--nocapture`")]

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use crate::project::{Project, all};
use crate::server::{Act, Server};
use crate::shop::answer;
use crate::tracer::{self, Call, Errno, Signal, Then, Traced};

const OLD_RULE: &str = "  old: {template: t.hbs, inputs: [in], output: docs/old/o.md}\n";

/// How the runs are called that are cut short, and those that go on.
const BUILD: [&str; 1] = ["--force"];

/// A project in the middle of its life: everything was built once; since then an input of all rules has changed, a rule is
/// gone, and somebody edited an output, which is to be overwritten. Four pages are to be asked for, two a request, one request
/// at a time.
struct Stage {
    server: Server,
    project: Project,
    before: BTreeMap<String, String>,
    /// What a clean checkout comes to.
    clean: BTreeMap<String, String>,
}

impl Stage {
    fn new() -> Stage {
        let server = Server::start();
        server.reply(answer);
        let clean = sources(&server, "").file("in", "2\n");
        clean.run([]).exits(0);
        let project = sources(&server, OLD_RULE);
        project.run([]).exits(0);
        let genfile = project.read("Genfile").replace(OLD_RULE, "");
        project.edit("Genfile", &genfile).edit("in", "2\n").edit("docs/index.md", "# Mine\n");
        Stage { before: project.tree(), clean: clean.tree(), server, project }
    }

    /// How many points a run has.
    fn points(&self, is_point: impl Fn(&Project, &Call) -> bool + Sync) -> usize {
        let p = self.project.copy();
        let traced = tracer::trace(&p.command(BUILD), |_| Then::GoOn);
        assert_eq!(traced.status.code(), Some(0), "{}", traced.stderr);
        assert_eq!(p.tree(), self.clean);
        traced.calls.iter().filter(|(call, _)| is_point(&p, call)).count()
    }

    /// Every file but those that `but` names is whole: as it was, or as it is to be.
    fn is_whole(&self, p: &Project, but: &str) -> Result<(), String> {
        let now = p.tree();
        let all: BTreeSet<&String> = self.before.keys().chain(self.clean.keys()).collect();
        for path in all.into_iter().filter(|path| !path.starts_with(but)) {
            let (old, new, found) = (self.before.get(path), self.clean.get(path), now.get(path));
            ensure(found == old || found == new, || format!("{path} is {found:?}, neither {old:?} nor {new:?}"))?;
        }
        Ok(())
    }

    /// The next run does what is left, asks for nothing that was answered, and leaves nothing lying about.
    fn goes_on(&self, p: &Project, cut: &Traced) -> Result<(), String> {
        let complete = 2 * cut.stderr.lines().filter(|line| line.trim_start().starts_with("answer  ")).count();
        let is_refused = cut.calls.iter().any(|(_, then)| matches!(then, Then::Fail(_)));
        let answered = answers(p).difference(&answers(&self.project)).count();
        // A disk that takes nothing keeps nothing.
        ensure(answered >= complete || is_refused, || format!("{complete} were answered, and {answered} are kept"))?;
        let run = p.run(BUILD);
        ensure(run.status.code() == Some(0), || format!("the next run fails: {run}"))?;
        let tree = p.tree();
        ensure(tree == self.clean, || format!("the next run makes {tree:#?}, and not {:#?}", self.clean))?;
        // By its own words: what a killed run has sent may reach the server at any time.
        let asks = run.stderr.lines().filter(|line| line.trim_start().starts_with("ask  "));
        let again: usize = asks.map(|line| line.matches(".md").count()).sum();
        ensure(again == 4 - answered, || format!("{answered} of 4 pages were answered, and {again} asked for again"))?;
        let everything = p.everything();
        let is_left = |path: &String| {
            let own = [".genmake/stage", ".genmake/journal", ".genmake/running", ".genmake/store/begun/"];
            path.ends_with(".tmp") || path.contains("/.genmake-") || own.iter().any(|own| path.starts_with(own))
        };
        let left: Vec<&String> = everything.keys().filter(|path| is_left(path)).collect();
        ensure(left.is_empty(), || format!("left lying about: {left:?}"))?;
        ensure(is_refused || !p.exists("docs/old"), || "an empty folder is left".to_owned())?;
        let mut kept = everything.iter().filter(|(path, _)| path.starts_with(".genmake/store"));
        ensure(kept.any(|(_, bytes)| bytes == b"# Mine\n"), || "what was overwritten is not kept".to_owned())?;
        let run = p.run([]);
        ensure(run.stderr.contains("nothing to do"), || format!("the run after that has something to do: {run}"))?;
        run.exits(0);
        Ok(())
    }
}

/// The keys of pages whose answers are kept, as they came or as results.
fn answers(p: &Project) -> BTreeSet<String> {
    let key = |(path, bytes): (String, Vec<u8>)| {
        if let Some(name) = path.strip_prefix(".genmake/store/replies/") {
            return name.split('.').next().map(str::to_owned);
        }
        let key = path.strip_prefix(".genmake/store/ac/")?;
        String::from_utf8_lossy(&bytes).contains(r#""model":"m""#).then(|| key.to_owned())
    };
    p.everything().into_iter().filter_map(key).collect()
}

fn ensure(holds: bool, else_say: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(else_say()) }
}

/// All that went wrong at some point.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn note(&mut self, when: &str, run: &Traced, found: Result<(), String>) {
        if let Err(what) = found {
            self.0.push(format!("{when}: {what}\nit had said:\n{}", run.stderr));
        }
    }

    #[track_caller]
    fn is_none(&self) {
        assert!(self.0.is_empty(), "{} points went wrong\n{}", self.0.len(), self.0.join("\n\n"));
    }
}

fn sources(server: &Server, old: &str) -> Project {
    let genfile = format!(
        r#"version: 1
provider: p
providers: {{p: {{api: openai, model: m, base_url: "{{base_url}}", in_flight: 1}}}}
batching: {{max_batch_size: 2}}
rules:
  index: {{inputs: [in], template: t.hbs, output: docs/index.md, filter: [cat], check: {{run: "test -s {{{{output}}}}"}}}}
  script: {{inputs: [in], template: t.hbs, output: bin/s.sh, file_mode: "0755"}}
  pair: {{inputs: [in], outputs: {{x: gen/x, y: gen/y}}, run: "cat in > gen/x; echo more >> gen/x; cp gen/x gen/y"}}
  after: {{inputs: [gen/x, docs/index.md], output: gen/after, run: "cat gen/x docs/index.md > {{{{output}}}}"}}
  pages: {{foreach: [e1, e2, e3, e4], inputs: {{in: in}}, prompt: p.prompt, output: "docs/{{{{item}}}}.md"}}
{old}"#
    );
    let p = Project::new().genfile_for(server, &genfile).file("in", "1\n").file("t.hbs", "{{inputs.[0].text}}");
    p.file("p.prompt", "Write about {{item}}: {{inputs.in.text}}\n")
}

/// The points that a test takes of so many: all that there may be where that is asked for, else `sample` of them.
pub fn chosen(points: usize, sample: usize) -> Vec<usize> {
    if all() {
        return (0..points).collect();
    }
    let sample = sample.min(points);
    (0..sample).map(|k| (k * points + points / 2) / sample).collect()
}

/// Does `deed` at the point `n` of a run.
fn at(p: &Project, n: usize, deed: Then, is_point: impl Fn(&Project, &Call) -> bool + Sync) -> Traced {
    let mut seen = 0;
    let is_point = &is_point;
    tracer::trace(&p.command(BUILD), move |call| {
        if !is_point(p, call) {
            return Then::GoOn;
        }
        seen += 1;
        if seen == n + 1 { deed } else { Then::GoOn }
    })
}

fn said(traced: &Traced, deed: Then) -> String {
    match traced.calls.iter().find(|(_, then)| *then == deed) {
        Some((call, _)) => format!("{deed:?} at {} {:?}", call.name, call.paths),
        None => format!("{deed:?} nowhere"),
    }
}

/// Whatever genmake or its commands read, write or say.
fn any_call(p: &Project, call: &Call) -> bool {
    call.writes || call.name == "sendto" || call.is_in(&p.root())
}

/// Runs that end by a signal at a sample of points are finished by the next run. What a command makes may be half by then, or
/// gone: then the journal says so.
#[track_caller]
fn is_finished(stage: &Stage, sample: usize, deeds: &[Then], is_point: impl Fn(&Project, &Call) -> bool + Sync) {
    let points = stage.points(&is_point);
    let chosen = chosen(points, sample);
    let mut wrong = Wrong::default();
    for (n, deed) in chosen.iter().zip(deeds.iter().cycle()) {
        let p = stage.project.copy();
        let traced = at(&p, *n, *deed, &is_point);
        let signal = if let Then::Send(signal) = deed { *signal as i32 } else { Signal::SIGKILL as i32 };
        // Threads do not always run in the same order, and a run may have a point less; or it has ended when it hears.
        let ended = traced.status.signal() == Some(signal) || traced.status.code() == Some(0);
        let but = if matches!(deed, Then::Send(_)) { "Genfile.lock" } else { "gen/" };
        let found = ensure(ended, || traced.status.to_string())
            .and_then(|()| stage.is_whole(&p, but))
            .and_then(|()| stage.goes_on(&p, &traced));
        wrong.note(&format!("{} of {points}: {}", n + 1, said(&traced, *deed)), &traced, found);
    }
    println!("{} of {points} points", chosen.len());
    wrong.is_none();
}

#[test]
fn a_run_that_is_killed_at_any_call_is_finished_by_the_next() {
    if tracer::is_allowed() {
        // By turns with what it started, and without.
        is_finished(&Stage::new(), 24, &[Then::Kill, Then::KillAll], any_call);
    }
}

#[test]
fn a_run_that_is_killed_while_it_is_answered_pays_once_more_for_that_request_only() {
    if !tracer::is_allowed() {
        return;
    }
    let stage = Stage::new();
    // In pieces, so that there is a middle of a body.
    stage.server.always(Act::Drip { chunk: 40, millis: 1 });
    // From the connection to the last page that is kept.
    let is_point = |p: &Project, call: &Call| {
        let is_talk = ["connect", "sendto", "recvfrom"].contains(&call.name);
        call.own
            && (is_talk || call.is_in(&p.path(".genmake/store/replies")) || call.is_in(&p.path(".genmake/store/begun")))
    };
    is_finished(&stage, 12, &[Then::Kill], is_point);
}

#[test]
fn a_run_that_is_interrupted_at_any_call_ends_so_and_keeps_what_it_has() {
    if tracer::is_allowed() {
        let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].map(Then::Send);
        is_finished(&Stage::new(), 12, &signals, any_call);
    }
}

/// What genmake itself does to files of the project.
fn own_file(p: &Project, call: &Call) -> bool {
    call.own && call.is_in(&p.root()) && (call.writes || call.name == "openat")
}

#[test]
fn an_error_of_any_call_is_said_and_spoils_nothing() {
    if !tracer::is_allowed() {
        return;
    }
    let stage = Stage::new();
    let points = stage.points(own_file);
    let (mut failed, mut wrong) = (0, Wrong::default());
    let tried = with_errors(points, 24);
    for (n, errno) in &tried {
        let deed = Then::Fail(*errno);
        let p = stage.project.copy();
        let traced = at(&p, *n, deed, own_file);
        let found = match traced.status.code() {
            Some(0) => ensure(p.tree() == stage.clean, || "it says that all is well".to_owned()),
            Some(2) => {
                failed += 1;
                // The lock has what was done.
                is_named(&traced, &p.root(), *errno).and_then(|()| stage.is_whole(&p, "Genfile.lock"))
            }
            _ => Err(traced.status.to_string()),
        };
        let found = found.and_then(|()| stage.goes_on(&p, &traced));
        wrong.note(&format!("{} of {points}: {}", n + 1, said(&traced, deed)), &traced, found);
    }
    println!("{} errors at {points} points, of which {failed} were said", tried.len());
    wrong.is_none();
    // Nobody misses the state, the ledger or the run's report.
    assert!(failed > tried.len() / 3, "many of them must matter");
}

/// A full disk, one that breaks, one that is read-only, and a process without descriptors: each point with one of them, or with
/// all where that is asked for.
fn with_errors(points: usize, sample: usize) -> Vec<(usize, Errno)> {
    const ERRORS: [Errno; 4] = [Errno::ENOSPC, Errno::EIO, Errno::EROFS, Errno::EMFILE];
    let chosen = chosen(points, sample);
    if chosen.len() < points {
        return chosen.into_iter().zip(ERRORS.into_iter().cycle()).collect();
    }
    chosen.into_iter().flat_map(|n| ERRORS.map(|errno| (n, errno))).collect()
}

/// The error names the file and what the system said.
fn is_named(traced: &Traced, root: &Path, errno: Errno) -> Result<(), String> {
    let words = std::io::Error::from_raw_os_error(errno as i32).to_string();
    // As if no line were too long.
    let text: String = traced.stderr.split(['|', '\n']).map(str::trim).collect::<Vec<_>>().join(" ");
    ensure(text.contains(&words), || format!("it does not say {words:?}"))?;
    let met = traced.calls.iter().filter(|(_, then)| *then == Then::Fail(errno));
    let paths: Vec<&PathBuf> = met.flat_map(|(call, _)| &call.paths).collect();
    let mut names = paths.iter().filter_map(|path| path.strip_prefix(root).ok()?.to_str());
    // A temporary file's name alone tells nobody anything.
    ensure(names.any(|name| text.contains(name)), || format!("it does not name {paths:?}"))
}

#[test]
fn a_disk_that_is_full_from_some_call_on_leaves_the_old_outputs() {
    if !tracer::is_allowed() {
        return;
    }
    // What needs room, also for commands; what gives some goes on.
    let needs_room = |p: &Project, call: &Call| {
        let is_one = ["openat", "write", "mkdir", "copy_file_range", "sendfile"].contains(&call.name);
        is_one && call.writes && call.is_in(&p.root())
    };
    let stage = Stage::new();
    let points = stage.points(needs_room);
    let chosen = chosen(points, 5);
    let mut wrong = Wrong::default();
    for n in &chosen {
        let p = stage.project.copy();
        let mut seen = 0;
        let traced = tracer::trace(&p.command(BUILD), |call| {
            seen += usize::from(needs_room(&p, call));
            if seen > *n && needs_room(&p, call) { Then::Fail(Errno::ENOSPC) } else { Then::GoOn }
        });
        let found = ensure(traced.status.code() == Some(2), || traced.status.to_string())
            .and_then(|()| is_named(&traced, &p.root(), Errno::ENOSPC))
            .and_then(|()| stage.is_whole(&p, "Genfile.lock"))
            .and_then(|()| stage.goes_on(&p, &traced));
        wrong.note(&format!("full from {} of {points}", n + 1), &traced, found);
    }
    wrong.is_none();
}

#[test]
fn what_is_said_to_nobody_changes_nothing() {
    if !tracer::is_allowed() {
        return;
    }
    let p =
        Project::new().file("Genfile", "version: 1\nrules: {a: {template: t.hbs, output: a}}\n").file("t.hbs", "x\n");
    for errno in [Errno::EIO, Errno::ENOSPC, Errno::EPIPE] {
        p.edit("a", "mine\n");
        let is_said = |call: &Call| call.name == "write" && !call.is_in(&p.root());
        let deaf = |call: &Call| if is_said(call) { Then::Fail(errno) } else { Then::GoOn };
        let traced = tracer::trace(&p.command(BUILD), deaf);
        assert_eq!((traced.status.code(), p.read("a").as_str()), (Some(0), "x\n"), "{errno}");
        assert_eq!(tracer::trace(&p.command(["check"]), deaf).status.code(), Some(0), "{errno}");
    }
}

#[test]
fn every_output_is_durable_before_it_has_its_name_and_the_lock_comes_last() {
    if !tracer::is_allowed() {
        return;
    }
    let stage = Stage::new();
    let p = stage.project.copy();
    let traced = tracer::trace(&p.command(BUILD), |_| Then::GoOn);
    assert_eq!(traced.status.code(), Some(0), "{}", traced.stderr);
    let calls: Vec<&Call> = traced.calls.iter().map(|(call, _)| call).collect();
    // When a file was given its name; none if it was made in its place.
    let named = |path: &Path| {
        calls.iter().position(|c| c.name.starts_with("rename") && c.paths.get(1).is_some_and(|to| to == path))
    };
    let is_synced = |path: &Path, from: usize, to: usize| {
        calls[from..to].iter().any(|call| match call.name {
            "fsync" | "fdatasync" => call.paths.first().is_some_and(|file| file == path),
            "sync" | "syncfs" => true,
            _ => false,
        })
    };
    let lock = named(&p.path("Genfile.lock")).expect("the lock is renamed to its place");
    let lock_temporary = &calls[lock].paths[0];
    assert!(is_synced(lock_temporary, 0, lock) && is_synced(&p.root(), lock, calls.len()));
    let outputs: Vec<&String> =
        stage.clean.iter().filter(|(path, text)| stage.before.get(*path) != Some(text)).map(|(path, _)| path).collect();
    let mut first = lock;
    for path in outputs.iter().copied().filter(|path| *path != "Genfile.lock") {
        let full = p.path(path);
        let at = match named(&full) {
            Some(at) => {
                let temporary = &calls[at].paths[0];
                let writes = |call: &&Call| call.name == "write" && call.paths.first() == Some(temporary);
                let written = calls[..at].iter().rposition(writes).expect("it was written");
                assert!(is_synced(temporary, written, at), "{path} is named before it is durable");
                first = first.min(at);
                at
            }
            // By a command.
            None => {
                assert!(path.starts_with("gen/"), "{path} is written in its place");
                assert!(is_synced(&full, 0, lock), "{path} is not made durable");
                0
            }
        };
        assert!(at < lock, "{path} stands in the lock before it stands in its place");
        assert!(is_synced(full.parent().expect("a folder"), at, lock), "the name of {path} is not durable");
    }
    assert_eq!(outputs.len(), 10, "{outputs:?}");
    assert!(is_synced(&p.path(".genmake/journal"), 0, first), "the journal comes before the first output");
    assert!(named(&p.path(".genmake/state")).is_some_and(|state| state > lock));
}

#[test]
fn where_nothing_moved_no_call_writes_or_leaves_the_machine() {
    if !tracer::is_allowed() {
        return;
    }
    let server = Server::start();
    let p = sources(&server, "");
    p.run([]).exits(0);
    let asked = server.count();
    let before = p.everything();
    let changes = |args: &[&str]| -> Vec<Call> {
        let traced = tracer::trace(&p.command(args.iter().copied()), |_| Then::GoOn);
        assert_eq!(traced.status.code(), Some(0), "{args:?}: {}", traced.stderr);
        // What a run says goes to pipes, which are no files.
        let is_change = |call: &Call| call.writes && call.paths.iter().any(|path| path.exists());
        let is_more = |call: &Call| is_change(call) || call.name == "connect" || call.name == "flock";
        traced.calls.into_iter().map(|(call, _)| call).filter(is_more).collect()
    };
    for args in [&[][..], &["check"], &["-q"]] {
        let changes = changes(args);
        assert!(changes.is_empty(), "{args:?}: {changes:?}");
    }
    assert!(p.everything() == before);
    assert_eq!(server.count(), asked);
    // And it would be seen.
    p.edit("in", "2\n");
    assert!(changes(&[]).iter().any(|call| call.name == "connect"));
}

#[test]
fn a_checkout_that_cannot_be_written_can_be_read() {
    if !tracer::is_allowed() {
        return;
    }
    let server = Server::start();
    let read_only = |p: &Project, args: &[&str]| {
        let mut command = p.command(args.iter().copied());
        command.env_remove("HOME");
        let is_change = |call: &Call| call.own && call.writes && call.is_in(&p.root());
        tracer::trace(&command, |call| if is_change(call) { Then::Fail(Errno::EROFS) } else { Then::GoOn })
    };
    let fresh = sources(&server, "");
    for args in [&["check"][..], &["plan"], &["explain", "docs/e1.md"], &["prompt", "docs/e1.md"], &["-q"]] {
        let traced = read_only(&fresh, args);
        let run = fresh.copy().run(args.iter().copied());
        assert_eq!((traced.status, &traced.stdout), (run.status, &run.stdout), "{args:?}: {}", traced.stderr);
        assert!(!fresh.exists(".genmake"), "{args:?}");
    }
    let before = fresh.tree();
    let traced = read_only(&fresh, &[]);
    assert_eq!(traced.status.code(), Some(2));
    assert!(traced.stderr.contains(".genmake`: Read-only file system"), "{}", traced.stderr);
    // One that was built elsewhere: nobody has brought `.genmake` along.
    let built = Project::new();
    let done = sources(&server, "");
    done.run([]).exits(0);
    for (path, text) in done.tree() {
        built.edit(&path, &text);
    }
    built.edit("bin/s.sh", &done.read("bin/s.sh"));
    std::fs::set_permissions(built.path("bin/s.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a mode");
    assert_eq!(read_only(&built, &["check"]).status.code(), Some(0));
    assert_eq!(fresh.tree(), before);
}

/// Saves `path` when genmake is about to put something in its place, or to take it away.
fn saved_meanwhile(p: &Project, args: &[&str], path: &str) -> Traced {
    let mut saved = false;
    tracer::trace(&p.command(args.iter().copied()), move |call| {
        if !saved && call.own && call.name.starts_with("rename") && call.paths.contains(&p.path(path)) {
            saved = true;
            p.edit(path, "# Saved\n");
        }
        Then::GoOn
    })
}

#[test]
fn what_a_person_saves_at_the_last_moment_is_not_lost() {
    if !tracer::is_allowed() {
        return;
    }
    let stage = Stage::new();
    for path in ["docs/index.md", "bin/s.sh", "docs/e3.md", "gen/y", "gen/after"] {
        let p = stage.project.copy();
        let traced = saved_meanwhile(&p, &BUILD, path);
        assert_eq!(traced.status.code(), Some(2), "{path}: {}", traced.stderr);
        assert!(traced.stderr.contains(&format!("`{path}` was edited by hand")), "{path}: {}", traced.stderr);
        assert_eq!(p.read(path), "# Saved\n", "{path}");
        p.run([]).stderr_has(&format!("`{path}` was edited by hand")).exits(2);
        assert_eq!(p.read(path), "# Saved\n", "{path}");
        p.run(["--force"]).exits(0);
        assert_eq!(p.tree(), stage.clean, "{path}");
    }
    // Where nothing was to be, and where something was to be no more.
    for path in ["docs/e3.md", "gen/y"] {
        let fresh = sources(&stage.server, "");
        let traced = saved_meanwhile(&fresh, &[], path);
        assert_eq!((traced.status.code(), fresh.read(path).as_str()), (Some(2), "# Saved\n"), "{}", traced.stderr);
    }
    let p = stage.project.copy();
    let traced = saved_meanwhile(&p, &BUILD, "docs/old/o.md");
    assert_eq!((traced.status.code(), p.read("docs/old/o.md").as_str()), (Some(0), "# Saved\n"), "{}", traced.stderr);
}

#[test]
fn what_a_failed_task_has_written_is_not_taken_for_an_edit() {
    if !tracer::is_allowed() {
        return;
    }
    let genfile = "version: 1\nrules:\n  a: {inputs: [in], template: t.hbs, outputs: {x: gen/x, y: gen/y}}\n";
    let p = Project::new().file("Genfile", genfile).file("t.hbs", "{{inputs.[0].text}}").file("in", "1\n");
    p.run([]).exits(0);
    p.edit("in", "2\n");
    let second = |call: &Call| call.name.starts_with("rename") && call.paths.contains(&p.path("gen/y"));
    let traced = tracer::trace(&p.command([]), |call| if second(call) { Then::Fail(Errno::EIO) } else { Then::GoOn });
    assert_eq!(traced.status.code(), Some(2));
    assert_eq!((p.read("gen/x").as_str(), p.read("gen/y").as_str()), ("2\n", "1\n"));
    p.edit("in", "3\n").run([]).exits(0);
    assert_eq!((p.read("gen/x").as_str(), p.read("gen/y").as_str()), ("3\n", "3\n"));
}
