//! Requests and tokens a minute, connections, and a provider that stalls, against servers on loopback that enforce what they say.
//! Prints ratios, and asserts that no request was refused and that connections were used again.
//!
//! `cargo bench --bench limits`, or `-- PART…` for some of `requests`, `tokens`, `minute`, `learned`, `connections` and `stalled`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]

#[path = "../tests/it/server/mod.rs"]
mod server;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use server::limit::{Limit, Shape};
use server::{Act, Server};

/// How long a request takes.
const LATENCY_MS: u64 = 50;
/// What the Genfile says of requests in a minute.
const REQUESTS: u64 = 600;
/// What the Genfile says of tokens in a minute.
const TOKENS: u64 = 60_000;
/// How long a stall is.
const STALL: Duration = Duration::from_secs(30);

fn main() {
    let parts: [(&str, fn()); 6] = [
        ("requests", requests),
        ("tokens", tokens),
        ("minute", minute),
        ("learned", learned),
        ("connections", connections),
        ("stalled", stalled),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            part();
        }
    }
}

/// The ways in which a limit of so many in a minute is enforced: how, and in which period.
const ENFORCED: [(&str, Shape, u64); 5] = [
    ("a bucket of a minute", Shape::Bucket, 60_000),
    ("a bucket of 6 s", Shape::Bucket, 6_000),
    ("a bucket of 1 s", Shape::Bucket, 1_000),
    ("windows of 6 s", Shape::Window, 6_000),
    ("windows of 2 s", Shape::Window, 2_000),
];

fn requests() {
    println!("requests_per_minute: {REQUESTS}, a cold start, 200 requests");
    for (what, shape, period) in ENFORCED {
        let enforced = Limit { requests: Some(REQUESTS * period / 60_000), ..limit(shape, period) };
        let seen =
            Run { limit: Some(enforced), keys: format!("requests_per_minute: {REQUESTS}"), ..Run::of(200) }.run();
        seen.says(what, seen.requests_in_a_minute() / REQUESTS as f64);
    }
}

fn tokens() {
    println!("\ntokens_per_minute: {TOKENS}, a cold start, 80 requests of some 250 tokens");
    for (what, shape, period) in ENFORCED {
        let enforced = Limit { tokens: Some(TOKENS * period / 60_000), ..limit(shape, period) };
        let keys = format!("tokens_per_minute: {TOKENS}");
        let seen = Run { limit: Some(enforced), keys, words: 160, ..Run::of(80) }.run();
        seen.says(what, seen.tokens_in_a_minute() / TOKENS as f64);
    }
}

/// As providers count, over more than two minutes.
fn minute() {
    println!("\nrequests_per_minute: 120, a cold start, 250 requests");
    for (what, shape) in [("a bucket of a minute", Shape::Bucket), ("windows of a minute", Shape::Window)] {
        let enforced = Limit { requests: Some(120), ..limit(shape, 60_000) };
        let seen = Run { limit: Some(enforced), keys: "requests_per_minute: 120".to_owned(), ..Run::of(250) }.run();
        seen.says(what, seen.requests_in_a_minute() / 120.0);
    }
}

/// Nothing in the Genfile, all in the headers: the most that a minute allows goes at once, then what is left goes with the next.
fn learned() {
    println!("\na limit of 120 requests a minute that only the answers tell of, 240 requests");
    for (what, shape) in [("a bucket of a minute", Shape::Bucket), ("windows of a minute", Shape::Window)] {
        let enforced = Limit { requests: Some(120), is_said: true, ..limit(shape, 60_000) };
        let seen = Run { limit: Some(enforced), ..Run::of(240) }.run();
        // All but the first minute's, in the time until they were there.
        let took = seen.arrivals[seen.arrivals.len() - 1].duration_since(seen.arrivals[0]).as_secs_f64();
        seen.says(what, 120.0 / took * 60.0 / 120.0);
    }
}

fn limit(shape: Shape, period: u64) -> Limit {
    Limit { shape, requests: None, tokens: None, period: Duration::from_millis(period), is_said: false }
}

fn connections() {
    println!("\nconnections of 1,000 requests");
    for in_flight in [1, 4, 16] {
        for (what, is_streamed) in [("streams", true), ("whole answers", false)] {
            let seen = Run { in_flight, is_streamed, latency: 5, ..Run::of(1000) }.run();
            assert!(seen.connections <= in_flight + 1, "{} connections", seen.connections);
            println!(
                "in_flight {in_flight:>2}, {what:<13}  {:>2} connections, {} allowed",
                seen.connections,
                in_flight + 1
            );
        }
    }
}

fn stalled() {
    println!("\none of two providers stalls for {} s; the other's 100 requests of 100 ms", STALL.as_secs());
    let (alone, _) = two(false);
    let (beside, whole) = two(true);
    println!(
        "alone {alone:.2?}, beside one that stalls {beside:.2?}, ratio {:.3}; the whole run {whole:.1?}",
        beside.as_secs_f64() / alone.as_secs_f64()
    );
}

/// The time from the start to the last output of the quick provider, beside a stalled one or not; and that of the run.
fn two(has_stalled: bool) -> (Duration, Duration) {
    let (slow, quick) = (Server::start(), Server::start());
    slow.always(Act::Slow { millis: u64::try_from(STALL.as_millis()).expect("not that long") });
    quick.latency(100);
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| fs_err::write(Path::new(dir.path()).join(name), text).expect("a file");
    put("p.prompt", "Write about {{item}}.\n");
    let provider =
        |server: &Server| format!("{{api: openai, model: m, base_url: '{}', in_flight: 4}}", server.base_url());
    let rule = |provider: &str, items: usize| {
        let items: Vec<String> = (0..items).map(|item| item.to_string()).collect();
        format!(
            "{{foreach: [{}], provider: {provider}, prompt: p.prompt, output: '{provider}/{{{{item}}}}.md', batch: false}}",
            items.join(", ")
        )
    };
    let slow_rule = if has_stalled { format!("  slow: {}\n", rule("slow", 4)) } else { String::new() };
    put(
        "Genfile",
        &format!(
            "version: 1\nproviders:\n  slow: {}\n  quick: {}\nrules:\n{slow_rule}  quick: {}\n",
            provider(&slow),
            provider(&quick),
            rule("quick", 100)
        ),
    );
    let begun = std::time::SystemTime::now();
    let since = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_genmake")).arg("-s").current_dir(dir.path()).status();
    assert!(status.expect("genmake runs").success(), "the build failed");
    let whole = since.elapsed();
    let written = fs_err::read_dir(dir.path().join("quick")).expect("a folder of outputs");
    let last = written.map(|entry| entry.and_then(|entry| entry.metadata()?.modified()).expect("an output")).max();
    (last.and_then(|last| last.duration_since(begun).ok()).expect("outputs"), whole)
}

// ---- a run ----

/// Pages that are asked for one by one.
struct Run {
    pages: usize,
    /// How many words of its own each prompt has.
    words: usize,
    in_flight: usize,
    latency: u64,
    is_streamed: bool,
    limit: Option<Limit>,
    /// Further keys of the provider.
    keys: String,
}

/// What the server saw of it.
struct Seen {
    refused: usize,
    connections: usize,
    arrivals: Vec<Instant>,
    tokens: usize,
}

impl Run {
    fn of(pages: usize) -> Run {
        let keys = String::new();
        Run { pages, words: 0, in_flight: 16, latency: LATENCY_MS, is_streamed: true, limit: None, keys }
    }

    fn run(&self) -> Seen {
        let server = Server::start();
        server.latency(self.latency);
        if !self.is_streamed {
            server.without_streams();
        }
        if let Some(limit) = self.limit {
            server.enforce(limit);
        }
        let dir = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| fs_err::write(Path::new(dir.path()).join(name), text).expect("a file");
        let spec = (0..self.pages).fold("entities:\n".to_owned(), |mut text, at| {
            let _ = writeln!(text, "  e{at}: {{text: about {at}}}");
            text
        });
        put("spec.yaml", &spec);
        put("page.prompt", &format!("Write about {{{{item.key}}}}. {}\n", "words ".repeat(self.words)));
        let keys = if self.keys.is_empty() { String::new() } else { format!(", {}", self.keys) };
        put(
            "Genfile",
            &format!(
                "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: '{}', in_flight: {}{keys}}}}}\nrules:\n  pages: \
                 {{foreach: 'spec.yaml#/entities/*', prompt: page.prompt, output: '{{{{item.key}}}}.md', batch: false}}\n",
                server.base_url(),
                self.in_flight
            ),
        );
        let status = Command::new(env!("CARGO_BIN_EXE_genmake")).arg("-s").current_dir(dir.path()).status();
        assert!(status.expect("genmake runs").success(), "the build failed");
        let told = server.told();
        Seen {
            refused: server.refused(),
            connections: server.connections(),
            arrivals: server.requests().iter().map(|request| request.at).collect(),
            tokens: told.input + told.output,
        }
    }
}

impl Seen {
    fn minutes(&self) -> f64 {
        self.arrivals[self.arrivals.len() - 1].duration_since(self.arrivals[0]).as_secs_f64() / 60.0
    }

    /// The rate from the first to the last, the last not counted.
    fn requests_in_a_minute(&self) -> f64 {
        (self.arrivals.len() - 1) as f64 / self.minutes()
    }

    fn tokens_in_a_minute(&self) -> f64 {
        let each = self.tokens as f64 / self.arrivals.len() as f64;
        (self.tokens as f64 - each) / self.minutes()
    }

    fn says(&self, what: &str, ratio: f64) {
        let pauses = self.arrivals.windows(2).map(|pair| pair[1].duration_since(pair[0]));
        let longest = pauses.max().unwrap_or_default();
        println!(
            "{what:<22} {} refused, of what is allowed {ratio:.3}, the longest pause {:.2} s",
            self.refused,
            longest.as_secs_f64()
        );
        assert_eq!(self.refused, 0, "{what}");
    }
}
