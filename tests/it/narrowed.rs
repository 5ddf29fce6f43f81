//! `--since` and `--files`: what depends on files that changed, and nothing else; with what the last run left, and without.

use crate::project::Project;

const GENFILE: &str = "\
version: 1
rules:
  pages:
    foreach: notes/*.md
    template: t.hbs
    output: \"out/{{item.stem}}.txt\"
  index:
    template: index.hbs
    inputs: { pages: \"rule:pages\" }
    output: out/index.txt
  tables:
    foreach: spec.yaml#/*
    template: t2.hbs
    output: \"sql/{{item.key}}.sql\"
  all:
    template: all.hbs
    inputs: [\"sql/*.sql\", \"other/*\"]
    output: all.txt
";

fn project() -> Project {
    let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    let project = who.iter().fold(Project::new(), |project, name| project.env(name, "me"));
    let project = project
        .file("Genfile", GENFILE)
        .file("t.hbs", "{{item.text}}")
        .file("t2.hbs", "{{rule}}")
        .file("all.hbs", "{{#each inputs.[0]}}{{text}}{{/each}}{{#each inputs.[1]}}{{text}}{{/each}}")
        .file("index.hbs", "{{#each inputs.pages}}{{text}}{{/each}}")
        .file("spec.yaml", "x: 1\ny: 2\n")
        .file("other/o", "o")
        .file("README.md", "read me");
    let project = (0..20).fold(project, |project, n| project.file(&format!("notes/{n}.md"), "text\n"));
    project.run(["-s"]).exits(0);
    project.shell("git init -q -b main && git add -A && git commit -qm one");
    project
}

/// What `check` lists: the same whether it has what the last run left or not.
#[track_caller]
fn listed(project: &Project, args: &[&str]) -> String {
    let args = [&["check"], args].concat();
    let fast = project.run(args.iter().copied());
    let bare = project.copy();
    bare.remove(".genmake");
    let slow = bare.run(args.iter().copied());
    let names = |text: &str| {
        let names = text.lines().filter_map(|line| line.split_whitespace().nth(1).map(|name| format!("{name} ")));
        names.collect::<String>().trim_end().to_owned()
    };
    assert_eq!(names(&fast.stdout), names(&slow.stdout), "{fast}\n{slow}");
    assert_eq!(fast.status.code(), slow.status.code());
    names(&fast.stdout)
}

#[test]
fn only_what_depends_on_the_files_is_judged() {
    let p = project();
    p.edit("notes/1.md", "one\n").edit("notes/2.md", "two\n").edit("other/o", "changed");
    assert_eq!(listed(&p, &[]), "out/1.txt out/2.txt out/index.txt all.txt");
    assert_eq!(listed(&p, &["--files", "notes/1.md"]), "out/1.txt out/index.txt");
    assert_eq!(listed(&p, &["--files", "notes/1.md", "--files", "README.md", "../outside"]), "out/1.txt out/index.txt");
    assert_eq!(listed(&p, &["out/index.txt", "--files", "notes/2.md"]), "out/2.txt out/index.txt");
    assert_eq!(listed(&p, &["pages", "--files", "notes/2.md"]), "out/2.txt");
    assert_eq!(listed(&p, &["--files", "notes"]), "out/1.txt out/2.txt out/index.txt");
    assert_eq!(listed(&p, &["--files", "spec.yaml"]), "all.txt");
    assert_eq!(listed(&p, &["--files", "notes/3.md"]), "");
    p.run(["check", "--files", "README.md"]).stderr_has("nothing is made from what changed").exits(0);
    p.run(["-q", "--files", "README.md"]).exits(0);
    p.run(["-q", "--files", "notes/2.md"]).exits(1);
    // An output of its own, and the recipe of some.
    p.edit("sql/x.sql", "by hand");
    assert_eq!(listed(&p, &["--files", "sql/x.sql"]), "sql/x.sql all.txt");
    p.edit("t2.hbs", "{{rule}}!");
    // Beside others it is a partial of theirs.
    assert_eq!(listed(&p, &["--files", "t2.hbs"]), "out/1.txt out/2.txt out/index.txt sql/x.sql sql/y.sql all.txt");
    // The Genfile and the lock concern everything.
    for file in ["Genfile", "Genfile.lock"] {
        assert_eq!(listed(&p, &["--files", file]), listed(&p, &[]));
    }
}

#[test]
fn a_build_of_some_leaves_the_others_as_they_are() {
    let p = project();
    p.edit("notes/1.md", "one\n").edit("notes/2.md", "two\n");
    p.run(["plan", "--files", "notes/1.md"]).stdout_has("2 to render").exits(0);
    p.run(["--files", "notes/1.md"]).stderr_has("done: 2 rendered").exits(0);
    assert_eq!(p.read("out/1.txt"), "one\n");
    assert_eq!(p.read("out/2.txt"), "text\n");
    assert_eq!(listed(&p, &[]), "out/2.txt out/index.txt");
    p.run(["-s"]).exits(0);
    assert_eq!(listed(&p, &[]), "");
    // What was not named and is read all the same is no less changed for others.
    p.edit("t.hbs", "{{item.text}}!").edit("notes/1.md", "uno\n");
    p.run(["-s", "--files", "notes/1.md"]).exits(0);
    assert_eq!(p.read("out/1.txt"), "uno\n!");
    p.run(["-q"]).exits(1);
    p.run(["-s"]).exits(0);
    assert_eq!(p.read("out/7.txt"), "text\n!");
    p.run(["-q"]).exits(0);
}

#[test]
fn files_that_come_and_go_concern_what_would_read_them() {
    let p = project();
    p.edit("notes/new.md", "new\n").remove("notes/3.md").remove("other/o").edit("notes/4.md", "four\n");
    assert_eq!(listed(&p, &["--files", "notes/new.md"]), "out/new.txt out/index.txt");
    // What is needed and not there is made, too.
    assert_eq!(listed(&p, &["--files", "notes/3.md"]), "out/new.txt out/index.txt out/3.txt");
    assert_eq!(listed(&p, &["--files", "other/o"]), "all.txt");
    p.edit("spec.yaml", "x: 1\n");
    assert_eq!(listed(&p, &["--files", "spec.yaml"]), "all.txt sql/y.sql");
    p.run(["-s", "--files", "notes/new.md"]).exits(0);
    assert!(p.exists("out/new.txt") && p.exists("out/3.txt"));
    assert_eq!(p.read("out/4.txt"), "text\n");
}

#[test]
fn since_a_revision_counts_what_is_committed_changed_and_not_tracked() {
    let p = project();
    assert_eq!(listed(&p, &["--since", "HEAD"]), "");
    p.edit("notes/1.md", "one\n");
    p.shell("git tag before && git commit -qam two");
    p.edit("notes/2.md", "two\n");
    p.shell("git add -A");
    p.edit("notes/3.md", "three\n").edit("notes/new.md", "new\n").edit("other/o", "changed");
    p.shell("git update-index --assume-unchanged other/o");
    let expected = "out/1.txt out/2.txt out/3.txt out/new.txt out/index.txt";
    assert_eq!(listed(&p, &["--since", "before"]), expected);
    assert_eq!(listed(&p, &["--since", "HEAD"]), expected.replace("out/1.txt ", ""));
    p.run(["-s", "--since", "HEAD"]).exits(0);
    assert_eq!((p.read("out/1.txt"), p.read("out/3.txt")), ("text\n".to_owned(), "three\n".to_owned()));
    p.run(["check", "--since", "nowhere"]).stderr_has("git knows no revision `nowhere`").exits(2);
    p.run(["check", "--since=--output=x"]).stderr_has("git knows no revision").exits(2);
    p.run(["graph", "--since", "HEAD"]).stderr_has("go with a build, `check` and `plan`").exits(2);
    p.run(["check", "--since", "HEAD", "--files", "a"]).exits(2);
    p.run(["check", "--staged", "--since", "HEAD"]).stderr_has("do not go together with `--staged`").exits(2);
}

#[test]
fn a_file_that_is_not_there_gets_a_notice() {
    let p = project();
    let notice = "   notice  --files notes/44.md: there is no such file; did you mean `notes/";
    let said = |args: &[&str]| p.run(args.iter().copied()).stderr;
    for args in
        [&["--files", "notes/44.md"][..], &["check", "--files", "notes/44.md"], &["plan", "--files", "notes/44.md"]]
    {
        let said = said(args);
        assert!(said.contains(notice), "{said}");
    }
    p.run(["--files", "nosuch"]).stderr_has("--files nosuch: there is no such file").exits(0);
    p.run(["--files", "README.md"]).stderr_has("nothing to do: nothing is made from what changed").exits(0);
    // What is there, what is made and what git says is gone is no slip of the finger.
    p.remove("out/1.txt").remove("notes/3.md");
    for args in [
        &["check", "--files", "README.md", "out/1.txt"][..],
        &["check", "--since", "HEAD"],
        &["-s", "--files", "nosuch"],
    ] {
        let said = said(args);
        assert!(!said.contains("notice"), "{args:?}: {said}");
    }
}
