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

/// All that a job does from its genmake on, in a clone whose origin is a folder; what it says, and what GitHub's client is told to open.
fn put_up(p: &Project, script: &str) -> String {
    let gh = "gh() { case \"$2\" in list) wc -l < pulls | tr -d ' ';; *) echo \"$4\" >> pulls;; esac; }";
    let begin = "export GITHUB_REF_NAME=main; cd clone; touch pulls";
    p.shell(&format!("{begin}\n{gh}\n( set -e\n{script}\n)\necho \"status $?\""))
}

/// A clone, to be built in, of a project in which one rule of two fails; what is generated is put up in its origin.
fn failing_in_part() -> Project {
    let genfile = "version: 1\nrules:\n  good: { output: good.md, template: good.hbs }\n  bad: { output: bad.md, run: \"exit 1\" }\n";
    let p =
        Project::new().file("made/Genfile", genfile).file("made/good.hbs", "one\n").file("made/.gitignore", "pulls\n");
    let p = p.env("GIT_AUTHOR_NAME", "me").env("GIT_AUTHOR_EMAIL", "me");
    let p = p.env("GIT_COMMITTER_NAME", "me").env("GIT_COMMITTER_EMAIL", "me");
    p.shell(
        "cd made && git init -q -b main && git add -A && git commit -qm one && cd .. && git clone -q --bare made origin \
         && git -C origin config receive.advertisePushOptions true && git clone -q origin clone",
    );
    p
}

/// What a run made of which a part failed is put up all the same, once; and the next one renews it.
#[track_caller]
fn is_put_up(p: &Project, script: &str, status: u8) {
    for text in ["one\n", "two\n"] {
        p.edit("clone/good.hbs", text);
        let said = put_up(p, script);
        assert!(said.ends_with(&format!("status {status}\n")), "{said}");
        assert_eq!(p.shell("git -C origin show genmake:good.md"), text, "{said}");
        // As a clone of main is.
        p.shell("cd clone && git reset -q --hard origin/main");
    }
    assert_eq!(p.shell("git -C origin branch --format '%(refname:short)'"), "genmake\nmain\n");
    assert!(!p.shell("git -C origin show --stat genmake").contains("genmake.html"));
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
    // What failed in part is kept and put up, too.
    let steps = generate["steps"].as_array().expect("steps");
    let step = |is: &dyn Fn(&Value) -> bool| steps.iter().find(|step| is(step)).expect("such a step");
    let using = |name: &str| step(&|step| step["uses"].as_str().is_some_and(|uses| uses.starts_with(name)));
    let (restored, saved) = (using("actions/cache/restore@"), using("actions/cache/save@"));
    assert_eq!(restored["with"]["key"], saved["with"]["key"]);
    assert_eq!(saved["if"], "always()");
    let last = step(&|step| step["name"] == "Put up what was generated");
    assert_eq!(last["if"], "${{ !cancelled() }}");
    let build = step(&|step| step["run"].as_str().is_some_and(|run| run.starts_with("genmake ")));
    let p = failing_in_part();
    let script = |step: &Value| step["run"].as_str().expect("commands").to_owned();
    is_put_up(&p, &format!("( {} ) || true\n{}", script(build), script(last)), 0);
    assert_eq!(p.read("clone/pulls"), "genmake\n", "one pull request");
}

#[test]
fn gitlab() {
    let workflow = workflow("gitlab.yml");
    let (check, generate) = (&workflow["genmake-check"], &workflow["genmake-generate"]);
    passes_fails_and_mends(check, generate, "\"begin\": 6");
    // Its items are one shell's.
    let script: Vec<String> = commands(generate);
    let script = script
        .join("\n")
        .replace("https://genmake:$GENMAKE_PUSH_TOKEN@$CI_SERVER_HOST/$CI_PROJECT_PATH.git", "../origin");
    assert!(script.contains("\"../origin\""), "{script}");
    is_put_up(&failing_in_part(), &script, 2);
    assert_eq!(generate["rules"], serde_json::json!([{"if": "$CI_PIPELINE_SOURCE == \"schedule\""}]));
}
