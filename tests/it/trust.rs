//! Trust in a Genfile: what only reads is safe in a checkout that nobody has read, and a key goes to nobody whom only the Genfile
//! names.

use std::collections::BTreeMap;

use crate::project::Project;
use crate::server::{Act, Server};

const KEY: &str = "sk-canary-4711";

/// A Genfile that would run a command, and open a connection, at every place that the language has for either. Each command
/// leaves a file outside of the project; each variable holds a key.
fn hostile(server: &Server, sentinel: &str) -> Project {
    let touch = format!("touch {sentinel}");
    let genfile = format!(
        r#"version: 1
provider: p
providers:
  p: {{api: openai, model: m, base_url: "{{base_url}}", key_env: HOSTILE_KEY, start: "{touch}; sleep 600"}}
  q: {{api: openai, model: m, base_url: "http://127.0.0.1:9/v1", start: "{touch}"}}
rules:
  ran: {{inputs: [in.txt], output: ran.txt, run: "{touch}; echo ran > {{{{output}}}}"}}
  filtered: {{inputs: [in.txt], output: filtered.txt, template: t.hbs, filter: ["{touch}; cat"]}}
  checked: {{inputs: [in.txt], output: checked.txt, template: t.hbs, check: [{{run: "{touch}"}}]}}
  asked: {{inputs: [in.txt], output: asked.txt, prompt: p.prompt, filter: ["{touch}; cat"], check: [{{run: "{touch}"}}]}}
  started: {{inputs: [in.txt], output: started.txt, prompt: p.prompt, provider: q}}
  after: {{inputs: [ran.txt, asked.txt], output: after.txt, template: t.hbs}}
  empty: {{foreach: "no/*", output: "{{{{item.name}}}}", run: "{touch}"}}
"#
    );
    Project::new()
        .genfile_for(server, &genfile)
        .file("t.hbs", "made of {{#each inputs}}{{text}}{{/each}}")
        .file("p.prompt", "Write about {{#each inputs}}{{text}}{{/each}}")
        .file("in.txt", "x\n")
        .env("HOSTILE_KEY", KEY)
}

const READING: &[&[&str]] = &[
    &["check"],
    &["check", "--format", "json"],
    &["check", "-B", "--yes"],
    &["plan"],
    &["plan", "--format", "json", "--yes", "--trust-host", "127.0.0.1"],
    &["plan", "-W", "in.txt", "-v"],
    &["-n", "--force"],
    &["-q"],
    &["explain", "ran", "filtered", "checked", "asked", "after"],
    &["explain", "ran", "asked", "--format", "json", "-W", "in.txt"],
    &["prompt", "asked", "started", "ran", "filtered"],
    &["prompt", "asked", "started", "--batch", "--format", "json"],
    &["graph"],
    &["graph", "--format", "mermaid"],
    &["graph", "--format", "json", "after"],
    &["schema"],
    &["clean", "-n"],
    &["gc", "-n", "--keep", "0s"],
];

const FROZEN: &[&[&str]] =
    &[&["--frozen"], &["--frozen", "--yes", "--force", "-B"], &["--frozen", "-k", "ran", "asked"]];

/// That none of these runs a command or opens a connection, whatever is there already.
#[track_caller]
fn is_only_read(p: &Project, server: &Server, outside: &Project, what: &str) {
    let connections = server.connections();
    for args in READING.iter().chain(FROZEN) {
        let before: BTreeMap<String, Vec<u8>> = p.everything();
        let run = p.run(args.iter().copied());
        assert!(run.status.code().is_some_and(|code| code <= 2) && !run.stderr.contains("genmake::bug"), "{run}");
        assert!(!run.stderr.contains("genmake::usage"), "{run}");
        assert_eq!(outside.tree().len(), 0, "{what}: {args:?} ran a command\n{run}");
        assert_eq!(server.connections(), connections, "{what}: {args:?} opened a connection\n{run}");
        assert!(!run.stdout.contains(KEY) && !run.stderr.contains(KEY), "{what}: {args:?} shows a key");
        if !FROZEN.contains(args) {
            let now = p.everything();
            let wrote: Vec<&String> = now.keys().filter(|path| before.get(*path) != now.get(*path)).collect();
            assert!(wrote.is_empty() && now.len() == before.len(), "{what}: {args:?} wrote {wrote:?}");
        }
    }
}

#[test]
fn what_only_reads_runs_nothing_and_connects_nowhere() {
    let server = Server::start();
    server.reply(|_, _| "an answer\n".to_owned());
    // What the commands leave is seen outside of the project.
    let outside = Project::new();
    let sentinel = outside.path("sentinel").display().to_string();
    let p = hostile(&server, &sentinel);
    is_only_read(&p, &server, &outside, "a fresh checkout");
    // Once it is built, with a lock, a state and a store. The rule that has no provider to start fails.
    p.run(["ran", "filtered", "checked", "asked", "after"]).exits(0);
    assert!(outside.exists("sentinel") && server.connections() > 0, "it does run commands and connect when it builds");
    outside.remove("sentinel");
    is_only_read(&p, &server, &outside, "a build that is up to date");
    p.edit("in.txt", "changed\n");
    is_only_read(&p, &server, &outside, "an input that changed");
    p.edit("in.txt", "x\n");
    for output in ["ran.txt", "filtered.txt", "checked.txt", "asked.txt", "after.txt"] {
        p.remove(output);
    }
    is_only_read(&p, &server, &outside, "outputs that the store holds");
    p.remove("ran.txt").remove("asked.txt").remove(".genmake");
    is_only_read(&p, &server, &outside, "a clone without a store");
}

#[test]
fn a_key_goes_to_no_host_that_only_the_genfile_names() {
    let server = Server::start();
    let rule = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\", key_env: HOSTILE_KEY}}\n\
                rules: {a: {output: a.txt, prompt: p.prompt}}\n";
    let p = Project::new().genfile_for(&server, rule).file("p.prompt", "hello").env("HOSTILE_KEY", KEY);
    // It is this machine, and not by a name that says so.
    p.edit("Genfile", &p.read("Genfile").replace("127.0.0.1", "0.0.0.0"));
    for args in [&[][..], &["--yes"], &["--yes", "--force", "-B"], &["--trust-host", "elsewhere.example", "--yes"]] {
        let run = p.run(args.iter().copied());
        assert!(run.stderr.contains("genmake::key") && !run.stderr.contains(KEY), "{run}");
        run.exits(2);
        assert_eq!(server.connections(), 0, "{args:?}");
    }
    p.run(["--trust-host", "0.0.0.0"]).exits(0);
    assert_eq!(server.count(), 1);
}

#[test]
fn a_redirect_carries_no_key_elsewhere() {
    let (server, other) = (Server::start(), Server::start());
    let rule = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\", key_env: HOSTILE_KEY}}\n\
                rules: {a: {output: a.txt, prompt: p.prompt}}\n";
    let p = Project::new().genfile_for(&server, rule).file("p.prompt", "hello").env("HOSTILE_KEY", KEY);
    for code in [301, 302, 303, 307, 308] {
        let moved = Act::Status { code, headers: Vec::new(), body: String::new() };
        server.always(moved.header("location", &format!("{}/chat/completions", other.base_url())));
        p.run([]).stderr_has("which is not followed").exits(2);
    }
    assert_eq!((server.count(), other.connections()), (5, 0));
}
