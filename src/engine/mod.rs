//! Runs a plan: the loop between schedule, pools and store.
//!
//! The calling thread owns schedule, lock and memory and emits the events. Workers get owned jobs and answer by message; a
//! panic in one is that task's failure. Requests have pools of their own, sized by what each provider may have in flight, so that
//! waiting for a network never keeps a template from being rendered.

mod answers;
mod asking;
mod budget;
mod collecting;
mod counting;
mod edits;
mod embedding;
mod ending;
mod estimates;
mod fetching;
mod local;
mod making;
mod options;
mod parts;
mod recording;
mod rounds;
mod running;
mod searching;
mod settle;
mod shares;
mod standing;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rayon::ThreadPool;

use crate::batch::{Batch, Form};
use crate::cancel::Stop;
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::event::{Event, Status};
use crate::graph::{Graph, TaskId, Unit};
use crate::ledger::Ledger;
use crate::llm::{Ask, Complaint, Usage};
use crate::lock::Lock;
use crate::manifest::{OnError, Recipe};
use crate::path::RelPath;
use crate::plan::{
    self, Edit, End, Ground, Judged, Lists, Making, Memory, Plan, Reason, Recipes, Schedule, Step, Verdict, Wish, bug,
};
use crate::prompt::Message;
use crate::provider::Provider;
use crate::shell::Shell;
use crate::store::{self, Journal, Origin, Record, Store};
use crate::tree::WorkTree;

pub use edits::accept_by_hand;
pub use embedding::for_texts;
pub use local::pool;

use asking::{Asked, Told};
use making::{Made, Ready};
use recording::Recorder;
use settle::Left;
use shares::Cost;

pub use fetching::{Fetched, Patience, Rounds};
pub use options::{Env, Options};
pub use rounds::Asking;
pub use searching::{Near, search};
pub use settle::PartOf;
pub use standing::Standing;

/// What all of a run's threads share; nobody changes it while the run lasts.
pub struct Shared {
    /// The folder of the Genfile.
    pub root: PathBuf,
    /// The lock's file name.
    pub lock_name: String,
    /// The tasks.
    pub graph: Graph,
    /// The tree.
    pub files: WorkTree,
    /// The store.
    pub store: Arc<Store>,
    /// Runs the Genfile's commands.
    pub shell: Shell,
    /// Compiled recipes.
    pub recipes: Recipes,
    /// Digests of lists of files.
    pub lists: Lists,
    /// The lists of prices that the Genfile names.
    pub models: plan::Models,
    /// What requests took in earlier runs.
    pub ledger: OnceLock<Ledger>,
    /// How long results are that stand in the tree.
    pub standing: Standing,
    /// What is remembered from before this run.
    pub memory: Memory,
    /// The lock as it was before this run.
    pub lock: Lock,
    /// The lock's text as it was.
    pub lock_text: String,
    /// What was asked for that changes verdicts.
    pub wish: Wish,
    /// Files that are taken as changed.
    pub assumed: BTreeSet<RelPath>,
    /// Whether nothing that costs is begun any more, because something has failed.
    pub stopped: AtomicBool,
    /// Whether a killed run left a journal.
    pub journal_left: bool,
    /// The state as it was before this run.
    pub origin: Origin,
    /// What these tasks are a part of, if they are not all.
    pub part_of: Mutex<Option<PartOf>>,
    /// Opened when the first output is written.
    pub journal: Mutex<Option<Journal>>,
}

impl Shared {
    /// What verdicts rest on.
    pub fn ground(&self) -> Ground<'_> {
        Ground {
            graph: &self.graph,
            files: &self.files,
            lock: &self.lock,
            memory: &self.memory,
            store: &*self.store,
            recipes: &self.recipes,
            lists: &self.lists,
            wish: self.wish,
            assumed: &self.assumed,
        }
    }

    /// Says in the journal what is about to happen to outputs.
    fn announce(&self, records: &[Record]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        let journal = match &mut *journal {
            Some(journal) => journal,
            none => none.insert(Journal::open(&store::make_folder(&self.root)?)?),
        };
        journal.append(records)
    }
}

/// What workers report.
enum Report {
    /// A task that waited was judged.
    Judged(TaskId, Box<Result<Judged, Error>>),
    /// A task's outputs are written, or are not.
    Made(TaskId, Result<Made, Error>),
    /// For how long a job was at work for each of these.
    Worked(Vec<TaskId>, Duration),
    /// What stands there for a task, or what the store holds for it, is not good enough.
    Unfit(TaskId, Box<Complaint>),
    /// A command was not begun, because something else had failed.
    NotBegun(TaskId),
    /// A task has no result yet and needs a model; what there was did not pass.
    NeedsModel(TaskId, Option<Box<Complaint>>),
    /// What the store held for a task turned out to be damaged.
    Lost(TaskId),
    /// The first of an answer to a request of this form has come; whether its prefix was to be kept.
    Answering(Form, bool),
    /// A provider said how many tokens a request has, or did not.
    Counted(counting::Counted),
    /// What the store holds of a collection.
    Found(Box<collecting::Found>),
    /// Results of a collection's pieces are kept, or are not.
    Kept(TaskId, Vec<(Unit, String)>, Result<(), Error>),
    /// The vectors that are there of those that a task makes.
    FoundVectors(TaskId, HashMap<Digest, Vec<f32>>),
    /// A request for vectors came back.
    AskedVectors(Box<embedding::AskedVectors>),
    /// A request came back.
    Asked(Box<Asked>),
    /// Something to tell.
    Told(Told),
    /// The run is to end before its time.
    Interrupted(Stop),
}

/// A task that is being made.
#[derive(Default)]
struct Underway {
    begun: Option<Instant>,
    /// How long it took, for one that ended without an event of its own.
    took: Option<Duration>,
    /// How long jobs and requests for it were under way.
    worked: Duration,
    /// What of a model's result is no word of its prompt.
    outline: Option<u64>,
    key: Option<Digest>,
    parts: Vec<plan::Part>,
    checked: Option<Digest>,
    /// Whether commands would have to judge what is there, and nothing is run.
    unjudged: bool,
    reasons: Vec<Reason>,
    edits: Arc<[Edit]>,
    ask: Option<Arc<Ask>>,
    /// The conversation after the task's own messages: results that failed a check, and what was said of them.
    follow_up: Vec<Message>,
    retries: u32,
    request: Option<usize>,
    usage: Usage,
    cost: Cost,
}

impl Underway {
    fn now() -> Underway {
        Underway { begun: Some(Instant::now()), ..Underway::default() }
    }
}

struct Run<'a> {
    shared: Arc<Shared>,
    options: &'a Options,
    emit: &'a mut dyn FnMut(Event),
    plan: Plan,
    schedule: Schedule,
    underway: HashMap<Unit, Underway>,
    /// Collections that are being made.
    collections: collecting::Collections,
    /// Vectors that are being made.
    embeddings: embedding::Embeddings,
    /// What templates rendered and is to be written, many at once.
    rendered: Vec<Ready>,
    left: Vec<Left>,
    cpu: ThreadPool,
    providers: BTreeMap<String, Pooled>,
    /// What is left of what the run may spend.
    budget: budget::Budget,
    /// Requests that there may be room for in the budget when what is under way came back.
    held_back: VecDeque<Batch>,
    /// Requests that are to be handed in to batch APIs at the end.
    put_by: Vec<rounds::PutBy>,
    /// Where answers are recorded, if they are.
    recorder: Option<Recorder>,
    /// What requests take, for the runs after this one; `None` while none came back.
    ledger: Option<Ledger>,
    /// Providers that no request can succeed with, and why.
    dead: HashMap<String, Error>,
    /// The tasks that were not up to date and have ended, each with how many ended before it.
    ended: HashMap<TaskId, usize>,
    /// Tasks that came out otherwise than the plan took for granted, so that what depends on them is judged anew.
    surprises: HashSet<TaskId>,
    send: Sender<Report>,
    receive: Receiver<Report>,
    requests: Arc<AtomicUsize>,
    /// The outputs that were written.
    written: Vec<RelPath>,
    /// Targets that the lock is to forget.
    gone: Vec<RelPath>,
    /// Whether a target without a rule is still there.
    orphans_left: bool,
    /// Tasks whose command failed: the folders that were made for them may be empty.
    unmade: Vec<TaskId>,
    /// Whether it is to end before its time, and how.
    interrupted: Option<Stop>,
    /// The tasks that were asked for and what they wait for; `None` for all.
    narrowed: Option<&'a [bool]>,
}

/// A provider, or why there is none, and the pool of its requests. Only what has a free thread is handed to the pool, so that
/// nothing is sent any more once a failure is known.
struct Pooled {
    provider: Result<Arc<Provider>, Error>,
    pool: ThreadPool,
    free: usize,
    waiting: VecDeque<Batch>,
}

/// What a run left behind, beside its events.
#[derive(Debug, Default, Clone, Copy)]
pub struct Outcome {
    /// How many outputs were written.
    pub written: usize,
    /// Whether a signal cut it short.
    pub interrupted: bool,
}

/// Runs `plan` over the tasks that `needed` marks. `whole` says that these are all tasks, so that orphans can be dealt with.
///
/// # Errors
/// Lock, state, journal or a recording could not be written, or a pool not be made. What failed in tasks is told by events.
pub fn run(
    shared: Arc<Shared>,
    plan: Plan,
    needed: &[bool],
    whole: bool,
    options: &Options,
    emit: &mut dyn FnMut(Event),
) -> Result<Outcome, Error> {
    let deps: Vec<&[TaskId]> = shared.graph.tasks.iter().map(|task| task.deps.as_slice()).collect();
    let schedule = Schedule::new(&deps, needed, options.keep_going);
    let said = shared.graph.manifest.budget;
    let budget = budget::Budget::new(options.max_cost.or(said.max_cost_usd), options.max_tokens.or(said.max_tokens));
    let recorder = Recorder::of(options, &shared)?;
    let (send, receive) = mpsc::channel();
    let interrupt = send.clone();
    let commands = Arc::downgrade(&shared);
    options.cancel.on_stop(move |stop| {
        let _ = interrupt.send(Report::Interrupted(stop));
        if stop == Stop::Now {
            commands.upgrade().inspect(|shared| shared.shell.stop());
        }
    });
    let run = Run {
        shared: Arc::clone(&shared),
        options,
        emit,
        plan,
        schedule,
        underway: HashMap::new(),
        collections: HashMap::new(),
        embeddings: HashMap::new(),
        rendered: Vec::new(),
        left: Vec::new(),
        cpu: local::pool("genmake-local", options.jobs.threads())?,
        providers: BTreeMap::new(),
        budget,
        held_back: VecDeque::new(),
        put_by: Vec::new(),
        recorder,
        ledger: None,
        dead: HashMap::new(),
        ended: HashMap::new(),
        surprises: HashSet::new(),
        send,
        receive,
        requests: Arc::default(),
        written: Vec::new(),
        gone: Vec::new(),
        orphans_left: false,
        unmade: Vec::new(),
        interrupted: None,
        narrowed: (!whole).then_some(needed),
    };
    run.run(needed, whole)
}

impl Run<'_> {
    fn run(mut self, needed: &[bool], whole: bool) -> Result<Outcome, Error> {
        if whole && !self.options.frozen {
            self.orphans()?;
        }
        loop {
            match self.schedule.next_step() {
                // After a signal nothing new is begun.
                Step::Run(task) if self.interrupted.is_some() => self.schedule.ended(task, End::Skipped),
                Step::Run(task) => self.begin(task),
                Step::Request(batch) => self.request(batch),
                Step::Wait if !self.rendered.is_empty() => self.write_rendered(),
                Step::Wait if self.interrupted == Some(Stop::Now) && self.only_requests_left() => break,
                Step::Wait => match self.receive.recv() {
                    Ok(message) => self.take(message),
                    Err(_) => return Err(bug("all workers are gone")),
                },
                Step::Done => break,
            }
        }
        let submitted = self.hand_in();
        // Threads that still wait for a network keep their provider; what it brought up is taken down all the same.
        for provider in self.providers.values().filter_map(|pooled| pooled.provider.as_ref().ok()) {
            provider.take_down();
        }
        self.settle(whole)?;
        self.recorder.take().map_or(Ok(()), Recorder::end)?;
        let ended = |id: &TaskId| needed[*id] && matches!(self.schedule.end_of(*id), None | Some(End::Skipped));
        let skipped: Vec<TaskId> = (0..self.shared.graph.tasks.len()).filter(ended).collect();
        for task in skipped {
            let status = if submitted.contains(&task) { Status::Submitted } else { Status::Skipped };
            let end = self.task_end(task, status, None);
            (self.emit)(Event::Ended(end));
        }
        Ok(Outcome { written: self.written.len(), interrupted: self.interrupted.is_some() })
    }

    /// Nothing new is begun any more. What is under way is told of where it is waited for.
    fn interrupt(&mut self, stop: Stop) {
        self.interrupted = Some(stop);
        self.schedule.stop();
        self.shared.stopped.store(true, Ordering::Release);
        if stop == Stop::Gently {
            let requests = self.providers.values().map(|pooled| pooled.pool.current_num_threads() - pooled.free).sum();
            (self.emit)(Event::Ending { requests });
        }
    }

    /// Where what is under way is given up, requests are not waited for; what is being written is.
    fn only_requests_left(&self) -> bool {
        !self.schedule.is_running()
    }

    fn take(&mut self, message: Report) {
        match message {
            Report::Judged(task, judged) => self.judged(task, *judged),
            Report::Made(task, made) => self.made(task, made),
            Report::Worked(tasks, each) => {
                for task in tasks {
                    self.worked(task.into(), each);
                }
            }
            Report::Unfit(task, complaint) => self.unfit(task, *complaint),
            Report::NotBegun(task) => {
                self.underway.remove(&task.into());
                self.schedule.ended(task, End::Skipped);
            }
            Report::NeedsModel(task, complaint) => self.needs_model_after(task, complaint.map(|complaint| *complaint)),
            Report::Lost(task) => {
                // The damaged blob is set aside, so it is no longer restorable.
                self.surprises.insert(task);
                self.judge(task);
            }
            Report::Answering(form, keeps_prefix) => self.is_answering(form, keeps_prefix),
            Report::Counted(counted) => self.counted(counted),
            Report::FoundVectors(task, found) => self.found_vectors(task, found),
            Report::AskedVectors(asked) => self.asked_vectors(*asked),
            Report::Found(found) => self.found(*found),
            Report::Kept(task, results, kept) => self.kept(task, results, kept),
            Report::Asked(asked) => self.asked(*asked),
            Report::Told(told) => self.told(told),
            Report::Interrupted(stop) => self.interrupt(stop),
        }
    }

    fn begin(&mut self, task: TaskId) {
        self.underway.insert(task.into(), Underway::now());
        let surprised = self.shared.graph.tasks[task].deps.iter().any(|dep| self.surprises.contains(dep));
        match self.plan.tasks.get_mut(task).and_then(Option::take) {
            _ if surprised => {
                self.surprises.insert(task);
                self.judge(task);
            }
            // An orphan that is gone may have been what stood in the way.
            Some(Err(_)) if !self.gone.is_empty() => self.judge(task),
            Some(Ok(Judged { verdict: Verdict::Waiting(_), .. })) | None => self.judge(task),
            Some(judged) => self.judged(task, judged),
        }
    }

    fn judged(&mut self, task: TaskId, judged: Result<Judged, Error>) {
        let judged = match judged {
            Ok(judged) => judged,
            Err(error) => return self.fail(task, Status::Failed, error),
        };
        let Some(key) = judged.key else { return self.fail(task, Status::Failed, bug("a task without a key")) };
        let underway = self.underway.entry(task.into()).or_default();
        underway.key = Some(key);
        underway.edits = judged.edits.into();
        underway.parts = judged.parts;
        let is_to_be_made = matches!(judged.verdict, Verdict::Stale(_));
        underway.unjudged = self.options.frozen && (judged.unchecked || is_to_be_made);
        underway.checked = judged.checked.filter(|_| !underway.unjudged);
        if let Verdict::Stale(reasons) | Verdict::Restorable(reasons, _) = &judged.verdict {
            underway.reasons = reasons.clone();
        }
        let edits = Arc::clone(&underway.edits);
        if self.options.frozen
            && let Err(error) = making::frozen(&self.shared, task, key, &judged.verdict, judged.making.as_ref())
        {
            return self.fail(task, Status::Failed, error);
        }
        let shared = Arc::clone(&self.shared);
        match (judged.verdict, judged.making) {
            (Verdict::Fresh, _) if judged.unchecked && !self.options.frozen => {
                self.spawn_local(task, move || running::judge_there(&shared, task, key));
            }
            // A lock can be edited as an output can: only what is rendered anew tells.
            (Verdict::Fresh, _)
                if self.options.frozen
                    && edits.is_empty()
                    && matches!(shared.graph.rule(task).recipe, Some(Recipe::Template(_))) =>
            {
                self.spawn_local(task, move || Report::Made(task, making::as_rendered(&shared, task, key)));
            }
            (Verdict::Fresh, _) => self.fresh(task, key),
            (Verdict::Edited(why, paths), _) => {
                self.fail(task, Status::Edited, edits::edited(&shared, task, &why, &paths))
            }
            (Verdict::Kept(_), making) => self
                .spawn_local(task, move || Report::Made(task, edits::accept(&shared, task, &edits, making.as_ref()))),
            (Verdict::Restorable(_, digests), _) => {
                let unchecked = judged.unchecked && !self.options.frozen;
                self.spawn_local(task, move || making::restore(&shared, task, key, &digests, unchecked, &edits));
            }
            (Verdict::Stale(_), Some(Making::Bytes(contents) | Making::Unfiltered(contents))) => {
                self.render(Ready { task, key, contents, edits });
            }
            (Verdict::Stale(_), Some(Making::Command(line))) => {
                let stops = !self.options.keep_going && shared.graph.rule(task).on_error == OnError::Fail;
                self.spawn_local(task, move || {
                    // After a failure no command is begun: it may cost as much as a request.
                    if shared.stopped.load(Ordering::Acquire) {
                        return Report::NotBegun(task);
                    }
                    let made = running::run(&shared, task, key, &line, &edits);
                    // Said here, before this thread takes up the next.
                    if stops && made.as_ref().is_err_and(|error| error.code != Code::Edited) {
                        shared.stopped.store(true, Ordering::Release);
                    }
                    Report::Made(task, made)
                });
            }
            (Verdict::Stale(_), Some(Making::Ask(ask))) => {
                let ask: Arc<Ask> = Arc::from(ask);
                self.underway.entry(task.into()).or_default().ask = Some(Arc::clone(&ask));
                // A reply that a killed run left is paid for: it is used if it passes. Without one the task asks at once, so
                // that tasks come to their requests in the order of the plan.
                if !judged.is_replied {
                    return self.needs_model(task.into());
                }
                let (usage, cost) = self.options.asking.took(&key);
                let underway = self.underway.entry(task.into()).or_default();
                (underway.usage, underway.cost) = (usage, cost);
                self.spawn_local(task, move || making::resume(&shared, task, key, &ask, usage, &edits));
            }
            (Verdict::Stale(reasons), Some(Making::Collection(made))) => {
                let is_anew =
                    |why: &Reason| matches!(why, Reason::CheckFailed(_) | Reason::Forced | Reason::Assumed(_));
                self.collect(task, made, reasons.iter().any(is_anew));
            }
            (Verdict::Stale(reasons), Some(Making::Embedding(made))) => {
                let is_anew =
                    |why: &Reason| matches!(why, Reason::CheckFailed(_) | Reason::Forced | Reason::Assumed(_));
                self.embed(task, made, reasons.iter().any(is_anew));
            }
            _ => self.fail(task, Status::Failed, bug("a verdict without what it needs")),
        }
    }
}
