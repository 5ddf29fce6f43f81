//! Answers that come in pieces: what is whole is kept at once, whatever becomes of the rest; servers that stream otherwise, or
//! not at all; results that are another task's.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::killed::send;
use crate::project::Project;
use crate::server::{Act, Gate, Server};
use crate::shop::{APIS, asked_after, has_no_temporary_file, is_built, page, pages, shop_of, shop_with};

const ALL: &str = "e1 e2 e3 e4 e5";

/// The request for five pages meets `act`: what was sent after it, everything is made, and nothing was asked for again that had
/// arrived. Whatever the provider speaks.
#[track_caller]
fn once(act: Act, then: &[&str]) -> [(Server, Project); APIS.len()] {
    APIS.map(|api| {
        let server = Server::start();
        let p = shop_of(api, &server, 5, "in_flight: 1, timeout: 2s", "");
        server.script([act.clone()]);
        p.run(["--report", "report.json"]).exits(0);
        assert_eq!(asked_after(&server, 0)[0], ALL, "{api}");
        assert_eq!(asked_after(&server, 1), then, "{api}");
        assert_eq!(server.asked_twice(), [""; 0], "{api}");
        is_built(&p, 5, &[]);
        has_no_temporary_file(&p);
        (server, p)
    })
}

fn llm(p: &Project) -> Value {
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("a report is JSON");
    report["llm"].clone()
}

// ---- what has come is kept ----

#[test]
fn a_killed_run_keeps_what_a_stream_had_brought() {
    let server = Server::start();
    let p = shop_with(&server, 5, "in_flight: 1", "");
    server.script([Act::HoldAfter { keep: 2, gate: Gate::new() }]);
    let mut child = p.spawn(["-v"]);
    p.wait_for_line(&mut child, "arrive  docs/e2.md");
    send(Signal::KILL, &child);
    drop(p.finish(child));
    assert_eq!(pages(&p), [""; 0], "what is kept is not yet checked");
    p.run([]).stderr_has("restore  docs/e1.md").exits(0);
    assert_eq!(asked_after(&server, 1), ["e3 e4 e5"]);
    assert_eq!(server.asked_twice(), [""; 0]);
    is_built(&p, 5, &[]);
}

#[test]
fn an_interrupted_run_keeps_what_a_stream_had_brought() {
    let server = Server::start();
    let p = shop_with(&server, 5, "in_flight: 1", "");
    server.script([Act::HoldAfter { keep: 4, gate: Gate::new() }]);
    let mut child = p.spawn(["-v"]);
    p.wait_for_line(&mut child, "arrive  docs/e4.md");
    send(Signal::INT, &child);
    drop(p.finish(child));
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e5"]);
    is_built(&p, 5, &[]);
}

#[test]
fn a_cut_stream_loses_only_what_was_in_flight() {
    once(Act::CutAfter { keep: 1 }, &["e2 e3 e4 e5"]);
    once(Act::CutAfter { keep: 4 }, &["e5"]);
}

#[test]
fn a_stream_that_is_cut_before_anything_is_whole_is_sent_again() {
    for (_, p) in once(Act::CutAfter { keep: 0 }, &[ALL]) {
        assert_eq!((&llm(&p)["retries"], &llm(&p)["requests"]), (&json!(1), &json!(2)));
    }
}

#[test]
fn a_stream_that_falls_silent_is_a_cut_one() {
    once(Act::HoldAfter { keep: 3, gate: Gate::new() }, &["e4 e5"]);
}

/// Its pieces take longer than `timeout` in all, each for itself less.
#[test]
fn a_slow_stream_is_waited_for_as_long_as_it_goes_on() {
    once(Act::Drip { chunk: 600, millis: 400 }, &[]);
}

#[test]
fn an_error_in_a_stream_is_a_cut_one() {
    let error = |code: Value| json!({"error": {"message": "away", "type": "x", "code": code}}).to_string();
    once(Act::ErrorAfter { keep: 3, data: error(json!("server_error")) }, &["e4 e5"]);
    once(Act::ErrorAfter { keep: 0, data: error(json!(502)) }, &[ALL]);
}

#[test]
fn an_error_in_a_stream_that_no_wait_will_end_ends_the_run() {
    let server = Server::start();
    let p = shop_with(&server, 5, "in_flight: 1", "");
    let data = json!({"error": {"message": "pay", "type": "insufficient_quota", "code": "insufficient_quota"}});
    server.script([Act::ErrorAfter { keep: 0, data: data.to_string() }]);
    p.run([]).stderr_has("provider `p`: status 200: pay (request req-1)").exits(2);
    assert_eq!(server.count(), 1);
}

#[test]
fn without_fallback_what_a_cut_stream_lacks_fails() {
    let server = Server::start();
    let p = shop_with(&server, 5, "in_flight: 1", "batching: {fallback_on_failure: false}");
    server.script([Act::CutAfter { keep: 3 }]);
    p.run([])
        .stderr_has("rule `pages`: the answer of provider `p` (request req-1) broke off before it came to `docs/e4.md`")
        .stderr_has("`fallback_on_failure: false` says not to ask again")
        .exits(2);
    assert_eq!((server.count(), pages(&p).join(" ")), (1, "e1 e2 e3".to_owned()));
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e4 e5"]);
}

#[test]
fn a_single_page_counts_when_its_stream_has_ended() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    server.script([Act::CutAfter { keep: 0 }]);
    p.run([]).exits(0);
    assert_eq!(server.count(), 2);
    is_built(&p, 1, &[]);
}

// ---- servers that stream otherwise ----

#[test]
fn an_answer_that_comes_whole_is_one_all_the_same() {
    let server = Server::start();
    server.without_streams();
    let p = shop_with(&server, 5, "", "");
    server.script([Act::MissingSlot("f3")]);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e3"]);
    is_built(&p, 5, &[]);
}

#[test]
fn a_stream_without_its_tokens_and_its_end_is_an_answer() {
    for (_, p) in once(Act::Bare, &[]) {
        let llm = llm(&p);
        assert_eq!((&llm["uncounted"], &llm["input_tokens"]), (&json!(1), &json!(0)));
    }
}

/// A server that refuses each of these keys of a request: what was sent, in order.
#[track_caller]
fn refuses(keys: &'static [&'static str], asked: &[&str]) {
    let server = Server::start();
    let p = shop_with(&server, 10, "in_flight: 1", "");
    for key in keys {
        let message = format!("Unrecognized request argument supplied: {key}");
        let error = Act::error(400, "invalid_request_error", "unknown_parameter", &message);
        server.on(|request| request.body.get(*key).is_some(), error);
    }
    p.run(["--report", "report.json"]).exits(0);
    let sent: Vec<String> = server
        .requests()
        .iter()
        .map(|request| {
            let has = |key: &&str| request.body.get(*key).is_some();
            ["stream", "stream_options"].into_iter().filter(has).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(sent, asked);
    assert_eq!(llm(&p)["requests"], asked.len());
    is_built(&p, 10, &[]);
}

#[test]
fn a_server_that_refuses_to_stream_is_asked_for_whole_answers() {
    refuses(&["stream_options"], &["stream stream_options", "stream", "stream"]);
    refuses(&["stream_options", "stream"], &["stream stream_options", "stream", "", ""]);
    refuses(&["stream"], &["stream stream_options", "", ""]);
}

#[test]
fn a_refusal_of_something_else_stays_one() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    server.always(Act::context_exceeded());
    p.run([]).exits(2);
    assert_eq!(server.count(), 1);
}

// ---- results that are another's ----

/// Three pages, where the model answers the first request with these pages, in slot order.
#[track_caller]
fn answered_with(keys: [&str; 3], flags: &str) -> (Server, Project) {
    let server = Server::start();
    let p = shop_with(&server, 3, "in_flight: 1", flags);
    let slot = |i: usize| (format!("f{}", i + 1), Value::from(page(keys[i], &format!("about {}", keys[i]))));
    let files: serde_json::Map<String, Value> = (0..3).map(slot).collect();
    server.script([Act::Content(json!({"files": files}).to_string())]);
    (server, p)
}

#[test]
fn a_result_that_belongs_to_a_neighbour_is_asked_for_again_alone() {
    let (server, p) = answered_with(["e1", "e3", "e2"], "");
    p.run(["--report", "report.json"])
        .stderr_has("stray  docs/e2.md: what came for it is about docs/e3.md; it is asked for again alone")
        .exits(0);
    assert_eq!(asked_after(&server, 1), ["e2", "e3"]);
    is_built(&p, 3, &[]);
    let llm = llm(&p);
    assert_eq!((&llm["strays"], &llm["requests"], &llm["files_in_batches"]), (&json!(2), &json!(3), &json!(1)));
}

#[test]
fn a_result_that_belongs_to_a_neighbour_is_given_up_where_the_rule_says_so() {
    let (server, p) = answered_with(["e1", "e2", "e2"], "batching: {fallback_on_failure: false}");
    p.run([]).stderr_has("for `docs/e3.md`: what came for it is about `docs/e2.md`").exits(2);
    assert_eq!(server.count(), 1);
    // And never comes back as a good one.
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e3"]);
    is_built(&p, 3, &[]);
}
