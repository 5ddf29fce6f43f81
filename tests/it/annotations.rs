//! What CI is shown: the three forms of `check`'s list that it reads.

use expect_test::expect;
use serde_json::Value;

use crate::project::Project;

const GENFILE: &str = "\
version: 1
include: [more/rules.yaml]
rules:
  pages:
    foreach: notes/*.md
    template: t.hbs
    output: \"out/{{item.stem}}.txt\"
";

/// A project below the top of a repository, built.
fn project() -> Project {
    let project = Project::new()
        .file("sub/Genfile", GENFILE)
        .file("sub/more/rules.yaml", "rules:\n  one:\n    template: one.hbs\n    output: one.txt\n")
        .file("sub/t.hbs", "{{item.text}}")
        .file("sub/more/one.hbs", "1")
        .file("sub/notes/a.md", "one\n")
        .file("sub/notes/b 50%.md", "two\n");
    project.shell("git init -q");
    project.run(["-s", "-C", "sub"]).exits(0);
    project
}

#[test]
fn github_is_told_of_rules_and_outputs() {
    let p = project();
    p.run(["-C", "sub", "check", "--format", "github"])
        .stdout(expect![])
        .stderr(expect![[r#"
        3 targets are up to date
    "#]])
        .exits(0);
    p.edit("sub/t.hbs", "changed {{item.text}}").edit("sub/more/one.hbs", "2").edit("sub/one.txt", "by hand");
    p.run(["-C", "sub", "check", "--format", "github"]).stdout(expect![[r#"
        ::error file=sub/more/rules.yaml,line=2,endLine=2,col=3,endColumn=6,title=genmake%3A rule one::1 target is not up to date: `one.txt`
        ::error file=sub/Genfile,line=4,endLine=4,col=3,endColumn=8,title=genmake%3A rule pages::2 targets are not up to date: `out/a.txt`, `out/b 50%25.txt`
        ::error file=sub/one.txt,line=1,title=genmake%3A edited::`one.txt` is edited by hand; `genmake diff` shows the edit, `genmake accept` keeps it
        ::error file=sub/out/a.txt,line=1,title=genmake%3A stale::`out/a.txt` is stale: recipe changed: t.hbs; run `genmake`
        ::error file=sub/out/b 50%25.txt,line=1,title=genmake%3A stale::`out/b 50%25.txt` is stale: recipe changed: t.hbs; run `genmake`
        ::group::3 targets are not up to date: `genmake accept one.txt` keeps an edit, `genmake --force` overwrites it; run `genmake` and commit what it writes
        ::stop-commands::90e02cdedeca
        edited  one.txt        edited by hand; recipe changed: more/one.hbs
        stale   out/a.txt      recipe changed: t.hbs
        stale   out/b 50%.txt  recipe changed: t.hbs
        ::90e02cdedeca::
        ::endgroup::
    "#]]).stderr(expect![]).exits(1);
    // At most so many, of which the rules are the first.
    for n in 0..30 {
        p.edit(&format!("sub/notes/{n}.md"), "x\n");
    }
    let run = p.run(["-C", "sub", "check", "--format", "github"]);
    assert_eq!(run.stdout.lines().filter(|line| line.starts_with("::error ")).count(), 10, "{run}");
    assert_eq!(run.stdout.lines().filter(|line| line.starts_with("stale ")).count(), 32, "{run}");
    run.exits(1);
    p.edit("sub/Genfile", &GENFILE.replace("item.stem", "item.stm"));
    p.run(["-C", "sub", "check", "--format", "github"]).stdout(expect![[r#"
        ::error file=sub/Genfile,line=7,endLine=7,col=20,endColumn=28,title=genmake%3A%3Aundefined::rule `pages`: unknown variable `item.stm`%0Adid you mean `item.stem`?
    "#]]).exits(2);
    p.edit("sub/Genfile", GENFILE).edit("sub/t.hbs", "{{item.txt}}").remove("sub/one.txt");
    p.run(["-C", "sub", "check", "pages", "--format", "github"])
        .stdout_has("::error file=sub/t.hbs,line=1,endLine=1,col=1,endColumn=13,title=genmake%3A%3Aundefined::")
        .exits(2);
    p.run(["-C", "sub", "plan", "--format", "github"]).stderr_has("only `check` prints as `github`").exits(2);
    Project::new().run(["check", "--format", "github"]).stdout_has("::error title=genmake%3A%3Ano_genfile::").exits(2);
}

#[test]
fn gitlab_has_a_report_on_code_quality() {
    let p = project();
    p.run(["-C", "sub", "check", "--format", "gitlab"])
        .stdout(expect![[r#"
        []
    "#]])
        .exits(0);
    p.edit("sub/t.hbs", "changed {{item.text}}").remove("sub/notes/a.md");
    let run = p.run(["-C", "sub", "check", "--format", "gitlab"]);
    let mut prints: Vec<String> = Vec::new();
    for issue in run.stdout_json().as_array().expect("a list") {
        prints.push(issue["fingerprint"].as_str().expect("a text").to_owned());
    }
    let count = prints.len();
    prints.sort();
    prints.dedup();
    assert_eq!(prints.len(), count, "fingerprints differ");
    let text = prints.iter().fold(run.stdout.clone(), |text, print| text.replace(print, "…"));
    expect![[r#"
        [
          {
            "description": "1 target is not up to date: `out/b 50%.txt`",
            "check_name": "stale",
            "fingerprint": "…",
            "severity": "major",
            "location": {
              "path": "sub/Genfile",
              "lines": {
                "begin": 4
              }
            }
          },
          {
            "description": "`out/b 50%.txt` is stale: recipe changed: t.hbs; run `genmake`",
            "check_name": "stale",
            "fingerprint": "…",
            "severity": "major",
            "location": {
              "path": "sub/out/b 50%.txt",
              "lines": {
                "begin": 1
              }
            }
          },
          {
            "description": "`out/a.txt`: no rule makes it any more; a build deletes it",
            "check_name": "orphan",
            "fingerprint": "…",
            "severity": "minor",
            "location": {
              "path": "sub/out/a.txt",
              "lines": {
                "begin": 1
              }
            }
          }
        ]
    "#]]
    .assert_eq(&text);
    run.exits(1);
    p.edit("sub/Genfile", "version: 2\n");
    let run = p.run(["-C", "sub", "check", "--format", "gitlab"]);
    let issues = run.stdout_json();
    assert_eq!(issues[0]["severity"], "critical");
    assert_eq!(issues[0]["location"]["path"], "sub/Genfile");
    run.exits(2);
}

#[test]
fn sarif_is_as_its_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../data/sarif-2.1.0.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let p = project();
    let check = |exit: i32| {
        let run = p.run(["-C", "sub", "check", "--format", "sarif"]);
        let log = run.stdout_json();
        let wrong: Vec<String> = validator.iter_errors(&log).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert_eq!(wrong, Vec::<String>::new(), "{run}");
        run.exits(exit);
        log["runs"][0]["results"].as_array().expect("a list").clone()
    };
    assert_eq!(check(0), Vec::<Value>::new());
    p.edit("sub/t.hbs", "changed {{item.text}}").edit("sub/more/one.hbs", "2").edit("sub/one.txt", "by hand");
    let results = check(1);
    let places = results.iter().map(|result| {
        let at = &result["locations"][0]["physicalLocation"];
        let uri = at["artifactLocation"]["uri"].as_str().expect("a text");
        format!("{}:{} {} {}\n", uri, at["region"]["startLine"], result["ruleId"], result["message"]["text"])
    });
    expect![[r#"
        sub/more/rules.yaml:2 "edited" "1 target is not up to date: `one.txt`"
        sub/Genfile:4 "stale" "2 targets are not up to date: `out/a.txt`, `out/b 50%.txt`"
        sub/one.txt:1 "edited" "`one.txt` is edited by hand; `genmake diff` shows the edit, `genmake accept` keeps it"
        sub/out/a.txt:1 "stale" "`out/a.txt` is stale: recipe changed: t.hbs; run `genmake`"
        sub/out/b%2050%25.txt:1 "stale" "`out/b 50%.txt` is stale: recipe changed: t.hbs; run `genmake`"
    "#]]
    .assert_eq(&places.collect::<String>());
    p.edit("sub/Genfile", "rules: {a: {}}\nversion: 1\nno: 1\n");
    assert!(check(2).len() > 1);
}
