//! Each command and option: what it prints, what it exits with, and what it leaves alone.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

use expect_test::expect;
use serde_json::Value;

use genmake::digest::Digest;

use crate::project::{Project, Run};
use crate::server::{Act, Server};
use crate::shop::{asked_after, index, is_built, page, pages, shop, shop_with, spec};

/// The shop, built.
fn built(count: usize) -> (Server, Project) {
    let server = Server::start();
    let p = shop(&server, count);
    p.run([]).exits(0);
    is_built(&p, count, &[]);
    (server, p)
}

/// One of each: `docs/e1.md` fresh, `e2` stale, `e3` gone but in the store, `e4` edited, `e5` an orphan, and the index stale.
fn one_of_each() -> (Server, Project) {
    let (server, p) = built(5);
    p.edit("spec.yaml", &spec(4, &[("e2", "new")])).remove("docs/e3.md").edit("docs/e4.md", "# Mine\n");
    (server, p)
}

/// That a run neither sends a request nor writes a file, not even below `.genmake`.
#[track_caller]
fn changes_nothing(server: &Server, p: &Project, args: &[&str]) -> Run {
    let (requests, stamps, all) = (server.count(), p.stamps(), p.everything());
    let run = p.run(args.iter().copied());
    assert_eq!(server.count(), requests, "it sent a request");
    assert_eq!(p.stamps(), stamps, "it wrote a file");
    let now = p.everything();
    let changed: Vec<&String> = now.keys().filter(|path| all.get(*path) != now.get(*path)).collect();
    assert!(changed.is_empty(), "it changed {changed:?}");
    run
}

/// JSON with all digests shortened to one word.
fn masked(mut value: Value) -> String {
    fn walk(value: &mut Value) {
        match value {
            Value::String(text) if text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()) => {
                *text = "[DIGEST]".to_owned()
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            Value::Object(map) => map.values_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    format!("{value:#}\n")
}

// ---- check ----

#[test]
fn check_lists_what_is_not_up_to_date() {
    let (server, p) = one_of_each();
    changes_nothing(&server, &p, &["check"])
        .stdout(expect![[r#"
            stale       docs/index.md  input changed: spec.yaml
            stale       docs/e2.md     input changed: spec.yaml#/entities/e2
            restorable  docs/e3.md     output missing: docs/e3.md
            edited      docs/e4.md     edited by hand
            orphan      docs/e5.md     no rule makes it any more; a build deletes it
        "#]])
        .stderr(expect![[""]])
        .exits(1);
    changes_nothing(&server, &p, &["check", "docs/e1.md"]).stdout(expect![[""]]).exits(0);
    changes_nothing(&server, &p, &["check", "docs/e2.md"]).exits(1);
}

#[test]
fn check_as_json() {
    let (server, p) = one_of_each();
    let run = changes_nothing(&server, &p, &["check", "--format", "json"]);
    expect![[r#"
        {
          "version": 1,
          "up_to_date": false,
          "targets": [
            {
              "rule": "index",
              "outputs": [
                "docs/index.md"
              ],
              "status": "stale",
              "action": "render",
              "reasons": [
                {
                  "name": "input changed",
                  "about": "spec.yaml"
                }
              ],
              "key": "[DIGEST]"
            },
            {
              "rule": "pages",
              "outputs": [
                "docs/e2.md"
              ],
              "status": "stale",
              "action": "generate",
              "reasons": [
                {
                  "name": "input changed",
                  "about": "spec.yaml#/entities/e2"
                }
              ],
              "key": "[DIGEST]",
              "batch": 1
            },
            {
              "rule": "pages",
              "outputs": [
                "docs/e3.md"
              ],
              "status": "restorable",
              "action": "restore",
              "reasons": [
                {
                  "name": "output missing",
                  "about": "docs/e3.md"
                }
              ],
              "key": "[DIGEST]"
            },
            {
              "rule": "pages",
              "outputs": [
                "docs/e4.md"
              ],
              "status": "edited",
              "reasons": [],
              "edited": [
                "docs/e4.md"
              ],
              "key": "[DIGEST]"
            },
            {
              "rule": "pages",
              "outputs": [
                "docs/e5.md"
              ],
              "status": "orphan",
              "reasons": [],
              "edited": false
            }
          ]
        }
    "#]]
    .assert_eq(&masked(run.stdout_json()));
    run.exits(1);
    let (server, p) = built(1);
    let run = changes_nothing(&server, &p, &["check", "--format", "json"]);
    assert_eq!(run.stdout_json(), serde_json::json!({"version": 1, "up_to_date": true, "targets": []}));
    run.exits(0);
}

#[test]
fn check_of_what_is_up_to_date_says_so_in_one_line() {
    let (server, p) = built(3);
    changes_nothing(&server, &p, &["check"])
        .stdout(expect![[""]])
        .stderr(expect![[r#"
        4 targets are up to date
    "#]])
        .exits(0);
    changes_nothing(&server, &p, &["check", "-s"]).stdout(expect![[""]]).stderr(expect![[""]]).exits(0);
}

#[test]
fn check_of_a_clean_checkout_without_anything_built() {
    let server = Server::start();
    let p = shop(&server, 2);
    changes_nothing(&server, &p, &["check"])
        .stdout(expect![[r#"
        stale  docs/index.md  new
        stale  docs/e1.md     new
        stale  docs/e2.md     new
    "#]])
        .exits(1);
    assert!(!p.exists(".genmake"));
}

/// A template that cannot be rendered is a failure, not just something that is not up to date.
#[test]
fn what_cannot_be_judged_fails_check_and_q_and_plan() {
    let (server, p) = built(1);
    p.edit("templates/index.hbs", "{{vars.nope}}\n");
    changes_nothing(&server, &p, &["check"]).stderr_has("unknown variable `vars.nope`").exits(2);
    changes_nothing(&server, &p, &["plan"]).stderr_has("unknown variable `vars.nope`").exits(2);
    changes_nothing(&server, &p, &["explain", "docs/index.md"]).stderr_has("unknown variable `vars.nope`").exits(2);
    changes_nothing(&server, &p, &["-q"]).exits(2);
}

// ---- -q, -s, -v ----

#[test]
fn q_says_nothing_and_answers_by_its_exit_status() {
    let (server, p) = built(2);
    changes_nothing(&server, &p, &["-q"]).stdout(expect![[""]]).stderr(expect![[""]]).exits(0);
    p.edit("spec.yaml", &spec(2, &[("e2", "new")]));
    changes_nothing(&server, &p, &["-q"]).stdout(expect![[""]]).stderr(expect![[""]]).exits(1);
    changes_nothing(&server, &p, &["-q", "docs/e1.md"]).exits(0);
    changes_nothing(&server, &p, &["build", "-q", "docs/e2.md"]).exits(1);
    p.edit("spec.yaml", "entities: [");
    changes_nothing(&server, &p, &["-q"]).exits(2);
}

#[test]
fn s_says_nothing_but_errors() {
    let server = Server::start();
    let p = shop(&server, 2);
    p.run(["-s"]).stdout(expect![[""]]).stderr(expect![[""]]).exits(0);
    is_built(&p, 2, &[]);
    p.edit("docs/index.md", "# Mine\n");
    p.run(["-s"])
        .stderr(expect![[r#"
            genmake::edited

              x `docs/index.md` was edited by hand
              help: `genmake diff docs/index.md` shows the edit, `genmake accept docs/index.md` keeps it until its inputs change, and `genmake --force docs/index.md` overwrites it (the edited text is kept in the store); or move it into `templates/index.hbs` or its inputs
        "#]])
        .exits(2);
    p.run(["--progress", "none", "docs/e1.md"]).stdout(expect![[""]]).stderr(expect![[""]]).exits(0);
}

#[test]
fn v_says_why_and_what_is_fresh() {
    let (_server, p) = built(2);
    p.edit("spec.yaml", &spec(2, &[("e2", "new")]));
    p.run(["-v", "-j1"])
        .stdout(expect![[""]])
        .stderr(expect![[r#"
                fresh  docs/index.md
                fresh  docs/e1.md
                  ask  p for docs/e2.md (request 1)
               answer  request 1: 1 of 1 in [TIME], 10 tokens in, 2 out
             generate  docs/e2.md  (input changed: spec.yaml#/entities/e2)
            done: 1 generated, 2 fresh in [TIME] · 1 request, 10 tokens in, 2 out
        "#]])
        .exits(0);
}

#[test]
fn colors_are_there_if_asked_for() {
    let server = Server::start();
    let p = shop(&server, 1);
    p.edit("docs/index.md", "# Mine\n");
    let run = p.run(["--color", "always"]);
    assert!(run.stderr.contains("\u{1b}["), "{:?}", run.stderr);
    run.exits(2);
    let run = p.run([]);
    assert!(!run.stderr.contains('\u{1b}'), "{:?}", run.stderr);
    run.exits(2);
}

// ---- plan ----

#[test]
fn plan_says_what_would_be_done_and_why() {
    let (server, p) = one_of_each();
    let text = expect![[r#"
        render    docs/index.md  input changed: spec.yaml
        generate  docs/e2.md     input changed: spec.yaml#/entities/e2  [request 1]
        restore   docs/e3.md     output missing: docs/e3.md
        edited    docs/e4.md     edited by hand
        orphan    docs/e5.md     no rule makes it any more; a build deletes it
        request          for        model  tokens in  out   at most  cost
        1                1 task     p (m)         19    1  no bound  free
        in all           1 request                19    1  no bound  free
        without genmake  1 request                19    1            free
        saves about 33 tokens: store 26, templates 7
        1 fresh, 1 to render, 1 to restore, 1 to generate, 1 edited by hand; 1 request
    "#]];
    changes_nothing(&server, &p, &["plan"]).stdout(text).stderr(expect![[""]]).exits(0);
    let plan = p.run(["plan"]);
    for same in [&["-n"][..], &["--dry-run"], &["build", "-n"]] {
        let run = changes_nothing(&server, &p, same);
        assert_eq!(run.stdout, plan.stdout);
        run.exits(0);
    }
    plan.exits(0);
}

#[test]
fn plan_as_json() {
    let (server, p) = one_of_each();
    let run = changes_nothing(&server, &p, &["plan", "--format", "json"]);
    expect![[r#"
        {
          "version": 1,
          "targets": [
            {
              "rule": "index",
              "outputs": [
                "docs/index.md"
              ],
              "status": "stale",
              "action": "render",
              "reasons": [
                {
                  "name": "input changed",
                  "about": "spec.yaml"
                }
              ],
              "key": "[DIGEST]"
            },
            {
              "rule": "pages",
              "outputs": [
                "docs/e1.md"
              ],
              "status": "fresh",
              "reasons": [],
              "key": "[DIGEST]"
            },
            {
              "rule": "pages",
              "outputs": [
                "docs/e2.md"
              ],
              "status": "stale",
              "action": "generate",
              "reasons": [
                {
                  "name": "input changed",
                  "about": "spec.yaml#/entities/e2"
                }
              ],
              "key": "[DIGEST]",
              "batch": 1
            },
            {
              "rule": "pages",
              "outputs": [
                "docs/e3.md"
              ],
              "status": "restorable",
              "action": "restore",
              "reasons": [
                {
                  "name": "output missing",
                  "about": "docs/e3.md"
                }
              ],
              "key": "[DIGEST]"
            },
            {
              "rule": "pages",
              "outputs": [
                "docs/e4.md"
              ],
              "status": "edited",
              "reasons": [],
              "edited": [
                "docs/e4.md"
              ],
              "key": "[DIGEST]"
            }
          ],
          "orphans": [
            {
              "rule": "pages",
              "outputs": [
                "docs/e5.md"
              ],
              "status": "orphan",
              "reasons": [],
              "edited": false
            }
          ],
          "requests": 1,
          "batches": [
            {
              "outputs": [
                "docs/e2.md"
              ],
              "provider": "p",
              "model": "m",
              "input_tokens": 19,
              "output_tokens": 1,
              "max_output_tokens": null,
              "cost_usd": 0.0,
              "similarity": [
                1.0
              ]
            }
          ],
          "input_tokens": 19,
          "output_tokens": 1,
          "max_output_tokens": null,
          "tokens_saved": {
            "batching": 0,
            "prompt_cache": 0,
            "store": 26,
            "templates": 7,
            "context": 0
          },
          "cost_usd": 0.0,
          "without_genmake": {
            "requests": 1,
            "input_tokens": 19,
            "output_tokens": 1,
            "cost_usd": 0.0
          },
          "warnings": []
        }
    "#]]
    .assert_eq(&masked(run.stdout_json()));
    run.exits(0);
}

#[test]
fn plan_of_a_clean_checkout_makes_nothing() {
    let server = Server::start();
    let p = shop_with(&server, 7, "", "params: {max_output_tokens: 100}");
    changes_nothing(&server, &p, &["plan"])
        .stdout(expect![[r#"
            render    docs/index.md  new
            generate  docs/e1.md     new  [request 1]
            generate  docs/e2.md     new  [request 1]
            generate  docs/e3.md     new  [request 1]
            generate  docs/e4.md     new  [request 1]
            generate  docs/e5.md     new  [request 1]
            generate  docs/e6.md     new  [request 2]
            generate  docs/e7.md     new  [request 2]
            request          for         model  tokens in  out  at most  cost
            1                5 tasks     p (m)        105  210      705  free
            2                2 tasks     p (m)         68   84      282  free
            in all           2 requests               173  294      987  free
            without genmake  7 requests               161  238           free
            saves about 11 tokens: templates 11
            0 fresh, 1 to render, 7 to generate; 2 requests
        "#]])
        .exits(0);
    assert!(!p.exists(".genmake"));
    changes_nothing(&server, &p, &["plan", "--no-batch", "docs/e1.md", "docs/e2.md"])
        .stdout(expect![[r#"
            generate  docs/e1.md  new  [request 1]
            generate  docs/e2.md  new  [request 2]
            request          for         model  tokens in  out  at most  cost
            1                1 task      p (m)         23   34      100  free
            2                1 task      p (m)         23   34      100  free
            in all           2 requests                46   68      200  free
            without genmake  2 requests                46   68           free
            0 fresh, 2 to generate; 2 requests
        "#]])
        .exits(0);
}

#[test]
fn plan_knows_what_waits_for_a_model() {
    let server = Server::start();
    let p = shop(&server, 1).file("t.hbs", "{{inputs.[0].text}}");
    p.edit("Genfile", &(p.read("Genfile") + "  copy: {inputs: [docs/e1.md], template: t.hbs, output: copy.md}\n"));
    changes_nothing(&server, &p, &["plan"])
        .stdout(expect![[r#"
            render    docs/index.md  new
            generate  docs/e1.md     new  [request 1]
            render    copy.md        waits for docs/e1.md
            request          for        model  tokens in  out   at most  cost
            1                1 task     p (m)         23  500  no bound  free
            in all           1 request                23  500  no bound  free
            without genmake  1 request                23  500            free
            saves about 4 tokens: templates 4
            0 fresh, 2 to render, 1 to generate; 1 request and what 1 waiting task turns out to need
        "#]])
        .exits(0);
    changes_nothing(&server, &p, &["check"])
        .stdout(expect![[r#"
        stale    docs/index.md  new
        stale    docs/e1.md     new
        waiting  copy.md        waits for docs/e1.md
    "#]])
        .exits(1);
}

#[test]
fn plan_of_everything_anew() {
    let (server, p) = built(3);
    let run = changes_nothing(&server, &p, &["plan", "-B", "pages"]);
    run.stdout(expect![[r#"
        generate  docs/e1.md  asked for  [request 1]
        generate  docs/e2.md  asked for  [request 1]
        generate  docs/e3.md  asked for  [request 1]
        request          for         model  tokens in  out   at most  cost
        1                3 tasks     p (m)         68   24  no bound  free
        in all           1 request                 68   24  no bound  free
        without genmake  3 requests                60    6            free
        0 fresh, 3 to generate; 1 request
    "#]])
        .exits(0);
    let run = changes_nothing(&server, &p, &["plan"]);
    run.stdout(expect![[r#"
        4 fresh; 0 requests
    "#]])
        .exits(0);
}

// ---- explain ----

#[test]
fn explain_goes_through_the_inputs() {
    let (server, p) = one_of_each();
    let all = ["explain", "docs/e1.md", "docs/e2.md", "docs/e3.md", "docs/e4.md", "docs/index.md"];
    let run = changes_nothing(&server, &p, &all);
    expect![[r#"
        docs/index.md  stale: input changed: spec.yaml  (rule index)
          output   docs/index.md        [DIGEST]      as it was
          recipe   templates/index.hbs  [DIGEST]      as it was
          input    spec.yaml            [DIGEST]      changed, was [DIGEST]
          vars     vars                 [DIGEST]      as it was
          params   params               [DIGEST]      as it was
          outputs  outputs              [DIGEST]      as it was
          key      what would be made   [DIGEST]      in the lock [DIGEST]
        docs/e1.md  fresh  (rule pages)
          output   docs/e1.md              [DIGEST]      as it was
          recipe   prompts/page.prompt     [DIGEST]      as it was
          item     spec.yaml#/entities/e1  [DIGEST]      as it was
          vars     vars                    [DIGEST]      as it was
          params   params                  [DIGEST]      as it was
          model    m                       [DIGEST]      as it was
          outputs  outputs                 [DIGEST]      as it was
          key      what would be made      [DIGEST]      as in the lock
        docs/e2.md  stale: input changed: spec.yaml#/entities/e2  (rule pages)
          output   docs/e2.md              [DIGEST]      as it was
          recipe   prompts/page.prompt     [DIGEST]      as it was
          item     spec.yaml#/entities/e2  [DIGEST]      changed, was [DIGEST]
            file   spec.yaml               [DIGEST]      changed, was [DIGEST]
          vars     vars                    [DIGEST]      as it was
          params   params                  [DIGEST]      as it was
          model    m                       [DIGEST]      as it was
          outputs  outputs                 [DIGEST]      as it was
          key      what would be made      [DIGEST]      in the lock [DIGEST]
        docs/e3.md  restorable: output missing: docs/e3.md  (rule pages)
          output   docs/e3.md              -             missing
          recipe   prompts/page.prompt     [DIGEST]      as it was
          item     spec.yaml#/entities/e3  [DIGEST]      as it was
          vars     vars                    [DIGEST]      as it was
          params   params                  [DIGEST]      as it was
          model    m                       [DIGEST]      as it was
          outputs  outputs                 [DIGEST]      as it was
          key      what would be made      [DIGEST]      as in the lock
        docs/e4.md  edited: edited by hand  (rule pages)
          output   docs/e4.md              [DIGEST]      changed, was [DIGEST]
          recipe   prompts/page.prompt     [DIGEST]      as it was
          item     spec.yaml#/entities/e4  [DIGEST]      as it was
          vars     vars                    [DIGEST]      as it was
          params   params                  [DIGEST]      as it was
          model    m                       [DIGEST]      as it was
          outputs  outputs                 [DIGEST]      as it was
          key      what would be made      [DIGEST]      as in the lock
    "#]]
    .assert_eq(&short_digests(&run.stdout));
    run.stderr(expect![[""]]).exits(0);
}

/// Digests in a text for people as one word; only that they are there matters.
fn short_digests(text: &str) -> String {
    let is_digest = |word: &str| word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let line = |line: &str| {
        line.split(' ').map(|w| if is_digest(w) { "[DIGEST]    " } else { w }).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(|l| line(l).trim_end().to_owned() + "\n").collect()
}

#[test]
fn explain_as_json() {
    let (server, p) = one_of_each();
    let run = changes_nothing(&server, &p, &["explain", "docs/e2.md", "--format", "json"]);
    expect![[r#"
        {
          "version": 1,
          "targets": [
            {
              "rule": "pages",
              "outputs": [
                "docs/e2.md"
              ],
              "status": "stale",
              "action": "generate",
              "reasons": [
                {
                  "name": "input changed",
                  "about": "spec.yaml#/entities/e2"
                }
              ],
              "key": "[DIGEST]",
              "batch": 1,
              "inputs": [
                {
                  "kind": "recipe",
                  "name": "prompts/page.prompt",
                  "digest": "[DIGEST]",
                  "before": "[DIGEST]",
                  "changed": false
                },
                {
                  "kind": "item",
                  "name": "spec.yaml#/entities/e2",
                  "digest": "[DIGEST]",
                  "before": "[DIGEST]",
                  "changed": true,
                  "files": [
                    {
                      "kind": "file",
                      "name": "spec.yaml",
                      "digest": "[DIGEST]",
                      "before": "[DIGEST]",
                      "changed": true
                    }
                  ]
                },
                {
                  "kind": "vars",
                  "name": "vars",
                  "digest": "[DIGEST]",
                  "before": "[DIGEST]",
                  "changed": false
                },
                {
                  "kind": "params",
                  "name": "params",
                  "digest": "[DIGEST]",
                  "before": "[DIGEST]",
                  "changed": false
                },
                {
                  "kind": "model",
                  "name": "m",
                  "digest": "[DIGEST]",
                  "before": "[DIGEST]",
                  "changed": false
                },
                {
                  "kind": "outputs",
                  "name": "outputs",
                  "digest": "[DIGEST]",
                  "before": "[DIGEST]",
                  "changed": false
                }
              ],
              "files": [
                {
                  "kind": "output",
                  "name": "docs/e2.md",
                  "digest": "[DIGEST]",
                  "before": "[DIGEST]",
                  "changed": false
                }
              ],
              "because": [],
              "locked_key": "[DIGEST]"
            }
          ]
        }
    "#]]
    .assert_eq(&masked(run.stdout_json()));
    run.exits(0);
}

#[test]
fn explain_wants_a_target() {
    let (server, p) = built(1);
    changes_nothing(&server, &p, &["explain"])
        .stderr(expect![[r#"
        genmake::usage

          x `explain` takes a target
          help: `genmake plan -v` lists all targets
    "#]])
        .exits(2);
}

// ---- --frozen ----

#[test]
fn frozen_takes_what_the_lock_names_from_disk() {
    let (server, p) = built(3);
    let stamps = p.stamps();
    p.run(["--frozen"]).exits(0);
    p.remove(".genmake").run(["--frozen"]).exits(0);
    // There is nothing to ask for anew.
    p.run(["--frozen", "-B"]).exits(0);
    assert_eq!((server.count(), p.stamps()), (1, stamps));
}

#[test]
fn frozen_restores_and_renders_what_is_missing() {
    let (server, p) = built(3);
    let lock = p.stamps()["Genfile.lock"].clone();
    p.remove("docs");
    p.run(["--frozen"]).exits(0);
    is_built(&p, 3, &[]);
    assert_eq!((server.count(), &p.stamps()["Genfile.lock"]), (1, &lock));
}

#[test]
fn frozen_restores_the_lock_s_result_and_not_a_newer_one() {
    let (server, p) = built(1);
    let lock = p.read("Genfile.lock");
    server.reply(|_, _| "# Another\n".to_owned());
    p.run(["-B"]).exits(0);
    p.edit("Genfile.lock", &lock).remove("docs");
    p.run(["--frozen"]).exits(0);
    is_built(&p, 1, &[]);
}

#[test]
fn frozen_asks_nobody_for_what_is_nowhere() {
    let (server, p) = built(2);
    p.remove(".genmake").remove("docs/e2.md").remove("docs/index.md");
    let lock = p.stamps()["Genfile.lock"].clone();
    p.run(["--frozen"])
        .stderr(expect![[r#"
             fail  docs/e2.md
        genmake::frozen

          x rule `pages`: `docs/e2.md` is neither on disk nor in the store as `Genfile.lock` names it
          help: run `genmake` without `--frozen` and commit the lock
           render  docs/index.md
        failed: 1 rendered, 1 fresh, 1 failed in [TIME]
    "#]])
        .exits(2);
    assert_eq!(p.read("docs/index.md"), index(2), "templates are rendered");
    assert_eq!((server.count(), pages(&p), &p.stamps()["Genfile.lock"]), (1, vec!["e1".to_owned()], &lock));
}

#[test]
fn frozen_refuses_what_comes_out_otherwise() {
    let (server, p) = built(2);
    p.edit("spec.yaml", &spec(3, &[("e2", "new")]));
    let stamps = p.stamps();
    p.run(["--frozen", "-j1"])
        .stderr(expect![[r#"
                 fail  docs/index.md
            genmake::frozen

              x rule `index`: `docs/index.md` comes out otherwise than `Genfile.lock` says: what it is made from has changed
              help: run `genmake` without `--frozen` and commit the lock
                 fail  docs/e2.md
            genmake::frozen

              x rule `pages`: `docs/e2.md` comes out otherwise than `Genfile.lock` says: what it is made from has changed
              help: run `genmake` without `--frozen` and commit the lock
                 fail  docs/e3.md
            genmake::frozen

              x rule `pages`: `docs/e3.md` is not in `Genfile.lock`
              help: run `genmake` without `--frozen` and commit the lock
            failed: 1 fresh, 3 failed in [TIME]
        "#]])
        .exits(2);
    assert_eq!((server.count(), p.stamps()), (1, stamps));
}

#[test]
fn frozen_leaves_edits_and_orphans_alone() {
    let (server, p) = built(3);
    p.edit("docs/e2.md", "# Mine\n");
    p.run(["--frozen"]).stderr_has("`docs/e2.md` was edited by hand").exits(2);
    assert_eq!(p.read("docs/e2.md"), "# Mine\n");
    p.edit("docs/e2.md", &page("e2", "about e2"));
    p.edit("Genfile", &p.read("Genfile").replace("spec.yaml#/entities/*", "spec2.yaml#/entities/*"));
    p.edit("spec2.yaml", &spec(2, &[]));
    let lock = p.read("Genfile.lock");
    p.run(["--frozen"]).exits(0);
    assert_eq!((server.count(), p.read("Genfile.lock"), pages(&p).len()), (1, lock, 3));
}

#[test]
fn frozen_does_not_settle_a_conflict_in_the_lock() {
    let (server, p) = built(2);
    let lock = p.read("Genfile.lock");
    let conflict = lock.replace("docs/e2.md ", "<<<<<<< ours\ndocs/e2.md ") + "=======\n>>>>>>> theirs\n";
    p.edit("Genfile.lock", &conflict);
    p.run(["--frozen"]).exits(0);
    assert_eq!(p.read("Genfile.lock"), conflict);
    p.run([]).exits(0);
    assert_eq!((server.count(), p.read("Genfile.lock")), (1, lock));
}

#[test]
fn frozen_without_a_lock_accepts_nothing() {
    let server = Server::start();
    let p = shop(&server, 1);
    p.run(["--frozen"]).stderr_has("`docs/e1.md` is not in `Genfile.lock`").exits(2);
    assert!(!p.exists("docs") && !p.exists("Genfile.lock"));
    assert_eq!(server.count(), 0);
}

// ---- --offline ----

#[test]
fn offline_does_what_can_be_done_without_a_network() {
    let (server, p) = built(2);
    p.remove("docs");
    p.run(["--offline"]).exits(0);
    is_built(&p, 2, &[]);
    p.edit("spec.yaml", &spec(3, &[]));
    p.run(["--offline"])
        .stderr(expect![[r#"
             fail  docs/e3.md
        genmake::offline

          x `docs/e3.md` needs a request to a model, and `--offline` allows none
          help: run without `--offline`
           render  docs/index.md
        failed: 1 rendered, 2 fresh, 1 failed in [TIME]
    "#]])
        .exits(2);
    assert_eq!(p.read("docs/index.md"), index(3));
    assert_eq!(server.count(), 1);
}

// ---- clean ----

#[test]
fn clean_deletes_what_nobody_edited_and_a_later_build_restores_it() {
    let (server, p) = built(3);
    p.edit("docs/e2.md", "# Mine\n");
    p.run(["clean"])
        .stdout(expect![[""]])
        .stderr(expect![[r#"
           delete  docs/e1.md
             keep  docs/e2.md: edited by hand
           delete  docs/e3.md
           delete  docs/index.md
        3 outputs deleted
    "#]])
        .exits(0);
    assert_eq!(pages(&p), ["e2"]);
    assert!(!p.exists("docs/index.md"));
    p.remove("docs/e2.md").run([]).exits(0);
    is_built(&p, 3, &[]);
    assert_eq!(server.count(), 1);
}

#[test]
fn clean_keeps_what_was_paid_for_even_if_the_store_was_lost() {
    let (server, p) = built(3);
    p.remove(".genmake/store");
    p.run(["clean"]).exits(0);
    assert!(!p.exists("docs"));
    p.run([]).exits(0);
    is_built(&p, 3, &[]);
    assert_eq!(server.count(), 1);

    p.remove(".genmake").run(["clean"]).exits(0);
    p.run([]).exits(0);
    is_built(&p, 3, &[]);
    assert_eq!(server.count(), 1);
}

#[test]
fn clean_leaves_files_alone_that_genmake_did_not_make() {
    let server = Server::start();
    let p = shop(&server, 2).file("docs/e1.md", "# Mine\n").file("docs/notes.md", "notes\n");
    p.run([]).exits(2);
    p.run(["clean"]).stderr_has("keep  docs/e1.md: not made by genmake").exits(0);
    let left: Vec<String> = p.tree().into_keys().filter(|path| path.starts_with("docs/")).collect();
    assert_eq!(left, ["docs/e1.md", "docs/notes.md"]);
}

#[test]
fn clean_of_orphans_only() {
    let (_server, p) = built(3);
    p.edit("spec.yaml", &spec(2, &[]));
    p.run(["clean", "--orphans"]).stderr_has("delete  docs/e3.md").exits(0);
    assert_eq!(pages(&p), ["e1", "e2"]);
}

#[test]
fn a_dry_clean_deletes_nothing() {
    let (_server, p) = built(2);
    let stamps = p.stamps();
    p.run(["clean", "-n"]).stderr_has("3 outputs would be deleted").exits(0);
    assert_eq!(p.stamps(), stamps);
}

// ---- init ----

#[test]
fn init_makes_something_that_builds() {
    let p = Project::new();
    p.run(["init"])
        .stdout(expect![[""]])
        .stderr(expect![[r#"
            write  Genfile
            write  spec.yaml
            write  templates/index.md.hbs
            write  prompts/page.prompt
        run `genmake` to build, `genmake plan` to see first what it would do
    "#]])
        .exits(0);
    p.run([]).exits(0);
    expect![[r#"
        # Things

        - **Book**: Something to read, with a title and an author.
        - **Reader**: A person who borrows books and brings them back.
    "#]]
    .assert_eq(&p.read("docs/index.md"));
    p.run(["check"]).exits(0);
    let tree = p.tree();
    p.run(["init"])
        .stderr(expect![[r#"
        genmake::usage

          x `Genfile` is there already
          help: `init` overwrites nothing; run it in a folder without a Genfile
    "#]])
        .exits(2);
    assert_eq!(p.tree(), tree);
}

#[test]
fn a_dry_init_writes_nothing() {
    let p = Project::new();
    p.run(["init", "-n"]).exits(0);
    assert_eq!(p.everything().len(), 0);
}

/// The part of the starting Genfile that is a comment works, too, once the comment marks are taken away.
#[test]
fn init_makes_a_prompt_that_works() {
    let server = Server::start();
    let p = Project::new();
    p.run(["init"]).exits(0);
    let genfile = p.read("Genfile").replace("  #pages:", "  pages:").replace("  #  ", "    ");
    let genfile = genfile.replace("#provider", "provider").replace("#  model:", "  model:").replace("#    ", "    ");
    p.edit("Genfile", &genfile.replace("http://127.0.0.1:11434/v1", &server.base_url()));
    p.run([]).exits(0);
    assert_eq!(
        (server.count(), server.requests()[0].paths()),
        (1, vec!["docs/book.md".to_owned(), "docs/reader.md".to_owned()])
    );
    p.run(["check"]).exits(0);
}

// ---- -f, -C, where one stands ----

#[test]
fn another_genfile_has_its_own_lock() {
    let (server, p) = built(1);
    let lock = p.read("Genfile.lock");
    p.edit("other.yaml", "version: 1\nrules: {x: {template: x.hbs, output: x.txt}}\n").edit("x.hbs", "x\n");
    p.run(["-f", "other.yaml"]).exits(0);
    assert_eq!(p.read("x.txt"), "x\n");
    assert!(p.read("other.yaml.lock").contains("x.txt sha256:"));
    assert_eq!(p.read("Genfile.lock"), lock, "the other's targets are no orphans of this one");
    is_built(&p, 1, &[]);
    p.run(["check", "-f", "other.yaml"]).exits(0);
    p.run(["check"]).exits(0);
    assert_eq!(server.count(), 1);
    p.run(["-f", "none.yaml"])
        .stderr(expect![[r#"
            genmake::no_genfile

              x `none.yaml` is not there
              help: `-f` names a Genfile; `genmake init` makes one to start from
        "#]])
        .exits(2);
}

#[test]
fn the_root_is_where_the_genfile_is() {
    for name in ["Genfile", "Genfile.yaml", "Genfile.yml"] {
        let p = Project::new()
            .file(&format!("project/{name}"), "version: 1\nrules: {x: {template: x.hbs, output: out/x.txt}}\n")
            .file("project/x.hbs", "x\n")
            .file("project/deep/er/file", "");
        p.run(["-C", "project/deep/er", "--report", "report.json"]).exits(0);
        let made: BTreeSet<String> = p.tree().into_keys().collect();
        assert!(made.contains("project/out/x.txt") && made.contains("project/Genfile.lock"), "{made:?}");
        assert!(made.contains("project/deep/er/report.json"), "a report is written where one stands: {made:?}");
        assert!(p.exists("project/.genmake"));
    }
}

#[test]
fn where_there_is_no_genfile() {
    let p = Project::new();
    p.run([])
        .stderr(expect![[r#"
        genmake::no_genfile

          x no Genfile in `[ROOT]` or above
          help: `genmake init` makes one to start from
    "#]])
        .exits(2);
    p.run(["check"]).exits(2);
    p.run(["-C", "nowhere"])
        .stderr(expect![[r#"
        genmake::usage

          x cannot stand in `nowhere`: No such file or directory (os error 2)
    "#]])
        .exits(2);
    assert_eq!(p.everything().len(), 0);
}

// ---- TARGET ----

/// A shop of three, with these targets built.
#[track_caller]
fn builds(args: &[&str], expected: &str) {
    let server = Server::start();
    let p = shop(&server, 3).file("docs/deep/.keep", "");
    p.run(args.iter().copied()).exits(0);
    let made =
        p.tree().into_keys().filter_map(|path| Some(path.strip_prefix("docs/")?.strip_suffix(".md")?.to_owned()));
    assert_eq!(made.collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn targets_are_paths_globs_and_rules() {
    builds(&["docs/e2.md"], "e2");
    builds(&["./docs/../docs/e2.md"], "e2");
    builds(&["docs/e[12].md"], "e1 e2");
    builds(&["docs/*.md"], "e1 e2 e3 index");
    builds(&["pages"], "e1 e2 e3");
    builds(&["index", "docs/e3.md"], "e3 index");
    builds(&["build", "index"], "index");
}

#[test]
fn targets_are_relative_to_where_one_stands() {
    builds(&["-C", "docs", "e1.md"], "e1");
    builds(&["-C", "docs/deep", "../e1.md", "../i*x.md"], "e1 index");
    builds(&["-C", "docs", "pages"], "e1 e2 e3");
    builds(&["-C", "docs"], "e1 e2 e3 index");
}

#[test]
fn a_target_brings_what_it_waits_for() {
    let server = Server::start();
    let p = shop(&server, 3).file("t.hbs", "{{inputs.[0].text}}");
    p.edit("Genfile", &(p.read("Genfile") + "  copy: {inputs: [docs/e2.md], template: t.hbs, output: copy.md}\n"));
    p.run(["copy.md"]).exits(0);
    assert_eq!((p.read("copy.md"), pages(&p)), (page("e2", "about e2"), vec!["e2".to_owned()]));
    assert_eq!(asked_after(&server, 0), ["e2"]);
}

#[test]
fn a_target_that_nothing_makes_is_an_error_with_a_suggestion() {
    let (server, p) = built(2);
    let run = changes_nothing(&server, &p, &["check", "docs/indx.md", "page", "something-else", "nothing/*.md"]);
    run.stderr(expect![[r#"
        genmake::unknown_target

          x no rule makes `docs/indx.md`
          help: did you mean `docs/index.md`?
        genmake::unknown_target

          x no rule makes `page`
          help: did you mean `pages`?
        genmake::unknown_target

          x no rule makes `something-else`
          help: `genmake plan -v` lists the targets
        genmake::unknown_target

          x no rule makes `nothing/*.md`
          help: `genmake plan -v` lists the targets
        4 mistakes
    "#]])
        .exits(2);
    p.run(["docs/indx.md"]).stderr_has("did you mean `docs/index.md`?").exits(2);
}

#[test]
fn a_rule_without_items_is_a_target_with_nothing_to_do() {
    let server = Server::start();
    let p = shop(&server, 0);
    p.run(["pages"]).exits(0);
    assert!(!p.exists("docs"));
}

// ---- -j ----

#[test]
fn one_job_and_many_make_the_same() {
    let server = Server::start();
    let all = |jobs: &str| {
        let p = shop(&server, 12);
        p.run([jobs]).exits(0);
        is_built(&p, 12, &[]);
        p.read("Genfile.lock")
    };
    assert_eq!(all("-j1"), all("-j16"));
}

// ---- --report ----

/// The names of all fields, as paths; of a list, those of its first item.
fn fields(value: &Value, at: &str, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| fields(value, &format!("{at}/{name}"), into)),
        Value::Array(items) => fields(items.first().unwrap_or(&Value::Null), &format!("{at}/0"), into),
        value => drop(into.insert(at.to_owned(), value.to_string())),
    }
}

#[test]
fn the_report_has_every_field_with_the_right_numbers() {
    let server = Server::start();
    let p = shop_with(&server, 7, "in_flight: 1", "");
    p.run(["docs/e7.md", "docs/index.md"]).exits(0);
    p.remove("docs/e7.md");
    // Of the second batch one is missing; before that, a retry.
    server.script([Act::rate_limited(0), Act::Default, Act::Default]);
    p.edit("spec.yaml", &spec(7, &[("e1", "new")]));
    p.edit("docs/e5.md", "# Mine\n");
    server.script([Act::MissingSlot("f2")]);
    let before = server.count();
    let run = p.run(["-k", "--report", "report.json"]);
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("a report is JSON");
    run.exits(2);

    let mut found = BTreeMap::new();
    fields(&report, "", &mut found);
    let published = [
        "/version",
        "/duration_ms",
        "/exit",
        "/targets/total",
        "/targets/fresh",
        "/targets/rendered",
        "/targets/generated",
        "/targets/restored",
        "/targets/ran",
        "/targets/embedded",
        "/targets/failed",
        "/targets/skipped",
        "/targets/edited",
        "/llm/requests",
        "/llm/batched_requests",
        "/llm/batch_attempts",
        "/llm/batch_successes",
        "/llm/fallbacks",
        "/llm/files_in_batches",
        "/llm/files_individual",
        "/llm/retries",
        "/llm/input_tokens",
        "/llm/output_tokens",
        "/llm/cached_input_tokens",
        "/llm/cache_write_tokens",
        "/llm/tokens_saved/batching",
        "/llm/tokens_saved/prompt_cache",
        "/llm/tokens_saved/store",
        "/llm/tokens_saved/templates",
        "/llm/tokens_saved/context",
        "/llm/cost_usd",
        "/llm/cost_saved_usd",
        "/phases/0/name",
        "/phases/0/duration_ms",
        "/tasks/0/rule",
        "/tasks/0/outputs/0",
        "/tasks/0/status",
        "/tasks/0/reasons/0",
        "/tasks/0/duration_ms",
        "/tasks/0/input_tokens",
        "/tasks/0/output_tokens",
    ];
    let missing: Vec<&str> =
        published.into_iter().filter(|name| !found.contains_key(*name) && !name.ends_with("/reasons/0")).collect();
    assert!(missing.is_empty(), "the report lacks {missing:?}: {:?}", found.keys());

    expect![[r#"
        {
          "total": 8,
          "fresh": 1,
          "rendered": 0,
          "generated": 5,
          "restored": 1,
          "defaulted": 0,
          "ran": 0,
          "embedded": 0,
          "failed": 0,
          "submitted": 0,
          "skipped": 0,
          "edited": 1,
          "accepted": 0,
          "merged": 0
        }
    "#]]
    .assert_eq(&format!("{:#}\n", report["targets"]));
    let llm = &report["llm"];
    assert_eq!(llm["requests"], server.count() - before);
    assert_eq!(llm["providers"]["p"]["requests"], llm["requests"]);
    let tokens = |name: &str| {
        report["tasks"].as_array().expect("tasks").iter().filter_map(|task| task[name].as_u64()).sum::<u64>()
    };
    for name in ["input_tokens", "output_tokens"] {
        let (all, shares) = (llm[name].as_u64().expect("a number"), tokens(name));
        assert!(all > 0 && shares == all, "{name}: {all} in all, {shares} in tasks");
    }
    let mut counts = llm.clone();
    counts.as_object_mut().expect("a map").retain(|_, value| value.is_u64());
    expect![[r#"
        {
          "requests": 2,
          "batched_requests": 2,
          "batch_attempts": 1,
          "batch_successes": 1,
          "fallbacks": 0,
          "strays": 0,
          "files_in_batches": 5,
          "files_individual": 0,
          "retries": 1,
          "uncounted": 0,
          "input_tokens": 91,
          "output_tokens": 34,
          "cached_input_tokens": 0,
          "cache_write_tokens": 0,
          "cache_misses": 0
        }
    "#]]
    .assert_eq(&format!("{counts:#}\n"));
    let mut tasks: Vec<String> = report["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| {
            format!(
                "{} {} {} {} batch {}\n",
                task["rule"], task["outputs"], task["status"], task["reasons"], task["batch"]
            )
        })
        .collect();
    tasks.sort();
    expect![[r#"
        "index" ["docs/index.md"] "fresh" [] batch null
        "pages" ["docs/e1.md"] "generated" ["new"] batch 1
        "pages" ["docs/e2.md"] "generated" ["new"] batch 1
        "pages" ["docs/e3.md"] "generated" ["new"] batch 1
        "pages" ["docs/e4.md"] "generated" ["new"] batch 1
        "pages" ["docs/e5.md"] "edited" [] batch null
        "pages" ["docs/e6.md"] "generated" ["new"] batch 1
        "pages" ["docs/e7.md"] "restored" ["output missing: docs/e7.md"] batch null
    "#]]
    .assert_eq(&tasks.concat());
}

#[test]
fn what_cannot_be_written_in_the_end_is_told_before_anything_is_asked() {
    let server = Server::start();
    let p = shop(&server, 1);
    for flag in ["--report", "--metrics", "--trace", "--depfile"] {
        let run = p.run([flag, "no/folder/x"]);
        let run =
            run.stderr_has("genmake::unwritable").stderr_has("there is no folder `no/folder`").stderr_has("mkdir -p");
        run.stderr_lacks(".tmp").exits(2);
        p.run([flag, "prompts"]).stderr_has("that is a folder").exits(2);
    }
    let closed = p.root().join("closed");
    fs_err::create_dir(&closed).unwrap();
    fs_err::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
    // Root may write everywhere.
    if fs_err::write(closed.join("y"), "").is_err() {
        p.run(["--report", "closed/x"]).stderr_has("nothing can be written in that folder").exits(2);
    }
    assert_eq!(server.count(), 0);
}

#[test]
fn options_of_a_run_go_with_no_other_command() {
    let server = Server::start();
    let p = shop(&server, 1);
    for command in ["check", "plan", "explain", "report", "gc"] {
        for option in [
            &["--report", "x"][..],
            &["--metrics", "x"],
            &["--trace", "x"],
            &["--depfile", "x"],
            &["--log-format", "json"],
        ] {
            let run = p.run([command].into_iter().chain(option.iter().copied()));
            assert!(run.stderr.contains(option[0]) && run.stderr.contains("usage"), "{command}: {run}");
            run.exits(2);
        }
    }
    p.run(["watch", "--report", "x"]).stderr_has("genmake::usage").exits(2);
    // What make turns into a plan is no mistake.
    p.run(["-n", "--report", "x"]).exits(0);
    p.run(["check", "--format", "dot"]).stderr_has("`github`, `gitlab` or `sarif`").exits(2);
}

#[test]
fn a_mistyped_command_is_told_from_a_target() {
    let p = Project::new();
    p.run(["inti"]).stderr_has("did you mean the command `init`?").exits(2);
    p.run(["init"]).exits(0);
    p.run(["chek"]).stderr_has("genmake::unknown_target").stderr_has("did you mean the command `check`?").exits(2);
    p.run(["build", "chek"]).stderr_lacks("the command").exits(2);
    p.run(["zebra"]).stderr_lacks("the command").exits(2);
}

#[test]
fn the_comment_signs_of_the_first_genfile_can_be_taken_away_either_way() {
    let starter = Project::new();
    starter.run(["init"]).exits(0);
    let text = starter.read("Genfile");
    let (begin, rest) = text.split_once("name your model:\n").expect("the hint");
    for sign in ["#", "# "] {
        let bare = |line: &str| {
            let (before, after) = line.split_once('#').unwrap_or((line, ""));
            let after = if sign == "# " { after.strip_prefix(' ').unwrap_or(after) } else { after };
            format!("{before}{after}\n")
        };
        starter.edit("Genfile", &format!("{begin}name your model:\n{}", rest.lines().map(bare).collect::<String>()));
        starter.run(["plan"]).stdout_has("2 to generate").exits(0);
    }
}

#[test]
fn the_report_of_a_run_with_nothing_to_do() {
    let (_server, p) = built(3);
    p.run(["--report", "out/report.json"]).exits(2);
    p.run(["--report", "report.json"]).exits(0);
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("a report is JSON");
    assert_eq!(
        (&report["targets"]["fresh"], &report["llm"]["requests"], &report["exit"]),
        (&4.into(), &0.into(), &0.into())
    );
}

// ---- usage ----

#[test]
fn what_is_no_usage_exits_with_2() {
    let (server, p) = built(1);
    for args in [
        &["--nonsense"][..],
        &["-j", "many"],
        &["plan", "--format", "xml"],
        &["init", "x"],
        &["-f"],
        &["check", "--jobs", "-1"],
    ] {
        let run = changes_nothing(&server, &p, args);
        assert!(run.stderr.contains("Usage: ") || run.stderr.contains("--help"), "{run}");
        run.exits(2);
    }
    changes_nothing(&server, &p, &["--help"]).stdout_has("Usage: genmake").stderr(expect![[""]]).exits(0);
    changes_nothing(&server, &p, &["--version"])
        .stdout(expect![[r#"
        genmake 0.1.0
    "#]])
        .exits(0);
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    let (_server, p) = built(50);
    for args in [&["plan", "-v"][..], &["--help"], &["explain", "pages"], &["check", "--format", "json"]] {
        let mut child = p.command(args.iter().copied()).stdout(Stdio::piped()).spawn().expect("it starts");
        let reader = child.stdout.take();
        drop(reader);
        // `finish` wants both streams: the one that is left is enough to see what was said.
        let out = child.wait_with_output().expect("it ends");
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        assert_eq!(out.status.code(), Some(0), "{args:?}: {stderr}");
    }
}

/// Whoever can commit an output can commit its line in the lock: what a template renders is rendered to know it.
#[test]
fn frozen_finds_an_output_that_was_edited_together_with_the_lock() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  a: {output: a.txt, template: a.hbs}\n  b: {output: b.txt, inputs: [a.txt], template: b.hbs}\n")
        .file("a.hbs", "hello\n")
        .file("b.hbs", "{{inputs.[0].text}}");
    p.run([]).exits(0);
    let (honest, evil) = (Digest::of("hello\n").to_string(), Digest::of("evil\n").to_string());
    let lock = p.read("Genfile.lock");
    assert_eq!(lock.matches(&honest).count(), 2, "{lock}");
    p.edit("Genfile.lock", &lock.replacen(&honest, &evil, 1)).edit("a.txt", "evil\n").remove(".genmake");
    p.run(["--frozen", "a.txt"])
        .stderr_has("`a.txt` is not what is rendered, though `Genfile.lock` has it so")
        .stderr_has("`genmake -B a.txt` renders it anew")
        .exits(2);
    p.run(["-B", "a.txt"]).exits(0);
    p.run(["--frozen"]).stderr_has("nothing to do: 2 targets are up to date").exits(0);
    assert_eq!(p.read("Genfile.lock"), lock);
}
