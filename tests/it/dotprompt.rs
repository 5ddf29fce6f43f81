//! Prompt files by themselves, against cases in the YAML form of the format's own test suite: a template, its partials and
//! schemas, and for each test the data and the whole result that it must give.
//!
//! `tests/dotprompt/` has cases of ours, which always run. `GENMAKE_DOTPROMPT_SPEC` may name a folder with more, such as `spec/`
//! of <https://github.com/google/dotprompt>; then these are run too.

use std::path::{Path, PathBuf};

use genmake::prompt::{Data, Dotprompt};
use genmake::yaml;
use serde_json::{Map, Value, json};

/// A test of a case: where it stands, and what differs from what it wants.
struct Outcome {
    name: String,
    wrong: Result<(), String>,
}

fn run(folder: &Path) -> Vec<Outcome> {
    let mut files = Vec::new();
    collect(folder, &mut files);
    files.sort();
    assert!(!files.is_empty(), "no cases in {}", folder.display());
    files.iter().flat_map(|file| run_file(folder, file)).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs_err::read_dir(folder).expect("a folder of cases") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => collect(&path, files),
            false if path.extension().is_some_and(|ext| ext == "yaml") => files.push(path),
            false => {}
        }
    }
}

fn run_file(folder: &Path, file: &Path) -> Vec<Outcome> {
    let text = fs_err::read_to_string(file).expect("a file of cases");
    let name = file.strip_prefix(folder).expect("below its folder").display().to_string();
    let cases = yaml::data(&text).unwrap_or_else(|e| panic!("{name}: {}", e.message));
    let mut outcomes = Vec::new();
    for case in cases.as_array().expect("a list of cases") {
        for (at, test) in case["tests"].as_array().expect("a case has tests").iter().enumerate() {
            let desc = test["desc"].as_str().unwrap_or_default();
            let name = format!("{name} {} {} ({desc})", case["name"].as_str().unwrap_or_default(), at + 1);
            outcomes.push(Outcome { name, wrong: run_test(case, test) });
        }
    }
    outcomes
}

fn run_test(case: &Value, test: &Value) -> Result<(), String> {
    let map = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let template = case["template"].as_str().expect("a case has a template");
    let mut prompt = Dotprompt::parse("case.prompt", template, &map(&case["schemas"]))
        .map_err(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    prompt.metadata.extend(map(&test["options"]));
    let mut partials = map(&case["partials"]);
    partials.extend(map(&case["resolverPartials"]));
    let partials: Vec<(String, String)> =
        partials.iter().map(|(name, text)| (name.clone(), text.as_str().unwrap_or_default().to_owned())).collect();
    let mut data = map(&case["data"]);
    data.extend(map(&test["data"]));
    let mut rendered = prompt.render(&partials, &Data::new(data.into())?).map_err(|e| e.to_string())?;
    let raw = rendered.remove("raw");
    let mut wanted = Map::from_iter(["ext", "config", "metadata"].map(|name| (name.to_owned(), json!({}))));
    wanted.extend(map(&test["expect"]));
    let wanted_raw = wanted.remove("raw");
    if wanted_raw.is_some() && wanted_raw != raw {
        return Err(format!("wanted raw {wanted_raw:?}\ngot    raw {raw:?}"));
    }
    if rendered != wanted {
        return Err(format!("wanted {}\ngot    {}", Value::from(wanted), Value::from(rendered)));
    }
    Ok(())
}

#[track_caller]
fn all_pass(outcomes: &[Outcome]) {
    let wrong: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| outcome.wrong.as_ref().err().map(|why| format!("{}\n{why}\n", outcome.name)))
        .collect();
    assert!(wrong.is_empty(), "{} of {} fail:\n\n{}", wrong.len(), outcomes.len(), wrong.join("\n"));
}

#[test]
fn our_own_cases() {
    all_pass(&run(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dotprompt")));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whoever runs the tests names the folder")]
fn the_cases_of_another_folder() {
    if let Some(folder) = std::env::var_os("GENMAKE_DOTPROMPT_SPEC") {
        all_pass(&run(Path::new(&folder)));
    }
}
