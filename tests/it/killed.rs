//! Runs that are cut short: nothing paid for is lost, nothing is half written, and what was started is taken down.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::project::Project;
use crate::server::{Act, Gate, Server};
use crate::shop::{answer, asked_after, has_no_temporary_file, is_built, page, pages, shop_with, spec};

/// How long a process that was told to end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a signal to a child that runs.
pub fn send(signal: Signal, to: &Child) {
    let id = i32::try_from(to.id()).ok().and_then(Pid::from_raw).expect("a process's id");
    kill_process(id, signal).expect("a child that runs can be sent a signal");
}

/// Six pages, two a request, one request at a time; the second request is held for ever. By then the pages of the first are on
/// disk.
fn held_at_the_second() -> (Server, Project, Child) {
    let server = Server::start();
    let p = shop_with(&server, 6, "in_flight: 1", "batching: {max_batch_size: 2}");
    server.script([Act::Default, Act::Hold(Gate::new())]);
    let mut child = p.spawn([]);
    server.wait_for(2);
    for _ in 0..2 {
        p.wait_for_line(&mut child, "generate  docs/e");
    }
    (server, p, child)
}

/// What a run that was cut short left behind is right, and the next run asks only for what is missing.
#[track_caller]
fn goes_on(server: &Server, p: &Project) {
    assert_eq!(pages(p), ["e1", "e2"]);
    for key in ["e1", "e2"] {
        assert_eq!(p.read(&format!("docs/{key}.md")), page(key, &format!("about {key}")));
    }
    p.run([]).exits(0);
    assert_eq!(asked_after(server, 2), ["e3 e4", "e5 e6"]);
    is_built(p, 6, &[]);
    has_no_temporary_file(p);
    p.run([]).stderr_has("nothing to do: 7 targets are up to date").exits(0);
}

// ---- SIGKILL ----

#[test]
fn after_sigkill_what_had_arrived_is_not_asked_for_again() {
    let (server, p, child) = held_at_the_second();
    send(Signal::KILL, &child);
    assert_eq!(p.finish(child).status.signal(), Some(9));
    assert!(!p.exists("Genfile.lock"), "the lock is written at the end");
    goes_on(&server, &p);
}

#[test]
fn after_sigkill_over_an_older_build_the_newer_pages_count() {
    let server = Server::start();
    let p = shop_with(&server, 4, "in_flight: 1", "batching: {max_batch_size: 2}");
    p.run([]).exits(0);
    let news = [("e1", "news"), ("e2", "news"), ("e3", "news"), ("e4", "news")];
    p.edit("spec.yaml", &spec(4, &news));
    server.script([Act::Default, Act::Hold(Gate::new())]);
    let mut child = p.spawn([]);
    server.wait_for(4);
    for _ in 0..2 {
        p.wait_for_line(&mut child, "generate  docs/e");
    }
    send(Signal::KILL, &child);
    drop(p.finish(child));
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 4), ["e3 e4"]);
    is_built(&p, 4, &news);
}

#[test]
fn after_sigkill_an_edited_page_is_known_as_edited() {
    let (server, p, child) = held_at_the_second();
    send(Signal::KILL, &child);
    drop(p.finish(child));
    p.edit("docs/e1.md", "# Mine\n");
    p.run([]).stderr_has("`docs/e1.md` was").exits(2);
    assert_eq!(p.read("docs/e1.md"), "# Mine\n");
    assert_eq!(asked_after(&server, 2), ["e3 e4", "e5 e6"]);
}

#[test]
fn after_sigkill_a_page_whose_input_changed_is_made_anew_and_not_taken_for_edited() {
    let (server, p, child) = held_at_the_second();
    send(Signal::KILL, &child);
    drop(p.finish(child));
    p.edit("spec.yaml", &spec(6, &[("e1", "new")]));
    p.run([]).exits(0);
    let mut asked = asked_after(&server, 2).join(" ").split(' ').map(str::to_owned).collect::<Vec<_>>();
    asked.sort();
    assert_eq!(asked, ["e1", "e3", "e4", "e5", "e6"]);
    is_built(&p, 6, &[("e1", "new")]);
}

#[test]
fn after_sigkill_a_damaged_journal_costs_nothing_and_spoils_nothing() {
    for damage in [&b""[..], b"\x10\0\0\0garbage", b"\xff\xff\xff\xff"] {
        let (server, p, child) = held_at_the_second();
        send(Signal::KILL, &child);
        drop(p.finish(child));
        let journal = p.everything().remove(".genmake/journal").expect("a journal");
        let mut damaged = journal[..journal.len() / 3].to_vec();
        damaged.extend(damage);
        std::fs::File::create(p.path(".genmake/journal"))
            .and_then(|mut file| std::io::Write::write_all(&mut file, &damaged))
            .expect("the journal can be written");
        goes_on(&server, &p);
    }
}

#[test]
fn after_sigkill_a_reply_that_was_saved_and_not_written_is_used() {
    let (server, p, child) = held_at_the_second();
    send(Signal::KILL, &child);
    drop(p.finish(child));
    // As if it had been killed between the arrival of the answer and the first output.
    p.remove("docs/e1.md").remove(".genmake/journal").remove(".genmake/store/ac").remove(".genmake/store/cas");
    p.remove("docs/e2.md");
    // A plan knows of it: no request carries what is there.
    p.run(["plan"]).stdout_has("restore   docs/e1.md     new\n").stdout_has("2 requests").exits(0);
    p.run(["plan", "-B"]).stdout_has("3 requests").exits(0);
    p.run(["check"]).stdout_has("restorable  docs/e2.md").exits(1);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 2), ["e3 e4", "e5 e6"]);
    is_built(&p, 6, &[]);
}

/// A build of every kind: two templates, one of them filtered and checked; a command with two outputs and one after it; two
/// pages in one request; and, once `old` is left out, an orphan to delete.
fn of_all_kinds(server: &Server, old: &str) -> Project {
    let genfile = format!(
        r#"version: 1
provider: p
providers: {{p: {{api: openai, model: m, base_url: "{{base_url}}"}}}}
rules:
  index: {{inputs: [in], template: t.hbs, output: docs/index.md, filter: [cat], check: {{run: "test -s {{{{output}}}}"}}}}
  script: {{inputs: [in], template: t.hbs, output: bin/s.sh, file_mode: "0755"}}
  pair: {{inputs: [in], outputs: {{x: gen/x, y: gen/y}}, run: "cat in > gen/x; echo more >> gen/x; cp gen/x gen/y"}}
  after: {{inputs: [gen/x, docs/index.md], output: gen/after, run: "cat gen/x docs/index.md > {{{{output}}}}"}}
  pages: {{foreach: [e1, e2], inputs: {{in: in}}, prompt: p.prompt, output: "docs/{{{{item}}}}.md"}}
{old}"#
    );
    let p = Project::new().genfile_for(server, &genfile).file("in", "1\n").file("t.hbs", "{{inputs.[0].text}}");
    p.file("p.prompt", "Write about {{item}}: {{inputs.in.text}}\n")
}

#[test]
fn after_sigkill_at_any_line_the_next_run_is_a_clean_build() {
    const OLD: &str = "  old: {template: t.hbs, inputs: [in], output: docs/old/o.md}\n";
    let server = Server::start();
    server.reply(answer);
    let clean = of_all_kinds(&server, "").file("in", "2\n");
    clean.run([]).exits(0);
    let words =
        ["delete  ", "render  docs", "render  bin", "run  gen/x", "run  gen/after", "ask  ", "answer  ", "generate  "];
    for word in words {
        let p = of_all_kinds(&server, OLD);
        p.run([]).exits(0);
        let genfile = p.read("Genfile").replace(OLD, "");
        p.edit("Genfile", &genfile).edit("in", "2\n");
        let before = server.count();
        let mut child = p.spawn([]);
        p.wait_for_line(&mut child, word);
        send(Signal::KILL, &child);
        drop(p.finish(child));
        p.run([]).exits(0);
        assert_eq!(p.tree(), clean.tree(), "killed at {word:?}");
        has_no_temporary_file(&p);
        assert!(!p.exists(".genmake/stage") && !p.exists(".genmake/journal") && !p.exists("docs/old"));
        assert!(server.count() - before <= 2, "only what was in flight is asked for again");
        p.run([]).stderr_has("nothing to do").exits(0);
    }
}

// ---- SIGINT ----

#[test]
fn sigint_ends_the_run_as_a_signal_does_and_loses_nothing() {
    for signal in [Signal::INT, Signal::TERM] {
        let (server, p, child) = held_at_the_second();
        send(signal, &child);
        let run = p.finish(child).stderr_has("interrupted: 2 generated, ").stderr_has("4 skipped");
        assert_eq!(run.status.signal(), Some(signal.as_raw()));
        assert!(p.read("Genfile.lock").contains("docs/e1.md "), "what is there stands in the lock");
        has_no_temporary_file(&p);
        goes_on(&server, &p);
    }
}

#[test]
fn sigint_ends_a_wait_between_retries() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    server.always(Act::rate_limited(200));
    let mut child = p.spawn([]);
    p.wait_for_line(&mut child, "retry  request 1 in ");
    send(Signal::INT, &child);
    let run = p.finish(child);
    assert_eq!(run.status.signal(), Some(Signal::INT.as_raw()));
    assert_eq!(server.count(), 1);
}

#[test]
fn sigint_ends_a_wait_for_another_genmake() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    let gate = Gate::new();
    server.script([Act::Hold(gate.clone())]);
    let first = p.spawn([]);
    server.wait_for(1);
    let mut second = p.spawn([]);
    p.wait_for_line(&mut second, "wait  another genmake");
    send(Signal::INT, &second);
    // The first still runs: the second has ended by the signal alone.
    assert_eq!(p.finish(second).status.signal(), Some(Signal::INT.as_raw()));
    gate.open();
    p.finish(first).exits(0);
}

// ---- what `start:` brought up ----

/// A command that says when it is up, and leaves a child behind that ignores SIGTERM. Both hold a pipe open.
const COMMAND: &str = r#"exec 9>alive
(trap '' TERM; while :; do sleep 600; done) &
echo "up for $GENMAKE_PID"
wait
"#;

/// A provider that nothing answers for until its command runs, and the end of all that the command started.
struct Started {
    server: Server,
    project: Project,
    ended: mpsc::Receiver<()>,
}

fn started() -> Started {
    let server = Server::start_deaf();
    let project = shop_with(&server, 2, "start: sh start.sh", "").file("start.sh", COMMAND);
    let made = Command::new("mkfifo").arg(project.path("alive")).status();
    assert!(made.is_ok_and(|status| status.success()), "a named pipe can be made");
    let (sender, ended) = mpsc::channel();
    let pipe = project.path("alive");
    thread::spawn(move || {
        // Opens when the command opens it, and ends when nobody holds it any more.
        let mut pipe = std::fs::File::open(pipe).expect("the pipe can be opened");
        let mut nothing = Vec::new();
        pipe.read_to_end(&mut nothing).expect("the pipe can be read");
        let _ = sender.send(()); // the test may have failed meanwhile
    });
    Started { server, project, ended }
}

impl Started {
    /// Runs genmake until its provider is up.
    #[track_caller]
    fn up(&self) -> Child {
        let mut child = self.project.spawn([]);
        let line = self.project.wait_for_line(&mut child, "up for ");
        assert!(line.ends_with(&format!("p: up for {}", child.id())), "{line}");
        child
    }

    /// That nothing of the command runs any more.
    #[track_caller]
    fn is_gone(&self) {
        self.ended.recv_timeout(PATIENCE).expect("all that `start:` started has ended");
    }
}

#[test]
fn what_was_started_ends_with_a_run_that_went_well() {
    let started = started();
    let child = started.up();
    started.server.hear();
    started.project.finish(child).stderr_has("ready  p, after ").exits(0);
    started.is_gone();
    started.project.remove("alive");
    is_built(&started.project, 2, &[]);
    // Nothing to ask: nothing is started.
    started.project.run([]).stderr_has("nothing to do").exits(0);
}

#[test]
fn what_was_started_ends_with_a_run_that_failed() {
    let started = started();
    started.server.always(Act::unauthorized());
    let child = started.up();
    started.server.hear();
    started.project.finish(child).exits(2);
    started.is_gone();
}

#[test]
fn what_was_started_ends_with_sigint() {
    let started = started();
    started.server.always(Act::Hold(Gate::new()));
    let child = started.up();
    started.server.hear();
    started.server.wait_for(1);
    send(Signal::INT, &child);
    assert_eq!(started.project.finish(child).status.signal(), Some(Signal::INT.as_raw()));
    started.is_gone();
}

#[test]
fn what_is_being_started_ends_with_sigint() {
    let started = started();
    let child = started.up();
    // Nothing answers yet, and nothing will.
    send(Signal::INT, &child);
    assert_eq!(started.project.finish(child).status.signal(), Some(Signal::INT.as_raw()));
    started.is_gone();
    assert_eq!(started.server.count(), 0);
}

#[test]
fn what_was_started_ends_when_its_time_is_up() {
    let started = started();
    let p = &started.project;
    p.edit("Genfile", &p.read("Genfile").replace("start: sh start.sh", "start: sh start.sh, start_timeout: 1s"));
    let child = started.up();
    p.finish(child).stderr_has("nothing answered within [TIME] (`start_timeout`)").exits(2);
    started.is_gone();
    assert!(p.exists("docs/index.md"), "what needs no model is made");
}

#[test]
fn a_command_that_fails_is_said_with_its_words() {
    let server = Server::start_deaf();
    let p =
        shop_with(&server, 1, "start: sh start.sh", "").file("start.sh", "echo 'install a model first' >&2\nexit 7\n");
    p.run([]).stderr_has("it ended with exit status: 7").stderr_has("install a model first").exits(2);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_provider_that_is_up_already_is_not_started_and_not_taken_down() {
    let server = Server::start();
    let p = shop_with(&server, 2, "start: touch started", "");
    p.run([]).exits(0);
    assert!(!p.exists("started"));
    assert_eq!(server.count(), 1);
}
