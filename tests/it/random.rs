//! Incremental equals clean, for the least work: random projects and random edits, and after each step the tree and the lock are
//! those of a clean checkout built by the same provider, which was asked for exactly what no result was there for; what remembers
//! and what looks at everything agree; and a second run does nothing.
//!
//! `GENMAKE_RANDOM_CASES=10000` for more cases, `GENMAKE_RANDOM_SEED=N` to begin at another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use genmake::engine::Env;
use genmake::plan::{Memory, Verdict, Wish};
use genmake::{Location, Options, Project, Target};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::server::{Recorded, Server};
use crate::world::{EDITS, Edit, Entry, Lost, OF_FILES, Rule, Tree, What, World, lay, tree};

// ---- the provider ----

/// What a task asked for: the first of its paths, model, instructions, its own words.
type Asked = (String, String, String, String);

/// One task's own words in a request.
fn words(request: &Recorded, slot: Option<&str>) -> String {
    let text = match slot {
        Some(slot) => request.slot_text(slot).unwrap_or_default(),
        None => request.user_text(),
    };
    text.trim().to_owned()
}

fn asked(request: &Recorded) -> Vec<Asked> {
    let model = request.body["model"].as_str().unwrap_or_default();
    let of = |slot| {
        let words = words(request, slot);
        let path = words.split(':').next().unwrap_or_default().to_owned();
        (path, model.to_owned(), request.system_text(), words)
    };
    let slots = request.slots();
    if slots.is_empty() { vec![of(None)] } else { slots.iter().map(|slot| of(Some(slot))).collect() }
}

/// What the provider answers: a function of what it is asked, whoever travels along. Some answers are the same for different
/// questions, so that a rebuild comes out as it was.
fn answer(request: &Recorded, slot: Option<&str>) -> String {
    let model = request.body["model"].as_str().unwrap_or_default();
    let words = words(request, slot).replace("t3", "t1");
    let digest = genmake::digest::Digest::of(format!("{model}\n{}\n{words}", request.system_text()));
    format!("answer {}\n", digest.short())
}

// ---- runs ----

/// What is not up to date, by its first output.
type Verdicts = BTreeMap<String, String>;

/// How genmake is run: by its library, or as a process.
struct Runner {
    root: std::path::PathBuf,
    genfile: String,
    /// The front door, with an empty folder to stand in.
    front: Option<std::path::PathBuf>,
}

#[derive(Debug)]
struct Built {
    is_good: bool,
    /// Nothing was to do.
    is_idle: bool,
    says: String,
}

/// What is not up to date in a project.
fn verdicts(project: Result<Project, genmake::Errors>) -> Verdicts {
    let planned = match project.and_then(|project| project.plan_as(&[], Wish::default(), &1.into())) {
        Ok(planned) => planned,
        Err(errors) => return [("error".to_owned(), errors.to_string())].into(),
    };
    let mut found = Verdicts::new();
    for (task, judged) in planned.plan.tasks.iter().enumerate() {
        let status = match judged.as_ref().map(|judged| judged.as_ref().map(|judged| &judged.verdict)) {
            Some(Ok(Verdict::Fresh)) => continue,
            Some(Ok(Verdict::Stale(_))) => "stale",
            Some(Ok(Verdict::Restorable(..))) => "restorable",
            Some(Ok(Verdict::Edited(..))) => "edited",
            Some(Ok(Verdict::Kept(_))) => "kept",
            Some(Ok(Verdict::Waiting(_))) => "waiting",
            Some(Err(_)) => "failed",
            None => "not judged",
        };
        found.insert(planned.graph().name(task).to_string(), status.to_owned());
    }
    found.extend(planned.plan.orphans.iter().map(|orphan| (orphan.path.to_string(), "orphan".to_owned())));
    found
}

impl Runner {
    fn location(&self) -> Location {
        Location { root: self.root.clone(), name: self.genfile.clone() }
    }

    fn command(&self, away: &Path, env: &str, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_genmake"));
        // From elsewhere, or from below the root where the Genfile is found upwards.
        match self.genfile.as_str() {
            "Genfile" if args.len().is_multiple_of(2) => command.current_dir(self.root.join("t")),
            name => command.current_dir(away).arg("-C").arg(&self.root).args(["-f", name]),
        };
        #[expect(clippy::disallowed_methods, reason = "a recipe's programs are found where the caller's are")]
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.args(args).env_clear().env("PATH", path).env("HOME", away).env("GM_VAR", env).stdin(Stdio::null());
        let out = command.output().expect("the tests' own binary can be started");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
    }

    fn check(&self, env: &str) -> Result<Verdicts, String> {
        if let Some(away) = &self.front {
            let (exit, out, err) = self.command(away, env, &["check", "--format", "json"]);
            let Ok(report) = serde_json::from_str::<serde_json::Value>(&out) else {
                return if exit == 2 { Ok([("error".to_owned(), err)].into()) } else { Err(format!("{exit}\n{err}")) };
            };
            let targets = report["targets"].as_array().into_iter().flatten();
            let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let found: Verdicts = targets.map(|t| (word(&t["outputs"][0]), word(&t["status"]))).collect();
            let is_right = match exit {
                0 => found.is_empty(),
                1 => !found.is_empty(),
                _ => found.values().any(|status| status == "failed"),
            };
            return if is_right { Ok(found) } else { Err(format!("{exit} for {found:?}\n{err}")) };
        }
        let (location, env) = (self.location(), variable(env));
        let whole = || verdicts(Project::open_at(&location, &env));
        let seen = match Project::glance(&location, &env) {
            None => return Ok(whole()),
            Some(glance) if glance.is_fresh() => return Ok(Verdicts::new()),
            Some(glance) => verdicts(Project::open_seen(&location, &env, glance)),
        };
        let whole = whole();
        if seen == whole { Ok(whole) } else { Err(format!("after a glance {seen:?}, and of the whole {whole:?}")) }
    }

    fn build(&self, env: &str, target: Option<&str>, force: bool) -> Built {
        if let Some(away) = &self.front {
            let mut args = vec!["build", "--yes"];
            args.extend(force.then_some("--force"));
            let there = target.map(|target| match target.contains('/') {
                true => self.root.join(target).display().to_string(),
                false => target.to_owned(),
            });
            args.extend(there.as_deref());
            let (exit, _, says) = self.command(away, env, &args);
            return Built { is_good: exit == 0, is_idle: says.contains("nothing to do"), says };
        }
        let options = Options {
            yes: true,
            jobs: 2.into(),
            wish: Wish { force, rebuild: false },
            env: variable(env),
            ..Options::default()
        };
        let targets: Vec<Target> =
            target.map(|text| Target { text: text.to_owned(), path: Some(text.to_owned()) }).into_iter().collect();
        let mut says = String::new();
        // As the command does.
        let location = self.location();
        let glance = if targets.is_empty() { Project::glance(&location, &options.env) } else { None };
        let project = match glance {
            Some(glance) if glance.is_fresh() => {
                return Built { is_good: true, is_idle: true, says: "at a glance".to_owned() };
            }
            Some(glance) => Project::open_moved(&location, &options.env, glance, || {}),
            None => Project::open_to_run(&location, &options.env, || {}),
        };
        let summary = project
            .and_then(|project| project.plan_as(&targets, options.wish, &options.jobs))
            .and_then(|planned| planned.run(&options, &mut |event| says += &format!("{event:?}\n")));
        match summary {
            Ok(summary) => Built {
                is_good: summary.is_success(),
                is_idle: summary.written == 0
                    && summary.tasks.iter().all(|end| end.status == genmake::event::Status::Fresh),
                says,
            },
            Err(errors) => Built { is_good: false, is_idle: false, says: errors.to_string() },
        }
    }
}

fn variable(value: &str) -> Env {
    let value = value.to_owned();
    Arc::new(move |name| (name == "GM_VAR").then(|| value.clone()))
}

// ---- a case ----

/// What a clean checkout comes to.
struct Clean {
    /// Outputs and lock.
    made: Tree,
    asked: BTreeMap<String, Asked>,
}

struct Case {
    server: Server,
    world: World,
    runner: Runner,
    /// The requests that were looked at.
    seen: usize,
    /// What the store holds an answer for.
    answered: BTreeSet<Asked>,
    /// Whether it may hold less than that.
    doubtful: bool,
    /// By path, what was asked for what stands there.
    current: BTreeMap<String, Asked>,
    currents: Vec<BTreeMap<String, Asked>>,
    clean: HashMap<(Tree, String), Rc<Clean>>,
    cleans: usize,
    last: Option<Rc<Clean>>,
    /// Whether each step waits until the stamps of files are old enough to be believed.
    settles: bool,
}

macro_rules! ensure {
    ($that:expr, $($why:tt)+) => {
        if !$that {
            return Err(format!($($why)+));
        }
    };
}

/// The files that are not the same, by name, with what they hold.
fn differences(found: &Tree, wanted: &Tree) -> String {
    let names: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
    let show = |entry: Option<&Entry>| match entry {
        None => "nothing".to_owned(),
        Some(Entry::File(bytes)) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Some(Entry::Link(to)) => format!("-> {}", to.display()),
    };
    let differ = names.into_iter().filter(|name| found.get(*name) != wanted.get(*name));
    differ
        .map(|name| format!("{name}\n  is        {}\n  should be {}\n", show(found.get(name)), show(wanted.get(name))))
        .collect()
}

/// What tells that a file was written.
fn stamps(root: &Path) -> BTreeMap<String, (std::time::SystemTime, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    let look = |name: String| {
        let meta = fs_err::symlink_metadata(root.join(&name)).expect("a file");
        (name, (meta.modified().expect("a time"), meta.ino()))
    };
    tree(root).into_keys().map(look).collect()
}

impl Case {
    fn new(seed: u64, rules: usize, front: bool, settles: bool) -> Case {
        let server = Server::start();
        server.reply(answer);
        let world = World::new(seed, rules, &server.base_url());
        let away = world.beside("here");
        fs_err::create_dir_all(&away).expect("a folder");
        let runner = Runner { root: world.root.clone(), genfile: world.genfile.clone(), front: front.then_some(away) };
        Case {
            server,
            world,
            runner,
            seen: 0,
            answered: BTreeSet::new(),
            doubtful: false,
            current: BTreeMap::new(),
            currents: Vec::new(),
            clean: HashMap::new(),
            cleans: 0,
            last: None,
            settles,
        }
    }

    /// What was asked since the last time.
    fn newly_asked(&mut self) -> Vec<Asked> {
        let requests = self.server.requests();
        let new = requests[self.seen..].iter().flat_map(|request| asked(request)).collect();
        self.seen = requests.len();
        new
    }

    /// Builds what a person wrote in a folder where nothing was ever made.
    fn clean(&mut self) -> Result<Rc<Clean>, String> {
        let key = (self.world.sources(), self.world.env.clone());
        if let Some(clean) = self.clean.get(&key) {
            return Ok(Rc::clone(clean));
        }
        self.cleans += 1;
        let root = self.world.beside(&format!("clean{}", self.cleans));
        fs_err::create_dir_all(&root).expect("a folder");
        lay(&root, &key.0, |_| false);
        let runner = Runner {
            root: fs_err::canonicalize(&root).expect("a folder"),
            genfile: self.world.genfile.clone(),
            front: None,
        };
        ensure!(self.newly_asked().is_empty(), "asked by nobody");
        let built = runner.build(&key.1, None, false);
        ensure!(built.is_good, "a clean checkout cannot be built:\n{}", built.says);
        let asked = self.newly_asked();
        let made = tree(&root).into_iter().filter(|(name, _)| self.world.is_made(name)).collect();
        let clean =
            Rc::new(Clean { made, asked: asked.iter().map(|asked| (asked.0.clone(), asked.clone())).collect() });
        ensure!(asked.len() == clean.asked.len(), "a clean checkout asks twice: {asked:#?}");
        fs_err::remove_dir_all(root).expect("a folder");
        self.clean.insert(key, Rc::clone(&clean));
        Ok(clean)
    }

    /// The verdicts, from what is remembered and from looking at everything: they agree.
    fn check(&self) -> Result<Verdicts, String> {
        let remembered = self.runner.check(&self.world.env)?;
        let state = self.world.root.join(".genmake/state");
        let aside = self.world.beside("state");
        // Nobody's help: not even to say that it was damaged.
        let was_there = fs_err::rename(&state, &aside).is_ok();
        let looked = self.runner.check(&self.world.env)?;
        if was_there {
            drop(fs_err::remove_file(&state));
            fs_err::rename(&aside, &state).expect("the state comes back");
        }
        let Lost { lock, lines, .. } = &self.world.lost;
        // Without the lock it is the state that knows what genmake made.
        if !lock && lines.is_empty() {
            ensure!(remembered == looked, "from the state: {remembered:#?}\nwithout it: {looked:#?}");
        }
        Ok(remembered)
    }

    /// Builds, and says what was asked.
    fn build(&mut self, target: Option<&str>, force: bool) -> (Built, Vec<Asked>) {
        let built = self.runner.build(&self.world.env, target, force);
        let asked = self.newly_asked();
        (built, asked)
    }

    fn step(&mut self, edits: &[Edit]) -> Result<(), String> {
        let mut asked = Vec::new();
        let mut force = false;
        let mut target = None;
        for (at, Edit(what, a, b)) in edits.iter().copied().enumerate() {
            let is_first = at == 0;
            match what {
                What::HandEdit if is_first => force |= self.edit_by_hand(a, b)?,
                What::OutputFolder if is_first => asked.extend(self.folder_for_output(a, b)?),
                What::MissingInput => self.missing_input()?,
                What::OtherGenfile => self.other_genfile()?,
                What::Narrow => {
                    let id = a % self.world.model.rules.len();
                    target = self.world.model.rules[id].is_there().then_some(id);
                    // What it comes to is compared with a whole build of the same.
                    break;
                }
                What::Checkout if !self.currents.is_empty() => {
                    self.world.apply(Edit(what, a, b), is_first);
                    self.current = self.currents[a % self.currents.len()].clone();
                }
                _ => self.world.apply(Edit(what, a, b), is_first),
            }
            // What is no rule's any more would be taken for a source, if nothing said that it was an output.
            if self.world.lost.lock || !self.world.lost.lines.is_empty() {
                break;
            }
        }
        let clean = self.clean()?;
        self.losses(&clean);
        let Lost { lock, lines, state, .. } = &self.world.lost;
        force |= *state && (*lock || !lines.is_empty());
        let verdicts = self.check()?;
        // A build of one rule alone first.
        if let Some(id) = target {
            let (built, more) = self.build(Some(&format!("r{id}")), force);
            ensure!(built.is_good, "r{id} cannot be built:\n{}", built.says);
            let folder = format!("out/r{id}/");
            let of = |tree: Tree| -> Tree { tree.into_iter().filter(|(name, _)| name.starts_with(&folder)).collect() };
            let wanted = of(clean.made.clone());
            // What has no item any more is deleted by a whole build only.
            let found: Tree =
                of(tree(&self.world.root)).into_iter().filter(|(name, _)| wanted.contains_key(name)).collect();
            ensure!(found == wanted, "r{id} alone:\n{}", differences(&found, &wanted));
            asked.extend(more);
        }
        let (built, more) = self.build(None, force);
        ensure!(built.is_good, "the build failed:\n{}", built.says);
        asked.extend(more);
        self.asked_exactly(asked, &clean)?;
        if verdicts.is_empty() && self.world.lost.lines.is_empty() && !self.world.lost.lock {
            ensure!(built.is_idle, "it was up to date, and the build did something:\n{}", built.says);
        }
        self.is(&clean)?;

        // And now nothing is to do, whoever says so.
        let before = stamps(&self.world.root);
        let verdicts = self.check()?;
        ensure!(verdicts.is_empty(), "not up to date after a build: {verdicts:#?}");
        self.does_nothing(&before)?;
        if self.settles {
            // The one thing that is waited for is the clock: no file that is younger than two seconds is believed.
            #[allow(clippy::disallowed_methods, reason = "no event says that a stamp is old enough")]
            std::thread::sleep(Duration::from_millis(2100));
            self.does_nothing(&before)?;
            // Few files are not worth a write to the command; here it is noted that they have aged, so that they are believed.
            if let Some(glance) = Project::glance(&self.runner.location(), &variable(&self.world.env)) {
                ensure!(glance.is_fresh(), "not up to date after a while, at a glance");
                let noted = glance.note(&HashMap::new(), &[], &Memory::default());
                ensure!(noted.is_some_and(|noted| noted.is_ok()), "what was seen cannot be noted");
            }
            ensure!(self.check()?.is_empty(), "not up to date after a while");
            self.does_nothing(&before)?;
        }
        self.last = Some(clean);
        self.world.lost = Lost::default();
        self.world.remember();
        self.currents.push(self.current.clone());
        Ok(())
    }

    fn does_nothing(&mut self, before: &BTreeMap<String, (std::time::SystemTime, u64)>) -> Result<(), String> {
        let (built, asked) = self.build(None, false);
        ensure!(built.is_good && built.is_idle, "the second run did something:\n{}", built.says);
        ensure!(asked.is_empty(), "the second run asked for {asked:#?}");
        ensure!(stamps(&self.world.root) == *before, "the second run wrote something");
        Ok(())
    }

    /// What was lost since the last build, and with it the results that would have to be paid for again.
    fn losses(&mut self, clean: &Clean) {
        let lost = &self.world.lost;
        if lost.store {
            self.answered.clear();
            self.doubtful = false;
        }
        self.doubtful |= lost.damaged;
        let forgotten = |path: &String| lost.state && (lost.lock || lost.lines.contains(path));
        let intact = |path: &String| {
            let twin = path.strip_suffix(".a.txt").map(|stem| format!("{stem}.b.txt"));
            [Some(path), twin.as_ref()].into_iter().flatten().all(|name| {
                let there = fs_err::read(self.world.root.join(name)).ok().map(Entry::File);
                // What it held when it was made: it still does if a clean build of now comes to the same.
                there.is_some() && (there.as_ref() == clean.made.get(name)) && !forgotten(name)
            })
        };
        self.current.retain(|path, _| intact(path));
    }

    fn asked_exactly(&mut self, asked: Vec<Asked>, clean: &Clean) -> Result<(), String> {
        let once: BTreeSet<Asked> = asked.iter().cloned().collect();
        ensure!(once.len() == asked.len(), "asked twice in one step: {asked:#?}");
        let is_current = |asked: &&Asked| self.current.get(&asked.0) == Some(*asked);
        let without: BTreeSet<Asked> = clean.asked.values().filter(|asked| !is_current(asked)).cloned().collect();
        let needed: BTreeSet<Asked> = without.difference(&self.answered).cloned().collect();
        let most = if self.doubtful { &without } else { &needed };
        let (extra, missed): (Vec<_>, Vec<_>) = (once.difference(most).collect(), needed.difference(&once).collect());
        ensure!(extra.is_empty(), "asked for what was there: {extra:#?}");
        ensure!(missed.is_empty(), "did not ask for {missed:#?}");
        self.answered.extend(once);
        self.current = clean.asked.clone();
        Ok(())
    }

    /// The tree and the lock are those of a clean checkout. What a `when` leaves out for now stays, as it is in the lock.
    fn is(&mut self, clean: &Clean) -> Result<(), String> {
        let lock_name = self.world.lock_name();
        let all = tree(&self.world.root);
        let lines = |tree: &Tree| -> Vec<String> {
            let Some(Entry::File(bytes)) = tree.get(&lock_name) else { return Vec::new() };
            String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
        };
        let name = |line: &String| line.split(' ').next().unwrap_or_default().to_owned();
        let mut left_out = BTreeSet::new();
        if self.world.model.rules.iter().any(Rule::may_be_left_out) {
            let project =
                Project::open_at(&self.runner.location(), &variable(&self.world.env)).map_err(|e| e.to_string())?;
            left_out.extend(project.graph().skipped.iter().map(ToString::to_string));
        }
        let found: Vec<String> = lines(&all).into_iter().filter(|line| !left_out.contains(&name(line))).collect();
        let wanted = lines(&clean.made);
        ensure!(
            found == wanted || (found.len() == 1 && wanted.is_empty()),
            "the lock is {found:#?}\nand should be {wanted:#?}"
        );
        self.world.made.extend(lines(&all).iter().skip(1).map(name));
        let outputs = |tree: &Tree| -> Tree {
            let is_output = |name: &String| name.starts_with("out/") && !left_out.contains(name);
            tree.iter().filter(|(name, _)| is_output(name)).map(|(name, entry)| (name.clone(), entry.clone())).collect()
        };
        let (found, wanted) = (outputs(&all), outputs(&clean.made));
        ensure!(found == wanted, "{}", differences(&found, &wanted));
        Ok(())
    }

    /// Somebody edits an output: it is told, and kept. Then it is taken back, deleted, or to be overwritten.
    fn edit_by_hand(&mut self, a: usize, b: usize) -> Result<bool, String> {
        let declared = |name: &String| self.last.as_ref().is_some_and(|clean| clean.made.contains_key(name));
        let Some(name) = self.world.output(a).filter(declared) else { return Ok(false) };
        let path = self.world.root.join(&name);
        let before = fs_err::read(&path).expect("an output");
        let time = fs_err::metadata(&path).and_then(|meta| meta.modified()).expect("a time");
        let mut mine = before.clone();
        mine.iter_mut().for_each(|byte| *byte = b'#');
        fs_err::write(&path, &mine).expect("an output");
        fs_err::File::open(&path).expect("an output").file().set_modified(time).expect("a time");
        let verdicts = self.check()?;
        let first = name.strip_suffix(".b.txt").map_or(name.clone(), |stem| format!("{stem}.a.txt"));
        ensure!(verdicts.get(&first).is_some_and(|status| status == "edited"), "`{name}` is edited: {verdicts:#?}");
        let (built, asked) = self.build(None, false);
        ensure!(!built.is_good, "a build over the edited `{name}`:\n{}", built.says);
        ensure!(asked.is_empty(), "a build over the edited `{name}` asked for {asked:#?}");
        ensure!(fs_err::read(&path).ok() == Some(mine), "the edited `{name}` is not what it was");
        match b % 3 {
            0 => fs_err::write(path, before).expect("an output"),
            1 => fs_err::remove_file(path).expect("an output"),
            _ => return Ok(true),
        }
        Ok(false)
    }

    /// A folder takes an output's place, and goes away again.
    fn folder_for_output(&mut self, a: usize, b: usize) -> Result<Vec<Asked>, String> {
        let declared = |name: &String| self.last.as_ref().is_some_and(|clean| clean.made.contains_key(name));
        let Some(name) = self.world.output(a).filter(declared) else { return Ok(Vec::new()) };
        let path = self.world.root.join(&name);
        fs_err::remove_file(&path).expect("an output");
        fs_err::create_dir_all(&path).expect("a folder");
        if b.is_multiple_of(2) {
            fs_err::write(path.join("mine"), "mine").expect("a file");
        }
        let verdicts = self.check()?;
        ensure!(!verdicts.is_empty(), "`{name}` is a folder, and that is up to date");
        let (_, asked) = self.build(None, false);
        if path.is_dir() {
            ensure!(!b.is_multiple_of(2) || path.join("mine").exists(), "`{name}/mine` is gone");
            fs_err::remove_dir_all(&path).expect("a folder");
        }
        // It may have been asked for; then the store holds it by now.
        self.answered.extend(asked);
        Ok(Vec::new())
    }

    /// An input goes, and comes back as it was.
    fn missing_input(&mut self) -> Result<(), String> {
        let (path, aside) = (self.world.root.join("notes/n0.txt"), self.world.beside("n0.txt"));
        fs_err::rename(&path, &aside).expect("a note");
        let checked = self.check();
        fs_err::rename(aside, path).expect("a note");
        checked.map(drop)
    }

    /// Another Genfile of the same folder is built.
    fn other_genfile(&mut self) -> Result<(), String> {
        let runner = Runner {
            genfile: "Other.yaml".to_owned(),
            root: self.runner.root.clone(),
            front: self.runner.front.clone(),
        };
        let built = runner.build(&self.world.env, None, true);
        ensure!(built.is_good, "another Genfile cannot be built:\n{}", built.says);
        ensure!(runner.check(&self.world.env)?.is_empty(), "another Genfile is not up to date after its build");
        Ok(())
    }
}

// ---- many cases ----

/// What the dice say of a case: a seed, how many rules, and what is done before each build.
type Script = (u64, usize, Vec<Vec<Edit>>);

fn scripts(is_slow: bool) -> impl Strategy<Value = Script> {
    // What waits for the clock does so for edits that only a stamp tells.
    let times = |(times, what): &(u32, What)| {
        let is_told = !is_slow || OF_FILES.contains(what);
        vec![*what; if is_told { *times as usize } else { usize::from(*times > 2) }]
    };
    let what = proptest::sample::select(EDITS.iter().flat_map(times).collect::<Vec<What>>());
    let edit = (what, 0usize..1000, 0usize..1000).prop_map(|(what, a, b)| Edit(what, a, b));
    let step =
        prop_oneof![3 => proptest::collection::vec(edit.clone(), 1..2), 1 => proptest::collection::vec(edit, 2..4)];
    let few = if is_slow { 5usize..9 } else { 1..6 };
    let rules = prop_oneof![25 => few, 4 => 6usize..15, 1 => 15usize..41];
    (any::<u64>().no_shrink(), rules, proptest::collection::vec(step, if is_slow { 3..7 } else { 1..6 }))
}

fn run(number: u64, (seed, rules, steps): &Script) -> Result<(), String> {
    let settles = is_slow(number);
    let mut case = Case::new(*seed, *rules, number % 24 == 5 || number % 40 == 7, settles);
    case.step(&[]).map_err(|why| format!("at first: {why}"))?;
    for (at, edits) in steps.iter().enumerate() {
        case.step(edits).map_err(|why| format!("after step {} {edits:?}: {why}", at + 1))?;
    }
    Ok(())
}

/// The share of cases that wait for the clock at every step. Half of these go by the front door.
fn is_slow(number: u64) -> bool {
    number % 12 == 5
}

/// A case by its number; the same at any time, on any thread. What fails is made as small as it can be.
fn case(number: u64) -> Result<(), String> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let config = Config { cases: 1, failure_persistence: None, max_shrink_iters: 150, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let result = runner.run(&scripts(is_slow(number)), |script| run(number, &script).map_err(TestCaseError::fail));
    match result {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, (seed, rules, steps))) => Err(format!(
            "case {number} (GENMAKE_RANDOM_SEED={number} GENMAKE_RANDOM_CASES=1): seed {seed}, {rules} rules, {steps:#?}\n{why}"
        )),
        Err(TestError::Abort(why)) => Err(format!("case {number}: {why}")),
    }
}

#[allow(clippy::disallowed_methods, reason = "how many cases is asked of who runs the test")]
fn asked_of_the_test(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[test]
fn random_edits_then_a_build_equal_a_clean_build() {
    let first = asked_of_the_test("GENMAKE_RANDOM_SEED", 0);
    let end = first + asked_of_the_test("GENMAKE_RANDOM_CASES", 500);
    // Those that wait for the clock do so side by side, and the others meanwhile.
    let (slow, fast): (Vec<u64>, Vec<u64>) = (first..end).partition(|number| is_slow(*number));
    let (says, said) = mpsc::channel();
    std::thread::scope(|scope| {
        for (numbers, threads) in [(&fast, 3), (&slow, 48)] {
            let next = Arc::new(AtomicU64::new(0));
            for _ in 0..threads.min(numbers.len()) {
                let (next, says) = (Arc::clone(&next), says.clone());
                scope.spawn(move || {
                    while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                        let result = case(*number);
                        let failed = result.is_err();
                        let _ = says.send(result);
                        // One is enough, but those that are under way may say more.
                        if failed {
                            next.store(u64::MAX / 2, Ordering::Relaxed);
                        }
                    }
                });
            }
        }
        drop(says);
    });
    let failed: Vec<String> = said.iter().filter_map(Result::err).collect();
    assert!(failed.is_empty(), "{} failed:\n\n{}", failed.len(), failed.join("\n\n"));
}
