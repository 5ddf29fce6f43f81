//! The example of a crate with a build script, built by cargo itself: offline, out of a copy, with genmake without its features.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::examples::copy;
use crate::project::Project;

/// A copy of the example that takes genmake from here, and the versions of all else from its lock.
fn units() -> Project {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let units = copy("build-script");
    let manifest = units.read("Cargo.toml").replace("\"../..\"", &format!("{:?}", here.to_str().expect("Unicode")));
    let lock = fs_err::read_to_string(here.join("Cargo.lock")).expect("a lock");
    units.file("Cargo.toml", &manifest).file("Cargo.lock", &lock)
}

/// What cargo did.
struct Built {
    is_good: bool,
    stdout: String,
    stderr: String,
}

#[allow(clippy::disallowed_methods, reason = "what cargo told this test")]
fn cargo(project: &Project, args: &[&str], env: &[(&str, &str)]) -> Built {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo tells a test is not for another cargo.
    for (name, _) in std::env::vars_os() {
        let of_cargo = name.to_string_lossy().starts_with("CARGO_") && name != "CARGO_HOME";
        if of_cargo || name == "RUSTFLAGS" {
            cargo.env_remove(name);
        }
    }
    // One folder for all runs, so that genmake is compiled once; and once for script and test, which differ in what a debugger gets.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("build-script");
    cargo.env("CARGO_TARGET_DIR", target).env("CARGO_PROFILE_DEV_DEBUG", "0").envs(env.iter().copied());
    let output = cargo.args(args).arg("--offline").current_dir(project.root()).output().expect("cargo");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Built { is_good: output.status.success(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Builds, and says whether anything was compiled, and where the script writes.
fn build(project: &Project, env: &[(&str, &str)]) -> (bool, PathBuf) {
    let built = cargo(project, &["build", "--message-format", "json"], env);
    assert!(built.is_good, "{}", built.stderr);
    let messages: Vec<Value> = built.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of_units = |message: &&Value| message["package_id"].as_str().is_some_and(|id| id.contains("units"));
    let library = |message: &&Value| message["target"]["kind"][0] == "lib";
    let compiled = messages.iter().filter(of_units).find(library).expect("a library");
    let script = messages.iter().filter(of_units).find(|message| message["out_dir"].is_string()).expect("a script");
    (compiled["fresh"] == false, PathBuf::from(script["out_dir"].as_str().expect("a path")))
}

/// All files of a crate that are not cargo's.
fn sources(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let mut all = project.everything();
    all.remove("Cargo.lock");
    all
}

#[test]
fn cargo_builds_tests_and_packages_the_example() {
    let project = units();
    let before = sources(&project);
    let tested = cargo(&project, &["test"], &[]);
    assert!(tested.is_good && tested.stdout.contains("the_pages_are_up_to_date ... ok"), "{}", tested.stderr);
    assert!(!build(&project, &[]).0, "nothing changed");
    assert_eq!(sources(&project), before);

    // A template moves what is compiled.
    project.edit("templates/table.rs.hbs", &project.read("templates/table.rs.hbs").replace("All units", "Every unit"));
    let (compiled, out_dir) = build(&project, &[]);
    assert!(compiled);
    let table = fs_err::read_to_string(out_dir.join("table.rs")).expect("what was rendered");
    assert!(table.starts_with("/// Every unit") && table.contains("(\"inch\", \"in\", 0.0254)"), "{table}");
    assert!(!build(&project, &[]).0, "nothing changed");

    // So does a file that comes to be in the folder of a glob, and a variable that a rule names; what is rendered no more is gone.
    project.edit(
        "build.Genfile",
        &project.read("build.Genfile").replace("table:", "more:\n    foreach: spec/more/*.yaml\n    output: \"{{item.stem}}.txt\"\n    template: templates/more.hbs\n    env: [UNITS]\n\n  table:"),
    );
    project
        .edit("templates/more.hbs", "{{item.data.name}} {{default env.UNITS \"none\"}}\n")
        .edit("spec/more/ell.yaml", "name: ell\n");
    assert!(build(&project, &[]).0);
    assert!(!build(&project, &[]).0, "nothing changed");
    assert_eq!(fs_err::read_to_string(out_dir.join("ell.txt")).expect("rendered"), "ell none\n");
    project.edit("spec/more/foot.yaml", "name: foot\n").remove("spec/more/ell.yaml");
    assert!(build(&project, &[("UNITS", "old")]).0);
    assert_eq!(fs_err::read_to_string(out_dir.join("foot.txt")).expect("rendered"), "foot old\n");
    assert!(!out_dir.join("ell.txt").exists());
    assert!(build(&project, &[("UNITS", "new")]).0);
    assert!(!build(&project, &[("UNITS", "new")]).0, "nothing changed");

    // What a model wrote is not up to date: the build says what to run, and that is all it does.
    let spec = project.read("spec/units.yaml");
    project.edit("spec/units.yaml", &spec.replace("one stride", "one step"));
    let before = sources(&project);
    let failed = cargo(&project, &["build"], &[]);
    let root = fs_err::canonicalize(project.root()).expect("a folder");
    let said = [
        "error: units@0.1.0: docs/metre.md is stale: input changed\n".to_owned(),
        format!(
            "error: units@0.1.0: 1 target is not up to date: run `genmake -C {}` and commit what it makes\n",
            root.display()
        ),
    ];
    assert!(!failed.is_good && failed.stderr.contains(&said.concat()), "{}", failed.stderr);
    assert_eq!(sources(&project), before);
    project.edit("spec/units.yaml", &spec).edit("Genfile", "version: 1\nruls: {}\n");
    let failed = cargo(&project, &["build"], &[]);
    assert!(!failed.is_good && failed.stderr.contains("error: units@0.1.0: Genfile:2:1: "), "{}", failed.stderr);

    // Out of a package it builds as well: cargo looks whether the script leaves the sources alone.
    let project = units();
    let patch = format!("patch.crates-io.genmake.path={:?}", env!("CARGO_MANIFEST_DIR"));
    let packaged = cargo(&project, &["package", "--allow-dirty", "--config", &patch], &[]);
    assert!(packaged.is_good && packaged.stderr.contains("Verifying units"), "{}", packaged.stderr);
    let listed = cargo(&project, &["package", "--allow-dirty", "--list", "--config", &patch], &[]).stdout;
    let needed =
        ["Genfile", "Genfile.lock", "build.Genfile", "docs/inch.md", "prompts/page.prompt", "templates/table.rs.hbs"];
    assert!(needed.iter().all(|path| listed.lines().any(|line| line == *path)), "{listed}");
    assert!(!listed.contains(".genmake"), "{listed}");
}

/// What the test helper says against a project; nothing if all is well.
fn against(project: &Project, genfile: &str) -> Option<String> {
    let root = project.root();
    let judge = AssertUnwindSafe(|| genmake::build_script::assert_fresh(root.to_str().expect("Unicode"), genfile));
    let said = catch_unwind(judge).err()?;
    Some(said.downcast_ref::<String>().expect("a text").clone())
}

#[test]
fn a_test_says_what_is_stale_and_what_to_run() {
    let project = copy("build-script");
    assert_eq!(against(&project, "Genfile"), None);
    let root = fs_err::canonicalize(project.root()).expect("a folder");
    project.edit("docs/inch.md", "An inch is short.").remove("docs/metre.md");
    let said = format!(
        "docs/metre.md is stale: output missing: docs/metre.md\n\
         docs/inch.md is edited: edited by hand\n\
         2 targets are not up to date: run `genmake -C {}` and commit what it makes",
        root.display()
    );
    let before = project.everything();
    assert_eq!(against(&project, "Genfile"), Some(said));
    let said = against(&project, "build.Genfile").expect("what is not committed");
    assert!(
        said.contains("table.rs is stale: new") && said.contains(&format!("run `genmake -f {}", root.display())),
        "{said}"
    );
    let said = against(&project, "nowhere/Genfile").expect("no Genfile");
    assert!(said.contains("is not there") && said.contains("hint: "), "{said}");
    assert_eq!(project.everything(), before);
}
