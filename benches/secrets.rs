//! How fast a text is searched for credentials: documentation, source code, and texts that begin like a credential all over.
//! Prints megabytes in a second of one core; asserts nothing of them.
//!
//! `cargo bench --bench secrets`

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a program that prints, and fails by panic")]

use std::path::Path;
use std::time::Instant;

use genmake::secrets;

const ROUNDS: usize = 5;

fn main() {
    let begun = Instant::now();
    secrets::find("x").expect("the forms compile");
    println!("the first search, with compiling the forms: {:.1?}", begun.elapsed());
    let texts = [
        ("documentation of genmake", folder("docs", "md")),
        ("sources of genmake", folder("src/plan", "rs") + &folder("src/engine", "rs") + &folder("src/graph", "rs")),
        (
            "Cargo.lock, with a digest a package",
            read(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock").as_path()),
        ),
        ("a data image, base64", "iVBORw0KGgoAAAANSUhEUgAAAAUAAAAFCAYAAACNbyblAAAAHElEQVQI12P4".repeat(16)),
        ("settings, each a name of a secret", "A_TOKEN=access-token-v2\npassword: \"hunter2\"\n".to_owned()),
        ("beginnings of tokens", "sk- ghp_ eyJ.eyJ. AKIA https://a:b xoxb- ".to_owned()),
        ("a token in each line", format!("key: {}{}\n", "AKIA", "Q3EGVZ5XWN7RKJ2M")),
    ];
    for (what, text) in texts {
        // A megabyte of each.
        let text = text.repeat((1 << 20) / text.len().max(1) + 1);
        let mut best = f64::MAX;
        let mut found = 0;
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            found = secrets::find(&text).expect("the forms compile").len();
            best = best.min(begun.elapsed().as_secs_f64());
        }
        println!(
            "{what}: {:.0} MB/s, {found} found in {:.1} MB",
            text.len() as f64 / best / 1e6,
            text.len() as f64 / 1e6
        );
    }
}

/// All files of a folder of this repository with that extension, one after the other.
fn folder(name: &str, ext: &str) -> String {
    let entries =
        fs_err::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("a folder of the repository");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().filter(|path| path.extension().is_some_and(|it| it == ext)).map(|path| read(path)).collect()
}

fn read(path: &Path) -> String {
    fs_err::read_to_string(path).expect("a file of the repository")
}
