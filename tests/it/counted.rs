//! Results that the model counts: of how many items at once it is asked, between which bounds, and what is asked again.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Gate, Recorded, Server};

const SCHEMA: &str = r#"{"type": "object", "additionalProperties": false, "required": ["topic"],
 "properties": {"topic": {"type": "string", "maxLength": 20}}}"#;

const PROMPT: &str = "{{role \"system\"}}Find topics.\n{{role \"user\"}}{{#each items}}Word: {{value}}\n{{/each}}";

/// A project whose rule finds topics of words, with this of it beside items, output, prompt and schema.
fn topics(server: &Server, words: &[String], rule: &str) -> Project {
    let genfile = format!(
        "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: \"{{base_url}}\", in_flight: 2}}}}\n\
         rules:\n  topics:\n    items: words.json#/*\n    output: out/topics.yaml\n    prompt: topics.prompt\n    \
         schema: topic.json\n    results: free\n{rule}"
    );
    server.reply(|request, _| found(request));
    let p = Project::new().genfile_for(server, &genfile).file("topics.prompt", PROMPT).file("topic.json", SCHEMA);
    set(&p, words);
    p
}

fn set(p: &Project, words: &[String]) {
    p.edit("words.json", &json!(words).to_string());
}

fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("w{n}")).collect()
}

fn first_message(request: &Recorded) -> String {
    let all = request.body["messages"].as_array().cloned().unwrap_or_default();
    let first = all.iter().find(|message| message["role"] == "user");
    first.and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned()
}

fn words_of(request: &Recorded) -> Vec<String> {
    first_message(request).lines().filter_map(|line| line.strip_prefix("Word: ")).map(str::to_owned).collect()
}

/// What a model finds in words: one topic for each two, by the first of them.
fn found(request: &Recorded) -> String {
    let words = words_of(request);
    let topics: Vec<Value> = words.chunks(2).map(|words| json!({"topic": words[0]})).collect();
    json!({"results": topics}).to_string()
}

fn sent(server: &Server) -> Vec<Vec<String>> {
    server.requests().iter().map(|request| words_of(request)).collect()
}

fn the_topics(p: &Project) -> Vec<String> {
    p.read("out/topics.yaml").lines().filter_map(|line| line.strip_prefix("- topic: ")).map(str::to_owned).collect()
}

fn bounds(request: &Recorded) -> (Value, Value) {
    let list = request.schema().expect("a schema")["properties"]["results"].clone();
    (list["minItems"].clone(), list["maxItems"].clone())
}

fn lists(texts: &[&str]) -> Vec<Vec<String>> {
    texts.iter().map(|text| text.split_whitespace().map(str::to_owned).collect()).collect()
}

fn report(p: &Project) -> Value {
    serde_json::from_str(&p.read("r.json")).expect("a report")
}

/// Which result of four a model leaves out or writes too long.
fn results(texts: &[&str]) -> String {
    json!({"results": texts.iter().map(|text| json!({"topic": text})).collect::<Vec<_>>()}).to_string()
}

#[test]
fn a_model_says_how_many_results_there_are_between_bounds() {
    let server = Server::start();
    let p = topics(&server, &numbered(20), "    min: 5\n    max: 12\n");
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    assert_eq!(plan["requests"], 1);
    server.script([Act::Content(results(&["a", "b"])), Act::Content(results(&["a"; 13]))]);
    p.edit("Genfile", &p.read("Genfile").replace("    min", "    retries: 2\n    min"));
    p.run(["--report", "r.json"]).stderr_has("10 results of 20 items").exits(0);
    assert_eq!((server.count(), bounds(&server.requests()[0])), (3, (json!(5), json!(12))));
    let requests = server.requests();
    let (second, third) = (&requests[1], &requests[2]);
    assert!(second.user_text().contains("`/results`"), "{}", second.user_text());
    assert!(third.user_text().contains("`/results`"), "{}", third.user_text());
    assert_eq!(report(&p)["tasks"][0]["collection"]["results"], 10);
    assert_eq!(the_topics(&p)[..2], ["w1", "w3"]);
    p.run(["check"]).exits(0);
    p.run([]).exits(0);
    assert_eq!(server.count(), 3);
}

#[test]
fn a_result_that_does_not_fit_is_asked_for_again_with_what_is_wrong_with_it() {
    let server = Server::start();
    let p = topics(&server, &numbered(4), "");
    server.script([Act::Content(results(&["a", "much longer than it may be"]))]);
    p.run([]).exits(0);
    let again = server.requests()[1].user_text();
    assert!(again.contains("`/results/1/topic`") && again.contains("is longer than 20"), "{again}");
    assert_eq!(the_topics(&p), ["w1", "w3"]);
}

#[test]
fn each_window_is_a_request_with_bounds_of_its_own() {
    let server = Server::start();
    let words = numbered(150);
    let p = topics(&server, &words, "    window: 50\n    min: 3\n    max: 40\n");
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    p.run([]).exits(0);
    assert!((3..=12).contains(&server.count()), "{}", server.count());
    assert_eq!(plan["requests"], server.count());
    let mut all: Vec<String> = sent(&server).concat();
    all.sort_by_key(|word| word[1..].parse::<usize>().unwrap_or_default());
    assert_eq!(all, words);
    assert!(sent(&server).iter().all(|words| words.len() <= 50));
    assert!(server.requests().iter().all(|request| bounds(request) == (json!(3), json!(40))));
    // In the order of the words, whoever came first.
    let places: Vec<usize> = the_topics(&p).iter().filter_map(|topic| topic[1..].parse().ok()).collect();
    assert!(places.is_sorted() && places.len() >= 75, "{places:?}");
}

#[test]
fn a_word_that_comes_in_asks_for_its_window() {
    let server = Server::start();
    let mut words = numbered(600);
    let p = topics(&server, &words, "    window: 50\n    min: 1\n    max: 50\n");
    p.run([]).exits(0);
    for (at, what) in [(0, "x1"), (300, "x2"), (599, "x3")] {
        let before = server.count();
        words.insert(at, what.to_owned());
        set(&p, &words);
        p.run([]).exits(0);
        // Its own, cut in two or with one beside it at most.
        assert!((1..=2).contains(&(server.count() - before)), "{}", server.count() - before);
        assert!(sent(&server)[before..].concat().contains(&what.to_owned()));
        assert!(server.count() - before == 1 || at != 300);
    }
}

#[test]
fn a_window_that_is_cut_off_is_asked_for_in_halves() {
    let server = Server::start();
    let p = topics(&server, &numbered(8), "    min: 4\n    max: 7\n");
    server.on(|request| words_of(request).len() > 2, Act::Truncate { keep: 0 });
    p.run([]).exits(0);
    let asked = ["w1 w2 w3 w4 w5 w6 w7 w8", "w1 w2 w3 w4", "w5 w6 w7 w8", "w1 w2", "w3 w4", "w5 w6", "w7 w8"];
    let mut sorted = sent(&server);
    sorted.sort_by_key(|words| std::cmp::Reverse(words.len()));
    sorted[1..3].sort();
    sorted[3..].sort();
    assert_eq!(sorted, lists(&asked));
    assert_eq!(the_topics(&p), ["w1", "w3", "w5", "w7"]);
    for request in server.requests() {
        let expected = match words_of(&request).len() {
            8 => (json!(4), json!(7)),
            4 => (json!(2), json!(4)),
            _ => (json!(1), json!(2)),
        };
        assert_eq!(bounds(&request), expected);
    }
    // It is there as a whole by then.
    p.edit("Genfile", &p.read("Genfile").replace("out/topics.yaml", "out/topics.json"));
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    p.run([]).exits(0);
    assert_eq!((server.count(), plan["requests"].clone()), (7, json!(0)));
}

#[test]
fn halves_that_arrived_are_not_asked_for_again_nor_is_what_was_cut_off() {
    for carry in ["", "    carry: 1\n"] {
        let server = Server::start();
        let p = topics(&server, &numbered(8), carry);
        p.edit("Genfile", &p.read("Genfile").replace("in_flight: 2", "in_flight: 1"));
        let gate = Gate::new();
        server.on(|request| words_of(request).len() == 8, Act::Truncate { keep: 0 });
        server.on(|request| words_of(request)[0] == "w5", Act::Hold(gate.clone()));
        let mut child = p.spawn([]);
        server.wait_for(3);
        child.kill().expect("it runs");
        drop(p.finish(child));
        gate.open();
        p.run([]).exits(0);
        let halves = ["w1 w2 w3 w4 w5 w6 w7 w8", "w1 w2 w3 w4", "w5 w6 w7 w8", "w5 w6 w7 w8"];
        assert_eq!(sent(&server), lists(&halves), "{carry}");
        assert_eq!(the_topics(&p), ["w1", "w3", "w5", "w7"]);
    }
}

#[test]
fn a_word_of_which_nothing_comes_is_as_its_rule_says() {
    for (rule, expected) in [
        ("fail", None),
        ("skip", Some(vec!["w1", "w2", "w4"])),
        ("{default: {topic: none}}", Some(vec!["w1", "w2", "none", "w4"])),
    ] {
        for carry in ["", "    carry: 1\n"] {
            let server = Server::start();
            let p = topics(&server, &numbered(4), &format!("    retries: 0\n    on_error: {rule}\n{carry}"));
            server.on(|request| words_of(request).contains(&"w3".to_owned()), Act::Prose);
            server.on(|request| words_of(request).len() > 1, Act::Prose);
            let run = p.run(["--report", "r.json"]);
            match &expected {
                None => {
                    run.stderr_has("`words.json#/2`: ").exits(2);
                    assert!(!p.exists("out/topics.yaml"));
                }
                Some(expected) => {
                    run.exits(0);
                    assert_eq!(&the_topics(&p), expected);
                    assert_eq!(report(&p)["tasks"][0]["collection"]["failed"], 1);
                    p.run([]).exits(0);
                    assert_eq!(server.count(), 7, "it stays until it is asked for anew");
                }
            }
        }
    }
}

#[test]
fn windows_that_are_counted_may_go_in_order() {
    let server = Server::start();
    let words = numbered(40);
    let p = topics(&server, &words, "    window: 10\n    carry: 2\n    max: 10\n");
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    p.run([]).exits(0);
    let requests = server.requests();
    assert_eq!((plan["requests"].clone(), server.max_in_flight()), (json!(requests.len()), 1));
    assert!(requests.len() >= 4 && sent(&server).concat() == words);
    let topics = |request: &Recorded| -> Vec<Value> {
        serde_json::from_str::<Value>(&found(request)).expect("JSON")["results"].as_array().expect("a list").clone()
    };
    let mut before: Vec<Value> = Vec::new();
    for request in &requests {
        let text = first_message(request);
        let shown: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(shown, before[before.len().saturating_sub(2)..]);
        before.extend(topics(request));
    }
}

#[test]
fn a_half_is_shown_what_came_of_the_one_before_it() {
    let server = Server::start();
    let p = topics(&server, &numbered(8), "    carry: 1\n");
    server.on(|request| words_of(request).len() > 2, Act::Truncate { keep: 0 });
    p.run([]).exits(0);
    let asked = ["w1 w2 w3 w4 w5 w6 w7 w8", "w1 w2 w3 w4", "w1 w2", "w3 w4", "w5 w6 w7 w8", "w5 w6", "w7 w8"];
    assert_eq!(sent(&server), lists(&asked));
    let shown = |request: &std::sync::Arc<Recorded>| {
        let topic = |line: &str| serde_json::from_str::<Value>(line).ok()?["topic"].as_str().map(str::to_owned);
        first_message(request).lines().find_map(topic).unwrap_or_default()
    };
    assert_eq!(server.requests().iter().map(shown).collect::<Vec<_>>(), ["", "", "", "w1", "w3", "w3", "w5"]);
    assert_eq!(the_topics(&p), ["w1", "w3", "w5", "w7"]);
}

#[test]
fn a_prompt_of_one_item_is_put_together() {
    let server = Server::start();
    let p = topics(&server, &numbered(3), "");
    p.edit("topics.prompt", "{{role \"system\"}}Find topics.\n{{role \"user\"}}Word: {{item.value}}\n");
    p.run([]).exits(0);
    assert_eq!(sent(&server), lists(&["w1 w2 w3"]));
    p.edit("topics.prompt", "{{role \"system\"}}Of {{item.value}}.\n{{role \"user\"}}Word: {{item.value}}\n");
    p.run([]).stderr_has("only the user's part of a prompt can name `item`").exits(2);
}

#[test]
fn what_comes_of_edits_is_what_comes_of_a_clean_run() {
    for carry in ["", "    carry: 2\n"] {
        let mut dice = 77u64;
        let mut roll = |sides: usize| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) as usize % sides.max(1)
        };
        let server = Server::start();
        let mut words = numbered(30);
        let rule = format!("    window: 8\n{carry}");
        let p = topics(&server, &words, &rule);
        // Some windows are cut off, and some words are asked for twice.
        server.on(
            |request| words_of(request).len() > 3 && words_of(request)[0].ends_with('1'),
            Act::Truncate { keep: 0 },
        );
        for step in 0..6 {
            for _ in 0..=roll(3) {
                let at = roll(words.len());
                match roll(4) {
                    0 => words.insert(at, format!("new{step}")),
                    1 => drop(words.remove(at)),
                    2 => words[at] = format!("edited{step}"),
                    _ => words.rotate_left(at),
                }
            }
            set(&p, &words);
            p.run([]).exits(0);
            let clean = topics(&server, &words, &rule);
            clean.run([]).exits(0);
            assert_eq!(the_topics(&p), the_topics(&clean), "{words:?}");
            let all: BTreeSet<&String> = words.iter().collect();
            assert!(the_topics(&p).iter().all(|topic| all.contains(topic)));
        }
    }
}
