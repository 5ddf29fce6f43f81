//! What batching saves, against a provider on loopback with a fixed latency: requests, and wall time as a ratio to the same
//! tasks asked one by one in the same run. Prints; asserts only the counts.
//!
//! `cargo bench --bench batching`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]

#[path = "../tests/it/server.rs"]
mod server;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use server::Server;

const LATENCY_MS: u64 = 200;
const ROUNDS: usize = 5;

fn main() {
    println!("requests, max_batch_size 5");
    for files in [10, 20, 50] {
        let (batched, _) = build(files, 1, 0, &[]);
        let (single, _) = build(files, 1, 0, &["--no-batch"]);
        let most = files.div_ceil(5);
        assert!(batched <= most && single == files, "{files} files took {batched} and {single} requests");
        println!(
            "{files:>4} files  {batched:>3} in batches  {single:>3} one by one  ratio {:.2}",
            batched as f64 / single as f64
        );
    }
    println!("\nwall time of 20 files at {LATENCY_MS} ms a request, median of {ROUNDS} paired runs");
    for in_flight in [1, 4] {
        let mut ratios: Vec<(f64, Duration, Duration)> = (0..ROUNDS)
            .map(|_| {
                let (_, batched) = build(20, in_flight, LATENCY_MS, &[]);
                let (_, single) = build(20, in_flight, LATENCY_MS, &["--no-batch"]);
                (batched.as_secs_f64() / single.as_secs_f64(), batched, single)
            })
            .collect();
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, batched, single) = ratios[ROUNDS / 2];
        println!("in_flight {in_flight}: {batched:.2?} in batches, {single:.2?} one by one, ratio {ratio:.2}");
    }
}

/// Builds `files` pages from nothing; how many requests that took, and how long.
fn build(files: usize, in_flight: usize, latency: u64, flags: &[&str]) -> (usize, Duration) {
    let server = Server::start();
    server.latency(latency);
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| fs_err::write(Path::new(dir.path()).join(name), text).expect("a file");
    let entities: String = (0..files).map(|i| format!("  e{i}: {{text: about {i}}}\n")).collect();
    put("spec.yaml", &format!("entities:\n{entities}"));
    put("page.prompt", "{{role \"system\"}}\nBe brief.\n{{role \"user\"}}\nWrite about {{item.value.text}}.\n");
    put(
        "Genfile",
        &format!(
            "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: '{}', in_flight: {in_flight}}}}}\n\
             rules:\n  pages: {{foreach: 'spec.yaml#/entities/*', prompt: page.prompt, output: '{{{{item.key}}}}.md'}}\n",
            server.base_url()
        ),
    );
    let begun = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_genmake")).arg("-s").args(flags).current_dir(dir.path()).status();
    let took = begun.elapsed();
    assert!(status.expect("genmake runs").success(), "the build failed");
    (server.count(), took)
}
