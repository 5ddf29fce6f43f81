//! Limits against servers that enforce them in several ways.

use super::budget::LATE;
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

fn limits(in_flight: usize, requests: Option<u64>, tokens: Option<u64>) -> Limits {
    Limits::new(in_flight, requests, tokens, |usage| usage.input + usage.output)
}

fn usage(input: u64, output: u64) -> Usage {
    Usage { input, output, ..Usage::default() }
}

fn limited(retry_after: Option<u64>) -> Failure {
    let retry_after = retry_after.map(Duration::from_secs);
    Failure { status: Some(429), retry_after, ..Failure::new(FailureKind::Limited, "slowly") }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Limits and a clock that goes only where it is put.
struct Line {
    limits: Limits,
    now: Instant,
}

impl Line {
    fn new(in_flight: usize, requests: Option<u64>, tokens: Option<u64>) -> Line {
        Line { limits: limits(in_flight, requests, tokens), now: Instant::now() }
    }

    /// A request that stands in the line.
    fn enters(&mut self, model: &str, estimate: u64) -> Ticket {
        let ticket = self.limits.ticket();
        self.limits.enter(ticket, model, estimate, Some(0));
        ticket
    }

    fn turn(&mut self, ticket: Ticket) -> Turn {
        self.limits.turn(self.now, ticket)
    }

    /// So many requests of no tokens go at once, and no more.
    #[track_caller]
    fn lets_go(&mut self, model: &str, most: usize) -> Vec<Ticket> {
        let mut gone = Vec::new();
        loop {
            let ticket = self.enters(model, 0);
            if self.turn(ticket) != Turn::Go {
                self.limits.leave(ticket);
                break;
            }
            gone.push(ticket);
            assert!(gone.len() <= most, "more than {most} go");
        }
        assert_eq!(gone.len(), most);
        gone
    }

    fn answered(&mut self, ticket: Ticket) {
        self.limits.answered(self.now, ticket, Usage::default());
    }

    fn says(&mut self, counted: Counted, limit: u64, remaining: u64, reset: Option<u64>) {
        let reading = Reading { counted, limit, remaining: Some(remaining), reset: reset.map(Duration::from_secs) };
        self.limits.heard(self.now, "m", &[reading]);
    }
}

#[test]
fn what_the_genfile_says_is_used_evenly() {
    let mut line = Line::new(100, Some(60), None);
    let first = line.enters("m", 0);
    assert_eq!(line.turn(first), Turn::Go);
    let second = line.enters("m", 0);
    let Turn::After(wait) = line.turn(second) else { panic!("two at once") };
    assert!((1.0..1.1).contains(&wait.as_secs_f64()), "{wait:?}");
    line.now += wait;
    assert_eq!(line.turn(second), Turn::Go);
    // Time that nobody used is not saved up.
    line.now += seconds(50);
    line.lets_go("m", 1);
}

#[test]
fn tokens_are_those_that_are_expected_until_it_is_known() {
    let mut line = Line::new(100, None, Some(6000));
    let first = line.enters("m", 500);
    assert_eq!(line.turn(first), Turn::Go);
    let second = line.enters("m", 500);
    let Turn::After(wait) = line.turn(second) else { panic!("two at once") };
    assert!((5.0..5.2).contains(&wait.as_secs_f64()), "{wait:?}");
    // It took a tenth: the next waits a tenth, and is thought to take as much.
    line.limits.answered(line.now, first, usage(50, 0));
    let Turn::After(wait) = line.turn(second) else { panic!("two at once") };
    assert!((0.5..0.6).contains(&wait.as_secs_f64()), "{wait:?}");
    line.now += wait;
    assert_eq!(line.turn(second), Turn::Go);
    let third = line.enters("m", 500);
    let Turn::After(wait) = line.turn(third) else { panic!("two at once") };
    assert!((0.5..0.6).contains(&wait.as_secs_f64()), "{wait:?}");
    line.now += wait;
    assert_eq!(line.turn(third), Turn::Go);
    // What was not worked on took none.
    let refused = Failure::new(FailureKind::Rejected, "too long");
    line.limits.failed(line.now, third, &refused, None);
    let fourth = line.enters("m", 500);
    assert_eq!(line.turn(fourth), Turn::Go);
}

#[test]
fn an_answer_is_expected_to_be_as_long_as_it_may_be_and_then_as_others_were() {
    let mut limits = limits(1, None, Some(1_000_000));
    let weight = |limits: &mut Limits, longest| {
        let ticket = limits.ticket();
        limits.enter(ticket, "m", 100, longest);
        let weight = limits.weight(&limits.waiting[0]);
        limits.leave(ticket);
        weight
    };
    assert_eq!(weight(&mut limits, Some(900)), Weight { likely: 1000, most: 1000, output: 900 });
    assert_eq!(weight(&mut limits, None), Weight { likely: 200, most: 200, output: 100 });
    let ticket = limits.ticket();
    limits.enter(ticket, "m", 100, None);
    assert_eq!(limits.turn(Instant::now(), ticket), Turn::Go);
    limits.answered(Instant::now(), ticket, usage(150, 40));
    assert_eq!(weight(&mut limits, Some(900)), Weight { likely: 190, most: 1050, output: 40 });
    assert_eq!(weight(&mut limits, Some(30)), Weight { likely: 180, most: 180, output: 30 });
}

#[test]
fn what_answers_say_is_left_may_go_at_once() {
    let mut line = Line::new(100, None, None);
    line.says(Counted::Requests, 50, 7, Some(30));
    line.lets_go("m", 7);
    line.lets_go("other", 93); // as many as may be under way
    let mut line = Line::new(100, None, None);
    let first = line.lets_go("m", 100).pop().unwrap();
    line.says(Counted::Requests, 200, 0, Some(30));
    line.answered(first);
    let next = line.enters("m", 0);
    assert_eq!(line.turn(next), Turn::After(seconds(30) + LATE));
    line.now += seconds(30) + LATE;
    assert_eq!(line.turn(next), Turn::Go);
}

#[test]
fn what_was_sent_before_a_limit_was_known_counts() {
    let mut line = Line::new(16, None, None);
    let sent = line.lets_go("m", 16);
    line.now += seconds(1);
    line.says(Counted::Requests, 20, 4, Some(48));
    sent.iter().for_each(|ticket| line.answered(*ticket));
    line.lets_go("m", 4);
    line.now += WINDOW - seconds(1);
    line.lets_go("m", 12); // and 4 are under way
}

#[test]
fn what_is_left_counts_only_what_was_not_sent_from_here() {
    let mut line = Line::new(1000, None, None);
    line.says(Counted::Requests, 50, 50, None);
    line.lets_go("m", 50);
    // All of them have come there, and nobody else sends: nothing is missing.
    line.says(Counted::Requests, 50, 0, Some(60));
    line.now += WINDOW;
    line.lets_go("m", 50);
    // Now somebody else does.
    line.now += WINDOW;
    line.says(Counted::Requests, 50, 20, Some(10));
    line.lets_go("m", 20);
    line.now += seconds(10) + LATE;
    line.lets_go("m", 30);
}

#[test]
fn the_tokens_of_an_answer_count_as_long_as_it_may_be_where_the_provider_tells_what_is_left() {
    let mut line = Line::new(100, None, None);
    line.says(Counted::Tokens, 1000, 1000, None);
    line.says(Counted::Output, 10_000, 10_000, None);
    let enters = |line: &mut Line| {
        let ticket = line.limits.ticket();
        line.limits.enter(ticket, "m", 100, Some(400));
        ticket
    };
    let (first, second, third) = (enters(&mut line), enters(&mut line), enters(&mut line));
    assert_eq!((line.turn(first), line.turn(second)), (Turn::Go, Turn::Go));
    assert_eq!(line.turn(third), Turn::After(WINDOW));
    line.limits.answered(line.now, first, usage(100, 10));
    assert_eq!(line.turn(third), Turn::After(WINDOW), "it may take 500, and 390 are left");
    line.limits.answered(line.now, second, usage(100, 10));
    assert_eq!(line.turn(third), Turn::Go);
}

#[test]
fn what_comes_back_counts_when_it_has() {
    let mut line = Line::new(100, None, None);
    line.says(Counted::Output, 1000, 1000, None);
    let ticket = line.enters("m", 10);
    assert_eq!(line.turn(ticket), Turn::Go);
    line.now += seconds(40);
    line.limits.answered(line.now, ticket, usage(10, 1000));
    let next = line.limits.ticket();
    line.limits.enter(next, "m", 10, Some(5));
    assert_eq!(line.turn(next), Turn::After(WINDOW));
}

#[test]
fn what_makes_no_sense_limits_nothing() {
    let mut line = Line::new(100, None, None);
    for (limit, remaining, reset) in [(0, 0, None), (5, 6, None), (5, 0, Some(62)), (5, 0, Some(u64::MAX))] {
        line.says(Counted::Requests, limit, remaining, reset);
    }
    assert!(line.limits.learned.is_empty());
    line.lets_go("m", 100);
}

#[test]
fn each_goes_in_its_turn() {
    let mut line = Line::new(1, None, None);
    let (first, second, third) = (line.enters("m", 0), line.enters("m", 0), line.enters("m", 0));
    assert_eq!((line.turn(third), line.turn(second)), (Turn::Later, Turn::Later));
    assert_eq!((line.turn(first), line.turn(second)), (Turn::Go, Turn::Later));
    // Sent again, it is before those that came later.
    line.limits.failed(line.now, first, &Failure::new(FailureKind::Cut, ""), Some(seconds(1)));
    line.limits.enter(first, "m", 0, None);
    assert_eq!((line.turn(second), line.turn(first)), (Turn::Later, Turn::Go));
    line.answered(first);
    line.limits.leave(second);
    assert_eq!(line.turn(third), Turn::Go);
    line.limits.abandon(third);
    line.lets_go("m", 1);
}

#[test]
fn a_model_without_room_holds_up_no_other() {
    let mut line = Line::new(100, None, None);
    line.says(Counted::Requests, 1, 0, Some(20));
    let (slow, quick) = (line.enters("m", 0), line.enters("other", 0));
    assert_eq!(line.turn(slow), Turn::After(seconds(20) + LATE));
    assert_eq!(line.turn(quick), Turn::Go);
    let slower = line.enters("m", 0);
    assert_eq!(line.turn(slower), Turn::Later);
    // What holds for all models is kept in order.
    let mut line = Line::new(100, None, Some(60));
    let (first, long) = (line.enters("m", 60), line.enters("m", 60));
    let short = line.enters("other", 1);
    assert_eq!(line.turn(first), Turn::Go);
    assert_eq!(line.turn(short), Turn::Later);
    assert!(matches!(line.turn(long), Turn::After(_)));
}

#[test]
fn a_limit_holds_up_all_and_fewer_go_then() {
    let mut line = Line::new(8, None, None);
    let sent = line.lets_go("m", 8);
    for ticket in &sent {
        line.limits.failed(line.now, *ticket, &limited(Some(7)), Some(seconds(7)));
    }
    let next = line.enters("other", 0);
    assert_eq!(line.turn(next), Turn::After(seconds(7)));
    line.limits.leave(next);
    line.now += seconds(7);
    // All of them were of one flight: that is one cut, and good answers make up for it by and by.
    let half = line.lets_go("m", 4);
    half.iter().for_each(|ticket| line.answered(*ticket));
    let five = line.lets_go("m", 5);
    line.limits.failed(line.now, five[0], &limited(None), Some(Duration::ZERO));
    five[1..].iter().for_each(|ticket| line.answered(*ticket));
    line.now += seconds(1);
    line.lets_go("m", 3);
}

#[test]
fn what_will_not_pass_ends_the_line() {
    let mut line = Line::new(1, None, None);
    let (first, second) = (line.enters("m", 0), line.enters("m", 0));
    assert_eq!(line.turn(first), Turn::Go);
    line.limits.failed(line.now, first, &limited(Some(7200)), None);
    assert_eq!(line.turn(second), Turn::Never(limited(Some(7200))));
}

/// What a server allows in a minute, and how it counts.
#[derive(Debug, Clone, Copy)]
enum Model {
    /// A bucket that holds a minute's worth and fills all the time.
    Bucket,
    /// Windows of a minute, the first of which began so many seconds ago.
    Fixed(u64),
    /// Any minute.
    Sliding,
}

/// Whether a server takes these, given as when they came and how much each takes.
fn takes(model: Model, limit: u64, came: &[(f64, u64)]) -> bool {
    let in_window = |from: f64, to: f64| -> u64 {
        came.iter().filter(|(at, _)| (from..to).contains(at)).map(|(_, amount)| amount).sum()
    };
    match model {
        Model::Bucket => {
            let (mut level, mut last) = (limit as f64, 0.0);
            came.iter().all(|(at, amount)| {
                level = (level + (at - last) * limit as f64 / 60.0).min(limit as f64) - *amount as f64;
                last = *at;
                level >= -1e-6
            })
        }
        Model::Fixed(ago) => {
            let window = |at: f64| ((at + ago as f64) / 60.0).floor() * 60.0 - ago as f64;
            came.iter().all(|(at, _)| in_window(window(*at), window(*at) + 60.0) <= limit)
        }
        Model::Sliding => came.iter().all(|(at, _)| in_window(*at, at + 60.0) <= limit),
    }
}

/// When requests go of which each takes so much, and how late each is on its way, in milliseconds.
fn run(limits: Limits, in_flight: usize, sizes: &[(u64, u64)], latency: f64) -> Vec<(f64, u64)> {
    let begun = Instant::now();
    let mut line = Line { limits, now: begun };
    let mut under_way: VecDeque<(Ticket, u64, Instant)> = VecDeque::new();
    let mut came = Vec::new();
    for (size, late) in sizes {
        let ticket = line.enters("m", *size);
        loop {
            while under_way.front().is_some_and(|(.., back)| *back <= line.now) || under_way.len() >= in_flight {
                let (ticket, size, back) = under_way.pop_front().unwrap();
                line.now = line.now.max(back);
                line.limits.answered(line.now, ticket, usage(size, 0));
            }
            match line.turn(ticket) {
                Turn::Go => break,
                Turn::After(wait) => line.now += wait,
                other => panic!("{other:?}"),
            }
        }
        let sent = line.now.duration_since(begun).as_secs_f64();
        came.push((sent + *late as f64 / 1000.0, *size));
        under_way.push_back((ticket, *size, line.now + Duration::from_secs_f64(latency)));
    }
    came.sort_by(|a, b| a.0.total_cmp(&b.0));
    came
}

fn models() -> impl Strategy<Value = Model> {
    prop_oneof![Just(Model::Bucket), (0u64..60).prop_map(Model::Fixed), Just(Model::Sliding)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No server refuses any, whatever it counts by, and nearly all that it allows is used.
    #[test]
    fn requests_are_never_too_many_nor_too_few(limit in 1u64..400, model in models(), late in 0u64..500, minutes in 1u64..4) {
        let sizes: Vec<(u64, u64)> = (0..limit * minutes + 1).map(|n| (1, n * 7919 % (late + 1))).collect();
        let came = run(limits(50, Some(limit), None), 50, &sizes, 0.4);
        prop_assert!(takes(model, limit, &came), "{:?}", came);
        let (first, last) = (came[0].0, came[came.len() - 1].0);
        let allowed = (last - first) * limit as f64 / 60.0;
        prop_assert!((came.len() - 1) as f64 >= 0.95 * allowed, "{} of {allowed}", came.len() - 1);
    }

    /// The same of tokens, where requests differ.
    #[test]
    fn tokens_are_never_too_many(
        sizes in proptest::collection::vec((1u64..2000, 0u64..500), 1..200),
        model in models(),
        latency in 0.1f64..30.0,
    ) {
        let came = run(limits(20, None, Some(20_000)), 20, &sizes, latency);
        prop_assert!(takes(model, 20_000, &came), "{:?}", came);
    }

    /// What is learned is used at once, and kept to all the same.
    #[test]
    fn what_is_learned_is_never_too_much(
        sizes in proptest::collection::vec((1u64..2000, 0u64..500), 1..200),
        model in models(),
    ) {
        let mut limits = limits(20, None, None);
        let reading = Reading { counted: Counted::Tokens, limit: 20_000, remaining: Some(20_000), reset: None };
        limits.heard(Instant::now(), "m", &[reading]);
        let came = run(limits, 20, &sizes, 2.0);
        prop_assert!(takes(model, 20_000, &came), "{:?}", came);
    }

    /// Nothing waits for ever, not even what is more than the limit.
    #[test]
    fn nothing_starves(sizes in proptest::collection::vec(0u64..5000, 1..30), limit in 1u64..1000, others in 0u64..1000) {
        let mut limits = limits(4, Some(limit), Some(limit));
        let left = limit - others.min(limit);
        let reading = |counted| Reading { counted, limit, remaining: Some(left), reset: Some(seconds(30)) };
        limits.heard(Instant::now(), "m", &[reading(Counted::Requests), reading(Counted::Tokens)]);
        let sizes: Vec<(u64, u64)> = sizes.into_iter().map(|size| (size, 0)).collect();
        let came = run(limits, 4, &sizes, 1.0);
        let longest = came.windows(2).map(|pair| pair[1].0 - pair[0].0).fold(0.0, f64::max);
        prop_assert!(longest <= 62.5, "{longest}");
    }
}
