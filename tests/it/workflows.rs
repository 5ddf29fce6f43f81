//! The workflows of docs/ci: their commands are run, and what they may do is looked at.

use std::path::Path;

use serde_json::Value;

use crate::project::Project;
use crate::server::Server;

const GENFILE: &str = "\
version: 1
provider: p
providers:
  p: { api: anthropic, base_url: \"{base_url}\", model: claude-sonnet-4-5, key_env: ANTHROPIC_API_KEY }
rules:
  index: { output: index.md, template: index.hbs }
  page: { output: page.md, prompt: page.prompt }
";

fn workflow(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ci").join(name);
    let text = fs_err::read_to_string(file).expect("the workflow");
    serde_yaml::from_str(&text).expect("YAML")
}

/// The commands of a job, a line each.
fn commands(job: &Value) -> Vec<String> {
    let steps = job["steps"].as_array().into_iter().flatten().filter_map(|step| step["run"].as_str());
    let script = job["script"].as_array().into_iter().flatten().filter_map(Value::as_str);
    steps.chain(script).flat_map(str::lines).map(|line| line.trim().to_owned()).collect()
}

/// What a job's genmake says, one text; its lines are those of `commands` that call it.
fn run(p: &Project, job: &Value) -> String {
    let lines: Vec<String> = commands(job).into_iter().filter(|line| line.starts_with("genmake ")).collect();
    assert!(!lines.is_empty(), "a job without genmake");
    p.shell(&format!("set -e\n{}\necho all is well", lines.join("\n")))
}

/// The first job passes in a clone of what was committed, and fails, with the place, when something is stale; the second mends it.
fn passes_fails_and_mends(check: &Value, generate: &Value, stale: &str) {
    let server = Server::start();
    let p = Project::new()
        .genfile_for(&server, GENFILE)
        .file("index.hbs", "one\n")
        .file("page.prompt", "Write a page.\n")
        .env("ANTHROPIC_API_KEY", "sk-of-the-test");
    assert!(run(&p, generate).ends_with("all is well\n"));
    let requests = server.requests().len();
    assert_eq!(requests, 1);
    p.remove(".genmake").remove("genmake.html");
    assert!(run(&p, check).ends_with("all is well\n"), "a fresh clone");
    p.edit("index.hbs", "two\n");
    let said = run(&p, check);
    assert!(!said.contains("all is well"), "{said}");
    let report = if p.exists("gl-code-quality-report.json") { p.read("gl-code-quality-report.json") } else { said };
    assert!(report.contains(stale), "{report}");
    assert!(run(&p, generate).ends_with("all is well\n"));
    assert_eq!(p.read("index.md"), "two\n");
    assert_eq!(server.requests().len(), requests, "nothing is paid for twice");
}

#[test]
fn github() {
    let workflow = workflow("github.yml");
    let (check, generate) = (&workflow["jobs"]["check"], &workflow["jobs"]["generate"]);
    passes_fails_and_mends(check, generate, "::error file=Genfile,line=6");
    // What strangers propose is judged without secrets, and may write nothing.
    assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}));
    assert!(!check.to_string().contains("secrets.") && check["permissions"].is_null());
    assert_eq!(generate["if"], "github.event_name != 'pull_request'");
}

#[test]
fn gitlab() {
    let workflow = workflow("gitlab.yml");
    let (check, generate) = (&workflow["genmake-check"], &workflow["genmake-generate"]);
    passes_fails_and_mends(check, generate, "\"begin\": 6");
    assert_eq!(generate["rules"], serde_json::json!([{"if": "$CI_PIPELINE_SOURCE == \"schedule\""}]));
}
