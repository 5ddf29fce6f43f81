//! The hooks for pre-commit, through pre-commit.

use std::path::Path;

use crate::clients::client;
use crate::project::Project;
use crate::server::Server;

const GENFILE: &str = r#"
version: 1
provider: p
providers:
  p: { api: openai, base_url: "{base_url}", model: m }
rules:
  index: { template: t.hbs, inputs: [a.txt], output: out.txt }
  page: { prompt: page.prompt, inputs: [b.txt], output: page.md }
"#;

/// A project that has our hooks, and pre-commit's own program.
fn project(hook: &str) -> Option<(Project, Server, String)> {
    let pre_commit = client("pre-commit")?.display().to_string();
    let server = Server::start();
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join(".pre-commit-hooks.yaml");
    let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    let project = who.iter().fold(Project::new(), |project, name| project.env(name, "me"));
    let project = project
        .genfile_for(&server, GENFILE)
        .file("t.hbs", "{{inputs.[0].text}}")
        .file("page.prompt", "Write of {{inputs.[0].text}}")
        .file("a.txt", "one\n")
        .file("b.txt", "two\n");
    project.run(["-s"]).exits(0);
    let url = project.path(".hooks").display().to_string();
    let line = format!(
        "git init -q .hooks && cp '{}' .hooks/ && cd .hooks && git add -A && git commit -qm hooks && git rev-parse HEAD",
        hooks.display()
    );
    let revision = project.shell(&line).trim().to_owned();
    // The language is the only thing that is not as it is for others: a Python package is installed from a registry.
    let config = format!(
        "repos:\n  - repo: '{url}'\n    rev: {revision}\n    hooks:\n      - id: {hook}\n        language: system\n"
    );
    let project = project.file(".pre-commit-config.yaml", &config).file(".gitignore", ".hooks/\n");
    project.shell("git init -q -b main && git add -A && git commit -qm one");
    Some((project, server, pre_commit))
}

#[test]
fn our_manifest_is_valid() {
    let Some(pre_commit) = client("pre-commit") else { return };
    let root = env!("CARGO_MANIFEST_DIR");
    let p = Project::new();
    let said =
        p.shell(&format!("'{}' validate-manifest '{root}/.pre-commit-hooks.yaml'; echo $?", pre_commit.display()));
    assert_eq!(said, "0\n");
    let manifest = fs_err::read_to_string(Path::new(root).join(".pre-commit-hooks.yaml")).expect("a manifest");
    let hooks = genmake::yaml::data(&manifest).expect("YAML");
    for hook in hooks.as_array().expect("a list") {
        let keys = ["always_run", "pass_filenames", "require_serial"].map(|key| hook[key].as_bool());
        assert_eq!((hook["language"].as_str(), keys), (Some("python"), [Some(true), Some(false), Some(true)]));
    }
}

#[test]
fn a_commit_is_refused_until_what_is_made_is_up_to_date() {
    let Some((p, server, pre_commit)) = project("genmake-check") else { return };
    let said = p.shell(&format!("'{pre_commit}' install && git commit --allow-empty -qm two; echo $?"));
    assert!(said.contains("generated files are up to date") && said.ends_with("Passed\n0\n"), "{said}");
    p.edit("a.txt", "uno\n");
    let said = p.shell("git commit -qam three; echo $?");
    assert!(said.contains("Failed") && said.contains("stale  out.txt") && said.ends_with("\n1\n"), "{said}");
    // What is not staged is put aside by pre-commit, so the plain check judges what is committed.
    p.shell("genmake -s");
    let said = p.shell("git add a.txt; git commit -qm three; echo $?");
    assert!(said.contains("Failed") && said.ends_with("\n1\n"), "{said}");
    p.edit("b.txt", "not staged\n");
    let said = p.shell("git add out.txt Genfile.lock && git commit -qm three; echo $?; git status --short");
    assert!(said.contains("Passed") && said.ends_with("0\n M b.txt\n"), "{said}");
    assert_eq!(server.requests().len(), 1, "the build's before");
}

#[test]
fn the_hook_that_builds_asks_no_model() {
    let Some((p, server, pre_commit)) = project("genmake-build") else { return };
    p.edit("a.txt", "uno\n");
    let said = p.shell(&format!(
        "git add -A; '{pre_commit}' run; echo $?; '{pre_commit}' run; git add -A; '{pre_commit}' run; echo $?"
    ));
    assert!(said.contains("files were modified by this hook") && said.ends_with("Passed\n0\n"), "{said}");
    assert_eq!(p.read("out.txt"), "uno\n");
    p.edit("b.txt", "another\n");
    let said = p.shell(&format!("git add -A; '{pre_commit}' run; echo $?"));
    assert!(said.contains("genmake::offline") && said.ends_with("\n1\n"), "{said}");
    // What the store holds is taken out of it.
    p.shell("git checkout -q HEAD b.txt && rm page.md && genmake -s && rm page.md");
    let said = p.shell(&format!("git add -A; '{pre_commit}' run; git add -A; '{pre_commit}' run; echo $?"));
    assert!(said.ends_with("Passed\n0\n"), "{said}");
    assert_eq!(server.requests().len(), 1, "the build's before");
}
