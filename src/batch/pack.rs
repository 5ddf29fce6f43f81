//! Which requests carry which tasks: as many together as are wanted and fit, in the order that costs least, or takes least time.
//!
//! What bounds a batch: `max_batch_size`; the model's context window and longest answer; how many results the provider takes into the
//! schema of one answer; and how much a model writes well at once ([`WRITES_WELL`]). One task travels in any case. Where nobody set a size (`auto`), the one is taken that costs least: a larger
//! batch sends the stable prefix less often, and adds what a batch needs beside its tasks, so that alone is cheaper where the
//! prefix is short, or comes out of the provider's cache. Where time is preferred, the tasks are spread evenly over as many requests
//! as fill the provider's free places, and no more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::similar::{self, Traits};
use super::{Batch, Shape};
use crate::graph::Unit;
use crate::llm::{Unkept, framed};
use crate::manifest::{Batching, KeepPrefix, Prefer};
use crate::models::{Keep, Model, Price, Tokens};

/// What is expected to come back in one request at most: models write worse the more they write at once.
const WRITES_WELL: u64 = 16_000;

/// What a batch says beside its tasks, in tokens: what to do, the schema around the slots, and for each slot its name, path and
/// schema. Counted in requests of this form, as estimates are.
const FRAME: u64 = 90;
const SLOT: u64 = 20;

/// Where nobody knows what a model costs, or it costs nothing but time: its answers cost five times what is sent, as most do.
const USUAL: Price = Price { input: 1.0, output: 5.0, ..Price::FREE };

/// What is to be known of a task to put it into a request.
#[derive(Debug, Clone)]
pub struct Traveler {
    /// Which.
    pub task: Unit,
    /// What it must share with those it travels with.
    pub shape: Shape,
    /// What it should share with them.
    pub traits: Traits,
    /// What people call it, so that its place does not depend on that of its item in a file.
    pub name: String,
    /// The tokens of its own text.
    pub own: u64,
    /// The tokens that its result is expected to take.
    pub expected: u64,
    /// The most that its result may take.
    pub limit: Option<u64>,
    /// What holds for all of its shape.
    pub terms: Terms,
}

/// What holds for all tasks of a shape.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The provider that they are sent to.
    pub provider: String,
    /// How many requests it may have at once.
    pub in_flight: usize,
    /// How they may travel.
    pub batching: Batching,
    /// How many tasks a request carries at most; `None` for as many as cost least.
    pub most: Option<usize>,
    /// How many results of theirs the provider takes into the schema of one answer; `None` for any number.
    pub most_results: Option<usize>,
    /// The tokens of the stable prefix.
    pub prefix: u64,
    /// What is known of the model.
    pub model: Model,
}

impl Terms {
    /// What the provider's cache makes of these tasks' requests.
    pub fn caching(&self) -> Caching {
        let Batching { keep_prefix, prefer, .. } = self.batching;
        // What nobody knows of a model, whoever asks for it knows better.
        let is_long_enough = self.model.cache.map(|cache| self.prefix >= cache.minimum);
        let keep = match keep_prefix {
            KeepPrefix::Never => None,
            KeepPrefix::Auto => is_long_enough.unwrap_or(false).then_some(Keep::Short),
            KeepPrefix::For(keep) => is_long_enough.unwrap_or(self.prefix > 0).then_some(keep),
        };
        let ahead = if prefer == Prefer::Time { self.in_flight.max(1) } else { 1 };
        Caching { keep, is_asked_for: matches!(keep_prefix, KeepPrefix::For(_)), ahead }
    }

    /// How many travel together where it is settled who does.
    pub fn together(&self) -> usize {
        self.most.into_iter().chain(self.most_results).min().unwrap_or(usize::MAX).max(1)
    }

    /// Why the prefix will not be kept although that is asked for, if so.
    pub fn too_short(&self) -> Option<Unkept> {
        let minimum = self.model.cache.map(|cache| cache.minimum)?;
        let is_asked_for = matches!(self.batching.keep_prefix, KeepPrefix::For(_));
        (is_asked_for && self.prefix < minimum).then_some(Unkept::TooShort(self.prefix, minimum))
    }

    fn fits(&self, load: Load) -> bool {
        let Model { context, max_output, .. } = self.model;
        let well = max_output.map_or(WRITES_WELL, |most| WRITES_WELL.min(most / 2));
        let out = load.limit.unwrap_or_else(|| load.output());
        load.output() <= well
            && self.most_results.is_none_or(|most| load.tasks <= most)
            && max_output.is_none_or(|most| out <= most)
            && context.is_none_or(|room| self.prefix + load.input() + out <= room)
    }

    /// What requests of these loads cost. Those for as many tasks begin alike.
    fn cost(&self, loads: &[Load]) -> f64 {
        let price = self.model.price.filter(|price| *price != Price::FREE).unwrap_or(USUAL);
        let caching = self.caching();
        let mut all: BTreeMap<usize, usize> = BTreeMap::new();
        loads.iter().for_each(|load| *all.entry(load.tasks).or_default() += 1);
        let mut before: BTreeMap<usize, usize> = BTreeMap::new();
        let cost = |load: &Load| {
            let before = before.entry(load.tasks).or_default();
            let all = all.get(&load.tasks).copied().unwrap_or(1);
            let cached = if caching.reads(*before, all) { self.prefix } else { 0 };
            let cache_write = if *before == 0 && caching.writes(all - 1) { self.prefix } else { 0 };
            *before += 1;
            let kept_long = if caching.keep == Some(Keep::Long) { cache_write } else { 0 };
            let input = self.prefix + load.input();
            price.cost(Tokens { input, cached, cache_write, kept_long, output: load.output(), ..Tokens::default() })
        };
        loads.iter().map(cost).sum()
    }
}

/// What a provider's cache makes of requests that begin alike.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caching {
    /// For how long the provider is to keep what they begin with; none where it is not.
    pub keep: Option<Keep>,
    /// Whether it is to do so although no other request of the run reads it.
    is_asked_for: bool,
    /// How many are sent before the first of them is there to read.
    ahead: usize,
}

impl Caching {
    /// Whether a request finds the prefix in the cache, if so many of all that begin alike were sent before it.
    pub fn reads(&self, before: usize, all: usize) -> bool {
        before >= self.ahead && self.writes(all - 1)
    }

    /// Whether the prefix is worth to be written, if so many others are still to come. Where several are under way at once, as many
    /// again must follow, since one of them may be done before the answer begins that writes.
    pub(super) fn writes(&self, others: usize) -> bool {
        self.keep.is_some() && (self.is_asked_for || others + 1 >= 2 * self.ahead)
    }

    /// Whether one request goes ahead of the others.
    pub(super) fn is_first_ahead(&self) -> bool {
        self.keep.is_some() && self.ahead == 1
    }
}

/// What a request carries.
#[derive(Debug, Clone, Copy)]
struct Load {
    tasks: usize,
    own: u64,
    expected: u64,
    /// The most that may come back; `None` for no bound.
    limit: Option<u64>,
}

impl Load {
    const NONE: Load = Load { tasks: 0, own: 0, expected: 0, limit: Some(0) };

    fn with(self, traveler: &Traveler) -> Load {
        // As a request asks for it.
        let limit = |limit: u64| limit + limit / 4 + 16;
        Load {
            tasks: self.tasks + 1,
            own: self.own + traveler.own,
            expected: self.expected + traveler.expected,
            limit: self.limit.zip(traveler.limit).map(|(so_far, more)| so_far + limit(more)),
        }
    }

    fn of(tasks: &[usize], group: &[Traveler]) -> Load {
        tasks.iter().fold(Load::NONE, |load, at| load.with(&group[*at]))
    }

    /// What is sent beside the prefix.
    fn input(self) -> u64 {
        if self.tasks > 1 { self.own + FRAME + SLOT * self.tasks as u64 } else { self.own }
    }

    /// What is expected to come back.
    fn output(self) -> u64 {
        if self.tasks > 1 { framed(self.expected, self.tasks as u64) } else { self.expected }
    }
}

/// Tasks of one shape that are alike, in the order of their names.
struct Group {
    shape: Shape,
    terms: Terms,
    tasks: Vec<Traveler>,
}

/// A request, and what there is to say of it.
#[derive(Debug)]
pub(super) struct Packed {
    pub batch: Batch,
    /// What the provider's cache makes of it.
    pub caching: Caching,
}

/// How alike each task is to what its group goes by, 0 to 1.
pub(super) type Scores = HashMap<Unit, f64>;

/// Puts tasks into requests, those that will take longest first. `most` bounds those of some shapes further.
pub(super) fn pack(travelers: Vec<Traveler>, most: &dyn Fn(Shape) -> Option<usize>) -> (Vec<Packed>, Scores) {
    let mut shapes: BTreeMap<Shape, Vec<Traveler>> = BTreeMap::new();
    for traveler in travelers {
        shapes.entry(traveler.shape).or_default().push(traveler);
    }
    let mut groups = Vec::new();
    let mut scores = Scores::new();
    for (shape, tasks) in shapes {
        let Some(mut terms) = tasks.first().map(|first| first.terms.clone()) else { continue };
        terms.most = terms.most.into_iter().chain(most(shape)).min();
        let (threshold, weights) = (terms.batching.similarity_threshold, terms.batching.weights);
        let tasks = tasks.into_iter().map(|mut traveler| (std::mem::take(&mut traveler.traits), traveler));
        for group in similar::groups(tasks, threshold, &weights) {
            scores.extend(group.iter().map(|(traveler, score)| (traveler.task, *score)));
            let mut tasks: Vec<Traveler> = group.into_iter().map(|(traveler, _)| traveler).collect();
            tasks.sort_by_cached_key(|traveler| (natural(&traveler.name), traveler.task));
            groups.push(Group { shape, terms: terms.clone(), tasks });
        }
    }
    let requests: Vec<Vec<Vec<usize>>> = groups.iter().map(Group::requests).collect();
    let mut packed = Vec::new();
    for (group, requests) in groups.iter().zip(spread(&groups, requests)) {
        for tasks in requests {
            let load = Load::of(&tasks, &group.tasks);
            let name = tasks.first().map(|first| natural(&group.tasks[*first].name));
            let tasks: Vec<Unit> = tasks.iter().map(|at| group.tasks[*at].task).collect();
            let caching = group.terms.caching();
            let batch = Batch { shape: group.shape, tasks, failures: 0 };
            packed.push(((Reverse(load.output()), name), Packed { batch, caching }));
        }
    }
    packed.sort_by(|(a, _), (b, _)| a.cmp(b));
    (packed.into_iter().map(|(_, packed)| packed).collect(), scores)
}

/// Gives the groups that prefer time as many requests as fill the places of their provider evenly: the least multiple of its places
/// that is enough, the more to those whose requests carry most.
fn spread(groups: &[Group], mut requests: Vec<Vec<Vec<usize>>>) -> Vec<Vec<Vec<usize>>> {
    let mut by_provider: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, group) in groups.iter().enumerate() {
        if group.terms.batching.prefer == Prefer::Time {
            by_provider.entry(&group.terms.provider).or_default().push(at);
        }
    }
    for of_provider in by_provider.values() {
        let mut counts: BTreeMap<usize, usize> = of_provider.iter().map(|at| (*at, requests[*at].len())).collect();
        let (least, most) = of_provider
            .iter()
            .fold((0, 0), |(least, most), at| (least + requests[*at].len(), most + groups[*at].tasks.len()));
        let places = of_provider.first().map_or(1, |at| groups[*at].terms.in_flight.max(1));
        let wanted = (least.div_ceil(places) * places).min(most);
        // Those with the most tasks in a request, and of these the last.
        let mut heaviest: BinaryHeap<(usize, usize)> = BinaryHeap::new();
        let each = |at: usize, count: usize| (groups[at].tasks.len().div_ceil(count.max(1)), at);
        heaviest.extend(counts.iter().map(|(at, count)| each(*at, *count)));
        for _ in least..wanted {
            let Some((_, at)) = heaviest.pop() else { break };
            if let Some(count) = counts.get_mut(&at).filter(|count| **count < groups[at].tasks.len()) {
                *count += 1;
                heaviest.push(each(at, *count));
            }
        }
        for (at, count) in counts {
            requests[at] = groups[at].evenly(count);
        }
    }
    requests
}

impl Group {
    /// As few requests as may be, or those that cost least where the size is left to us.
    fn requests(&self) -> Vec<Vec<usize>> {
        if let Some(most) = self.terms.most {
            return self.fill(most);
        }
        let fewest = self.fill(usize::MAX);
        if self.terms.batching.prefer == Prefer::Time {
            return fewest;
        }
        let cost = |requests: &Vec<Vec<usize>>| {
            let loads: Vec<Load> = requests.iter().map(|request| Load::of(request, &self.tasks)).collect();
            self.terms.cost(&loads)
        };
        let largest = fewest.iter().map(Vec::len).max().unwrap_or(1);
        let sizes = std::iter::successors(Some(1_usize), |size| size.checked_mul(2)).take_while(|size| *size < largest);
        let mut best = (cost(&fewest), fewest);
        for size in sizes {
            let requests = self.fill(size);
            let cost = cost(&requests);
            if cost < best.0 {
                best = (cost, requests);
            }
        }
        best.1
    }

    /// One request after the other, each until the next task does not fit.
    fn fill(&self, most: usize) -> Vec<Vec<usize>> {
        let mut requests: Vec<Vec<usize>> = Vec::new();
        let mut load = Load::NONE;
        for (at, traveler) in self.tasks.iter().enumerate() {
            let with = load.with(traveler);
            match requests.last_mut() {
                Some(request) if with.tasks <= most && self.terms.fits(with) => {
                    request.push(at);
                    load = with;
                }
                _ => {
                    requests.push(vec![at]);
                    load = Load::NONE.with(traveler);
                }
            }
        }
        requests
    }

    /// Over so many requests, or more where they do not fit: the longest first, each to the request that has least to do.
    fn evenly(&self, count: usize) -> Vec<Vec<usize>> {
        let most = self.terms.most.unwrap_or(usize::MAX).max(1);
        let mut requests = vec![(Load::NONE, Vec::new()); count];
        let mut open: BinaryHeap<Reverse<(u64, usize, usize)>> = (0..count).map(|at| Reverse((0, 0, at))).collect();
        let mut longest: Vec<usize> = (0..self.tasks.len()).collect();
        longest.sort_by_key(|at| (Reverse(self.tasks[*at].expected), *at));
        for at in longest {
            let traveler = &self.tasks[at];
            let place = match open.pop() {
                Some(Reverse((_, tasks, place))) => {
                    let fits = tasks == 0 || self.terms.fits(requests[place].0.with(traveler));
                    if fits {
                        place
                    } else {
                        open.push(Reverse((requests[place].0.output(), tasks, place)));
                        requests.len()
                    }
                }
                None => requests.len(),
            };
            if place == requests.len() {
                requests.push((Load::NONE, Vec::new()));
            }
            let (load, tasks) = &mut requests[place];
            *load = load.with(traveler);
            tasks.push(at);
            if load.tasks < most {
                open.push(Reverse((load.output(), load.tasks, place)));
            }
        }
        let requests = requests.into_iter().map(|(_, mut tasks)| {
            tasks.sort_unstable();
            tasks
        });
        requests.filter(|tasks| !tasks.is_empty()).collect()
    }
}

/// A name such that `week-2` comes before `week-10`: each number after its length.
fn natural(name: &str) -> (String, String) {
    let mut key = String::with_capacity(name.len() + 8);
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let is_number = first.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        if is_number {
            let digits = piece.trim_start_matches('0');
            key.push('0');
            key.extend(u8::try_from(digits.len()).ok().map(char::from));
            key.push_str(digits);
        } else {
            key.push_str(piece);
        }
        rest = after;
    }
    (key, name.to_owned())
}

#[cfg(test)]
impl Traveler {
    /// A task that asks for little.
    pub fn example(task: crate::graph::TaskId, shape: &str, most: usize) -> Traveler {
        let terms = Terms {
            provider: "p".into(),
            in_flight: 4,
            batching: Batching::default(),
            most: Some(most),
            most_results: None,
            prefix: 100,
            model: Model::default(),
        };
        let (traits, name) = (Traits::default(), format!("out/e{task}.md"));
        Traveler { task: task.into(), shape: Shape::of(shape), traits, name, own: 20, expected: 50, limit: None, terms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Cache;
    use proptest::prelude::*;

    /// So many tasks of one shape, each changed by `change`.
    fn travelers(count: usize, most: Option<usize>, change: impl Fn(&mut Traveler)) -> Vec<Traveler> {
        let make = |task| {
            let mut traveler = Traveler::example(task, "s", 1);
            traveler.terms.most = most;
            change(&mut traveler);
            traveler
        };
        (0..count).map(make).collect()
    }

    fn sizes(travelers: Vec<Traveler>) -> Vec<usize> {
        pack(travelers, &|_| None).0.iter().map(|packed| packed.batch.tasks.len()).collect()
    }

    #[test]
    fn names_count_as_people_do() {
        let mut names = ["week-10", "week-2", "week-02", "b", "week", "a10b2", "a10b10", "a9"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a9", "a10b2", "a10b10", "b", "week", "week-02", "week-2", "week-10"]);
    }

    #[test]
    fn a_request_holds_what_a_model_takes_and_writes_well() {
        // 16,000 tokens, with escapes and names of slots.
        assert_eq!(sizes(travelers(30, Some(1000), |t| t.expected = 3000)), [5, 5, 5, 5, 5, 5]);
        // Half of the longest answer.
        let short = |t: &mut Traveler| (t.expected, t.terms.model.max_output) = (300, Some(2048));
        assert_eq!(sizes(travelers(7, Some(1000), short)), [3, 3, 1]);
        // What may come back, where that is bounded.
        let bounded = |t: &mut Traveler| (t.limit, t.terms.model.max_output) = (Some(400), Some(2048));
        assert_eq!(sizes(travelers(7, Some(1000), bounded)), [3, 3, 1]);
        let narrow = |t: &mut Traveler| (t.own, t.terms.model.context) = (600, Some(2000));
        assert_eq!(sizes(travelers(7, Some(1000), narrow)), [2, 2, 2, 1]);
        // As many results as go into one schema, also where the size is left to us.
        assert_eq!(sizes(travelers(7, Some(1000), |t| t.terms.most_results = Some(3))), [3, 3, 1]);
        let auto = |t: &mut Traveler| (t.terms.most_results, t.terms.prefix) = (Some(3), 2000);
        assert_eq!(sizes(travelers(7, None, auto)), [3, 3, 1]);
        // Whoever is too large for all that travels alone.
        assert_eq!(sizes(travelers(2, Some(1000), |t| t.expected = 50_000)), [1, 1]);
    }

    #[test]
    fn without_a_size_it_is_what_costs_least() {
        let auto = |count, change: &dyn Fn(&mut Traveler)| sizes(travelers(count, None, change));
        // A prefix that is worth more than what a batch adds.
        assert_eq!(auto(20, &|t| t.terms.prefix = 2000), [20]);
        // Longer texts in JSON cost more than so short a prefix.
        assert_eq!(auto(3, &|t| (t.expected, t.terms.prefix) = (1000, 10)), [1, 1, 1]);
        // What is free takes time all the same.
        let free = |t: &mut Traveler| (t.expected, t.terms.prefix, t.terms.model.price) = (1000, 10, Some(Price::FREE));
        assert_eq!(auto(3, &free), [1, 1, 1]);
        // Out of the provider's cache a prefix is nearly free, and then alone is cheaper.
        let price = Price { input: 3.0, output: 15.0, cache_read: Some(0.3), cache_write: Some(3.75), ..Price::FREE };
        let cached = |minimum| {
            move |t: &mut Traveler| {
                (t.expected, t.terms.prefix, t.terms.model.price) = (500, 1500, Some(price));
                t.terms.model.cache = Some(Cache { minimum });
            }
        };
        assert_eq!(auto(6, &cached(1024)), [1; 6]);
        assert_eq!(auto(6, &cached(2048)), [6]);
        // Above so many tokens every one of them costs more.
        let tier = crate::models::Tier {
            prompt: 4000,
            input: 30.0,
            output: 150.0,
            cache_read: None,
            cache_write: None,
            cache_write_1h: None,
        };
        let dear = Price { above: Some(tier), ..price };
        let long = |t: &mut Traveler| (t.own, t.terms.prefix, t.terms.model.price) = (500, 1500, Some(dear));
        assert_eq!(auto(8, &long), [4, 4]);
        // Time first: as many as there are places.
        assert_eq!(auto(20, &|t| (t.terms.prefix, t.terms.batching.prefer) = (2000, Prefer::Time)), [5; 4]);
    }

    #[test]
    fn where_time_is_preferred_all_places_are_filled_evenly() {
        let timely = |count, most, in_flight| {
            let mut sizes = sizes(travelers(count, Some(most), |t| {
                (t.terms.batching.prefer, t.terms.in_flight) = (Prefer::Time, in_flight);
            }));
            sizes.sort_unstable_by_key(|size| Reverse(*size));
            sizes
        };
        assert_eq!(timely(20, 5, 4), [5, 5, 5, 5]);
        assert_eq!(timely(20, 5, 8), [3, 3, 3, 3, 2, 2, 2, 2]);
        assert_eq!(timely(21, 5, 4), [3, 3, 3, 3, 3, 2, 2, 2]);
        assert_eq!(timely(3, 5, 4), [1, 1, 1]);
        // The longest first, and the others around it.
        let mut uneven = travelers(4, Some(5), |t| (t.terms.batching.prefer, t.terms.in_flight) = (Prefer::Time, 2));
        uneven[2].expected = 150;
        let tasks: Vec<_> = pack(uneven, &|_| None).0.into_iter().map(|packed| packed.batch.tasks).collect();
        assert_eq!(tasks, [vec![0, 1, 3], vec![2]]);
        // Several groups share the places: 2 + 1 requests at least, so 4, and the larger group gets the one more.
        let mut two = travelers(16, Some(6), |t| (t.terms.batching.prefer, t.terms.in_flight) = (Prefer::Time, 4));
        two.iter_mut().skip(12).for_each(|t| t.shape = Shape::of("other"));
        assert_eq!(sizes(two), [4, 4, 4, 4]);
    }

    /// Any tasks, of a few shapes, with any limits.
    fn anyone() -> impl Strategy<Value = Vec<Traveler>> {
        let one = (0usize..3, 0usize..3, 1u64..4000, 1u64..4000, proptest::option::of(1u64..4000), 0u64..40);
        let terms =
            (proptest::option::of(1usize..9), proptest::bool::ANY, 1usize..9, 500u64..9000, 500u64..9000, 0u64..3000);
        (proptest::collection::vec(one, 0..60), proptest::collection::vec(terms, 3)).prop_map(|(tasks, terms)| {
            type One = (usize, usize, u64, u64, Option<u64>, u64);
            let make = |(task, one): (usize, One)| {
                let (shape, package, own, expected, limit, name) = one;
                let (most, timely, in_flight, context, max_output, prefix) = terms[shape];
                let mut t = Traveler::example(task, &shape.to_string(), 1);
                let value =
                    serde_json::json!({"package": format!("p{package}"), "fields": {"a": format!("t{package}")}});
                t.traits = Traits::new(std::iter::empty(), Some(&value), std::iter::empty());
                t.name = format!("{name}/{task}");
                (t.own, t.expected, t.limit) = (own, expected, limit);
                (t.terms.most, t.terms.in_flight, t.terms.prefix) = (most, in_flight, prefix);
                t.terms.model.context = Some(context);
                t.terms.model.max_output = Some(max_output);
                t.terms.batching.prefer = if timely { Prefer::Time } else { Prefer::Cost };
                t
            };
            tasks.into_iter().enumerate().map(make).collect()
        })
    }

    proptest! {
        /// Every task travels once, none with one of another shape or kind, no request is over any limit, and who travels with
        /// whom does not depend on the order in which they came.
        #[test]
        fn every_task_travels_once_and_within_the_limits(travelers in anyone(), by in 0usize..60) {
            let (packed, scores) = pack(travelers.clone(), &|_| None);
            let mut seen: Vec<Unit> = packed.iter().flat_map(|packed| packed.batch.tasks.clone()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..travelers.len()).collect::<Vec<_>>());
            for Packed { batch, .. } in &packed {
                let of: Vec<&Traveler> = batch.tasks.iter().map(|unit| &travelers[unit.task]).collect();
                let load = of.iter().fold(Load::NONE, |load, t| load.with(t));
                prop_assert!(of.iter().all(|t| t.shape == batch.shape && t.traits == of[0].traits));
                prop_assert!(of.len() == 1 || of[0].terms.fits(load));
                prop_assert!(of.len() <= of[0].terms.most.unwrap_or(usize::MAX));
                prop_assert!(batch.tasks.iter().all(|task| scores[task] >= 0.7 - 1e-9));
            }
            let mut turned = travelers;
            turned.reverse();
            let by = by.min(turned.len());
            turned.rotate_left(by);
            let (again, _) = pack(turned, &|_| None);
            let tasks = |packed: &[Packed]| packed.iter().map(|packed| packed.batch.tasks.clone()).collect::<Vec<_>>();
            prop_assert_eq!(tasks(&again), tasks(&packed));
        }
    }
}
