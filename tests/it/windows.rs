//! Windows in order: what each is shown of those before it, what is asked again after an edit, and what comes of windows that are cut
//! off, do not fit or are never answered.

use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Gate, Recorded, Server, fault};

const SCHEMA: &str = r#"{"type": "object", "additionalProperties": false, "required": ["week", "text"],
 "properties": {"week": {"type": "string"}, "text": {"type": "string"}}}"#;

const PROMPT: &str = "{{role \"system\"}}Plan each week.\n{{role \"user\"}}Week: {{item.value}}";

/// A project whose rule makes a plan of weeks, with this of it beside items, output, prompt and schema.
pub fn weeks(server: &Server, weeks: &[String], rule: &str) -> Project {
    weeks_at(server, weeks, "api: openai, model: m, in_flight: 4", rule)
}

fn weeks_at(server: &Server, weeks: &[String], provider: &str, rule: &str) -> Project {
    let genfile = format!(
        "version: 1\nprovider: p\nproviders: {{p: {{{provider}, base_url: \"{{base_url}}\"}}}}\nrules:\n  plan:\n    \
         items: weeks.json#/*\n    output: out/plan.json\n    prompt: week.prompt\n    schema: week.json\n{rule}"
    );
    server.reply(|request, slot| planned(&asked(request, slot)));
    let p = Project::new().genfile_for(server, &genfile).file("week.prompt", PROMPT).file("week.json", SCHEMA);
    set(&p, weeks);
    p
}

pub fn set(p: &Project, weeks: &[String]) {
    p.edit("weeks.json", &json!(weeks).to_string());
}

pub fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("w{n}")).collect()
}

/// What is said in a message.
fn said(message: &Value) -> String {
    match &message["content"] {
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

fn messages(request: &Recorded) -> Vec<(String, String)> {
    let all = request.body["messages"].as_array().cloned().unwrap_or_default();
    all.iter().map(|message| (message["role"].as_str().unwrap_or_default().to_owned(), said(message))).collect()
}

/// The last that the user says: what is asked now.
pub fn last(request: &Recorded) -> String {
    messages(request).pop().map(|(_, text)| text).unwrap_or_default()
}

/// What a request says of one item, which of a conversation stands in its last message.
pub fn asked(request: &Recorded, slot: Option<&str>) -> String {
    let text = last(request);
    let Some(slot) = slot else { return text };
    let of_slot = text.split(&format!("\n{slot}:\n")).nth(1).unwrap_or_default();
    of_slot.split("\n\n").next().unwrap_or_default().to_owned()
}

fn week_of(text: &str) -> &str {
    text.rsplit("Week: ").next().unwrap_or_default().lines().next().unwrap_or_default()
}

/// What a model says of an item, whatever it is shown.
pub fn planned(asked: &str) -> String {
    let week = week_of(asked);
    json!({"week": week, "text": format!("about {week}")}).to_string()
}

/// What a model says of an item that goes on from what it is shown: another with all that it is asked beside it.
fn going_on(request: &Recorded, slot: Option<&str>) -> String {
    let hash = last(request).bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
    let asked = asked(request, slot);
    let week = week_of(&asked);
    json!({"week": week, "text": format!("about {week} after {hash:x}")}).to_string()
}

fn of_request(request: &Recorded) -> Vec<String> {
    last(request).lines().filter_map(|line| line.strip_prefix("Week: ")).map(str::to_owned).collect()
}

/// The weeks of each request, in the order in which they were sent.
pub fn sent(server: &Server) -> Vec<Vec<String>> {
    server.requests().iter().map(|request| of_request(request)).collect()
}

/// The weeks whose results a request shows in front of what it asks.
fn shown(request: &Recorded) -> Vec<String> {
    let rows = last(request).lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect::<Vec<_>>();
    let week = |row: &String| serde_json::from_str::<Value>(row).ok()?["week"].as_str().map(str::to_owned);
    rows.iter().filter_map(week).collect()
}

fn all_shown(server: &Server) -> Vec<Vec<String>> {
    server.requests().iter().map(|request| shown(request)).collect()
}

pub fn rows(p: &Project) -> Vec<Value> {
    serde_json::from_str(&p.read("out/plan.json")).expect("a list")
}

pub fn the_weeks(p: &Project) -> Vec<String> {
    rows(p).iter().map(|row| row["week"].as_str().unwrap_or_default().to_owned()).collect()
}

fn names(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Lists of weeks, one a word list.
fn lists(texts: &[&str]) -> Vec<Vec<String>> {
    texts.iter().map(|text| names(text)).collect()
}

fn report(p: &Project) -> Value {
    serde_json::from_str(&p.read("r.json")).expect("a report")
}

const OF_THREE: &str = "    window: 3\n    carry: 2\n";

// ---- what is asked and shown ----

#[test]
fn windows_go_one_after_the_other_and_each_is_shown_the_last_results() {
    let server = Server::start();
    let p = weeks(&server, &numbered(12), OF_THREE);
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    assert_eq!(plan["requests"], 4);
    p.run([]).exits(0);
    assert_eq!(sent(&server), lists(&["w1 w2 w3", "w4 w5 w6", "w7 w8 w9", "w10 w11 w12"]));
    assert_eq!(all_shown(&server), lists(&["", "w2 w3", "w5 w6", "w8 w9"]));
    assert_eq!((server.max_in_flight(), the_weeks(&p)), (1, numbered(12)));
    p.run(["check"]).exits(0);
    p.run([]).exits(0);
    assert_eq!(server.count(), 4);
}

#[test]
fn an_edit_asks_from_its_window_on_and_stops_where_the_carried_results_are_the_same() {
    for (edited, goes_on, expected) in [
        (7, false, vec!["x w8 w9"]),
        (9, false, vec!["w7 w8 x", "w10 w11 w12"]),
        (7, true, vec!["x w8 w9", "w10 w11 w12"]),
        (12, true, vec!["w10 w11 x"]),
    ] {
        let server = Server::start();
        let p = weeks(&server, &numbered(12), OF_THREE);
        if goes_on {
            server.reply(going_on);
        }
        p.run([]).exits(0);
        let mut weeks = numbered(12);
        weeks[edited - 1] = "x".to_owned();
        set(&p, &weeks);
        p.run([]).exits(0);
        assert_eq!(sent(&server)[4..], lists(&expected), "{edited} {goes_on}");
        assert_eq!(the_weeks(&p), weeks);
        p.run(["check"]).exits(0);
    }
}

#[test]
fn weeks_at_the_end_ask_for_the_last_window() {
    let server = Server::start();
    let p = weeks(&server, &numbered(12), OF_THREE);
    server.reply(going_on);
    for (count, expected) in [(12, ""), (13, "w13"), (14, "w13 w14")] {
        let before = server.count();
        set(&p, &numbered(count));
        p.run([]).exits(0);
        if before > 0 {
            assert_eq!(sent(&server)[before..], lists(&[expected]));
        }
        assert_eq!(the_weeks(&p), numbered(count));
    }
}

#[test]
fn what_is_carried_stands_where_the_prompt_places_it() {
    let server = Server::start();
    let p = weeks(&server, &numbered(4), "    window: 2\n    carry: 1\n");
    p.edit("week.prompt", "Week: {{item.value}}\nBefore: {{#each carried}}{{week}} {{text}}{{/each}}\n");
    p.run([]).exits(0);
    assert_eq!(all_shown(&server), lists(&["", ""]));
    let second = last(&server.requests()[1]);
    assert_eq!(second.matches("Before: w2 about w2").count(), 2, "{second}");
    assert_eq!(sent(&server), lists(&["w1 w2", "w3 w4"]));
}

#[test]
fn a_prompt_that_is_a_conversation_goes_week_by_week() {
    let server = Server::start();
    let p = weeks(&server, &numbered(3), OF_THREE);
    p.edit("week.prompt", "{{role \"user\"}}Hello{{role \"model\"}}Yes?{{role \"user\"}}Week: {{item.value}}");
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    p.run([]).exits(0);
    assert_eq!((sent(&server), plan["requests"].clone()), (lists(&["w1", "w2", "w3"]), json!(3)));
    let third = messages(&server.requests()[2]);
    assert!(third[0].1.contains("\"w1\"") && third[0].1.contains("\"w2\""), "{third:?}");
    assert_eq!(the_weeks(&p), numbered(3));
}

#[test]
fn without_batches_each_week_is_shown_those_before_it() {
    for (args, rule) in [(vec!["--no-batch"], ""), (vec![], "    batch: false\n")] {
        let server = Server::start();
        let p = weeks(&server, &numbered(4), &format!("    window: 2\n    carry: 1\n{rule}"));
        p.run(args).exits(0);
        assert_eq!(sent(&server), lists(&["w1", "w2", "w3", "w4"]));
        assert_eq!(all_shown(&server), lists(&["", "w1", "w2", "w3"]));
        p.run([]).exits(0);
        assert_eq!(server.count(), 4, "however they travelled");
    }
}

const AWS: &str = concat!("AK", "IAQ3EGVZ5XWN7RKJ2M");

#[test]
fn what_is_carried_may_hold_no_secret() {
    let server = Server::start();
    let p = weeks(&server, &numbered(6), OF_THREE);
    server.reply(|request, slot| planned(&asked(request, slot)).replace("about w3", AWS));
    p.run([]).stderr_has("what looks like a credential").exits(2);
    assert_eq!(server.count(), 1);
    assert!(!p.exists("out/plan.json"));
    p.edit("Genfile", &format!("{}    allow_secrets: true\n", p.read("Genfile")));
    p.run([]).exits(0);
    assert!(server.count() == 2 && rows(&p)[2]["text"] == AWS);
}

// ---- conversations ----

#[test]
fn a_conversation_holds_what_was_said_and_answered() {
    let server = Server::start();
    let p = weeks(&server, &numbered(8), "    window: 3\n    carry: all\n");
    server.reply(going_on);
    p.run([]).exits(0);
    assert_eq!(sent(&server), lists(&["w1 w2 w3", "w4 w5 w6", "w7 w8"]));
    let mut before = messages(&server.requests()[0]);
    for (at, request) in server.requests().iter().enumerate().skip(1) {
        let slots: Vec<String> = (0..3).map(|n| format!("f{}", n + 1)).collect();
        let earlier = &server.requests()[at - 1];
        let answer =
            |slot: &String| (slot.clone(), serde_json::from_str(&going_on(earlier, Some(slot))).expect("JSON"));
        let files: serde_json::Map<String, Value> = slots.iter().map(answer).collect();
        before.push(("assistant".to_owned(), json!({"files": files}).to_string()));
        let now = messages(request);
        assert_eq!(now[..before.len()], before);
        assert_eq!((now.len(), now[before.len()].0.as_str()), (before.len() + 1, "user"));
        before = now;
    }
    // Another third week: what was said before it stays.
    let mut weeks = numbered(8);
    weeks[3] = "x".to_owned();
    set(&p, &weeks);
    p.run([]).exits(0);
    assert_eq!(sent(&server)[3..], lists(&["x w5 w6", "w7 w8"]));
    assert_eq!(the_weeks(&p), weeks);
}

#[test]
fn a_conversation_of_single_weeks_or_texts_is_as_it_was_said() {
    let server = Server::start();
    let p = weeks(&server, &numbered(3), "    window: 1\n    carry: all\n");
    p.run([]).exits(0);
    let third = messages(&server.requests()[2]);
    assert_eq!(third[2], ("assistant".to_owned(), planned("Week: w1")));
    assert_eq!(third[3].1, "Week: w2");
    p.edit("Genfile", &p.read("Genfile").replace("    schema: week.json\n", "").replace("window: 1", "window: 2"));
    server.reply(|_, _| "7".to_owned());
    p.run([]).exits(0);
    let last = messages(&server.requests()[4]);
    assert_eq!(last[2].1, json!({"files": {"f1": "7", "f2": "7"}}).to_string());
}

#[test]
fn the_providers_cache_serves_what_was_said_before() {
    let system = format!("{{{{role \"system\"}}}}{}", "Say no more. ".repeat(900));
    for carry in ["all", "2"] {
        let server = Server::start();
        server.with_cache();
        let rule = format!("    window: 3\n    carry: {carry}\n");
        let p = weeks_at(&server, &numbered(9), "api: anthropic, model: claude-sonnet-4.5", &rule);
        p.edit("week.prompt", &PROMPT.replace("{{role \"system\"}}", &system));
        p.run(["--report", "r.json"]).exits(0);
        let llm = &report(&p)["llm"];
        let told = server.told();
        assert_eq!(llm["cached_input_tokens"], told.cached);
        assert!(told.cached > 2 * 2500 && server.unread() < 2, "{carry}: {told:?}");
        p.edit("Genfile", &p.read("Genfile").replace("carry:", "batching: {keep_prefix: never}\n    carry:"));
        p.run(["-B", "--yes"]).exits(0);
        assert_eq!(server.told().cached, told.cached);
    }
}

// ---- more than one answer can hold ----

#[test]
fn the_output_may_be_longer_than_any_answer() {
    let server = Server::start();
    let weeks_of = numbered(84);
    let provider = "api: openai, model: m, limits: {context: 64000, max_output: 8192}";
    let p = weeks_at(&server, &weeks_of, provider, "    carry: 2\n");
    // A week has some 200 tokens: no more than 40 come to an end.
    let long = "word ".repeat(160);
    server.reply(move |request, slot| planned(&asked(request, slot)).replace("about", &long));
    server.on(|request| request.slots().len() > 40, Act::Truncate { keep: 40 });
    p.run([]).exits(0);
    assert_eq!(the_weeks(&p), weeks_of);
    assert!(p.read("out/plan.json").len() > 4 * 8192);
    assert_eq!((server.count(), server.max_in_flight()), (84usize.div_ceil(20), 1));
    // Where the Genfile wants it in one, it comes apart.
    p.edit("Genfile", &p.read("Genfile").replace("carry: 2", "window: 84\n    carry: 2"));
    p.run([]).exits(0);
    let sizes: Vec<usize> = sent(&server)[5..].iter().map(Vec::len).collect();
    assert_eq!((sizes, the_weeks(&p)), (vec![84, 42, 2, 2], weeks_of));
}

#[test]
fn a_window_that_is_cut_off_goes_on_in_smaller_parts_each_shown_those_before() {
    let server = Server::start();
    let p = weeks(&server, &numbered(12), "    window: 6\n    carry: 2\n");
    server.script([Act::Default, Act::Truncate { keep: 1 }]);
    p.run([]).exits(0);
    let asked = lists(&["w1 w2 w3 w4 w5 w6", "w7 w8 w9 w10 w11 w12", "w8 w9 w10", "w11 w12"]);
    assert_eq!(sent(&server), asked);
    assert_eq!(all_shown(&server), lists(&["", "w5 w6", "w6 w7", "w9 w10"]));
    assert_eq!((the_weeks(&p), server.max_in_flight()), (numbered(12), 1));
    assert_eq!(server.asked_twice(), Vec::<String>::new());
    // It is stored as any other window.
    set(&p, &numbered(13));
    p.run([]).exits(0);
    assert_eq!(sent(&server)[4..], lists(&["w13"]));
}

#[test]
fn a_part_is_cut_off_again_until_it_fits() {
    let server = Server::start();
    let p = weeks(&server, &numbered(8), "    window: 8\n    carry: 1\n");
    server.on(|request| request.slots().len() > 2, Act::Truncate { keep: 0 });
    p.run([]).exits(0);
    let sizes: Vec<usize> = sent(&server).iter().map(Vec::len).collect();
    assert_eq!((sizes, the_weeks(&p)), (vec![8, 4, 2, 2, 4, 2, 2], numbered(8)));
    assert_eq!(all_shown(&server)[5..], lists(&["w4", "w6"]));
}

#[test]
fn a_week_that_is_too_long_by_itself_fails_as_its_rule_says() {
    for (rule, expected) in [("fail", None), ("skip", Some("w1 w2 w4 w5 w6")), (DEFAULT, Some("w1 w2 none w4 w5 w6"))] {
        let server = Server::start();
        let p = weeks(&server, &numbered(6), &format!("    window: 2\n    carry: 2\n    on_error: {rule}\n"));
        server.on(|request| of_request(request).contains(&"w3".to_owned()), Act::Truncate { keep: 0 });
        let run = p.run(["--report", "r.json"]);
        let Some(expected) = expected else {
            run.stderr_has("genmake::truncated").stderr_has("`weeks.json#/2`: ").exits(2);
            assert!(!p.exists("out/plan.json"));
            assert_eq!(sent(&server), lists(&["w1 w2", "w3 w4", "w3"]));
            continue;
        };
        run.exits(0);
        assert_eq!(the_weeks(&p), names(expected));
        assert_eq!(report(&p)["tasks"][0]["collection"]["failed"], 1);
        assert_eq!(sent(&server), lists(&["w1 w2", "w3 w4", "w3", "w4", "w5 w6"]));
        // What is skipped is shown to nobody, what stands in its place is.
        let before = if rule == "skip" { ["w1 w2", "w2 w4"] } else { ["w2 none", "none w4"] };
        assert_eq!(all_shown(&server)[3..], lists(&before));
    }
}

const DEFAULT: &str = "{default: {week: none, text: x}}";

// ---- windows that fail ----

#[test]
fn what_is_no_answer_is_asked_for_once_more_then_in_halves() {
    let server = Server::start();
    let p = weeks(&server, &numbered(8), "    window: 4\n    carry: 1\n");
    server.script([Act::Default, Act::Prose, Act::Prose]);
    p.run([]).exits(0);
    let asked = lists(&["w1 w2 w3 w4", "w5 w6 w7 w8", "w5 w6 w7 w8", "w5 w6", "w7 w8"]);
    assert_eq!((sent(&server), the_weeks(&p)), (asked, numbered(8)));
    assert_eq!(all_shown(&server)[3..], lists(&["w4", "w6"]));
}

#[test]
fn weeks_that_do_not_fit_are_asked_for_again_in_their_order() {
    let server = Server::start();
    let p = weeks(&server, &numbered(6), OF_THREE);
    server.reply(|request, slot| match asked(request, slot) {
        text if slot.is_some() && ["w2", "w3"].contains(&week_of(&text)) => "{\"week\": 7}".to_owned(),
        _ if slot.is_none() && last(request).contains("does not fit") => {
            let first = messages(request).into_iter().find(|(role, _)| role == "user").unwrap_or_default();
            planned(&first.1)
        }
        text => planned(&text),
    });
    p.run([]).exits(0);
    assert_eq!((server.count(), server.max_in_flight()), (4, 1));
    let again = &server.requests()[2];
    assert!(again.user_text().contains("`/week`: 7 is not of type \"string\""), "{}", again.user_text());
    // The second is there by then.
    assert!(again.user_text().contains("{\"week\":\"w2\",\"text\":\"about w2\"}"), "{}", again.user_text());
    assert_eq!(the_weeks(&p), numbered(6));
}

#[test]
fn a_week_that_never_fits_fails_the_plan_and_what_arrived_is_kept() {
    let server = Server::start();
    let p = weeks(&server, &numbered(9), OF_THREE);
    let bad = |request: &Recorded, slot: Option<&str>| match request.user_text() {
        text if text.contains("Week: w5") && (slot.is_none() || week_of(&asked(request, slot)) == "w5") => {
            "{}".to_owned()
        }
        _ => planned(&asked(request, slot)),
    };
    server.reply(bad);
    p.run([]).stderr_has("`weeks.json#/4`: ").stderr_has("what has arrived is kept").exits(2);
    assert!(!p.exists("out/plan.json"));
    assert_eq!(sent(&server)[..2], lists(&["w1 w2 w3", "w4 w5 w6"]));
    assert_eq!(server.count(), 3);
    server.reply(|request, slot| planned(&asked(request, slot)));
    p.run([]).exits(0);
    assert_eq!(sent(&server)[3..], lists(&["w5", "w7 w8 w9"]));
    assert_eq!(the_weeks(&p), numbered(9));
}

#[test]
fn a_provider_that_is_down_fails_the_plan_and_what_arrived_is_kept() {
    let server = Server::start();
    let p = weeks(&server, &numbered(9), &format!("{OF_THREE}    on_error: fail\n"));
    server.each(|number, _| (number > 2).then(Act::unauthorized));
    p.run([]).stderr_has("Incorrect API key").exits(2);
    server.each(|_, _| None);
    p.run([]).exits(0);
    assert_eq!((sent(&server)[3..].to_vec(), the_weeks(&p)), (lists(&["w7 w8 w9"]), numbered(9)));
}

/// Two chains side by side, the weeks of each beginning with its letter.
fn two(server: &Server) -> Project {
    let p = weeks(server, &[], "");
    let genfile = p.read("Genfile").replace("items: weeks.json#/*", "foreach: [a, b]\n    items: \"{{item}}.json#/*\"");
    let genfile = genfile.replace("out/plan.json", "\"out/{{item}}.json\"");
    p.edit("Genfile", &format!("{genfile}    window: 2\n    carry: 1\n"));
    p.edit("a.json", &json!(["a1", "a2", "a3", "a4"]).to_string());
    p.edit("b.json", &json!(["b1", "b2", "b3", "b4"]).to_string());
    p
}

#[test]
fn chains_go_side_by_side() {
    let server = Server::start();
    let p = two(&server);
    let gate = Gate::new();
    let hold = gate.clone();
    server.each(move |number, _| (number <= 2).then(|| Act::Hold(hold.clone())));
    let child = p.spawn([]);
    server.wait_for(2);
    gate.open();
    p.finish(child).exits(0);
    let mut first = sent(&server)[..2].to_vec();
    first.sort();
    assert_eq!(first, lists(&["a1 a2", "b1 b2"]));
    assert_eq!(server.count(), 4);
    assert!(p.exists("out/a.json") && p.exists("out/b.json"));
}

#[test]
fn with_k_a_chain_that_fails_leaves_the_others_alone() {
    let server = Server::start();
    let p = two(&server);
    server.on(|request| of_request(request).iter().any(|week| week == "a1"), Act::Refusal);
    p.run(["-k"]).exits(2);
    assert!(!p.exists("out/a.json") && p.exists("out/b.json"));
    assert!(sent(&server).iter().all(|weeks| !weeks.contains(&"a3".to_owned())));
    server.on(|_| true, Act::Default);
    let before = server.count();
    p.edit("a.json", &json!(["a0", "a2", "a3", "a4"]).to_string());
    p.run([]).exits(0);
    assert_eq!(sent(&server)[before..], lists(&["a0 a2", "a3 a4"]));
}

// ---- runs that are cut short ----

#[test]
fn a_killed_run_goes_on_at_its_window() {
    let server = Server::start();
    let p = weeks(&server, &numbered(12), OF_THREE);
    server.reply(going_on);
    server.script([Act::Default, Act::Default, Act::Hold(Gate::new())]);
    let mut child = p.spawn([]);
    server.wait_for(3);
    child.kill().expect("it runs");
    drop(p.finish(child));
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    assert_eq!(plan["requests"], 2);
    p.run([]).exits(0);
    assert_eq!(sent(&server)[3..], lists(&["w7 w8 w9", "w10 w11 w12"]));
    assert_eq!(the_weeks(&p), numbered(12));
}

#[test]
fn a_killed_run_keeps_the_weeks_that_were_whole() {
    let server = Server::start();
    let p = weeks(&server, &numbered(9), OF_THREE);
    server.script([Act::Default, Act::HoldAfter { keep: 1, gate: Gate::new() }]);
    let mut child = p.spawn(["-v"]);
    for _ in 0..4 {
        p.wait_for_line(&mut child, "arrive  out/plan.json");
    }
    child.kill().expect("it runs");
    drop(p.finish(child));
    p.run([]).exits(0);
    assert_eq!(sent(&server)[2..], lists(&["w5 w6", "w7 w8 w9"]));
    assert_eq!(all_shown(&server)[2..], lists(&["w3 w4", "w5 w6"]));
    assert_eq!(the_weeks(&p), numbered(9));
}

#[cfg(unix)]
#[test]
fn sigint_keeps_the_windows_before() {
    let server = Server::start();
    let p = weeks(&server, &numbered(9), OF_THREE);
    server.script([Act::Default, Act::Hold(Gate::new())]);
    let child = p.spawn([]);
    server.wait_for(2);
    crate::killed::send(rustix::process::Signal::INT, &child);
    assert!(!p.finish(child).status.success());
    assert!(!p.exists("out/plan.json"));
    p.run([]).exits(0);
    assert_eq!(sent(&server)[2..], lists(&["w4 w5 w6", "w7 w8 w9"]));
    assert_eq!(the_weeks(&p), numbered(9));
}

#[test]
fn a_budget_stops_a_chain_and_the_windows_before_are_kept() {
    let server = Server::start();
    let p = weeks(&server, &numbered(9), &format!("{OF_THREE}    params: {{max_output_tokens: 20}}\n"));
    p.run(["--max-tokens", "230"]).stderr_has("the budget of 230 tokens has no room").exits(2);
    let before = server.count();
    assert!((1..3).contains(&before), "{before}");
    assert!(!p.exists("out/plan.json"));
    p.run([]).exits(0);
    assert_eq!((server.count(), the_weeks(&p)), (3, numbered(9)));
}

// ---- beside all that ----

#[test]
fn what_is_committed_is_fresh_in_another_place() {
    let server = Server::start();
    let p = weeks(&server, &numbered(6), OF_THREE);
    p.run([]).exits(0);
    let copy = p.copy();
    copy.remove(".genmake");
    copy.run(["--frozen"]).exits(0);
    copy.run(["check"]).exits(0);
    copy.run([]).exits(0);
    assert_eq!(server.count(), 2);
    set(&copy, &numbered(7));
    copy.run(["--frozen"]).exits(2);
}

#[test]
fn all_is_asked_for_anew_where_that_is_wanted() {
    let server = Server::start();
    let p = weeks(&server, &numbered(6), OF_THREE);
    p.run([]).exits(0);
    server.reply(|request, slot| planned(&asked(request, slot)).replace("about", "anew:"));
    p.run(["-B"]).exits(0);
    assert_eq!(sent(&server)[2..], lists(&["w1 w2 w3", "w4 w5 w6"]));
    assert_eq!(rows(&p)[5]["text"], "anew: w6");
    p.run([]).exits(0);
    assert_eq!(server.count(), 4);
}

#[test]
fn doubles_in_other_windows_are_dropped() {
    let server = Server::start();
    let p = weeks(&server, &names("w1 w2 w1 w3 w2 w4"), "    window: 2\n    carry: 1\n    unique_by: week\n");
    p.run(["--report", "r.json"]).stderr_has("4 results of 6 items; 2 doubles dropped: w1, w2").exits(0);
    assert_eq!((the_weeks(&p), server.count()), (names("w1 w2 w3 w4"), 3));
    assert_eq!(all_shown(&server)[1..], lists(&["w2", "w3"]));
}

#[test]
fn what_comes_of_edits_is_what_comes_of_a_clean_run() {
    for carry in ["2", "all"] {
        let mut dice = 20_240_817u64;
        let mut roll = |sides: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize % sides.max(1)
        };
        let server = Server::start();
        let rule = format!("    window: 3\n    carry: {carry}\n");
        let mut weeks_now = numbered(7);
        let p = weeks(&server, &weeks_now, &rule);
        server.reply(going_on);
        for step in 0..8 {
            let at = roll(weeks_now.len());
            match roll(4) {
                0 => weeks_now.insert(at, format!("new{step}")),
                1 if weeks_now.len() > 2 => drop(weeks_now.remove(at)),
                2 => weeks_now[at] = format!("edited{step}"),
                _ => {
                    let other = roll(weeks_now.len());
                    weeks_now.swap(at, other);
                }
            }
            set(&p, &weeks_now);
            let plan = p.run(["plan", "--format", "json"]).stdout_json();
            let before = server.count();
            p.run([]).exits(0);
            assert!((server.count() - before) as u64 <= plan["requests"].as_u64().unwrap_or_default());
            let clean = weeks(&server, &weeks_now, &rule);
            server.reply(going_on);
            clean.run([]).exits(0);
            assert_eq!(rows(&p), rows(&clean), "{weeks_now:?}");
        }
    }
}

#[test]
fn whatever_a_provider_does_the_plan_comes_out_whole() {
    for (seed, carry) in [(0, "2"), (3, "all"), (6, "2"), (7, "all")] {
        let server = Server::start();
        let p = weeks(&server, &numbered(16), &format!("    window: 4\n    carry: {carry}\n    retries: 3\n"));
        server.each(move |number, request| (number % 3 != 0).then(|| fault(number * 7 + seed, request)).flatten());
        p.run([]).exits(0);
        assert_eq!((the_weeks(&p), server.max_in_flight()), (numbered(16), 1));
        let before = server.count();
        p.run([]).exits(0);
        assert_eq!(server.count(), before);
    }
}

// ---- batch APIs ----

#[test]
fn a_chain_is_not_submitted_and_that_is_said() {
    let server = Server::start();
    let p = weeks(&server, &numbered(6), OF_THREE);
    let why = "`out/plan.json` is not submitted: each of its windows waits for the one before";
    p.run(["submit"]).stderr_has(why).stderr_has("skip  out/plan.json").exits(0);
    assert_eq!(server.count(), 0);
    p.run(["collect"]).exits(0);
    p.run([]).exits(0);
    assert_eq!((server.count(), the_weeks(&p)), (2, numbered(6)));
    p.run(["submit"]).stderr_has("nothing to do").exits(0);
}

#[test]
fn a_collection_without_order_is_submitted_and_collected() {
    let server = Server::start();
    let p = weeks(&server, &numbered(5), "    window: 2\n");
    p.run(["submit"]).stderr_has("3 requests for 5 results").stderr_has("submit  out/plan.json").exits(0);
    assert!(!p.exists("out/plan.json"));
    p.run([]).stderr_has("was asked for by `genmake submit`, and is on its way").exits(2);
    let before = server.count();
    // What comes in meanwhile waits for the next round.
    set(&p, &numbered(7));
    let run = p.run(["collect", "-v"]).stderr_has("5 results");
    assert_eq!((run.stderr.matches("leave  out/plan.json").count(), server.count()), (1, before));
    run.exits(0);
    assert!(!p.exists("out/plan.json"));
    p.run(["submit"]).stderr_has("1 request for 2 results").exits(0);
    p.run(["collect"]).exits(0);
    assert_eq!(the_weeks(&p), numbered(7));
    p.run([]).stderr_has("nothing to do").exits(0);
}
