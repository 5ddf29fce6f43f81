//! Damage, clocks, and others at the same time: what genmake keeps for itself may be anything, files may have any time, and any
//! number of runs may begin at once.
//!
//! `GENMAKE_ALL=1` for all of what is a sample otherwise.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use genmake::plan::{Verdict, Wish};
use genmake::{Location, Options, Project as Opened};
use rustix::process::Signal;

use crate::killed::send;
use crate::project::{Project, all};
use crate::server::{Act, Gate, Server};
use crate::shop::{asked_after, is_built, page, shop, spec};

/// What is not up to date, by the library.
fn stale(root: &Path) -> BTreeMap<String, Verdict> {
    let location = Location { root: root.to_path_buf(), name: "Genfile".to_owned() };
    let project = Opened::open_at(&location, &Options::default().env).unwrap_or_else(|e| panic!("{e}"));
    let planned = project.plan_as(&[], Wish::default(), &1.into()).unwrap_or_else(|e| panic!("{e}"));
    let mut found = BTreeMap::new();
    for (task, judged) in planned.plan.tasks.iter().enumerate() {
        let judged = judged.as_ref().expect("all are asked for").as_ref().unwrap_or_else(|e| panic!("{e}"));
        if judged.verdict != Verdict::Fresh {
            found.insert(planned.graph().name(task).to_string(), judged.verdict.clone());
        }
    }
    found
}

// ---- the state ----

/// Two pages of a shop whose files are old enough for their stamps to be believed, and then one page's input edited.
fn edited_by_one() -> (Server, Project) {
    let server = Server::start();
    let p = shop(&server, 2);
    p.run([]).exits(0);
    #[allow(clippy::disallowed_methods, reason = "no event says that a stamp is old enough")]
    std::thread::sleep(Duration::from_millis(2100));
    // Whoever writes it down does so by the second.
    p.run([]).exits(0);
    p.run([]).exits(0);
    let time = p.path("spec.yaml").metadata().and_then(|meta| meta.modified()).expect("a time");
    p.edit("spec.yaml", &spec(2, &[("e2", "about e9")]));
    std::fs::File::options()
        .append(true)
        .open(p.path("spec.yaml"))
        .and_then(|file| file.set_modified(time))
        .expect("a time");
    (server, p)
}

/// Damaged forms of a file: cut at every byte, each bit of its first KiB flipped, and what never was one.
fn damages(whole: &[u8]) -> Vec<(String, Vec<u8>)> {
    let step = if all() { 1 } else { 13 };
    let cut = (0..whole.len().min(4096)).step_by(step).map(|at| (format!("cut at {at}"), whole[..at].to_vec()));
    let flip = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at / 8] ^= 1 << (at % 8);
        (format!("bit {at} flipped"), bytes)
    };
    let flipped = (0..whole.len().min(1024) * 8).step_by(step * 3).map(flip);
    let mut noise = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 24) as u8
    })
    .take(4096)
    .collect();
    let mut longer = whole.to_vec();
    longer.extend(&noise);
    let others = [
        ("nothing", Vec::new()),
        ("noise", noise),
        ("more after it", longer),
        ("zeros", vec![0; whole.len()]),
        ("a former version's", b"genmake-state 1 0.0.1 00000000\n{}".to_vec()),
        ("a later version's", b"genmake-state 9999 99.0.0 00000000\n{}".to_vec()),
    ];
    cut.chain(flipped).chain(others.map(|(name, bytes)| (name.to_owned(), bytes))).collect()
}

#[test]
fn a_state_that_is_damaged_anyhow_changes_no_verdict() {
    let (server, p) = edited_by_one();
    let state = p.path(".genmake/state");
    let whole = fs_err::read(&state).expect("a state");
    let root = fs_err::canonicalize(p.path("")).expect("the root");
    let right = |what: &str| {
        let found = stale(&root);
        let names: Vec<&String> = found.keys().collect();
        assert_eq!(names, ["docs/e2.md"], "{what}");
        assert!(matches!(found["docs/e2.md"], Verdict::Stale(_)), "{what}: {found:?}");
    };
    right("whole");
    let damages = damages(&whole);
    for (what, bytes) in &damages {
        fs_err::write(&state, bytes).expect("the state can be written");
        right(what);
    }
    // By the front door, a sample; where nothing is to be made, it is made anew at no cost.
    p.edit("spec.yaml", &spec(2, &[]));
    let before = p.stamps();
    for (what, bytes) in damages.iter().step_by(damages.len().div_ceil(12)).chain(damages.iter().rev().take(6)) {
        fs_err::write(&state, bytes).expect("the state can be written");
        p.run(["check"]).exits(0);
        p.run([]).stderr_has("nothing to do").exits(0);
        assert_eq!(p.stamps(), before, "{what}");
        p.run([])
            .stderr(expect_test::expect![[r#"
            nothing to do: 3 targets are up to date in [TIME]
        "#]])
            .exits(0);
    }
    assert_eq!(server.count(), 1);
    // A folder in its place.
    p.remove(".genmake/state").edit(".genmake/state/deep/file", "");
    p.run(["check"]).exits(0);
    p.run([]).stderr_has("notice  `.genmake/state` was damaged and is made anew").stderr_has("nothing to do").exits(0);
    assert_eq!((server.count(), p.stamps()), (1, before));
}

// ---- the store ----

#[test]
fn a_flipped_bit_in_any_object_of_the_store_is_a_miss_and_set_aside() {
    let server = Server::start();
    let p = shop(&server, 2);
    p.run([]).exits(0);
    let lock = p.read("Genfile.lock");
    let kept: BTreeMap<String, Vec<u8>> = p.everything();
    let objects: Vec<&String> = kept.keys().filter(|path| path.starts_with(".genmake/store/")).collect();
    assert_eq!(objects.len(), 6, "two blobs, two actions, two replies: {objects:?}");
    for path in objects {
        // Alone, and with all else gone that could stand in for it.
        for rest in [&[][..], &[".genmake/store/replies"], &[".genmake/store/ac", ".genmake/store/cas"]] {
            for (path, bytes) in kept.iter().filter(|(path, _)| path.starts_with(".genmake/store/")) {
                p.edit(path, std::str::from_utf8(bytes).expect("text"));
            }
            for folder in rest {
                p.remove(folder);
            }
            if !p.exists(path) {
                continue;
            }
            let mut bytes = kept[path].clone();
            let at = bytes.len() / 2;
            bytes[at] ^= 4;
            fs_err::write(p.path(path), &bytes).expect("an object");
            p.remove("docs");
            let asked = server.count();
            p.run([]).exits(0);
            is_built(&p, 2, &[]);
            assert_eq!(p.read("Genfile.lock"), lock, "{path}");
            assert!(server.count() - asked <= usize::from(!rest.is_empty()), "{path}: asked for what a reply holds");
            let all = p.everything();
            let aside = all.iter().filter(|(path, _)| path.starts_with(".genmake/store/damaged/"));
            // A reply is read only if there is no result.
            let is_read = !path.contains("/replies/") || !rest.is_empty();
            assert_eq!(aside.filter(|(_, text)| **text == bytes).count(), usize::from(is_read), "{path} {rest:?}");
            if p.exists(".genmake/store/damaged") {
                p.remove(".genmake/store/damaged");
            }
        }
    }
}

// ---- clocks ----

fn set_time(p: &Project, path: &str, time: SystemTime) {
    let file = std::fs::File::options().append(true).open(p.path(path)).expect("a file");
    file.set_modified(time).expect("a time can be set");
}

#[test]
fn files_may_have_any_time() {
    let server = Server::start();
    let p = shop(&server, 3);
    p.run([]).exits(0);
    let years = Duration::from_secs(10 * 365 * 24 * 3600);
    let now = SystemTime::now();
    let since = now.duration_since(SystemTime::UNIX_EPOCH).expect("a clock that is set");
    // 1970; ten years ahead, as after the clock was put back; ten years ago; as FAT cuts it, ahead and behind.
    let even = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs() / 2 * 2);
    let times = [SystemTime::UNIX_EPOCH, now + years, now - years, even, even + Duration::from_secs(2)];
    let mut asked = server.count();
    let mut about = 0;
    for time in times {
        let at_that_time = || p.tree().keys().for_each(|path| set_time(&p, path, time));
        at_that_time();
        let before = p.stamps();
        p.run(["check"]).exits(0);
        p.run([]).stderr_has("nothing to do").exits(0);
        assert_eq!((server.count(), p.stamps()), (asked, before));
        // Edits of the same size, at the very same time.
        for _ in 0..2 {
            about += 1;
            let text = format!("about {about:02}");
            p.edit("spec.yaml", &spec(3, &[("e2", &text)]));
            at_that_time();
            p.run(["check"]).stdout_has("docs/e2.md").exits(1);
            p.run([]).exits(0);
            assert_eq!(asked_after(&server, asked), ["e2"], "{time:?}");
            asked += 1;
            is_built(&p, 3, &[("e2", &text)]);
            at_that_time();
        }
        // And back, for nothing.
        p.edit("spec.yaml", &spec(3, &[]));
        at_that_time();
        p.run([]).stderr_has("restore  docs/e2.md").exits(0);
        p.edit("docs/e1.md", "mine\n");
        at_that_time();
        p.run(["check"]).stdout_has("edited  docs/e1.md").exits(1);
        p.edit("docs/e1.md", &page("e1", "about e1"));
        assert_eq!(server.count(), asked);
    }
}

// ---- at the same time ----

#[test]
fn what_is_edited_while_a_model_writes_counts_for_the_next_run() {
    let server = Server::start();
    let p = shop(&server, 2);
    p.run([]).exits(0);
    p.edit("spec.yaml", &spec(2, &[("e1", "one")]));
    let gate = Gate::new();
    server.script([Act::Hold(gate.clone())]);
    let child = p.spawn([]);
    server.wait_for(2);
    // Of the same size, and as if at the same time.
    let time = p.path("spec.yaml").metadata().and_then(|meta| meta.modified()).expect("a time");
    p.edit("spec.yaml", &spec(2, &[("e1", "two")]));
    set_time(&p, "spec.yaml", time);
    gate.open();
    p.finish(child).exits(0);
    // What was asked for is there, and is not what would be asked for now.
    assert_eq!(p.read("docs/e1.md"), page("e1", "one"));
    p.run(["check"]).stdout_has("stale  docs/e1.md").exits(1);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 2), ["e1"]);
    is_built(&p, 2, &[("e1", "two")]);
    // The first question was paid for once.
    p.edit("spec.yaml", &spec(2, &[("e1", "one")]));
    p.run([]).stderr_has("restore  docs/e1.md").exits(0);
    is_built(&p, 2, &[("e1", "one")]);
    assert_eq!(server.count(), 3);
}

/// An input that changes between the moment it was hashed and that in which a template's output is written, as often as it can.
#[test]
fn an_input_that_keeps_changing_is_never_wrongly_up_to_date() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  a: {template: t.hbs, inputs: {x: x.txt}, output: a.txt}\n")
        .file("t.hbs", "{{inputs.x.text}}")
        .file("x.txt", "0000");
    for round in 0..if all() { 200 } else { 12 } {
        let child = p.spawn([]);
        for n in 0..40 {
            p.edit("x.txt", &format!("{:04}", round * 40 + n));
        }
        let run = p.finish(child);
        // It may be read while it is written, which is said.
        let is_done = run.status.success();
        assert!(is_done || run.stderr.contains("genmake::moved"), "{run}");
        let now = p.read("x.txt");
        let check = p.run(["check"]);
        assert!(!check.status.success() || p.read("a.txt") == now, "up to date, with the input of before");
        p.run([]).exits(0);
        assert_eq!(p.read("a.txt"), now);
    }
}

/// Sixteen at once after each edit: one pays, all are right.
#[test]
fn sixteen_at_once_pay_once() {
    let server = Server::start();
    let p = shop(&server, 4);
    p.run([]).exits(0);
    let mut asked = server.count();
    for round in 0..if all() { 50 } else { 5 } {
        let text = format!("round {round}");
        let changes = [("e1", text.as_str()), ("e3", text.as_str())];
        p.edit("spec.yaml", &spec(4, &changes));
        let gate = Gate::new();
        server.script([Act::Hold(gate.clone())]);
        let mut first: Vec<_> = (0..16).map(|_| p.spawn([])).collect();
        server.wait_for(asked + 1);
        // Who comes while one is at it says that it waits.
        let mut late = p.spawn([]);
        p.wait_for_line(&mut late, "wait  another genmake runs here");
        if round % 3 == 2 {
            // The one that holds the guard may die: it is the one whose journal or request is under way, but nobody can tell
            // which; so all but a few are killed, and those that are left go on. They are stopped before, so that none of them
            // goes on in another's place.
            let mut dying: Vec<_> = first.drain(..12).collect();
            dying.iter().for_each(|child| send(Signal::STOP, child));
            for child in &mut dying {
                child.kill().expect("a child can be killed");
                child.wait().expect("a child can be waited for");
            }
        }
        gate.open();
        for child in first.into_iter().chain([late]) {
            p.finish(child).exits(0);
        }
        is_built(&p, 4, &changes);
        let more = asked_after(&server, asked);
        // What was in flight with one that was killed is all that may be asked for again.
        assert!(more.len() == 1 || (round % 3 == 2 && more.len() == 2), "{more:?}");
        assert!(more.iter().all(|request| request == "e1 e3"), "{more:?}");
        asked = server.count();
        p.run([]).stderr_has("nothing to do").exits(0);
        assert_eq!(server.count(), asked);
    }
}

// ---- a long time ----

/// How many edits [`soaked`] is to do; a process of its own does them, so that its memory is that of genmake alone.
const EDITS: &str = "GENMAKE_SOAK_EDITS";

#[cfg(target_os = "linux")]
#[test]
fn two_thousand_edits_leave_no_more_than_one_does() {
    let edits = if all() { "2000" } else { "60" };
    let me = std::env::current_exe().expect("this program");
    let run = std::process::Command::new(me)
        .args(["--exact", "damage::soaked", "--ignored", "--nocapture", "--test-threads=1"])
        .env(EDITS, edits)
        .output()
        .expect("this program can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(run.status.success(), "{}\n{}", text(&run.stdout), text(&run.stderr));
    assert!(text(&run.stdout).contains("1 passed"), "{}", text(&run.stdout));
}

/// What this process holds in memory, in KiB.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = fs_err::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "started by the test above, in a process of its own"]
#[allow(clippy::disallowed_methods, reason = "asked of who runs the test")]
fn soaked() {
    let edits: usize = std::env::var(EDITS).ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let server = Server::start();
    let p = shop(&server, 3);
    let root = fs_err::canonicalize(p.path("")).expect("the root");
    let location = Location { root, name: "Genfile".to_owned() };
    let options = Options { yes: true, jobs: 1.into(), ..Options::default() };
    let has_gc = p.run(["--help"]).stdout.lines().any(|line| line.trim_start().starts_with("gc "));
    let held = || p.everything().keys().filter(|path| path.starts_with(".genmake/")).count();
    let (mut early, mut first) = (0, 0);
    p.run([]).exits(0);
    let index = p.read("templates/index.hbs");
    for edit in 1..=edits {
        match edit % 5 {
            0 => p.edit("templates/index.hbs", &index.replace("# Index", &format!("# Index {edit}"))),
            1 => p.remove("docs/e2.md"),
            2 => p.edit("docs/e1.md", &p.read("docs/e1.md")),
            _ => p.edit("spec.yaml", &spec(3, &[("e1", &format!("about {edit}")), ("e3", "else")])),
        };
        let glance = Opened::glance(&location, &options.env);
        if glance.as_ref().is_some_and(|glance| glance.is_fresh()) {
            continue;
        }
        let project = match glance {
            Some(glance) => Opened::open_moved(&location, &options.env, glance, || {}),
            None => Opened::open_to_run(&location, &options.env, || {}),
        };
        let planned = project.and_then(|project| project.plan_as(&[], Wish::default(), &1.into()));
        let summary = planned.and_then(|planned| planned.run(&options, &mut |_| {})).unwrap_or_else(|e| panic!("{e}"));
        assert!(summary.is_success(), "edit {edit}");
        if edit % 20 == 0 && has_gc {
            p.run(["gc", "--keep", "0s"]).exits(0);
            first = if first == 0 { held() } else { first };
            assert!(held() <= first + 3, "{first} files after the first, {} after edit {edit}", held());
        }
        if edit == edits / 4 {
            early = resident();
        }
    }
    // Each question leaves a blob, a result, and a reply; besides there are a few files that are always there.
    assert!(held() <= 3 * server.requests().iter().map(|r| r.slots().len().max(1)).sum::<usize>() + 8, "{}", held());
    // Fewer are over before memory that is kept for re-use has filled.
    let late = resident();
    assert!(edits < 1000 || late * 100 <= early * 105, "{early} KiB after a quarter, {late} KiB at the end");
}
