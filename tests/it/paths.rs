//! Paths that lead where nothing may be written or read: each is refused at load with its place in the Genfile, and not one byte
//! lands outside the root.

use std::collections::BTreeMap;
use std::path::Path;

use crate::project::Project;

/// A project in a folder of its own, and beside it what must stay as it is.
fn nested() -> Project {
    Project::new().file("outside/theirs.txt", "theirs\n").file("root/t.hbs", "made\n").file("root/in.txt", "x\n")
}

/// All there is, but what genmake keeps for itself.
fn tree(p: &Project) -> BTreeMap<String, String> {
    p.tree().into_iter().filter(|(path, _)| !path.starts_with("root/.genmake/")).collect()
}

/// That a build of these rules is refused before anything is made, with these words at these places, all in one run.
#[track_caller]
fn refused(p: &Project, genfile: &str, says: &[(&str, usize)]) {
    p.edit("root/Genfile", genfile);
    let before = tree(p);
    let run = p.run(["-C", "root", "--force", "--yes"]);
    let places: Vec<(&str, String)> = says.iter().map(|(what, line)| (*what, format!("[Genfile:{line}:"))).collect();
    for (what, place) in &places {
        let blocks = run.stderr.split("genmake::").filter(|block| block.contains(place.as_str()));
        let told: String = blocks.collect::<String>().replace("\n  | ", " ");
        assert!(told.contains(what), "{place} does not say {what:?}:\n{}", run.stderr);
    }
    run.exits(2);
    assert_eq!(tree(p), before, "something was written");
}

const BAD: &[(&str, &str)] = &[
    ("../outside/theirs.txt", "leads outside the root"),
    ("a/../../outside/theirs.txt", "leads outside the root"),
    ("/etc/passwd", "is absolute"),
    ("C:\\\\Windows\\\\x", "is absolute"),
    ("C:/Windows/x", "is absolute"),
    ("\\\\\\\\server\\\\share\\\\x", "holds a backslash"),
    ("//server/share/x", "is absolute"),
    ("a\\0b", "holds a control character"),
    (".git/hooks/post-checkout", "lies in `.git`"),
    (".GIT/config", "lies in `.git`"),
    ("sub/.Git/config", "lies in `.git`"),
    (".g\\u200cit/config", "lies in `.git`"),
    (".git./config", "lies in `.git`"),
    ("GIT~1/config", "lies in `.git`"),
    (".git::$INDEX_ALLOCATION/config", "lies in `.git`"),
    (".genmake/state", "lies in `.git` or `.genmake`"),
];

/// What only outputs are refused for: a file of such a name may lie there, and cannot be made on every system.
const BAD_OUTPUTS: &[(&str, &str)] = &[
    ("CON", "Windows takes for a device"),
    ("docs/nul.txt", "Windows takes for a device"),
    ("COM1.txt", "Windows takes for a device"),
    ("docs/a.", "ends with a dot or a space"),
    ("docs /a", "ends with a dot or a space"),
    ("GENFILE", "is genmake's own"),
    ("genfile.LOCK", "is genmake's own"),
    ("docs/", "is a folder"),
    ("builtin:go/rules.yaml", "names a file of a pack"),
];

/// A Genfile with a rule a line, from the second on, and what each is refused for.
fn of_rules<'a>(rule: &str, bad: impl Iterator<Item = &'a (&'a str, &'a str)>) -> (String, Vec<(&'a str, usize)>) {
    let mut genfile = "version: 1\nrules:\n".to_owned();
    let mut says = Vec::new();
    for (at, (path, why)) in bad.enumerate() {
        genfile += &format!("  r{at}: {{{}}}\n", rule.replace("PATH", path).replace("AT", &at.to_string()));
        says.push((*why, at + 3));
    }
    (genfile, says)
}

#[test]
fn outputs() {
    let p = nested();
    let long = format!("docs/{}", "n".repeat(300));
    let long = [(long.as_str(), "longer than file systems allow")];
    let (genfile, says) = of_rules("template: t.hbs, output: \"PATH\"", BAD.iter().chain(BAD_OUTPUTS).chain(&long));
    refused(&p, &genfile, &says);
    // A path that an expression makes is held to the same.
    let (genfile, says) = of_rules(
        "template: t.hbs, foreach: [\"PATH\"], output: \"{{item}}\"",
        BAD.iter().chain(BAD_OUTPUTS).chain(&long),
    );
    refused(&p, &genfile, &says);
}

#[test]
fn whatever_is_read() {
    let p = nested();
    for rule in [
        "template: t.hbs, output: oAT, inputs: [\"PATH\"]",
        "template: t.hbs, output: oAT, inputs: [{path: \"PATH\", optional: true}]",
        "template: t.hbs, output: oAT, inputs: [\"PATH#sections\"]",
        "template: t.hbs, foreach: \"PATH\", output: \"oAT{{item.name}}\"",
        "template: \"PATH\", output: oAT",
        "template: t.hbs, output: oAT, check: {schema: \"PATH\"}",
    ] {
        let (genfile, says) = of_rules(rule, BAD.iter());
        refused(&p, &genfile, &says);
    }
    let mut genfile = "version: 1\ninclude:\n".to_owned();
    let mut says = Vec::new();
    for (at, (path, why)) in BAD.iter().enumerate() {
        genfile += &format!("  - \"{path}\"\n");
        says.push((*why, at + 3));
    }
    refused(&p, &(genfile + "rules: {}\n"), &says);
}

#[test]
fn names_that_some_system_takes_for_one() {
    let p = nested();
    let rule = |name: &str, output: &str| format!("  {name}: {{template: t.hbs, output: \"{output}\"}}\n");
    let genfile = |rules: &[(&str, &str)]| {
        rules.iter().fold("version: 1\nrules:\n".to_owned(), |text, (name, output)| text + &rule(name, output))
    };
    let twins = "are one file on some systems";
    refused(&p, &genfile(&[("a", "docs/A.md"), ("b", "docs/a.md")]), &[(twins, 4)]);
    refused(&p, &genfile(&[("a", "Docs/a.md"), ("b", "docs/a.md")]), &[(twins, 4)]);
    refused(&p, &genfile(&[("a", "caf\\u00e9.md"), ("b", "cafe\\u0301.md")]), &[(twins, 4)]);
    refused(&p, &genfile(&[("a", "stra\\u00dfe"), ("b", "STRASSE")]), &[(twins, 4)]);
    refused(&p, &genfile(&[("a", "Docs"), ("b", "docs/a.md")]), &[("would lie in `Docs`", 4)]);
    refused(&p, &genfile(&[("a", "T.HBS")]), &[("`t.hbs`, which is read", 3)]);
    let input = "version: 1\nrules:\n  a: {template: t.hbs, output: IN.txt}\n  b: {template: t.hbs, output: b, inputs: [in.txt]}\n";
    refused(&p, input, &[("`in.txt`, which is read", 3)]);
    p.edit("root/inc.yaml", "rules: {}\n");
    let included = "version: 1\ninclude: [inc.yaml]\nrules: {a: {template: t.hbs, output: INC.yaml}}\n";
    refused(&p, included, &[("`inc.yaml`, which is read", 3)]);
    // Files that differ in more than that are files of their own.
    p.edit("root/Genfile", &genfile(&[("a", "docs/a.md"), ("b", "Docs2/a.md"), ("c", "docs/a.mdx"), ("d", "cafe.md")]));
    p.run(["-C", "root"]).exits(0);
}

#[cfg(unix)]
fn link(p: &Project, target: impl AsRef<Path>, at: &str) {
    std::os::unix::fs::symlink(target, p.path(at)).expect("a symlink can be made");
}

#[cfg(unix)]
#[test]
fn folders_that_are_links_to_elsewhere() {
    let p = nested();
    link(&p, "../outside", "root/out");
    link(&p, p.path("outside"), "root/absolute");
    link(&p, "..", "root/up");
    link(&p, ".git", "root/git");
    link(&p, "gone", "root/dangling");
    p.edit("root/.git/config", "");
    let why = "leads outside the root through a symlink";
    let folders = ["out", "absolute", "up/outside", "git", "dangling"].map(|folder| format!("{folder}/theirs.txt"));
    let bad: Vec<(&str, &str)> = folders.iter().map(|path| (path.as_str(), why)).collect();
    for rule in [
        "template: t.hbs, output: \"PATH\"",
        "template: t.hbs, foreach: [x], output: \"PATH\"",
        "run: \"echo x > {{output}}\", output: \"PATH\"",
        "template: t.hbs, output: oAT, inputs: [\"PATH\"]",
        "template: t.hbs, output: oAT, inputs: [\"PATH*\"]",
        "template: t.hbs, foreach: \"PATH*\", output: \"oAT{{item.name}}\"",
        "template: \"PATH\", output: oAT",
        "template: t.hbs, output: oAT, check: {schema: \"PATH\"}",
    ] {
        let (genfile, says) = of_rules(rule, bad.iter());
        refused(&p, &genfile, &says);
    }
    for path in &folders {
        refused(&p, &format!("version: 1\ninclude: [{path}]\nrules: {{}}\n"), &[(why, 2)]);
    }
    // A link that stays inside is as good as a folder, and a file that is itself a link is read.
    link(&p, "docs", "root/inside");
    link(&p, "../outside/theirs.txt", "root/read.txt");
    p.edit("root/docs/x", "")
        .edit("root/Genfile", "version: 1\nrules: {a: {template: t.hbs, output: inside/a.md, inputs: [read.txt]}}\n");
    p.run(["-C", "root"]).exits(0);
    assert_eq!(p.read("root/docs/a.md"), "made\n");
}

#[test]
fn lines_of_a_lock_and_what_the_store_restores() {
    let p = nested().file("root/Genfile", "version: 1\nrules: {a: {template: t.hbs, output: a.txt}}\n");
    p.run(["-C", "root"]).exits(0);
    let lock = p.read("root/Genfile.lock");
    p.remove("root/a.txt");
    for (path, _) in BAD.iter().chain(BAD_OUTPUTS.iter().take(5)) {
        // An orphan of such a path would be deleted, and what the lock names restored.
        let line = lock.lines().nth(1).expect("a line").replacen("a.txt", &format!("\"{path}\""), 1);
        p.edit("root/Genfile.lock", &format!("genmake-lock 1\n{line}\n"));
        let before = tree(&p);
        for args in
            [&["-C", "root"][..], &["-C", "root", "--frozen"], &["-C", "root", "clean"], &["-C", "root", "check"]]
        {
            let run = p.run(args.iter().copied());
            assert!(run.stderr.contains("genmake::bad_lock"), "{path}: {}", run.stderr);
            assert!(run.stderr.contains("[Genfile.lock:2:1]"), "{path}: {}", run.stderr);
            run.exits(2);
        }
        assert_eq!(tree(&p), before, "{path}");
    }
}
