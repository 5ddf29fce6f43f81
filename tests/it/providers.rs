//! Providers that misbehave: what is asked again, what is given up, what is kept, and what people read of it.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Recorded, Server};
use crate::shop::{APIS, answer, asked_after, has_no_temporary_file, is_built, page, pages, shop_of, shop_with};

const ALL: &str = "e1 e2 e3 e4 e5";

/// The request for five pages meets `act`, what follows a healthy provider: everything is made, and after the first request these
/// were sent. Whatever the provider speaks.
#[track_caller]
fn once(act: Act, then: &[&str]) {
    APIS.iter().for_each(|api| once_of(api, act.clone(), then));
}

#[track_caller]
fn once_of(api: &str, act: Act, then: &[&str]) {
    let server = Server::start();
    let p = shop_of(api, &server, 5, "in_flight: 1", "");
    server.script([act]);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 0)[0], ALL, "{api}");
    assert_eq!(asked_after(&server, 1), then, "{api}");
    is_built(&p, 5, &[]);
    has_no_temporary_file(&p);
    p.run(["check"]).exits(0);
}

/// The request for five pages meets `act`, and the rule says not to ask again: these pages are kept, a later run asks for the
/// others alone.
#[track_caller]
fn given_up(act: Act, kept: &str, stderr: Expect) {
    let server = Server::start();
    let p = shop_with(&server, 5, "in_flight: 1", "batching: {fallback_on_failure: false}");
    server.script([act]);
    p.run(["-j1"]).stderr(stderr).exits(2);
    assert_eq!(asked_after(&server, 0), [ALL]);
    assert_eq!(pages(&p).join(" "), kept);
    assert!(p.exists("docs/index.md"), "what needs no model is made");
    has_no_temporary_file(&p);
    p.run(["check"]).exits(1);

    p.run([]).exits(0);
    let missing: Vec<&str> = ALL.split(' ').filter(|key| !kept.split(' ').any(|k| k == *key)).collect();
    assert_eq!(asked_after(&server, 1), [missing.join(" ")]);
    is_built(&p, 5, &[]);
}

/// The request for one page meets `act`, always: so many requests are sent, nothing is written, and this is said.
#[track_caller]
fn one_page(act: Act, requests: usize, stderr: Expect) {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    server.always(act);
    p.run([]).stderr(stderr).exits(2);
    assert_eq!(server.count(), requests);
    assert!(p.exists("docs/index.md") && !p.exists("docs/e1.md"));
    has_no_temporary_file(&p);

    server.always(Act::Default);
    p.run([]).exits(0);
    assert_eq!(server.count(), requests + 1);
    is_built(&p, 1, &[]);
}

// ---- trouble that passes ----

#[test]
fn a_rate_limit_is_waited_out() {
    once(Act::rate_limited(0), &[ALL]);
}

#[test]
fn a_rate_limit_is_waited_out_as_long_as_it_says() {
    once(Act::rate_limited(1), &[ALL]);
}

#[test]
fn a_server_error_is_retried() {
    once(Act::server_error(), &[ALL]);
}

#[test]
fn an_overloaded_provider_is_retried() {
    once(Act::overloaded(), &[ALL]);
}

#[test]
fn an_error_that_a_gateway_sends_with_status_200_is_retried() {
    let error = json!({"error": {"message": "upstream is away", "type": "server_error"}});
    once(Act::Status { code: 200, headers: Vec::new(), body: error.to_string() }, &[ALL]);
}

#[test]
fn a_cut_connection_costs_what_had_not_arrived() {
    // Half of the bytes, of which the formats have more or fewer before the text.
    once_of("openai", Act::Cut, &["e3 e4 e5"]);
    once_of("anthropic", Act::Cut, &["e2 e3 e4 e5"]);
    once_of("gemini", Act::Cut, &["e3 e4 e5"]);
}

#[test]
fn a_reset_connection_is_retried() {
    once(Act::Reset, &[ALL]);
}

// ---- answers that are none ----

#[test]
fn a_web_page_is_asked_past() {
    once(Act::Html, &[ALL]);
}

#[test]
fn half_a_body_is_asked_past() {
    once(Act::HalfJson, &[ALL]);
}

#[test]
fn prose_is_asked_past() {
    once(Act::Prose, &[ALL]);
}

#[test]
fn an_empty_answer_is_asked_past() {
    once(Act::Content(String::new()), &[ALL]);
}

#[test]
fn a_fence_around_the_answer_is_taken_off() {
    once(Act::Fenced, &[]);
}

#[test]
fn slots_without_the_object_around_them_are_taken() {
    let slots: serde_json::Map<String, Value> =
        (1..=5).map(|i| (format!("f{i}"), page(&format!("e{i}"), &format!("about e{i}")).into())).collect();
    once(Act::Content(Value::Object(slots).to_string()), &[]);
}

#[test]
fn slots_are_matched_by_name_and_not_by_position() {
    let slot = |i: usize| format!("\"f{i}\":{}", Value::from(page(&format!("e{i}"), &format!("about e{i}"))));
    let backwards: Vec<String> = (1..=5).rev().map(slot).collect();
    once(Act::Content(format!("{{\"files\":{{{}}}}}", backwards.join(","))), &[]);
}

#[test]
fn a_missing_slot_is_asked_for_alone() {
    once(Act::MissingSlot("f2"), &["e2"]);
}

#[test]
fn an_empty_slot_is_a_missing_one() {
    once(Act::EmptySlot("f4"), &["e4"]);
}

#[test]
fn an_extra_slot_does_no_harm() {
    once(Act::ExtraSlot("f9"), &[]);
}

#[test]
fn paths_instead_of_slots_are_no_answer() {
    once(Act::WrongSlotNames, &[ALL]);
}

#[test]
fn a_slot_that_is_no_text_is_a_missing_one() {
    let answer = json!({"files": {"f1": page("e1", "about e1"), "f2": 2, "f3": null, "f4": ["x"], "f5": {"a": "b"}}});
    once(Act::Content(answer.to_string()), &["e2 e3 e4 e5"]);
}

#[test]
fn what_stands_before_broken_json_is_kept() {
    let first = Value::from(page("e1", "about e1"));
    once(Act::Content(format!("{{\"files\":{{\"f1\":{first},\"f2\":\"ha")), &["e2 e3 e4 e5"]);
}

#[test]
fn what_a_cut_answer_left_out_is_asked_for_in_smaller_company() {
    once(Act::Truncate { keep: 2 }, &["e3 e4", "e5"]);
}

#[test]
fn what_a_cut_answer_left_out_alone_is_asked_for_alone() {
    once(Act::Truncate { keep: 4 }, &["e5"]);
}

#[test]
fn an_answer_that_was_cut_before_it_began_is_asked_for_in_smaller_company() {
    once(Act::LengthEmpty, &["e1 e2", "e3 e4", "e5"]);
}

#[test]
fn a_refused_batch_is_asked_for_in_halves() {
    once(Act::Refusal, &["e1 e2 e3", "e4 e5"]);
}

#[test]
fn of_a_batch_that_is_refused_for_one_page_the_others_are_made() {
    let server = Server::start();
    let p = shop_with(&server, 5, "in_flight: 1", "");
    server.on(|request| request.user_text().contains("Write about e2:"), Act::Refusal);
    p.run(["-k"]).stderr_has("fail  docs/e2.md").exits(2);
    assert_eq!(asked_after(&server, 1), ["e1 e2 e3", "e4 e5", "e1", "e2", "e3"]);
    assert_eq!(pages(&p).join(" "), "e1 e3 e4 e5");
}

#[test]
fn a_batch_that_is_too_long_is_asked_for_in_halves() {
    once(Act::context_exceeded(), &["e1 e2 e3", "e4 e5"]);
}

/// No wait makes room for what alone is more than may go in a minute.
#[test]
fn a_batch_that_is_more_than_goes_in_a_minute_is_asked_for_in_halves() {
    let message = "Request too large for m in organization o on tokens per min (TPM): Limit 300, Requested 400.";
    for api in ["openai", "openai-responses"] {
        once_of(api, Act::error(429, "tokens", "rate_limit_exceeded", message), &["e1 e2 e3", "e4 e5"]);
    }
}

/// A shape that failed twice in a row goes alone from then on, and every request brings something or is for fewer tasks.
#[test]
fn a_model_that_never_keeps_to_the_form_is_asked_one_by_one_in_the_end() {
    let server = Server::start();
    let p = shop_with(&server, 20, "in_flight: 1", "");
    server.on(|request| !request.slots().is_empty(), Act::Prose);
    p.run([]).exits(0);
    is_built(&p, 20, &[]);
    let batched = server.requests().iter().filter(|request| !request.slots().is_empty()).count();
    // Four batches were under way at the beginning; what follows knows better.
    assert!(batched <= 6, "{:?}", asked_after(&server, 0));
    assert_eq!(server.count(), batched + 20);
}

// ---- `fallback_on_failure: false` ----

#[test]
fn a_missing_slot_is_given_up_where_the_rule_says_so() {
    given_up(
        Act::MissingSlot("f2"),
        "e1 e3 e4 e5",
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md, docs/e2.md, docs/e3.md, docs/e4.md, docs/e5.md (request 1)
               answer  request 1: 4 of 5 in [TIME], 92 tokens in, 28 out
                 fail  docs/e2.md
            genmake::malformed

              x rule `pages`: no usable answer of provider `p` (request req-1) for `docs/e2.md`: the answer has nothing for f2
              help: run again, or try another model
                    `fallback_on_failure: false` says not to ask again
             generate  docs/e1.md
             generate  docs/e3.md
             generate  docs/e4.md
             generate  docs/e5.md
            failed: 4 generated, 1 rendered, 1 failed in [TIME] · 1 request, 92 tokens in, 28 out
        "#]],
    );
}

#[test]
fn a_cut_answer_is_given_up_where_the_rule_says_so() {
    given_up(
        Act::Truncate { keep: 3 },
        "e1 e2 e3",
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md, docs/e2.md, docs/e3.md, docs/e4.md, docs/e5.md (request 1)
               answer  request 1: 3 of 5 in [TIME], 92 tokens in, 25 out
                 fail  docs/e4.md
            genmake::truncated

              x rule `pages`: the answer of provider `p` (request req-1) for `docs/e4.md` was cut at the limit of output tokens
              help: raise `params: {max_output_tokens: …}`, or ask for less
                    `fallback_on_failure: false` says not to ask again
                 fail  docs/e5.md
            genmake::truncated

              x rule `pages`: the answer of provider `p` (request req-1) for `docs/e5.md` was cut at the limit of output tokens
              help: raise `params: {max_output_tokens: …}`, or ask for less
                    `fallback_on_failure: false` says not to ask again
             generate  docs/e1.md
             generate  docs/e2.md
             generate  docs/e3.md
            failed: 3 generated, 1 rendered, 2 failed in [TIME] · 1 request, 92 tokens in, 25 out
        "#]],
    );
}

#[test]
fn a_web_page_is_given_up_where_the_rule_says_so() {
    given_up(
        Act::Html,
        "",
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md, docs/e2.md, docs/e3.md, docs/e4.md, docs/e5.md (request 1)
               answer  request 1: 0 of 5 in [TIME]
                 fail  docs/e1.md
            genmake::malformed

              x rule `pages`: no usable answer of provider `p` (request req-1) for `docs/e1.md`: the provider sent something that is no answer (text/html): "<!DOCTYPE html><html><body>Please sign in.</body></html>"
              help: run again, or try another model
                    `fallback_on_failure: false` says not to ask again
                 fail  docs/e2.md
            genmake::malformed

              x rule `pages`: no usable answer of provider `p` (request req-1) for `docs/e2.md`: the provider sent something that is no answer (text/html): "<!DOCTYPE html><html><body>Please sign in.</body></html>"
              help: run again, or try another model
                    `fallback_on_failure: false` says not to ask again
                 fail  docs/e3.md
            genmake::malformed

              x rule `pages`: no usable answer of provider `p` (request req-1) for `docs/e3.md`: the provider sent something that is no answer (text/html): "<!DOCTYPE html><html><body>Please sign in.</body></html>"
              help: run again, or try another model
                    `fallback_on_failure: false` says not to ask again
                 fail  docs/e4.md
            genmake::malformed

              x rule `pages`: no usable answer of provider `p` (request req-1) for `docs/e4.md`: the provider sent something that is no answer (text/html): "<!DOCTYPE html><html><body>Please sign in.</body></html>"
              help: run again, or try another model
                    `fallback_on_failure: false` says not to ask again
                 fail  docs/e5.md
            genmake::malformed

              x rule `pages`: no usable answer of provider `p` (request req-1) for `docs/e5.md`: the provider sent something that is no answer (text/html): "<!DOCTYPE html><html><body>Please sign in.</body></html>"
              help: run again, or try another model
                    `fallback_on_failure: false` says not to ask again
            failed: 1 rendered, 5 failed in [TIME] · 1 request, tokens not counted
        "#]],
    );
}

#[test]
fn a_refusal_is_given_up_where_the_rule_says_so() {
    given_up(
        Act::Refusal,
        "",
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md, docs/e2.md, docs/e3.md, docs/e4.md, docs/e5.md (request 1)
               answer  request 1: 0 of 5 in [TIME], 92 tokens in, 0 out
                 fail  docs/e1.md
            genmake::refused

              x rule `pages`: no answer of provider `p` (request req-1) for `docs/e1.md`: the model declined: I'm sorry, I can't help with that.
              help: look at what the prompt asks for
                    `fallback_on_failure: false` says not to ask again
                 fail  docs/e2.md
            genmake::refused

              x rule `pages`: no answer of provider `p` (request req-1) for `docs/e2.md`: the model declined: I'm sorry, I can't help with that.
              help: look at what the prompt asks for
                    `fallback_on_failure: false` says not to ask again
                 fail  docs/e3.md
            genmake::refused

              x rule `pages`: no answer of provider `p` (request req-1) for `docs/e3.md`: the model declined: I'm sorry, I can't help with that.
              help: look at what the prompt asks for
                    `fallback_on_failure: false` says not to ask again
                 fail  docs/e4.md
            genmake::refused

              x rule `pages`: no answer of provider `p` (request req-1) for `docs/e4.md`: the model declined: I'm sorry, I can't help with that.
              help: look at what the prompt asks for
                    `fallback_on_failure: false` says not to ask again
                 fail  docs/e5.md
            genmake::refused

              x rule `pages`: no answer of provider `p` (request req-1) for `docs/e5.md`: the model declined: I'm sorry, I can't help with that.
              help: look at what the prompt asks for
                    `fallback_on_failure: false` says not to ask again
            failed: 1 rendered, 5 failed in [TIME] · 1 request, 92 tokens in, 0 out
        "#]],
    );
}

#[test]
fn a_batch_that_is_too_long_is_given_up_where_the_rule_says_so() {
    given_up(
        Act::context_exceeded(),
        "",
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md, docs/e2.md, docs/e3.md, docs/e4.md, docs/e5.md (request 1)
                 fail  docs/e1.md
            genmake::provider

              x rule `pages`: provider `p`: status 400: This model's maximum context length is 8192 tokens. (request req-1)
              help: nothing was written for it
                 fail  docs/e2.md
                 fail  docs/e3.md
                 fail  docs/e4.md
                 fail  docs/e5.md
            failed: 1 rendered, 5 failed in [TIME] · 1 request, 0 tokens in, 0 out
        "#]],
    );
}

// ---- trouble that stays ----

#[test]
fn a_wrong_key_is_said_once_and_not_tried_again() {
    one_page(
        Act::unauthorized(),
        1,
        expect![[r#"
           render  docs/index.md
              ask  p for docs/e1.md (request 1)
             fail  docs/e1.md
        genmake::provider

          x rule `pages`: provider `p`: status 401: Incorrect API key provided. (request req-1)
          help: the provider wants a key: name its variable with `key_env`
        failed: 1 rendered, 1 failed in [TIME] · 1 request, 0 tokens in, 0 out
    "#]],
    );
}

#[test]
fn a_wrong_model_is_said_once_and_not_tried_again() {
    one_page(
        Act::not_found(),
        1,
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md (request 1)
                 fail  docs/e1.md
            genmake::provider

              x rule `pages`: provider `p`: status 404: The model does not exist or you do not have access to it. (request req-1)
              help: check `base_url` (http://127.0.0.1:[PORT]/v1) and the model's name
            failed: 1 rendered, 1 failed in [TIME] · 1 request, 0 tokens in, 0 out
        "#]],
    );
}

#[test]
fn an_empty_account_is_not_waited_for() {
    one_page(
        Act::out_of_quota(),
        1,
        expect![[r#"
           render  docs/index.md
              ask  p for docs/e1.md (request 1)
             fail  docs/e1.md
        genmake::provider

          x rule `pages`: provider `p`: status 429: You exceeded your current quota. (request req-1)
          help: the account cannot be charged, or has no quota left; see the provider's console
        failed: 1 rendered, 1 failed in [TIME] · 1 request, 0 tokens in, 0 out
    "#]],
    );
}

#[test]
fn a_provider_that_asks_for_an_hour_is_not_waited_for() {
    one_page(
        Act::rate_limited(3600),
        1,
        expect![[r#"
           render  docs/index.md
              ask  p for docs/e1.md (request 1)
             fail  docs/e1.md
        genmake::provider

          x rule `pages`: provider `p`: status 429: Rate limit reached for requests. (request req-1)
          help: run again in 1h: what has arrived is kept
        failed: 1 rendered, 1 failed in [TIME] · 1 request, 0 tokens in, 0 out
    "#]],
    );
}

#[test]
fn a_server_error_that_stays_is_tried_five_times() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    server.always(Act::server_error());
    let run = p.run([]);
    assert_eq!(run.stderr.matches("    retry  request 1 in ").count(), 4);
    run.stderr_has("provider `p`: status 500: The server had an error while processing your request. (request req-5)")
        .exits(2);
    assert_eq!(server.count(), 5);
}

#[test]
fn a_provider_that_is_too_slow_is_tried_twice() {
    one_page_within("1s", Act::Slow { millis: 30_000 }, 2);
}

#[track_caller]
fn one_page_within(timeout: &str, act: Act, requests: usize) {
    let server = Server::start();
    let p = shop_with(&server, 1, &format!("timeout: {timeout}"), "");
    server.always(act);
    p.run([])
        .stderr_has("rule `pages`: provider `p`: `127.0.0.1` took too long")
        .stderr_has("help: raise `timeout` of provider `p`, or lower `max_batch_size`")
        .stderr_has("fail  docs/e1.md")
        .exits(2);
    assert_eq!(server.count(), requests);
    has_no_temporary_file(&p);
}

#[test]
fn a_provider_that_is_down_is_said_to_be() {
    let server = Server::start();
    // Nobody listens at port 1.
    let p = shop_with(&server, 1, "", "");
    p.edit("Genfile", &p.read("Genfile").replace(&server.base_url(), "http://127.0.0.1:1/v1"));
    let run = p.run([]);
    assert_eq!(run.stderr.matches("    retry  request 1 in ").count(), 4);
    run.stderr_has("rule `pages`: provider `p`: nothing listens at `http://127.0.0.1:[PORT]/v1`")
        .stderr_has(
            "help: is it running at http://127.0.0.1:[PORT]/v1? `start: COMMAND` in provider `p` would bring it up",
        )
        .stderr_has("fail  docs/e1.md")
        .exits(2);
    assert!(p.exists("docs/index.md") && !p.exists("docs/e1.md"));
    has_no_temporary_file(&p);
}

#[test]
fn a_redirect_is_not_followed() {
    let moved = Act::Status { code: 302, headers: Vec::new(), body: String::new() };
    one_page(
        moved.header("location", "http://127.0.0.1:1/elsewhere"),
        1,
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md (request 1)
                 fail  docs/e1.md
            genmake::provider

              x rule `pages`: provider `p`: status 302: it redirects to `http://127.0.0.1:[PORT]/elsewhere`, which is not followed (request req-1)
              help: nothing was written for it
            failed: 1 rendered, 1 failed in [TIME] · 1 request, 0 tokens in, 0 out
        "#]],
    );
}

#[test]
fn a_web_page_that_stays_is_asked_past_once() {
    one_page(
        Act::Html,
        2,
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md (request 1)
               answer  request 1: 0 of 1 in [TIME]
              correct  docs/e1.md: the provider sent something that is no answer (text/html): "<!DOCTYPE html><html><body>Please sign in.</body></html>"
                  ask  p for docs/e1.md (request 2)
               answer  request 2: 0 of 1 in [TIME]
                 fail  docs/e1.md
            genmake::malformed

              x rule `pages`: no usable answer of provider `p` (request req-2) for `docs/e1.md`: the provider sent something that is no answer (text/html): "<!DOCTYPE html><html><body>Please sign in.</body></html>"
              help: run again, or try another model
            failed: 1 rendered, 1 failed in [TIME] · 2 requests, tokens not counted
        "#]],
    );
}

#[test]
fn an_answer_without_content_is_asked_past_once() {
    one_page(
        Act::Content(" \n".to_owned()),
        2,
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md (request 1)
               answer  request 1: 0 of 1 in [TIME], 11 tokens in, 0 out
              correct  docs/e1.md: the answer is empty
                  ask  p for docs/e1.md (request 2)
               answer  request 2: 0 of 1 in [TIME], 11 tokens in, 0 out
                 fail  docs/e1.md
            genmake::malformed

              x rule `pages`: no usable answer of provider `p` (request req-2) for `docs/e1.md`: the answer is empty
              help: run again, or try another model
            failed: 1 rendered, 1 failed in [TIME] · 2 requests, 22 tokens in, 0 out
        "#]],
    );
}

#[test]
fn a_cut_page_is_not_written() {
    one_page(
        Act::Truncate { keep: 0 },
        1,
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md (request 1)
               answer  request 1: 0 of 1 in [TIME], 11 tokens in, 1 out
                 fail  docs/e1.md
            genmake::truncated

              x rule `pages`: the answer of provider `p` (request req-1) for `docs/e1.md` was cut at the limit of output tokens
              help: raise `params: {max_output_tokens: …}`, or ask for less
            failed: 1 rendered, 1 failed in [TIME] · 1 request, 11 tokens in, 1 out
        "#]],
    );
}

#[test]
fn a_page_without_content_for_lack_of_tokens_is_not_written() {
    one_page(
        Act::LengthEmpty,
        1,
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md (request 1)
               answer  request 1: 0 of 1 in [TIME], 11 tokens in, 0 out
                 fail  docs/e1.md
            genmake::truncated

              x rule `pages`: the answer of provider `p` (request req-1) for `docs/e1.md` was cut at the limit of output tokens
              help: raise `params: {max_output_tokens: …}`, or ask for less
            failed: 1 rendered, 1 failed in [TIME] · 1 request, 11 tokens in, 0 out
        "#]],
    );
}

#[test]
fn a_refused_page_is_not_asked_for_again() {
    one_page(
        Act::Refusal,
        1,
        expect![[r#"
               render  docs/index.md
                  ask  p for docs/e1.md (request 1)
               answer  request 1: 0 of 1 in [TIME], 11 tokens in, 0 out
                 fail  docs/e1.md
            genmake::refused

              x rule `pages`: no answer of provider `p` (request req-1) for `docs/e1.md`: the model declined: I'm sorry, I can't help with that.
              help: look at what the prompt asks for
            failed: 1 rendered, 1 failed in [TIME] · 1 request, 11 tokens in, 0 out
        "#]],
    );
}

/// Whoever looks after that gateway needs the id of the request, and who reads this may have several providers.
#[test]
fn what_is_no_answer_is_named_with_its_provider_and_the_request_s_id() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "retries: 0");
    server.always(Act::Html);
    p.run([])
        .stderr_has("rule `pages`")
        .stderr_has("provider `p`")
        .stderr_has("req-1")
        .stderr_has("docs/e1.md")
        .exits(2);
}

/// Five pages, always `act`, one request at a time: at most so many requests, nothing written, exit 2.
#[track_caller]
fn for_ever(act: Act, flags: &[&str], most: usize) {
    let server = Server::start();
    let p = shop_with(&server, 5, "in_flight: 1", "");
    server.always(act);
    p.run(flags.iter().copied()).exits(2);
    assert!(server.count() <= most, "{:?}", asked_after(&server, 0));
    assert_eq!(pages(&p), [""; 0]);
    assert!(p.exists("docs/index.md"));
    has_no_temporary_file(&p);
}

#[test]
fn requests_are_bounded_whatever_stays_wrong() {
    // Together twice, then each alone, twice; the first that fails ends it unless `-k` says to go on.
    for_ever(Act::Html, &[], 2 + 5 + 1);
    for_ever(Act::Html, &["-k"], 2 + 5 * 2);
    for_ever(Act::HalfJson, &["-k"], 2 + 5 * 2);
    // Halves, then each alone, once.
    for_ever(Act::LengthEmpty, &["-k"], 1 + 3 + 5);
    for_ever(Act::Refusal, &[], 1 + 2 + 1);
    for_ever(Act::Refusal, &["-k"], 1 + 2 + 5);
    for_ever(Act::context_exceeded(), &["-k"], 1 + 2 + 5);
}

// ---- one fails, and the others ----

/// Six pages, two a request, one request at a time; the second request fails.
fn second_fails(act: Act) -> (Server, Project) {
    let server = Server::start();
    let batching = "batching: {max_batch_size: 2, fallback_on_failure: false}";
    let p = shop_with(&server, 6, "in_flight: 1", batching);
    server.script([Act::Default, act]);
    (server, p)
}

#[test]
fn after_a_failure_nothing_more_is_asked() {
    let (server, p) = second_fails(Act::Refusal);
    p.run([])
        .stderr_has("skip  docs/e5.md\n     skip  docs/e6.md\n")
        .stderr_has("failed: 2 generated, 1 rendered, 2 failed, 2 skipped in ")
        .exits(2);
    assert_eq!(asked_after(&server, 0), ["e1 e2", "e3 e4"]);
    assert_eq!(pages(&p), ["e1", "e2"]);
    assert!(p.exists("docs/index.md"));
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 2), ["e3 e4", "e5 e6"]);
    is_built(&p, 6, &[]);
}

#[test]
fn with_k_what_does_not_depend_on_the_failure_is_still_asked_for() {
    let (server, p) = second_fails(Act::Refusal);
    p.run(["-k"]).exits(2);
    assert_eq!(asked_after(&server, 0), ["e1 e2", "e3 e4", "e5 e6"]);
    assert_eq!(pages(&p), ["e1", "e2", "e5", "e6"]);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 3), ["e3 e4"]);
}

#[test]
fn a_provider_that_takes_no_request_is_asked_no_further_even_with_k() {
    let (server, p) = second_fails(Act::unauthorized());
    server.always(Act::unauthorized());
    p.run(["-k"]).exits(2);
    assert_eq!(asked_after(&server, 0), ["e1 e2", "e3 e4"]);
    assert_eq!(pages(&p), ["e1", "e2"]);
}

#[test]
fn another_provider_goes_on_with_k() {
    let (sick, well) = (Server::start(), Server::start());
    sick.always(Act::unauthorized());
    let p = Project::new().file("x.prompt", "Write {{output}}.\n").file(
        "Genfile",
        &format!(
            "version: 1\nproviders:\n  sick: {{api: openai, model: m, base_url: \"{}\"}}\n  \
                 well: {{api: openai, model: m, base_url: \"{}\"}}\nrules:\n  \
                 a: {{prompt: x.prompt, output: a.md, provider: sick}}\n  \
                 after-a: {{prompt: x.prompt, output: after-a.md, provider: well, inputs: [a.md]}}\n  \
                 b: {{prompt: x.prompt, output: b.md, provider: well}}\n  \
                 c: {{prompt: x.prompt, output: c.md, provider: well, inputs: [b.md]}}\n",
            sick.base_url(),
            well.base_url()
        ),
    );
    p.run(["-k"]).stderr_has("skip  after-a.md").exits(2);
    assert_eq!((sick.count(), well.count()), (1, 2));
    assert!(p.exists("b.md") && p.exists("c.md") && !p.exists("a.md") && !p.exists("after-a.md"));
}

// ---- checks ----

/// A JSON for every page; for `e2` a bad one as long as `is_bad` says so.
fn json_pages(request: &Recorded, slot: Option<&str>, is_bad: bool) -> String {
    let page = answer(request, slot);
    let title = page.lines().next().unwrap_or_default();
    if is_bad && title == "# e2" { "{\"e2\":\n  oops}".to_owned() } else { format!("{{\"title\": \"{title}\"}}\n") }
}

/// Three pages with a check; the model gets `e2` wrong until it is told what is wrong with it.
fn with_check(server: &Server, rule: &str) -> Project {
    let p = shop_with(server, 3, "", &format!("check: json{rule}"));
    server.reply(|request, slot| {
        let messages = request.body["messages"].as_array();
        let was_told = messages.is_some_and(|messages| messages.iter().any(|m| m["role"] == "assistant"));
        json_pages(request, slot, !was_told)
    });
    p
}

#[test]
fn what_fails_a_check_goes_back_to_the_model_with_the_words_of_the_check() {
    let server = Server::start();
    let p = with_check(&server, "");
    p.run([]).stderr_has("correct  docs/e2.md: not JSON, line 2, column 3: expected value").exits(0);
    assert_eq!(asked_after(&server, 0), ["e1 e2 e3", "e2"]);
    let retry = &server.requests()[1];
    assert_eq!(retry.schema(), None);
    expect![[r#"
        [
          {
            "role": "system",
            "content": "You write a handbook."
          },
          {
            "role": "user",
            "content": "Write about e2: about e2"
          },
          {
            "role": "assistant",
            "content": "{\"e2\":\n  oops}"
          },
          {
            "role": "user",
            "content": "That does not pass the check `json` for `docs/e2.md`: not JSON, line 2, column 3: expected value. Answer again with the whole corrected content and nothing else."
          }
        ]
    "#]].assert_eq(&format!("{:#}\n", retry.body["messages"]));
    for key in ["e1", "e2", "e3"] {
        assert_eq!(p.read(&format!("docs/{key}.md")), format!("{{\"title\": \"# {key}\"}}\n"));
    }
    p.run([]).exits(0);
    assert_eq!(server.count(), 2);
}

#[test]
fn a_check_that_fails_to_the_end_fails_its_task_alone() {
    let server = Server::start();
    let p = with_check(&server, ", retries: 2");
    server.reply(|request, slot| json_pages(request, slot, true));
    p.run([])
        .stderr_has("rule `pages`: `docs/e2.md` does not pass the check `json`: not JSON, line 2, column 3: ")
        .exits(2);
    assert_eq!(asked_after(&server, 0), ["e1 e2 e3", "e2", "e2"]);
    assert_eq!(pages(&p), ["e1", "e3"]);
    has_no_temporary_file(&p);

    // The bad reply is no result: the next run asks again, for this one.
    server.reply(|request, slot| json_pages(request, slot, false));
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 3), ["e2"]);
    assert_eq!(pages(&p), ["e1", "e2", "e3"]);
}

#[test]
fn without_retries_a_failed_check_is_final() {
    let server = Server::start();
    let p = with_check(&server, ", retries: 0");
    p.run([]).exits(2);
    assert_eq!(asked_after(&server, 0), ["e1 e2 e3"]);
    assert_eq!(pages(&p), ["e1", "e3"]);
}

#[test]
fn without_fallback_a_failed_check_of_a_batch_is_final() {
    let server = Server::start();
    let p = with_check(&server, ", batching: {fallback_on_failure: false}");
    p.run([]).exits(2);
    assert_eq!(asked_after(&server, 0), ["e1 e2 e3"]);
    assert_eq!(pages(&p), ["e1", "e3"]);
}
