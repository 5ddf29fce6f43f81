//! What must not happen: a person's bytes lost, a wrong "fresh", a write where nothing may be written, a run that never ends.

use std::collections::BTreeMap;

use crate::project::Project;
use crate::server::{Act, Gate, Server};
use crate::shop::shop_with;

/// Whether some file below `.genmake` holds exactly this text.
fn is_kept(project: &Project, text: &str) -> bool {
    project.everything().iter().any(|(path, bytes)| path.starts_with(".genmake/") && bytes == text.as_bytes())
}

fn templates(rules: &str, files: &[(&str, &str)]) -> Project {
    let project = Project::new().file("Genfile", &format!("version: 1\nrules:\n{rules}"));
    files.iter().fold(project, |project, (path, text)| project.file(path, text))
}

#[test]
fn what_force_overwrites_is_kept_whatever_else_is_the_reason() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    p.run([]).exits(0);
    // A new check that the page does not pass, and an edit, at once.
    let genfile = p.read("Genfile").replace("docs/{{item.key}}.md\"", "docs/{{item.key}}.md\", check: json");
    p.edit("Genfile", &genfile).edit("docs/e1.md", "mine\n");
    server.script([Act::Content("{\"a\": 1}\n".to_owned())]);
    p.run(["--force"]).exits(0);
    assert_eq!(p.read("docs/e1.md"), "{\"a\": 1}\n");
    assert!(is_kept(&p, "mine\n"));
}

#[test]
fn a_narrowed_first_build_writes_its_lock() {
    let p = templates(
        "  a: {template: t.hbs, output: one/a.txt}\n  b: {template: t.hbs, output: two/b.txt}\n",
        &[("t.hbs", "x\n")],
    );
    p.run(["one/a.txt"]).exits(0);
    assert!(p.read("Genfile.lock").contains("one/a.txt ") && !p.exists("two"));
}

#[test]
fn what_names_things_is_in_the_keys() {
    let both = |inputs: &str, outputs: &str| {
        format!("version: 1\nrules:\n  a: {{template: t.hbs, inputs: {inputs}, outputs: {outputs}}}\n")
    };
    let p = Project::new()
        .file("Genfile", &both("{a: x.txt, b: y.txt}", "{one: 1.out, two: 2.out}"))
        .file("t.hbs", "{{inputs.a.text}}{{#if (eq output outputs.one)}}first{{/if}}\n")
        .file("x.txt", "x")
        .file("y.txt", "y");
    p.run([]).exits(0);
    p.edit("Genfile", &both("{b: x.txt, a: y.txt}", "{one: 1.out, two: 2.out}"));
    p.run(["check"]).exits(1);
    p.run([]).exits(0);
    assert_eq!(p.read("1.out"), "yfirst\n");
    p.edit("Genfile", &both("{b: x.txt, a: y.txt}", "{two: 1.out, one: 2.out}"));
    p.run([]).exits(0);
    assert_eq!((p.read("1.out"), p.read("2.out")), ("y\n".to_owned(), "yfirst\n".to_owned()));
}

#[test]
fn a_template_that_becomes_a_prompt_is_asked_for() {
    let server = Server::start();
    let genfile = |recipe: &str| {
        format!(
            "version: 1\nprovider: p\nproviders: {{p: {{api: openai, model: m, base_url: \"{{base_url}}\"}}}}\n\
             rules:\n  a: {{{recipe}: t.hbs, output: a.txt}}\n"
        )
    };
    let p = Project::new().genfile_for(&server, &genfile("template")).file("t.hbs", "words\n");
    p.run([]).exits(0);
    let p = p.genfile_for(&server, &genfile("prompt"));
    p.run(["check"]).exits(1);
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
}

#[test]
fn a_missing_input_is_no_text_that_a_file_can_have() {
    let p = templates(
        "  a: {template: t.hbs, inputs: {x: {path: x.txt, optional: true}}, output: a.txt}\n",
        &[("t.hbs", "{{#if inputs.x}}{{inputs.x.text}}{{else}}none{{/if}}\n")],
    );
    p.run([]).exits(0);
    p.edit("x.txt", "genmake: no file").run([]).exits(0);
    assert_eq!(p.read("a.txt"), "genmake: no file\n");
}

#[test]
fn a_partial_that_a_rule_makes_is_an_edge_on_a_clean_checkout() {
    let p = templates(
        "  user: {template: t/main.hbs, output: out.txt}\n  part: {template: gen/part.hbs, output: t/part.hbs}\n",
        &[("t/main.hbs", "<{{> part}}>\n"), ("gen/part.hbs", "part")],
    );
    p.run([]).exits(0);
    assert_eq!(p.read("out.txt"), "<part>\n");
    p.run([]).stderr_has("nothing to do").exits(0);
}

#[test]
fn an_output_beside_its_own_template_is_no_partial_of_it() {
    let p = templates("  a: {template: t/a.hbs, output: t/b.hbs}\n", &[("t/a.hbs", "x\n")]);
    p.run([]).exits(0);
    p.run([]).stderr_has("nothing to do").exits(0);
}

#[test]
fn an_orphan_that_a_task_reads_has_become_a_source() {
    let p = templates(
        "  a: {template: t.hbs, output: a.txt}\n  b: {template: t.hbs, output: b.txt, inputs: [a.txt]}\n",
        &[("t.hbs", "x\n")],
    );
    p.run([]).exits(0);
    p.edit("Genfile", "version: 1\nrules:\n  b: {template: t.hbs, output: b.txt, inputs: [a.txt]}\n");
    p.run([]).exits(0);
    assert_eq!(p.read("a.txt"), "x\n");
    assert!(!p.read("Genfile.lock").contains("a.txt "));
    p.run(["check"]).exits(0);
}

#[test]
fn an_orphan_edited_during_the_run_stays() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    let extra =
        p.read("Genfile") + "  old: {template: templates/index.hbs, inputs: {spec: spec.yaml}, output: old.md}\n";
    let without = p.read("Genfile");
    p.edit("Genfile", &extra).run([]).exits(0);
    p.edit("Genfile", &without).edit("spec.yaml", "entities:\n  e1: {text: new}\n");
    let gate = Gate::new();
    server.script([Act::Hold(gate.clone())]);
    let child = p.spawn([]);
    server.wait_for(2);
    p.edit("old.md", "mine\n");
    gate.open();
    p.finish(child).exits(0);
    assert_eq!(p.read("old.md"), "mine\n");
}

#[test]
fn partials_and_durations_without_end_are_refused() {
    let p = templates(
        "  a: {template: t/m.hbs, output: a}\n",
        &[("t/m.hbs", "{{> x}}"), ("t/x.hbs", "{{> y}}"), ("t/y.hbs", "{{> x}}")],
    );
    p.run([]).stderr_has("includes itself").exits(2);
    let genfile = "version: 1\nproviders: {p: {api: openai, timeout: 18446744073709551615}}\nrules: {}\n";
    Project::new().file("Genfile", genfile).run([]).stderr_has("`timeout` is a duration from").exits(2);
}

#[test]
fn a_foreach_over_what_a_later_rule_makes_is_refused_whatever_lies_on_disk() {
    let p = templates(
        "  use: {foreach: \"gen/a.yaml#/e/*\", template: t.hbs, output: \"{{item.key}}.txt\"}\n  \
         make: {foreach: [a, b], template: t.hbs, output: \"gen/{{item}}.yaml\"}\n",
        &[("t.hbs", "x\n"), ("gen/a.yaml", "e: {k: 1}\n")],
    );
    p.run([]).stderr_has("genmake::dynamic_foreach").exits(2);
}

#[test]
fn odd_names_are_read_back_from_the_lock() {
    let p = templates(
        "  '\"quoted': {template: t.hbs, output: '=======.md'}\n  b: {template: t.hbs, output: '======='}\n",
        &[("t.hbs", "x\n")],
    );
    p.run([]).exits(0);
    p.run(["check"]).exits(0);
    p.run([]).stderr_has("nothing to do").exits(0);
}

#[test]
fn a_folder_in_the_state_s_place_is_made_up_for() {
    let p = templates("  a: {template: t.hbs, output: a}\n", &[("t.hbs", "x\n"), (".genmake/state/x", "")]);
    p.run([]).stderr_has("was damaged").exits(0);
    p.run([]).stderr_has("nothing to do").exits(0);
}

#[test]
fn a_waiting_request_is_asked_about_too() {
    let p = templates("", &[("p.md", "words"), ("q.md", "{{inputs.a.text}}")]).file(
        "Genfile",
        "version: 1\nproviders:\n  far: {api: openai, model: m, base_url: \"https://llm.invalid/v1\"}\n  \
         near: {api: openai, model: m, base_url: \"http://127.0.0.1:9/v1\"}\n\
         rules:\n  a: {prompt: p.md, provider: near, output: a}\n  \
         b: {prompt: q.md, provider: far, inputs: {a: a}, output: b}\n",
    );
    p.run(["-B"]).stderr_has("would ask for 1 result anew").exits(2);
}

#[test]
fn a_question_deletes_nothing() {
    let p = templates("  a: {template: t.hbs, output: a}\n", &[("t.hbs", "x\n")]);
    p.run([]).exits(0);
    p.run(["-q", "clean"]).exits(2);
    assert!(p.exists("a"));
}

#[cfg(unix)]
#[test]
fn no_link_leads_into_git() {
    let p = templates("  a: {template: t.hbs, output: x/hooks/evil}\n", &[("t.hbs", "x\n"), (".git/config", "")]);
    std::os::unix::fs::symlink(".git", p.path("x")).expect("a link");
    let before: BTreeMap<_, _> = p.tree();
    p.run([]).stderr_has("genmake::bad_path").exits(2);
    p.run(["--frozen"]).exits(2);
    assert_eq!(p.tree(), before);
    let p = templates(
        "  a: {template: t.hbs, inputs: {g: \".git/*\"}, output: a}\n",
        &[("t.hbs", "{{len inputs.g}}"), (".git/config", "")],
    );
    p.run([]).exits(0);
    assert_eq!(p.read("a"), "0");
}

#[test]
fn a_key_in_a_genfile_is_not_shown_whatever_is_wrong_with_it() {
    let key = "sk-canary-0123456789";
    for provider in [
        format!("{{api: openai, key: {key}}}"),
        format!("{{api: openai, \"api_key\": \"{key}\"}}"),
        format!("{{key_env: {key}}}"),
        format!("{{api: openai, base_url: \"https://me:{key}@llm.acme.dev/v1\"}}"),
        format!("{{api: openai, base_url: 'https://{key}@llm.acme.dev/v1'}}"),
    ] {
        for wrong in ["rules: [\n", "rules: {}\nrules: {}\n", "rules: {a: 1}\n", "rules:\n\ta: 1\n"] {
            let genfile = format!("version: 1\nproviders:\n  p: {provider}\n{wrong}");
            let run = Project::new().file("Genfile", &genfile).run([]);
            assert!(!run.stderr.contains("canary") && !run.stdout.contains("canary"), "{}", run.stderr);
            run.exits(2);
        }
    }
}

#[test]
#[cfg(unix)]
fn what_brings_a_provider_up_gets_its_own_key_and_no_other() {
    let server = Server::start_deaf();
    let p = shop_with(&server, 1, "key_env: OWN_KEY, start: \"env > seen; exit 1\"", "");
    let other = "providers:\n  q: {api: openai, key_env: OTHER_KEY}\n";
    p.edit("Genfile", &p.read("Genfile").replace("providers:\n", other));
    let p = p.env("OWN_KEY", "canary-own").env("OTHER_KEY", "canary-other");
    p.run([]).stderr_has("genmake::start_failed").exits(2);
    let seen = p.read("seen");
    assert!(seen.contains("canary-own") && !seen.contains("canary-other"), "{seen}");
}
