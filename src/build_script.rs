//! For crates with generated files: their build scripts, and their tests.
//!
//! What counts is what is committed: the tree and the lock. Nothing is sent, no command of the Genfile is run, git is not asked, and
//! nothing is written outside of `OUT_DIR`, so it goes the same way in a fresh clone, offline, and out of a package.
//!
//! ```no_run
//! // What is committed is up to date, or the build fails and says what to run.
//! genmake::build_script::verify("Genfile");
//! // What templates make is rendered anew, for `include!(concat!(env!("OUT_DIR"), "/src/tables.rs"))`.
//! genmake::build_script::render_to_out_dir("build.Genfile");
//! ```

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::{Code, Error, Errors};
use crate::files::Files;
use crate::graph::{Target, TaskId};
use crate::llm;
use crate::loaded::{GENFILES, Loaded, Location};
use crate::manifest::Recipe;
use crate::parallel;
use crate::path::RelPath;
use crate::plan::{self, Ground, Judged, Lists, Making, Memory, Orphan, Recipes, Stored, Verdict, Verdicts, Wish};
use crate::tree::{self, LookedAt};
use crate::wording;

/// How many targets are named that are not up to date: nobody reads more.
const MOST_NAMED: usize = 20;

/// Fails the build if anything that the Genfile makes is not up to date, and says which command brings it there. Writes nothing.
///
/// `genfile` is relative to the crate's folder. What cargo is to look at, so that the script runs again when it has to, is printed:
/// the Genfile, its lock, recipes, inputs, outputs, and the folders of globs. Ends the process where the build is to fail.
pub fn verify(genfile: impl AsRef<Path>) {
    in_build_script(genfile.as_ref(), |script| {
        let judged = Committed::judge(Loaded::committed(&script.location, &text)?, &[], script.jobs)?;
        script.look_at(&judged.loaded);
        Ok(complaints(&judged, |_| true))
    });
}

/// Renders what the Genfile's templates make, below `OUT_DIR` and nowhere else: the output `src/tables.rs` is
/// `concat!(env!("OUT_DIR"), "/src/tables.rs")`. What a template reads that a model or a command made is taken as it is committed,
/// and fails the build if it is not up to date; so does what goes through a `filter`, since no command is run.
///
/// `genfile` is relative to the crate's folder. What cargo is to look at is printed as by [`verify`]. Ends the process where the
/// build is to fail.
pub fn render_to_out_dir(genfile: impl AsRef<Path>) {
    in_build_script(genfile.as_ref(), |script| script.render());
}

/// Panics if anything that the crate's Genfile makes is not up to date: for a `#[test]` of a crate that commits what is generated.
/// Says what is stale, why, and the command to run. Writes nothing. Another Genfile than `Genfile` is named relative to the crate's
/// folder: `genmake::assert_fresh!("docs/Genfile")`.
///
/// ```no_run
/// # mod tests {
/// #[test]
/// fn generated_files_are_up_to_date() {
///     genmake::assert_fresh!();
/// }
/// # }
/// ```
#[macro_export]
macro_rules! assert_fresh {
    () => {
        $crate::build_script::assert_fresh(::core::env!("CARGO_MANIFEST_DIR"), "Genfile")
    };
    ($genfile:expr $(,)?) => {
        $crate::build_script::assert_fresh(::core::env!("CARGO_MANIFEST_DIR"), $genfile)
    };
}

/// What [`assert_fresh!`](crate::assert_fresh) calls.
///
/// # Panics
/// Something is not up to date, or the Genfile has mistakes.
#[doc(hidden)]
#[track_caller]
pub fn assert_fresh(folder: &str, genfile: impl AsRef<Path>) {
    let judge = || -> Result<Vec<String>, Errors> {
        let location = Location::of_file(&Path::new(folder).join(genfile))?;
        let judged = Committed::judge(Loaded::committed(&location, &text)?, &[], 0)?;
        Ok(complaints(&judged, |_| true))
    };
    let found = judge().unwrap_or_else(|errors| lines(&errors));
    #[allow(clippy::panic, reason = "it is how a test fails")]
    if !found.is_empty() {
        panic!("{}", found.join("\n"));
    }
}

/// What is to stand in a file below `OUT_DIR`.
struct Rendered {
    path: RelPath,
    bytes: Arc<[u8]>,
    mode: Option<u32>,
}

/// A build script, and what cargo told it.
struct Script {
    /// The Genfile's folder, relative to the crate's.
    folder: PathBuf,
    location: Location,
    out_dir: PathBuf,
    /// How many threads judge and render; 0 for as many as there are cores.
    jobs: usize,
}

/// A project as it is committed, judged.
struct Committed {
    loaded: Loaded,
    tasks: Verdicts,
    /// Targets in the lock without a rule; none where only some targets were asked for.
    orphans: Vec<Orphan>,
}

/// What is committed has no store.
struct NoStore;

impl Stored for NoStore {
    fn action(&self, _: &Digest) -> Option<Vec<Digest>> {
        None
    }

    fn has(&self, _: &Digest) -> bool {
        false
    }

    fn has_reply(&self, _: &Digest) -> bool {
        false
    }

    fn vector_keys(&self) -> HashSet<Digest> {
        HashSet::new()
    }

    fn is_submitted(&self, _: &Digest) -> bool {
        false
    }

    fn base(&self, _: &RelPath, _: &Digest) -> Option<Arc<[u8]>> {
        None
    }
}

impl Committed {
    /// Judges the targets and all they wait for; all tasks if there are no targets.
    fn judge(loaded: Loaded, targets: &[Target], threads: usize) -> Result<Committed, Errors> {
        let Loaded { graph, files, lock, .. } = &loaded;
        let selected = graph.select(targets).map_err(Errors)?;
        let orphans = if targets.is_empty() { plan::orphans(graph, files, lock)? } else { Vec::new() };
        let ground = Ground {
            graph,
            files,
            lock,
            memory: &Memory::default(),
            store: &NoStore,
            recipes: &Recipes::default(),
            lists: &Lists::default(),
            wish: Wish::default(),
            assumed: &BTreeSet::new(),
        };
        let needed = graph.needed(&selected);
        let tasks = parallel::deep(|| plan::verdicts(&ground, &needed, threads, plan::judge));
        Ok(Committed { loaded, tasks, orphans })
    }
}

/// Does a part of a build script. Where that finds something against the build, or fails, the build fails.
#[allow(clippy::disallowed_methods, reason = "an edge: a process of its own, whose status is what it says")]
fn in_build_script(genfile: &Path, part: impl FnOnce(&Script) -> Result<Vec<String>, Errors>) {
    let folder = |name: &str| {
        let missing = || Error::new(Code::Usage, format!("`{name}` is not set")).hint("this is for build scripts");
        variable(name).map(PathBuf::from).ok_or_else(missing)
    };
    let script = || -> Result<Script, Errors> {
        let crate_folder = folder("CARGO_MANIFEST_DIR")?;
        Ok(Script {
            folder: genfile.parent().map(Path::to_owned).unwrap_or_default(),
            location: Location::of_file(&crate_folder.join(genfile))?,
            out_dir: folder("OUT_DIR")?,
            jobs: text("NUM_JOBS").and_then(|jobs| jobs.parse().ok()).unwrap_or(0),
        })
    };
    let found = script().and_then(|script| part(&script)).unwrap_or_else(|errors| lines(&errors));
    found.iter().for_each(|line| tell("error", line));
    if !found.is_empty() {
        // What cargo understands, other tools that run build scripts do not: to them the status says it.
        std::process::exit(1);
    }
}

/// What the process was given: cargo speaks to it by variables, and rules may name some.
#[allow(clippy::disallowed_methods, reason = "an edge: a process of its own")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The same, where it is a text.
fn text(name: &str) -> Option<String> {
    variable(name)?.into_string().ok()
}

/// Says something to cargo: an instruction is a line.
#[allow(clippy::print_stdout, reason = "an edge: cargo listens to standard output")]
fn tell(instruction: &str, value: &str) {
    let value: String = value.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    println!("cargo::{instruction}={value}");
}

impl Script {
    /// Tells cargo what all this rests on.
    fn look_at(&self, loaded: &Loaded) {
        let LookedAt { there, absent, folders, .. } = loaded.files.looked_at();
        let graph = &loaded.graph;
        let lock = self.location.lock_name();
        // An output that is not there is not read either, and without a lock everything that needs one is stale.
        let decides = |path: &&RelPath| !graph.makers.contains_key(*path) && path.as_str() != lock;
        // To cargo what is not there has always changed. What comes to be there changes a folder.
        let above = |path: &str| -> String {
            let is_there = |folder: &&Path| self.location.root.join(folder).is_dir();
            let above = Path::new(path).ancestors().find(is_there).unwrap_or(Path::new(""));
            above.to_string_lossy().into_owned()
        };
        let folders = folders.iter().map(|folder| above(folder));
        let absent = absent.iter().filter(decides).map(|path| above(path.as_str()));
        let watched: BTreeSet<String> = folders.chain(absent).collect();
        if watched.contains("") && self.out_dir.starts_with(&self.location.root) {
            tell(
                "warning",
                "recipes or globs of the Genfile lie in its own folder, where cargo builds, too: the build script runs each time; \
                 in a folder of their own they are watched without that",
            );
        }
        for path in there.iter().map(RelPath::as_str).chain(watched.iter().map(String::as_str)) {
            let path = self.folder.join(path);
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
            tell("rerun-if-changed", &path.to_string_lossy());
        }
        let names: BTreeSet<&String> = graph.manifest.rules.iter().flat_map(|rule| &rule.env).collect();
        names.iter().for_each(|name| tell("rerun-if-env-changed", name));
    }

    fn render(&self) -> Result<Vec<String>, Errors> {
        let loaded = Loaded::committed(&self.location, &text)?.unrendered();
        let graph = &loaded.graph;
        let is_template = |id: &TaskId| matches!(graph.rule(*id).recipe, Some(Recipe::Template(_)));
        let templates: Vec<TaskId> = (0..graph.tasks.len()).filter(is_template).collect();
        let target = |id: &TaskId| {
            let name = graph.name(*id).to_string();
            Target { text: name.clone(), path: Some(name) }
        };
        let targets: Vec<Target> = templates.iter().map(target).collect();
        if targets.is_empty() {
            let error = Error::new(Code::Usage, format!("no rule of `{}` has a template", self.location.name));
            return Err(error.hint("`genmake::build_script::verify` is for what is committed").into());
        }
        let judged = Committed::judge(loaded, &targets, self.jobs)?;
        self.look_at(&judged.loaded);
        let graph = &judged.loaded.graph;
        let mut found = complaints(&judged, |id| !graph.rule(id).is_rendered());
        let mut made = Vec::new();
        for id in templates {
            match &judged.tasks[id] {
                Some(Ok(task)) => made.extend(results(&judged.loaded, id, task)?),
                Some(Err(error)) if graph.rule(id).is_rendered() => found.extend(lines_of(error)),
                _ => {}
            }
        }
        if found.is_empty() {
            self.write(&made)?;
        }
        Ok(found)
    }

    /// Writes what was rendered, where it is not there already, and takes away what was rendered before and is no more.
    fn write(&self, made: &[Rendered]) -> Result<(), Errors> {
        let name = format!(".genmake/rendered-{}", Digest::of(&self.location.name).short());
        let list = RelPath::new(&name).map_err(|e| plan::bug(&e.to_string()))?;
        let listed = fs_err::read(self.out_dir.join(&list)).ok();
        let before: Vec<String> = listed.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let now: BTreeSet<&str> = made.iter().map(|made| made.path.as_str()).collect();
        for path in before.iter().filter(|path| !now.contains(path.as_str())) {
            if let Ok(path) = RelPath::output(path) {
                tree::remove_apart(&self.out_dir, &path)?;
            }
        }
        // First what there will be, then that it is: what is listed and not there does no harm.
        let listed = serde_json::to_vec(&now).map_err(|e| plan::bug(&format!("a list of paths: {e}")))?;
        tree::put_apart(&self.out_dir, &list, &listed, None)?;
        let is_new =
            |made: &&Rendered| !fs_err::read(self.out_dir.join(&made.path)).is_ok_and(|now| *now == *made.bytes);
        let put = |made: &Rendered| tree::put_apart(&self.out_dir, &made.path, &made.bytes, made.mode);
        let failed: Vec<Error> = made.iter().filter(is_new).filter_map(|made| put(made).err()).collect();
        Errors::unless_empty(failed)
    }
}

/// What a template's task gives: rendered, or as it is committed where that is up to date and only a command could make it.
fn results(loaded: &Loaded, id: TaskId, judged: &Judged) -> Result<Vec<Rendered>, Error> {
    let Loaded { graph, files, .. } = loaded;
    let outputs = graph.tasks[id].outputs.iter().map(|output| &output.path);
    let rendered = |path: &RelPath, bytes| Rendered { path: path.clone(), bytes, mode: graph.rule(id).file_mode };
    match (&judged.verdict, &judged.making) {
        (Verdict::Stale(_), Some(Making::Bytes(contents))) => {
            let tests = plan::tests(graph, id, files, &Recipes::default())?;
            for (path, bytes) in outputs.clone().zip(contents) {
                let unfit = |complaint: llm::Complaint| {
                    let rule = graph.rule(id);
                    Error::new(Code::CheckFailed, complaint.words()).in_rule(&rule.name).at(rule.place.clone())
                };
                llm::verify(path, &String::from_utf8_lossy(bytes), &tests).map_err(unfit)?;
            }
            Ok(outputs.zip(contents).map(|(path, bytes)| rendered(path, Arc::clone(bytes))).collect())
        }
        (Verdict::Fresh, _) => {
            let there = outputs.map(|path| Ok(files.read(path)?.map(|bytes| rendered(path, bytes))));
            there.filter_map(Result::transpose).collect()
        }
        // It is among what is not up to date, or waits for that.
        _ => Ok(Vec::new()),
    }
}

/// What of the tasks that are `meant` is not up to date, a line each, and at the end what to do about it; nothing if all is well.
fn complaints(committed: &Committed, meant: impl Fn(TaskId) -> bool) -> Vec<String> {
    let Committed { loaded: Loaded { location, graph, .. }, tasks, orphans } = committed;
    let name = |id: TaskId| graph.name(id).to_string();
    let (mut found, mut stale) = (Vec::new(), Vec::new());
    for (id, judged) in tasks.iter().enumerate().filter(|(id, _)| meant(*id)) {
        match judged {
            Some(Err(error)) => found.extend(lines_of(error)),
            Some(Ok(judged)) if judged.verdict != Verdict::Fresh => {
                let outputs: Vec<&str> = graph.tasks[id].outputs.iter().map(|output| output.path.as_str()).collect();
                let why = wording::why(judged, &name).join("; ");
                stale.push(format!("{} is {}: {why}", outputs.join(", "), wording::status(judged)));
            }
            _ => {}
        }
    }
    stale.extend(orphans.iter().map(|orphan| format!("{}: {}", orphan.path, wording::orphan(orphan))));
    let count = stale.len();
    found.extend(stale.drain(..count.min(MOST_NAMED)));
    if count > MOST_NAMED {
        found.push(format!("and {} more", count - MOST_NAMED));
    }
    if count > 0 {
        let targets = if count == 1 { "1 target is" } else { &format!("{count} targets are") };
        found.push(format!("{targets} not up to date: run `{}` and commit what it makes", command(location)));
    }
    found
}

/// The command that brings everything up to date, wherever one stands.
fn command(location: &Location) -> String {
    let quoted = |path: &Path| {
        let text = path.to_string_lossy();
        if text.contains([' ', '\'', '"', '$', '\\']) {
            format!("'{}'", text.replace('\'', "'\\''"))
        } else {
            text.into_owned()
        }
    };
    match GENFILES.contains(&location.name.as_str()) {
        true => format!("genmake -C {}", quoted(&location.root)),
        false => format!("genmake -f {}", quoted(&location.root.join(&location.name))),
    }
}

/// Errors as lines: what is wrong and where, then what to do.
fn lines(errors: &Errors) -> Vec<String> {
    errors.0.iter().flat_map(lines_of).collect()
}

fn lines_of(error: &Error) -> Vec<String> {
    let words = error.to_string();
    let hints = error.hints.iter().map(|hint| format!("hint: {hint}"));
    words.lines().map(str::to_owned).chain(hints).collect()
}
