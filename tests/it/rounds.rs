//! `submit` and `collect`: requests through batch APIs. What is handed in is paid for once, whatever happens in between; what
//! comes back is in its place; and until then nobody asks for it again.

use std::os::unix::process::ExitStatusExt as _;

use rustix::process::Signal;
use serde_json::Value;

use crate::killed::send;
use crate::project::Project;
use crate::server::{Act, Gate, Server};
use crate::shop::{APIS, asked, asked_after, has_no_temporary_file, is_built, pages, shop_of, spec};

/// The shop with five pages, two of them a request.
fn shop(api: &str, server: &Server, provider: &str, rule: &str) -> Project {
    let rule = if rule.is_empty() { "batching: {max_batch_size: 2}" } else { rule };
    shop_of(api, server, 5, provider, rule)
}

/// What was asked for without a batch API.
fn at_once(server: &Server) -> usize {
    server.count() - server.handed_in().concat().len()
}

fn report(p: &Project) -> Value {
    serde_json::from_str(&p.read("report.json")).expect("a report is JSON")
}

#[test]
fn what_is_submitted_is_collected() {
    for api in APIS {
        let server = Server::start();
        let p = shop(api, &server, "prices: {input: 3, output: 15}", "");
        let batch = match api {
            "anthropic" => "msgbatch_1",
            "gemini" => "batches/gemini-1",
            _ => "batch_1",
        };
        p.run(["submit", "--report", "report.json"])
            .stderr_has(&format!("submit  p: 3 requests for 5 results, as {batch}, about 0.0201 USD"))
            .stderr_has("submit  docs/e5.md")
            .stderr_has("done: 1 rendered, 5 submitted")
            .exits(0);
        assert_eq!(report(&p)["targets"]["submitted"], 5);
        assert_eq!((pages(&p), at_once(&server)), (vec![], 0), "{api}");
        p.run(["collect", "--report", "report.json"])
            .stderr_has(&format!("fetch  p: 5 results of {batch}"))
            .stderr_has("done: 5 restored, 1 fresh")
            .exits(0);
        is_built(&p, 5, &[]);
        // Half of the price is what the provider's tokens cost.
        let llm = &report(&p)["llm"];
        let told = server.told();
        assert_eq!((llm["requests"].as_u64(), llm["input_tokens"].as_u64()), (Some(3), Some(told.input as u64)));
        let cost = (told.input as f64 * 1.5 + told.output as f64 * 7.5) / 1e6;
        assert!((llm["cost_usd"].as_f64().expect("a cost") - cost).abs() < 1e-9, "{llm}");
        p.run([]).stderr_has("nothing to do").exits(0);
        p.run(["check"]).exits(0);
        p.run(["collect"]).stderr_has("nothing to do").exits(0);
        p.run(["submit"]).stderr_has("nothing to do").exits(0);
        assert_eq!((server.count(), server.handed_in().len(), server.asked_twice()), (3, 1, vec![]));
    }
}

#[test]
fn a_request_is_named_by_the_action_key_and_wants_no_stream() {
    for api in APIS {
        let server = Server::start();
        let p = shop(api, &server, "", "batch: false");
        p.run(["submit"]).exits(0);
        for request in server.requests() {
            assert_eq!(request.body.get("stream"), None, "{api}");
            // What a round would write to a cache no request of a run reads, and what a run has kept it cannot read.
            assert!(!request.body.to_string().contains("cache_control"), "{api}");
            assert_eq!(request.body.get("cachedContent"), None, "{api}");
        }
        p.run(["collect"]).exits(0);
        let lock = p.read("Genfile.lock");
        let names = server.handed_in().concat();
        assert_eq!(names.len(), 5);
        for name in names {
            assert!(lock.contains(&format!("key:{name} ")), "{name}\n{lock}");
            assert!(
                name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)),
                "{name}"
            );
        }
        is_built(&p, 5, &[]);
    }
}

#[test]
fn a_round_is_for_one_model() {
    for api in APIS {
        let server = Server::start();
        let p = shop(api, &server, "", "");
        let notes = "  notes: {foreach: \"spec.yaml#/entities/*\", prompt: prompts/page.prompt, model: other, batch: false, \
                     output: \"notes/{{item.key}}.md\"}\n";
        p.edit("Genfile", &(p.read("Genfile") + notes));
        p.run(["submit"]).stderr_has("p: 3 requests for 5 results").stderr_has("p: 5 requests for 5 results").exits(0);
        let rounds: Vec<usize> = server.handed_in().iter().map(Vec::len).collect();
        assert_eq!(rounds, [3, 5], "{api}");
        // Gemini's requests have it in their address alone, which is the round's.
        let models: Vec<_> = server.requests().iter().map(|request| request.body.get("model").cloned()).collect();
        let want = |n: usize, model: &str| vec![(api != "gemini").then(|| Value::from(model)); n];
        assert_eq!(models, [want(3, "m"), want(5, "other")].concat(), "{api}");
        p.run(["collect"]).exits(0);
        is_built(&p, 5, &[]);
        assert_eq!(p.read("notes/e5.md"), p.read("docs/e5.md"));
    }
}

#[test]
fn what_is_under_way_is_asked_for_by_nobody_else() {
    for api in APIS {
        let server = Server::start();
        let p = shop(api, &server, "", "");
        server.rounds_take(2);
        p.run(["submit"]).exits(0);
        p.run(["plan"]).stdout_has("collect  docs/e1.md").exits(0);
        p.run([]).stderr_has("genmake::submitted").stderr_has("`genmake collect` fetches it").exits(2);
        p.run(["submit"]).stderr_has("skip  docs/e1.md").exits(0);
        p.run(["collect"]).stderr_has("pending  p: 3 requests, as").stderr_has("has not all come back").exits(2);
        assert_eq!(pages(&p), [""; 0]);
        p.run(["collect", "--offline"]).stderr_has("genmake::offline").exits(2);
        p.run(["collect", "--wait=1ms"]).exits(0);
        is_built(&p, 5, &[]);
        assert_eq!((server.handed_in().len(), at_once(&server)), (1, 0), "{api}");
    }
}

/// A summary of the pages, which waits for them.
const SUMMARY: &str =
    "  summary: {inputs: {pages: \"docs/e*.md\"}, prompt: prompts/summary.prompt, output: summary.md}\n";

fn with_summary(api: &str, server: &Server) -> Project {
    let p = shop(api, server, "", "")
        .file("prompts/summary.prompt", "Write about e9: {{#each inputs.pages}}{{this.path}} {{/each}}\n");
    let genfile = p.read("Genfile") + SUMMARY;
    p.edit("Genfile", &genfile);
    p
}

#[test]
fn each_level_of_the_graph_is_a_round() {
    for api in APIS {
        let server = Server::start();
        let p = with_summary(api, &server);
        p.run(["submit"]).stderr_has("skip  summary.md").exits(0);
        p.run(["collect"]).stderr_has("skip  summary.md").exits(0);
        is_built(&p, 5, &[]);
        assert!(!p.exists("summary.md"));
        p.run(["submit"]).stderr_has("1 request for 1 result").exits(0);
        p.run(["collect"]).exits(0);
        assert_eq!(p.read("summary.md").lines().next(), Some("# e9"));
        assert_eq!(server.handed_in().iter().map(Vec::len).collect::<Vec<_>>(), [3, 1], "{api}");

        let server = Server::start();
        let p = with_summary(api, &server);
        server.rounds_take(1);
        p.run(["submit", "--wait=1ms"]).exits(0);
        assert!(p.exists("summary.md"));
        is_built(&p, 5, &[]);
        assert_eq!((server.handed_in().len(), at_once(&server)), (2, 0), "{api}");
    }
}

/// A round of which the request for `e1` failed, and the provider did not come to that for `e2`.
fn with_failures(api: &str) -> (Server, Project) {
    let server = Server::start();
    let p = shop(api, &server, "", "batch: false");
    server.on(|request| asked(request) == ["e1"], Act::error(400, "invalid_request_error", "x", "too hot today"));
    server.on(|request| asked(request) == ["e2"], Act::Reset);
    p.run(["submit"]).exits(0);
    (server, p)
}

#[test]
fn what_failed_is_said_and_the_rest_is_there() {
    for api in APIS {
        let (server, p) = with_failures(api);
        p.run(["collect"])
            .stderr_has("no result for docs/e1.md: ")
            .stderr_has("too hot today")
            .stderr_has("no result for docs/e2.md")
            .stderr_has("genmake::no_result")
            .exits(2);
        assert_eq!((pages(&p), at_once(&server)), (vec!["e3".into(), "e4".into(), "e5".into()], 0), "{api}");
        // What is not under way any more can be asked for again, in either way.
        p.run(["plan"]).stdout_has("generate  docs/e1.md").exits(0);
        p.run(["submit", "docs/e2.md"]).stderr_has("1 request for 1 result").exits(0);
    }
}

#[test]
fn what_failed_is_asked_for_at_once_if_that_is_said() {
    for api in APIS {
        let (server, p) = with_failures(api);
        // By itself, it goes well.
        let sent = server.count();
        server.each(move |number, _| (number > sent).then_some(Act::Default));
        p.run(["collect", "--retry"]).exits(0);
        is_built(&p, 5, &[]);
        let again: Vec<String> = asked_after(&server, sent);
        assert_eq!(again.len(), 2, "{again:?}");
        assert_eq!((at_once(&server), server.asked_twice()), (2, vec![]), "{api}");
    }
}

#[test]
fn a_slot_that_did_not_come_is_missing_alone() {
    for api in APIS {
        let server = Server::start();
        let p = shop(api, &server, "", "");
        server.on(|request| asked(request) == ["e1", "e2"], Act::Truncate { keep: 1 });
        p.run(["submit"]).exits(0);
        p.run(["collect"]).stderr_has("no result for docs/e2.md").exits(2);
        assert_eq!(pages(&p), ["e1", "e3", "e4", "e5"], "{api}");
        p.run([]).exits(0);
        assert_eq!(asked_after(&server, 3), ["e2"]);
        is_built(&p, 5, &[]);
    }
}

#[test]
fn a_result_that_fails_its_check_is_not_written() {
    let server = Server::start();
    let p = shop("openai", &server, "", "check: [{run: \"! grep -q e3 {{output}}\"}], batch: false");
    p.run(["submit"]).exits(0);
    p.run(["collect"]).stderr_has("genmake::check_failed").stderr_has("ended with exit status: 1").exits(2);
    assert_eq!(pages(&p), ["e1", "e2", "e4", "e5"]);
    // The rule says what stands for it.
    let p = shop(
        "openai",
        &server,
        "",
        "check: [{run: \"! grep -q e3 {{output}}\"}], batch: false, on_error: {default: none}",
    );
    p.run(["submit"]).exits(0);
    p.run(["collect"]).exits(0);
    assert_eq!(p.read("docs/e3.md"), "none");
}

#[test]
fn results_are_kept_under_their_keys_whatever_became_of_the_genfile() {
    for api in APIS {
        let server = Server::start();
        let p = shop(api, &server, "", "");
        p.run(["submit"]).exits(0);
        p.edit("spec.yaml", &spec(5, &[("e1", "news")]));
        p.run(["collect"]).stderr_has("skip  docs/e1.md").exits(0);
        assert_eq!(pages(&p), ["e2", "e3", "e4", "e5"]);
        p.edit("spec.yaml", &spec(5, &[]));
        p.run([]).exits(0);
        is_built(&p, 5, &[]);
        assert_eq!(at_once(&server), 0, "{api}");
    }
}

// ---- runs that are killed ----

/// A provider that takes nothing in any more that is some seconds old.
const SOON: &str = "timeout: 1s";

/// Runs genmake, and kills it while it waits for the answer to its call number `at`, which the server has done.
#[track_caller]
fn killed_at(server: &Server, p: &Project, args: &[&str], at: usize) {
    let gate = Gate::new();
    let before = server.calls();
    server.hold_call(Some(at), &gate);
    let child = p.spawn(args.iter().copied());
    assert!(server.wait_for_call(before + at), "{args:?} never came to its call {at}");
    send(Signal::KILL, &child);
    let run = p.finish(child);
    gate.open();
    server.hold_call(None, &gate);
    assert_eq!(run.status.signal(), Some(9));
}

/// How many calls a command makes.
fn calls(api: &str, before: &[&str], args: &[&str]) -> usize {
    let server = Server::start();
    let p = shop(api, &server, "", "");
    before.iter().for_each(|command| p.run([*command]).exits(0));
    let before = server.calls();
    p.run(args.iter().copied()).exits(0);
    server.calls() - before
}

#[test]
fn a_submit_that_is_killed_after_any_call_is_paid_for_once() {
    for api in APIS {
        let calls = calls(api, &[], &["submit"]);
        assert!(calls > 0);
        for at in 1..=calls {
            for next in ["submit", "collect"] {
                let server = Server::start();
                let p = shop(api, &server, SOON, "");
                killed_at(&server, &p, &["submit"], at);
                // Nobody asks for it meanwhile.
                p.run([]).stderr_has("genmake::submitted").exits(2);
                p.run([next]).exits(0);
                p.run(["submit"]).exits(0);
                p.run(["collect"]).exits(0);
                is_built(&p, 5, &[]);
                has_no_temporary_file(&p);
                let handed_in = (server.handed_in().len(), at_once(&server), server.asked_twice());
                assert_eq!(handed_in, (1, 0, vec![]), "{api}: call {at}, then {next}");
            }
        }
    }
}

#[test]
fn a_collect_that_is_killed_after_any_call_is_paid_for_once() {
    for api in APIS {
        let calls = calls(api, &["submit"], &["collect"]);
        for at in 1..=calls {
            let server = Server::start();
            let p = shop(api, &server, "", "");
            p.run(["submit"]).exits(0);
            killed_at(&server, &p, &["collect"], at);
            p.run(["collect"]).exits(0);
            is_built(&p, 5, &[]);
            p.run([]).stderr_has("nothing to do").exits(0);
            assert_eq!((server.handed_in().len(), at_once(&server)), (1, 0), "{api}: call {at}");
        }
    }
}

/// The steps of a run: what genmake itself does to files of the project, and each request as it goes out. What it waits for is
/// left out: then the server may or may not have done it, which is what the tests above are about.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn is_step(p: &Project, call: &crate::tracer::Call) -> bool {
    call.own && ((call.writes && call.is_in(&p.root())) || call.name == "sendto")
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn a_command_that_is_killed_between_any_two_steps_is_paid_for_once() {
    use crate::tracer::{Then, is_allowed, trace};
    if !is_allowed() {
        return;
    }
    for (api, before, command) in
        [("openai", "", "submit"), ("anthropic", "submit", "collect"), ("anthropic", "", "submit")]
    {
        let stage = || {
            let server = Server::start();
            let p = shop(api, &server, SOON, "");
            [before].iter().filter(|before| !before.is_empty()).for_each(|before| p.run([*before]).exits(0));
            (server, p)
        };
        let (_server, p) = stage();
        let whole = trace(&p.command([command]), |_| Then::GoOn);
        assert_eq!(whole.status.code(), Some(0), "{}", whole.stderr);
        let points = whole.calls.iter().filter(|(call, _)| is_step(&p, call)).count();
        for point in crate::injected::chosen(points, 8) {
            let (server, p) = stage();
            let mut seen = 0;
            let cut = trace(&p.command([command]), |call| {
                seen += usize::from(is_step(&p, call));
                if seen == point + 1 && is_step(&p, call) { Then::Kill } else { Then::GoOn }
            });
            let when = format!("{api}: {command} killed at {:?}", cut.calls.last());
            assert_eq!(cut.status.signal(), Some(9), "{when}");
            p.run(["submit"]).exits(0);
            p.run(["collect"]).exits(0);
            is_built(&p, 5, &[]);
            has_no_temporary_file(&p);
            assert_eq!((server.handed_in().len(), at_once(&server), server.asked_twice()), (1, 0, vec![]), "{when}");
        }
    }
}

#[test]
fn a_round_that_only_looks_like_ours_is_not_taken_for_it() {
    let server = Server::start();
    let p = shop("anthropic", &server, SOON, "");
    // Killed before the provider has it: one of somebody else has as many requests.
    server.has_stranger("msgbatch_theirs", 3);
    killed_at(&server, &p, &["submit"], 1);
    p.run(["submit"]).exits(0);
    p.run(["collect", "--wait=1ms"]).exits(0);
    is_built(&p, 5, &[]);
    assert_eq!((server.handed_in().len(), at_once(&server)), (1, 0));
}

#[test]
fn a_round_that_the_provider_surely_did_not_take_is_forgotten() {
    let server = Server::start();
    let p = shop("openai", &server, "", "");
    p.edit("Genfile", &p.read("Genfile").replace("/v1\"", "/v2\""));
    p.run(["submit"]).stderr_has("nothing was submitted").exits(2);
    p.edit("Genfile", &p.read("Genfile").replace("/v2\"", "/v1\""));
    p.run([]).exits(0);
    is_built(&p, 5, &[]);
}

#[test]
fn a_round_that_the_provider_takes_in_after_a_kill_is_found() {
    for api in APIS {
        let server = Server::start();
        let p = shop(api, &server, "timeout: 15s", "");
        let gate = Gate::new();
        // The call that hands it in.
        let at = if api.starts_with("openai") { 2 } else { 1 };
        server.put_off_call(at, &gate);
        let child = p.spawn(["submit"]);
        assert!(server.wait_for_call(at));
        send(Signal::KILL, &child);
        drop(p.finish(child));
        let mut next = p.spawn(["submit"]);
        p.wait_for_line(&mut next, "is not known yet");
        gate.open();
        p.finish(next).exits(0);
        p.run(["collect"]).exits(0);
        is_built(&p, 5, &[]);
        assert_eq!((server.handed_in().len(), at_once(&server)), (1, 0), "{api}");
    }
}

// ---- and otherwise ----

#[test]
fn what_may_be_anothers_is_not_cancelled() {
    let server = Server::start();
    let p = shop("anthropic", &server, SOON, "");
    server.has_stranger("msgbatch_theirs", 3).rounds_take(1000);
    killed_at(&server, &p, &["submit"], 1);
    p.run(["collect", "--cancel"]).stderr_has("has not all come back").exits(2);
    assert_eq!(server.cancelled(), [""; 0]);
    server.rounds_take(0);
    p.run(["collect"]).exits(0);
    is_built(&p, 5, &[]);
}

#[test]
fn nothing_is_forgotten_because_another_server_knows_nothing_of_it() {
    for api in APIS {
        let (server, other) = (Server::start(), Server::start());
        let p = shop(api, &server, "", "");
        p.run(["submit"]).exits(0);
        let genfile = p.read("Genfile");
        p.edit("Genfile", &genfile.replace(&server.base_url(), &other.base_url()));
        p.run(["collect"]).stderr_has("genmake::bad_round").stderr_has("put the address back").exits(2);
        p.edit("Genfile", &genfile);
        p.run(["collect"]).exits(0);
        is_built(&p, 5, &[]);
        assert_eq!((server.handed_in().len(), at_once(&server)), (1, 0), "{api}");
    }
}

#[test]
fn what_nobody_can_be_asked_about_is_given_up_if_that_is_said() {
    let server = Server::start();
    let p = shop("openai", &server, "", "");
    p.run(["submit"]).exits(0);
    p.edit("Genfile", &p.read("Genfile").replace("provider: p\n", "provider: q\n").replace("  p: {", "  q: {"));
    p.run(["collect", "--cancel"]).stderr_has("nothing came of `batch_1`").exits(2);
    p.run([]).exits(0);
    is_built(&p, 5, &[]);
}

#[test]
fn a_provider_in_trouble_holds_up_no_other() {
    let server = Server::start();
    let p = shop("openai", &server, "key_env: K", "batch: false").env("K", "key");
    let more = format!("  q: {{api: anthropic, model: n, base_url: \"{}\"}}\nrules:\n", server.base_url());
    let genfile = p.read("Genfile").replace("rules:\n", &more)
        + "  more: {prompt: prompts/more.prompt, output: more.md, provider: q, model: n}\n";
    let p = p.file("prompts/more.prompt", "Write about e9: more\n");
    p.edit("Genfile", &genfile);
    p.run(["submit"]).exits(0);
    let p = p.env("K", "");
    p.run(["collect"]).stderr_has("genmake::key").exits(2);
    assert!(p.exists("more.md") && pages(&p).is_empty());
    p.env("K", "key").run(["collect"]).exits(0);
    assert_eq!(server.handed_in().len(), 2);
}

#[test]
fn genfiles_of_one_folder_have_rounds_of_their_own() {
    let server = Server::start();
    let p = shop("openai", &server, "", "");
    let other = p
        .read("Genfile")
        .replace("provider: p\n", "provider: q\n")
        .replace("  p: {", "  q: {")
        .replace("docs/", "other/");
    p.edit("Other", &other);
    p.run(["submit"]).exits(0);
    p.run(["-f", "Other", "submit"]).exits(0);
    p.run(["collect"]).exits(0);
    is_built(&p, 5, &[]);
    p.run(["-f", "Other", "collect"]).exits(0);
    assert!(p.exists("other/e5.md"));
    assert_eq!((server.handed_in().len(), at_once(&server)), (2, 0));
}

#[test]
fn whoever_waits_for_a_round_holds_up_nobody() {
    let server = Server::start();
    let p = shop("openai", &server, "", "");
    server.rounds_take(1000);
    p.run(["submit"]).exits(0);
    let mut child = p.spawn(["collect", "--wait=1h"]);
    p.wait_for_line(&mut child, "pending");
    p.run(["docs/index.md"]).exits(0);
    send(Signal::INT, &child);
    assert_eq!(p.finish(child).status.signal(), Some(2));
}

#[test]
fn of_several_results_for_a_request_the_good_one_counts() {
    let server = Server::start();
    let p = shop("anthropic", &server, "", "");
    server.repeats_results();
    p.run(["submit"]).exits(0);
    p.run(["collect", "--report", "report.json"]).exits(0);
    is_built(&p, 5, &[]);
    // What each task took adds up to the whole.
    let report = report(&p);
    let tasks = report["tasks"].as_array().expect("a list");
    for name in ["input_tokens", "output_tokens"] {
        let sum: u64 = tasks.iter().filter_map(|task| task[name].as_u64()).sum();
        assert!(sum > 0 && report["llm"][name] == sum, "{name}: {report:#}");
    }
}

#[test]
fn waiting_ends_where_nothing_is_under_way() {
    let server = Server::start();
    let p = shop("openai", &server, "prices: {input: 3, output: 15}", "");
    let genfile = p.read("Genfile")
        + "  bad: {run: \"false\", output: bad, on_error: skip}\n  after: {inputs: [bad], run: \"cp bad after\", output: after}\n";
    p.edit("Genfile", &genfile);
    p.run(["submit", "--wait=1ms", "--report", "report.json"]).exits(0);
    is_built(&p, 5, &[]);
    // All rounds are in the report.
    assert_eq!(report(&p)["llm"]["requests"], 3);
    assert!(report(&p)["llm"]["cost_usd"].as_f64().expect("a cost") > 0.0);
}

#[test]
fn results_that_are_not_there_any_more_are_asked_for_anew() {
    // Gemini's stand in the batch itself.
    for api in ["openai", "anthropic", "openai-responses"] {
        let server = Server::start();
        let p = shop(api, &server, "", "");
        p.run(["submit"]).exits(0);
        server.forgets_results();
        p.run(["collect"]).stderr_has("nothing came of").stderr_has("There is no such thing.").exits(2);
        p.run([]).exits(0);
        is_built(&p, 5, &[]);
    }
}

#[test]
fn what_is_cancelled_is_given_up_and_what_was_done_is_fetched() {
    for api in APIS {
        let server = Server::start();
        let p = shop(api, &server, "", "");
        server.rounds_take(1000);
        p.run(["submit"]).exits(0);
        p.run(["collect", "--cancel"]).exits(0);
        is_built(&p, 5, &[]);
        assert_eq!(at_once(&server), 0, "{api}");
    }
}

#[test]
fn a_damaged_note_is_an_error_and_costs_nothing() {
    let server = Server::start();
    let p = shop("openai", &server, "", "");
    p.run(["submit"]).exits(0);
    let name = p.everything().keys().find(|name| name.contains("/rounds/")).cloned().expect("a round is noted");
    let kept = p.everything()[&name].clone();
    assert!(!String::from_utf8_lossy(&kept).contains("canary"));
    p.edit(&name, "oops");
    for args in [["submit"], ["collect"], ["build"]] {
        p.run(args).stderr_has("genmake::bad_round").exits(2);
    }
    assert_eq!((server.handed_in().len(), at_once(&server)), (1, 0));
}

#[test]
fn a_provider_that_is_gone_is_asked_for() {
    let server = Server::start();
    let p = shop("openai", &server, "", "");
    p.run(["submit"]).exits(0);
    p.edit("Genfile", &p.read("Genfile").replace("provider: p\n", "provider: q\n").replace("  p: {", "  q: {"));
    p.run(["collect"]).stderr_has("genmake::bad_round").stderr_has("declare it again").exits(2);
}

#[test]
fn the_budget_holds_for_a_round_as_a_whole_at_its_own_price() {
    let server = Server::start();
    let p = shop(
        "openai",
        &server,
        "prices: {input: 1000, output: 1000}",
        "params: {max_output_tokens: 100}, batch: false",
    );
    let submitted = |most: &str| {
        let p = p.copy();
        p.run(["submit", "--max-cost", most]).stderr.clone()
    };
    let all = submitted("1");
    assert!(all.contains("for 5 results"), "{all}");
    let some = submitted("0.2");
    assert!(some.contains("genmake::budget") && !some.contains("for 5 results"), "{some}");
    assert!(some.contains("the budget of 0.2000 USD"), "{some}");
    assert_eq!(at_once(&server), 0);
}

#[test]
fn frozen_and_dry_runs_hand_nothing_in() {
    let server = Server::start();
    let p = shop("openai", &server, "", "");
    for args in [["submit", "-B"], ["collect", "-B"], ["submit", "-Wspec.yaml"]] {
        p.run(args).stderr_has("does not go with").exits(2);
    }
    p.run(["submit", "--frozen"]).stderr_has("asks nobody").exits(2);
    p.run(["submit", "-n"]).stdout_has("generate  docs/e1.md").exits(0);
    // At the price of a round.
    let cost = |args: &[&str]| {
        let priced = p.copy();
        priced
            .edit("Genfile", &p.read("Genfile").replace("model: m,", "model: m, prices: {input: 1000, output: 1000},"));
        let plan = priced.run(args.iter().copied().chain(["--format", "json"])).stdout_json();
        plan["cost_usd"].as_f64().expect("a cost")
    };
    assert!((cost(&["plan"]) - 2.0 * cost(&["submit", "-n"])).abs() < 1e-6);
    p.run(["submit", "-q"]).stderr_has("`-q`").exits(2);
    p.run(["collect", "-n"]).stderr_has("`-n` sends nothing").exits(2);
    p.run(["submit", "--offline"]).stderr_has("genmake::offline").exits(2);
    assert_eq!((server.calls(), server.count()), (0, 0));
}
