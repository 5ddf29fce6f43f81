//! The lock as others have it: merged by git, with a conflict in it, damaged; and what a run of some targets does to the rest.

use expect_test::expect;

use crate::edits::git;
use crate::project::Project;

/// A page for each file of `in`, in a repository; the lock and the pages are committed.
fn repository(names: &[&str]) -> Project {
    let rules = "version: 1\nrules:\n  pages: {foreach: in/*, output: \"out/{{item.name}}\", template: t.hbs}\n";
    let mut p = Project::new().file("Genfile", rules).file("t.hbs", "{{item.text}}").file(".gitignore", ".genmake/\n");
    for name in names {
        p = p.file(&format!("in/{name}"), &format!("{name}\n"));
    }
    p.run([]).exits(0);
    git(&p, "git init -q -b main && git add -A && git commit -qm first");
    p
}

const NAMES: [&str; 9] = ["b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9"];

/// Builds what a change makes of `main` on a branch of its own, and commits it.
fn branch(p: &Project, name: &str, changes: &[(&str, &str)]) {
    git(p, &format!("git checkout -q main && git checkout -q -b {name}"));
    for (path, text) in changes {
        p.edit(path, text);
    }
    p.run([]).exits(0);
    git(p, &format!("git add -A && git commit -qm {name}"));
}

fn lines(p: &Project) -> Vec<String> {
    p.read("Genfile.lock").lines().map(str::to_owned).collect()
}

#[test]
fn branches_that_add_targets_far_apart_merge_without_conflict() {
    let p = repository(&NAMES);
    branch(&p, "left", &[("in/a0", "left\n")]);
    branch(&p, "right", &[("in/c0", "right\n")]);
    let said = git(&p, "git merge -q --no-edit left && echo merged");
    assert!(said.ends_with("merged\n") && !said.contains("CONFLICT"), "{said}");
    // What came of it is what a run would have written, also without what this machine remembers.
    for _ in 0..2 {
        let before = (p.tree(), p.stamps());
        p.run(["check"]).exits(0);
        p.run(["--frozen"]).exits(0);
        p.run([]).stderr_has("nothing to do: 11 targets are up to date").exits(0);
        assert_eq!((p.tree(), p.stamps()), before);
        p.remove(".genmake");
    }
}

#[test]
fn conflicts_in_the_lock_are_settled_by_what_is_on_disk() {
    for style in ["merge", "diff3", "zdiff3"] {
        let p = repository(&NAMES);
        branch(&p, "left", &[("in/b4", "left\n"), ("in/b7", "left\n")]);
        branch(&p, "right", &[("in/b5", "right\n"), ("in/b6", "right\n")]);
        git(&p, &format!("git config merge.conflictStyle {style}"));
        let said = git(&p, "git merge --no-edit left || true");
        assert!(said.contains("CONFLICT (content): Merge conflict in Genfile.lock"), "{said}");
        assert!(!said.contains("in out/"), "the pages merge: {said}");
        assert!(p.read("Genfile.lock").contains("<<<<<<<"));
        p.remove(".genmake");
        p.run(["check"]).exits(0);
        p.run([]).stderr_has("up to date").exits(0);
        // One line a target, as a run that knows nothing would write them.
        let settled = p.read("Genfile.lock");
        p.remove("Genfile.lock").remove(".genmake").run([]).exits(0);
        assert_eq!(p.read("Genfile.lock"), settled, "{style}");
    }
}

#[test]
fn where_no_side_of_a_conflict_is_on_disk_the_output_is_a_persons() {
    let p = repository(&["b1", "b2"]);
    branch(&p, "left", &[("in/b1", "left\n")]);
    branch(&p, "right", &[("in/b1", "right\n")]);
    git(&p, "git merge --no-edit left || true");
    let conflict = p.read("out/b1");
    assert!(conflict.contains("<<<<<<<"));
    p.edit("in/b1", "both\n").run([]).stderr_has("`out/b1` was edited by hand").exits(2);
    assert_eq!(p.read("out/b1"), conflict);
    // Whatever is said of it, the lock is clean again.
    p.run(["--force"]).exits(0);
    assert_eq!((p.read("out/b1").as_str(), lines(&p).len()), ("both\n", 3));
    p.run(["check"]).exits(0);
}

#[test]
fn a_damaged_lock_is_an_error_that_says_what_to_run() {
    let p = repository(&["b1", "b2"]);
    let whole = p.read("Genfile.lock");
    p.edit("Genfile.lock", &whole.replace("key:", "kez:"));
    for args in [&[][..], &["check"], &["plan"], &["accept", "out/b1"], &["diff"], &["--frozen"]] {
        let before = p.tree();
        p.run(args.iter().copied())
            .stderr_has("the lock cannot be read: this line is no entry")
            .stderr_has("`git checkout HEAD -- Genfile.lock` takes it back")
            .exits(2);
        assert_eq!(p.tree(), before, "{args:?}");
    }
    git(&p, "git checkout -q HEAD -- Genfile.lock");
    p.run(["check"]).exits(0);
    // Or without it: what stands there is adopted.
    p.remove("Genfile.lock").remove(".genmake").run([]).exits(0);
    assert_eq!(p.read("Genfile.lock"), whole);
}

#[test]
fn what_is_no_lock_at_all_is_told_as_such() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  a: {template: t.hbs, output: a.txt}\n")
        .file("t.hbs", "a")
        .file("Genfile.lock", "");
    let way_out = "`git checkout HEAD -- Genfile.lock` takes it back";
    for args in [&[][..], &["check"], &["-B"]] {
        p.run(args.iter().copied()).stderr_has("it is empty").stderr_has(way_out).exits(2);
    }
    fs_err::write(p.path("Genfile.lock"), b"genmake-lock 1\n\xff\n").expect("a file");
    p.run([]).stderr_has("is not UTF-8").stderr_has(way_out).exits(2);
    p.edit("Genfile.lock", "genmake-lock 2\n").run([]).stderr_has("use the genmake that wrote it").exits(2);
    p.remove("Genfile.lock").run([]).exits(0);
    let lock = p.read("Genfile.lock");
    let line = lock.lines().nth(1).expect("a line").replace("rule:a", "rule:b");
    p.edit("Genfile.lock", &format!("{lock}{line}\nx\n")).run([]).stderr_has("Genfile.lock:4:1").exits(2);
    // Two lines for a target are what a merge of both sides leaves.
    p.edit("Genfile.lock", &format!("{lock}{line}\n")).run([]).exits(0);
    assert_eq!(p.read("Genfile.lock"), lock);
    p.remove("Genfile.lock");
    fs_err::create_dir(p.path("Genfile.lock")).expect("a folder");
    p.run([]).stderr_has(way_out).exits(2);
}

#[test]
fn a_run_of_some_targets_touches_their_lines_alone() {
    let p = repository(&["b1", "b2", "b3", "b4", "b5"]);
    // Of what is not asked for one has lost its rule, one is changed, one is edited and one is in conflict.
    p.remove("in/b2").edit("in/b3", "changed\n").edit("out/b4", "mine\n");
    let mut text = lines(&p);
    let at = text.iter().position(|line| line.starts_with("out/b5 ")).expect("its line");
    let key = text[at].split(" key:").nth(1).and_then(|rest| rest.get(..64)).expect("its key").to_owned();
    let other = text[at].replace(&key, &"0".repeat(64));
    text.splice(
        at..=at,
        ["<<<<<<< ours".to_owned(), text[at].clone(), "=======".to_owned(), other, ">>>>>>> theirs".to_owned()],
    );
    p.edit("Genfile.lock", &(text.join("\n") + "\n")).edit("in/b1", "new\n");
    p.run(["out/b1"]).stderr_has("render  out/b1").exits(0);
    let now = lines(&p);
    let entries = |lines: &[String]| -> Vec<String> {
        lines.iter().filter(|line| line.starts_with("out/") && !line.starts_with("out/b1 ")).cloned().collect()
    };
    assert_eq!(entries(&now), entries(&text), "the lines of others");
    assert_eq!(now.iter().filter(|line| line.starts_with("out/b1 ")).count(), 1);
    assert!(now.contains(&"<<<<<<<".to_owned()), "the conflict of another is left to it");
    // So does `accept`.
    p.run(["accept", "out/b4"]).exits(0);
    let accepted = lines(&p);
    let moved: Vec<&String> = accepted.iter().filter(|line| !now.contains(line)).collect();
    assert!(moved.len() == 1 && moved[0].starts_with("out/b4 "), "{moved:?}");
    assert_eq!(accepted.len(), now.len());
    // A run of everything settles the rest.
    p.run([])
        .stderr(expect![[r#"
               delete  out/b2: no rule makes it any more; its text is kept in the store
               render  out/b3
            done: 1 rendered, 3 fresh in [TIME]
        "#]])
        .exits(0);
    let paths: Vec<String> = lines(&p).iter().filter_map(|line| line.split(' ').next().map(str::to_owned)).collect();
    assert_eq!(paths, ["genmake-lock", "out/b1", "out/b3", "out/b4", "out/b5"]);
    p.run(["check"]).exits(0);
}

#[test]
fn an_orphan_whose_line_is_in_conflict_is_judged_by_what_is_on_disk() {
    let p = repository(&["b1", "b2"]);
    let ours = p.read("Genfile.lock");
    branch(&p, "left", &[("in/b1", "left\n")]);
    let theirs = p.read("Genfile.lock");
    let line = |text: &str| text.lines().find(|line| line.starts_with("out/b1 ")).expect("its line").to_owned();
    let open = format!("<<<<<<< a\n{}\n=======\n{}\n>>>>>>> b", line(&ours), line(&theirs));
    p.edit("Genfile.lock", &ours.replace(&line(&ours), &open)).remove("in/b1");
    // The second side is what stands there: nobody edited it.
    p.run([]).stderr_has("delete  out/b1: no rule makes it any more").exits(0);
    assert!(!p.exists("out/b1"));
    p.run(["check"]).exits(0);
}
