//! The report counts what the provider counted, to the token, whatever goes wrong.

use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Server};
use crate::shop::{APIS, answer, shop_of, shop_with};

const NAMES: [&str; 3] = ["input_tokens", "output_tokens", "cached_input_tokens"];

/// A run of 12 pages in batches of 4 whose first requests meet these acts: requests and tokens are the server's, in all, by
/// provider and summed over the tasks. Then what more there is to say of the report.
#[track_caller]
fn counts(acts: &[Act], rule: &str, flags: &[&str], check: impl Fn(&Value)) {
    for api in APIS {
        let server = Server::start();
        server.with_cache();
        let p = shop_of(api, &server, 12, "in_flight: 1", &format!("batching: {{max_batch_size: 4}}{rule}"));
        // Long enough to be kept by a provider that does so by itself.
        let prompt = p.read("prompts/page.prompt").replace("handbook.", &"handbook. ".repeat(500));
        p.edit("prompts/page.prompt", &prompt);
        server.script(acts.iter().cloned());
        let report = run(&server, &p, flags);
        assert!(!acts.is_empty() || (server.told().cached > 0) == api.starts_with("openai"));
        check(&report["llm"]);
        // Nothing to do costs nothing.
        if report["exit"] == 0 {
            let again = server.count();
            let told = server.told();
            assert_eq!(run_after(&server, &p, &[], again, told)["llm"]["requests"], 0);
        }
    }
}

fn run(server: &Server, p: &Project, flags: &[&str]) -> Value {
    run_after(server, p, flags, 0, crate::server::Told::default())
}

#[track_caller]
fn run_after(server: &Server, p: &Project, flags: &[&str], requests: usize, told: crate::server::Told) -> Value {
    let run = p.run(["--report", "report.json"].into_iter().chain(flags.iter().copied()));
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("a report is JSON");
    let all = &report["llm"];
    let now = server.told();
    let counted = [now.input - told.input, now.output - told.output, now.cached - told.cached];
    assert_eq!(all["requests"], server.count() - requests, "{}", run.stderr);
    for (name, counted) in NAMES.iter().zip(counted) {
        assert_eq!(all[name], counted, "{name}: {}", run.stderr);
        let provider = all["providers"]["p"].get(name).cloned().unwrap_or(json!(0));
        assert_eq!(provider, counted, "{name} by provider");
    }
    let provider = all["providers"]["p"].get("requests").cloned().unwrap_or(json!(0));
    assert_eq!(provider, all["requests"]);
    let tasks = report["tasks"].as_array().expect("a list");
    for name in &NAMES[..2] {
        let sum: u64 = tasks.iter().filter_map(|task| task[name].as_u64()).sum();
        assert_eq!(all[name], sum, "{name} over the tasks: {}", run.stderr);
    }
    let of = |name: &str| all[name].as_u64().expect("a number");
    assert_eq!(of("files_in_batches") + of("files_individual"), report["targets"]["generated"].as_u64().expect("one"));
    assert!(of("batch_successes") <= of("batch_attempts") && of("batch_attempts") <= of("batched_requests"));
    run.exits(i32::from(report["exit"] != 0) * 2);
    report
}

/// These counts, by name.
fn are(expected: &[(&str, u64)]) -> impl Fn(&Value) {
    let expected: Vec<(String, u64)> = expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
    move |llm| {
        for (name, n) in &expected {
            assert_eq!(llm[name], *n, "{name}: {llm:#}");
        }
    }
}

#[test]
fn a_run_without_faults() {
    let expected =
        [("requests", 3), ("batched_requests", 3), ("batch_attempts", 3), ("batch_successes", 3), ("retries", 0)];
    counts(&[], "", &[], are(&expected));
    counts(&[], "", &["--no-batch"], are(&[("requests", 12), ("batched_requests", 0), ("files_individual", 12)]));
}

#[test]
fn retries_in_transport() {
    let acts = [Act::server_error(), Act::Reset, Act::rate_limited(0), Act::Default];
    let expected =
        [("requests", 6), ("batched_requests", 6), ("batch_attempts", 3), ("batch_successes", 3), ("retries", 3)];
    counts(&acts, "", &[], are(&expected));
}

#[test]
fn fallbacks() {
    let acts = [Act::MissingSlot("f2"), Act::Truncate { keep: 1 }, Act::Prose];
    let expected = [("fallbacks", 3), ("batch_attempts", 5), ("batch_successes", 2), ("retries", 0), ("uncounted", 0)];
    counts(&acts, "", &[], are(&expected));
    counts(&[Act::Refusal], "", &[], are(&[("requests", 5), ("fallbacks", 1), ("files_individual", 0)]));
    let given_up = ", batching: {max_batch_size: 4, fallback_on_failure: false}".trim_start_matches(", ");
    let server = Server::start();
    let p = shop_with(&server, 8, "in_flight: 1", given_up);
    server.script([Act::Truncate { keep: 3 }]);
    let report = run(&server, &p, &["-k"]);
    are(&[("requests", 2), ("fallbacks", 0), ("batch_successes", 1), ("files_in_batches", 7)])(&report["llm"]);
}

/// A prefix that was sent for nothing has saved nothing.
#[test]
fn batching_saves_by_what_it_delivers() {
    // Three batches of four, and the prefix of 1,253 tokens.
    let saves = |n: u64| move |llm: &Value| assert_eq!(llm["tokens_saved"]["batching"], n * 1253, "{llm:#}");
    counts(&[], "", &[], saves(9));
    counts(&[Act::Prose, Act::server_error()], "", &[], saves(9));
    counts(&[Act::MissingSlot("f1")], "", &[], saves(8));
    counts(&[], "", &["--no-batch"], saves(0));
}

/// What a provider did not say is in no count, and said to be missing.
#[test]
fn cut_streams() {
    let acts = [Act::CutAfter { keep: 3 }, Act::CutAfter { keep: 0 }, Act::Bare];
    counts(&acts, "", &[], are(&[("requests", 5), ("retries", 1), ("fallbacks", 1), ("uncounted", 3)]));
}

#[test]
fn web_pages_and_empty_answers() {
    counts(&[Act::Html, Act::HalfJson, Act::LengthEmpty], "", &[], are(&[("uncounted", 2)]));
}

#[test]
fn failed_checks() {
    let server = Server::start();
    server.with_cache();
    let p = shop_with(&server, 6, "in_flight: 1", "batching: {max_batch_size: 3}, check: json, retries: 2");
    server.reply(|request, slot| {
        let told = request.body["messages"]
            .as_array()
            .map_or(0, |all| all.iter().filter(|m| m["role"] == "assistant").count());
        let title = answer(request, slot);
        let title = title.lines().next().unwrap_or_default();
        // One page is good when it was told once, one never.
        if title == "# e2" && told < 1 || title == "# e5" {
            "oops".to_owned()
        } else {
            json!({ "title": title }).to_string()
        }
    });
    let report = run(&server, &p, &["-k"]);
    are(&[("requests", 5), ("retries", 3), ("files_in_batches", 4), ("files_individual", 1), ("batch_successes", 0)])(
        &report["llm"],
    );
}

#[test]
fn excused_failures() {
    for on_error in ["skip", "{default: none}"] {
        let server = Server::start();
        let p = shop_with(&server, 3, "in_flight: 1", &format!("on_error: {on_error}, retries: 0"));
        server.script([Act::MissingSlot("f2"), Act::Content(" ".to_owned())]);
        let report = run(&server, &p, &[]);
        are(&[("requests", 2), ("files_in_batches", 2), ("files_individual", 0)])(&report["llm"]);
    }
}

#[test]
fn phases_and_durations() {
    let server = Server::start();
    let p = shop_with(&server, 4, "", "batching: {max_batch_size: 2}, batch: true");
    let report = run(&server, &p, &[]);
    let names: Vec<&str> =
        report["phases"].as_array().expect("a list").iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(names, ["load", "plan", "run"]);
    let phases: u64 =
        report["phases"].as_array().expect("a list").iter().filter_map(|p| p["duration_ms"].as_u64()).sum();
    let all = report["duration_ms"].as_u64().expect("a number");
    assert!(phases <= all && all <= phases + 3, "{phases} of {all} ms");
    let batches: Vec<(&Value, &Value)> =
        report["tasks"].as_array().expect("a list").iter().map(|task| (&task["outputs"][0], &task["batch"])).collect();
    for (output, batch) in batches {
        let of = |key: &str| {
            server.requests().iter().position(|r| r.paths().contains(&format!("docs/{key}.md"))).map(|n| n + 1)
        };
        match output.as_str().and_then(|path| path.strip_prefix("docs/e")) {
            Some(rest) => {
                let key = format!("e{}", rest.trim_end_matches(".md"));
                let together =
                    |n: &Value| report["tasks"].as_array().expect("a list").iter().filter(|t| t["batch"] == *n).count();
                assert!(of(&key).is_some() && batch.is_u64() && together(batch) == 2, "{output} {batch}");
            }
            None => assert!(batch.is_null(), "{output}"),
        }
    }
}
