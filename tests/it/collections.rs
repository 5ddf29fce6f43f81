//! Many items, one file: what is asked for them, what comes of it, and what is asked again.

use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Gate, Recorded, Server};

const SCHEMA: &str = r#"{"type": "object", "additionalProperties": false, "required": ["word", "text"],
 "properties": {"word": {"type": "string"}, "text": {"type": "string"}}}"#;

const PROMPT: &str = "{{role \"system\"}}Define each word.\n{{role \"user\"}}Word: {{item.value}}";

/// A project with a list of words, and this of its rule beside items, output, prompt and schema.
fn words(server: &Server, words: &[&str], rule: &str) -> Project {
    words_of(server, words, "in_flight: 4", rule)
}

fn words_of(server: &Server, words: &[&str], provider: &str, rule: &str) -> Project {
    let genfile = format!(
        "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: \"{{base_url}}\", {provider}}}}}\n\
         rules:\n  words:\n    items: words.json#/*\n    output: out/words.json\n    prompt: word.prompt\n    \
         schema: word.json\n{rule}"
    );
    server.reply(|request, slot| defined(&asked(request, slot)));
    let p = Project::new().genfile_for(server, &genfile).file("word.prompt", PROMPT).file("word.json", SCHEMA);
    set(&p, words);
    p
}

fn set(p: &Project, words: &[&str]) {
    p.edit("words.json", &json!(words).to_string());
}

/// What a request says of one item.
fn asked(request: &Recorded, slot: Option<&str>) -> String {
    slot.and_then(|slot| request.slot_text(slot)).unwrap_or_else(|| request.user_text())
}

/// What a model says of an item: of the last word that it is asked for.
fn defined(asked: &str) -> String {
    let word = asked.rsplit("Word: ").next().unwrap_or_default().lines().next().unwrap_or_default();
    json!({"word": word, "text": format!("about {word}")}).to_string()
}

fn numbered(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("word{n}")).collect()
}

/// The words of each request, in the order in which they were sent.
fn sent(server: &Server) -> Vec<Vec<String>> {
    let of = |request: &Recorded| {
        let slots = request.slots();
        let texts: Vec<String> = match slots.is_empty() {
            true => vec![request.user_text()],
            false => slots.iter().map(|slot| request.slot_text(slot).unwrap_or_default()).collect(),
        };
        let word = |text: &String| {
            text.split("Word: ").nth(1).unwrap_or_default().lines().next().unwrap_or_default().to_owned()
        };
        texts.iter().map(word).collect()
    };
    server.requests().iter().map(|request| of(request)).collect()
}

fn rows(p: &Project, path: &str) -> Vec<Value> {
    serde_json::from_str(&p.read(path)).expect("a list")
}

fn the_words(p: &Project) -> Vec<String> {
    rows(p, "out/words.json").iter().map(|row| row["word"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn two_hundred_items_are_one_request() {
    let server = Server::start();
    let all = numbered(200);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let p = words(&server, &all, "");
    p.run([]).stderr_has("for 200 items of out/words.json (request 1)").exits(0);
    assert_eq!(server.count(), 1);
    assert_eq!(the_words(&p), all);
    assert_eq!(rows(&p, "out/words.json")[1], json!({"word": "word2", "text": "about word2"}));
    p.run(["check"]).exits(0);
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
}

#[test]
fn an_item_that_is_new_is_asked_for_alone_and_another_order_asks_nothing() {
    let server = Server::start();
    let p = words(&server, &["a1", "b1", "c1", "d1"], "");
    p.run([]).exits(0);
    set(&p, &["a1", "x1", "b1", "c1", "d1"]);
    p.run([]).exits(0);
    assert_eq!(sent(&server)[1..], [["x1"]]);
    assert_eq!(the_words(&p), ["a1", "x1", "b1", "c1", "d1"]);
    set(&p, &["d1", "c1", "x1", "a1"]);
    p.run([]).exits(0);
    assert_eq!((server.count(), the_words(&p)), (2, vec!["d1".into(), "c1".into(), "x1".into(), "a1".into()]));
    set(&p, &["d1", "c2", "x1", "a1"]);
    p.run([]).exits(0);
    assert_eq!(sent(&server)[2..], [["c2"]]);
}

#[test]
fn a_window_bounds_what_one_request_is_about_and_windows_go_side_by_side() {
    let server = Server::start();
    let all = numbered(10);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let p = words(&server, &all, "    window: 3\n");
    server.latency(100);
    p.run([]).exits(0);
    let mut sizes: Vec<usize> = sent(&server).iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!((sizes, server.max_in_flight()), (vec![1, 3, 3, 3], 4));
    assert_eq!(the_words(&p), all);
}

#[test]
fn one_that_does_not_fit_is_asked_for_again_with_what_is_wrong_with_it() {
    let server = Server::start();
    let p = words(&server, &["a1", "b1", "c1"], "");
    server.reply(|request, slot| match asked(request, slot) {
        text if text.contains("b1") && !text.contains("does not fit") => "{\"word\": 7}".to_owned(),
        text if text.contains("b1") => json!({"word": "b1", "text": "at last"}).to_string(),
        text => defined(&text),
    });
    p.run([]).exits(0);
    assert_eq!(server.count(), 2);
    let second = &server.requests()[1];
    assert!(second.user_text().contains("`/word`: 7 is not of type \"string\""), "{}", second.user_text());
    assert_eq!(rows(&p, "out/words.json")[1]["text"], "at last");
}

#[test]
fn an_item_without_a_good_result_fails_the_collection_and_the_others_are_kept() {
    let server = Server::start();
    let p = words(&server, &["a1", "b1", "c1"], "");
    server.reply(|request, slot| match asked(request, slot) {
        text if text.contains("b1") => "{\"word\": 7}".to_owned(),
        text => defined(&text),
    });
    p.run([]).stderr_has("`words.json#/1`: ").stderr_has("does not fit the output schema").exits(2);
    assert!(!p.exists("out/words.json"));
    assert_eq!(server.count(), 2);
    server.reply(|request, slot| defined(&asked(request, slot)));
    p.run([]).exits(0);
    assert_eq!(
        (sent(&server)[2..].to_vec(), the_words(&p)),
        (vec![vec!["b1".to_owned()]], vec!["a1".into(), "b1".into(), "c1".into()])
    );
}

#[test]
fn what_is_said_of_failures_is_said_of_items() {
    for (rule, expected) in [("skip", vec!["a1", "c1"]), ("{default: {word: none, text: x}}", vec!["a1", "none", "c1"])]
    {
        let server = Server::start();
        let p = words(&server, &["a1", "b1", "c1"], &format!("    on_error: {rule}\n"));
        server.reply(|request, slot| match asked(request, slot) {
            text if text.contains("b1") => "{\"word\": 7}".to_owned(),
            text => defined(&text),
        });
        p.run(["--report", "r.json"]).stderr_has("1 item without an answer").exits(0);
        assert_eq!(the_words(&p), expected);
        let report: Value = serde_json::from_str(&p.read("r.json")).expect("JSON");
        assert_eq!(report["tasks"][0]["collection"]["failed"], 1);
        p.run(["check"]).exits(0);
        p.run([]).exits(0);
        assert_eq!(server.count(), 2, "it stays until it is asked for anew");
    }
}

#[test]
fn doubles_are_dropped_and_reported_and_fixed_fields_are_set() {
    let server = Server::start();
    let p = words(
        &server,
        &["a1", "b1", "a1 again", "c1"],
        "    unique_by: word\n    set: {deck: \"{{vars.deck}}\", level: 1}\n",
    );
    p.edit("Genfile", &p.read("Genfile").replace("rules:", "vars: {deck: first}\nrules:"));
    server.reply(|request, slot| defined(asked(request, slot).trim_end_matches(" again")));
    p.run(["--report", "r.json"]).stderr_has("3 results of 4 items; 1 double dropped: a1").exits(0);
    assert_eq!(rows(&p, "out/words.json")[2], json!({"word": "c1", "text": "about c1", "deck": "first", "level": 1}));
    let report: Value = serde_json::from_str(&p.read("r.json")).expect("JSON");
    let expected = json!({"items": 4, "results": 3, "dropped": ["a1"], "failed": 0});
    assert_eq!(report["tasks"][0]["collection"], expected);
    // What is set is no part of what is asked.
    p.edit("Genfile", &p.read("Genfile").replace("level: 1", "level: 2"));
    p.run([]).exits(0);
    assert_eq!((server.count(), rows(&p, "out/words.json")[0]["level"].clone()), (1, json!(2)));
}

#[test]
fn each_form_of_file_holds_the_same_results() {
    let expected = [
        ("json", "[\n  {\"word\":\"a1\",\"text\":\"about a1\"},\n  {\"word\":\"b1\",\"text\":\"about b1\"}\n]\n"),
        ("jsonl", "{\"word\":\"a1\",\"text\":\"about a1\"}\n{\"word\":\"b1\",\"text\":\"about b1\"}\n"),
        ("yaml", "- word: a1\n  text: about a1\n- word: b1\n  text: about b1\n"),
        ("csv", "word,text\na1,about a1\nb1,about b1\n"),
    ];
    let server = Server::start();
    let p = words(&server, &["a1", "b1"], "");
    for (ext, text) in expected {
        p.edit(
            "Genfile",
            &p.read("Genfile")
                .lines()
                .map(|line| match line.contains("output:") {
                    true => format!("    output: out/words.{ext}\n"),
                    false => format!("{line}\n"),
                })
                .collect::<String>(),
        );
        p.run([]).exits(0);
        assert_eq!(p.read(&format!("out/words.{ext}")), text);
    }
    assert_eq!(server.count(), 1, "another file of the same asks nothing");
    p.edit("Genfile", &p.read("Genfile").replace("words.csv", "words.txt"));
    p.run([]).stderr_has("`out/words.txt` cannot hold a list of results").exits(2);
}

#[test]
fn without_a_schema_a_result_is_a_text() {
    let server = Server::start();
    let p = words(&server, &["a1", "b1"], "");
    p.edit("Genfile", &p.read("Genfile").replace("    schema: word.json\n", ""));
    server.reply(|request, slot| format!("About {}\n", asked(request, slot).trim()));
    p.run([]).exits(0);
    assert_eq!(rows(&p, "out/words.json"), ["About Word: a1\n", "About Word: b1\n"]);
}

#[test]
fn items_may_be_what_another_rule_makes_and_no_items_are_an_empty_list() {
    let server = Server::start();
    let p = words(&server, &[], "  list:\n    template: list.hbs\n    output: made.json\n").file("list.hbs", "[]");
    p.run([]).exits(0);
    assert_eq!(p.read("out/words.json"), "[]\n");
    p.edit("list.hbs", "[\"x1\", \"y1\"]");
    p.edit("Genfile", &p.read("Genfile").replace("words.json#/*", "made.json#/*"));
    p.remove("made.json");
    p.run([]).exits(0);
    assert_eq!((the_words(&p), server.count()), (vec!["x1".to_owned(), "y1".to_owned()], 1));
}

#[test]
fn each_item_of_a_foreach_has_a_collection_of_its_own() {
    let server = Server::start();
    let genfile = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\"}}\nrules:\n  \
        words:\n    foreach: kinds.json#/*\n    items: \"kinds.json#/{{item.key}}/*\"\n    output: \"out/{{item.key}}.jsonl\"\n    \
        prompt: kind.prompt\n    schema: word.json\n";
    let p = Project::new().genfile_for(&server, genfile).file("word.json", SCHEMA);
    let p = p.file("kind.prompt", "{{role \"system\"}}Kind {{foreach.key}}.\n{{role \"user\"}}Word: {{item.value}}");
    p.edit("kinds.json", "{\"verb\": [\"go\", \"run\"], \"noun\": [\"dog\"]}");
    server.reply(|request, slot| defined(&asked(request, slot)));
    p.run([]).exits(0);
    assert_eq!(
        p.read("out/verb.jsonl"),
        "{\"word\":\"go\",\"text\":\"about go\"}\n{\"word\":\"run\",\"text\":\"about run\"}\n"
    );
    let mut systems: Vec<String> = server.requests().iter().map(|request| request.system_text()).collect();
    systems.sort();
    assert_eq!(systems, ["Kind noun.", "Kind verb."]);
}

#[test]
fn what_was_cut_off_is_asked_for_in_smaller_company() {
    let server = Server::start();
    let all = numbered(6);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let p = words(&server, &all, "");
    server.script([Act::Truncate { keep: 2 }]);
    p.run([]).exits(0);
    assert_eq!(the_words(&p), all);
    let mut again = sent(&server)[1..].to_vec();
    again.sort();
    assert_eq!(again, [vec!["word3", "word4", "word5"], vec!["word6"]]);
    assert_eq!(server.asked_twice(), Vec::<String>::new());
}

#[test]
fn a_killed_run_goes_on_where_it_was() {
    let server = Server::start();
    let all = numbered(6);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let p = words_of(&server, &all, "in_flight: 1", "    window: 2\n");
    let gate = Gate::new();
    let hold = gate.clone();
    server.each(move |number, _| (number == 2).then(|| Act::Hold(hold.clone())));
    let mut child = p.spawn([]);
    server.wait_for(2);
    child.kill().expect("it runs");
    child.wait().expect("it ended");
    gate.open();
    server.each(|_, _| None);
    p.run([]).exits(0);
    assert_eq!(the_words(&p), all);
    assert_eq!(sent(&server)[2..], [["word3", "word4"], ["word5", "word6"]]);
}

#[test]
fn plan_and_prompt_show_what_would_be_asked() {
    let server = Server::start();
    let p = words(&server, &["a1", "b1"], "");
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    assert_eq!(
        (plan["requests"].clone(), plan["batches"][0]["outputs"].clone()),
        (json!(1), json!(["out/words.json", "out/words.json"]))
    );
    p.run(["prompt", "--batch", "words"]).stdout_has("Word: a1").stdout_has("f2:").exits(0);
    p.run([]).exits(0);
    set(&p, &["a1", "c1", "b1"]);
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    assert_eq!(plan["requests"], 1);
    p.run(["plan", "--no-batch"]).stdout_has("1 task").exits(0);
    p.run(["prompt", "words"]).stdout_has("Word: c1").exits(0);
    assert_eq!(server.count(), 1);
}

#[test]
fn what_is_wanted_twice_is_asked_for_once() {
    let server = Server::start();
    let p = words(&server, &["a1", "b1", "a1", "a1"], "    on_error: skip\n");
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    assert_eq!(plan["batches"][0]["outputs"].as_array().map(Vec::len), Some(2));
    p.run([]).stderr_has("4 results of 4 items").exits(0);
    assert_eq!(
        (sent(&server), the_words(&p)),
        (vec![vec!["a1".to_owned(), "b1".into()]], vec!["a1".into(), "b1".into(), "a1".into(), "a1".into()])
    );
    server.reply(|_, _| "{}".to_owned());
    set(&p, &["x1", "x1", "b1"]);
    p.run([]).stderr_has("2 items without an answer").exits(0);
    assert_eq!(the_words(&p), ["b1"]);
}

#[test]
fn a_fresh_clone_takes_from_the_output_what_stands_there() {
    for ext in ["json", "yaml"] {
        let server = Server::start();
        let p = words(&server, &["a1", "b1", "c1"], "    set: {deck: first}\n    unique_by: word\n");
        p.edit("Genfile", &p.read("Genfile").replace("words.json\n    prompt", &format!("words.{ext}\n    prompt")));
        p.run([]).exits(0);
        p.remove(".genmake");
        p.run(["--frozen"]).exits(0);
        p.run([]).exits(0);
        p.remove(".genmake");
        set(&p, &["x1", "c1", "b1", "a1"]);
        let plan = p.run(["plan", "--format", "json"]).stdout_json();
        assert_eq!(plan["batches"][0]["outputs"].as_array().map(Vec::len), Some(1));
        p.run([]).exits(0);
        assert_eq!(sent(&server)[1..], [["x1"]], "{ext}");
        let text = p.read(&format!("out/words.{ext}"));
        assert!(text.find("x1") < text.find("c1") && text.find("c1") < text.find("a1"), "{text}");
    }
    // What a person wrote is nobody's result.
    let server = Server::start();
    let p = words(&server, &["a1", "b1"], "");
    p.run([]).exits(0);
    p.remove(".genmake").edit("out/words.json", &p.read("out/words.json").replace("about", "not about"));
    set(&p, &["a1", "b1", "c1"]);
    p.run(["--force"]).exits(0);
    assert_eq!((server.count(), the_words(&p).len()), (2, 3));
    assert!(!p.read("out/words.json").contains("not about"));
}

#[test]
fn a_fresh_clone_goes_on_in_the_window_that_changed() {
    let server = Server::start();
    let p = words(&server, &["a1", "b1", "c1", "d1", "e1"], "    window: 2\n    carry: 1\n");
    p.run([]).exits(0);
    assert_eq!(server.count(), 3);
    p.remove(".genmake");
    set(&p, &["a1", "b1", "c1", "d1", "e1", "f1"]);
    p.run([]).exits(0);
    assert_eq!(server.count(), 4);
    assert_eq!(the_words(&p), ["a1", "b1", "c1", "d1", "e1", "f1"]);
}

#[test]
fn what_comes_after_a_failure_is_kept_all_the_same() {
    let server = Server::start();
    let all = numbered(6);
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let p = words_of(&server, &all, "in_flight: 3", "    window: 2\n    retries: 0\n");
    let gate = Gate::new();
    let hold = gate.clone();
    server.on(|request| request.user_text().contains("word1"), Act::Content("{\"files\": {\"f1\": {}}}".to_owned()));
    server.on(|_| true, Act::Hold(hold));
    let mut child = p.spawn([]);
    server.wait_for(3);
    p.wait_for_line(&mut child, "fail  out/words.json");
    gate.open();
    p.finish(child).exits(2);
    let before = server.count();
    server.each(|number, _| (number > 3).then_some(Act::Default));
    p.run([]).exits(0);
    assert_eq!(sent(&server)[before..], [["word1", "word2"]]);
    assert_eq!(the_words(&p), all);
}

#[test]
fn items_may_be_files_and_every_combination_of_axes() {
    let server = Server::start();
    let p = words(&server, &[], "").file("in/a.txt", "one").file("in/b.txt", "two").file("in/c.txt", "three");
    let items = "{file: {glob: [\"in/*.txt\", \"!in/b.txt\"]}, tone: [loud, low]}";
    p.edit("Genfile", &p.read("Genfile").replace("words.json#/*", items));
    p.edit("word.prompt", "Word: {{item.file.text}}-{{item.tone}}");
    p.run([]).exits(0);
    assert_eq!(the_words(&p), ["one-loud", "one-low", "three-loud", "three-low"]);
    assert_eq!(server.count(), 1);
}
