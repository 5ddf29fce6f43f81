//! Why a target is stale, up to the files that changed, and what an edit would cost: `explain` and `-W`.

use expect_test::{Expect, expect};

use crate::project::Project;
use crate::server::Server;
use crate::shop::{asked_after, is_built, shop_with};

/// A chain of templates over a folder of sources: `src/*.txt` → `one.txt` → `two.txt` → `three.txt`.
fn chain() -> Project {
    let rule = |name: &str, inputs: &str| {
        format!("  {name}: {{template: {name}.hbs, output: {name}.txt, inputs: [\"{inputs}\"]}}\n")
    };
    let text = "{{#each inputs.[0]}}{{text}}{{/each}}";
    let genfile =
        ["version: 1\nrules:\n", &rule("one", "src/*.txt"), &rule("two", "one.txt"), &rule("three", "two.txt")];
    Project::new()
        .file("Genfile", &genfile.concat())
        .file("one.hbs", text)
        .file("two.hbs", "{{inputs.[0].text}}")
        .file("three.hbs", "{{inputs.[0].text}}")
        .file("src/a.txt", "a\n")
        .file("src/b.txt", "b\n")
}

/// Digests as one word.
fn masked(text: &str) -> String {
    let is_digest = |word: &str| word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
    let line = |line: &str| {
        line.split(' ').map(|w| if is_digest(w) { "[DIGEST]    " } else { w }).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(|l| line(l).trim_end().to_owned() + "\n").collect()
}

#[track_caller]
fn says(p: &Project, args: &[&str], expected: Expect) {
    let run = p.run(args.iter().copied());
    expected.assert_eq(&masked(&run.stdout));
    assert_eq!(run.stderr, "");
    run.exits(i32::from(args[0] == "check"));
}

#[test]
fn explain_goes_upstream_to_the_file_that_changed() {
    let p = chain();
    p.run([]).exits(0);
    says(
        &p,
        &["explain", "three.txt"],
        expect![[r#"
            three.txt  fresh  (rule three)
              output   three.txt           [DIGEST]      as it was
              recipe   three.hbs           [DIGEST]      as it was
              recipe   one.hbs             [DIGEST]      as it was
              recipe   two.hbs             [DIGEST]      as it was
              input    two.txt             [DIGEST]      as it was
              vars     vars                [DIGEST]      as it was
              params   params              [DIGEST]      as it was
              outputs  outputs             [DIGEST]      as it was
              key      what would be made  [DIGEST]      as in the lock
        "#]],
    );
    p.edit("src/b.txt", "new\n");
    says(
        &p,
        &["explain", "three.txt"],
        expect![[r#"
            three.txt  stale: input changed: two.txt  (rule three)
              output   three.txt           [DIGEST]      as it was
              recipe   three.hbs           [DIGEST]      as it was
              recipe   one.hbs             [DIGEST]      as it was
              recipe   two.hbs             [DIGEST]      as it was
              input    two.txt             [DIGEST]      changed, was [DIGEST]
              vars     vars                [DIGEST]      as it was
              params   params              [DIGEST]      as it was
              outputs  outputs             [DIGEST]      as it was
              key      what would be made  [DIGEST]      in the lock [DIGEST]
              because two.txt is stale: input changed: one.txt  (rule two)
                input  one.txt  [DIGEST]      changed, was [DIGEST]
                because one.txt is stale: input changed: src/*.txt  (rule one)
                  input   src/*.txt  [DIGEST]      changed, was [DIGEST]
                    file  src/b.txt  [DIGEST]      changed, was [DIGEST]
        "#]],
    );
    // A file more, and one less.
    p.edit("src/c.txt", "c\n").remove("src/a.txt");
    says(
        &p,
        &["explain", "one.txt"],
        expect![[r#"
            one.txt  stale: input changed: src/*.txt  (rule one)
              output   one.txt             [DIGEST]      as it was
              recipe   one.hbs             [DIGEST]      as it was
              recipe   three.hbs           [DIGEST]      as it was
              recipe   two.hbs             [DIGEST]      as it was
              input    src/*.txt           [DIGEST]      changed, was [DIGEST]
                file   src/b.txt           [DIGEST]      changed, was [DIGEST]
                file   src/c.txt           [DIGEST]      new
              vars     vars                [DIGEST]      as it was
              params   params              [DIGEST]      as it was
              outputs  outputs             [DIGEST]      as it was
              key      what would be made  [DIGEST]      in the lock [DIGEST]
        "#]],
    );
    p.run([]).exits(0);
    let unused = p.read("Genfile").replace("[\"two.txt\"]", "[\"two.txt\", \"src/c.txt\"]");
    let before = p.read("Genfile");
    p.edit("Genfile", &unused).run([]).exits(0);
    p.edit("Genfile", &before).edit("three.hbs", "other");
    says(
        &p,
        &["explain", "three.txt"],
        expect![[r#"
            three.txt  stale: recipe changed: three.hbs; input changed: src/c.txt  (rule three)
              output   three.txt           [DIGEST]      as it was
              recipe   three.hbs           [DIGEST]      changed, was [DIGEST]
              recipe   one.hbs             [DIGEST]      as it was
              recipe   two.hbs             [DIGEST]      as it was
              input    two.txt             [DIGEST]      as it was
              vars     vars                [DIGEST]      as it was
              params   params              [DIGEST]      as it was
              outputs  outputs             [DIGEST]      as it was
              input    src/c.txt           -             gone, was [DIGEST]
              key      what would be made  [DIGEST]      in the lock [DIGEST]
        "#]],
    );
}

#[test]
fn explain_as_json_has_the_chain() {
    let p = chain();
    p.run([]).exits(0);
    p.edit("src/b.txt", "new\n");
    let json = p.run(["explain", "three.txt", "--format", "json"]).stdout_json();
    let because = json["targets"][0]["because"].as_array().expect("a chain");
    let shown: Vec<(&str, u64, &str)> = because
        .iter()
        .map(|cause| {
            let text = |at: &str| cause[at].as_str().expect("a text");
            (cause["outputs"][0].as_str().expect("a path"), cause["depth"].as_u64().expect("a number"), text("for"))
        })
        .collect();
    assert_eq!(shown, [("two.txt", 1, "three.txt"), ("one.txt", 2, "two.txt")]);
    let input = &because[1]["inputs"][0];
    assert_eq!((input["kind"].as_str(), input["name"].as_str()), (Some("input"), Some("src/*.txt")));
    assert_eq!(input["files"][0]["name"], "src/b.txt");
    assert!(input["files"][0]["digest"].is_string() && input["files"][0]["digest"] != input["files"][0]["before"]);
    assert!(input["before"].is_string() && input["digest"] != input["before"]);
}

#[test]
fn a_wide_graph_is_not_told_in_full() {
    let p = Project::new()
        .file(
            "Genfile",
            "version: 1\nrules:\n  all: {template: all.hbs, output: all.txt, inputs: [\"rule:each\"]}\n  \
             each: {foreach: \"src/*\", template: t.hbs, output: \"out/{{item.name}}\"}\n",
        )
        .file("all.hbs", "{{len inputs.[0]}}")
        .file("t.hbs", "{{item.text}}");
    for n in 0..30 {
        p.edit(&format!("src/{n:02}"), "x");
    }
    let run = p.run(["explain", "all.txt"]);
    assert_eq!(run.stdout.matches("because out/").count(), 20, "{}", run.stdout);
    run.stdout_has("because out/00 is stale: new  (rule each)").stdout_has("and 10 tasks more upstream").exits(0);
}

// ---- -W ----

#[test]
fn what_an_edit_would_cost() {
    let p = chain();
    p.run([]).exits(0);
    says(
        &p,
        &["plan", "-W", "src/a.txt"],
        expect![[r#"
        render  one.txt    as if changed: src/a.txt
        render  two.txt    waits for one.txt
        render  three.txt  waits for two.txt
        0 fresh, 3 to render; 0 requests and what 2 waiting tasks turn out to need
    "#]],
    );
    says(
        &p,
        &["-n", "-W", "one.txt", "-W", "three.hbs"],
        expect![[r#"
        render  one.txt    as if changed: three.hbs
        render  two.txt    waits for one.txt
        render  three.txt  waits for two.txt
        0 fresh, 3 to render; 0 requests and what 2 waiting tasks turn out to need
    "#]],
    );
    says(
        &p,
        &["check", "-W", "src/a.txt"],
        expect![[r#"
        stale    one.txt    as if changed: src/a.txt
        waiting  two.txt    waits for one.txt
        waiting  three.txt  waits for two.txt
    "#]],
    );
    says(
        &p,
        &["explain", "one.txt", "-W", "one.hbs"],
        expect![[r#"
            one.txt  stale: as if changed: one.hbs  (rule one)
              output   one.txt             [DIGEST]      as it was
              recipe   one.hbs             [DIGEST]      as it was
              recipe   three.hbs           [DIGEST]      as it was
              recipe   two.hbs             [DIGEST]      as it was
              input    src/*.txt           [DIGEST]      as it was
              vars     vars                [DIGEST]      as it was
              params   params              [DIGEST]      as it was
              outputs  outputs             [DIGEST]      as it was
              key      what would be made  [DIGEST]      as in the lock
        "#]],
    );
    p.run(["-q", "-W", "src/a.txt"]).exits(1);
    // Nothing was written, and nothing is stale.
    p.run(["check"]).exits(0);
    // A path is relative to where one stands.
    says(
        &p,
        &["-C", "src", "-n", "-W", "a.txt", "one"],
        expect![[r#"
        render  one.txt  as if changed: src/a.txt
        0 fresh, 1 to render; 0 requests
    "#]],
    );
}

#[test]
fn what_an_edit_of_a_specification_would_ask_for() {
    let server = Server::start();
    let p = shop_with(&server, 3, "", "");
    p.run([]).exits(0);
    let asked = server.count();
    says(
        &p,
        &["-n", "-W", "spec.yaml"],
        expect![[r#"
            render    docs/index.md  as if changed: spec.yaml
            generate  docs/e1.md     as if changed: spec.yaml  [request 1]
            generate  docs/e2.md     as if changed: spec.yaml  [request 1]
            generate  docs/e3.md     as if changed: spec.yaml  [request 1]
            request          for         model  tokens in  out   at most  cost
            1                3 tasks     p (m)         68   24  no bound  free
            in all           1 request                 68   24  no bound  free
            without genmake  3 requests                60    6            free
            saves about 6 tokens: templates 6
            0 fresh, 1 to render, 3 to generate; 1 request
        "#]],
    );
    assert_eq!(server.count(), asked);
    // A build asks anew for what is made from it, and for nothing else.
    p.run(["-W", "spec.yaml", "docs/e2.md"]).exits(0);
    assert_eq!(asked_after(&server, asked), ["e2"]);
    p.run(["-W", "templates/index.hbs"]).exits(0);
    assert_eq!(server.count(), asked + 1);
    is_built(&p, 3, &[]);
    p.run([]).stderr_has("nothing to do").exits(0);
}

#[test]
fn a_build_as_if_a_file_had_changed_asks_before_it_spends() {
    let server = Server::start();
    let p = shop_with(&server, 2, "", "");
    p.run([]).exits(0);
    let asked = server.count();
    // A host that is not this machine's.
    p.edit("Genfile", &p.read("Genfile").replace("127.0.0.1", "models.example"));
    p.run(["-W", "spec.yaml"]).stderr_has("`-W` would ask for 2 results anew").exits(2);
    p.run(["-W", "templates/index.hbs"]).exits(0);
    assert_eq!(server.count(), asked);
}

#[test]
fn a_file_that_nothing_is_made_from_is_told_of() {
    let p = chain();
    p.run([]).exits(0);
    for args in [&["-n", "-W", "src/aa.txt"][..], &["-W", "../elsewhere", "-W", "src/aa.txt"]] {
        let run = p.run(args.iter().copied());
        assert!(
            run.stderr.contains("notice  -W src/aa.txt: nothing is made from that file; did you mean `src/a.txt`?")
        );
        run.exits(0);
    }
    p.run(["-n", "-W", "Genfile"]).stderr_has("-W Genfile: nothing is made from that file").exits(0);
}
