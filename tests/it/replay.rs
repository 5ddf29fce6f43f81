//! `api: replay` and `--record`: what was answered once is answered again without anybody being asked, `--provider` with which that is
//! chosen, and what is no place for recordings or no recording.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Server};
use crate::shop::{APIS, is_built, pages, shop_by, shop_of, shop_with};

/// The shop whose answers are in `rec`.
fn replayed(pages: usize, rule: &str) -> Project {
    shop_by("api: replay, model: m, dir: rec", pages, rule)
}

/// The recordings in `rec`, by name.
fn recordings(p: &Project) -> BTreeMap<String, String> {
    let tree = p.tree().into_iter();
    tree.filter_map(|(path, text)| Some((path.strip_prefix("rec/")?.to_owned(), text))).collect()
}

/// Gives a project the recordings of another.
fn take_over(from: &Project, to: &Project) {
    for (name, text) in recordings(from) {
        to.edit(&format!("rec/{name}"), &text);
    }
}

fn llm(p: &Project) -> Value {
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("a report is JSON");
    report["llm"].clone()
}

// ---- the round trip ----

/// Five pages whose first answer meets `act` are recorded; from the recordings alone the same comes, lock and all.
#[track_caller]
fn comes_again(api: &str, act: Act, answers: usize) {
    let server = Server::start();
    let p = shop_of(api, &server, 5, "in_flight: 1", "");
    server.script([act]);
    p.run(["--record", "rec"]).exits(0);
    let asked = server.count();
    assert_eq!(recordings(&p).len(), answers, "{api}");
    let other = replayed(5, "");
    take_over(&p, &other);
    other.run(["--offline"]).exits(0);
    assert_eq!(server.count(), asked, "{api}");
    is_built(&other, 5, &[]);
    assert_eq!(other.read("Genfile.lock"), p.read("Genfile.lock"), "no key knows who answered");
}

#[test]
fn what_was_recorded_comes_again_and_nobody_is_asked() {
    for api in APIS {
        comes_again(api, Act::Default, 1);
        // Also what went wrong.
        comes_again(api, Act::Truncate { keep: 2 }, 3);
        comes_again(api, Act::MissingSlot("f4"), 2);
        comes_again(api, Act::Refusal, 3);
        comes_again(api, Act::CutAfter { keep: 2 }, 2);
        // The same request twice: the last answer stands.
        comes_again(api, Act::Prose, 1);
    }
}

#[test]
fn a_recording_costs_nothing_and_says_what_it_took() {
    let server = Server::start();
    let p = shop_with(&server, 5, "", "");
    p.run(["--record", "rec", "--report", "report.json"]).exits(0);
    let other = shop_by("api: replay, model: gpt-4.1, dir: rec", 5, "model: m");
    take_over(&p, &other);
    other.run(["--report", "report.json", "-B"]).exits(0);
    for tokens in ["input_tokens", "output_tokens", "requests"] {
        assert_eq!(llm(&other)[tokens], llm(&p)[tokens], "{tokens}");
    }
    assert_eq!(llm(&other)["cost_usd"], json!(0.0));
}

#[test]
fn a_refusal_is_recorded_as_one() {
    let server = Server::start();
    server.always(Act::Refusal);
    let p = shop_with(&server, 1, "", "");
    p.run(["--record", "rec"]).exits(2);
    let other = replayed(1, "");
    take_over(&p, &other);
    other.run([]).stderr_has("the model declined: I'm sorry, I can't help with that.").exits(2);
}

// ---- --provider ----

const BOTH: &str = "version: 1\nprovider: far\nproviders:\n  far: {api: openai, model: m, base_url: \"{base_url}\"}\n  replayed: {api: replay, model: m, dir: rec}\n  other: {api: openai, model: n, base_url: \"{base_url}\"}\nrules:\n  a: {output: a, prompt: p.prompt}\n  b: {output: b, prompt: p.prompt, provider: far, model: own}\n";

fn both(server: &Server) -> Project {
    Project::new().genfile_for(server, BOTH).file("p.prompt", "Write.\n")
}

#[test]
fn a_provider_on_the_command_line_takes_the_place_of_all() {
    let server = Server::start();
    let p = both(&server);
    p.run(["--record", "rec"]).exits(0);
    let built = (p.read("a"), p.read("b"), p.read("Genfile.lock"));
    let asked = server.count();
    p.remove("a").remove("b").remove("Genfile.lock").remove(".genmake");
    p.run(["--provider", "replayed"]).exits(0);
    assert_eq!((p.read("a"), p.read("b"), p.read("Genfile.lock")), built);
    assert_eq!(server.count(), asked);
    p.run(["check"]).exits(0);
    p.run(["--provider", "replyed"])
        .stderr_has("no provider `replyed`")
        .stderr_has("did you mean `replayed`?")
        .exits(2);
}

#[test]
fn the_model_of_that_provider_counts_where_nobody_names_one() {
    let server = Server::start();
    let p = both(&server);
    p.run([]).exits(0);
    p.run(["check", "--provider", "other"]).stdout_has("model changed").exits(1);
    p.run(["plan", "--provider", "other"]).stdout_has("other (n)").exits(0);
    p.run(["--provider", "other"]).exits(0);
    let models: Vec<Value> = server.requests().iter().map(|request| request.body["model"].clone()).collect();
    assert_eq!(models.len(), 3);
    assert_eq!(models[2], "n");
    // What is up to date with one is not with the other, and no glance says otherwise.
    p.run(["check"]).exits(1);
    p.run(["check", "--provider", "other"]).exits(0);
    p.run(["-q"]).exits(1);
}

// ---- what was not recorded ----

#[test]
fn what_was_not_recorded_is_a_failure_and_the_rest_is_made() {
    let server = Server::start();
    let p = shop_with(&server, 2, "", "batch: false");
    p.run(["--record", "rec"]).exits(0);
    let other = replayed(3, "batch: false");
    take_over(&p, &other);
    let run = other.run(["-k", "--report", "report.json"]);
    let run = run.stderr_has("provider `p`: nothing is recorded for `docs/e3.md`: `rec/");
    run.stderr_has(".json` is not there").stderr_has("`--record DIR` records what a provider answers").exits(2);
    assert_eq!(pages(&other), ["e1", "e2"]);
    assert_eq!((&llm(&other)["retries"], &llm(&other)["requests"]), (&json!(0), &json!(3)));
    // Several that were not recorded together are not asked for one by one.
    let other = replayed(2, "");
    take_over(&p, &other);
    other.run([]).stderr_has("nothing is recorded for `docs/e1.md`, `docs/e2.md`").exits(2);
}

#[test]
fn a_damaged_recording_is_named() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    p.run(["--record", "rec"]).exits(0);
    let (name, text) = recordings(&p).pop_first().expect("a recording");
    let says = |text: &str, says: &str| {
        let other = replayed(1, "");
        other.edit(&format!("rec/{name}"), text);
        other.run([]).stderr_has(&format!("`rec/{name}` is no recording: {says}")).exits(2);
    };
    says(&text[..100], "EOF while parsing");
    says("", "EOF while parsing");
    says(&text.replace("about e1", "about e2"), "its name is that of another request");
    let folder = replayed(1, "");
    folder.edit(&format!("rec/{name}/x"), "");
    folder.run([]).stderr_has("cannot be read").exits(2);
}

// ---- what is written, and where ----

#[test]
fn a_recording_is_the_same_whenever_it_is_written() {
    let server = Server::start();
    let p = shop_with(&server, 5, "", "");
    p.run(["--record", "rec"]).exits(0);
    let before: BTreeMap<_, _> = p.stamps().into_iter().filter(|(path, _)| path.starts_with("rec/")).collect();
    p.run(["-B", "--record", "rec"]).exits(0);
    let after: BTreeMap<_, _> = p.stamps().into_iter().filter(|(path, _)| path.starts_with("rec/")).collect();
    assert_eq!((before.len(), before), (1, after));
    assert_eq!(server.count(), 2);
    server.reply(|_, _| "another answer\n".to_owned());
    p.run(["-B", "--record", "rec"]).exits(0);
    let recorded = recordings(&p);
    assert_eq!(recorded.len(), 1);
    assert!(recorded.values().all(|text| text.contains("another answer")), "{recorded:?}");
}

#[test]
fn a_folder_is_relative_to_where_one_stands() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "").file("sub/x", "");
    p.run(["-C", "sub", "--record", "../deep/er"]).exits(0);
    assert!(p.path("deep/er").is_dir());
    assert_eq!(p.tree().keys().filter(|path| path.starts_with("deep/er/")).count(), 1);
}

#[test]
fn what_is_no_place_for_recordings() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "").file("a-file", "").file(".git/config", "");
    for (folder, says) in [
        (".git", "lies in `.git` or `.genmake`"),
        (".git/rec", "lies in `.git` or `.genmake`"),
        (".genmake/rec", "lies in `.git` or `.genmake`"),
        ("docs/../.GIT/rec", "lies in `.git` or `.genmake`"),
        ("docs/e1.md", "is an output"),
        ("a-file", "a-file"),
    ] {
        p.run(["--record", folder]).stderr_has(says).exits(2);
        assert_eq!((server.count(), pages(&p)), (0, Vec::new()), "{folder}");
    }
    assert!(!p.exists(".git/rec"));
    // Where nothing is asked, nothing is recorded.
    p.run(["-n", "--record", "rec"]).exits(0);
    assert!(!p.exists("rec"));
}

#[cfg(unix)]
#[test]
fn a_folder_that_leads_into_gits_is_none() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "").file(".git/config", "");
    std::os::unix::fs::symlink(".git", p.path("rec")).expect("a symlink");
    p.run(["--record", "rec"]).stderr_has("lies in `.git` or `.genmake`").exits(2);
    assert_eq!(server.count(), 0);
}

#[test]
fn what_cannot_be_recorded_is_a_failure_and_what_was_answered_is_kept() {
    let server = Server::start();
    let p = shop_with(&server, 4, "in_flight: 1", "batching: {max_batch_size: 2}");
    p.run(["--record", "rec"]).exits(0);
    let (name, _) = recordings(&p).pop_first().expect("a recording");
    let p = shop_with(&server, 4, "in_flight: 1", "batching: {max_batch_size: 2}");
    // What stands in the way of the recording is a folder.
    p.edit(&format!("rec/{name}/x"), "");
    let asked = server.count();
    p.run(["--record", "rec"]).stderr_has("genmake::unwritable").stderr_has("what was answered is kept").exits(2);
    let made = pages(&p).len();
    assert!(made >= 2, "{made}");
    assert!(server.count() > asked);
    p.run([]).exits(0);
    assert_eq!(server.count() - asked, 2, "nothing is asked for again");
}

#[test]
fn no_key_gets_into_a_recording() {
    let server = Server::start();
    let genfile = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\", key_env: K}}\nrules:\n  a: {output: a, prompt: a.prompt, batch: false}\n  b: {output: b, prompt: b.prompt, batch: false, env: [K], allow_secrets: true}\n";
    server.reply(|request, _| match request.user_text().contains("quote") {
        true => "your key is sk-canary\n".to_owned(),
        false => "said\n".to_owned(),
    });
    let p = Project::new().genfile_for(&server, genfile).env("K", "sk-canary");
    let p = p.file("a.prompt", "quote").file("b.prompt", "It is {{env.K}}.");
    let run = p.run(["--record", "rec"]);
    run.stderr_has("the request for `b` holds the provider's key: it is not recorded").exits(0);
    let recorded = recordings(&p);
    assert_eq!(recorded.len(), 1);
    assert!(recorded.values().all(|text| text.contains("your key is ***") && !text.contains("canary")), "{recorded:?}");
}
