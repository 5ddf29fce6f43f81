//! `watch`: what it builds and when, told by its own lines. Nothing here waits for a time, only for what it says.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::project::Project;
use crate::server::{Act, Gate, Server};
use crate::shop::{is_built, page, shop, spec};

/// How long a line may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `genmake watch` under way. It is killed when this is dropped.
struct Watching {
    child: Child,
    lines: Receiver<String>,
}

impl Watching {
    /// Begins, and waits until everything was built once; what it said up to then.
    fn begin(p: &Project, args: &[&str]) -> (Watching, Vec<String>) {
        let mut child = p.spawn([&["watch"], args].concat());
        let stderr = child.stderr.take().expect("stderr is piped");
        let (says, lines) = channel();
        thread::spawn(move || BufReader::new(stderr).lines().map_while(Result::ok).all(|line| says.send(line).is_ok()));
        let watching = Watching { child, lines };
        let said = watching.until("watch  for changes");
        (watching, said)
    }

    /// The lines up to one that holds `part`, with that one.
    #[track_caller]
    fn until(&self, part: &str) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let is_it = line.contains(part);
                    said.push(line);
                    if is_it {
                        return said;
                    }
                }
                Err(why) => panic!("it never said {part:?} ({why}): {said:?}"),
            }
        }
    }

    /// Waits for builds until one has left things as they should be; how many that took.
    #[track_caller]
    fn until_built(&self, is_right: impl Fn() -> bool) -> usize {
        let mut builds = 0;
        while !is_right() || builds == 0 {
            self.until(" in ");
            builds += 1;
        }
        builds
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("a process's id");
        kill_process(id, signal).expect("a child that runs can be sent a signal");
    }

    /// Ends it as a person would, by a signal; what it still said.
    #[track_caller]
    fn end(mut self) -> Vec<String> {
        self.signal(Signal::INT);
        let said = self.lines.iter().collect();
        let status = self.child.wait().expect("a child can be waited for");
        assert_eq!(status.signal(), Some(Signal::INT.as_raw()), "{status:?}: {said:?}");
        said
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// A page of each file below `src`, and an index of them.
fn pages() -> Project {
    Project::new()
        .file(
            "Genfile",
            "version: 1\nrules:\n  pages: {foreach: \"src/**/*.md\", template: t/page.hbs, output: \"out/{{item.path}}\"}\n  \
             index: {template: t/index.hbs, output: index.txt, inputs: [\"rule:pages\"]}\n",
        )
        .file("t/page.hbs", "page: {{item.text}}")
        .file("t/index.hbs", "{{#each inputs.[0]}}{{path}}\n{{/each}}")
        .file("src/a.md", "a\n")
}

/// Edits a file at one stroke, so that no build can meet it half-written.
fn replace(p: &Project, path: &str, text: &str) {
    p.edit("scratch", text);
    fs_err::rename(p.path("scratch"), p.path(path)).expect("a file can be renamed");
}

/// Lines that a build ends with.
fn builds(said: &[String]) -> Vec<&String> {
    said.iter().filter(|line| line.contains(" in ")).collect()
}

#[test]
fn an_edit_is_built_once_with_one_line() {
    let p = pages();
    let (watching, said) = Watching::begin(&p, &[]);
    assert!(said[0].starts_with("done: 2 rendered in "), "{said:?}");
    assert_eq!(said.len(), 2);
    for text in ["one\n", "two\n", "three\n"] {
        replace(&p, "src/a.md", text);
        let said = watching.until(" in ");
        assert!(said[0].starts_with("done: 1 rendered, 1 fresh in "), "{said:?}");
        assert_eq!(p.read("out/src/a.md"), format!("page: {text}"));
    }
    // A touch, and what no rule reads, are nothing to say a word of; nor is what the builds themselves wrote.
    p.edit("notes.txt", "not read");
    replace(&p, "src/a.md", "three\n");
    replace(&p, "src/b.md", "b\n");
    let said = watching.until(" in ");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("done: 2 rendered, 1 fresh"), "{said:?}");
    // Between builds it holds nothing: another run need not wait for it.
    let run = p.run([]);
    assert!(run.stderr.starts_with("nothing to do"), "{}", run.stderr);
    run.exits(0);
    assert_eq!(watching.end(), [""; 0]);
}

#[test]
fn new_files_in_new_folders_and_deleted_ones() {
    let p = pages();
    let (watching, _) = Watching::begin(&p, &[]);
    for n in 0..5 {
        // The folder is brand-new when the file is made in it.
        let path = format!("src/new{n}/deep/er/b.md");
        p.edit(&path, "b\n");
        watching.until_built(|| p.exists(&format!("out/{path}")) && p.read("index.txt").contains(&path));
        // And is watched from then on.
        p.edit(&path, "other\n");
        watching.until_built(|| p.read(&format!("out/{path}")) == "page: other\n");
    }
    p.remove("src/new1/deep/er/b.md");
    watching.until_built(|| !p.exists("out/src/new1") && !p.read("index.txt").contains("new1"));
    p.remove("src/new2");
    watching.until_built(|| !p.exists("out/src/new2") && !p.read("index.txt").contains("new2"));
    // What is missing is made again.
    p.remove("out/src/a.md");
    watching.until_built(|| p.exists("out/src/a.md"));
    watching.end();
}

#[test]
fn a_burst_of_edits_is_few_builds() {
    let p = pages();
    let (watching, _) = Watching::begin(&p, &[]);
    for n in 0..400 {
        p.edit(&format!("src/{}.md", n % 20), &format!("{n}\n"));
    }
    let builds = watching.until_built(|| p.exists("out/src/19.md") && p.read("out/src/19.md") == "page: 399\n");
    assert!(builds <= 40, "{builds} builds for 400 edits");
    watching.end();
}

#[test]
fn mistakes_are_told_once_and_survived() {
    let p = pages();
    let (watching, _) = Watching::begin(&p, &[]);
    let good = p.read("Genfile");
    replace(&p, "Genfile", "version: 1\nrulez: {}\n");
    watching.until("unknown key `rulez`");
    // Something else changes, and nothing new is to be said.
    p.edit("src/a.md", "edited meanwhile\n");
    replace(&p, "Genfile", "version: [");
    let said = watching.until("genmake::yaml");
    assert!(!said.iter().any(|line| line.contains("genmake::unknown_key")), "{said:?}");
    replace(&p, "Genfile", &good);
    watching.until_built(|| p.read("out/src/a.md") == "page: edited meanwhile\n");
    replace(&p, "Genfile", "version: [");
    watching.until("genmake::yaml");
    replace(&p, "Genfile", &good);
    watching.until("no mistakes any more");
    // A template with a mistake fails its tasks; the watch goes on.
    p.edit("t/page.hbs", "{{nope}}");
    watching.until("genmake::undefined");
    p.edit("t/page.hbs", "mended: {{item.text}}");
    watching.until_built(|| p.read("out/src/a.md") == "mended: edited meanwhile\n");
    // Taken back, it is over without a build.
    p.edit("t/page.hbs", "{{nope}}");
    watching.until("genmake::undefined");
    p.edit("t/page.hbs", "mended: {{item.text}}");
    watching.until("no mistakes any more");
    watching.end();
}

#[test]
fn a_command_that_fails_and_leaves_its_traces_is_not_run_for_ever() {
    let p = pages();
    let genfile =
        p.read("Genfile") + "  bad: {inputs: [in.txt], output: bad.txt, run: \"echo run >> trace.log; exit 1\"}\n";
    p.edit("Genfile", &genfile).edit("in.txt", "1\n");
    let (watching, said) = Watching::begin(&p, &[]);
    assert_eq!(builds(&said).len(), 1, "{said:?}");
    for n in 2..5 {
        // Each build tries again what has failed, and its trace in the tree begins no other.
        replace(&p, "src/a.md", &format!("{n}\n"));
        watching.until_built(|| p.read("out/src/a.md") == format!("page: {n}\n"));
        assert_eq!(p.read("trace.log").lines().count(), n);
    }
    assert_eq!(builds(&watching.end()), [""; 0]);
}

#[test]
fn an_edit_by_hand_is_left_and_told_once() {
    let p = pages();
    let (watching, _) = Watching::begin(&p, &[]);
    p.edit("out/src/a.md", "mine\n");
    watching.until("was edited by hand");
    watching.until(" in ");
    p.edit("src/b.md", "b\n");
    watching.until_built(|| p.exists("out/src/b.md"));
    assert_eq!(p.read("out/src/a.md"), "mine\n");
    watching.end();
}

#[test]
fn a_model_on_this_machine_is_asked() {
    let server = Server::start();
    let p = shop(&server, 2);
    let (watching, _) = Watching::begin(&p, &[]);
    is_built(&p, 2, &[]);
    replace(&p, "spec.yaml", &spec(2, &[("e2", "new")]));
    watching.until_built(|| p.read("docs/e2.md") == page("e2", "new"));
    assert_eq!(server.count(), 2);
    watching.end();
}

/// The shop, with a model that does not stand on loopback, and is this machine all the same.
fn elsewhere(server: &Server) -> Project {
    let p = shop(server, 2);
    p.edit("Genfile", &p.read("Genfile").replace("127.0.0.1", "0.0.0.0"));
    p
}

#[test]
fn a_model_elsewhere_is_asked_with_a_person_s_yes_only() {
    let server = Server::start();
    let p = elsewhere(&server);
    let (watching, said) = Watching::begin(&p, &[]);
    let wait = "     wait  2 targets: docs/e1.md, docs/e2.md: `p` may cost something; `--yes` lets it be asked";
    assert_eq!(said.iter().filter(|line| *line == wait).count(), 1, "{said:?}");
    assert!(p.exists("docs/index.md"), "what costs nothing is built");
    p.edit("templates/index.hbs", "other");
    watching.until_built(|| p.read("docs/index.md") == "other");
    assert_eq!(server.connections(), 0);
    // What another run pays for is up to date here, too.
    p.run(["--yes"]).exits(0);
    replace(&p, "spec.yaml", &spec(2, &[("e1", "new")]));
    watching.until("1 target: docs/e1.md: `p` may cost something");
    assert_eq!(server.count(), 1);
    watching.end();
    let (watching, _) = Watching::begin(&p, &["--yes"]);
    assert_eq!(p.read("docs/e1.md"), page("e1", "new"));
    assert_eq!(server.count(), 2);
    watching.end();
}

#[test]
fn a_signal_ends_it_in_the_middle_of_a_request() {
    let server = Server::start();
    let p = shop(&server, 2);
    let (watching, _) = Watching::begin(&p, &[]);
    server.script([Act::Hold(Gate::new())]);
    replace(&p, "spec.yaml", &spec(2, &[("e1", "new")]));
    server.wait_for(2);
    watching.end();
    // What was there is there, and the next run asks for what is missing.
    is_built(&p, 2, &[]);
    p.run([]).exits(0);
    is_built(&p, 2, &[("e1", "new")]);
}

#[test]
fn what_it_does_not_go_with() {
    let p = pages();
    p.run(["watch", "-n"]).stderr_has("`watch` builds, and `-n` makes nothing").exits(2);
    p.run(["watch", "-q"]).stderr_has("`-q` asks whether targets are up to date").exits(2);
}
