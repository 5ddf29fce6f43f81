//! Prompt files in rules, the schema of a result, and the command `prompt`.

use std::io::Write as _;
use std::process::Stdio;

use expect_test::expect;
use serde_json::{Value, json};

use crate::project::Project;
use crate::server::Server;

const BIRD: &str = "---\nmodel: front\nconfig: {temperature: 0.5, seed: 3}\n\
input:\n  schema:\n    tone: string\n  default: {tone: dry, item: never}\n\
output:\n  schema:\n    name: string\n    eggs?: integer, in one year\n---\n\
{{role \"system\"}}Be {{tone}}.\n{{history}}{{role \"user\"}}{{section \"x\"}}About {{item}}.\n";

/// A rule over two birds, whose prompt asks for data.
fn birds(server: &Server, more: &str) -> Project {
    let head = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\"}}\nrules:\n";
    let rule = "  birds: {foreach: [owl, tit], output: \"out/{{item}}.json\", prompt: bird.prompt";
    Project::new().genfile_for(server, &format!("{head}{rule}{more}}}\n")).file("bird.prompt", BIRD)
}

fn schema() -> Value {
    json!({"type": "object", "required": ["name"], "additionalProperties": false, "properties": {
        "name": {"type": "string"}, "eggs": {"type": ["integer", "null"], "description": "in one year"}}})
}

fn messages(body: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let messages = body["messages"].as_array().into_iter().flatten();
    messages.map(|m| (text(&m["role"]).replace("assistant", "model"), text(&m["content"]))).collect()
}

// ---- the schema of a result ----

#[test]
fn a_single_result_follows_the_prompts_schema() {
    let server = Server::start();
    server.reply(|_, _| r#"{"name": "Tyto", "eggs": 5}"#.to_owned());
    let p = birds(&server, ", batch: false");
    p.run([]).exits(0);
    assert_eq!(p.read("out/owl.json"), "{\n  \"name\": \"Tyto\",\n  \"eggs\": 5\n}\n");
    let request = &server.requests()[0];
    assert_eq!(request.schema(), Some(&schema()));
    // An optional field is more than strict mode takes.
    assert_eq!(request.body["response_format"]["json_schema"]["strict"], false);
    assert_eq!(messages(&request.body)[0], ("system".to_owned(), "Be dry.".to_owned()));
    assert!(messages(&request.body)[1].1.starts_with("About "));
    p.run(["check"]).exits(0);
    // Another schema is another task; the same, written otherwise, is none.
    p.edit("bird.prompt", &BIRD.replace("eggs?: integer, in one year", "eggs?: integer"));
    p.run(["check"]).exits(1);
}

#[test]
fn a_batchs_slots_follow_the_prompts_schema() {
    let server = Server::start();
    server.reply(|request, slot| {
        let path = slot.and_then(|slot| request.slot_path(slot)).unwrap_or_default();
        json!({"name": path}).to_string()
    });
    let p = birds(&server, "");
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
    let slots = server.requests()[0].schema().expect("a schema")["properties"]["files"]["properties"].clone();
    assert_eq!(slots, json!({"f1": schema(), "f2": schema()}));
    assert_eq!(p.read("out/tit.json"), "{\n  \"name\": \"out/tit.json\"\n}\n");
}

#[test]
fn what_does_not_fit_goes_back_with_the_validators_words() {
    let server = Server::start();
    server.reply(|request, _| match request.user_text().contains("does not fit the output schema") {
        true => r#"{"name": "Tyto", "eggs": 5}"#.to_owned(),
        false if request.user_text().contains("owl") => r#"{"name": 7, "eggs": "many"}"#.to_owned(),
        false => r#"{"name": "Parus"}"#.to_owned(),
    });
    let p = birds(&server, ", batch: false");
    p.run([]).exits(0);
    assert_eq!(p.read("out/owl.json"), "{\n  \"name\": \"Tyto\",\n  \"eggs\": 5\n}\n");
    assert_eq!(server.count(), 3);
    let again = server.requests().into_iter().find(|r| r.user_text().contains("does not fit")).expect("a second try");
    let said = messages(&again.body);
    assert_eq!(said[2], ("model".to_owned(), "{\n  \"name\": 7,\n  \"eggs\": \"many\"\n}".to_owned()));
    expect![[r#"That does not fit the output schema for `out/owl.json`: `/name`: 7 is not of type "string"; `/eggs`: "many" is not of types "null", "integer". Answer again with the whole corrected content and nothing else."#]].assert_eq(&said[3].1);
}

#[test]
fn what_never_fits_is_not_written() {
    let server = Server::start();
    server.reply(|_, _| r#"{"name": 7}"#.to_owned());
    let p = birds(&server, "");
    p.run([])
        .stderr_has("genmake::check_failed")
        .stderr_has("`out/owl.json` does not fit the output schema: `/name`: 7 is not of type \"string\"")
        .exits(2);
    assert!(!p.exists("out/owl.json"));
}

#[test]
fn data_is_written_as_its_extension_says() {
    let server = Server::start();
    server.reply(|_, _| r#"{"name": "Tyto alba", "eggs": 5}"#.to_owned());
    let write = |ext: &str| {
        let p = birds(&server, "").file("keep", "");
        p.edit("Genfile", &p.read("Genfile").replace(".json\"", &format!(".{ext}\"")));
        p.run([]).exits(0);
        p.read(&format!("out/owl.{ext}"))
    };
    assert_eq!(write("yaml"), "name: Tyto alba\neggs: 5\n");
    assert_eq!(write("toml"), "name = \"Tyto alba\"\neggs = 5\n");
    assert_eq!(write("txt"), "{\n  \"name\": \"Tyto alba\",\n  \"eggs\": 5\n}\n");
}

#[test]
fn a_list_is_data_too() {
    let server = Server::start();
    server.reply(|_, _| r#"{"result": [1, 2]}"#.to_owned());
    let p = birds(&server, ", batch: false")
        .file("bird.prompt", "---\noutput: {schema: {type: array, items: {type: integer}}}\n---\n{{item}}\n");
    p.run(["out/owl.json"]).exits(0);
    assert_eq!(p.read("out/owl.json"), "[\n  1,\n  2\n]\n");
    assert_eq!(server.requests()[0].schema().expect("a schema")["type"], "object");
}

// ---- front matter in rules ----

#[test]
fn the_rule_wins_over_the_front_matter_and_that_over_the_provider() {
    let server = Server::start();
    server.reply(|_, _| r#"{"name": "x"}"#.to_owned());
    let p = birds(&server, ", params: {seed: 9}");
    p.run([]).exits(0);
    let body = server.requests()[0].body.clone();
    assert_eq!((&body["model"], &body["temperature"], &body["seed"]), (&json!("front"), &json!(0.5), &json!(9)));
    let p = birds(&server, ", model: rule");
    p.run([]).exits(0);
    assert_eq!(server.requests()[1].body["model"], "rule");
}

#[test]
fn what_the_prompt_wants_and_nobody_gives_is_an_error_in_the_prompt() {
    let server = Server::start();
    let p = birds(&server, "");
    p.edit("bird.prompt", &BIRD.replace("{tone: dry, item: never}", "{}"));
    p.run(["plan"]).stderr_has("bird.prompt:6:5").stderr_has("the prompt wants `tone`, and nothing gives it").exits(2);
    // genmake's own names stay strict, and are never stood in for.
    p.edit("bird.prompt", "---\ninput: {default: {vars: {x: 1}}}\n---\n{{vars.x}}\n");
    p.run(["plan"]).stderr_has("unknown variable `vars.x`").exits(2);
    assert_eq!(server.count(), 0);
}

#[test]
fn media_is_refused() {
    let server = Server::start();
    let p = birds(&server, "");
    p.edit("bird.prompt", "---\nmodel: m\n---\nLook at {{media url=\"http://x/y.png\"}}\n");
    p.run([]).stderr_has("genmake::unsupported").stderr_has("bird.prompt:4:9").stderr_has("text only").exits(2);
    assert_eq!(server.count(), 0);
}

#[test]
fn one_output_for_a_schema() {
    let server = Server::start();
    let p = birds(&server, "");
    p.edit(
        "Genfile",
        &p.read("Genfile").replace("output: \"out/{{item}}.json\"", "outputs: {a: \"{{item}}.a\", b: \"{{item}}.b\"}"),
    );
    p.run(["plan"]).stderr_has("genmake::conflict").stderr_has("bird.prompt:9:3").exits(2);
}

// ---- the command ----

#[test]
fn prompt_shows_what_is_sent() {
    let server = Server::start();
    server.reply(|_, _| r#"{"name": "x"}"#.to_owned());
    let p = birds(&server, "");
    let show = |args: &[&str]| -> Value {
        let run = p.run([&["prompt", "--format", "json"], args].concat());
        let prompts = run.stdout_json()["prompts"].clone();
        run.exits(0);
        prompts
    };
    let is_sent = |shown: &Value, sent: &Value| {
        let content = |m: &Value| (m["role"].as_str().unwrap_or_default().to_owned(), m["content"].clone());
        let shown_messages: Vec<_> = shown["messages"].as_array().into_iter().flatten().map(content).collect();
        let sent_messages: Vec<_> = messages(sent).into_iter().map(|(role, text)| (role, Value::from(text))).collect();
        assert_eq!(shown_messages, sent_messages);
        assert_eq!(shown["schema"], sent["response_format"]["json_schema"]["schema"]);
        assert_eq!(shown["model"], sent["model"]);
        for (name, value) in shown["params"].as_object().expect("parameters") {
            assert_eq!(*value, sent[name], "{name}");
        }
    };
    let batch = show(&["--batch", "out/tit.json"]);
    assert_eq!(batch[0]["outputs"], json!(["out/owl.json", "out/tit.json"]));
    assert_eq!(show(&["--batch", "birds"]).as_array().expect("a list").len(), 1);
    let alone = show(&["out/tit.json"]);
    assert_eq!(server.count(), 0);

    p.run([]).exits(0);
    is_sent(&batch[0], &server.requests()[0].body);
    // What is up to date has a prompt as well; its batch is itself.
    assert_eq!(show(&["out/tit.json"]), alone);
    assert_eq!(show(&["--batch", "out/tit.json"]), alone);
    p.remove("out/tit.json").remove(".genmake");
    p.run(["out/tit.json"]).exits(0);
    is_sent(&alone[0], &server.requests()[1].body);
}

#[test]
fn prompt_says_what_has_none() {
    let server = Server::start();
    let p = birds(&server, "");
    let more = "  list: {output: list.md, template: list.hbs, inputs: [\"rule:birds\"]}\n  \
                song: {output: song.md, prompt: song.md.txt, inputs: [out/owl.json]}\n";
    p.edit("Genfile", &(p.read("Genfile") + more)).edit("list.hbs", "x\n").edit("song.md.txt", "{{inputs.[0].text}}\n");
    p.run(["prompt", "list.md", "song.md", "out/owl.json"])
        .stdout(expect![[r#"
            out/owl.json: p (front), temperature 0.5, seed 3
            --- system ---
            Be dry.
            --- user ---
            About owl.
            --- schema ---
            {"type":"object","properties":{"name":{"type":"string"},"eggs":{"type":["integer","null"],"description":"in one year"}},"required":["name"],"additionalProperties":false}

            list.md: no prompt: rendered from the template `list.hbs`, and no model is asked

            song.md: no prompt yet: it waits for out/owl.json
        "#]])
        .exits(0);
    let run = p.run(["prompt", "list.md", "song.md", "--format", "json"]);
    let prompts = run.stdout_json()["prompts"].clone();
    assert_eq!((&prompts[0]["template"], &prompts[1]["waits_for"]), (&json!("list.hbs"), &json!(["out/owl.json"])));
    run.exits(0);
    assert_eq!(server.count(), 0);
    p.run(["prompt"]).stderr_has("`prompt` takes a target").exits(2);
    p.run(["prompt", "nope"]).stderr_has("genmake::unknown_target").exits(2);
    p.run(["prompt", "list.md", "--data", "{}"]).stderr_has("genmake::usage").exits(2);
}

#[test]
fn a_file_by_itself() {
    let p = Project::new()
        .file(
            "p/greet.prompt",
            "---\nmodel: m\ninput: {default: {who: you}}\n---\n{{> head}} {{who}}{{nobody}} {{@day}}\n",
        )
        .file("p/head.hbs", "{{greeting}}")
        .file("p/_tail.prompt", "never")
        .file("data.json", "{\"input\": {\"greeting\": \"Ho\"}, \"context\": {\"day\": \"Mon\"}}");
    p.run(["prompt", "--file", "p/greet.prompt", "--data", "{\"greeting\": \"Hi\"}"])
        .stdout(expect![[r#"
            model: m
            input: {"default":{"who":"you"}}
            --- user ---
            Hi you 
        "#]])
        .exits(0);
    let run = p.run(["prompt", "-f", "p/greet.prompt", "--data", "@data.json", "--format", "json"]);
    assert_eq!(run.stdout_json()["messages"], json!([{"role": "user", "content": [{"text": "Ho you Mon"}]}]));
    run.exits(0);
    let mut child =
        p.command(["prompt", "-f", "p/greet.prompt", "--data", "-"]).stdin(Stdio::piped()).spawn().expect("a run");
    child.stdin.take().expect("a pipe").write_all(b"{\"who\": \"all\"}").expect("data is taken");
    p.finish(child).stdout_has(" all").exits(0);
    p.run(["prompt", "-f", "p/greet.prompt", "--data", "{"]).stderr_has("`--data` is not JSON").exits(2);
    p.run(["prompt", "-f", "p/nope.prompt"]).stderr_has("p/nope.prompt").exits(2);
    p.edit("p/greet.prompt", "x\n{{nope 1}}");
    p.run(["prompt", "-f", "p/greet.prompt"]).stderr_has("p/greet.prompt:2:1").stderr_has("unknown helper").exits(2);
    assert!(!p.exists(".genmake"));
}
