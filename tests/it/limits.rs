//! Limits of requests and tokens: kept where the Genfile says them, learned from answers, and what happens once one is hit.

use std::time::Duration;

use crate::project::Project;
use crate::server::limit::{Limit, Shape};
use crate::server::{Act, Gate, Server};
use crate::shop::{APIS, is_built, shop_of, shop_with};

/// What so many in half a second are in a minute.
fn a_minute(in_half_a_second: u64) -> u64 {
    in_half_a_second * 120
}

fn bucket(requests: Option<u64>, tokens: Option<u64>) -> Limit {
    Limit { shape: Shape::Bucket, requests, tokens, period: Duration::from_millis(500), is_said: false }
}

/// So many pages, each by itself, from a server that takes no more than that: how many requests it refused.
fn refused(limit: Limit, pages: usize, keys: &str) -> usize {
    let server = Server::start();
    let p = shop_with(&server, pages, &format!("in_flight: 30{keys}"), "batch: false");
    server.enforce(limit);
    p.run([]).exits(0);
    is_built(&p, pages, &[]);
    server.refused()
}

#[test]
fn requests_per_minute() {
    let limit = bucket(Some(10), None);
    assert!(refused(limit, 25, "") > 0);
    assert_eq!(refused(limit, 25, &format!(", requests_per_minute: {}", a_minute(10))), 0);
}

#[test]
fn tokens_per_minute() {
    let limit = bucket(None, Some(300));
    assert!(refused(limit, 30, "") > 0);
    assert_eq!(refused(limit, 30, &format!(", tokens_per_minute: {}", a_minute(300))), 0);
}

/// An answer says that nothing is left for a second: nothing is sent for so long.
#[test]
fn what_answers_say_is_left_is_kept_to() {
    let headers: [&[(&str, &str)]; 2] = [
        &[
            ("x-ratelimit-limit-requests", "50"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1s"),
        ],
        &[
            ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
            ("anthropic-ratelimit-input-tokens-limit", "50000"),
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-21T10:00:01Z"),
        ],
    ];
    for (api, headers) in APIS.into_iter().zip(headers) {
        let server = Server::start();
        let p = shop_of(api, &server, 2, "in_flight: 1", "batch: false");
        server.says(headers);
        p.run([]).exits(0);
        let requests = server.requests();
        assert_eq!(requests.len(), 2);
        let pause = requests[1].at.duration_since(requests[0].at);
        assert!(pause >= Duration::from_secs(1), "{api}: {pause:?}");
    }
}

/// Three requests are under way when a fourth is refused. Whatever becomes of them, nobody sends another before the provider is
/// ready.
#[test]
fn a_refused_request_holds_up_all() {
    let server = Server::start();
    let p = shop_with(&server, 12, "in_flight: 4", "batch: false");
    let gate = Gate::new();
    server.script([Act::rate_limited(1)]).always(Act::Hold(gate.clone()));
    let mut child = p.spawn([]);
    server.wait_for(4);
    p.wait_for_line(&mut child, "retry");
    gate.open();
    p.finish(child).exits(0);
    is_built(&p, 12, &[]);
    let requests = server.requests();
    assert_eq!(requests.len(), 13);
    let first = requests[0].at;
    let early = requests.iter().filter(|request| request.at.duration_since(first) < Duration::from_secs(1)).count();
    assert_eq!(early, 4);
}

#[test]
fn a_provider_that_asks_for_hours_is_asked_nothing_more() {
    let server = Server::start();
    let p = shop_with(&server, 3, "in_flight: 1", "batch: false");
    server.always(Act::rate_limited(7200));
    p.run(["-k"]).stderr_has("run again in 2h: what has arrived is kept").exits(2);
    assert_eq!(server.count(), 1);
}

#[test]
fn a_limit_that_no_wait_ends_is_asked_about_once() {
    let server = Server::start();
    let p = shop_with(&server, 3, "in_flight: 1", "batch: false");
    server.always(Act::out_of_quota());
    p.run(["-k"]).stderr_has("You exceeded your current quota.").exits(2);
    assert_eq!(server.count(), 1);
}

#[cfg(unix)]
#[test]
fn waiting_ends_with_the_run() {
    let server = Server::start();
    let p = shop_with(&server, 3, "requests_per_minute: 1", "batch: false");
    let mut child = p.spawn([]);
    server.wait_for(1);
    p.wait_for_line(&mut child, "for the limits of p");
    crate::killed::send(rustix::process::Signal::INT, &child);
    drop(p.finish(child));
    assert_eq!(server.count(), 1);
}

/// One provider holds its answer: the other's tasks are made all the same.
#[test]
fn a_stalled_provider_holds_up_no_other() {
    let (stalled, quick) = (Server::start(), Server::start());
    let gate = Gate::new();
    stalled.always(Act::Hold(gate.clone()));
    let genfile = format!(
        "version: 1\nproviders:\n  stalled: {{api: openai, model: m, base_url: \"{}\", in_flight: 2}}\n  quick: {{api: openai, model: m, \
         base_url: \"{}\", in_flight: 1}}\nrules:\n  a: {{foreach: [1, 2, 3, 4], output: \"a{{{{item}}}}\", prompt: p.prompt, provider: \
         stalled, batch: false}}\n  b: {{foreach: [1, 2, 3, 4], output: \"b{{{{item}}}}\", prompt: p.prompt, provider: quick, batch: \
         false}}\n",
        stalled.base_url(),
        quick.base_url()
    );
    let p = Project::new().file("Genfile", &genfile).file("p.prompt", "{{item}}");
    let mut child = p.spawn([]);
    stalled.wait_for(2);
    quick.wait_for(4);
    p.wait_for_line(&mut child, "generate  b4");
    assert!((1..=4).all(|n| p.exists(&format!("b{n}")) && !p.exists(&format!("a{n}"))));
    gate.open();
    p.finish(child).exits(0);
    assert!((1..=4).all(|n| p.exists(&format!("a{n}"))));
}
