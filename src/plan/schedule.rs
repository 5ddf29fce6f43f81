//! A step machine for a run: what to do next, given what is done. Pure: no thread, no clock.
//!
//! A task's life: blocked → ready → running → (asked →) done, failed, held or skipped. Only [`Schedule`] moves it.

use std::collections::VecDeque;

use crate::batch::{Batch, Batcher, Form, Traveler};
use crate::graph::{TaskId, Unit};
use crate::llm::{Shortfall, Unkept};
use crate::models::Keep;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Judge this task and make it, or say with [`Schedule::asks`] that it needs a model.
    Run(TaskId),
    /// Send this request.
    Request(Batch),
    /// Wait for something that is under way.
    Wait,
    /// Nothing is left to do.
    Done,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its outputs are what they should be.
    Done,
    /// It failed.
    Failed,
    /// A person's edit is in its way.
    Held,
    /// Something it waits for failed, or nothing more was to be asked after a failure.
    Skipped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// How many of its dependencies are not done.
    Blocked(usize),
    Ready,
    Running,
    /// In the batcher, or in a request.
    Asked,
    Ended(End),
}

/// The run's tasks and where each stands.
pub struct Schedule {
    states: Vec<State>,
    dependents: Vec<Vec<TaskId>>,
    /// Ready tasks, the next one last.
    ready: Vec<TaskId>,
    running: usize,
    in_requests: usize,
    batcher: Batcher,
    keep_going: bool,
    /// No request is sent any more.
    stopped: bool,
}

impl Schedule {
    /// `deps[t]` are the tasks that `t` waits for; tasks that `needed` does not mark count as done.
    pub fn new(deps: &[&[TaskId]], needed: &[bool], keep_going: bool) -> Schedule {
        let mut states = Vec::with_capacity(deps.len());
        let mut dependents = vec![Vec::new(); deps.len()];
        let mut ready = Vec::new();
        for (task, deps) in deps.iter().enumerate() {
            let open: Vec<TaskId> = deps.iter().copied().filter(|dep| needed[*dep]).collect();
            states.push(match (needed[task], open.len()) {
                (false, _) => State::Ended(End::Done),
                (true, 0) => {
                    ready.push(task);
                    State::Ready
                }
                (true, n) => State::Blocked(n),
            });
            for dep in open {
                dependents[dep].push(task);
            }
        }
        ready.reverse();
        Schedule {
            states,
            dependents,
            ready,
            running: 0,
            in_requests: 0,
            batcher: Batcher::default(),
            keep_going,
            stopped: false,
        }
    }

    /// What to do next. Requests are cut when no local work is left that could add to one: it takes milliseconds, and who
    /// travels with whom then does not depend on which thread was faster.
    pub fn next_step(&mut self) -> Step {
        if let Some(task) = self.ready.pop() {
            self.states[task] = State::Running;
            self.running += 1;
            return Step::Run(task);
        }
        if self.stopped {
            for unit in self.batcher.drain() {
                self.end(unit.task, End::Skipped);
            }
        }
        if self.running == 0
            && let Some(batch) = self.batcher.next_batch()
        {
            self.in_requests += 1;
            return Step::Request(batch);
        }
        if self.running + self.in_requests > 0 { Step::Wait } else { Step::Done }
    }

    /// A running task needs a model.
    pub fn asks(&mut self, traveler: Traveler) {
        self.running -= 1;
        self.states[traveler.task.task] = State::Asked;
        self.batcher.add(traveler);
    }

    /// A running task waits for the answers to its pieces, which [`Schedule::adds`] and [`Schedule::sends`] ask for.
    pub fn waits_for_pieces(&mut self, task: TaskId) {
        self.running -= 1;
        self.states[task] = State::Asked;
    }

    /// A piece of a task needs a model.
    pub fn adds(&mut self, traveler: Traveler) {
        self.batcher.add(traveler);
    }

    /// Pieces of a task go in this request, and with nobody else.
    pub fn sends(&mut self, batch: Batch) {
        self.batcher.queue(batch);
    }

    /// Local work begins that belongs to no task's state, such as keeping a piece.
    pub fn works(&mut self) {
        self.running += 1;
    }

    /// Such work is done.
    pub fn rests(&mut self) {
        self.running -= 1;
    }

    /// A running or asked task ended.
    pub fn ended(&mut self, task: TaskId, end: End) {
        if self.states[task] == State::Running {
            self.running -= 1;
        }
        self.end(task, end);
    }

    /// An asked task has its answer, or is to do without one, and is being made; nothing changes for one that is made already.
    pub fn resumes(&mut self, task: TaskId) {
        if std::mem::replace(&mut self.states[task], State::Running) != State::Running {
            self.running += 1;
        }
    }

    /// Whether no request is sent any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether local work is under way.
    pub fn is_running(&self) -> bool {
        self.running > 0
    }

    /// A request of this form begins to be answered: those that wait for it to be ahead can go.
    pub fn is_answering(&mut self, form: Form) {
        self.batcher.is_answering(form);
    }

    /// For how long the provider is to keep the prefix of a request that is sent now, if at all, and whether it is there already;
    /// `awaited` are those that begin alike and wait for a place.
    pub fn keeps_prefix(&mut self, batch: &Batch, awaited: &dyn Fn() -> usize) -> Option<(Keep, bool)> {
        self.batcher.keeps_prefix(batch, awaited)
    }

    /// A request with such a prefix, of this form, is answered, or will not be.
    pub fn prefix_is_kept(&mut self, form: Form, is_kept: bool) {
        self.batcher.prefix_is_kept(form, is_kept);
    }

    /// The prefix of a request of this form is not in the provider's cache as it should be: whether that is news.
    pub fn not_kept(&mut self, form: Form, why: Unkept) -> bool {
        self.batcher.not_kept(form, why)
    }

    /// A request of this form came back, whatever it brought.
    pub fn returned(&mut self, form: Form) {
        self.in_requests -= 1;
        self.is_answering(form);
    }

    /// A request that waits to be sent, as it is to be sent now: tasks of a shape that went wrong meanwhile go one by one.
    pub fn parted(&mut self, batch: Batch) -> VecDeque<Batch> {
        let parts = self.batcher.parted(batch);
        self.in_requests += parts.len() - 1;
        parts
    }

    /// A request of several tasks delivered at least one of them.
    pub fn delivered(&mut self, batch: &Batch) {
        self.batcher.succeeded(batch.shape);
    }

    /// A request did not deliver these; they are asked for again.
    pub fn ask_again(&mut self, batch: &Batch, tasks: Vec<Unit>, why: &Shortfall) {
        self.batcher.missing(batch, tasks, why);
    }

    /// One task is asked for again by itself.
    pub fn ask_alone(&mut self, batch: &Batch, task: Unit) {
        self.batcher.alone(batch.shape, task);
    }

    /// No request is sent any more; local work goes on.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// How a task ended; `None` while it has not.
    pub fn end_of(&self, task: TaskId) -> Option<End> {
        match self.states[task] {
            State::Ended(end) => Some(end),
            _ => None,
        }
    }

    fn end(&mut self, task: TaskId, end: End) {
        // Pieces of one task may end it more than once.
        if matches!(self.states[task], State::Ended(_)) {
            return;
        }
        self.states[task] = State::Ended(end);
        if end == End::Failed && !self.keep_going {
            self.stopped = true;
        }
        let mut queue = vec![(task, end)];
        while let Some((task, end)) = queue.pop() {
            for dependent in std::mem::take(&mut self.dependents[task]) {
                match (end, &mut self.states[dependent]) {
                    (End::Done, State::Blocked(1)) => {
                        self.states[dependent] = State::Ready;
                        self.ready.push(dependent);
                    }
                    (End::Done, State::Blocked(n)) => *n -= 1,
                    (End::Failed | End::Held | End::Skipped, state @ State::Blocked(_)) => {
                        *state = State::Ended(End::Skipped);
                        queue.push((dependent, End::Skipped));
                    }
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asking(task: TaskId, most: usize) -> Traveler {
        Traveler::example(task, "s", most)
    }

    #[test]
    fn local_work_first_then_requests() {
        // 0, 1, 2 ask; 3 is local; 4 asks and waits for 3.
        let deps: [&[TaskId]; 5] = [&[], &[], &[], &[], &[3]];
        let mut schedule = Schedule::new(&deps, &[true; 5], false);
        for task in 0..3 {
            assert_eq!(schedule.next_step(), Step::Run(task));
            schedule.asks(asking(task, 3));
        }
        assert_eq!(schedule.next_step(), Step::Run(3));
        assert_eq!(schedule.next_step(), Step::Wait);
        schedule.ended(3, End::Done);
        assert_eq!(schedule.next_step(), Step::Run(4));
        schedule.asks(asking(4, 3));
        assert!(matches!(schedule.next_step(), Step::Request(batch) if batch.tasks == [0, 1, 2]));
        assert!(matches!(schedule.next_step(), Step::Request(batch) if batch.tasks == [4]));
    }

    #[test]
    fn a_failure_stops_requests_and_skips_what_depends_on_it() {
        for keep_going in [false, true] {
            let deps: [&[TaskId]; 4] = [&[], &[0], &[], &[]];
            let mut schedule = Schedule::new(&deps, &[true; 4], keep_going);
            assert_eq!(schedule.next_step(), Step::Run(0));
            assert_eq!(schedule.next_step(), Step::Run(2));
            schedule.asks(asking(2, 5));
            schedule.ended(0, End::Failed);
            assert_eq!(schedule.end_of(1), Some(End::Skipped));
            // Local work goes on either way; it costs nothing.
            assert_eq!(schedule.next_step(), Step::Run(3));
            schedule.ended(3, End::Done);
            match schedule.next_step() {
                Step::Request(batch) => {
                    assert!(keep_going && batch.tasks == [2]);
                    schedule.ended(2, End::Done);
                    schedule.returned(batch.form());
                }
                step => assert!(!keep_going && step == Step::Done),
            }
            assert_eq!(schedule.next_step(), Step::Done);
            assert_eq!(schedule.end_of(2), Some(if keep_going { End::Done } else { End::Skipped }));
        }
    }

    proptest! {
        /// Random graphs, random failures: every task ends exactly once, after all it waits for, and the machine stops.
        #[test]
        fn every_task_ends_once(
            edges in proptest::collection::vec((0usize..20, 0usize..20), 0..40),
            fails in proptest::collection::vec(proptest::bool::weighted(0.1), 20),
            asks in proptest::collection::vec(any::<bool>(), 20),
            keep_going in any::<bool>(),
        ) {
            let mut deps = vec![Vec::new(); 20];
            for (a, b) in edges {
                if a < b && !deps[b].contains(&a) {
                    deps[b].push(a);
                }
            }
            let borrowed: Vec<&[TaskId]> = deps.iter().map(Vec::as_slice).collect();
            let mut schedule = Schedule::new(&borrowed, &[true; 20], keep_going);
            let end = |task: TaskId| if fails[task] { End::Failed } else { End::Done };
            let mut order = Vec::new();
            for _ in 0..200 {
                match schedule.next_step() {
                    Step::Run(task) => {
                        prop_assert!(deps[task].iter().all(|dep| schedule.end_of(*dep) == Some(End::Done)));
                        if asks[task] {
                            schedule.asks(asking(task, 3));
                        } else {
                            order.push(task);
                            schedule.ended(task, end(task));
                        }
                    }
                    Step::Request(batch) => {
                        for task in batch.tasks.iter().map(|unit| unit.task) {
                            order.push(task);
                            schedule.ended(task, end(task));
                        }
                        schedule.returned(batch.form());
                    }
                    Step::Wait => prop_assert!(false, "nothing is under way"),
                    Step::Done => break,
                }
            }
            prop_assert_eq!(schedule.next_step(), Step::Done);
            for task in 0..20 {
                let ended = schedule.end_of(task);
                prop_assert!(ended.is_some());
                let ran = order.iter().filter(|t| **t == task).count();
                prop_assert_eq!(ran, usize::from(ended != Some(End::Skipped)));
            }
        }
    }
}
