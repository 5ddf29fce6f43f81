//! Texts into vectors: what is asked for, what is kept, and what is written.

use serde_json::{Value, json};

use crate::project::Project;
use crate::server::embeddings::TooLong;
use crate::server::{Act, Server};

const CODE: &str = "def first(a):\n    return a\n\n\ndef second(b):\n    # twice\n    return b * 2\n";

/// A project with this embed rule over all definitions of Python.
fn index_with(server: &Server, provider: &str, rule: &str) -> Project {
    let genfile = format!(
        "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: \"{{base_url}}\", {provider}}}}}\n\
         rules:\n  index:\n    items: src/*.py#defs\n{rule}\n"
    );
    Project::new().genfile_for(server, &genfile).file("src/a.py", CODE)
}

fn index(server: &Server) -> Project {
    index_with(server, "in_flight: 2", "    output: out/index.jsonl\n    embed: {dimensions: 8}")
}

fn rows(p: &Project) -> Vec<Value> {
    p.read("out/index.jsonl").lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The texts of all requests, in the order in which they were sent.
fn texts(server: &Server) -> Vec<Vec<String>> {
    server.requests().iter().map(|request| request.texts()).collect()
}

#[test]
fn each_definition_has_a_row_with_its_vector() {
    let server = Server::start();
    let p = index(&server);
    p.run(["--report", "r.json"]).stderr_has("2 of 2 items have a vector: 2 new, 0 that were there; 0 failed").exits(0);
    let rows = rows(&p);
    assert_eq!(rows.len(), 2);
    let columns = ["id", "path", "name", "kind", "line", "model"].map(|name| rows[1][name].clone());
    let expected = json!(["src/a.py#defs/second", "src/a.py", "second", "function", 5, "m"]);
    assert_eq!(json!(columns), expected);
    assert_eq!(rows[1]["vector"].as_array().map(Vec::len), Some(8));
    assert_eq!(
        texts(&server),
        [["first\ndef first(a):\n    return a", "second\ndef second(b):\n    # twice\n    return b * 2"]]
    );
    let report: Value = serde_json::from_str(&p.read("r.json")).expect("JSON");
    assert_eq!(report["targets"]["embedded"], 1);
    let counts = json!({"total": 2, "success": 2, "failed": 0, "cached": 0, "newly_embedded": 2});
    assert_eq!(report["tasks"][0]["embedding"], counts);
    p.run(["check"]).exits(0);
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
}

#[test]
fn what_moves_or_is_there_already_asks_nothing() {
    let server = Server::start();
    let p = index(&server);
    p.run([]).exits(0);
    // Some lines further down, and then in another file.
    p.edit("src/a.py", &format!("import os\n\n{CODE}"));
    p.run([]).stderr_has("0 new, 2 that were there").exits(0);
    assert_eq!(rows(&p)[1]["line"], 7);
    p.remove("src/a.py").edit("src/b.py", CODE);
    p.run([]).exits(0);
    assert_eq!(rows(&p)[0]["id"], "src/b.py#defs/first");
    // Of what is new only that, and the same text twice once.
    p.edit("src/c.py", &CODE.replace("b * 2", "b * 3"));
    p.run([]).stderr_has("1 new, 3 that were there").exits(0);
    assert_eq!(texts(&server)[1..], [["second\ndef second(b):\n    # twice\n    return b * 3"]]);
    // A second project with the same store.
    let other = index(&server);
    fs_err::create_dir_all(other.path(".genmake/store/vectors")).expect("a folder");
    for pack in fs_err::read_dir(p.path(".genmake/store/vectors")).expect("packs") {
        let pack = pack.expect("a pack");
        fs_err::copy(pack.path(), other.path(".genmake/store/vectors").join(pack.file_name())).expect("a copy");
    }
    other.run([]).stderr_has("0 new, 2 that were there").exits(0);
    assert_eq!(server.count(), 2);
}

#[test]
fn a_fresh_clone_takes_vectors_from_the_output() {
    let server = Server::start();
    let p = index(&server);
    p.run([]).exits(0);
    p.remove(".genmake");
    p.run(["--frozen"]).exits(0);
    p.edit("src/b.py", "def third():\n    pass\n");
    p.run(["plan"])
        .stdout_has("1                1 text     p (m)")
        .stdout_has("1 to embed; 1 request\n")
        .stdout_has("without genmake  1 request")
        .exits(0);
    p.run([]).stderr_has("1 new, 2 that were there").stderr_has("done: 1 embedded in").exits(0);
    assert_eq!(texts(&server)[1..], [["third\ndef third():\n    pass"]]);
    // What a person wrote is nobody's vector.
    p.remove(".genmake").edit("out/index.jsonl", &p.read("out/index.jsonl").replace("\"vector\":[", "\"vector\":[1,"));
    p.edit("src/b.py", "def third():\n    pass\n\n\ndef fourth():\n    pass\n");
    p.run(["--force"]).stderr_has("4 new, 0 that were there").exits(0);
}

#[test]
fn one_that_fails_fails_nobody_else() {
    let server = Server::start();
    let p = index(&server);
    let long = format!("def long():\n    return \"{}\"\n", "many words ".repeat(200));
    p.edit("src/b.py", &long).edit("src/c.py", "def third():\n    pass\n");
    server.takes_texts_of(100, TooLong::Batch);
    p.run([]).stderr_has("3 of 4 items have a vector: 3 new, 0 that were there; 1 failed").exits(0);
    let rows = rows(&p);
    assert!(rows[2]["error"].as_str().is_some_and(|why| why.contains("too large")), "{}", rows[2]);
    assert_eq!((rows[2].get("vector"), rows[3]["name"].clone()), (None, json!("third")));
    p.run(["check"]).exits(0);
    p.run([]).exits(0);
    let before = server.count();
    // Cut, it fits.
    p.edit("Genfile", &p.read("Genfile").replace("dimensions: 8", "dimensions: 8, max_tokens: 50"));
    p.run([]).stderr_has("4 of 4 items have a vector: 1 new, 3 that were there; 0 failed").exits(0);
    assert_eq!(self::rows(&p)[2]["cut"], true);
    assert_eq!(server.count(), before + 1);
}

#[test]
fn where_none_is_taken_the_task_fails() {
    let server = Server::start();
    let p = index(&server);
    let many: String = (0..200).map(|n| format!("def f{n}():\n    return {n}\n\n\n")).collect();
    p.edit("src/many.py", &many);
    server.always(Act::error(400, "invalid_request_error", "none", "this model makes no embeddings"));
    p.run([]).stderr_has("this model makes no embeddings").exits(2);
    assert!(!p.exists("out/index.jsonl"));
    assert!(server.count() < 30, "{}", server.count());
}

#[test]
fn a_missing_or_empty_vector_is_an_error_of_its_item() {
    for act in [Act::MissingVector(1), Act::EmptyVector(1)] {
        let server = Server::start();
        let p = index(&server);
        server.always(act);
        p.run([]).stderr_has("1 failed").exits(0);
        assert_eq!(rows(&p)[1]["error"], "the provider gave no vector for it");
        assert!(rows(&p)[0]["vector"].is_array());
    }
}

#[test]
fn comments_may_be_dropped_and_a_template_makes_the_text() {
    let server = Server::start();
    let p = index_with(
        &server,
        "in_flight: 1",
        "    output: out/index.jsonl\n    embed: {comments: drop, template: t.hbs}",
    );
    p.edit("t.hbs", "{{upper item.name}}: {{item.text}}");
    p.run([]).exits(0);
    assert_eq!(texts(&server)[0][1], "SECOND: def second(b):\n    return b * 2");
    p.edit("src/a.py", &CODE.replace("# twice", "# two times"));
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
}

#[test]
fn vectors_may_go_to_a_file_of_numpy() {
    let server = Server::start();
    let rule = "    outputs: {vectors: out/v.npy, ids: out/index.jsonl}\n    embed: {dimensions: 8}";
    let p = index_with(&server, "in_flight: 1", rule);
    p.run([]).exits(0);
    let bytes = fs_err::read(p.path("out/v.npy")).expect("the file");
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00") && bytes.len() == 128 + 2 * 8 * 4, "{}", bytes.len());
    assert_eq!((rows(&p).len(), rows(&p)[0].get("vector")), (2, None));
    p.remove(".genmake").edit("src/b.py", "def third():\n    pass\n");
    p.run([]).stderr_has("1 new, 2 that were there").exits(0);
    let rule = "    output: out/v.npy\n    embed: {dimensions: 8}";
    index_with(&server, "in_flight: 1", rule).run([]).stderr_has("nothing says of which items").exits(2);
}

#[test]
fn requests_are_as_few_as_the_provider_allows() {
    let server = Server::start();
    let p = index(&server);
    let many: String = (0..100).map(|n| format!("def f{n}():\n    return {n}\n\n\n")).collect();
    p.edit("src/many.py", &many);
    server.latency(100);
    let plan = p.run(["plan", "--format", "json"]).stdout_json();
    assert_eq!(plan["requests"], 4);
    p.run([]).exits(0);
    // 102 texts of which a server that nobody knows takes 32 at once.
    assert_eq!((server.count(), server.max_in_flight()), (4, 2));
    assert_eq!(server.asked_twice(), Vec::<String>::new());
}

#[test]
fn secrets_are_not_sent_and_budgets_hold() {
    let server = Server::start();
    let p = index(&server);
    p.edit("src/b.py", "def key():\n    return \"AKIAQ3EGRY7PLK2SVV5J\"\n");
    p.run([]).stderr_has("genmake::secret").exits(2);
    p.remove("src/b.py");
    p.run(["--max-tokens", "3"]).stderr_has("genmake::budget").exits(2);
    p.run(["--offline"]).stderr_has("genmake::offline").exits(2);
    assert_eq!(server.count(), 0);
}

#[test]
fn search_finds_what_is_near() {
    let server = Server::start();
    let p = index_with(&server, "in_flight: 1", "    output: out/index.jsonl\n    embed: {dimensions: 64}");
    p.edit("src/b.py", "def render(template):\n    return fill(template)\n");
    p.run(["search", "render a template", "index"]).stderr_has("`genmake index` makes it").exits(2);
    p.run([]).exits(0);
    let before = server.count();
    p.run(["search", "def render template fill", "index", "-k", "2"])
        .stdout_has("src/b.py:1  render (function)\n")
        .exits(0);
    // The same text asks once.
    let found = p.run(["search", "def render template fill", "index", "--format", "json", "--offline"]).stdout_json();
    assert_eq!(found["results"][0]["name"], "render");
    assert_eq!((found["results"].as_array().map(Vec::len), server.count()), (Some(3), before + 1));
    p.run(["search", "x", "indx"]).stderr_has("did you mean `index`?").exits(2);
    p.run(["search", " ", "index"]).stderr_has("nothing to look for").exits(2);
    p.edit("src/b.py", "def render(template):\n    return 1\n");
    p.run(["search", "def render template fill", "index"]).stderr_has("is not up to date").exits(0);
}

#[test]
fn gc_keeps_what_current_texts_and_items_have() {
    let server = Server::start();
    let p = index(&server);
    p.run([]).exits(0);
    p.edit("src/b.py", "def third():\n    pass\n");
    p.run([]).exits(0);
    p.remove("src/b.py");
    p.run(["--yes"]).exits(0);
    p.run(["gc", "--keep", "0s"]).stderr_has("1 vector").exits(0);
    p.remove("out");
    p.edit("Genfile", &p.read("Genfile").replace("out/index.jsonl", "out/other.jsonl"));
    p.run(["--yes"]).stderr_has("0 new, 2 that were there").exits(0);
}

#[test]
fn files_of_secrets_are_no_items() {
    let server = Server::start();
    let p = index(&server);
    p.edit("Genfile", &p.read("Genfile").replace("src/*.py#defs", "\"conf/*\""));
    p.edit("conf/.env.txt", "x").edit("conf/id_rsa", "not even a key");
    p.run([]).stderr_has("`conf/id_rsa` holds secrets as files named").exits(2);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_rule_says_who_is_asked_and_what_for() {
    let (server, other) = (Server::start(), Server::start());
    let rule = "    output: out/index.jsonl\n    embed: {provider: q, model: m2, task: RETRIEVAL_DOCUMENT}";
    let p = index_with(&server, "in_flight: 1", rule);
    let second = format!("providers: {{q: {{api: gemini, base_url: \"{}\"}}, ", other.base_url());
    p.edit("Genfile", &p.read("Genfile").replace("providers: {", &second));
    p.run([]).exits(0);
    assert_eq!((server.count(), other.count()), (0, 1));
    let request = &other.requests()[0];
    assert!(request.path.contains("models/m2:batchEmbedContents"), "{}", request.path);
    assert_eq!(request.body["requests"][0]["taskType"], "RETRIEVAL_DOCUMENT");
    // What is looked for is a question to that.
    p.run(["search", "first", "index"]).stdout_has("src/a.py").exits(0);
    assert_eq!(other.requests()[1].body["requests"][0]["taskType"], "RETRIEVAL_QUERY");
}
