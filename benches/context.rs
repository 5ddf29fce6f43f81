//! What related context saves on examples/clinic, whose specification has fifty entities: tokens of the prompts with it and
//! with the whole specification in each, as `genmake plan` estimates them, and the time that the plan takes. Prints; asserts
//! only the share.
//!
//! `cargo bench --bench context`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

const ROUNDS: usize = 5;
const RELATED_TO: &str = "related_to: \"{{item.key}}\"";

fn main() {
    let genfile = read("Genfile");
    assert!(genfile.contains(RELATED_TO), "the example has another rule");
    let no_limit = genfile.replace("max_share: 0.25", "max_share: 1");
    let whole = no_limit.replace(RELATED_TO, "");
    // The whole specification is the same for all tasks, so batches would send it once; here each prompt is seen alone.
    println!("tokens of 50 prompts, one entity each");
    let (with, took_with) = plan("related, depth 1", &genfile);
    plan("related, depth 2", &no_limit.replace("depth: 1", "depth: 2"));
    let (without, took_without) = plan("the whole specification", &whole);
    let saved = 1.0 - with as f64 / without as f64;
    assert!(saved >= 0.5, "only {saved:.2} is saved");
    println!("saved: {:.0} %", saved * 100.0);
    println!("plan, median of {ROUNDS} runs: {took_with:.1?} with it, {took_without:.1?} with the whole specification");
}

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/clinic").join(name);
    fs_err::read_to_string(path).expect("a file of the example")
}

/// Plans the example with this Genfile: the tokens of all prompts, and how long it took.
fn plan(what: &str, genfile: &str) -> (u64, Duration) {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["spec/clinic.yaml", "prompts/page.prompt"] {
        let path = dir.path().join(name);
        fs_err::create_dir_all(path.parent().expect("a folder above")).expect("a folder");
        fs_err::write(path, read(name)).expect("a file");
    }
    fs_err::write(dir.path().join("Genfile"), genfile).expect("a file");
    let mut times = Vec::with_capacity(ROUNDS);
    let mut output = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_genmake"));
        command.args(["plan", "--no-batch", "--format", "json"]).current_dir(dir.path());
        let run = command.output().expect("genmake runs");
        times.push(begun.elapsed());
        assert!(run.status.success(), "the plan failed");
        output = run.stdout;
    }
    times.sort();
    let plan: Value = serde_json::from_slice(&output).expect("JSON");
    let prompts = plan["batches"].as_array().expect("requests");
    let tokens = prompts.iter().filter_map(|prompt| prompt["input_tokens"].as_u64());
    assert_eq!(prompts.len(), 50);
    let (total, most) = (tokens.clone().sum::<u64>(), tokens.max().unwrap_or_default());
    println!("{what:>24}: {total:>7} in all, {most:>5} in the largest");
    (total, times[ROUNDS / 2])
}
