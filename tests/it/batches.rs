//! What goes over the wire: who travels together, in which form, over how many connections, and where the key does not go.

use expect_test::expect;
use serde_json::Value;

use crate::project::{Project, Run};
use crate::server::{Act, Gate, Server};
use crate::shop::{APIS, answer, asked_after, is_built, keys, page, shop, shop_of, shop_with};

/// A project of these rules, with the server as their provider.
fn project(server: &Server, rules: &str) -> Project {
    let head = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\"}}\nrules:\n";
    Project::new().genfile_for(server, &format!("{head}{rules}"))
}

/// The paths of each request, sorted; a single request has none.
fn paths(server: &Server) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = server.requests().iter().map(|request| request.paths()).collect();
    all.sort();
    all
}

// ---- how many ----

#[track_caller]
fn takes(files: usize, requests: usize) {
    let server = Server::start();
    let p = shop(&server, files);
    p.run([]).exits(0);
    is_built(&p, files, &[]);
    assert_eq!(server.count(), requests);
    assert!(server.requests().iter().all(|request| request.slots().len() == 5));

    let server = Server::start();
    let p = shop(&server, files);
    p.run(["--no-batch"]).exits(0);
    is_built(&p, files, &[]);
    assert_eq!(server.count(), files);
    assert!(server.requests().iter().all(|request| request.schema().is_none()));
}

#[test]
fn ten_files_take_two_requests() {
    takes(10, 2);
}

#[test]
fn twenty_files_take_four_requests() {
    takes(20, 4);
}

#[test]
fn fifty_files_take_ten_requests() {
    takes(50, 10);
}

#[test]
fn the_last_batch_is_what_is_left() {
    let server = Server::start();
    let p = shop_with(&server, 7, "in_flight: 1", "batching: {max_batch_size: 3}");
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 0), ["e1 e2 e3", "e4 e5 e6", "e7"]);
    let requests = server.requests();
    assert_eq!(requests[0].schema(), requests[1].schema(), "a provider can keep the schema of a shape");
    assert_eq!(requests[0].body["messages"][0], requests[1].body["messages"][0], "and the stable prefix");
    assert_eq!(requests[2].schema(), None);
    is_built(&p, 7, &[]);
}

#[test]
fn what_is_sent_is_what_the_plan_said() {
    let server = Server::start();
    let p = shop_with(&server, 30, "in_flight: 1", "");
    let plan = p.run(["plan", "--format", "json"]);
    let batches = plan.stdout_json()["batches"].clone();
    plan.exits(0);
    p.run([]).exits(0);
    let planned: Vec<&Value> = batches.as_array().expect("a list").iter().map(|batch| &batch["outputs"]).collect();
    let sent: Vec<Value> = server.requests().iter().map(|request| request.paths().into()).collect();
    assert_eq!(planned, sent.iter().collect::<Vec<_>>());
}

// ---- in which form ----

#[test]
fn a_batch_is_asked_for_under_a_strict_schema() {
    let server = Server::start();
    let p = shop_with(&server, 2, "", "params: {temperature: 0, max_output_tokens: 100}");
    p.run([]).exits(0);
    expect![[r#"
        {
          "model": "m",
          "messages": [
            {
              "role": "system",
              "content": "You write a handbook."
            },
            {
              "role": "user",
              "content": "Do these 2 tasks. Answer with a JSON object: under \"files\", the full text of each result under its name.\n\nf1:\nWrite about e1: about e1\n(f1 is docs/e1.md)\n\nf2:\nWrite about e2: about e2\n(f2 is docs/e2.md)\n"
            }
          ],
          "temperature": 0,
          "max_tokens": 282,
          "response_format": {
            "type": "json_schema",
            "json_schema": {
              "name": "result",
              "strict": true,
              "schema": {
                "type": "object",
                "required": [
                  "files"
                ],
                "additionalProperties": false,
                "properties": {
                  "files": {
                    "type": "object",
                    "required": [
                      "f1",
                      "f2"
                    ],
                    "additionalProperties": false,
                    "properties": {
                      "f1": {
                        "type": "string"
                      },
                      "f2": {
                        "type": "string"
                      }
                    }
                  }
                }
              }
            }
          },
          "stream": true,
          "stream_options": {
            "include_usage": true
          }
        }
    "#]].assert_eq(&format!("{:#}\n", server.requests()[0].body));
    is_built(&p, 2, &[]);
}

#[test]
fn a_single_task_is_asked_for_as_plain_text() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "params: {temperature: 0, max_output_tokens: 100}");
    p.run([]).exits(0);
    expect![[r#"
        {
          "model": "m",
          "messages": [
            {
              "role": "system",
              "content": "You write a handbook."
            },
            {
              "role": "user",
              "content": "Write about e1: about e1"
            }
          ],
          "temperature": 0,
          "max_tokens": 100,
          "stream": true,
          "stream_options": {
            "include_usage": true
          }
        }
    "#]]
    .assert_eq(&format!("{:#}\n", server.requests()[0].body));
    is_built(&p, 1, &[]);
}

#[test]
fn every_slot_of_a_large_batch_finds_its_file() {
    let server = Server::start();
    let p = shop_with(&server, 23, "", "batching: {max_batch_size: 23}");
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
    is_built(&p, 23, &[]);
}

#[test]
fn several_outputs_are_an_object_in_their_slot() {
    let server = Server::start();
    let rule = "  pair: {foreach: [a, b], prompt: x.prompt, outputs: {header: \"{{item}}.h\", code: \"{{item}}.c\"}}\n";
    let p = project(&server, rule).file("x.prompt", "Write {{item}}\n");
    server.reply(|_, slot| format!("{{\"code\": \"code {0}\", \"header\": \"header {0}\"}}", slot.unwrap_or("alone")));
    p.run([]).exits(0);
    let request = &server.requests()[0];
    assert_eq!(request.paths(), ["header = a.h, code = a.c", "header = b.h, code = b.c"]);
    expect![[r#"
        {
          "type": "object",
          "required": [
            "header",
            "code"
          ],
          "additionalProperties": false,
          "properties": {
            "header": {
              "type": "string"
            },
            "code": {
              "type": "string"
            }
          }
        }
    "#]]
    .assert_eq(&format!("{:#}\n", request.schema().expect("a schema")["properties"]["files"]["properties"]["f2"]));
    let read = |path: &str| p.read(path);
    assert_eq!(["a.h", "a.c", "b.h", "b.c"].map(read), ["header f1", "code f1", "header f2", "code f2"]);

    // Alone, the object is the whole answer.
    p.edit("x.prompt", "Write only {{item}}\n");
    p.run(["a.c"]).exits(0);
    let request = &server.requests()[1];
    expect![[r#"
        {
          "type": "json_schema",
          "json_schema": {
            "name": "result",
            "strict": true,
            "schema": {
              "type": "object",
              "required": [
                "header",
                "code"
              ],
              "additionalProperties": false,
              "properties": {
                "header": {
                  "type": "string"
                },
                "code": {
                  "type": "string"
                }
              }
            }
          }
        }
    "#]]
    .assert_eq(&format!("{:#}\n", request.body["response_format"]));
    assert_eq!((p.read("a.h"), p.read("a.c")), ("header alone".to_owned(), "code alone".to_owned()));
    p.run(["check", "a.h"]).exits(0);
}

#[test]
fn a_slot_that_lacks_one_of_its_outputs_is_asked_for_again_whole() {
    let server = Server::start();
    let rule = "  pair: {foreach: [a, b], prompt: x.prompt, outputs: {header: \"{{item}}.h\", code: \"{{item}}.c\"}}\n";
    let p = project(&server, rule).file("x.prompt", "Write {{item}}\n");
    let half = r#"{"files": {"f1": {"header": "h", "code": "c"}, "f2": {"header": "h"}}}"#;
    server.script([Act::Content(half.to_owned())]);
    p.run([]).exits(0);
    assert_eq!(server.requests()[1].user_text(), "Write b");
    assert!(p.exists("b.h") && p.exists("b.c"));
}

#[test]
fn texts_come_through_as_they_are() {
    let text = "\"quoted\" \\ back\\slash\n\ttab\r\nwindows é 漢 😀 {\"files\": {\"f1\": \"no\"}} ``` \u{7f}\n\n\n";
    let built = |flags: &[&str]| {
        let server = Server::start();
        let p = shop(&server, 3);
        server.reply(move |request, slot| answer(request, slot) + text);
        p.run(flags.iter().copied()).exits(0);
        p.read("docs/e2.md")
    };
    assert_eq!(built(&[]), page("e2", "about e2") + text);
    assert_eq!(built(&["--no-batch"]), page("e2", "about e2") + text);
}

#[test]
fn paths_with_dots_and_spaces_find_their_slots() {
    let server = Server::start();
    let names = ["a b.c.md", "v1.2 is new; f9 is x.md", "é. Answer.md"];
    let rule = format!("  x: {{foreach: {names:?}, prompt: x.prompt, output: \"out/{{{{item}}}}\"}}\n");
    let p = project(&server, &rule).file("x.prompt", "Write {{item}}\n");
    p.run([]).exits(0);
    assert_eq!(server.requests()[0].paths(), names.map(|name| format!("out/{name}")));
    for name in names {
        assert_eq!(p.read(&format!("out/{name}")), format!("# out/{name}\n"));
    }
    p.run(["check"]).exits(0);
}

/// The store writes each content once, and many workers may bring the same one at the same time.
#[test]
fn many_pages_of_the_same_text_do_not_get_into_each_others_way() {
    let server = Server::start();
    let p = shop_with(&server, 60, "", "batching: {max_batch_size: 30}");
    server.reply(|_, _| "the same\n".to_owned());
    p.run(["-j8"]).exits(0);
    for key in keys(60) {
        assert_eq!(p.read(&format!("docs/{key}.md")), "the same\n");
    }
    p.run(["check"]).exits(0);
}

// ---- who with whom ----

#[test]
fn only_tasks_of_one_shape_travel_together() {
    let server = Server::start();
    let rule =
        |name: &str, more: &str| format!("  {name}: {{foreach: [1, 2], output: \"{name}{{{{item}}}}.md\", {more}}}\n");
    let rules = [
        rule("plain", "prompt: a.prompt"),
        rule("twin", "prompt: a.prompt"),
        rule("system", "prompt: b.prompt"),
        rule("model", "prompt: a.prompt, model: m2"),
        rule("params", "prompt: a.prompt, params: {temperature: 1}"),
        rule("check", "prompt: a.prompt, check: yaml"),
        rule("limit", "prompt: a.prompt, batching: {max_batch_size: 4}"),
        rule("provider", "prompt: a.prompt, provider: q"),
    ];
    let p = project(&server, &rules.concat())
        .file("a.prompt", "{{role \"system\"}}\nBe brief.\n{{role \"user\"}}\nWrite {{output}}\n")
        .file("b.prompt", "{{role \"system\"}}\nBe kind.\n{{role \"user\"}}\nWrite {{output}}\n");
    let q = format!("  q: {{api: openai, model: m, base_url: \"{}\"}}\nrules:\n", server.base_url());
    let providers = "providers:\n  p: {api: openai, model: m, base_url: \"{base_url}\"}\n";
    let genfile = format!("version: 1\nprovider: p\n{providers}{q}{}", rules.concat());
    let p = p.genfile_for(&server, &genfile);
    p.run([]).exits(0);
    let pair = |name: &str| vec![format!("{name}1.md"), format!("{name}2.md")];
    let together = ["plain", "twin"].map(pair).concat();
    let alone = ["check", "limit", "model", "params"].map(pair).to_vec();
    let expected: Vec<Vec<String>> = alone.into_iter().chain([together, pair("provider"), pair("system")]).collect();
    assert_eq!(paths(&server), expected);
}

#[test]
fn what_depends_on_an_answer_travels_after_it() {
    let server = Server::start();
    let p = project(
        &server,
        "  first: {foreach: [1, 2], output: \"first{{item}}.md\", prompt: a.prompt}\n  \
         second: {foreach: [1, 2], output: \"second{{item}}.md\", prompt: a.prompt, inputs: [\"first{{item}}.md\"]}\n",
    )
    .file("a.prompt", "Write {{output}}\n");
    p.run([]).exits(0);
    let sent: Vec<Vec<String>> = server.requests().iter().map(|request| request.paths()).collect();
    assert_eq!(sent, [["first1.md", "first2.md"], ["second1.md", "second2.md"]]);
}

#[test]
fn a_rule_may_travel_alone() {
    for keys in ["batch: false", "batching: {enabled: false}", "batching: {max_batch_size: 1}"] {
        let server = Server::start();
        let p = shop_with(&server, 4, "", keys);
        p.run([]).exits(0);
        assert_eq!(server.count(), 4, "{keys}");
        assert!(server.requests().iter().all(|request| request.schema().is_none()));
        is_built(&p, 4, &[]);
    }
}

#[test]
fn batching_can_be_turned_off_for_all_and_on_for_one() {
    let server = Server::start();
    let p = project(
        &server,
        "  a: {foreach: [1, 2], output: \"a{{item}}.md\", prompt: a.prompt}\n  \
         b: {foreach: [1, 2], output: \"b{{item}}.md\", prompt: a.prompt, batch: true}\n",
    )
    .file("a.prompt", "Write {{output}}\n");
    p.edit("Genfile", &p.read("Genfile").replace("rules:", "batching: {enabled: false}\nrules:"));
    p.run([]).exits(0);
    assert_eq!(paths(&server), [vec![], vec![], vec!["b1.md".to_owned(), "b2.md".to_owned()]]);
}

#[test]
fn a_conversation_travels_alone() {
    let server = Server::start();
    let p = project(&server, "  a: {foreach: [1, 2], output: \"a{{item}}.md\", prompt: a.prompt}\n")
        .file("a.prompt", "{{role \"user\"}}Hi{{role \"model\"}}Yes?{{role \"user\"}}Write {{item}}\n");
    p.run([]).exits(0);
    assert_eq!(server.count(), 2);
    expect![[r#"
        [
          {
            "role": "user",
            "content": "Hi"
          },
          {
            "role": "assistant",
            "content": "Yes?"
          },
          {
            "role": "user",
            "content": "Write 2"
          }
        ]
    "#]]
    .assert_eq(&format!(
        "{:#}\n",
        server.requests().iter().find(|r| r.user_text().contains("Write 2")).expect("the second").body["messages"]
    ));
}

// ---- how many at once ----

#[test]
fn as_many_requests_as_allowed_are_under_way_and_no_more() {
    let server = Server::start();
    let p = shop_with(&server, 12, "in_flight: 3", "batch: false");
    let gate = Gate::new();
    server.always(Act::Hold(gate.clone()));
    let run = p.spawn([]);
    server.wait_for(3);
    gate.open();
    p.finish(run).exits(0);
    assert_eq!(server.max_in_flight(), 3);
    is_built(&p, 12, &[]);
}

#[test]
fn one_at_a_time_is_one_at_a_time() {
    let server = Server::start();
    let p = shop_with(&server, 12, "in_flight: 1", "batch: false");
    p.run(["-j8"]).exits(0);
    assert_eq!((server.count(), server.max_in_flight()), (12, 1));
}

#[test]
fn providers_do_not_wait_for_each_other() {
    let (one, two) = (Server::start(), Server::start());
    let gate = Gate::new();
    one.always(Act::Hold(gate.clone()));
    two.always(Act::Hold(gate.clone()));
    let p = Project::new().file("a.prompt", "Write {{output}}\n").file(
        "Genfile",
        &format!(
            "version: 1\nproviders:\n  one: {{api: openai, model: m, in_flight: 1, base_url: \"{}\"}}\n  \
             two: {{api: openai, model: m, in_flight: 1, base_url: \"{}\"}}\nrules:\n  \
             a: {{prompt: a.prompt, output: a.md, provider: one}}\n  b: {{prompt: a.prompt, output: b.md, provider: two}}\n",
            one.base_url(),
            two.base_url()
        ),
    );
    let run = p.spawn(["-j1"]);
    one.wait_for(1);
    two.wait_for(1);
    gate.open();
    p.finish(run).exits(0);
}

/// A template does not wait for a model.
#[test]
fn local_work_goes_on_while_a_request_is_under_way() {
    let server = Server::start();
    let p = project(
        &server,
        "  a: {prompt: a.prompt, output: a.md}\n  b: {prompt: b.prompt, output: b.md, batch: false}\n  \
         c: {template: c.hbs, output: c.md, inputs: [b.md]}\n",
    )
    .file("a.prompt", "a\n")
    .file("b.prompt", "b\n")
    .file("c.hbs", "c\n");
    let gate = Gate::new();
    server.on(|request| request.user_text() == "a", Act::Hold(gate.clone()));
    let mut run = p.spawn(["-j1"]);
    p.wait_for_line(&mut run, "render  c.md");
    assert!(p.exists("b.md") && p.exists("c.md") && !p.exists("a.md"));
    gate.open();
    p.finish(run).exits(0);
}

#[test]
fn connections_are_used_again() {
    let server = Server::start();
    let p = shop_with(&server, 40, "in_flight: 3", "batch: false");
    p.run([]).exits(0);
    assert_eq!(server.count(), 40);
    assert!(server.connections() <= 4, "{} connections", server.connections());
}

// ---- the key ----

const KEY: &str = "sk-canary-2f9c41d7a8b35e60";

/// What of the key must be found nowhere: a part of it is as good as a leak.
const CANARY: &str = "sk-canary";

fn with_key(api: &str, server: &Server) -> Project {
    shop_of(api, server, 3, "key_env: SHOP_KEY", "").env("SHOP_KEY", KEY)
}

#[track_caller]
fn knows_no_key(p: &Project, run: &Run) {
    assert!(
        !run.stdout.contains(CANARY) && !run.stderr.contains(CANARY),
        "the key was printed:\n{}{}",
        run.stdout,
        run.stderr
    );
    for (path, bytes) in p.everything() {
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "the key stands in {path}: {}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn the_key_goes_to_the_provider_and_nowhere_else() {
    for (api, header, value) in [
        ("openai", "authorization", format!("Bearer {KEY}")),
        ("openai-responses", "authorization", format!("Bearer {KEY}")),
        ("anthropic", "x-api-key", KEY.to_owned()),
        ("gemini", "x-goog-api-key", KEY.to_owned()),
    ] {
        let server = Server::start();
        let p = with_key(api, &server);
        let run = p.run(["-v", "--report", "report.json"]);
        knows_no_key(&p, &run);
        run.exits(0);
        let request = &server.requests()[0];
        assert_eq!(request.header(header), Some(value.as_str()));
        assert_eq!(request.headers.iter().filter(|(_, value)| value.contains(KEY)).count(), 1);
        assert!(!request.path.contains(KEY));
        for args in [&["plan", "-v"][..], &["explain", "docs/e1.md"], &["check"], &["-B", "--progress", "plain"]] {
            knows_no_key(&p, &p.run(args.iter().copied()));
        }
    }
}

#[test]
fn without_a_name_for_it_no_key_is_sent() {
    let server = Server::start();
    let p = shop(&server, 1).env("OPENAI_API_KEY", KEY);
    p.run([]).exits(0);
    assert_eq!(server.requests()[0].header("authorization"), None);
}

/// The provider quotes the key: it is printed and kept nowhere, and a failure stays a failure.
#[track_caller]
fn quotes(act: Act) {
    for api in APIS {
        let server = Server::start();
        let p = with_key(api, &server);
        server.always(act.clone());
        let run = p.run(["-v", "--report", "report.json"]);
        knows_no_key(&p, &run);
        run.exits(2);
    }
}

#[test]
fn an_error_that_quotes_the_key_is_masked() {
    let message = format!("Incorrect API key provided: {KEY}. You can find your key elsewhere.");
    quotes(Act::error(401, "invalid_request_error", "invalid_api_key", &message));
}

#[test]
fn a_web_page_that_quotes_the_key_is_masked() {
    let page = |body: String| Act::Status { code: 200, headers: Vec::new(), body };
    quotes(page(format!("<html>Bearer {KEY}")));
}

/// Wherever a long page is cut before it is shown: a part of the key is as bad as all of it.
#[test]
fn a_web_page_that_quotes_the_key_where_it_is_cut_short_is_masked() {
    for before in [10, 30, 40, 45, 50, 90, 180, 190] {
        let body = format!("{}{KEY}{}", "x".repeat(before), "y".repeat(500));
        quotes(Act::Status { code: 403, headers: Vec::new(), body: body.clone() });
        quotes(Act::Status { code: 200, headers: Vec::new(), body });
    }
}

#[test]
fn a_redirect_that_quotes_the_key_is_masked() {
    let moved = Act::Status { code: 307, headers: Vec::new(), body: String::new() };
    quotes(moved.header("location", &format!("https://elsewhere.example/?key={KEY}")));
}

#[test]
fn a_refusal_that_quotes_the_key_is_masked() {
    let body = serde_json::json!({"choices": [{"message": {"content": null, "refusal": format!("Not with {KEY}.")}, "finish_reason": "stop"}]});
    quotes(Act::Status { code: 200, headers: Vec::new(), body: body.to_string() });
    let details = serde_json::json!({"type": "refusal", "explanation": format!("Not with {KEY}.")});
    let body = serde_json::json!({"content": [], "stop_reason": "refusal", "stop_details": details});
    quotes(Act::Status { code: 200, headers: Vec::new(), body: body.to_string() });
    let body = serde_json::json!({"promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": format!("Not with {KEY}.")}});
    quotes(Act::Status { code: 200, headers: Vec::new(), body: body.to_string() });
}

/// The pieces of a stream cut the key in two.
#[test]
fn a_page_that_quotes_the_key_is_masked() {
    let flags = [&["-v"][..], &["-v", "--no-batch", "-B", "--yes"]];
    for (api, flags) in APIS.iter().flat_map(|api| flags.map(|flags| (api, flags))) {
        let server = Server::start();
        let p = with_key(api, &server);
        server.reply(|request, slot| answer(request, slot) + KEY + "\n");
        let run = p.run(flags.iter().copied());
        knows_no_key(&p, &run);
        run.exits(0);
        assert_eq!(p.read("docs/e2.md"), page("e2", "about e2") + "***\n");
    }
}

#[test]
fn a_key_that_is_not_set_is_said_before_anything_is_sent() {
    let server = Server::start();
    let p = shop_with(&server, 2, "key_env: SHOP_KEY", "");
    p.run([])
        .stderr(expect![[r#"
           render  docs/index.md
             fail  docs/e1.md
        genmake::key

          x rule `pages`: the environment variable `SHOP_KEY` is not set
           ,-[Genfile:4:3]
         3 | providers:
         4 |   p: {api: openai, model: m, base_url: "http://127.0.0.1:[PORT]/v1", key_env: SHOP_KEY}
           :   ^
         5 | rules:
           `----
          help: provider `p` takes its key from it: `export SHOP_KEY=…`
             fail  docs/e2.md
        failed: 1 rendered, 2 failed in [TIME]
    "#]])
        .exits(2);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_key_goes_to_no_host_that_only_the_genfile_names() {
    let server = Server::start();
    let p = with_key("openai", &server);
    p.edit("Genfile", &p.read("Genfile").replace(&server.base_url(), "http://models.invalid/v1"));
    let run = p.run([]);
    knows_no_key(&p, &run);
    run.stderr(expect![[r#"
           render  docs/index.md
             fail  docs/e1.md
        genmake::key

          x rule `pages`: the key in `SHOP_KEY` would go to `models.invalid`, which only the Genfile names
           ,-[Genfile:4:3]
         3 | providers:
         4 |   p: {api: openai, model: m, base_url: "http://models.invalid/v1", key_env: SHOP_KEY}
           :   ^
         5 | rules:
           `----
          help: if you trust that host with your key: `--trust-host models.invalid`, or set GENMAKE_TRUST_HOSTS=models.invalid
             fail  docs/e2.md
             fail  docs/e3.md
        failed: 1 rendered, 3 failed in [TIME]
    "#]])
        .exits(2);
}

/// The Genfile holds the key itself: that is refused, and what is shown of the Genfile is not the key.
#[track_caller]
fn is_refused(keys: &str, what: &str) {
    let server = Server::start();
    let p = shop_with(&server, 1, keys, "");
    let run = p.run([]);
    assert!(!run.stderr.contains(CANARY), "{}", run.stderr);
    run.stderr_has(what).exits(2);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_key_in_the_genfile_is_refused_and_not_shown() {
    is_refused(&format!("api_key: {KEY}"), "`api_key` would put a secret into the Genfile");
}

#[test]
fn a_key_for_a_name_is_refused_and_not_shown() {
    is_refused(&format!("key_env: {KEY}"), "`key_env` is the name of an environment variable, not a key");
}

// ---- who goes with whom ----

/// Entities of two kinds, in the order in which they are given.
fn of_two_kinds(server: &Server, entities: &[&str], more: &str) -> Project {
    let lines = entities.iter().map(|name| match name.starts_with('a') {
        true => format!("  {name}: {{package: shop, fields: {{id: int, name: text}}, refs: [Tax]}}\n"),
        false => format!("  {name}: {{package: crm, fields: {{due: date}}}}\n"),
    });
    let rule = "  r: {foreach: spec.yaml#/entities/*, prompt: x.prompt, output: \"{{item.key}}.md\"}\n";
    project(server, &format!("{rule}{more}"))
        .file("x.prompt", "Write {{item.key}}\n")
        .file("spec.yaml", &format!("entities:\n{}", lines.collect::<String>()))
}

#[test]
fn alike_tasks_travel_together_wherever_they_stand_in_a_file() {
    let bodies = |entities: &[&str]| {
        let server = Server::start();
        of_two_kinds(&server, entities, "").run([]).exits(0);
        let mut bodies: Vec<String> = server.requests().iter().map(|request| request.body.to_string()).collect();
        bodies.sort();
        (bodies, paths(&server))
    };
    let (first, together) = bodies(&["a1", "b1", "a2", "b2", "a10"]);
    assert_eq!(together, [vec!["a1.md", "a2.md", "a10.md"], vec!["b1.md", "b2.md"]]);
    assert_eq!(bodies(&["b2", "a10", "a2", "b1", "a1"]).0, first);
}

#[test]
fn a_plan_shows_how_alike_tasks_are() {
    let server = Server::start();
    let p = of_two_kinds(&server, &["a1", "b1", "a2"], "batching: {similarity_threshold: 0.3}\n");
    p.run(["plan", "-v"])
        .stdout(expect![[r#"
            generate  a1.md  new  [request 1, 0.39 alike]
            generate  b1.md  new  [request 1, 1.00 alike]
            generate  a2.md  new  [request 1, 0.39 alike]
            request          for         model  tokens in   out   at most  cost
            1                3 tasks     p (m)         55  1611  no bound  free
            in all           1 request                 55  1611  no bound  free
            without genmake  3 requests                27  1500            free
            0 fresh, 3 to generate; 1 request
        "#]])
        .exits(0);
}

/// Six tasks in three requests, with a prefix that the model's maker would keep.
fn with_a_long_prefix(server: &Server, batching: &str) -> Project {
    let head = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: gpt-4o-mini, base_url: \"{base_url}\"}}\n";
    let rule = "  r: {foreach: [1, 2, 3, 4, 5, 6], prompt: x.prompt, output: \"{{item}}\"}\n";
    let system = "Say nothing that is not so. ".repeat(400);
    Project::new()
        .genfile_for(server, &format!("{head}batching: {{max_batch_size: 2, {batching}}}\nrules:\n{rule}"))
        .file("x.prompt", &format!("{{{{role \"system\"}}}}{system}{{{{role \"user\"}}}}{{{{item}}}}\n"))
}

#[test]
fn one_request_goes_ahead_where_its_prefix_is_cached_for_the_others() {
    let server = Server::start();
    let gate = Gate::new();
    server.script([Act::Default, Act::Hold(gate.clone()), Act::Hold(gate.clone())]);
    let p = with_a_long_prefix(&server, "");
    let child = p.spawn([]);
    // The second and the third are under way together, and so neither waits for the other.
    server.wait_for(3);
    assert_eq!(server.max_in_flight(), 2);
    gate.open();
    p.finish(child).exits(0);
    assert_eq!(server.count(), 3);
}

#[test]
fn what_waits_for_one_ahead_goes_when_that_begins_to_be_answered() {
    let server = Server::start();
    let gate = Gate::new();
    server.script([Act::HoldAfter { keep: 1, gate: gate.clone() }]);
    let p = with_a_long_prefix(&server, "");
    let child = p.spawn([]);
    // The rest of the first answer is still to come.
    server.wait_for(3);
    gate.open();
    p.finish(child).exits(0);
    assert_eq!(server.count(), 3);
}

#[test]
fn none_goes_ahead_where_time_is_preferred() {
    let server = Server::start();
    let gate = Gate::new();
    server.always(Act::Hold(gate.clone()));
    let p = with_a_long_prefix(&server, "prefer: time");
    let child = p.spawn([]);
    server.wait_for(4);
    gate.open();
    p.finish(child).exits(0);
    assert_eq!((server.count(), server.max_in_flight()), (4, 4));
}

#[test]
fn what_waits_for_one_ahead_is_not_lost_when_that_fails() {
    let server = Server::start();
    server.script([Act::Prose]);
    let p = with_a_long_prefix(&server, "");
    p.run([]).exits(0);
    for task in 1..=6 {
        assert!(p.read(&task.to_string()).starts_with("# "));
    }
    assert_eq!(server.count(), 4);
}
