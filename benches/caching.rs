//! What the provider's cache is worth, against a provider on loopback that keeps the starts of prompts as providers do: from so many
//! tokens on, in messages what is marked, elsewhere in steps, and there to read once the answer has begun. Prints, and asserts what the
//! documentation promises: what share of the prefixes is read, that nothing is written that nobody reads, and what files cost beside one
//! uncached call for each.
//!
//! `cargo bench --bench caching`, or `-- PART…` for some of `share` and `cost`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]

#[path = "../tests/it/server/mod.rs"]
mod server;

use std::fmt::Write;
use std::process::Command;

use genmake::models::{self, Price};
use serde_json::Value;
use server::{Server, Told};

/// A format, and models of its makers: one that the rules ask, and one that one of them asks instead.
const FORMATS: [(&str, [&str; 2]); 5] = [
    ("anthropic", ["claude-sonnet-4-5", "claude-haiku-4-5"]),
    ("openai", ["gpt-4.1-mini", "gpt-4o"]),
    ("openai-responses", ["gpt-4.1-mini", "gpt-4o"]),
    // They take more for what they keep, and find it again only where it ended.
    ("openai", ["gpt-5.6-terra", "gpt-5.6-luna"]),
    // Of what Google keeps by itself: contents that are kept under a name are another matter, and are all read.
    ("gemini", ["gemini-2.5-flash", "gemini-2.5-pro"]),
];

/// The time that a request takes, so that several are under way at once.
const LATENCY_MS: u64 = 20;

fn main() {
    let parts: [(&str, fn()); 2] = [("share", share), ("cost", cost)];
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            part();
        }
    }
}

// ---- what is read ----

/// Rules as a project has them: how many files, the tokens of what they share, and further keys.
const RULES: [(&str, usize, usize, &str); 6] = [
    ("pages", 60, 2_000, ""),
    ("tests", 43, 5_000, ", model: OTHER"),
    ("german", 48, 1_500, ""),
    ("essays", 12, 3_000, ", batch: false"),
    ("labels", 50, 1_200, ", batching: {max_batch_size: 10}"),
    ("notes", 20, 300, ""),
];

fn share() {
    println!("what is read of the prefixes, over {} files of {} rules", files(), RULES.len());
    for (api, models) in FORMATS {
        for prefer in ["cost", "time"] {
            let server = Server::start();
            server.with_cache().latency(LATENCY_MS);
            let project = Project::new(&server, api, models[0], prices(models[0]));
            let report = project.put_rules(&format!("batching: {{prefer: {prefer}}}"), models[1]).build(&[]);
            let (sent, kept) = prefixes(&server);
            let Told { cached, cache_write, .. } = server.told();
            let share = cached as f64 / kept as f64;
            println!(
                "{api:<16} {:<17} prefer: {prefer}  {:>3} requests, prefixes {sent}, long enough {kept}, read {cached}, written {cache_write}, \
                 never read {}  share {share:.3}",
                models[0],
                server.count(),
                server.unread()
            );
            assert_eq!((server.unread(), &report["llm"]["cache_misses"]), (0, &Value::from(0)));
            assert_eq!(report["llm"]["cached_input_tokens"], cached);
            assert!(prefer == "time" || share >= 0.8, "only {share:.3} of the prefixes were read");
        }
    }
}

fn files() -> usize {
    RULES.iter().map(|(_, files, ..)| files).sum()
}

/// The tokens of all system parts that were sent, and of those that the model would keep.
fn prefixes(server: &Server) -> (usize, usize) {
    server.requests().iter().fold((0, 0), |(sent, kept), request| {
        let prefix = request.system_text().chars().count() / 4;
        // Of Gemini it stands in the path.
        let in_path = || request.path.split(['/', ':']).find(|part| part.starts_with("gemini"));
        let model = request.body["model"].as_str().or_else(in_path).unwrap_or_default();
        let minimum = models::find(model).and_then(|model| model.cache);
        let is_kept = minimum.is_some_and(|cache| prefix as u64 >= cache.minimum);
        (sent + prefix, kept + if is_kept { prefix } else { 0 })
    })
}

// ---- what it costs ----

/// What is claimed: 15 files that share 3,000 tokens, of 200 tokens each, beside one uncached call a file.
const FILES: usize = 15;
const PREFIX: usize = 3_000;
const LONGEST: usize = 200;
const MOST: f64 = 0.39;

fn cost() {
    println!(
        "\ncost of {FILES} files that share {PREFIX} tokens, to one uncached call for each; and what the report says was saved"
    );
    for (api, model) in
        [FORMATS[0], FORMATS[1], ("openai", ["gpt-5.4", ""]), FORMATS[3]].map(|(api, models)| (api, models[0]))
    {
        for length in [100, LONGEST, 400] {
            let build = |cached: bool, flags: &[&str]| {
                let server = Server::start();
                let text = words(length);
                server.latency(LATENCY_MS).reply(move |_, _| text.clone());
                if cached {
                    server.with_cache();
                }
                let keep = if cached { "" } else { "batching: {keep_prefix: never}" };
                let project = Project::new(&server, api, model, prices(model));
                project.put_files(keep).build(flags)["llm"].clone()
            };
            let amount = |llm: &Value, name: &str| llm[name].as_f64().expect("an amount");
            let alone = amount(&build(false, &["--no-batch"]), "cost_usd");
            let (batched, both) = (build(false, &[]), build(true, &[]));
            let (cost, saved) = (amount(&both, "cost_usd"), amount(&both, "cost_saved_usd"));
            let ratio = cost / alone;
            let split = saved / (alone - cost);
            println!(
                "{model:<18} {length:>3} tokens a file: {alone:.4} alone, {:.4} in batches, {cost:.4} with the cache  ratio {ratio:.3}; \
                 saved {saved:.4}, {split:.3} of the difference; tokens {}",
                amount(&batched, "cost_usd"),
                both["tokens_saved"]
            );
            assert!(length > LONGEST || ratio <= MOST, "{ratio:.3} of one call a file");
            assert!((split - 1.0).abs() <= 0.01, "the report says {split:.3} of what was saved");
        }
    }
}

/// A text of so many tokens, four letters each.
fn words(tokens: usize) -> String {
    let line = "Each order names the customer who placed it, and when.\n";
    line.chars().cycle().take(tokens * 4 - 1).chain(['\n']).collect()
}

/// Prices as they come with genmake: what listens on this machine is free otherwise.
fn prices(model: &str) -> Price {
    models::find(model).and_then(|model| model.price).expect("a model of the table")
}

// ---- a project ----

struct Project {
    dir: tempfile::TempDir,
    head: String,
}

impl Project {
    fn new(server: &Server, api: &str, model: &str, price: Price) -> Project {
        let more = [
            ("cache_read", price.cache_read),
            ("cache_write", price.cache_write),
            ("cache_write_1h", price.cache_write_1h),
        ];
        let more: String = more.iter().fold(String::new(), |mut text, (name, price)| {
            if let Some(price) = price {
                let _ = write!(text, ", {name}: {price}");
            }
            text
        });
        let Price { input, output, .. } = price;
        let url = server.base_url();
        let head = format!(
            "version: 1\nprovider: p\nproviders: {{p: {{api: {api}, model: {model}, base_url: '{url}', \
             prices: {{input: {input}, output: {output}{more}}}}}}}\n"
        );
        Project { dir: tempfile::tempdir().expect("a folder"), head }
    }

    fn put(&self, name: &str, text: &str) {
        fs_err::write(self.dir.path().join(name), text).expect("a file");
    }

    /// All of [`RULES`].
    fn put_rules(self, top: &str, other: &str) -> Project {
        let mut genfile = format!("{}{top}\nrules:\n", self.head);
        for (name, files, prefix, keys) in RULES {
            let items: Vec<String> = (0..files).map(|item| format!("{name}{item}")).collect();
            let keys = keys.replace("OTHER", other);
            let _ = writeln!(
                genfile,
                "  {name}: {{foreach: [{}], prompt: {name}.prompt, output: 'out/{{{{item}}}}.md'{keys}}}",
                items.join(", ")
            );
            self.put(&format!("{name}.prompt"), &prompt(name, prefix));
        }
        self.put("Genfile", &genfile);
        self
    }

    /// The files of one rule.
    fn put_files(self, top: &str) -> Project {
        let items: Vec<String> = (0..FILES).map(|item| format!("file{item}")).collect();
        let rule =
            format!("  files: {{foreach: [{}], prompt: files.prompt, output: '{{{{item}}}}.md'}}\n", items.join(", "));
        self.put("files.prompt", &prompt("files", PREFIX));
        self.put("Genfile", &format!("{}{top}\nrules:\n{rule}", self.head));
        self
    }

    /// The report of a build from nothing.
    fn build(&self, flags: &[&str]) -> Value {
        let args = ["-s", "--report", "report.json"].into_iter().chain(flags.iter().copied());
        let status = Command::new(env!("CARGO_BIN_EXE_genmake")).args(args).current_dir(self.dir.path()).status();
        assert!(status.expect("genmake runs").success(), "the build failed");
        let report = fs_err::read_to_string(self.dir.path().join("report.json")).expect("a report");
        serde_json::from_str(&report).expect("a report is JSON")
    }
}

/// A prompt with a system part of so many tokens of its own, and a short one of each task.
fn prompt(name: &str, prefix: usize) -> String {
    let system: String = format!("You write {name}. {}", words(prefix)).chars().take(prefix * 4).collect();
    let system = system.trim_end();
    let own = "Say of {{item}} what it is for, who makes it, when it is used and what others it belongs to; leave out what all of them share.";
    format!("{{{{role \"system\"}}}}\n{system}\n{{{{role \"user\"}}}}\n{own}\n")
}
