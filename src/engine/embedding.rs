//! Embeddings: vectors are looked up, those that are missing are asked for, and the rows written when all have come.
//!
//! Vectors that came are in the store before anything is done with them. A text that a provider will not take fails nobody else.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::asking::{Failed, Told};
use super::making::{self, Good, Made, Ready};
use super::rounds::Asking;
use super::running::conclude;
use super::shares::{Cost, add};
use super::{Report, Run, Shared, budget};
use crate::batch::{Batch, Form};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::estimate::Estimate;
use crate::event::{Event, Status};
use crate::graph::{TaskId, Unit};
use crate::llm::{EmbedRequest, Embedded};
use crate::models::Model;
use crate::plan::{self, Embedding, bug};
use crate::provider::{FailureKind, Provider, Recording};
use crate::rows;
use crate::vectors::Vectors;

/// Vectors that are being made, by their tasks.
pub(super) type Embeddings = HashMap<TaskId, Embeds>;

/// What came for a text.
type Came = Result<Vec<f32>, String>;

/// Vectors that are being made.
pub(super) struct Embeds {
    made: Arc<Embedding>,
    /// By text; none while it is not known.
    came: Vec<Option<Came>>,
    /// The texts that were asked for.
    new: HashSet<usize>,
    in_flight: usize,
    /// Requests in a row that the provider would not take.
    rejected: usize,
}

/// So many requests in a row that are not taken say that it is not for one of their texts: as many as find one in two thousand.
const REJECTED: usize = 14;

/// A request for vectors that came back.
pub(super) struct AskedVectors {
    batch: Batch,
    provider: String,
    /// Its number; none if it was not sent.
    request: Option<usize>,
    outcome: Result<(Embedded, Option<Recording>), Failed>,
    kept: Result<(), Error>,
    took: Duration,
}

/// A request for vectors to send.
struct Job {
    shared: Arc<Shared>,
    batch: Batch,
    keys: Vec<Digest>,
    request: EmbedRequest,
    provider: Arc<Provider>,
    name: String,
    model: Model,
    is_recorded: bool,
    requests: Arc<AtomicUsize>,
}

impl Run<'_> {
    /// A task whose vectors are to be made.
    pub(super) fn embed(&mut self, task: TaskId, made: Arc<Embedding>, is_anew: bool) {
        self.schedule.waits_for_pieces(task);
        let came = made.texts.iter().map(|_| None).collect();
        let embedding = Embeds { made: Arc::clone(&made), came, new: HashSet::new(), in_flight: 0, rejected: 0 };
        self.embeddings.insert(task, embedding);
        self.schedule.works();
        let shared = Arc::clone(&self.shared);
        self.spawn_pieces(task, move || {
            let found = if is_anew { HashMap::new() } else { look_up(&shared, task, &made) };
            Report::FoundVectors(task, found)
        });
    }

    /// The vectors that are there are known: the others are asked for.
    pub(super) fn found_vectors(&mut self, task: TaskId, mut found: HashMap<Digest, Vec<f32>>) {
        self.schedule.rests();
        let Some(embedding) = self.embeddings.get_mut(&task) else { return };
        for (came, text) in embedding.came.iter_mut().zip(&embedding.made.texts) {
            *came = found.remove(&text.key).map(Ok);
        }
        let missing: Vec<usize> = (0..embedding.came.len()).filter(|at| embedding.came[*at].is_none()).collect();
        if missing.is_empty() {
            return self.write_vectors(task);
        }
        let made = Arc::clone(&embedding.made);
        if self.options.asking != Asking::Now {
            self.embeddings.remove(&task);
            return self.leave(task);
        }
        if let Err(error) = self.may_be_asked(task.into()) {
            return self.fail(task, Status::Failed, error);
        }
        let limits = plan::Experience::embed_limits(&*self.shared, task, &made.model);
        let Some(limits) = limits else {
            let rule = self.shared.graph.rule(task);
            let name = self.shared.graph.manifest.provider_of(rule).map(|p| p.name.clone()).unwrap_or_default();
            let error = Error::new(Code::Unsupported, format!("provider `{name}` makes no vectors"));
            let error = error.in_rule(&rule.name).at(rule.place.clone());
            let hint = "`embed: {provider: NAME}` names another; OpenAI, Gemini, llama.cpp and Voyage make them";
            return self.fail(task, Status::Failed, error.hint(hint));
        };
        if let Some(embedding) = self.embeddings.get_mut(&task) {
            embedding.new = missing.iter().copied().collect();
            embedding.in_flight = missing.len();
        }
        for texts in plan::requests(&made, &missing, limits) {
            self.schedule.sends(plan::texts_batch(task, texts));
        }
    }

    /// Whether a batch is of texts that are to become vectors.
    pub(super) fn is_for_vectors(&self, batch: &Batch) -> bool {
        batch.tasks.first().is_some_and(|unit| self.embeddings.contains_key(&unit.task))
    }

    /// Sends a request for vectors, for which its provider has a free place, if the budget has room for it.
    pub(super) fn request_vectors(&mut self, batch: Batch, name: String, provider: Arc<Provider>) {
        let Some(first) = batch.tasks.first().copied() else { return };
        let Some(embedding) = self.embeddings.get(&first.task) else { return };
        let made = Arc::clone(&embedding.made);
        let texts = || batch.tasks.iter().filter_map(|unit| unit.piece);
        let model = self.shared.model(first, &made.model).unwrap_or_default();
        if self.budget.is_set() {
            let estimate = for_texts(model, texts().map(|at| made.texts[at].tokens).sum());
            match self.budget.admit(first, &estimate, self.shared.graph.name(first)) {
                budget::Verdict::Yes => {}
                budget::Verdict::NotYet(_) => return self.held_back.push_back(batch),
                budget::Verdict::No(error) => {
                    self.schedule.returned(batch.form());
                    return self.fail(first.task, Status::Failed, *error);
                }
            }
        }
        let keys = texts().map(|at| made.texts[at].key).collect();
        let request = made.request(texts());
        let Some(pooled) = self.providers.get_mut(&name) else { return };
        pooled.free -= 1;
        let (shared, requests) = (Arc::clone(&self.shared), Arc::clone(&self.requests));
        let is_recorded = self.recorder.is_some();
        let job = Job { shared, batch, keys, request, provider, name, model, is_recorded, requests };
        let send = self.send.clone();
        pooled.pool.spawn(move || job.run(&send));
    }

    /// A request for vectors came back.
    pub(super) fn asked_vectors(&mut self, asked: AskedVectors) {
        let provider = asked.provider.clone();
        self.schedule.returned(Form { shape: asked.batch.shape, tasks: asked.batch.tasks.len() });
        self.vectors_came(asked);
        self.next_request(&provider);
        self.next_held_back();
    }

    fn vectors_came(&mut self, asked: AskedVectors) {
        let AskedVectors { batch, provider, request, outcome, kept, took } = asked;
        let Some(first) = batch.tasks.first().copied() else { return };
        let task = first.task;
        let (embedded, recording) = match outcome {
            Ok(came) => came,
            Err(failed) => return self.vectors_failed(batch, &provider, request, failed, took),
        };
        if let (Some(recorder), Some(recording)) = (&mut self.recorder, &recording)
            && !recorder.keep(recording)
            && !self.options.keep_going
        {
            self.schedule.stop();
        }
        let good = embedded.vectors.iter().flatten().count();
        let usage = embedded.usage;
        let model = self.embeddings.get(&task).map(|embedding| embedding.made.model.clone()).unwrap_or_default();
        let price = self.shared.model(first, &model).unwrap_or_default().price;
        let number = request.unwrap_or_default();
        let tasks = batch.tasks.len();
        // Vectors have no tokens of their own.
        let is_uncounted = usage.input == 0;
        let alone = usage;
        (self.emit)(Event::Answered {
            request: number,
            provider,
            tasks,
            good,
            usage,
            is_uncounted,
            alone,
            price,
            took,
        });
        let cost = price.map_or(0.0, |price| price.cost(usage));
        match usage.input {
            0 => self.budget.settle_unsaid(first, 0, cost),
            input => self.budget.settle(first, input, cost),
        }
        let underway = self.underway.entry(task.into()).or_default();
        underway.usage = add(underway.usage, usage);
        underway.cost = underway.cost.and(Cost(price.map(|price| price.cost(usage))));
        underway.request = request;
        if let Err(error) = kept {
            return self.fail(task, Status::Failed, error);
        }
        let Some(embedding) = self.embeddings.get_mut(&task) else { return };
        embedding.rejected = 0;
        let wanted = embedding.made.dimensions;
        for (unit, vector) in batch.tasks.iter().zip(embedded.vectors) {
            let came = match (vector, wanted) {
                (None, _) => Err("the provider gave no vector for it".to_owned()),
                (Some(vector), Some(wanted)) if vector.len() != wanted as usize => {
                    Err(format!("its vector has {} dimensions, and not {wanted}", vector.len()))
                }
                (Some(vector), _) => Ok(vector),
            };
            embedding.settle(*unit, came);
        }
        if embedding.in_flight == 0 {
            self.write_vectors(task);
        }
    }

    /// A request for vectors failed: where one of its texts may be to blame, it is found out which.
    fn vectors_failed(&mut self, batch: Batch, provider: &str, request: Option<usize>, failed: Failed, took: Duration) {
        let Some(first) = batch.tasks.first().copied() else { return };
        let task = first.task;
        let is_uncounted = matches!(&failed, Failed::Request(failure) if failure.may_have_cost());
        match is_uncounted {
            true => self.budget.settle_unsaid(first, 0, 0.0),
            false => self.budget.settle(first, 0, 0.0),
        }
        if let Some(request) = request {
            (self.emit)(Event::RequestFailed { request, is_uncounted, took });
        }
        if let Failed::NotSent = failed {
            return self.skip_units(&batch.tasks);
        }
        if let Failed::Request(failure) = &failed {
            let Some(embedding) = self.embeddings.get_mut(&task) else { return };
            embedding.rejected += 1;
            if failure.kind == FailureKind::Rejected && embedding.rejected < REJECTED {
                if batch.tasks.len() > 1 {
                    for half in plan::halves(batch.tasks.len()) {
                        let tasks = batch.tasks[half].to_vec();
                        self.schedule.sends(Batch { tasks, failures: batch.failures + 1, ..batch.clone() });
                    }
                    return;
                }
                embedding.settle(first, Err(failure.message.clone()));
                if embedding.in_flight == 0 {
                    self.write_vectors(task);
                }
                return;
            }
        }
        let error = self.note_failure(first, provider, failed);
        let error = error.in_rule(&self.shared.graph.rule(task).name);
        if self.embeddings.contains_key(&task) {
            self.fail(task, Status::Failed, error);
        }
    }

    /// Writes the rows when nothing is under way any more.
    fn write_vectors(&mut self, task: TaskId) {
        let Some(embedding) = self.embeddings.remove(&task) else { return };
        let of = |u: &super::Underway| Some((u.key?, u.usage, Arc::clone(&u.edits)));
        let Some((key, usage, edits)) = self.underway.get(&task.into()).and_then(of) else {
            return self.fail(task, Status::Failed, bug("vectors without a key"));
        };
        self.schedule.resumes(task);
        let shared = Arc::clone(&self.shared);
        self.spawn_local(task, move || {
            let Embeds { made, came, new, .. } = embedding;
            let lost = || Err("it was not asked for".to_owned());
            let came: Vec<Came> = came.into_iter().map(|came| came.unwrap_or_else(lost)).collect();
            let counts = made.counts(&came, &new);
            let written = written(&shared, task, &made, &came).and_then(|contents| {
                let contents =
                    conclude(&shared, task, None, contents).map_err(|unfit| unfit.into_error(&shared, task))?;
                let ready = Ready { task, key, contents, edits };
                let done = making::finish(&shared, Good { ready, model: Some(made.model.clone()), usage })?;
                let status = if new.is_empty() { Status::Restored } else { Status::Embedded };
                Ok(Made { embedded: Some(counts), model: Some(made.model.clone()), ..done.by(status) })
            });
            Report::Made(task, written)
        });
    }
}

impl Embeds {
    fn settle(&mut self, unit: Unit, came: Came) {
        if let Some(place) = unit.piece.and_then(|at| self.came.get_mut(at)) {
            self.in_flight -= usize::from(place.is_none());
            *place = Some(came);
        }
    }
}

impl Job {
    fn run(self, send: &Sender<Report>) {
        let mut begun = Instant::now();
        let mut number = None;
        let sent = || self.ask(&mut number, &mut begun, send);
        let outcome = catch_unwind(AssertUnwindSafe(sent))
            .unwrap_or_else(|_| Err(Failed::Bug(bug("a request for vectors panicked"))));
        let kept = match &outcome {
            Ok((embedded, _)) => self.keep(embedded),
            Err(_) => Ok(()),
        };
        let Job { batch, name: provider, .. } = self;
        let asked = AskedVectors { batch, provider, request: number, outcome, kept, took: begun.elapsed() };
        let _ = send.send(Report::AskedVectors(Box::new(asked)));
    }

    fn ask(
        &self,
        number: &mut Option<usize>,
        begun: &mut Instant,
        send: &Sender<Report>,
    ) -> Result<(Embedded, Option<Recording>), Failed> {
        let tell = |told| drop(send.send(Report::Told(told)));
        let name = || self.name.clone();
        let up = |notice| tell(Told::Notice { provider: name(), request: 0, tasks: 0, first: None, notice });
        self.provider.bring_up(&up).map_err(Failed::Start)?;
        *begun = Instant::now();
        let request = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        *number = Some(request);
        let tasks = self.batch.tasks.len();
        let first = self.batch.tasks.first().copied();
        let requested = Event::Requested {
            request,
            provider: name(),
            model: self.request.model.clone(),
            paths: first.iter().map(|unit| self.shared.graph.name(*unit).clone()).collect(),
            tasks,
            prefix_saved: 0,
            context_saved: 0,
            prefix: 0,
            cache_minimum: None,
            price: self.model.price,
            again: self.batch.failures > 0,
        };
        tell(Told::Event(Box::new(requested)));
        let notices = |notice| tell(Told::Notice { provider: name(), request, tasks, first, notice });
        let embedded = self.provider.embed(&self.request, &notices).map_err(|failure| match failure.kind {
            FailureKind::Cancelled => Failed::NotSent,
            _ => Failed::Request(failure),
        })?;
        let recording = self.is_recorded.then(|| self.provider.embed_recording(&self.request, &embedded)).flatten();
        Ok((embedded, recording))
    }

    /// What is paid for is kept first.
    fn keep(&self, embedded: &Embedded) -> Result<(), Error> {
        let came = self.keys.iter().zip(&embedded.vectors);
        let wanted = self.request.dimensions.map(|wanted| wanted as usize);
        let fits = |vector: &&Vec<f32>| wanted.is_none_or(|wanted| vector.len() == wanted);
        let of: Vec<(Digest, &[f32])> =
            came.filter_map(|(key, vector)| Some((*key, vector.as_ref().filter(fits)?.as_slice()))).collect();
        if of.is_empty() {
            return Ok(());
        }
        crate::store::make_folder(&self.shared.root)?;
        self.shared.store.put_vectors(&of)
    }
}

/// What a request for vectors of so many tokens will take: nothing comes back that is counted.
pub fn for_texts(model: Model, tokens: u64) -> Estimate {
    Estimate { input: tokens, output: 0, most_output: 0, is_bounded: true, model }
}

/// The vectors that the store has, and those that the output holds that stands there, if a run wrote it.
fn look_up(shared: &Shared, task: TaskId, made: &Embedding) -> HashMap<Digest, Vec<f32>> {
    let mut wanted: HashSet<Digest> = made.texts.iter().map(|text| text.key).collect();
    let mut found = shared.store.vectors(&wanted);
    wanted.retain(|key| !found.contains_key(key));
    if !wanted.is_empty() {
        let outputs = &shared.graph.tasks[task].outputs;
        let standing = plan::standing_vectors(outputs, &shared.files, &shared.lock);
        found.extend(standing.into_iter().filter(|(key, _)| wanted.contains(key)));
    }
    found
}

/// The texts of the outputs.
fn written(shared: &Shared, task: TaskId, made: &Embedding, came: &[Came]) -> Result<Vec<Arc<[u8]>>, Error> {
    let outputs = &shared.graph.tasks[task].outputs;
    let has_matrix = outputs.iter().any(|output| output.path.ext() == "npy");
    let mut contents: Vec<Arc<[u8]>> = Vec::with_capacity(outputs.len());
    for output in outputs {
        let mut bytes = Vec::new();
        let wrote = match output.path.ext() {
            "npy" => matrix(made, came)?.write_npy(&mut bytes),
            _ => rows::write(&output.path, made.written(came, !has_matrix), &mut bytes),
        };
        wrote.map_err(|e| Error::new(Code::BadValue, format!("`{}` cannot be written: {e}", output.path)))?;
        contents.push(bytes.into());
    }
    Ok(contents)
}

/// The vectors as one array; of what has none its numbers are none.
fn matrix(made: &Embedding, came: &[Came]) -> Result<Vectors, Error> {
    let of = |row: &plan::EmbeddingRow| row.text.and_then(|text| came.get(text)?.as_ref().ok());
    let dimensions = made.rows.iter().find_map(of).map(Vec::len).or(made.dimensions.map(|wanted| wanted as usize));
    let mut matrix = Vectors::new(dimensions.unwrap_or(0));
    let none = vec![f32::NAN; matrix.dimensions()];
    for row in &made.rows {
        let misfit = |e| Error::new(Code::BadValue, format!("the model gives vectors of several lengths: {e}"));
        matrix.push(of(row).unwrap_or(&none)).map_err(misfit)?;
    }
    Ok(matrix)
}
