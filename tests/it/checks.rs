//! Checks that only read a result: syntax and schemas. Checks by command are in `running`.

use expect_test::expect;

use crate::project::Project;
use crate::server::Server;

fn project(rules: &str) -> Project {
    Project::new().file("Genfile", &format!("version: 1\nrules:\n{rules}"))
}

fn asking(server: &Server, rules: &str) -> Project {
    let head = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\"}}\nrules:\n";
    Project::new().genfile_for(server, &format!("{head}{rules}")).file("p.prompt", "Write {{output}}.\n")
}

#[test]
fn syntax_is_judged_by_the_extension_with_line_and_column() {
    let p = project("  a: {foreach: \"src/*\", output: \"out/{{item.name}}\", template: t.hbs, check: syntax}\n")
        .file("t.hbs", "{{item.text}}")
        .file("src/a.go", "package a\n\nfunc A() int { return 1 }\n")
        .file("src/b.json", "{\"a\": 1}\n")
        .file("src/c.py", "def f():\n    return 1\n");
    p.run([]).exits(0);
    p.edit("src/a.go", "package a\n\nfunc A( int { return 1 }\n").edit("src/b.json", "{\"a\": }\n");
    p.run([])
        .stderr_has("`out/a.go` does not pass the check `syntax`: line 3, column ")
        .stderr_has("`out/b.json` does not pass the check `syntax`: not JSON, line 1, column 7")
        .exits(2);
    assert!(p.read("out/a.go").contains("func A() int"));
}

#[test]
fn an_extension_without_a_grammar_is_refused_before_anything_runs() {
    let p = project("  a: {output: a.md, template: t.hbs, check: syntax}\n").file("t.hbs", "x");
    p.run(["plan"]).stderr_has("genmake::bad_value").stderr_has("`check: syntax` cannot judge `a.md`").exits(2);
}

#[test]
fn a_syntax_error_goes_back_to_the_model() {
    let server = Server::start();
    server.reply(|request, _| match request.user_text().contains("does not pass") {
        true => "package a\n".into(),
        false => "pakcage a\n".into(),
    });
    let p = asking(&server, "  a: {output: a.go, prompt: p.prompt, check: [syntax]}\n");
    p.run([]).stderr_has("correct  a.go: line 1, column 1").exits(0);
    assert_eq!((p.read("a.go").as_str(), server.count()), ("package a\n", 2));
}

#[test]
fn a_schema_judges_results_and_its_own_edits_judge_them_again() {
    let server = Server::start();
    let p = asking(&server, "  a: {output: a.json, prompt: p.prompt, check: {schema: s/person.yaml}}\n")
        .file("s/person.yaml", "type: object\nrequired: [name]\nproperties: {name: {type: string}}\n");
    server.reply(|request, _| match request.user_text().contains("does not pass the check `schema`") {
        true => "{\"name\": \"Ada\"}".into(),
        false => "{\"nam\": 1}".into(),
    });
    p.run([]).stderr_has("correct  a.json").stderr_has("name").exits(0);
    assert_eq!((p.read("a.json").as_str(), server.count()), ("{\"name\": \"Ada\"}", 2));
    p.run([]).stderr_has("nothing to do").exits(0);
    // The result that is there is judged by another schema, for nothing.
    p.edit("s/person.yaml", "type: object\nproperties: {name: {minLength: 3}}\n").run(["check"]).exits(0);
    p.run([]).stderr_has("nothing to do").exits(0);
    assert_eq!(server.count(), 2);
    p.edit("s/person.yaml", "type: object\nproperties: {name: {minLength: 9}}\n");
    p.run(["check"]).stdout_has("stale  a.json").stdout_has("`/name`").exits(1);
}

#[test]
fn schemas_are_files_of_the_project_and_may_be_made() {
    let p = project("  s: {output: gen/s.json, template: s.hbs}\n  a: {output: a.yaml, template: a.hbs, check: [{schema: gen/s.json}]}\n")
        .file("s.hbs", "{\"type\": \"object\", \"required\": [\"x\"]}\n")
        .file("a.hbs", "x: 1\n");
    p.run([]).exits(0);
    p.edit("s.hbs", "{\"type\": \"object\", \"required\": [\"y\"]}\n").run([]).stderr_has("check `schema`").exits(2);
    let p = project("  a: {output: a.yaml, template: a.hbs, check: [{schema: nope.json}]}\n").file("a.hbs", "x: 1\n");
    p.run([])
        .stderr(expect![[r#"
        genmake::missing_input

          x rule `a`: its schema is `nope.json`, which is not there and which no rule makes
           ,-[Genfile:3:57]
         2 | rules:
         3 |   a: {output: a.yaml, template: a.hbs, check: [{schema: nope.json}]}
           :                                                         ^^^^^^^^^
           `----
          help: paths are relative to the Genfile's folder
    "#]])
        .exits(2);
    p.edit("nope.json", "{\"type\": 3}").run([]).stderr_has("no JSON Schema that can be used").exits(2);
    p.edit("nope.json", "{").run([]).stderr_has("nope.json:1:1").stderr_has("is not JSON").exits(2);
}

#[test]
fn an_included_files_schema_lies_beside_it() {
    let p = Project::new()
        .file("Genfile", "version: 1\ninclude: [rules/r.yaml]\nrules: {}\n")
        .file("rules/r.yaml", "rules: {a: {output: a.json, template: a.hbs, check: {schema: s.json}}}\n")
        .file("rules/a.hbs", "{\"x\": 1}\n")
        .file("rules/s.json", "{\"required\": [\"y\"]}\n");
    p.run([]).stderr_has("\"y\" is a required property").exits(2);
}

#[test]
fn a_reply_that_did_not_pass_is_no_result_of_a_later_run() {
    let server = Server::start();
    server.reply(|_, _| "no JSON".to_owned());
    let p = asking(&server, "  a: {output: a.json, prompt: p.prompt, check: json, retries: 0}\n");
    p.run([]).stderr_has("`retries: 1` would give the model another try").exits(2);
    p.run(["plan"]).stdout_has("generate  a.json  new  [request 1]").exits(0);
    server.reply(|_, _| "{}".to_owned());
    p.run([]).exits(0);
    assert_eq!((server.count(), p.read("a.json").as_str()), (2, "{}"));
}

#[test]
fn a_check_that_fails_is_not_asked_about_where_nothing_is_asked_again() {
    let server = Server::start();
    server.reply(|_, _| "no JSON".to_owned());
    let rule = "  a: {foreach: [x, y], output: \"{{item}}.json\", prompt: p.prompt, check: json, \
                batch: {fallback_on_failure: false}}\n";
    asking(&server, rule).run([]).stderr_has("help: `fallback_on_failure: false` says not to ask again").exits(2);
    assert_eq!(server.count(), 1);
}
