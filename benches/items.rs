//! How the time of a plan grows with the number of items, for each form of foreach: ten times the items should take about ten
//! times as long. Prints; asserts nothing.
//!
//! `cargo bench --bench items`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [1_000, 10_000, 40_000];
const ROUNDS: usize = 3;

/// A foreach, the output of one task, and the file that it runs over as a function of the number of items.
type Form = (&'static str, &'static str, &'static str, fn(&Path, usize));

const FORMS: [Form; 5] = [
    ("map of YAML", "d.yaml#/items/*", "{{item.key}}", |dir, n| {
        write(dir, "d.yaml", "items:\n", n, |text, i| writeln!(text, "  k{i}: {{v: {i}}}"));
    }),
    ("rows of CSV", "d.csv#/*", "{{item.value.id}}", |dir, n| {
        write(dir, "d.csv", "id,v\n", n, |text, i| writeln!(text, "{i},{i}"));
    }),
    ("sections", "d.md#sections", "{{item.key}}", |dir, n| {
        write(dir, "d.md", "", n, |text, i| writeln!(text, "# s{i}\n\ntext {i}\n"));
    }),
    ("definitions", "d.py#defs", "{{item.name}}", |dir, n| {
        write(dir, "d.py", "", n, |text, i| writeln!(text, "def f{i}():\n    return {i}\n"));
    }),
    ("files of a glob", "in/*.txt", "{{item.stem}}", |dir, n| {
        fs_err::create_dir_all(dir.join("in")).expect("a folder");
        (0..n).for_each(|i| fs_err::write(dir.join(format!("in/{i}.txt")), i.to_string()).expect("a file"));
    }),
];

fn main() {
    println!("seconds of `genmake plan`, best of {ROUNDS} runs; per item as a ratio to {} items", SIZES[0]);
    for (what, foreach, output, fill) in FORMS {
        let mut first = 0.0;
        for size in SIZES {
            let dir = tempfile::tempdir().expect("a folder");
            let genfile = format!(
                "version: 1\nrules:\n  a: {{foreach: \"{foreach}\", template: t.hbs, output: \"out/{output}\"}}\n"
            );
            fs_err::write(dir.path().join("Genfile"), genfile).expect("a file");
            fs_err::write(dir.path().join("t.hbs"), "{{json item}}\n").expect("a file");
            fill(dir.path(), size);
            let best = (0..ROUNDS).map(|_| plan(dir.path())).min().unwrap_or_default();
            let each = best.as_secs_f64() / size as f64;
            if first == 0.0 {
                first = each;
            }
            println!("{what:>16} {size:>6}: {:>6.3} s  {:.2}", best.as_secs_f64(), each / first);
        }
    }
}

fn write(dir: &Path, name: &str, head: &str, n: usize, line: fn(&mut String, usize) -> std::fmt::Result) {
    let mut text = head.to_owned();
    (0..n).for_each(|i| line(&mut text, i).expect("a string takes it"));
    fs_err::write(dir.join(name), text).expect("a file");
}

fn plan(dir: &Path) -> Duration {
    let begun = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_genmake"));
    let status = command.arg("plan").current_dir(dir).stdout(Stdio::null()).status().expect("genmake runs");
    assert!(status.success(), "the plan failed");
    begun.elapsed()
}
