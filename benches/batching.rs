//! What batching saves, against a provider on loopback with a fixed latency: requests, tokens and wall time as ratios, and how
//! grouping grows with the number of tasks. Prints, and asserts what the documentation promises of counts and tokens.
//!
//! `cargo bench --bench batching`, or `-- PART…` for some of `calls`, `tokens`, `time`, `bound` and `grouping`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]

#[path = "../tests/it/server/mod.rs"]
mod server;

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use genmake::batch::{Batcher, Terms, Traits, Traveler};
use genmake::digest::Digest;
use genmake::manifest::Batching;
use genmake::models::Model;
use serde_json::{Value, json};
use server::Server;

const LATENCY_MS: u64 = 200;
/// Where a ratio is to the latency itself, what models take: a quick one, and a usual one.
const MODELS_MS: [u64; 2] = [1000, 4000];
const ROUNDS: usize = 5;

fn main() {
    let parts: [(&str, fn()); 5] =
        [("calls", calls), ("tokens", tokens), ("time", one_by_one), ("bound", lower_bound), ("grouping", grouping)];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            part();
        }
    }
}

// ---- requests ----

fn calls() {
    println!("requests, and as a ratio to one for each task");
    let row = |what: &str, tasks: usize, most: usize, seen: &Seen| {
        assert!(seen.requests <= most, "{what} took {} requests", seen.requests);
        println!("{what:<44} {:>4}  ratio {:.3}", seen.requests, seen.requests as f64 / tasks as f64);
    };
    for (files, most) in [(10, 2), (20, 4), (50, 10)] {
        let pages = Project::pages(files);
        let alone = pages.build(&["--no-batch"]);
        assert_eq!(alone.requests, files);
        row(&format!("{files} alike files, max_batch_size 5"), files, most, &pages.build(&[]));
    }
    let items = Project {
        spec: kinds(523, 8),
        system: SYSTEM,
        batching: "max_batch_size: auto",
        rule: ", params: {max_output_tokens: 200}",
        ..Project::pages(0)
    };
    row("523 items of eight kinds, max_batch_size auto", 523, 8, &items.build(&[]));
}

/// So many items of so many kinds: each kind has fields, and a package, of its own.
fn kinds(items: usize, kinds: usize) -> String {
    (0..items).fold("entities:\n".to_owned(), |mut text, at| {
        let kind = at % kinds;
        let fields: Vec<String> = (0..=kind).map(|field| format!("f{field}: t{kind}{}", field % 2)).collect();
        let _ = writeln!(text, "  e{at}: {{text: about {at}, package: k{kind}, fields: {{{}}}}}", fields.join(", "));
        text
    })
}

// ---- tokens ----

/// What all tasks share: some 400 tokens, as a short guide of style has.
const SYSTEM: &str = "You write the reference of a shop's data model for the people who work with it. Write in Markdown: one heading \
    with the name of the entity, one sentence that says what it is, then one bullet for each field with its name in backticks, its \
    type, and what it means in at most twelve words. Write in the present tense and in the active voice. Do not repeat the name of the \
    entity in its bullets. Say of each field whether it may be empty. Name other entities in backticks, and do not explain them: each has \
    a page of its own. Amounts of money are whole numbers of cents, and their currency stands beside them. Times are in UTC and \
    written as in RFC 3339. Identifiers are opaque: say nothing of their form. Where a field has a default, say so in its bullet and not \
    in a sentence of its own. Do not write introductions, summaries or advice. Do not mention tables, columns, keys or indexes of a \
    database: readers know the entities and not their storage. Do not invent fields, entities, limits or rules that are not given. If \
    something is unclear, leave it out. Lists are written in the order of the specification. A bullet ends without a full stop unless \
    it holds more than one sentence. Headings have no trailing punctuation. Leave one empty line after the heading and between the \
    sentence and the bullets, and none between bullets. Do not use bold or italic text, quotations, tables, images, links or HTML. \
    Spell words as in American English, and spell out numbers below ten unless a unit follows. Abbreviations are written without \
    full stops and are spelled out where they first stand in a page. The page has no more than two hundred words in all.";

fn tokens() {
    let fields = "{id: string, name: string, created_at: datetime, updated_at: datetime, note: string}";
    let spec = (0..15).fold("entities:\n".to_owned(), |mut text, at| {
        let _ = writeln!(text, "  Entity{at}: {{text: what a shop knows of its number {at}, fields: {fields}}}");
        text
    });
    let project = Project { spec, system: SYSTEM, user: "Fields: {{json item.value.fields}}", ..Project::pages(0) };
    println!("\ninput tokens of 15 entities, schemas included, as a ratio to one request a file");
    let alone = project.build(&["--no-batch"]);
    for size in ["5", "auto"] {
        let batching = if size == "auto" { "max_batch_size: auto" } else { "max_batch_size: 5" };
        let batched = Project { batching, ..project.clone() }.build(&[]);
        let ratio = batched.input_tokens as f64 / alone.input_tokens as f64;
        assert!(ratio <= 0.38, "input tokens are {ratio:.3} of one request a file");
        println!(
            "max_batch_size {size:<4}  {:>2} requests, {:>5} tokens; one a file {:>5}  ratio {ratio:.2}",
            batched.requests, batched.input_tokens, alone.input_tokens
        );
    }
}

// ---- time ----

fn one_by_one() {
    println!("\nwall time of 20 files at {LATENCY_MS} ms a request, median of {ROUNDS} paired runs");
    for in_flight in [1, 4] {
        let project = Project { in_flight, latency: LATENCY_MS, ..Project::pages(20) };
        let mut ratios: Vec<(f64, Duration, Duration)> = (0..ROUNDS)
            .map(|_| {
                let (batched, single) = (project.build(&[]).took, project.build(&["--no-batch"]).took);
                (batched.as_secs_f64() / single.as_secs_f64(), batched, single)
            })
            .collect();
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, batched, single) = ratios[ROUNDS / 2];
        println!("in_flight {in_flight}: {batched:.2?} in batches, {single:.2?} one by one, ratio {ratio:.2}");
    }
}

fn lower_bound() {
    println!("\nwall time of a whole build, prefer: time, to the lower bound of its requests, median of {ROUNDS}");
    for latency in MODELS_MS {
        for (in_flight, files) in [(4, 20), (4, 100), (8, 20), (8, 100)] {
            let project = Project { in_flight, latency, batching: "prefer: time", ..Project::pages(files) };
            let mut seen: Vec<Seen> = (0..ROUNDS).map(|_| project.build(&[])).collect();
            seen.sort_by_key(|seen| seen.took);
            let Seen { requests, took, .. } = seen.swap_remove(ROUNDS / 2);
            let least = requests.div_ceil(in_flight) as f64 * latency as f64 / 1000.0;
            println!(
                "{latency} ms, in_flight {in_flight}, {files:>3} files: {requests:>2} requests, {took:.2?}, ratio {:.3}",
                took.as_secs_f64() / least
            );
        }
    }
}

// ---- grouping ----

fn grouping() {
    println!(
        "\ngrouping and packing, processor time, best of {ROUNDS}; a sort of the same tasks shows what n log n is here"
    );
    let equal = |_: usize| json!({"fields": {"a": "int"}, "package": "p"});
    let alike =
        |at: usize| json!({"fields": {"a": "int"}, "package": "p", "refs": [format!("e{at}"), format!("e{}", at / 2)]});
    let unlike = |at: usize| json!({"fields": {"a": format!("t{at}"), "b": "int"}, "package": format!("p{at}")});
    let forms: [(&str, ItemOf); 3] = [("all equal", equal), ("all alike, none equal", alike), ("none alike", unlike)];
    for (what, value) in forms {
        let mut first = 0.0;
        for count in [1_000, 10_000, 100_000] {
            let travelers: Vec<Traveler> = (0..count).map(|at| traveler(at * 7919 % count, value)).collect();
            let grouped = each_takes(&travelers, |travelers| {
                let mut batcher = Batcher::default();
                travelers.into_iter().for_each(|traveler| batcher.add(traveler));
                let batches = batcher.all();
                assert_eq!(batches.iter().map(|batch| batch.tasks.len()).sum::<usize>(), count);
            });
            let sorted = each_takes(&travelers, |mut travelers| {
                travelers.sort_by(|a, b| (&a.traits, &a.name).cmp(&(&b.traits, &b.name)));
            });
            if first == 0.0 {
                first = grouped / sorted;
            }
            println!(
                "{what:<22} {count:>6}: {:.2} µs a task, {:.2} of a sort, ratio {:.2}",
                grouped * 1e6,
                grouped / sorted,
                grouped / sorted / first
            );
        }
    }
}

/// What a piece of work on all these tasks takes for one of them, in seconds.
fn each_takes(travelers: &[Traveler], work: impl Fn(Vec<Traveler>)) -> f64 {
    // The system counts a thread's time in steps of some milliseconds: as many tasks each time, whatever the count.
    let repeats = 100_000 / travelers.len();
    let best = (0..ROUNDS).map(|_| {
        let copies: Vec<Vec<Traveler>> = (0..repeats).map(|_| travelers.to_vec()).collect();
        let begun = cpu_time();
        copies.into_iter().for_each(&work);
        cpu_time().saturating_sub(begun)
    });
    best.min().unwrap_or_default().as_secs_f64() / (repeats * travelers.len()) as f64
}

/// The value of an item as a function of its number.
type ItemOf = fn(usize) -> Value;

/// The time that this thread has had of a processor, so that what else the machine does counts for little.
fn cpu_time() -> Duration {
    let stat = fs_err::read_to_string("/proc/thread-self/schedstat").expect("a Linux that counts it");
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("a number of nanoseconds"))
}

fn traveler(task: usize, value: ItemOf) -> Traveler {
    let terms = Terms {
        provider: "p".into(),
        in_flight: 4,
        batching: Batching::default(),
        most: Some(5),
        most_results: None,
        prefix: 100,
        model: Model::default(),
    };
    let traits = Traits::new(["md"].into_iter(), Some(&value(task)), std::iter::empty());
    let (shape, name) = (Digest::of("s"), format!("docs/e{task}.md"));
    Traveler { task: task.into(), shape, traits, name, own: 20, expected: 50, limit: None, terms }
}

// ---- a project ----

/// A page of each entity of a specification.
#[derive(Clone)]
struct Project {
    spec: String,
    system: &'static str,
    user: &'static str,
    batching: &'static str,
    /// Further keys of the rule.
    rule: &'static str,
    in_flight: usize,
    latency: u64,
}

/// What a build from nothing took.
struct Seen {
    requests: usize,
    /// Messages and schemas, four characters to a token.
    input_tokens: usize,
    took: Duration,
}

impl Project {
    /// So many pages that ask for little.
    fn pages(count: usize) -> Project {
        let spec = (0..count).fold("entities:\n".to_owned(), |mut text, at| {
            let _ = writeln!(text, "  e{at}: {{text: about {at}}}");
            text
        });
        Project { spec, system: "Be brief.", user: "", batching: "", rule: "", in_flight: 1, latency: 0 }
    }

    fn build(&self, flags: &[&str]) -> Seen {
        let server = Server::start();
        server.latency(self.latency);
        let dir = tempfile::tempdir().expect("a folder");
        let put = |name: &str, text: &str| fs_err::write(Path::new(dir.path()).join(name), text).expect("a file");
        put("spec.yaml", &self.spec);
        let Project { system, user, batching, rule, in_flight, .. } = self;
        put(
            "page.prompt",
            &format!(
                "{{{{role \"system\"}}}}\n{system}\n{{{{role \"user\"}}}}\nWrite about {{{{item.key}}}}: {{{{item.value.text}}}}. {user}\n"
            ),
        );
        put(
            "Genfile",
            &format!(
                "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: '{}', in_flight: {in_flight}}}}}\n\
                 batching: {{{batching}}}\nrules:\n  \
                 pages: {{foreach: 'spec.yaml#/entities/*', prompt: page.prompt, output: '{{{{item.key}}}}.md'{rule}}}\n",
                server.base_url()
            ),
        );
        let begun = Instant::now();
        let status = Command::new(env!("CARGO_BIN_EXE_genmake")).arg("-s").args(flags).current_dir(dir.path()).status();
        let took = begun.elapsed();
        assert!(status.expect("genmake runs").success(), "the build failed");
        let chars = |body: &Value| {
            let messages = body["messages"].as_array().into_iter().flatten();
            let said: usize =
                messages.filter_map(|message| message["content"].as_str()).map(|text| text.chars().count()).sum();
            let schema = body.pointer("/response_format/json_schema/schema");
            said + schema.map_or(0, |schema| schema.to_string().len())
        };
        let input_tokens = server.requests().iter().map(|request| chars(&request.body) / 4).sum();
        Seen { requests: server.count(), input_tokens, took }
    }
}
