//! What it takes to make vectors of ten thousand functions, against a provider on loopback that enforces the limits of the real ones:
//! requests beside the fewest that there can be, and what a run takes when nothing, and when little, has changed. Prints, and asserts
//! what the documentation promises.
//!
//! `cargo bench --bench embeddings`, or `-- N` for another number of functions

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]

#[path = "../tests/it/server/mod.rs"]
mod server;

use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use server::Server;

/// How many functions a file has.
const IN_A_FILE: usize = 20;

/// How often what is short is done, of which the median counts.
const TIMES: usize = 7;

fn main() {
    let count = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10_000);
    for (api, window, most) in [("openai", "window: 2048", 2048), ("gemini", "window: auto", 100)] {
        let server = Server::start();
        let project = Project::new(&server, api, window, count);
        let begun = Instant::now();
        project.run(&[]);
        let (took, requests) = (begun.elapsed(), server.count());
        let least = count.div_ceil(most);
        let ratio = requests as f64 / least as f64;
        println!(
            "{api}: {count} functions, {requests} requests of at least {least}: {ratio:.3}, {:.1} s",
            took.as_secs_f64()
        );
        assert!(ratio <= 1.1, "{ratio:.3} times as many requests as there must be");

        let beside = Project::without(count);
        beside.run(&[]);
        let (mut again, mut noop) = (Vec::new(), Vec::new());
        // In turns, so that what else the machine does concerns both.
        for _ in 0..TIMES {
            again.push(project.time(&[]));
            noop.push(beside.time(&[]));
        }
        let ratio = median(&mut again).as_secs_f64() / median(&mut noop).as_secs_f64();
        println!(
            "{api}: nothing to do {:.1} ms, of a template over the same files {:.1} ms: {ratio:.2}",
            millis(&again),
            millis(&noop)
        );
        assert_eq!(server.count(), requests, "a second run asks nothing");
        assert!(ratio <= 2.0, "{ratio:.2} times what it takes where nothing is to do");

        project.edit(count);
        let took = project.time(&[]);
        println!(
            "{api}: one function changed: {} request, {:.1} ms",
            server.count() - requests,
            took.as_secs_f64() * 1e3
        );
        assert_eq!(server.count(), requests + 1);
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn millis(sorted: &[Duration]) -> f64 {
    sorted[sorted.len() / 2].as_secs_f64() * 1e3
}

/// A folder with so many functions.
struct Project(tempfile::TempDir);

impl Project {
    fn new(server: &Server, api: &str, window: &str, count: usize) -> Project {
        let genfile = format!(
            "version: 1\nprovider: p\nproviders: {{p: {{api: {api}, model: m, base_url: \"{}\", in_flight: 4}}}}\nrules:\n  \
             index:\n    items: src/*.py#defs\n    output: index.jsonl\n    {window}\n    embed: {{dimensions: 16}}\n",
            server.base_url()
        );
        Project::of(&genfile, count)
    }

    /// The same files, and nothing to ask.
    fn without(count: usize) -> Project {
        let project =
            Project::of("version: 1\nrules:\n  list: {inputs: [src/*.py], template: t.hbs, output: list.txt}\n", count);
        project.file("t.hbs", "{{#each inputs.[0]}}{{path}}\n{{/each}}");
        project
    }

    fn of(genfile: &str, count: usize) -> Project {
        let project = Project(tempfile::tempdir().expect("a folder"));
        fs_err::create_dir(project.0.path().join("src")).expect("a folder");
        project.file("Genfile", genfile);
        for file in 0..count.div_ceil(IN_A_FILE) {
            let mut text = String::new();
            for n in (file * IN_A_FILE..count).take(IN_A_FILE) {
                write!(text, "def f{n}(a, b):\n    \"\"\"Says {n} of both.\"\"\"\n    return a * {n} + b\n\n\n")
                    .expect("text");
            }
            project.file(&format!("src/m{file}.py"), &text);
        }
        project
    }

    fn file(&self, name: &str, text: &str) {
        fs_err::write(self.0.path().join(name), text).expect("a file");
    }

    /// Changes the first function.
    fn edit(&self, count: usize) {
        let path = self.0.path().join("src/m0.py");
        let text = fs_err::read_to_string(&path).expect("the file");
        fs_err::write(&path, text.replace("a * 0 + b", &format!("a * {count} - b"))).expect("a file");
    }

    fn run(&self, args: &[&str]) {
        let status =
            Command::new(env!("CARGO_BIN_EXE_genmake")).args(args).arg("-s").current_dir(self.0.path()).status();
        assert!(status.expect("genmake runs").success());
    }

    fn time(&self, args: &[&str]) -> Duration {
        let begun = Instant::now();
        self.run(args);
        begun.elapsed()
    }
}
