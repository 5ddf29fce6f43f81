//! The examples as a newcomer finds them: they load, and what is committed is up to date without a model.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::project::Project;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// A copy of an example in a folder of its own, without `.genmake`.
pub fn copy(name: &str) -> Project {
    let mut project = Project::new();
    let root = example(name);
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let relative = path.strip_prefix(&root).expect("below").to_str().expect("Unicode").to_owned();
            match path.is_dir() {
                true if relative == ".genmake" => {}
                true => folders.push(path),
                false => project = project.file(&relative, &fs_err::read_to_string(&path).expect("text")),
            }
        }
    }
    project
}

#[test]
fn the_tour_loads() {
    let genfile = Path::new(env!("CARGO_MANIFEST_DIR")).join("Genfile.example");
    let project = copy("tour").file("Genfile", &fs_err::read_to_string(genfile).expect("the tour"));
    let run = project.run(["plan", "--format", "json"]);
    let plan = run.stdout_json();
    assert!(
        plan["targets"].as_array().is_some_and(|targets| targets.iter().all(|t| t["status"] != "failed")),
        "{plan:#}"
    );
    run.exits(0);
}

#[test]
fn the_quickstart_is_three_templates_and_six_pages_in_two_requests() {
    let project = copy("quickstart");
    for made in ["Genfile.lock", ".gitignore", "Makefile", "docs"] {
        if project.exists(made) {
            project.remove(made);
        }
    }
    let run = project.run(["plan", "--format", "json"]);
    let plan = run.stdout_json();
    let count =
        |action: &str| plan["targets"].as_array().expect("targets").iter().filter(|t| t["action"] == action).count();
    assert_eq!((count("render"), count("generate"), &plan["requests"]), (3, 6, &2.into()));
    run.exits(0);
}

#[test]
fn what_examples_commit_is_up_to_date() {
    genmake::assert_fresh!("examples/build-script/Genfile");
    genmake::assert_fresh!("examples/code-index/Genfile");
    genmake::assert_fresh!("examples/roadmap/Genfile");
    genmake::assert_fresh!("examples/shop/Genfile");
    genmake::assert_fresh!("examples/vocabulary/Genfile");
}

#[test]
fn the_shop_is_up_to_date_without_a_model() {
    let project = copy("shop");
    project.run(["check"]).stdout(expect_test::expect![[""]]).exits(0);
    project.run(["--frozen"]).exits(0);

    let spec = project.read("spec/shop.yaml");
    let edited = spec.replacen("A product is one thing", "A product is any thing", 1);
    assert_ne!(spec, edited);
    project.edit("spec/shop.yaml", &edited);
    let run = project.run(["check"]);
    run.stdout_has("docs/product.md").stdout_has("internal/models/product.go").exits(1);
    project.run(["--frozen"]).exits(2);
}

#[test]
fn the_code_index_is_up_to_date_without_a_model() {
    let project = copy("code-index");
    project.run(["check"]).stdout(expect_test::expect![[""]]).exits(0);
    project.run(["--frozen"]).exits(0);
    let sources: Vec<String> = ["markdown", "site", "tables", "templates", "words"]
        .map(|name| project.read(&format!("sitekit/{name}.py")))
        .into();
    let defines = |line: &&str| ["def ", "class "].iter().any(|word| line.trim_start().starts_with(word));
    // What a function defines within itself has no row of its own.
    let defined = sources.iter().flat_map(|text| text.lines()).filter(defines).count() - 2;
    let index = project.read("code-index.jsonl");
    let rows: Vec<Value> = index.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), defined);
    for row in &rows {
        let vector = row["vector"].as_array().unwrap_or_else(|| panic!("{row}"));
        assert!(vector.len() == 384 && vector.iter().all(Value::is_f64), "{row}");
        assert!(row["line"].is_u64() && row["name"].is_string(), "{row}");
    }

    // The vectors of all others are those that stand there: this is a clone, and has no store.
    project.remove(".genmake");
    let words = project.read("sitekit/words.py");
    project.edit("sitekit/words.py", &words.replacen("at least one", "one at least", 1));
    project.run(["check"]).stdout_has("code-index.jsonl").exits(1);
    let plan = project.run(["plan", "--format", "json"]).stdout_json();
    let texts: Vec<usize> = plan["batches"]
        .as_array()
        .expect("requests")
        .iter()
        .filter_map(|r| Some(r["outputs"].as_array()?.len()))
        .collect();
    assert_eq!((texts, &plan["requests"]), (vec![1], &1.into()));
    project.run(["--frozen"]).exits(2);
}

/// A project that is up to date as it is committed: no store, no server. The rows of its output.
fn rows_as_committed(name: &str, output: &str) -> (Project, Vec<serde_json::Value>) {
    let project = copy(name);
    assert!(!project.exists(".genmake"));
    project.run(["check"]).stdout(expect_test::expect![[""]]).exits(0);
    project.run(["--frozen"]).stderr_has("nothing to do").exits(0);
    let rows = serde_json::from_str(&project.read(output)).expect("a list");
    (project, rows)
}

/// How many requests a plan would send.
fn planned_requests(project: &Project) -> u64 {
    let run = project.run(["plan", "--format", "json"]);
    let requests = run.stdout_json()["requests"].as_u64().expect("a number");
    run.exits(0);
    requests
}

#[test]
fn the_vocabulary_is_two_hundred_items_and_each_word_once() {
    let (project, rows) = rows_as_committed("vocabulary", "words.json");
    let words = genmake::yaml::data(&project.read("data/words.yaml")).expect("YAML");
    let words = words["words"].as_array().expect("words");
    assert_eq!(words.len(), 200);
    let given: HashSet<&str> = rows.iter().filter_map(|row| row["word"].as_str()).collect();
    assert_eq!(given.len(), rows.len(), "a word is there twice");
    assert!((150..=196).contains(&rows.len()), "{} rows", rows.len());
    for row in &rows {
        let fields: Vec<&String> = row.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["word", "sentence", "level"], "{row}");
        assert!(row["sentence"].as_str().is_some_and(|text| !text.is_empty()) && row["level"] == "A1", "{row}");
    }
    // One word that changes, and all of them.
    project.edit("data/words.yaml", &project.read("data/words.yaml").replacen("sweet white grains", "sweet grains", 1));
    project.run(["check"]).stdout_has("words.json").exits(1);
    project.remove("Genfile.lock").remove("words.json");
    assert_eq!(planned_requests(&project), 40);
}

#[test]
fn the_roadmap_is_twelve_weeks_in_order() {
    let (project, rows) = rows_as_committed("roadmap", "roadmap.json");
    assert_eq!(rows.len(), 12);
    for row in &rows {
        let fields: Vec<&String> = row.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["week", "title", "goal"], "{row}");
    }
    let weeks: Vec<u64> = rows.iter().filter_map(|row| row["week"].as_u64()).collect();
    assert_eq!(weeks, (1..=12).collect::<Vec<_>>());
    project.remove("Genfile.lock").remove("roadmap.json");
    assert_eq!(planned_requests(&project), 4);
}

/// Genfiles of this repository, and the rules of packs.
fn genfiles() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("Genfile.example"), root.join("rules/starter.yaml")];
    let examples = fs_err::read_dir(root.join("examples")).expect("a folder");
    let genfile = examples.map(|entry| entry.expect("an entry").path().join("Genfile"));
    found.extend(genfile.filter(|path| path.exists()));
    found
}

#[test]
fn every_genfile_fits_the_schema_that_editors_get() {
    let run = Project::new().run(["schema"]);
    let schema = run.stdout_json();
    run.exits(0);
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let all = genfiles();
    assert!(all.len() >= 6, "{all:?}");
    for path in all {
        let text = fs_err::read_to_string(&path).expect("text");
        let genfile = genmake::yaml::data(&text).expect("YAML");
        let wrong: Vec<String> =
            validator.iter_errors(&genfile).map(|e| format!("{} at {}", e, e.instance_path())).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{}", path.display());
    }
    for wrong in [
        r#"{"rules": {}}"#,
        r#"{"version": 1, "rules": {"a": {"tempalte": "x"}}}"#,
        r#"{"version": 1, "rules": {"a": {"retries": -1}}}"#,
        r#"{"version": 1, "rules": {"a": {"check": "jsn"}}}"#,
        r#"{"version": 1, "rules": {"a": {"inputs": "x"}}}"#,
    ] {
        assert!(!validator.is_valid(&serde_json::from_str(wrong).expect("JSON")), "{wrong}");
    }
}
