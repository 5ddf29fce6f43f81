//! What a collection saves beside one request for each item, against a provider on loopback with a fixed latency: 523 items of eight
//! kinds, each kind a file with rules of its own. Prints requests, tokens, cost and wall time, and fails if less is saved than the
//! documentation promises.
//!
//! `cargo bench --bench collections`: a minute, which is what one request an item takes

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]

#[path = "../tests/it/server/mod.rs"]
mod server;

use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use genmake::models;
use serde_json::{Value, json};
use server::{Recorded, Server};

const LATENCY_MS: u64 = 500;
const ITEMS: usize = 523;
const MODEL: &str = "gpt-4.1-mini";

/// The kinds of a language course, and what each asks for beside what holds for all.
const KINDS: [(&str, &str); 8] = [
    (
        "nouns",
        "Give the plural in full. Where it is never used, repeat the singular. The hint names a group that the thing belongs to.",
    ),
    (
        "verbs",
        "Give the past tense. Where two are in use, give the one that schools teach. The hint says who usually does it.",
    ),
    (
        "adjectives",
        "Give the comparative. Where it is formed with more, write both words. The hint names a thing that is like that.",
    ),
    (
        "adverbs",
        "Give the adjective that it comes from, or the word itself. The hint says whether it is about time, place or manner.",
    ),
    (
        "idioms",
        "Give the plain words for it, six at most. The hint says where one would hear it, and never explains single words.",
    ),
    (
        "numbers",
        "Give the number in digits, without separators. The hint is something that there are so many of, known everywhere.",
    ),
    (
        "questions",
        "Give a short answer that a native speaker would give. The hint names the situation, and not the answer.",
    ),
    (
        "sounds",
        "Give a common word with the sound in its middle. The hint says what the mouth does, without terms of phonetics.",
    ),
];

/// What holds for all kinds, in some 600 tokens: what such a prompt has to say before a model writes items that can be used as they
/// are. With the part of its kind that is a usual system part; the longer it is, the more a collection saves.
const GUIDE: &str = "You prepare the learning items of a course of English for adults who begin to learn it. For each entry you give \
    one item with three fields. The form is what the learner has to know of the entry, as the rules below say for its kind; write it \
    in small letters unless it is a name, without an article and without a full stop. The sentence is one example that a learner can \
    say aloud: between five and twelve words, in the present tense unless the entry wants another, in the active voice, with the entry \
    in it exactly once and in the form that is given. Use only words that are among the two thousand most frequent ones, apart from \
    the entry itself. Do not use names of persons, brands, countries or cities. Do not use contractions in statements; use them in \
    questions and answers where nobody would speak without them. The sentence has to make sense by itself: no pronoun without a \
    noun that it stands for, no answer without its question. It shows the meaning of the entry, so that somebody who does not know \
    the word could guess it: write of what people do every day, at home, at work, in a shop, on a journey. Do not write of illness, \
    death, religion, politics, alcohol or violence, unless the entry is about one of these, and then soberly. Spell as in American \
    English. Put numbers below ten into words. Quotation marks, brackets, semicolons, dashes and exclamation marks are not used. The \
    hint helps the learner to remember the entry, in at most six words, and does not contain it, nor a word of the same root. It is \
    no definition and no translation, and not a sentence: it begins with a small letter and ends without a full stop. Entries that \
    look alike get hints that tell them apart. If an entry has several meanings, take the one in brackets behind it, or else the most \
    frequent one, and keep to it in all fields. Where an entry is misspelled, correct it without saying so. Do not add fields, \
    remarks or numbers, and do not explain what you did. Entries are independent of each other: never refer from one to another, \
    and do not let the sentences begin alike.";

const SCHEMA: &str = r#"{"type": "object", "additionalProperties": false, "required": ["form", "sentence", "hint"],
 "properties": {"form": {"type": "string"}, "sentence": {"type": "string"}, "hint": {"type": "string"}}}"#;

/// What the model says of each item: some 35 tokens.
const RESULT: [(&str, &str); 3] = [
    ("form", "market stalls"),
    ("sentence", "Every Saturday we buy fresh fruit from a stall in the square."),
    ("hint", "a table in the open air"),
];

fn main() {
    println!("{ITEMS} items of {} kinds, {LATENCY_MS} ms a request, in_flight 4, prices of {MODEL}", KINDS.len());
    let together = build("");
    let alone = build(", batch: false");
    assert_eq!(alone.requests, ITEMS);
    println!("{:<22} {:>10} {:>10}  {:>7}", "", "collection", "one each", "ratio");
    let mut missed = Vec::new();
    let mut row = |what: &str, of: fn(&Seen) -> f64, digits: usize, most: Option<f64>| {
        let (together, alone) = (of(&together), of(&alone));
        let ratio = together / alone;
        let bar = match most {
            Some(most) if ratio <= most => format!("at most {most:.4}: met"),
            Some(most) => {
                missed.push(what.to_owned());
                format!("at most {most:.4}: MISSED")
            }
            None => String::new(),
        };
        println!(
            "{what:<22} {together:>10.digits$} {alone:>10.digits$}  {ratio:>7.4}, {:.1} times less  {bar}",
            1.0 / ratio
        );
    };
    row("requests", |seen| seen.requests as f64, 0, Some(1.0 / 65.0));
    row("tokens of prefixes", |seen| seen.prefix as f64, 0, Some(1.0 / 65.0));
    row("input tokens", |seen| seen.input as f64, 0, Some(0.10));
    row("output tokens", |seen| seen.output as f64, 0, None);
    row("cost in USD", |seen| seen.cost, 4, None);
    row("wall time in seconds", |seen| seen.took.as_secs_f64(), 2, Some(1.0 / 40.0));
    assert!(missed.is_empty(), "missed: {}", missed.join(", "));
}

/// What a build from nothing took.
struct Seen {
    requests: usize,
    /// Of the system parts.
    prefix: usize,
    /// Messages and schemas.
    input: usize,
    output: u64,
    cost: f64,
    took: Duration,
}

/// All eight files from nothing, by a rule with this in addition.
fn build(rule: &str) -> Seen {
    let server = Server::start();
    let result: Value = RESULT.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
    server.latency(LATENCY_MS).reply(move |_, _| result.to_string());
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| fs_err::write(dir.path().join(name), text).expect("a file");
    let mut kinds = String::new();
    for (at, (kind, guide)) in KINDS.iter().enumerate() {
        let _ = writeln!(kinds, "{kind}: {guide:?}");
        // 65 of each kind, and 66 of the first three.
        let count = ITEMS / KINDS.len() + usize::from(at < ITEMS % KINDS.len());
        let items =
            (0..count).map(|item| format!("- {{entry: {kind} number {item}, note: as in unit {}}}\n", item % 12));
        put(&format!("{kind}.yaml"), &items.collect::<String>());
    }
    put("kinds.yaml", &kinds);
    put("item.json", SCHEMA);
    put(
        "item.prompt",
        &format!(
            "{{{{role \"system\"}}}}\n{GUIDE}\n\nThe kind is {{{{foreach.key}}}}. {{{{foreach.value}}}}\n\
             {{{{role \"user\"}}}}\nEntry: {{{{item.value.entry}}}} ({{{{item.value.note}}}})\n"
        ),
    );
    let price = models::find(MODEL).and_then(|model| model.price).expect("a model of the table");
    put(
        "Genfile",
        &format!(
            "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: {MODEL}, base_url: '{}', in_flight: 4, \
             prices: {{input: {}, output: {}}}}}}}\nrules:\n  items: {{foreach: 'kinds.yaml#/*', \
             items: '{{{{item.key}}}}.yaml#/*', output: 'out/{{{{item.key}}}}.json', prompt: item.prompt, schema: item.json{rule}}}\n",
            server.base_url(),
            price.input,
            price.output
        ),
    );
    let begun = Instant::now();
    let args = ["-s", "--report", "report.json"];
    let status = Command::new(env!("CARGO_BIN_EXE_genmake")).args(args).current_dir(dir.path()).status();
    let took = begun.elapsed();
    assert!(status.expect("genmake runs").success(), "the build failed");
    let read = |name: &str| fs_err::read_to_string(dir.path().join(name)).expect("a file");
    let value = |name: &str| -> Value { serde_json::from_str(&read(name)).expect("JSON") };
    let rows = KINDS.iter().map(|(kind, _)| value(&format!("out/{kind}.json")).as_array().map_or(0, Vec::len));
    assert_eq!(rows.sum::<usize>(), ITEMS, "results are missing");
    let report = value("report.json");
    let requests = server.requests();
    let sum = |of: fn(&Recorded) -> usize| requests.iter().map(|request| of(request)).sum();
    Seen {
        requests: server.count(),
        prefix: sum(|request| tokens(&request.system_text())),
        input: sum(sent),
        output: report["llm"]["output_tokens"].as_u64().expect("a count"),
        cost: report["llm"]["cost_usd"].as_f64().expect("an amount"),
        took,
    }
}

/// Four characters are a token.
fn tokens(text: &str) -> usize {
    text.chars().count().div_ceil(4)
}

/// The tokens of a request's messages and schema.
fn sent(request: &Recorded) -> usize {
    let messages = request.body["messages"].as_array().into_iter().flatten();
    let said: usize = messages.filter_map(|message| message["content"].as_str()).map(tokens).sum();
    let schema = request.body.pointer("/response_format/json_schema/schema");
    said + schema.map_or(0, |schema| tokens(&schema.to_string()))
}
