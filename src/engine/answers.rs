//! The model's part of the loop: from a task that needs an answer to a result, or to what is asked next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::asking::{self, Asked, Failed, NOT_AGAIN, Origin, Told};
use super::making::{Good, Ready};
use super::rounds::{Asking, May};
use super::running::Unfit;
use super::shares::{add, costs, length, shares};
use super::{Pooled, Run, Underway, budget, estimates, pool};
use crate::batch::{Batch, Form};
use crate::error::{Code, Error};
use crate::estimate::Room;
use crate::event::Event;
use crate::graph::{TaskId, Unit};
use crate::llm::{self, Ask, Complaint, Shortfall, Unkept, Usage};
use crate::manifest::Api;
use crate::models::Price;
use crate::plan::{self, bug};
use crate::provider::{FailureKind, Notice, Provider, is_local};
use crate::tokens;
use crate::wording;

impl Run<'_> {
    pub(super) fn needs_model(&mut self, task: Unit) {
        let Some(ask) = self.may_need_model(task) else { return };
        let mut traveler = plan::travel(&self.shared.ground(), &*self.shared, task, &ask);
        if !self.options.batch {
            traveler.terms.most = Some(1);
        }
        if let Some(why) = traveler.terms.too_short() {
            // Of a shape, however many travel together.
            self.not_kept(Form { shape: traveler.shape, tasks: 0 }, task, why);
        }
        match task.piece {
            None => self.schedule.asks(traveler),
            Some(_) => self.schedule.adds(traveler),
        }
    }

    /// That a provider may be asked for a task at all.
    pub(super) fn may_be_asked(&self, task: Unit) -> Result<(), Error> {
        let graph = &self.shared.graph;
        let name = graph.name(task);
        let refuse = |code, what: &str, hint: &str| {
            Err(Error::new(code, format!("`{name}` needs a request to a model, and {what}")).hint(hint))
        };
        let provider = graph.manifest.provider_of(graph.rule(task)).ok();
        let is_recorded = provider.is_some_and(|provider| matches!(provider.api, Api::Replay(_)));
        if self.options.offline && !is_recorded {
            return refuse(Code::Offline, "`--offline` allows none", "run without `--offline`");
        }
        if self.options.free_only && provider.is_none_or(|provider| !is_local(provider)) {
            return refuse(Code::NeedsYes, "only those on this machine are asked", "say `--yes` if that is meant");
        }
        Ok(())
    }

    /// What a task or a piece of one asks, if a model may be asked for it; else it has ended.
    pub(super) fn may_need_model(&mut self, task: Unit) -> Option<Arc<Ask>> {
        if let Err(error) = self.may_be_asked(task) {
            self.fail_unit(task, error);
            return None;
        }
        let Some((ask, key)) = self.underway.get(&task).and_then(|u| Some((u.ask.clone()?, u.key?))) else {
            self.fail_unit(task, bug("a task without a request"));
            return None;
        };
        match self.may_ask(task, &key) {
            May::Ask => {}
            May::Leave => {
                self.leave(task.task);
                return None;
            }
            May::Not(error) => {
                self.fail_unit(task, *error);
                return None;
            }
        }
        // What has no room by itself would take it from others.
        match self.shared.fits(task, &ask) {
            Ok(None) => {}
            Ok(Some(what)) => {
                let path = self.shared.graph.name(task).clone();
                (self.emit)(Event::Warned { path, what });
            }
            Err(error) => {
                self.fail_unit(task, error);
                return None;
            }
        }
        Some(ask)
    }

    /// Sends a request, or lets it wait until its provider has a free place.
    pub(super) fn request(&mut self, batch: Batch) {
        if self.options.asking == Asking::Later {
            return self.put_by(batch);
        }
        let (name, provider) = match self.provider(&batch) {
            Ok(provider) => provider,
            Err(error) => {
                self.schedule.returned(batch.form());
                for task in batch.tasks {
                    let error = error.clone().in_rule(&self.shared.graph.rule(task).name);
                    self.fail_unit(task, error);
                }
                return;
            }
        };
        let Some(pooled) = self.providers.get_mut(&name) else { return };
        if pooled.free == 0 {
            pooled.waiting.push_back(batch);
            return;
        }
        if self.is_for_vectors(&batch) {
            return self.request_vectors(batch, name, provider);
        }
        if self.is_counted_first(&batch, &name) {
            self.held_back.push_back(batch);
            return;
        }
        let Some((batch, asks)) = self.admitted(batch) else { return };
        // An unknown price is said where it matters.
        let model = asks.first().and_then(|ask| self.shared.model(batch.tasks[0], &ask.model).ok());
        let of_window = self.kept_of_window(&batch, &asks, model);
        let Some(pooled) = self.providers.get_mut(&name) else { return };
        pooled.free -= 1;
        for task in &batch.tasks {
            self.underway.entry(*task).or_default().follow_up.clear();
        }
        if self.requests.load(Ordering::Relaxed) == 0 && !self.shared.is_local(batch.tasks[0]) {
            // Its tokens will be counted by words: they are read while it is under way.
            self.cpu.spawn(tokens::warm_up);
        }
        let waiting = pooled.waiting.iter().chain(&self.held_back);
        let awaited = || waiting.clone().filter(|other| other.form() == batch.form()).count();
        let keeps_prefix = self.schedule.keeps_prefix(&batch, &awaited);
        let is_gone_on_from = of_window.is_some_and(|(_, is_all)| is_all);
        let keeps_prefix = keeps_prefix.or(of_window.map(|(keep, _)| (keep, false)));
        let job = asking::Job {
            model: model.unwrap_or_default(),
            keeps_prefix,
            is_gone_on_from,
            shared: Arc::clone(&self.shared),
            keys: batch.tasks.iter().filter_map(|task| self.underway.get(task).and_then(|u| u.key)).collect(),
            batch,
            asks,
            provider,
            name,
            is_recorded: self.recorder.is_some(),
            requests: Arc::clone(&self.requests),
        };
        let send = self.send.clone();
        pooled.pool.spawn(move || job.run(&send));
    }

    /// What a request for these tasks says, if its model has room for it and the budget, too. What does not fit together goes in
    /// smaller company; what has to wait for others is held back.
    pub(super) fn admitted(&mut self, batch: Batch) -> Option<(Batch, Vec<Ask>)> {
        let asks = self.asks(&batch);
        let refused = match self.may_send(&batch, &asks) {
            Ok(budget::Verdict::Yes) => return Some((batch, asks)),
            // What is handed in to be answered within a day is not waited for.
            Ok(budget::Verdict::NotYet(error)) if self.options.asking == Asking::Later => *error,
            Ok(budget::Verdict::NotYet(_)) => {
                self.held_back.push_back(batch);
                return None;
            }
            Ok(budget::Verdict::No(error)) => *error,
            Err(error) => error,
        };
        self.schedule.returned(batch.form());
        if refused.code == Code::TooLong && batch.tasks.len() > 1 {
            self.ask_again(&batch, batch.tasks.clone(), &Shortfall::Truncated);
            return None;
        }
        for task in batch.tasks {
            let error = refused.clone().in_rule(&self.shared.graph.rule(task).name);
            self.fail_unit(task, error);
        }
        None
    }

    /// What the tasks of a batch ask for, with what was said to them before.
    pub(super) fn asks(&self, batch: &Batch) -> Vec<Ask> {
        let of = |task: &Unit| {
            let underway = self.underway.get(task)?;
            let mut ask = Ask::clone(underway.ask.as_ref()?);
            ask.messages.extend(underway.follow_up.iter().cloned());
            Some(ask)
        };
        batch.tasks.iter().filter_map(of).collect()
    }

    fn may_send(&mut self, batch: &Batch, asks: &[Ask]) -> Result<budget::Verdict, Error> {
        let asks: Vec<&Ask> = asks.iter().collect();
        if let Room::TooLong(taken, window) = self.shared.room(&batch.tasks, &asks)? {
            let what = format!("the request would take {taken} tokens, and its model has room for {window}");
            return Err(Error::new(Code::TooLong, what));
        }
        if !self.budget.is_set() {
            return Ok(budget::Verdict::Yes);
        }
        let mut estimate = self.shared.estimate(&batch.tasks, &asks)?;
        if self.options.asking == Asking::Later {
            estimate.model.price = estimate.model.price.map(Price::of_batches);
        }
        estimate.input = self.budget.as_counted(estimate.input, asks.first().map_or("", |ask| &ask.model));
        let Some(first) = batch.tasks.first() else { return Err(bug("a request for nothing")) };
        Ok(self.budget.admit(*first, &estimate, self.shared.graph.name(*first)))
    }

    /// Something came back: what was held back may have room now. Where the first of it has none, the rest is not looked at: each
    /// look counts tokens.
    pub(super) fn next_held_back(&mut self) {
        let mut held_back = std::mem::take(&mut self.held_back);
        while let Some(batch) = held_back.pop_front() {
            if self.schedule.is_stopped() {
                self.schedule.returned(batch.form());
                self.skip_units(&batch.tasks);
                continue;
            }
            self.schedule.parted(batch).into_iter().for_each(|part| self.request(part));
            if !self.held_back.is_empty() {
                break;
            }
        }
        self.held_back.append(&mut held_back);
    }

    /// A place with a provider is free: the next request that waits for one is sent, unless nothing is sent any more.
    pub(super) fn next_request(&mut self, provider: &str) {
        let Some(pooled) = self.providers.get_mut(provider) else { return };
        pooled.free += 1;
        while let Some(batch) = self.providers.get_mut(provider).and_then(|pooled| pooled.waiting.pop_front()) {
            if !self.schedule.is_stopped() {
                let mut parts = self.schedule.parted(batch);
                let Some(first) = parts.pop_front() else { continue };
                if let Some(pooled) = self.providers.get_mut(provider) {
                    parts.into_iter().rev().for_each(|part| pooled.waiting.push_front(part));
                }
                self.request(first);
                // Where it could not be sent, the place is still free for the next.
                if self.providers.get(provider).is_some_and(|pooled| pooled.free == 0) {
                    return;
                }
                continue;
            }
            self.schedule.returned(batch.form());
            self.skip_units(&batch.tasks);
        }
    }

    /// The provider of a batch, made when it is first needed, and its name.
    pub(super) fn provider(&mut self, batch: &Batch) -> Result<(String, Arc<Provider>), Error> {
        let graph = &self.shared.graph;
        let Some(first) = batch.tasks.first() else { return Err(bug("a request for nothing")) };
        let declared = graph.manifest.provider_of(graph.rule(*first))?;
        if let Some(error) = self.dead.get(&declared.name) {
            return Err(error.clone());
        }
        let pooled = match self.providers.get(&declared.name) {
            Some(known) => known,
            None => {
                let env = &*self.options.env;
                let cancel = self.options.cancel.clone();
                let (root, shell) = (&self.shared.root, &self.shared.shell);
                let provider = Provider::new(declared, root, env, &self.options.trusted_hosts, shell, cancel);
                let pool = pool("genmake-request", declared.in_flight)?;
                if let Ok(provider) = &provider {
                    for (model, refuses) in self.shared.ledger().refused(&estimates::server(declared)) {
                        provider.learn(model, refuses.parts.iter().cloned(), refuses.most_output);
                    }
                }
                let provider = provider.map(Arc::new);
                let pooled = Pooled { provider, pool, free: declared.in_flight, waiting: VecDeque::new() };
                self.providers.entry(declared.name.clone()).or_insert(pooled)
            }
        };
        pooled.provider.as_ref().map(|provider| (declared.name.clone(), Arc::clone(provider))).map_err(Error::clone)
    }

    pub(super) fn asked(&mut self, asked: Asked) {
        let provider = asked.provider.clone();
        if asked.keeps_prefix.is_some() {
            self.schedule.prefix_is_kept(asked.batch.form(), asked.outcome.is_ok());
        }
        if let (Some(why), Some(first)) = (asked.unkept, asked.batch.tasks.first()) {
            self.not_kept(asked.batch.form(), *first, why);
        }
        self.schedule.returned(asked.batch.form());
        self.came_back(asked);
        self.next_request(&provider);
        self.next_held_back();
    }

    /// The first of an answer has come.
    pub(super) fn is_answering(&mut self, form: Form, keeps_prefix: bool) {
        if keeps_prefix {
            self.schedule.prefix_is_kept(form, true);
        }
        self.schedule.is_answering(form);
    }

    /// A prefix is not in the provider's cache as it should be; each time counts, and the first is said.
    fn not_kept(&mut self, form: Form, task: Unit, why: Unkept) {
        let is_first = self.schedule.not_kept(form, why);
        (self.emit)(Event::Unkept { path: self.shared.graph.name(task).clone(), why, is_first });
    }

    /// What a request tells while it is under way.
    pub(super) fn told(&mut self, told: Told) {
        if let Told::Notice { first: Some(first), notice: Notice::Retry(failure, _), .. } = &told
            && failure.may_have_cost()
        {
            self.budget.sent_again(*first);
        }
        (self.emit)(told.into());
    }

    fn came_back(&mut self, asked: Asked) {
        let Asked { batch, provider, request, outcome, took, .. } = asked;
        let together = batch.tasks.len();
        let first = batch.tasks[0];
        // Of a collection once, however many of its pieces travelled.
        let mut whose: Vec<Unit> = batch.tasks.iter().map(|unit| unit.task.into()).collect();
        whose.dedup();
        whose.into_iter().for_each(|task| self.worked(task, took));
        let answered = match outcome {
            Ok(answered) => answered,
            Err(failed) => {
                let is_uncounted = matches!(&failed, Failed::Request(failure) if failure.may_have_cost());
                match is_uncounted {
                    true => self.budget.settle_unsaid(first, 0, 0.0),
                    false => self.budget.settle(first, 0, 0.0),
                }
                if let Some(request) = request {
                    (self.emit)(Event::RequestFailed { request, is_uncounted, took });
                }
                return self.request_failed(&batch, &provider, request, failed);
            }
        };
        if let (Some(recorder), Some(recording)) = (&mut self.recorder, &answered.recording)
            && !recorder.keep(recording)
            && !self.options.keep_going
        {
            // Whoever wants recordings does not pay for answers without.
            self.schedule.stop();
        }
        let lengths: Vec<u64> = answered.results.iter().map(length).collect();
        let shares = shares(answered.usage, &lengths);
        self.note(&batch, &answered, &shares, took);
        if let Some(sent) = answered.unread {
            let (counted, provider) = (answered.usage.input, provider.clone());
            (self.emit)(Event::Unread { request: request.unwrap_or_default(), provider, counted, sent });
        }
        let count = answered.results.iter().filter(|result| matches!(result, Ok(Ok(_)))).count();
        let number = request.unwrap_or_default();
        let from = Origin { provider: provider.clone(), id: answered.id, usage: answered.usage };
        let (usage, alone, price) = (answered.usage, answered.alone, answered.price);
        let (tasks, good) = (together, count);
        let is_uncounted = usage.is_silent_on(good);
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
        match usage.input == 0 || usage.output == 0 {
            true => self.budget.settle_unsaid(first, usage.input + usage.output, cost),
            false => self.budget.settle(first, usage.input + usage.output, cost),
        }
        let (mut good, mut pieces, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        let costs = costs(price, usage, &shares);
        for (at, (result, share)) in answered.results.into_iter().zip(shares).enumerate() {
            let task = batch.tasks[at];
            for of in [Some(task), task.piece.map(|_| task.task.into())].into_iter().flatten() {
                let underway = self.underway.entry(of).or_default();
                underway.usage = add(underway.usage, share);
                underway.cost = underway.cost.and(costs[at]);
                underway.request = request;
            }
            match result {
                Ok(Ok(contents)) => match task.piece {
                    None => good.extend(self.good(task.task, contents)),
                    Some(_) => pieces.push((task, contents)),
                },
                Ok(Err((texts, Unfit::Not(complaint)))) => self.correct(&batch, task, &texts, complaint),
                Ok(Err((_, Unfit::Broken(error)))) => self.fail_unit(task, error),
                Err(()) => match answered.strays.iter().find(|(stray, _)| *stray == at) {
                    Some((_, other)) => self.strayed(&batch, task, batch.tasks[*other], &from),
                    None => missing.push(task),
                },
            }
        }
        self.finish(good);
        self.keep_pieces(pieces);
        // What brought anything shows that the tasks can travel together.
        if together > 1 && missing.len() < together {
            self.schedule.delivered(&batch);
        }
        if let (Some(why), false) = (answered.why, missing.is_empty()) {
            self.fell_short(&batch, number, missing, why, &from);
        }
    }

    /// What came for a task is nearer to another of the batch: it is asked for again, alone.
    fn strayed(&mut self, batch: &Batch, task: Unit, other: Unit, from: &Origin) {
        if self.is_given_up(task) {
            return;
        }
        let graph = &self.shared.graph;
        let (path, other) = (graph.name(task).clone(), graph.name(other).clone());
        let again = graph.rule(task).batching.fallback_on_failure;
        (self.emit)(Event::Strayed { path, other: other.clone(), again });
        if again {
            return self.ask_alone(batch, task);
        }
        let why = Shortfall::Malformed(format!("what came for it is about `{other}`"));
        let error = asking::fell_short(&self.shared, task, &why, from, false);
        self.fail_unit(task, error);
    }

    /// What a request took, for estimates to come true.
    fn note(&mut self, batch: &Batch, answered: &asking::Answered, shares: &[Usage], took: Duration) {
        let ledger = self.ledger.get_or_insert_with(|| self.shared.ledger().clone());
        if let Some(first) = batch.tasks.first().filter(|first| first.piece.is_none()) {
            ledger.note_time(&self.shared.graph.rule(*first).name, batch.tasks.len() as u64, took);
        }
        let (by, sent) = answered.sent;
        // What was read in part says nothing of how it is counted.
        if answered.unread.is_none() {
            ledger.note_prompt(&answered.model, by, sent, answered.usage.input);
        }
        for ((task, result), share) in batch.tasks.iter().zip(&answered.results).zip(shares) {
            if matches!(result, Ok(Ok(_))) {
                let own = if shares.len() > 1 { llm::unframed(share.output) } else { share.output };
                ledger.note_result(&self.shared.graph.rule(*task).name, share.input, own);
            }
        }
    }

    /// Something was done for a task for so long.
    pub(super) fn worked(&mut self, task: Unit, took: Duration) {
        if let Some(underway) = self.underway.get_mut(&task) {
            underway.worked += took;
        }
    }

    /// A good result, on its way to the store; none where it is lost.
    fn good(&mut self, task: TaskId, contents: Vec<Arc<[u8]>>) -> Option<Good> {
        let of =
            |u: &Underway| Some((u.key?, u.ask.as_ref().map(|ask| ask.model.clone()), u.usage, Arc::clone(&u.edits)));
        let Some((key, model, usage, edits)) = self.underway.get(&task.into()).and_then(of) else {
            self.fail_unit(task.into(), bug("a result without a key"));
            return None;
        };
        let underway = self.underway.entry(task.into()).or_default();
        let schema = underway.ask.as_ref().and_then(|ask| Some(ask.schema.as_ref()?.value().to_string()));
        let messages = underway.ask.iter().flat_map(|ask| &ask.messages).map(|message| message.text.as_str());
        let prompt = messages.chain(schema.as_deref());
        let result = contents.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect::<Vec<_>>().join("\n");
        underway.outline = llm::outline(prompt, &result);
        self.schedule.resumes(task);
        Some(Good { ready: Ready { task, key, contents, edits }, model, usage })
    }

    /// A result that fails a check goes back to the model with the check's words, once for each retry.
    fn correct(&mut self, batch: &Batch, task: Unit, texts: &[String], complaint: Complaint) {
        if let Some(key) = self.underway.get(&task).and_then(|underway| underway.key) {
            self.shared.store.reject_replies(&key);
        }
        if self.is_given_up(task) {
            return;
        }
        let rule = self.shared.graph.rule(task);
        let (most, name) = (rule.retries, rule.name.clone());
        let fallback = rule.batching.fallback_on_failure || batch.tasks.len() == 1;
        let underway = self.underway.entry(task).or_default();
        if underway.retries >= most || !fallback {
            let error = Error::new(Code::CheckFailed, complaint.words()).in_rule(&name).hint(match most {
                _ if !fallback => NOT_AGAIN.to_owned(),
                0 => "`retries: 1` would give the model another try".to_owned(),
                n => format!("the model was asked {} times in all", n + 1),
            });
            return self.fail_unit(task, error);
        }
        // What a check says goes to the model, too.
        let whose = format!("what a check says of `{}`", complaint.path);
        if let Err(error) = plan::no_secret_in(&self.shared.graph, task.task, &complaint.message, &whose) {
            return self.fail_unit(task, error);
        }
        let underway = self.underway.entry(task).or_default();
        underway.retries += 1;
        let said = match underway.ask.as_ref().and_then(|ask| ask.schema.as_ref()) {
            // A piece is JSON already.
            Some(_) if task.piece.is_none() => llm::as_said(&complaint.path, &texts.concat()),
            _ => texts.join("\n"),
        };
        underway.follow_up = complaint.to_messages(&said).into();
        (self.emit)(Event::AskedToCorrect { path: complaint.path, why: complaint.message });
        self.ask_alone(batch, task);
    }

    /// What an answer did not bring: asked for again where that can help, else failed.
    fn fell_short(&mut self, batch: &Batch, request: usize, mut missing: Vec<Unit>, why: Shortfall, from: &Origin) {
        missing.retain(|task| !self.is_given_up(*task));
        if missing.is_empty() {
            return;
        }
        let graph = &self.shared.graph;
        let alone = batch.tasks.len() == 1;
        let rule = graph.rule(missing[0]);
        let again = if alone {
            let tried = self.underway.get(&missing[0]).map_or(0, |u| u.retries);
            matches!(why, Shortfall::Malformed(_)) && tried < rule.retries
        } else {
            rule.batching.fallback_on_failure
        };
        if alone && again {
            let path = graph.name(missing[0]).clone();
            (self.emit)(Event::AskedToCorrect { path, why: wording::shortfall(&why) });
        } else {
            let missing = missing.iter().map(|task| graph.name(*task).clone()).collect();
            (self.emit)(Event::FellBack { request, missing, why: why.clone(), again });
        }
        if !again {
            for task in missing {
                let error = asking::fell_short(&self.shared, task, &why, from, alone);
                self.fail_unit(task, error);
            }
        } else if alone {
            self.underway.entry(missing[0]).or_default().retries += 1;
            self.ask_alone(batch, missing[0]);
        } else {
            self.ask_again(batch, missing, &why);
        }
    }

    fn request_failed(&mut self, batch: &Batch, provider: &str, request: Option<usize>, failed: Failed) {
        if let Failed::NotSent = failed {
            return self.skip_units(&batch.tasks);
        }
        // What a provider will not take from several it may take from each.
        let may_alone = self.shared.graph.rule(batch.tasks[0]).batching.fallback_on_failure && batch.tasks.len() > 1;
        match failed {
            Failed::Request(failure) if failure.kind == FailureKind::Rejected && may_alone => {
                let from = Origin { provider: provider.to_owned(), id: failure.request_id, usage: Usage::default() };
                let why = Shortfall::Refused(failure.message);
                self.fell_short(batch, request.unwrap_or_default(), batch.tasks.clone(), why, &from);
            }
            failed => {
                let error = self.note_failure(batch.tasks[0], provider, failed);
                for task in &batch.tasks {
                    let error = error.clone().in_rule(&self.shared.graph.rule(*task).name);
                    self.fail_unit(*task, error);
                }
            }
        }
    }

    /// A request's failure as an error, `first` being who asked first. Of one that will not pass it is noted that its provider
    /// is to be asked no more.
    pub(super) fn note_failure(&mut self, first: Unit, provider: &str, failed: Failed) -> Error {
        let (error, is_final) = match failed {
            Failed::NotSent => (bug("a request that was not sent is no failure"), false),
            Failed::Request(failure) => (asking::failure(&self.shared, first, &failure), failure.is_final()),
            Failed::Start(error) => (error, true),
            Failed::Bug(error) => (error, false),
        };
        if is_final {
            self.dead.insert(provider.to_owned(), error.clone());
        }
        error
    }
}
