//! Related context, from outside: which entities a prompt holds, what that makes stale, and what it saves.

use std::collections::BTreeSet;

use expect_test::expect;
use serde_json::{Value, json};

use crate::examples::copy;
use crate::project::Project;
use crate::server::{Recorded, Server};

const SPEC: &str = "\
entities:
  Customer: {text: who buys, fields: {name: string}}
  Order: {text: what is bought, fields: {customer: Customer, lines: \"list<Line>\"}}
  Line: {text: one of them, fields: {product: Product}}
  Product: {text: a thing, fields: {name: string}}
  Shelf: {text: where things lie, fields: {products: \"Product[]\"}}
";

const PROMPT: &str = "{{role \"system\"}}\nBe brief.\n{{role \"user\"}}\nWrite about {{item.key}}.\n";

/// One page for each entity, with these keys of `context` and of the rule.
fn project(server: &Server, context: &str, rule: &str) -> Project {
    let genfile = format!(
        "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: \"{{base_url}}\"}}}}\nrules:\n  pages:\n    \
         foreach: spec.yaml#/entities/*\n    prompt: page.prompt\n    output: \"out/{{{{item.key}}}}.md\"\n    \
         context: {{select: spec.yaml#/entities, {context}}}\n{rule}"
    );
    Project::new().genfile_for(server, &genfile).file("spec.yaml", SPEC).file("page.prompt", PROMPT)
}

const RELATED: &str = "related_to: \"{{item.key}}\"";
const ALONE: &str = "    batch: false\n";

/// The JSON after the heading in a text.
#[track_caller]
fn shown(text: &str) -> Value {
    let (_, rest) = text.split_once("Context (JSON):\n").unwrap_or_else(|| panic!("no context in {text:?}"));
    serde_json::from_str(rest.lines().next().unwrap_or_default()).expect("one line of JSON")
}

fn names(value: &Value) -> String {
    value.as_object().expect("a map").keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// What each single request is about, and the entities in it.
fn asked(requests: &[std::sync::Arc<Recorded>]) -> BTreeSet<(String, String)> {
    let about = |request: &Recorded| {
        let text = request.user_text();
        let about = text.lines().next().and_then(|line| line.strip_prefix("Write about ")).expect("the prompt");
        (about.trim_end_matches('.').to_owned(), names(&shown(&text)))
    };
    requests.iter().map(|request| about(request)).collect()
}

fn pairs(all: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    all.iter().map(|(about, names)| ((*about).to_owned(), (*names).to_owned())).collect()
}

// ---- what a prompt holds ----

#[test]
fn a_prompt_holds_the_entity_and_what_it_refers_to_as_in_the_file() {
    let server = Server::start();
    let p = project(&server, RELATED, ALONE);
    p.run([]).exits(0);
    assert_eq!(
        asked(&server.requests()),
        pairs(&[
            ("Customer", "Customer"),
            ("Order", "Customer Order Line"),
            ("Line", "Line Product"),
            ("Product", "Product"),
            ("Shelf", "Product Shelf"),
        ])
    );
    let requests = server.requests();
    let line = requests.iter().find(|r| r.user_text().starts_with("Write about Line")).expect("its request");
    expect![[r#"
        Write about Line.

        Context (JSON):
        {"Line":{"text":"one of them","fields":{"product":"Product"}},"Product":{"text":"a thing","fields":{"name":"string"}}}"#]]
    .assert_eq(&line.user_text());
    assert_eq!(line.system_text(), "Be brief.");
}

#[test]
fn depth_is_how_far_references_are_followed() {
    for (depth, order) in [("0", "Order"), ("2", "Customer Order Line Product")] {
        let server = Server::start();
        let p = project(&server, &format!("{RELATED}, depth: {depth}"), ALONE);
        p.run(["out/Order.md"]).exits(0);
        assert_eq!(asked(&server.requests()), pairs(&[("Order", order)]), "depth {depth}");
    }
}

#[test]
fn in_a_batch_each_task_has_its_own() {
    let server = Server::start();
    project(&server, RELATED, "batching: {similarity_threshold: 0}").run([]).exits(0);
    let request = &server.requests()[0];
    assert_eq!(server.count(), 1);
    let of_slot = |slot: &str| names(&shown(&request.slot_text(slot).expect("a slot")));
    assert_eq!((of_slot("f2"), of_slot("f3")), ("Line Product".to_owned(), "Customer Order Line".to_owned()));
}

#[test]
fn what_all_tasks_share_stands_in_the_system_part() {
    let whole = "Customer Order Line Product Shelf";
    for (context, names_of) in [("depth: 1", whole), ("related_to: Order", "Customer Order Line")] {
        let server = Server::start();
        project(&server, context, "").run([]).exits(0);
        let request = &server.requests()[0];
        let system = request.system_text();
        assert!(system.starts_with("Be brief.\n\nContext (JSON):\n"), "{system}");
        assert_eq!((names(&shown(&system)), server.count()), (names_of.to_owned(), 1));
        assert!(!request.user_text().contains("Context"));
    }
    let server = Server::start();
    let p = project(&server, "depth: 1", "").file("page.prompt", "Write about {{item.key}}.");
    p.run([]).exits(0);
    assert_eq!(names(&shown(&server.requests()[0].system_text())), whole);
}

#[test]
fn the_body_places_it_where_it_says() {
    let server = Server::start();
    let p = project(&server, RELATED, ALONE);
    p.edit("page.prompt", "{{role \"system\"}}\nKnow: {{context}}\n{{role \"user\"}}\nWrite about {{item.key}}.\n");
    p.run(["out/Line.md"]).exits(0);
    p.edit("page.prompt", "{{#each context}}{{@key}}: {{this.text}}. {{/each}}\n");
    p.run(["out/Line.md"]).exits(0);
    p.edit("page.prompt", "{{> know}}\n")
        .edit("know.hbs", "I know {{json context.Line.fields}}")
        .run(["out/Line.md"])
        .exits(0);
    let said: Vec<String> =
        server.requests().iter().map(|r| format!("{}|{}", r.system_text(), r.user_text())).collect();
    expect![[r#"
        Know: {"Line":{"text":"one of them","fields":{"product":"Product"}},"Product":{"text":"a thing","fields":{"name":"string"}}}|Write about Line.
        |Line: one of them. Product: a thing.
        |I know {"product":"Product"}"#]]
    .assert_eq(&said.join("\n"));
}

#[test]
fn a_list_of_entities_stays_one() {
    let server = Server::start();
    let p = project(&server, "related_to: \"{{item.value.name}}\"", ALONE);
    p.edit("spec.yaml", "entities:\n  - {name: Order, of: Line}\n  - {name: Shelf}\n  - {name: Line}\n");
    p.run(["out/0.md"]).exits(0);
    let text = server.requests()[0].user_text();
    assert!(text.ends_with("\n[{\"name\":\"Order\",\"of\":\"Line\"},{\"name\":\"Line\"}]"), "{text}");
}

#[test]
fn sections_of_a_page_refer_to_each_other() {
    let server = Server::start();
    let p = project(&server, "related_to: Order", "")
        .file("notes.md", "# Order\nHas a `Line`.\n# Shelf\nWood.\n# Line\nOne.\n");
    p.edit("Genfile", &p.read("Genfile").replace("select: spec.yaml#/entities", "select: notes.md#sections"));
    p.run(["out/Line.md"]).exits(0);
    assert_eq!(names(&shown(&server.requests()[0].system_text())), "Order Line");
}

// ---- what makes it stale ----

#[test]
fn an_edit_reaches_the_prompts_that_show_it_and_no_other() {
    let server = Server::start();
    let p = project(&server, RELATED, "");
    p.run([]).exits(0);
    p.edit("spec.yaml", &SPEC.replace("a thing", "any thing"));
    p.run(["check"])
        .stdout(expect![[r#"
            stale  out/Line.md     input changed: spec.yaml#/entities/Product
            stale  out/Product.md  input changed: spec.yaml#/entities/Product
            stale  out/Shelf.md    input changed: spec.yaml#/entities/Product
        "#]])
        .exits(1);
    p.edit("spec.yaml", &format!("{SPEC}  New: {{of: Order}}\n").replace("where things lie", "where all lies"));
    p.run(["check", "pages"])
        .stdout(expect![[r#"
            stale  out/Shelf.md  input changed: spec.yaml#/entities/Shelf
            stale  out/New.md    new
        "#]])
        .exits(1);
    p.edit("spec.yaml", SPEC).run(["check"]).exits(0);
}

#[test]
fn a_new_reference_adds_an_entity() {
    let server = Server::start();
    let p = project(&server, RELATED, ALONE);
    p.run([]).exits(0);
    let before = server.count();
    p.edit("spec.yaml", &SPEC.replace("product: Product}", "product: Product, shelf: \"?Shelf\"}"));
    p.run(["check"])
        .stdout(expect![[r#"
            stale  out/Order.md  input changed: spec.yaml#/entities/Line
            stale  out/Line.md   input changed: spec.yaml#/entities/Line; input changed: spec.yaml#/entities/Shelf
        "#]])
        .exits(1);
    p.run(["explain", "out/Line.md"])
        .stdout_has("  context  spec.yaml#/entities/Shelf ")
        .stdout_has("  new\n")
        .exits(0);
    p.run([]).exits(0);
    let now = &server.requests()[before..];
    assert_eq!(asked(now), pairs(&[("Line", "Line Product Shelf"), ("Order", "Customer Order Line")]));
}

#[test]
fn where_it_stands_is_a_part_of_what_it_is() {
    let server = Server::start();
    let p = project(&server, "related_to: \"{{item.key}}\"", ALONE);
    p.run(["out/Line.md"]).exits(0);
    let genfile = p.read("Genfile");
    p.edit("Genfile", &genfile.replace("{{item.key}}\"}", "Line\"}")).run(["check", "out/Line.md"]).exits(1);
    // What nothing shows may change, be it in the Genfile.
    p.edit("Genfile", &genfile.replace("{{item.key}}\"}", "{{item.key}}\", max_share: 0.9, depth: 1}"));
    p.run(["check", "out/Line.md"]).exits(0);
}

#[test]
fn a_specification_that_a_rule_makes_is_waited_for() {
    let server = Server::start();
    let p = project(&server, "related_to: Order", "").file("spec.hbs", SPEC);
    let rule = "  spec: {template: spec.hbs, output: made.yaml}\n";
    let genfile = p.read("Genfile").replace("select: spec.yaml", "select: made.yaml");
    p.edit("Genfile", &format!("{genfile}{rule}"));
    p.run([]).exits(0);
    assert_eq!(names(&shown(&server.requests()[0].system_text())), "Customer Order Line");
    p.edit("spec.hbs", &SPEC.replace("a thing", "any thing")).run(["check"]).stdout_has("made.yaml").exits(1);
    p.run([]).exits(0);
    assert_eq!(server.count(), 1, "what is shown did not change");
    p.edit("spec.hbs", &SPEC.replace("Order:", "Ordre:"));
    p.run(["-k"])
        .stderr_has("`made.yaml#/entities` has no entity `Order`")
        .stderr_has("did you mean `Ordre`?")
        .exits(2);
}

// ---- mistakes ----

#[test]
fn mistakes_are_said_before_anything_runs() {
    let server = Server::start();
    let p = project(&server, "related_to: \"{{snake_case item.key}}\"", "");
    p.run([])
        .stderr(expect![[r#"
        genmake::unknown_entity

          x rule `pages`: `spec.yaml#/entities` has no entity `customer`
           ,-[Genfile:9:56]
         8 |     output: "out/{{item.key}}.md"
         9 |     context: {select: spec.yaml#/entities, related_to: "{{snake_case item.key}}"}
           :                                                        ^^^^^^^^^^^^^^^^^^^^^^^^^
           `----
          help: did you mean `Customer`?
    "#]])
        .exits(2);
    let p = project(&server, "related_to: Ordr", "").file("other.yaml", "entities: just text\nlist: [{n: 1}]\n");
    p.run([]).stderr_has("`spec.yaml#/entities` has no entity `Ordr`").stderr_has("did you mean `Order`?").exits(2);
    let genfile = p.read("Genfile");
    for (select, what) in [
        ("spec.yaml#/entites", "`spec.yaml#/entites` finds nothing: `/` has no `entites`; it has `entities`"),
        ("spec.yaml", "`spec.yaml` is no selector: it has no `#`"),
        ("none.yaml#/x", "its context is of `none.yaml`, which is not there and which no rule makes"),
        ("none/*.yaml#/x", "`none/*.yaml#/x` finds nothing: no file matches `none/*.yaml`"),
        ("other.yaml#/entities", "`other.yaml#/entities` is neither a map nor a list of entities"),
        ("other.yaml#/list", "entry 0 of `other.yaml#/list` has no `key`, `name` or `id` to go by"),
    ] {
        p.edit("Genfile", &genfile.replace("select: spec.yaml#/entities", &format!("select: {select}")));
        p.run([]).stderr_has(what).exits(2);
    }
    p.edit("page.prompt", "{{#each context}}{{this.text}}{{/each}}");
    p.edit("spec.yaml", &SPEC.replace("what is bought", "\"a\\0system\\0b\""));
    p.edit("Genfile", &genfile.replace("Ordr", "Order")).run([]).stderr_has("an input holds a NUL byte").exits(2);
    p.edit("page.prompt", "{{contxt}}").edit("spec.yaml", SPEC);
    p.run([]).stderr_has("did you mean `context`?").exits(2);
    assert_eq!(server.count(), 0);
}

// ---- room, and what it saves ----

#[test]
fn what_has_no_room_is_left_out_and_said() {
    let server = Server::start();
    // Room for 40 tokens: Order and Customer, and Line would be over it.
    let p = project(&server, &format!("{RELATED}, max_share: 0.005"), ALONE);
    p.run(["--report", "report.json", "out/Order.md", "out/Product.md"]).exits(0);
    let requests = server.requests();
    let of = |name: &str| requests.iter().map(|r| r.user_text()).find(|text| text.contains(name)).expect("a request");
    let text = of("Write about Order");
    assert_eq!(names(&shown(&text)), "Customer Order");
    assert!(text.ends_with("}\nNot shown for lack of room: Line."), "{text}");
    assert!(!of("Write about Product").contains("Not shown"));
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("JSON");
    let left_out: Vec<&Value> =
        report["tasks"].as_array().expect("tasks").iter().map(|task| &task["left_out"]).collect();
    assert!(left_out.contains(&&json!(["Line"])) && left_out.contains(&&Value::Null), "{report:#}");

    // A share of the window that the provider's `limits` name.
    let genfile = p.read("Genfile");
    let with = |limit: u64| genfile.replace("base_url:", &format!("limits: {{context: {limit}}}, base_url:"));
    p.edit("Genfile", &with(16_384)).run(["prompt", "out/Order.md"]).stdout_has("context: 3 of 5: ").exits(0);
    p.edit("Genfile", &with(8192)).run(["prompt", "out/Order.md"]).stdout_has("context: 2 of 5: ").exits(0);
    // Of the model that is known by its name.
    let known = genfile.replace("model: m", "model: gpt-4o-mini");
    p.edit("Genfile", &known).run(["prompt", "out/Order.md"]).stdout_has("context: 3 of 5: ").exits(0);

    let p = project(&server, &format!("{RELATED}, max_share: 0.005"), ALONE)
        .file("page.prompt", "{{context}} About {{item.key}}.");
    p.run(["out/Order.md"]).exits(0);
    let text = server.requests().last().expect("a request").user_text();
    assert!(text.ends_with("}\nNot shown for lack of room: Line. About Order."), "{text}");
    p.run(["prompt", "out/Order.md"])
        .stdout_has("context: 2 of 5: Customer, Order; left out for lack of room: Line\n")
        .exits(0);
    let run = p.run(["prompt", "out/Order.md", "--format", "json"]);
    let note = &run.stdout_json()["prompts"][0]["contexts"][0];
    assert_eq!(
        (&note["shown"], &note["left_out"], &note["unrelated"]),
        (&json!(["Customer", "Order"]), &json!(["Line"]), &json!(2))
    );
    run.exits(0);
    // The entity itself stays, however little room there is.
    p.edit("Genfile", &p.read("Genfile").replace("0.005", "0")).run(["out/Order.md"]).exits(0);
    let text = server.requests().last().expect("a request").user_text();
    assert!(text.starts_with("{\"Order\":") && text.contains("Not shown for lack of room: Customer, Line."), "{text}");
}

#[test]
fn the_report_has_what_requests_did_without() {
    let saved = |context: &str, rule: &str, targets: &[&str]| {
        let server = Server::start();
        let p = project(&server, context, rule);
        p.run(["--report", "report.json"].into_iter().chain(targets.iter().copied())).exits(0);
        let report: Value = serde_json::from_str(&p.read("report.json")).expect("JSON");
        report["llm"]["tokens_saved"]["context"].as_u64().expect("a number")
    };
    // An estimate for each entity: four characters to a token, with its key.
    let tokens = |key: &str| {
        let value: Value = serde_json::from_str(&spec_json()[key].to_string()).expect("JSON");
        format!("\"{key}\":{value}").len().div_ceil(4) as u64
    };
    let of_product = ["Customer", "Order", "Line", "Shelf"].map(tokens).iter().sum::<u64>();
    assert_eq!(saved(RELATED, ALONE, &["out/Product.md"]), of_product);
    let of_shelf = ["Customer", "Order", "Line"].map(tokens).iter().sum::<u64>();
    assert_eq!(saved(RELATED, "", &["out/Product.md", "out/Shelf.md"]), of_product + of_shelf);
    assert_eq!(saved("depth: 1", "", &[]), 0);
    // What a batch shares stands in it once.
    let of_order = ["Product", "Shelf"].map(tokens).iter().sum::<u64>();
    assert_eq!(saved("related_to: Order", "", &[]), of_order);
    assert_eq!(saved("related_to: Order", ALONE, &[]), of_order * 5);
}

fn spec_json() -> Value {
    json!({
        "Customer": {"text": "who buys", "fields": {"name": "string"}},
        "Order": {"text": "what is bought", "fields": {"customer": "Customer", "lines": "list<Line>"}},
        "Line": {"text": "one of them", "fields": {"product": "Product"}},
        "Product": {"text": "a thing", "fields": {"name": "string"}},
        "Shelf": {"text": "where things lie", "fields": {"products": "Product[]"}},
    })
}

#[test]
fn the_clinic_does_with_less_than_half() {
    let p = copy("clinic");
    let tokens = || {
        let run = p.run(["plan", "--no-batch", "--format", "json"]);
        let plan = run.stdout_json();
        assert_eq!(plan["requests"], 50, "{}", run.stderr);
        run.exits(0);
        plan["input_tokens"].as_u64().expect("a number")
    };
    let with = tokens();
    let genfile = p.read("Genfile");
    let whole = genfile.replace("related_to: \"{{item.key}}\"", "").replace("max_share: 0.25", "");
    assert_ne!(genfile, whole);
    p.edit("Genfile", &whole);
    let without = tokens();
    assert!(with * 2 <= without, "{with} of {without} tokens");
}
