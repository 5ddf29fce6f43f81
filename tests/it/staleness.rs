//! What is made anew, what is restored, what is left alone: over edits, losses and damage.

use expect_test::expect;

use crate::project::{Project, Stamp};
use crate::server::{Act, Gate, Server};
use crate::shop::{self, asked_after, has_no_temporary_file, index, is_built, page, pages, shop, shop_with, spec};

/// The shop, built.
fn built(count: usize) -> (Server, Project) {
    let server = Server::start();
    let p = shop(&server, count);
    p.run([]).exits(0);
    is_built(&p, count, &[]);
    (server, p)
}

/// A project of these rules, with the server as their provider.
fn project(server: &Server, rules: &str) -> Project {
    let head = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\"}}\nrules:\n";
    Project::new().genfile_for(server, &format!("{head}{rules}"))
}

/// That a run has nothing to do: no request, and no file but those of `.genmake` is written, changed or not.
#[track_caller]
fn does_nothing(server: &Server, p: &Project) {
    let (requests, stamps) = (server.count(), p.stamps());
    p.run([]).stderr_has("nothing to do: ").exits(0);
    assert_eq!(server.count(), requests);
    assert_eq!(p.stamps(), stamps);
    p.run(["check"]).exits(0);
}

/// The files that are not as they were, with those that are new or gone.
fn written(p: &Project, before: &std::collections::BTreeMap<String, Stamp>) -> Vec<String> {
    let now = p.stamps();
    let all = now.keys().chain(before.keys()).collect::<std::collections::BTreeSet<_>>();
    all.into_iter().filter(|path| now.get(*path) != before.get(*path)).cloned().collect()
}

/// Where the store keeps these bytes.
#[track_caller]
fn blob(p: &Project, text: &str) -> String {
    let all = p.everything();
    let mut blobs = all.iter().filter(|(path, _)| path.starts_with(".genmake/store/cas/"));
    let found = blobs.find(|(_, bytes)| *bytes == text.as_bytes());
    found.unwrap_or_else(|| panic!("the store does not hold {text:?}: {:?}", all.keys())).0.clone()
}

// ---- nothing changed ----

#[test]
fn a_second_run_sends_nothing_and_writes_nothing() {
    let (server, p) = built(7);
    assert_eq!(server.count(), 2);
    does_nothing(&server, &p);
    p.run([])
        .stderr(expect![[r#"
        nothing to do: 8 targets are up to date in [TIME]
    "#]])
        .exits(0);
}

#[test]
fn touched_files_are_not_changed_files() {
    let (server, p) = built(3);
    for path in ["Genfile", "spec.yaml", "prompts/page.prompt", "templates/index.hbs", "docs/e1.md", "docs/index.md"] {
        p.edit(path, &p.read(path));
    }
    does_nothing(&server, &p);
}

#[test]
fn where_a_project_lies_and_who_answers_is_in_no_key() {
    let ((_first, a), (_second, b)) = (built(3), built(3));
    assert_eq!(a.read("Genfile.lock"), b.read("Genfile.lock"));
}

// ---- something changed ----

#[test]
fn an_edited_entity_is_one_request_for_its_page() {
    let (server, p) = built(12);
    let before = p.stamps();
    p.edit("spec.yaml", &spec(12, &[("e7", "something else")]));
    p.run(["check"])
        .stdout(expect![[r#"
            stale  docs/e7.md  input changed: spec.yaml#/entities/e7
        "#]])
        .exits(1);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 3), ["e7"]);
    assert_eq!(server.requests()[3].schema(), None, "a single task asks for plain text");
    is_built(&p, 12, &[("e7", "something else")]);
    assert_eq!(written(&p, &before), ["Genfile.lock", "docs/e7.md", "spec.yaml"]);
    does_nothing(&server, &p);
}

#[test]
fn an_entity_before_the_others_leaves_the_others_fresh() {
    let (server, p) = built(6);
    p.edit("spec.yaml", &spec(6, &[]).replace("entities:\n", "entities:\n  e0: {text: \"about e0\"}\n"));
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 2), ["e0"]);
    assert_eq!(p.read("docs/index.md"), index(6).replace("# Index\n", "# Index\n- e0\n"));
}

#[test]
fn the_way_back_costs_nothing() {
    let (server, p) = built(3);
    let lock = p.read("Genfile.lock");
    p.edit("spec.yaml", &spec(3, &[("e2", "other")]));
    p.run([]).exits(0);
    assert_eq!(server.count(), 2);
    p.edit("spec.yaml", &spec(3, &[]));
    p.run([])
        .stderr(expect![[r#"
              restore  docs/e2.md
                saved  about 30 tokens: store 30
            done: 1 restored, 3 fresh in [TIME]
        "#]])
        .exits(0);
    assert_eq!(server.count(), 2);
    is_built(&p, 3, &[]);
    assert_eq!(p.read("Genfile.lock"), lock);
    does_nothing(&server, &p);
}

/// `a.md` of the notes, `b.md` of `a.md`, both by the model; `c.md` of `b.md` by a template.
fn chain(server: &Server) -> Project {
    server.reply(|request, _| format!("<{}>\n", request.user_text().trim_end()));
    project(
        server,
        "  c: {inputs: {b: b.md}, template: c.hbs, output: c.md}\n  \
         b: {inputs: {a: a.md}, prompt: b.prompt, output: b.md}\n  \
         a: {inputs: {notes: notes.yaml}, prompt: a.prompt, output: a.md}\n",
    )
    .file("notes.yaml", "say: one\nunsaid: x\n")
    .file("a.prompt", "a of {{inputs.notes.data.say}}\n")
    .file("b.prompt", "b of {{inputs.a.text}}\n")
    .file("c.hbs", "c of {{inputs.b.text}}")
}

#[test]
fn what_depends_on_a_changed_output_follows_in_the_same_run() {
    let server = Server::start();
    let p = chain(&server);
    p.run([]).exits(0);
    assert_eq!(p.read("c.md"), "c of <b of <a of one>>\n");
    p.edit("notes.yaml", "say: two\nunsaid: x\n");
    p.run([]).exits(0);
    assert_eq!(p.read("c.md"), "c of <b of <a of two>>\n");
    assert_eq!(server.count(), 4);
    does_nothing(&server, &p);
}

#[test]
fn an_upstream_output_of_the_same_bytes_leaves_downstream_fresh() {
    let server = Server::start();
    let p = chain(&server);
    server.reply(|request, _| if request.user_text().starts_with("a of") { "same\n" } else { "b\n" }.to_owned());
    p.run([]).exits(0);
    let before = p.stamps();
    p.edit("notes.yaml", "say: two\nunsaid: x\n");
    p.run([]).stderr_has("done: 1 generated, 2 fresh in ").exits(0);
    assert_eq!(server.count(), 3);
    assert_eq!(written(&p, &before), ["Genfile.lock", "notes.yaml"]);
    does_nothing(&server, &p);
}

#[test]
fn an_edit_that_does_not_reach_the_prompt_leaves_the_task_fresh() {
    let server = Server::start();
    let p = chain(&server);
    p.run([]).exits(0);
    p.edit("notes.yaml", "say: one\nunsaid: y\n# a comment\n");
    does_nothing(&server, &p);
}

#[test]
fn another_model_is_another_result() {
    let (server, p) = built(2);
    p.edit("Genfile", &p.read("Genfile").replace("model: m,", "model: m2,"));
    p.run(["check"])
        .stdout(expect![[r#"
        stale  docs/e1.md  model changed: m to m2
        stale  docs/e2.md  model changed: m to m2
    "#]])
        .exits(1);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e1 e2"]);
    assert_eq!(server.requests()[1].body["model"], "m2");
    assert!(p.read("Genfile.lock").contains("model:m2"), "{}", p.read("Genfile.lock"));
    does_nothing(&server, &p);
}

#[test]
fn the_model_is_named_where_only_the_lock_remembers_it() {
    let (_server, p) = built(1);
    p.remove(".genmake");
    p.edit("Genfile", &p.read("Genfile").replace("model: m,", "model: m2,"));
    p.run(["check"])
        .stdout(expect![[r#"
        stale  docs/e1.md  model changed: m to m2
    "#]])
        .exits(1);
}

#[test]
fn another_prompt_or_template_is_another_result() {
    let (server, p) = built(2);
    p.edit("prompts/page.prompt", &p.read("prompts/page.prompt").replace("handbook", "manual"));
    p.edit("templates/index.hbs", &p.read("templates/index.hbs").replace("# Index", "# Contents"));
    p.run(["check"])
        .stdout(expect![[r#"
        stale  docs/index.md  recipe changed: templates/index.hbs
        stale  docs/e1.md     recipe changed: prompts/page.prompt
        stale  docs/e2.md     recipe changed: prompts/page.prompt
    "#]])
        .exits(1);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e1 e2"]);
    assert_eq!(p.read("docs/index.md"), index(2).replace("# Index", "# Contents"));
    does_nothing(&server, &p);
}

#[test]
fn parameters_and_variables_reach_what_uses_them() {
    let server = Server::start();
    let p = project(
        &server,
        "  a: {prompt: a.prompt, output: a.md, params: {temperature: 0}}\n  t: {template: t.hbs, output: t.md}\n",
    )
    .file("a.prompt", "a for {{vars.who}}\n")
    .file("t.hbs", "t\n");
    p.edit("Genfile", &p.read("Genfile").replace("rules:", "vars: {who: us, unused: 1}\nrules:"));
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
    p.edit("Genfile", &p.read("Genfile").replace("unused: 1", "unused: 2"));
    does_nothing(&server, &p);
    p.edit("Genfile", &p.read("Genfile").replace("who: us", "who: them"));
    p.run([]).stderr_has("done: 1 generated, 1 fresh in ").exits(0);
    assert_eq!(server.requests()[1].user_text(), "a for them");
    p.edit("Genfile", &p.read("Genfile").replace("temperature: 0", "temperature: 1"));
    p.run([]).stderr_has("done: 1 generated, 1 fresh in ").exits(0);
    assert_eq!(server.requests()[2].body["temperature"], 1);
}

#[test]
fn a_changed_partial_reaches_who_uses_it() {
    let server = Server::start();
    let p = project(&server, "  a: {prompt: p/a.prompt, output: a.md}\n  b: {prompt: p/b.prompt, output: b.md}\n")
        .file("p/_style.prompt", "Be brief.")
        .file("p/a.prompt", "{{> style}} a\n")
        .file("p/b.prompt", "b\n");
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
    p.edit("p/_style.prompt", "Be kind.");
    p.run([]).stderr_has("done: 1 generated, 1 fresh in ").exits(0);
    assert_eq!(server.requests()[1].user_text(), "Be kind. a");
    does_nothing(&server, &p);
}

#[test]
fn a_glob_that_gains_and_loses_a_file_is_another_input() {
    let server = Server::start();
    let p = project(&server, "  all: {inputs: {notes: notes/*.txt}, prompt: all.prompt, output: all.md}\n")
        .file("all.prompt", "All of:{{#each inputs.notes}} {{name}}{{/each}}\n")
        .file("notes/a.txt", "a")
        .file("notes/c.txt", "c");
    p.run([]).exits(0);
    p.edit("notes/b.txt", "b");
    p.run([]).exits(0);
    p.remove("notes/a.txt");
    p.run([]).exits(0);
    let asked: Vec<String> = server.requests().iter().map(|request| request.user_text()).collect();
    assert_eq!(asked, ["All of: a.txt c.txt", "All of: a.txt b.txt c.txt", "All of: b.txt c.txt"]);
    p.edit("notes/a.txt", "a").remove("notes/b.txt");
    p.run([]).stderr_has("restore  all.md").exits(0);
    assert_eq!(server.count(), 3);
    // Only names are used: what stands in the files does not matter.
    p.edit("notes/c.txt", "something else");
    does_nothing(&server, &p);
}

#[test]
fn an_edited_input_of_each_form_reaches_what_uses_it() {
    for input in ["notes/*.txt", "notes/a.txt", "data.yaml#/a", "data.yaml#/*", "rule:copy"] {
        let server = Server::start();
        let p = project(
            &server,
            &format!(
                "  x: {{inputs: {{of: \"{input}\"}}, prompt: x.prompt, output: x.md}}\n  \
                 copy: {{inputs: {{a: notes/a.txt}}, template: copy.hbs, output: copy.txt}}\n"
            ),
        )
        .file("x.prompt", "x of {{json inputs.of}} {{! its text and data }}\n")
        .file("copy.hbs", "copy {{inputs.a.text}}\n")
        .file("notes/a.txt", "before")
        .file("data.yaml", "a: before\n");
        p.run([]).exits(0);
        assert!(server.requests()[0].user_text().contains("before"), "{input}: {}", server.requests()[0].user_text());
        p.edit("notes/a.txt", "behind").edit("data.yaml", "a: behind\n");
        p.run([]).exits(0);
        assert_eq!(server.count(), 2, "{input}");
        assert!(server.requests()[1].user_text().contains("behind"), "{input}: {}", server.requests()[1].user_text());
        does_nothing(&server, &p);
    }
}

#[test]
fn generated_files_are_inputs_on_a_clean_checkout() {
    let server = Server::start();
    let p = project(
        &server,
        "  list: {inputs: {all: \"out/*.html\"}, template: list.hbs, output: list.txt}\n  \
         html: {foreach: \"gen/*.txt\", template: html.hbs, output: \"out/{{item.stem}}.html\"}\n  \
         gen: {foreach: [x, y], template: gen.hbs, output: \"gen/{{item}}.txt\"}\n",
    )
    .file("list.hbs", "{{#each inputs.all}}{{path}}={{text}} {{/each}}")
    .file("html.hbs", "<{{item.text}}>")
    .file("gen.hbs", "{{item}}")
    .file("gen/z.txt", "by hand");
    p.run([]).exits(0);
    assert_eq!(p.read("list.txt"), "out/x.html=<x> out/y.html=<y> out/z.html=<by hand> ");
    does_nothing(&server, &p);
    p.remove("gen/z.txt");
    p.run([]).exits(0);
    assert_eq!(p.read("list.txt"), "out/x.html=<x> out/y.html=<y> ");
    assert!(!p.exists("out/z.html"));
    does_nothing(&server, &p);
}

// ---- something is lost ----

#[test]
fn without_genmakes_folder_everything_is_still_fresh() {
    let (server, p) = built(6);
    p.remove(".genmake");
    p.run(["check"]).exits(0);
    assert!(!p.exists(".genmake"), "`check` makes nothing");
    does_nothing(&server, &p);
}

#[test]
fn without_the_lock_what_stands_there_is_adopted() {
    let (server, p) = built(6);
    let (lock, before) = (p.read("Genfile.lock"), p.stamps());
    p.remove("Genfile.lock");
    p.run([]).exits(0);
    assert_eq!(server.count(), 2);
    assert_eq!(p.read("Genfile.lock"), lock);
    assert_eq!(written(&p, &before), ["Genfile.lock"]);
}

#[test]
fn without_the_lock_and_this_machines_memory_the_store_still_knows_its_results() {
    let (server, p) = built(6);
    let (lock, before) = (p.read("Genfile.lock"), p.stamps());
    p.remove("Genfile.lock").remove(".genmake/state");
    p.run([]).exits(0);
    assert_eq!(server.count(), 2);
    assert_eq!(p.read("Genfile.lock"), lock);
    assert_eq!(written(&p, &before), ["Genfile.lock"]);
}

#[test]
fn a_deleted_output_comes_out_of_the_store() {
    let (server, p) = built(3);
    p.remove("docs/e2.md").remove("docs/index.md");
    p.run(["check"])
        .stdout(expect![[r#"
        stale       docs/index.md  output missing: docs/index.md
        restorable  docs/e2.md     output missing: docs/e2.md
    "#]])
        .exits(1);
    p.run([]).stderr_has("restore  docs/e2.md").stderr_has("render  docs/index.md").exits(0);
    assert_eq!(server.count(), 1);
    is_built(&p, 3, &[]);
    does_nothing(&server, &p);
}

#[test]
fn what_is_nowhere_is_asked_for_again_and_nothing_else() {
    let (server, p) = built(5);
    p.remove(".genmake").remove("docs/e2.md").remove("docs/e4.md");
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e2 e4"]);
    is_built(&p, 5, &[]);
}

// ---- edits by hand ----

#[test]
fn an_edited_page_is_left_as_it_is_and_said() {
    let (server, p) = built(3);
    p.edit("docs/e2.md", "# Mine\n");
    p.edit("spec.yaml", &spec(3, &[("e3", "new")]));
    p.run(["check"])
        .stdout(expect![[r#"
            edited  docs/e2.md  edited by hand
            stale   docs/e3.md  input changed: spec.yaml#/entities/e3
        "#]])
        .exits(1);
    p.run([]).stderr_has("edited  docs/e2.md").stderr_has("`docs/e2.md` was edited by hand").exits(2);
    assert_eq!(p.read("docs/e2.md"), "# Mine\n");
    assert_eq!(p.read("docs/e3.md"), page("e3", "new"), "an edit does not hold up what does not depend on it");
    assert_eq!(asked_after(&server, 1), ["e3"]);
    // Whatever else is done, it stays.
    p.run([]).exits(2);
    p.run(["-B"]).exits(2);
    p.run(["--yes", "-k"]).exits(2);
    assert_eq!(p.read("docs/e2.md"), "# Mine\n");
}

#[test]
fn what_depends_on_an_edited_output_waits() {
    let server = Server::start();
    let p = chain(&server);
    p.run([]).exits(0);
    p.edit("a.md", "mine\n");
    p.run([])
        .stderr(expect![[r#"
               edited  a.md
            genmake::edited

              x `a.md` was edited by hand
              help: `genmake diff a.md` shows the edit, `genmake accept a.md` keeps it until its inputs change, and `genmake --force a.md` overwrites it (the edited text is kept in the store); or move it into `a.prompt` or its inputs
                 skip  c.md
                 skip  b.md
            failed: 1 edited by hand, 2 skipped in [TIME]
        "#]])
        .exits(2);
    assert_eq!(server.count(), 2);
    assert_eq!((p.read("a.md"), p.read("b.md")), ("mine\n".to_owned(), "<b of <a of one>>\n".to_owned()));
}

#[test]
fn an_edited_output_is_left_alone_when_its_inputs_change() {
    let (server, p) = built(2);
    p.edit("docs/e2.md", "# Mine\n").edit("docs/index.md", "# Mine, too\n");
    p.edit("spec.yaml", &spec(3, &[("e2", "new")]));
    p.run([]).exits(2);
    assert_eq!((p.read("docs/e2.md"), p.read("docs/index.md")), ("# Mine\n".to_owned(), "# Mine, too\n".to_owned()));
    assert_eq!(asked_after(&server, 1), ["e3"]);
}

#[test]
fn force_overwrites_an_edited_template_output_and_keeps_the_edited_text() {
    let (server, p) = built(2);
    p.edit("docs/index.md", "# Mine\n");
    p.run(["--force"]).exits(0);
    is_built(&p, 2, &[]);
    blob(&p, "# Mine\n");
    does_nothing(&server, &p);
}

#[test]
fn force_overwrites_an_edited_page_and_keeps_the_edited_text() {
    let (server, p) = built(2);
    p.edit("docs/e2.md", "# Mine\n");
    p.run(["--force"]).exits(0);
    assert_eq!(server.count(), 1, "the store holds the page");
    is_built(&p, 2, &[]);
    blob(&p, "# Mine\n");
    does_nothing(&server, &p);
}

#[test]
fn force_keeps_the_edited_text_also_where_the_model_is_asked_anew() {
    let (server, p) = built(2);
    p.edit("docs/e2.md", "# Mine\n").edit("spec.yaml", &spec(2, &[("e2", "new")]));
    p.run(["--force"]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e2"]);
    is_built(&p, 2, &[("e2", "new")]);
    blob(&p, "# Mine\n");
}

#[test]
fn a_page_edited_while_the_model_writes_is_not_overwritten() {
    let (server, p) = built(2);
    p.edit("spec.yaml", &spec(2, &[("e2", "new")]));
    let gate = Gate::new();
    server.script([Act::Hold(gate.clone())]);
    let child = p.spawn([]);
    server.wait_for(2);
    p.edit("docs/e2.md", "# Mine\n");
    gate.open();
    p.finish(child).stderr_has("`docs/e2.md` was edited by hand").exits(2);
    assert_eq!(p.read("docs/e2.md"), "# Mine\n");
    // What was paid for is not lost.
    p.run(["--force"]).exits(0);
    assert_eq!(server.count(), 2);
    is_built(&p, 2, &[("e2", "new")]);
    blob(&p, "# Mine\n");
}

#[test]
fn an_input_edited_while_the_model_writes_is_not_taken_for_done() {
    let (server, p) = built(2);
    p.edit("spec.yaml", &spec(2, &[("e2", "new")]));
    let gate = Gate::new();
    server.script([Act::Hold(gate.clone())]);
    let child = p.spawn([]);
    server.wait_for(2);
    p.edit("spec.yaml", &spec(2, &[("e2", "newer")]));
    gate.open();
    drop(p.finish(child)); // either way is fine: the run was of a moment that has passed
    p.run(["check"]).stdout_has("docs/e2.md").exits(1);
    p.run([]).exits(0);
    is_built(&p, 2, &[("e2", "newer")]);
    assert_eq!(server.count(), 3);
}

// ---- files that were there before genmake ----

#[test]
fn a_file_that_was_there_before_is_not_overwritten() {
    let server = Server::start();
    let p = shop(&server, 2).file("docs/e1.md", "# Mine\n").file("docs/index.md", "# Mine, too\n");
    p.run([])
        .stderr(expect![[r#"
               edited  docs/index.md
            genmake::edited

              x `docs/index.md` was there before genmake, and not what it would write
              help: `genmake diff docs/index.md` shows the edit, `genmake accept docs/index.md` keeps it until its inputs change, and `genmake --force docs/index.md` overwrites it (the edited text is kept in the store); or move it into `templates/index.hbs` or its inputs
               edited  docs/e1.md
            genmake::edited

              x `docs/e1.md` was there before genmake, and not what it would write
              help: `genmake diff docs/e1.md` shows the edit, `genmake accept docs/e1.md` keeps it until its inputs change, and `genmake --force docs/e1.md` overwrites it (the edited text is kept in the store); or move it into `prompts/page.prompt` or its inputs
                  ask  p for docs/e2.md (request 1)
               answer  request 1: 1 of 1 in [TIME], 11 tokens in, 3 out
             generate  docs/e2.md
            failed: 1 generated, 2 edited by hand in [TIME] · 1 request, 11 tokens in, 3 out
        "#]])
        .exits(2);
    assert_eq!((p.read("docs/e1.md"), p.read("docs/index.md")), ("# Mine\n".to_owned(), "# Mine, too\n".to_owned()));
    assert_eq!(asked_after(&server, 0), ["e2"]);
    p.run(["--force"]).exits(0);
    is_built(&p, 2, &[]);
    blob(&p, "# Mine\n");
    blob(&p, "# Mine, too\n");
}

#[test]
fn a_file_that_holds_what_would_be_written_is_adopted() {
    let server = Server::start();
    let p = shop(&server, 0).file("docs/index.md", &index(0));
    let before = p.stamps();
    p.run([]).exits(0);
    assert_eq!(written(&p, &before), ["Genfile.lock"]);
    does_nothing(&server, &p);
}

#[test]
fn a_folder_where_a_file_should_be_is_said_and_left_alone() {
    let server = Server::start();
    let p = shop(&server, 2).file("docs/index.md/inside", "mine\n");
    p.run(["-k"]).stderr_has("`docs/index.md` is not a file").exits(2);
    assert_eq!(p.read("docs/index.md/inside"), "mine\n");
    assert_eq!(pages(&p), ["e1", "e2"]);
}

// ---- several outputs of one task ----

/// A task of two outputs, built.
fn pair() -> (Server, Project) {
    let server = Server::start();
    let p = project(&server, "  pair: {prompt: x.prompt, outputs: {header: x.h, code: x.c}}\n").file("x.prompt", "x\n");
    server.reply(|_, _| r#"{"header": "the header\n", "code": "the code\n"}"#.to_owned());
    p.run([]).exits(0);
    (server, p)
}

#[test]
fn one_of_two_outputs_is_restored_without_the_other_being_written() {
    let (server, p) = pair();
    let before = p.stamps();
    p.remove("x.c");
    p.run([]).stderr_has("restore  x.h, x.c").exits(0);
    assert_eq!(p.read("x.c"), "the code\n");
    assert_eq!(written(&p, &before), ["x.c"]);
    does_nothing(&server, &p);
}

#[test]
fn an_edit_of_one_of_two_outputs_protects_both() {
    let (server, p) = pair();
    p.edit("x.c", "mine\n").edit("x.prompt", "other\n");
    p.run([]).stderr_has("`x.c` was edited by hand").exits(2);
    assert_eq!((p.read("x.h"), p.read("x.c")), ("the header\n".to_owned(), "mine\n".to_owned()));
    assert_eq!(server.count(), 1);
    p.remove("x.h");
    p.run([]).exits(2);
    assert!(!p.exists("x.h"));
    p.run(["--force"]).exits(0);
    assert_eq!((p.read("x.h"), p.read("x.c")), ("the header\n".to_owned(), "the code\n".to_owned()));
    blob(&p, "mine\n");
}

// ---- orphans ----

#[test]
fn an_orphan_is_deleted_by_a_whole_build_and_kept_in_the_store() {
    let (server, p) = built(3);
    p.edit("spec.yaml", &spec(2, &[]));
    p.run(["check"])
        .stdout(expect![[r#"
        stale   docs/index.md  input changed: spec.yaml
        orphan  docs/e3.md     no rule makes it any more; a build deletes it
    "#]])
        .exits(1);
    p.run([]).stderr_has("delete  docs/e3.md: no rule makes it any more; its text is kept in the store").exits(0);
    is_built(&p, 2, &[]);
    assert!(!p.read("Genfile.lock").contains("docs/e3.md"));
    blob(&p, &page("e3", "about e3"));
    does_nothing(&server, &p);
    // It comes back for nothing.
    p.edit("spec.yaml", &spec(3, &[]));
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
    is_built(&p, 3, &[]);
}

#[test]
fn an_orphan_is_kept_in_the_store_even_if_the_store_was_lost() {
    let (_server, p) = built(2);
    p.remove(".genmake").edit("spec.yaml", &spec(1, &[]));
    p.run([]).exits(0);
    is_built(&p, 1, &[]);
    blob(&p, &page("e2", "about e2"));
}

#[test]
fn an_orphan_that_is_gone_leaves_no_empty_folder() {
    let genfile = |output: &str| format!("version: 1\nrules:\n  a: {{output: {output}, template: t.hbs}}\n");
    let p = Project::new().file("Genfile", &genfile("old/deep/a.txt")).file("t.hbs", "t\n");
    p.run([]).exits(0);
    // As a run that was killed between the file and its folders leaves it.
    p.edit("Genfile", &genfile("a.txt")).remove("old/deep/a.txt").run([]).exits(0);
    assert!(!p.exists("old") && p.exists("a.txt"));
    p.run(["check"]).exits(0);
}

#[test]
fn a_narrowed_build_leaves_orphans_alone() {
    let (_server, p) = built(3);
    p.edit("spec.yaml", &spec(2, &[]));
    p.run(["pages"]).exits(0);
    assert_eq!(pages(&p), ["e1", "e2", "e3"]);
    p.run(["docs/index.md"]).exits(0);
    assert_eq!(pages(&p), ["e1", "e2", "e3"]);
    p.run(["--keep-orphans"]).exits(0);
    assert_eq!(pages(&p), ["e1", "e2", "e3"]);
    p.run([]).exits(0);
    assert_eq!(pages(&p), ["e1", "e2"]);
}

#[test]
fn an_edited_orphan_stays_and_is_said() {
    let (_server, p) = built(2);
    p.edit("docs/e2.md", "# Mine\n").edit("spec.yaml", &spec(1, &[]));
    p.run([]).stderr_has("keep  docs/e2.md: no rule makes it any more, and it was edited by hand").exits(0);
    assert_eq!(p.read("docs/e2.md"), "# Mine\n");
}

#[test]
fn a_rule_that_lost_all_its_items_deletes_nothing_without_yes() {
    let (_server, p) = built(2);
    p.edit("spec.yaml", &spec(0, &[]));
    p.run(["check"]).stdout_has("--yes").exits(1); // what a build would do, and it would not delete them
    p.run([]).stderr_has("rule `pages` has no items any more").stderr_has("`--yes`").exits(2);
    assert_eq!(pages(&p), ["e1", "e2"]);
    p.run(["--yes"]).exits(0);
    assert_eq!(pages(&p), [""; 0]);
    p.run(["check"]).exits(0);
}

// ---- asked for anew ----

#[test]
fn b_renders_and_asks_again() {
    let (server, p) = built(3);
    let before = p.stamps();
    p.run(["-B"]).stderr_has("done: 3 generated, 1 rendered in ").exits(0);
    assert_eq!(asked_after(&server, 1), ["e1 e2 e3"]);
    assert_eq!(written(&p, &before), [""; 0], "the same bytes are not written again");
    server.reply(|_, slot| format!("another {}\n", slot.unwrap_or_default()));
    p.run(["-B", "docs/e2.md", "docs/e3.md"]).exits(0);
    assert_eq!(asked_after(&server, 2), ["e2 e3"]);
    assert_eq!(p.read("docs/e3.md"), "another f2\n");
    does_nothing(&server, &p);
    // The newer result is the one that stands in the lock.
    p.remove("docs/e3.md");
    p.run([]).exits(0);
    assert_eq!(p.read("docs/e3.md"), "another f2\n");
    assert_eq!(server.count(), 3);
}

#[test]
fn b_asks_nobody_who_must_be_paid_without_yes() {
    let (server, p) = built(1);
    p.edit("Genfile", &p.read("Genfile").replace(&server.base_url(), "https://models.example/v1"));
    p.run(["-B"])
        .stderr(expect![[r#"
            genmake::needs_yes

              x `-B` would ask for 1 result anew
              help: say `--yes` if that is meant
        "#]])
        .exits(2);
    assert_eq!(server.count(), 1);
}

// ---- checks ----

#[test]
fn a_new_check_judges_the_result_that_is_there() {
    let (server, p) = built(3);
    let genfile = p.read("Genfile");
    let with =
        |check: &str| genfile.replace("output: \"docs/{{item", &format!("check: {check}, output: \"docs/{{{{item"));
    p.edit("Genfile", &with("yaml"));
    does_nothing(&server, &p);

    server.reply(|request, slot| format!("\"{}\"\n", shop::answer(request, slot).lines().next().unwrap_or_default()));
    p.edit("Genfile", &with("json"));
    p.run(["check"])
        .stdout(expect![[r#"
        stale  docs/e1.md  check failed: not JSON, line 1, column 1: expected value
        stale  docs/e2.md  check failed: not JSON, line 1, column 1: expected value
        stale  docs/e3.md  check failed: not JSON, line 1, column 1: expected value
    "#]])
        .exits(1);
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e1 e2 e3"]);
    assert_eq!(p.read("docs/e2.md"), "\"# e2\"\n");
    does_nothing(&server, &p);
}

#[test]
fn a_result_that_fails_a_new_check_is_not_restored() {
    let (server, p) = built(1);
    p.edit("Genfile", &p.read("Genfile").replace("output: \"docs/{{item", "check: json, output: \"docs/{{item"));
    p.remove("docs/e1.md");
    server.reply(|_, _| "{}\n".to_owned());
    p.run([]).exits(0);
    assert_eq!(server.count(), 2);
    assert_eq!(p.read("docs/e1.md"), "{}\n");
}

#[test]
fn a_template_output_that_fails_its_check_is_not_written() {
    let server = Server::start();
    let p = project(&server, "  t: {template: t.hbs, output: t.json, check: json}\n").file("t.hbs", "{\"a\": }\n");
    p.run([])
        .stderr(expect![[r#"
                 fail  t.json
            genmake::check_failed

              x rule `t`: `t.json` does not pass the check `json`: not JSON, line 1, column 7: expected value
               ,-[Genfile:5:3]
             4 | rules:
             5 |   t: {template: t.hbs, output: t.json, check: json}
               :   ^
               `----
              help: it is made by `t.hbs`
            failed: 1 failed in [TIME]
        "#]])
        .exits(2);
    assert!(!p.exists("t.json"));
    p.edit("t.hbs", "{\"a\": 1}\n").run([]).exits(0);
    assert_eq!(p.read("t.json"), "{\"a\": 1}\n");
}

// ---- two at once ----

#[test]
fn two_at_once_ask_once() {
    let server = Server::start();
    let p = shop(&server, 3);
    let gate = Gate::new();
    server.script([Act::Hold(gate.clone())]);
    let first = p.spawn([]);
    server.wait_for(1);
    let mut second = p.spawn([]);
    p.wait_for_line(&mut second, "wait  another genmake runs here");
    gate.open();
    p.finish(first).exits(0);
    p.finish(second).stderr_has("nothing to do: 4 targets are up to date").exits(0);
    assert_eq!(server.count(), 1);
    is_built(&p, 3, &[]);
}

#[test]
fn check_and_plan_do_not_wait_for_a_run() {
    let server = Server::start();
    let p = shop(&server, 1);
    let gate = Gate::new();
    server.script([Act::Hold(gate.clone())]);
    let run = p.spawn([]);
    server.wait_for(1);
    p.run(["check"]).exits(1);
    p.run(["plan"]).exits(0);
    gate.open();
    p.finish(run).exits(0);
    is_built(&p, 1, &[]);
}

// ---- damage ----

#[test]
fn a_damaged_state_is_made_anew() {
    let (server, p) = built(3);
    let before = p.stamps();
    let state = fs_err::read(p.path(".genmake/state")).expect("a state");
    let mut flipped = state.clone();
    flipped[state.len() / 2] ^= 1;
    for damaged in [&b""[..], b"garbage", &state[..state.len() / 2], &flipped] {
        fs_err::write(p.path(".genmake/state"), damaged).expect("a state");
        p.run(["check"]).exits(0);
        p.run([]).stderr_has("notice  `.genmake/state` was damaged").exits(0);
        p.run([]).stderr_has("nothing to do").exits(0);
    }
    assert_eq!((server.count(), p.stamps()), (1, before));
}

#[test]
fn a_damaged_journal_is_nothing() {
    let (server, p) = built(2);
    p.edit(".genmake/journal", "garbage\n");
    does_nothing(&server, &p);
    p.edit(".genmake/journal", "more garbage\n").edit("spec.yaml", &spec(2, &[("e2", "new")]));
    p.run([]).exits(0);
    assert_eq!(server.count(), 2);
    is_built(&p, 2, &[("e2", "new")]);
}

#[test]
fn a_damaged_blob_is_never_an_output() {
    let (_server, p) = built(2);
    p.edit(&blob(&p, &page("e2", "about e2")), "damage\n");
    p.remove("docs/e2.md");
    p.run([]).exits(0);
    is_built(&p, 2, &[]);
    has_no_temporary_file(&p);
}

#[test]
fn a_damaged_blob_without_a_reply_to_fall_back_on_is_asked_for_again() {
    let (server, p) = built(2);
    p.edit(&blob(&p, &page("e2", "about e2")), "damage\n");
    p.remove(".genmake/store/replies").remove("docs/e2.md");
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 1), ["e2"]);
    is_built(&p, 2, &[]);
}

#[test]
fn a_damaged_blob_that_others_are_made_of_is_made_up_for_in_the_same_run() {
    let server = Server::start();
    let p = chain(&server);
    p.run([]).exits(0);
    p.edit(&blob(&p, "<a of one>\n"), "damage\n");
    // Without the state, what is made of `a.md` can be judged by its bytes only.
    p.remove("a.md").remove("b.md").remove("c.md").remove(".genmake/state");
    p.run([]).exits(0);
    assert_eq!(p.read("c.md"), "c of <b of <a of one>>\n");
}

#[test]
fn a_damaged_action_is_never_an_answer() {
    let (_server, p) = built(2);
    let actions: Vec<String> =
        p.everything().into_keys().filter(|path| path.starts_with(".genmake/store/ac/")).collect();
    assert_eq!(actions.len(), 2);
    let whole: Vec<String> = actions.iter().map(|path| p.read(path)).collect();
    let damages: [fn(&str) -> String; 3] = [
        |_| String::new(),
        |text| text[..text.len() / 2].to_owned(),
        |text| text.replace(['1', '2'], "3"), // another digest
    ];
    for damage in damages {
        for (path, text) in actions.iter().zip(&whole) {
            p.edit(path, &damage(text));
        }
        p.remove("docs/e1.md").remove("docs/e2.md");
        p.run([]).exits(0);
        is_built(&p, 2, &[]);
    }
}

// ---- the lock ----

/// The line of a target in the lock.
fn line(lock: &str, path: &str) -> String {
    lock.lines().find(|line| line.starts_with(&format!("{path} "))).unwrap_or_default().to_owned()
}

#[test]
fn a_conflict_in_the_lock_is_settled_by_the_bytes_on_disk() {
    let (server, p) = built(2);
    let ours = p.read("Genfile.lock");
    p.edit("spec.yaml", &spec(2, &[("e1", "theirs")]));
    p.run([]).exits(0);
    let theirs = p.read("Genfile.lock");
    let (our_line, their_line) = (line(&ours, "docs/e1.md"), line(&theirs, "docs/e1.md"));
    let conflict = format!("<<<<<<< HEAD\n{our_line}\n=======\n{their_line}\n>>>>>>> theirs");
    p.edit("Genfile.lock", &theirs.replace(&their_line, &conflict)).remove(".genmake");

    p.run(["check"]).exits(0);
    p.run([]).exits(0);
    assert_eq!(p.read("Genfile.lock"), theirs);
    does_nothing(&server, &p);

    // Their spec and our page: the page is known as genmake's own, and is made anew.
    p.edit("Genfile.lock", &theirs.replace(&their_line, &conflict)).edit("docs/e1.md", &page("e1", "about e1"));
    p.remove(".genmake");
    p.run([]).exits(0);
    assert_eq!(asked_after(&server, 2), ["e1"]);
    is_built(&p, 2, &[("e1", "theirs")]);
    assert_eq!(p.read("Genfile.lock"), theirs);
}

#[test]
fn a_corrupt_lock_is_an_error_with_its_place() {
    let (server, p) = built(2);
    let lock = p.read("Genfile.lock");
    p.edit("Genfile.lock", &lock.replace("docs/e2.md sha256:", "docs/e2.md sha512:"));
    let before = p.stamps();
    for args in [&[][..], &["check"], &["plan"], &["-B"], &["--force"]] {
        p.run(args.iter().copied()).stderr_has("genmake::bad_lock").stderr_has("Genfile.lock:3:1").exits(2);
    }
    assert_eq!((server.count(), p.stamps()), (1, before));
    p.edit("Genfile.lock", "nonsense\n");
    p.run([])
        .stderr(expect![[r#"
            genmake::bad_lock

              x the lock cannot be read: its first line is not `genmake-lock 1`
               ,-[Genfile.lock:1:1]
             1 | nonsense
               : ^^^^^^^^
               `----
              help: `git checkout HEAD -- Genfile.lock` takes it back; or delete it and run genmake: outputs that equal what would be made are adopted
        "#]])
        .exits(2);
}

#[test]
fn the_lock_is_one_sorted_line_a_target() {
    let (_server, p) = built(2);
    let mut masked = String::new();
    for line in p.read("Genfile.lock").lines() {
        let words = line.split(' ').map(|word| match word.split_once(':') {
            Some((name @ ("sha256" | "key"), digest)) => {
                assert!(digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit()), "{line}");
                format!("{name}:…")
            }
            _ => word.to_owned(),
        });
        masked += &(words.collect::<Vec<_>>().join(" ") + "\n");
    }
    expect![[r#"
        genmake-lock 1
        docs/e1.md sha256:… key:… rule:pages model:m
        docs/e2.md sha256:… key:… rule:pages model:m
        docs/index.md sha256:… key:… rule:index
    "#]]
    .assert_eq(&masked);
}

#[test]
fn a_lock_that_was_lost_comes_back_as_it_was() {
    let (server, p) = built(2);
    let lock = p.read("Genfile.lock");
    for lost in [".genmake/store", ".genmake/state"] {
        p.remove("Genfile.lock").remove(lost);
        p.run([]).exits(0);
        assert_eq!(p.read("Genfile.lock"), lock, "without {lost}");
        does_nothing(&server, &p);
        // What stands there is in the store again.
        p.remove("docs").remove("Genfile.lock").run([]).exits(0);
    }
}

/// Two genmakes in two clones: what one made is fresh in the other, with lock and outputs alone.
#[test]
fn a_clone_with_lock_and_outputs_is_fresh() {
    let (server, p) = built(3);
    let mut clone = Project::new();
    for (path, text) in p.tree() {
        clone = clone.file(&path, &text);
    }
    does_nothing(&server, &clone);
}

#[test]
fn settings_of_the_journey_are_in_no_key() {
    let (server, p) = built(3);
    let server2 = Server::start();
    let p2 = shop_with(&server2, 3, "in_flight: 1, timeout: 9s", "batching: {max_batch_size: 1}, retries: 3");
    p2.run(["-j1", "--no-batch"]).exits(0);
    assert_eq!((server.count(), server2.count()), (1, 3));
    assert_eq!(p.read("Genfile.lock"), p2.read("Genfile.lock"));
}

#[test]
fn an_orphan_makes_way_for_what_takes_its_place() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  a: {output: a/b, template: t.hbs}\n")
        .file("t.hbs", "t\n");
    p.run([]).exits(0);
    p.edit("Genfile", "version: 1\nrules:\n  a: {output: a, template: t.hbs}\n");
    p.run([]).stderr_has("delete  a/b").stderr_has("render  a").exits(0);
    assert_eq!(p.read("a"), "t\n");
    p.edit("Genfile", "version: 1\nrules:\n  a: {output: a/b, template: t.hbs}\n").run([]).exits(0);
    assert_eq!(p.read("a/b"), "t\n");
}
