//! What only Gemini's format has: the model in the path, which schemas it takes, how it thinks, what blocks a prompt, and what it
//! says when it says no. What all formats have in common is in `providers`, `streams` and `metrics`.

use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Server};
use crate::shop::{asked_after, is_built, page, pages, shop_of};

const ALL: &str = "e1 e2 e3 e4 e5";

/// The shop with `pages` pages, a request at a time.
fn shop(server: &Server, pages: usize, rule: &str) -> Project {
    shop_of("gemini", server, pages, "in_flight: 1", rule)
}

/// The values at this place of each request.
fn sent(server: &Server, pointer: &str) -> Vec<Value> {
    server.requests().iter().map(|request| request.body.pointer(pointer).cloned().unwrap_or_default()).collect()
}

/// Each request with something at this place is refused in these words.
fn refuses(server: &Server, pointer: &'static str, message: &str) {
    let error = Act::error(400, "invalid_request_error", "", message);
    server.on(move |request| request.body.pointer(pointer).is_some(), error);
}

/// An answer with this body.
fn says(body: &Value) -> Act {
    Act::Status { code: 200, headers: Vec::new(), body: body.to_string() }
}

// ---- what is sent ----

#[test]
fn a_request_generates_content() {
    let server = Server::start();
    let p =
        shop(&server, 2, "params: {max_output_tokens: 100, temperature: 0, stop: END, seed: 7, reasoning_effort: low}");
    p.run([]).exits(0);
    let request = &server.requests()[0];
    assert!(request.path.ends_with("/models/m:streamGenerateContent?alt=sse"), "{}", request.path);
    let body = &request.body;
    assert_eq!(body["systemInstruction"], json!({"parts": [{"text": "You write a handbook."}]}));
    assert_eq!(body["contents"][0]["role"], "user");
    let config = &body["generationConfig"];
    assert_eq!(
        (&config["stopSequences"], &config["temperature"], &config["seed"]),
        (&json!(["END"]), &json!(0), &json!(7))
    );
    assert_eq!((&config["maxOutputTokens"], &config["responseMimeType"]), (&json!(282), &json!("application/json")));
    assert_eq!(config["thinkingConfig"], json!({"thinkingLevel": "low"}));
    let keys: Vec<&String> = body.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["systemInstruction", "contents", "generationConfig"]);
    is_built(&p, 2, &[]);
}

#[test]
fn a_server_without_streams_is_asked_for_whole_answers() {
    let server = Server::start();
    let unknown = "Unknown request URL: POST /v1/models/m:streamGenerateContent?alt=sse.";
    let is_stream = |request: &crate::server::Recorded| request.path.contains(":stream");
    server.on(is_stream, Act::error(404, "invalid_request_error", "unknown_url", unknown));
    let p = shop(&server, 10, "");
    p.run([]).exits(0);
    let streams: Vec<bool> = server.requests().iter().map(|request| is_stream(request)).collect();
    assert_eq!(streams, [true, false, false]);
    is_built(&p, 10, &[]);
}

#[test]
fn pieces_in_a_list_are_an_answer() {
    let server = Server::start();
    let p = shop(&server, 1, "");
    let piece = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}]}, "index": 0}]});
    let page = page("e1", "about e1");
    let (start, rest) = page.split_at(4);
    let end = json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3}});
    server.script([says(&json!([piece(start), piece(rest), end]))]);
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
    is_built(&p, 1, &[]);
}

#[test]
fn parameters_that_a_model_refuses_are_left_out_from_then_on() {
    let server = Server::start();
    refuses(&server, "/generationConfig/presencePenalty", "Penalty is not enabled for models/m");
    refuses(
        &server,
        "/generationConfig/thinkingConfig/thinkingLevel",
        "Thinking level is not supported for this model.",
    );
    let p = shop(&server, 10, "params: {presence_penalty: 1, reasoning_effort: high}");
    p.run([]).exits(0);
    let (level, budget) = (json!({"thinkingLevel": "high"}), json!({"thinkingBudget": 24_576}));
    assert_eq!(sent(&server, "/generationConfig/presencePenalty"), [json!(1), Value::Null, Value::Null, Value::Null]);
    assert_eq!(sent(&server, "/generationConfig/thinkingConfig"), [level.clone(), level, budget.clone(), budget]);
    is_built(&p, 10, &[]);
}

#[test]
fn a_limit_of_output_that_is_refused_is_lowered() {
    let server = Server::start();
    let range =
        "it has a maxOutputTokens value of 375032 but the supported range is from 1 (inclusive) to 65537 (exclusive).";
    server.script([Act::error(400, "invalid_request_error", "", range)]);
    shop(&server, 10, "params: {max_output_tokens: 60000}").run([]).exits(0);
    assert_eq!(sent(&server, "/generationConfig/maxOutputTokens")[1..], [65_536, 65_536]);
}

// ---- schemas ----

/// A page that is data, with what Gemini takes of its schema and what it does not.
fn data(server: &Server) -> Project {
    let schema = "{type: object, required: [tags], additionalProperties: false, properties: {tags: {type: array, maxItems: 2, \
                  items: {type: string, minLength: 3}}}}";
    let prompt = format!("---\noutput:\n  schema: {schema}\n---\nWrite about {{{{item.key}}}}: x\n");
    let p = shop(server, 1, "");
    p.edit("prompts/page.prompt", &prompt);
    server.reply(|_, _| r#"{"tags": ["abc"]}"#.to_owned());
    p
}

#[test]
fn what_a_schema_has_that_is_not_taken_is_left_out_and_judged_all_the_same() {
    let server = Server::start();
    let p = data(&server);
    server.script([Act::Content(r#"{"tags": ["a"]}"#.to_owned())]);
    p.run([]).exits(0);
    let tags = json!({"type": "array", "maxItems": 2, "items": {"type": "string"}});
    assert_eq!(sent(&server, "/generationConfig/responseJsonSchema/properties/tags"), [tags.clone(), tags]);
    assert!(p.read("docs/e1.md").contains("abc"));
}

/// First without bounds, which is what most often is too much, then without any.
#[test]
fn a_schema_that_is_refused_is_sent_with_less() {
    for words in [
        "Request contains an invalid argument.",
        "The specified schema produces a constraint that has too many states.",
    ] {
        let server = Server::start();
        let p = data(&server);
        refuses(&server, "/generationConfig/responseJsonSchema/properties/tags/maxItems", words);
        p.run([]).exits(0);
        let bounds = sent(&server, "/generationConfig/responseJsonSchema/properties/tags/maxItems");
        assert_eq!(bounds, [json!(2), Value::Null]);
        let server = Server::start();
        let p = data(&server);
        refuses(&server, "/generationConfig/responseJsonSchema", words);
        p.run([]).exits(0);
        let has: Vec<bool> =
            sent(&server, "/generationConfig/responseJsonSchema").iter().map(Value::is_object).collect();
        assert_eq!(has, [true, true, false]);
        assert_eq!(sent(&server, "/generationConfig/responseMimeType"), vec![json!("application/json"); 3]);
        assert!(p.read("docs/e1.md").contains("abc"));
    }
}

// ---- tokens ----

#[test]
fn what_google_kept_by_itself_is_counted() {
    let server = Server::start();
    server.with_cache();
    let p = shop(&server, 10, "");
    let prompt = p.read("prompts/page.prompt").replace("handbook.", &"handbook. ".repeat(1000));
    p.edit("prompts/page.prompt", &prompt);
    p.run(["--report", "report.json"]).exits(0);
    let told = server.told();
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("a report is JSON");
    let llm = &report["llm"];
    assert!(told.cached > 0);
    assert_eq!((&llm["cached_input_tokens"], &llm["input_tokens"]), (&json!(told.cached), &json!(told.input)));
    assert_eq!(llm["output_tokens"], told.output, "thinking is a part of what comes back");
    assert!(sent(&server, "/cachedContent").iter().all(Value::is_null));
}

// ---- contents that are kept ----

/// Tasks with a prefix that is long enough to be kept, two to a request, and a report.
fn with_a_long_prefix(server: &Server, tasks: usize) -> Project {
    let head = "version: 1\nprovider: p\nproviders: {p: {api: gemini, model: gemini-2.5-flash, base_url: \"{base_url}\", in_flight: 1, prices: {input: 0.3, output: 2.5, cache_read: 0.03}}}\n";
    let items: Vec<String> = (1..=tasks).map(|task| task.to_string()).collect();
    let rule = format!("  r: {{foreach: [{}], prompt: x.prompt, output: \"{{{{item}}}}\"}}\n", items.join(", "));
    let system = "Say nothing that is not so. ".repeat(400);
    Project::new()
        .genfile_for(server, &format!("{head}batching: {{max_batch_size: 2}}\nrules:\n{rule}"))
        .file("x.prompt", &format!("{{{{role \"system\"}}}}{system}{{{{role \"user\"}}}}{{{{item}}}}\n"))
}

/// The contents that each request reads; empty for one that is sent whole.
fn reads(server: &Server) -> Vec<String> {
    let requests = server.requests();
    let read = |body: &Value| {
        let name = body["cachedContent"].as_str().unwrap_or_default();
        assert_eq!(name.is_empty(), body["systemInstruction"].is_object(), "a prefix is said once");
        name.trim_start_matches("cachedContents/").to_owned()
    };
    requests.iter().map(|request| read(&request.body)).collect()
}

#[test]
fn a_prefix_is_kept_under_a_name_while_the_run_lasts() {
    let server = Server::start();
    server.keeps_contents(1024);
    let p = with_a_long_prefix(&server, 9);
    p.run(["--report", "report.json"]).exits(0);
    // Also the last, which is alone of its size.
    assert_eq!(reads(&server), ["c1", "c1", "c1", "c1", "c1"]);
    let (asked, body, left) = server.contents();
    assert_eq!((asked, left), (1, 0));
    assert_eq!((&body["model"], &body["ttl"]), (&json!("models/gemini-2.5-flash"), &json!("600s")));
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("a report is JSON");
    let (llm, told) = (&report["llm"], server.told());
    assert_eq!(told.cached, 5 * told.cache_write);
    assert_eq!((&llm["cached_input_tokens"], &llm["input_tokens"]), (&json!(told.cached), &json!(told.input)));
    assert_eq!((&llm["cache_write_tokens"], &llm["output_tokens"]), (&json!(told.cache_write), &json!(told.output)));
    let input = (told.input - told.cached) as f64 * 0.3 + told.cached as f64 * 0.03;
    let (cost, said) = ((input + told.output as f64 * 2.5) / 1e6, llm["cost_usd"].as_f64().expect("a number"));
    assert!((said - cost).abs() < 1e-5, "{said} is not {cost}");
}

#[test]
fn what_nobody_reads_again_or_is_too_short_is_not_kept() {
    for (tasks, is_long) in [(1, true), (2, true), (3, true), (9, false)] {
        let server = Server::start();
        server.keeps_contents(1024);
        let p = with_a_long_prefix(&server, tasks);
        if !is_long {
            p.edit("x.prompt", "{{role \"system\"}}Be brief.{{role \"user\"}}{{item}}\n");
        }
        p.run([]).exits(0);
        assert_eq!(server.contents().0, 0, "{tasks} tasks");
    }
}

#[test]
fn what_is_gone_is_made_anew_once() {
    let server = Server::start();
    server.keeps_contents(1024);
    let p = with_a_long_prefix(&server, 8);
    // Between two requests of the run, twice.
    let forgetful = std::sync::Arc::new(server);
    let weak = std::sync::Arc::downgrade(&forgetful);
    forgetful.each(move |number, _| {
        if let (1 | 3, Some(server)) = (number, weak.upgrade()) {
            server.forget_contents();
        }
        None
    });
    p.run([]).exits(0);
    assert_eq!(reads(&forgetful), ["c1", "c1", "c2", "c2", "", ""]);
    assert_eq!((forgetful.contents().0, forgetful.contents().2), (2, 0));
}

#[test]
fn a_run_that_fails_takes_away_what_was_kept() {
    let server = Server::start();
    server.keeps_contents(1024);
    server.script([Act::Default, Act::unauthorized()]);
    with_a_long_prefix(&server, 8).run([]).exits(2);
    let (asked, _, left) = server.contents();
    assert_eq!((asked, left, server.count()), (1, 0, 2));
}

#[test]
fn where_nothing_is_kept_everything_is_sent_whole() {
    // Google counts otherwise than we do, and gateways know nothing of it.
    for least in [Some(100_000), None] {
        let server = Server::start();
        if let Some(least) = least {
            server.keeps_contents(least);
        }
        let p = with_a_long_prefix(&server, 8);
        p.run([]).exits(0);
        assert_eq!((reads(&server), server.contents().0), (vec![String::new(); 4], 1));
    }
}

// ---- what it says when it says no ----

/// One page is asked for, and this comes: so many requests are sent, and this is said.
#[track_caller]
fn fails(act: Act, requests: usize, says: &str) {
    let server = Server::start();
    server.always(act);
    let p = shop_of("gemini", &server, 1, "key_env: GEMINI_API_KEY", "").env("GEMINI_API_KEY", "AIza-none");
    p.run([]).stderr_has(says).exits(2);
    assert_eq!(server.count(), requests);
    assert_eq!(pages(&p), [""; 0]);
}

#[test]
fn what_no_wait_ends_is_not_waited_for() {
    let day =
        "status 429: the day's quota is used up (GenerateRequestsPerDayPerProjectPerModel-FreeTier): You exceeded";
    fails(Act::out_of_quota(), 1, day);
    fails(Act::out_of_quota(), 1, "or has no quota left; see the provider's console");
    fails(Act::rate_limited(600), 1, "status 429: Rate limit reached");
    fails(Act::unauthorized(), 1, "provider `p`: status 400: Incorrect API key provided. (request req-1)");
    fails(Act::unauthorized(), 1, "check the key in `GEMINI_API_KEY`");
    fails(
        Act::error(403, "", "", "Method doesn't allow unregistered callers."),
        1,
        "check the key in `GEMINI_API_KEY`",
    );
    fails(Act::not_found(), 1, "check `base_url`");
    let location =
        json!({"error": {"code": 400, "message": "User location is not supported.", "status": "FAILED_PRECONDITION"}});
    let location = Act::Status { code: 400, headers: Vec::new(), body: location.to_string() };
    fails(location, 1, "see the provider's console");
    let long = "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).";
    fails(Act::error(400, "invalid_request_error", "", long), 1, "The input token count (1200293) exceeds");
}

#[test]
fn a_limit_without_details_is_waited_out() {
    let server = Server::start();
    let bare = json!({"error": {"code": 429, "message": "Resource has been exhausted (e.g. check quota).", "status": "RESOURCE_EXHAUSTED"}});
    server.script([Act::Status { code: 429, headers: Vec::new(), body: bare.to_string() }]);
    let p = shop(&server, 5, "");
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 0), [ALL, ALL]);
    is_built(&p, 5, &[]);
}

#[test]
fn why_an_answer_ended_is_said() {
    fails(Act::Refusal, 1, "the model declined: I'm sorry, I can't help with that.");
    fails(Act::Truncate { keep: 0 }, 1, "was cut at the limit of output tokens");
    fails(Act::LengthEmpty, 1, "was cut at the limit of output tokens");
    let blocked =
        json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}});
    fails(says(&blocked), 1, "the provider's safeguards stopped the prompt (PROHIBITED_CONTENT)");
    let recited = json!({"candidates": [{"finishReason": "RECITATION", "index": 0}]});
    fails(says(&recited), 1, "the provider's safeguards stopped the answer (RECITATION)");
}

#[test]
fn of_an_answer_that_came_to_no_good_end_what_is_whole_is_kept() {
    let server = Server::start();
    let p = shop(&server, 5, "");
    let text = json!({"files": {"f1": page("e1", "about e1")}}).to_string();
    let candidate = json!({"content": {"parts": [{"text": text.trim_end_matches('}')}]}, "finishReason": "OTHER"});
    server.script([says(&json!({"candidates": [candidate]}))]);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 0), [ALL, "e2 e3 e4 e5"]);
    is_built(&p, 5, &[]);
}

#[test]
fn a_prompt_that_is_blocked_is_found_in_its_batch() {
    let server = Server::start();
    let p = shop(&server, 4, "");
    let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}});
    server.on(|request| request.user_text().contains("about e3"), says(&blocked));
    p.run(["-k"]).stderr_has("for `docs/e3.md`: the model declined").exits(2);
    assert_eq!(pages(&p), ["e1", "e2", "e4"]);
}

#[test]
fn an_error_that_comes_in_a_stream_is_one() {
    let error = |code: u16, details: Value| {
        json!({"error": {"code": code, "message": "words", "status": "X", "details": details}}).to_string()
    };
    let server = Server::start();
    let p = shop(&server, 5, "");
    server.script([Act::ErrorAfter { keep: 3, data: error(503, json!([])) }]);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e4 e5"]);
    is_built(&p, 5, &[]);
    let daily =
        json!([{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "XPerDay"}]}]);
    fails(Act::ErrorAfter { keep: 0, data: error(429, daily) }, 1, "the day's quota is used up (XPerDay): words");
}
