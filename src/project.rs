//! A project, from its folder to a plan and a run: the façade over all stages.

mod part;
mod rounds;
mod staged;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::engine::{self, Env, Near, Options, PartOf, Shared, Standing};
use crate::error::{Error, Errors};
use crate::estimate::Estimate;
use crate::event::Event;
use crate::graph::{Changed, Graph, Target, TaskId, Unit};
use crate::jobs::Jobs;
use crate::llm::Ask;
use crate::loaded::{self, Loaded, Texts};
use crate::lock::{self, Lock};
use crate::parallel;
use crate::path::RelPath;
use crate::plan::{self, Lists, Memory, Plan, Recipes, Wish};
use crate::provider::Notice;
use crate::report::{Begin, Summary};
use crate::shell::{self, Shell};
use crate::store::{self, Glance, Guard, Journal, Origin, Staged, State, Store};
use crate::tree::{self, WorkTree};

pub use crate::loaded::{GENFILES, Location};

/// The file in `.genmake` that names a run which may have commands under way.
const RUNNING: &str = "running";

/// A loaded project: a Genfile without mistakes, and what lock and memory say of it.
pub struct Project {
    root: PathBuf,
    name: String,
    graph: Graph,
    files: WorkTree,
    store: Arc<Store>,
    memory: Memory,
    lock: Lock,
    lock_text: String,
    guard: Option<Guard>,
    journal_left: bool,
    origin: Origin,
    part_of: Option<PartOf>,
    assumed: BTreeSet<RelPath>,
    /// What files a person narrows it to, where that is still to be found out.
    narrowed: Option<Changed>,
    /// Whether `.genmake/state` was damaged.
    pub state_damaged: bool,
    load_took: Duration,
}

impl Project {
    /// Loads the project whose Genfile lies in `dir` or above, for reading. Nothing is written.
    ///
    /// # Errors
    /// All mistakes of the Genfile, or what cannot be read.
    pub fn open(dir: &Path) -> Result<Project, Errors> {
        Project::load(&Location::find(dir)?, &Options::default().env, None, None)
    }

    /// Loads a project for a run: waits until no other run is under way in its root, so that what is loaded is what that run
    /// left. `waits` is called first if there is one; `env` reads the variables that rules name.
    ///
    /// # Errors
    /// As [`Project::open`], and [`Code::Unwritable`](crate::error::Code::Unwritable) where `.genmake` cannot be written.
    pub fn open_to_run(location: &Location, env: &Env, waits: impl FnOnce()) -> Result<Project, Errors> {
        let (guard, _) = Project::begin(location, waits)?;
        Project::load(location, env, Some(guard), None)
    }

    /// Waits until no other run is under way, and ends what a killed one left running. Says whether there was something to end.
    fn begin(location: &Location, waits: impl FnOnce()) -> Result<(Guard, bool), Error> {
        // Nothing is written before the guard is held: two first runs may begin at once.
        let guard = Guard::take(&location.root.join(store::FOLDER), waits)?;
        let folder = store::make_folder(&location.root)?;
        // What a killed run's commands are still writing would pass for an edit, or get into what this run makes.
        let left = fs_err::read_to_string(folder.join(RUNNING));
        if let Ok(token) = &left {
            shell::end_left(token);
            store::forget(&folder.join(RUNNING))?;
        }
        Ok((guard, left.is_ok()))
    }

    /// A glance at the tree: whether anything moved since everything was up to date. Writes nothing; `None` where only a plan can
    /// say it.
    pub fn glance(location: &Location, env: &Env) -> Option<Glance> {
        Glance::take(&location.root, &location.root.join(store::FOLDER), &location.name, &**env)
    }

    /// Loads a project for reading. `env` reads the variables that its rules name.
    ///
    /// # Errors
    /// As [`Project::open`].
    pub fn open_at(location: &Location, env: &Env) -> Result<Project, Errors> {
        Project::load(location, env, None, None)
    }

    fn load(location: &Location, env: &Env, guard: Option<Guard>, staged: Option<Staged>) -> Result<Project, Errors> {
        let begun = Instant::now();
        let root = location.root.clone();
        let folder = root.join(store::FOLDER);
        let ((state, origin), state_damaged) = match State::read(&folder) {
            Ok(state) => (state, false),
            Err(store::Damaged) => (Default::default(), true),
        };
        let mut memory = state.memory;
        let records = Journal::read(&folder);
        let journal_left = !records.is_empty();
        let store = Arc::new(Store::new(folder.join("store")).with_history(root.clone()));
        if guard.is_some() {
            store::sweep(&root, &location.lock_name(), &store, &records);
        }
        let taken = Journal::recall(records, &mut memory);
        if guard.is_some() {
            for (path, (stood, key)) in taken {
                if store::put_back(&root, &store, &path, stood, key)? {
                    memory.half.remove(&path);
                }
            }
        }
        let files = WorkTree::new(root, state.stamps, state.taken, store.clone());
        let project = match staged {
            None => Project::read(location, env, files, store, loaded::texts(location)?)?,
            Some(staged) => {
                (memory.outputs, memory.half) = Default::default();
                let files = files.as_staged(staged);
                let texts = loaded::texts_in(location, &files)?;
                Project::read(location, env, files, store, texts)?
            }
        };
        Ok(Project { memory, guard, journal_left, origin, state_damaged, load_took: begun.elapsed(), ..project })
    }

    /// What can be known from the tree, and what of it this machine does not.
    fn read(
        location: &Location,
        env: &Env,
        files: WorkTree,
        store: Arc<Store>,
        texts: Texts,
    ) -> Result<Project, Errors> {
        let begun = Instant::now();
        let Loaded { location, graph, files, lock, lock_text } = Loaded::read(location, &**env, files, texts)?;
        Ok(Project {
            root: location.root,
            name: location.name,
            graph,
            files,
            store,
            memory: Memory::default(),
            lock,
            lock_text,
            guard: None,
            journal_left: false,
            origin: Origin::default(),
            part_of: None,
            assumed: BTreeSet::new(),
            narrowed: None,
            state_damaged: false,
            load_took: begun.elapsed(),
        })
    }

    /// The tasks.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What a target names that only the lock has: no rule makes it any more.
    pub fn orphan(&self, target: &Target) -> Option<RelPath> {
        let path = RelPath::new(target.path.as_ref()?).ok()?;
        let is_made = self.graph.makers.contains_key(&path) || self.graph.skipped.contains(&path);
        (!is_made && self.lock.get(&path, None).is_some()).then_some(path)
    }

    /// Takes what no rule makes any more out of the lock: it is a person's from now on. For a project that was opened for a run.
    ///
    /// # Errors
    /// [`Code::Unwritable`](crate::error::Code::Unwritable), naming the lock.
    pub fn release(&mut self, orphans: &[RelPath]) -> Result<(), Error> {
        if orphans.is_empty() {
            return Ok(());
        }
        orphans.iter().for_each(|path| self.lock.remove(path));
        self.lock_text = self.lock.to_text();
        store::put(&self.root.join(lock::file_name(&self.name)), self.lock_text.as_bytes())?;
        store::sync_folder(&self.root)
    }

    /// Asks this provider in place of all others: `--provider`.
    ///
    /// # Errors
    /// [`Code::UnknownProvider`](crate::error::Code::UnknownProvider).
    pub fn ask_instead(mut self, name: &str) -> Result<Project, Error> {
        self.graph.manifest.ask_instead(name)?;
        Ok(self)
    }

    /// Takes files as changed, whatever is in them: `-W`.
    #[must_use]
    pub fn assume_changed(mut self, files: impl IntoIterator<Item = RelPath>) -> Project {
        self.assumed.extend(files);
        self
    }

    /// Judges the targets and all they wait for; all tasks if there are no targets.
    ///
    /// # Errors
    /// [`Code::UnknownTarget`](crate::error::Code::UnknownTarget) for each target that names nothing.
    pub fn plan(self, targets: &[Target]) -> Result<Planned, Errors> {
        self.plan_as(targets, Wish::default(), &Jobs::default())
    }

    /// As [`Project::plan`], with what a person asked for, in as many jobs as there may be.
    ///
    /// # Errors
    /// As [`Project::plan`].
    pub fn plan_as(mut self, targets: &[Target], wish: Wish, jobs: &Jobs) -> Result<Planned, Errors> {
        let begun = Instant::now();
        let mut selected = self.graph.select(targets).map_err(Errors)?;
        let orphans = match targets.is_empty() {
            true => plan::orphans(&self.graph, &self.files, &self.lock)?,
            false => Vec::new(),
        };
        let count = orphans.len();
        let (orphans, needed) = self.narrow(&mut selected, orphans);
        let whole = targets.is_empty() && orphans.len() == count;
        let untouched = self.part_of.as_ref().map_or(0, PartOf::untouched);
        let location = Location { root: self.root.clone(), name: self.name.clone() };
        let keys = self.graph.manifest.providers.values().filter_map(|provider| provider.key_env.clone());
        let shared = Shared {
            shell: Shell::new(self.root.clone(), keys.collect(), format!("{}-{}", std::process::id(), tree::now()))
                .beside(jobs),
            root: self.root,
            lock_name: location.lock_name(),
            graph: self.graph,
            files: self.files,
            store: self.store,
            recipes: Recipes::default(),
            lists: Lists::default(),
            models: plan::Models::default(),
            ledger: OnceLock::new(),
            standing: Standing::default(),
            memory: self.memory,
            lock: self.lock,
            lock_text: self.lock_text,
            wish,
            assumed: self.assumed,
            stopped: AtomicBool::new(false),
            journal_left: self.journal_left,
            origin: self.origin,
            part_of: Mutex::new(self.part_of),
            journal: Mutex::new(None),
        };
        let slots = jobs.slots();
        let mut plan = parallel::deep(|| plan::plan(&shared.ground(), &shared, &needed, slots.count));
        plan.orphans = orphans;
        let phases = vec![("load", self.load_took), ("plan", begun.elapsed())];
        Ok(Planned {
            location,
            targets: targets.to_vec(),
            selected,
            needed,
            whole,
            untouched,
            plan,
            shared: Arc::new(shared),
            guard: self.guard,
            phases,
        })
    }
}

/// A project, judged.
pub struct Planned {
    location: Location,
    targets: Vec<Target>,
    /// The tasks that the targets name.
    pub selected: Vec<TaskId>,
    /// Those and what they wait for, as a mark for each task.
    pub needed: Vec<bool>,
    /// Whether nothing was left out, but for tasks that no changed file concerns.
    whole: bool,
    /// How many tasks there are beside these, all of them up to date.
    untouched: usize,
    /// The verdicts.
    pub plan: Plan,
    shared: Arc<Shared>,
    guard: Option<Guard>,
    phases: Vec<(&'static str, Duration)>,
}

impl Planned {
    /// Where the project is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// How many tasks there are beside these, all of them up to date: what a glance found untouched was not loaded.
    pub fn untouched(&self) -> usize {
        self.untouched
    }

    /// The tasks.
    pub fn graph(&self) -> &Graph {
        &self.shared.graph
    }

    /// What the lock says of a target.
    pub fn lock(&self) -> &Lock {
        &self.shared.lock
    }

    /// What this machine remembers.
    pub fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The tree as it was seen.
    pub fn files(&self) -> &WorkTree {
        &self.shared.files
    }

    /// What a request for these tasks will take.
    ///
    /// # Errors
    /// The list of prices that their provider names is none.
    pub fn estimate(&self, tasks: &[Unit], asks: &[&Ask]) -> Result<Estimate, Error> {
        if let Some((first, made)) = tasks.first().and_then(|first| Some((*first, self.embedding(*first)?))) {
            let texts = tasks.iter().filter_map(|unit| made.texts.get(unit.piece?));
            return Ok(engine::for_texts(self.shared.model(first, &made.model)?, texts.map(|text| text.tokens).sum()));
        }
        self.shared.estimate(tasks, asks)
    }

    /// The model that these would ask.
    pub fn model(&self, tasks: &[Unit]) -> Option<&str> {
        let first = *tasks.first()?;
        let of_texts = self.embedding(first).map(|made| made.model.as_str());
        of_texts.or_else(|| self.ask(first).map(|ask| ask.model.as_str()))
    }

    fn embedding(&self, unit: Unit) -> Option<&plan::Embedding> {
        self.plan.tasks.get(unit.task)?.as_ref()?.as_ref().ok()?.embedding()
    }

    /// Whether a task's prompt fits its model: a warning where only just, an error where not.
    ///
    /// # Errors
    /// [`Code::TooLong`](crate::error::Code::TooLong); as [`Planned::estimate`].
    pub fn fits(&self, task: Unit, ask: &Ask) -> Result<Option<String>, Error> {
        self.shared.fits(task, ask)
    }

    /// The tokens that a run will probably use with models that are not on this machine, and how many tasks that is for. Those that
    /// wait for others are taken to be as their rule's results before, or else as the rest.
    ///
    /// # Errors
    /// As [`Planned::estimate`].
    pub fn paid_tokens(&self) -> Result<(u64, usize), Error> {
        let (mut tokens, mut tasks) = (0, 0);
        for batch in &self.plan.batches {
            if batch.tasks.first().is_none_or(|task| self.shared.is_local(*task)) {
                continue;
            }
            let asks: Vec<&Ask> = batch.tasks.iter().filter_map(|task| self.ask(*task)).collect();
            tokens += self.estimate(&batch.tasks, &asks)?.tokens();
            tasks += batch.tasks.len();
        }
        let usual = if tasks == 0 { 1000 } else { tokens / tasks as u64 };
        let graph = self.graph();
        let waits = |task: &TaskId| {
            let judged = self.plan.tasks[*task].as_ref().and_then(|judged| judged.as_ref().ok());
            judged.is_some_and(|judged| matches!(judged.verdict, plan::Verdict::Waiting(_)))
        };
        let is_paid = |task: &TaskId| graph.rule(*task).is_asked() && !self.shared.is_local(*task);
        for task in (0..graph.tasks.len()).filter(waits).filter(is_paid) {
            let (rule, ledger) = (graph.rule(task).name.as_str(), self.shared.ledger());
            let known = ledger.usual_input(rule).zip(ledger.expected_output(rule, None));
            tokens += known.map_or(usual, |(input, output)| input + output.usual);
            tasks += 1;
        }
        Ok((tokens, tasks))
    }

    /// What a task or a piece of one would ask for, if it would now.
    pub fn ask(&self, unit: impl Into<Unit>) -> Option<&Ask> {
        let unit = unit.into();
        let judged = self.plan.tasks.get(unit.task)?.as_ref()?.as_ref().ok()?;
        match unit.piece {
            None => judged.ask(),
            Some(piece) => Some(&judged.collection()?.pieces.get(piece)?.ask),
        }
    }

    /// What a task's recipe gives, whether it is up to date or not; for one that waits for nothing.
    ///
    /// # Errors
    /// What cannot be read or rendered.
    pub fn making(&self, task: TaskId) -> Result<plan::Making, Error> {
        plan::making(&self.shared.ground(), &self.plan, task)
    }

    /// The items of some tasks whose vectors are nearest to that of a text.
    ///
    /// # Errors
    /// There are no vectors, or the text's could not be had.
    pub fn search(
        &self,
        tasks: &[TaskId],
        text: &str,
        most: usize,
        options: &Options,
        tell: &dyn Fn(Notice),
    ) -> Result<Vec<Near>, Error> {
        engine::search(&self.shared, tasks, text, most, options, tell)
    }

    /// The outputs that the targets name, each with its task.
    pub fn outputs(&self) -> Vec<(TaskId, RelPath)> {
        self.graph().outputs(&self.targets).into_iter().map(|(task, path)| (task, path.clone())).collect()
    }

    /// Whether an output holds an edit that the lock has as accepted for what it is made from.
    pub fn is_accepted(&self, path: &RelPath) -> bool {
        let judged = self.plan.tasks.iter().flatten().flatten();
        judged.flat_map(|judged| &judged.edits).any(|edit| edit.path == *path && edit.fate == plan::Fate::Accepted)
    }

    /// Accepts the edits by hand of the targets' outputs, and gives those that had any. The project was opened for a run.
    ///
    /// # Errors
    /// What cannot be accepted; then nothing is. With `anyway` conflicts that nobody resolved are.
    pub fn accept(mut self, anyway: bool) -> Result<Vec<RelPath>, Errors> {
        let wanted = self.outputs();
        match (Arc::get_mut(&mut self.shared), &self.guard) {
            (Some(shared), Some(_)) => engine::accept_by_hand(shared, &mut self.plan, &self.needed, &wanted, anyway),
            _ => Err(plan::bug("accepting while something runs, or without the guard").into()),
        }
    }

    /// Brings everything up to date. A project that was opened for reading is loaded and judged anew first, once no other run
    /// is under way.
    ///
    /// # Errors
    /// What failed beside tasks; what failed in tasks stands in the summary and was told by events.
    pub fn run(self, options: &Options, events: &mut dyn FnMut(Event)) -> Result<Summary, Errors> {
        self.run_after(Summary::default(), options, events)
    }

    /// As [`Planned::run`], as a part of what `before` says already.
    ///
    /// # Errors
    /// As [`Planned::run`].
    pub fn run_after(
        self,
        before: Summary,
        options: &Options,
        events: &mut dyn FnMut(Event),
    ) -> Result<Summary, Errors> {
        let Some(_guard) = &self.guard else {
            let waits = || events(Event::WaitsForOther);
            let project = Project::open_to_run(&self.location, &options.env, waits)?;
            let project = match &self.shared.graph.manifest.instead {
                Some(name) => project.ask_instead(name)?,
                None => project,
            };
            let project = project.assume_changed(self.shared.assumed.iter().cloned());
            return project.plan_as(&self.targets, options.wish, &options.jobs)?.run_after(before, options, events);
        };
        let begun = Instant::now();
        let mut summary = before;
        summary.begun.get_or_insert_with(|| Begin::before(self.phases.iter().map(|(_, took)| *took).sum()));
        let mut emit = |event: Event| {
            summary.note(&event);
            events(event);
        };
        let stale = self
            .plan
            .tasks
            .iter()
            .flatten()
            .filter(|judged| !matches!(judged, Ok(plan::Judged { verdict: plan::Verdict::Fresh, .. })));
        emit(Event::Planned {
            tasks: self.needed.iter().filter(|needed| **needed).count() + self.untouched,
            stale: stale.count(),
            requests: self.plan.batches.len(),
            to_do: self.shared.to_do(&self.plan),
        });
        let whole = self.whole;
        let folder = self.shared.root.join(store::FOLDER);
        let running = folder.join(RUNNING);
        if self.may_run_commands() {
            store::put(&running, self.shared.shell.token().as_bytes())?;
        }
        let outcome = engine::run(self.shared, self.plan, &self.needed, whole, options, &mut emit);
        store::forget(&running)?;
        let outcome = outcome?;
        summary.untouched = self.untouched;
        summary.phases = self.phases;
        summary.phases.push(("run", begun.elapsed()));
        summary.took = summary.phases.iter().map(|(_, took)| *took).sum();
        summary.written = outcome.written;
        summary.interrupted = outcome.interrupted;
        if !summary.is_empty() {
            let report = summary.report();
            // Without it nobody can look at this run later: no reason to fail.
            let _ = store::keep_run(&folder, &report.began, report.to_line());
        }
        Ok(summary)
    }

    /// Whether something is to do for a rule that has a command: a recipe, a filter, a check, or what answers its prompt.
    fn may_run_commands(&self) -> bool {
        let graph = self.graph();
        let tasks = self.plan.tasks.iter().enumerate();
        tasks.filter_map(|(task, judged)| Some((task, judged.as_ref()?.as_ref().ok()?))).any(|(task, judged)| {
            let is_done = judged.verdict == plan::Verdict::Fresh && !judged.unchecked;
            let rule = graph.rule(task);
            !is_done && (rule.has_commands() || graph.manifest.is_by_command(rule))
        })
    }
}
