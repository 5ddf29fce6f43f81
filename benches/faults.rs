//! A run over 1,000 tasks in which one request of ten meets a fault, of every kind: requests beside those of a run without faults.
//! The server counts, and notes what is asked for again although its result had gone out whole. Prints, and asserts what is claimed.
//!
//! `cargo bench --bench faults`, or with seeds: `cargo bench --bench faults -- 1 2 3`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]

#[path = "../tests/it/server/mod.rs"]
mod server;

use std::fmt::Write;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use server::{Act, Recorded, Server};

const TASKS: usize = 1_000;

/// The time that a request takes.
const LATENCY_MS: u64 = 20;

fn main() {
    let seeds: Vec<u64> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let seeds = if seeds.is_empty() { (1..=5).collect() } else { seeds };
    let (faultless, base, _) = build(|_, _| None);
    println!("{TASKS} tasks, max_batch_size 5, in_flight 4, {LATENCY_MS} ms a request");
    println!("without faults: {faultless} requests, {base:.1?}");
    for seed in seeds {
        let met = Arc::new(Mutex::new(0));
        let meets = Arc::clone(&met);
        let (requests, took, twice) = build(move |number, request| {
            let act = fault(seed, number, request)?;
            *meets.lock().expect("no panic under it") += 1;
            Some(act)
        });
        let met = *met.lock().expect("nor here");
        let ratio = requests as f64 / faultless as f64;
        println!(
            "seed {seed}: {met} faults, {requests} requests, ratio {ratio:.3}, {took:.1?}, asked for twice: {}",
            twice.len()
        );
        assert!(ratio <= 1.25 && twice.is_empty(), "{twice:?}");
    }
}

/// What goes wrong with a request: with one of ten something, of every kind as often.
fn fault(seed: u64, number: usize, request: &Recorded) -> Option<Act> {
    let random = random(seed, number as u64);
    let kind = usize::try_from(random / 10).unwrap_or(0);
    server::fault(kind, request).filter(|_| random.is_multiple_of(10))
}

/// splitmix64.
fn random(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) >> 1
}

/// Builds all pages from nothing, where requests meet what `choose` says: how many requests that took, how long, and which tasks
/// were asked for again for nothing.
fn build(choose: impl Fn(usize, &Recorded) -> Option<Act> + Send + Sync + 'static) -> (usize, Duration, Vec<String>) {
    let server = Server::start();
    server.latency(LATENCY_MS).each(choose);
    let dir = tempfile::tempdir().expect("a folder");
    let put = |name: &str, text: &str| fs_err::write(dir.path().join(name), text).expect("a file");
    let mut spec = "entities:\n".to_owned();
    for i in 0..TASKS {
        let _ = writeln!(spec, "  e{i}: {{text: about {i}}}");
    }
    put("spec.yaml", &spec);
    put("page.prompt", "{{role \"system\"}}\nBe brief.\n{{role \"user\"}}\nWrite about {{item.value.text}}.\n");
    put(
        "Genfile",
        &format!(
            "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: '{}', in_flight: 4}}}}\n\
             rules:\n  pages: {{foreach: 'spec.yaml#/entities/*', prompt: page.prompt, output: 'out/{{{{item.key}}}}.md'}}\n",
            server.base_url()
        ),
    );
    let begun = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_genmake")).arg("-s").current_dir(dir.path()).status();
    let took = begun.elapsed();
    assert!(status.expect("genmake runs").success(), "the build failed");
    let made = fs_err::read_dir(dir.path().join("out")).expect("the pages").count();
    assert_eq!(made, TASKS, "all pages are made");
    (server.count(), took, server.asked_twice())
}
