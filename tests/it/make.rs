//! GNU make and ninja call genmake: its jobs are theirs, its flags make's, and what it rested on is theirs to read.

use std::path::Path;
use std::process::Command;

use crate::clients::client;
use crate::docs::blocks;
use crate::project::Project;

/// What a tool said and how it ended, with genmake found by its name.
struct Called {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

fn call(project: &Project, tool: &Path, args: &[&str]) -> Called {
    let genmake = Path::new(env!("CARGO_BIN_EXE_genmake")).parent().expect("a folder").to_owned();
    let as_genmake = project.command([]);
    let env = |wanted: &str| {
        as_genmake
            .get_envs()
            .find(|(name, _)| *name == wanted)
            .and_then(|(_, value)| value)
            .expect("a variable")
            .to_owned()
    };
    let path = std::env::join_paths([genmake].into_iter().chain(std::env::split_paths(&env("PATH")))).expect("a PATH");
    let mut command = Command::new(tool);
    command.args(args).current_dir(project.root()).env_clear().env("PATH", path).env("HOME", env("HOME"));
    let output = command.env("NO_COLOR", "1").env("LC_ALL", "C").output().expect("a tool that can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Called { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Called {
    #[track_caller]
    fn exits(&self, status: i32) -> &Called {
        assert_eq!(self.status, Some(status), "{}{}", self.stdout, self.stderr);
        self
    }

    fn ran_genmake(&self) -> bool {
        self.stdout.lines().any(|line| line.contains("genmake "))
    }
}

/// Eight commands in one run, and two of make's beside it. Each notes how many run.
fn busy(genmake: &str) -> Project {
    Project::new()
        .file(
            "Genfile",
            "version: 1\nrules:\n  busy:\n    foreach: [a, b, c, d, e, f, g, h]\n    output: \"out/{{item}}.txt\"\n    \
             inputs: [work.sh]\n    run: sh work.sh > {{output}}\n  all:\n    output: all.md\n    inputs: { parts: \"rule:busy\" }\n    \
             template: all.md.hbs\n",
        )
        .file("all.md.hbs", "{{len inputs.parts}}\n")
        .file(
            "work.sh",
            "mkdir running/$$\nls running | wc -l >> seen\nseq 1 20000 > /dev/null\nls running | wc -l >> seen\nrmdir running/$$\n",
        )
        .file("Makefile", &format!("all: generated one two\ngenerated:\n\t{genmake}\none two:\n\tsh work.sh\n"))
}

/// The most that ran at once, after a clean build.
fn most_at_once(project: &Project, make: &Path, args: &[&str]) -> (usize, Called) {
    for left in ["out", "all.md", ".genmake", "Genfile.lock", "running", "seen"] {
        if project.exists(left) {
            project.remove(left);
        }
    }
    project.edit("running/.keep", "");
    let called = call(project, make, args);
    called.exits(0);
    assert_eq!(project.read("all.md"), "8\n");
    let most = project.read("seen").lines().map(|line| line.trim().parse().expect("a number")).max();
    (most.expect("some ran"), called)
}

#[test]
fn no_more_jobs_at_once_than_make_gives() {
    let Some(make) = client("make") else { return };
    let project = busy("+genmake");
    for (jobs, most) in [("-j1", 1), ("-j2", 2), ("-j3", 3)] {
        let (seen, called) = most_at_once(&project, &make, &[jobs]);
        // What make says of tokens that did not come back.
        assert!(
            seen <= most && !called.stderr.contains("token") && !called.stderr.contains("notice"),
            "{seen}: {}",
            called.stderr
        );
    }
    // Without make there is no bound but its own.
    assert!(most_at_once(&project, Path::new("genmake"), &["-j2"]).0 <= 2);

    // Two that wait for each other: there are tokens, and they are used.
    let wait = "mkfifo a b\n";
    let project =
        Project::new().file("Makefile", &format!("all:\n\t{wait}\t+genmake\n").replace("mkfifo", "@mkfifo")).file(
            "Genfile",
            "version: 1\nrules:\n  one: { output: one.txt, run: \"echo 1 > a; cat b > {{output}}\" }\n  \
             two: { output: two.txt, run: \"cat a > {{output}}; echo 2 > b\" }\n",
        );
    call(&project, &make, &["-j2"]).exits(0);
    assert_eq!(project.read("one.txt") + &project.read("two.txt"), "2\n1\n");
}

#[test]
fn what_make_does_not_open_and_what_is_said_here() {
    let Some(make) = client("make") else { return };
    let (seen, called) = most_at_once(
        &busy("genmake --version > /dev/null; genmake"),
        &make,
        &["-j3", "--output-sync=none", "generated"],
    );
    // By a name, as make 4.4 has it, it is open to all.
    let is_open = !called.stderr.contains("   notice  make's job server is not open to genmake");
    assert!(seen == 1 || is_open, "{seen}: {}", called.stderr);
    let called = most_at_once(&busy("+genmake -j1"), &make, &["-j3", "generated"]);
    assert!(called.0 == 1 && called.1.stderr.contains("   notice  `-j 1` is said here"), "{}", called.1.stderr);
}

#[test]
fn flags_of_make_are_genmakes() {
    let Some(make) = client("make") else { return };
    let project = Project::new()
        .file("Makefile", "all:\n\t+genmake\n")
        .file(
            "Genfile",
            "version: 1\nrules:\n  bad: { output: a.txt, run: \"false\" }\n  good: { output: b.txt, run: \"echo b > {{output}}\" }\n",
        );
    let planned = call(&project, &make, &["-n"]);
    assert!(planned.exits(0).stdout.contains("2 to run"), "{}", planned.stdout);
    assert!(!project.exists("b.txt") && !project.exists(".genmake"));
    // As from any make that it calls: 1 is 2 to its caller.
    call(&project, &make, &["-q"]).exits(1);
    assert!(!project.exists("b.txt"));
    let failed = call(&project, &make, &["-k", "-j1"]);
    assert!(failed.exits(2).stderr.contains("Error 2"), "{}", failed.stderr);
    assert_eq!(project.read("b.txt"), "b\n");
    project.edit("Genfile", "version: 1\nrules:\n  good: { output: b.txt, run: \"echo c > {{output}}\" }\n");
    let quiet = call(&project, &make, &["-s"]);
    assert_eq!((quiet.exits(0).stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let again = call(&project, &make, &["-B"]);
    assert!(again.exits(0).stderr.contains("1 ran"), "{}", again.stderr);

    // Whatever stands there, it is make's, and the command line goes before it.
    for flags in ["\u{7}", "--", " -j -- X=\\", "--jobserver-auth=", "é=", "w -- n=n"] {
        let mut genmake = project.command(["--color", "never"]);
        project.finish(genmake.env("MAKEFLAGS", flags).spawn().expect("genmake")).stderr_has("nothing to do").exits(0);
    }
    let mut genmake = project.command(["clean"]);
    project.finish(genmake.env("MAKEFLAGS", "n").spawn().expect("genmake")).exits(0);
    assert!(project.exists("b.txt"));
}

/// The project of the page about make and ninja.
fn page() -> Project {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/make.md");
    let text = fs_err::read_to_string(page).expect("a page");
    let project = Project::new().file("spec/a.txt", "one\n").file("spec/b.txt", "two\n");
    blocks(&text).into_iter().fold(project, |project, block| {
        match block.info.split_whitespace().find_map(|word| word.strip_prefix("file=")) {
            Some(path) => project.file(path, &block.text),
            None => project,
        }
    })
}

#[test]
fn a_makefile_includes_what_genmake_rested_on() {
    let Some(make) = client("make") else { return };
    let project = page();
    assert!(call(&project, &make, &[]).exits(0).ran_genmake());
    assert_eq!(project.read("handbook.txt"), "# a\none\n\n# b\ntwo\n\n");
    let depfile = project.read("generated.d");
    let unchanged = call(&project, &make, &[]);
    assert!(unchanged.exits(0).stdout.contains("Nothing to be done"), "{}", unchanged.stdout);

    // A file, a new one, one that is gone, the recipe; and none of them twice.
    let check = |handbook: &str| {
        assert!(call(&project, &make, &[]).exits(0).ran_genmake(), "{handbook}");
        assert_eq!(project.read("handbook.txt"), handbook);
        assert!(!call(&project, &make, &[]).exits(0).ran_genmake(), "{handbook}");
    };
    project.edit("spec/a.txt", "ONE\n");
    check("# a\nONE\n\n# b\ntwo\n\n");
    project.edit("spec/c$d.txt", "three\n");
    check("# a\nONE\n\n# b\ntwo\n\n# c$d\nthree\n\n");
    project.remove("spec/c$d.txt");
    check("# a\nONE\n\n# b\ntwo\n\n");
    project.edit("templates/page.md.hbs", "{{item.text}}");
    // What make only asks, or says, makes nothing: not even what it includes.
    for (flag, exit) in [("-n", 0), ("-q", 1)] {
        let called = call(&project, &make, &[flag]);
        assert!(called.exits(exit).stdout.contains("render  docs/a.md") == (flag == "-n"), "{}", called.stdout);
        assert_eq!(project.read("docs/a.md"), "# a\nONE\n\n");
    }
    check("ONE\ntwo\n");
    assert_eq!(project.read("generated.d"), depfile);
}

#[test]
fn ninja_reads_what_genmake_rested_on() {
    let Some(ninja) = client("ninja") else { return };
    let project = page();
    let is_done = |called: &Called| called.exits(0).stdout.contains("no work to do");
    assert!(!is_done(&call(&project, &ninja, &[])));
    assert!(is_done(&call(&project, &ninja, &[])));
    assert_eq!(project.read("handbook.txt"), "# a\none\n\n# b\ntwo\n\n");
    for name in ["spec/a.txt", "spec/c d#e$f.txt"] {
        for text in ["ONE\n", "1\n"] {
            project.edit(name, text);
            let called = call(&project, &ninja, &["-v"]);
            assert!(called.exits(0).ran_genmake(), "{name}: {}", called.stdout);
            assert!(is_done(&call(&project, &ninja, &[])), "{name}");
        }
    }
    assert_eq!(project.read("handbook.txt"), "# a\n1\n\n# b\ntwo\n\n");
    // What comes out as it was has nothing made again.
    project.edit("templates/page.md.hbs", "# {{item.stem}}\n{{item.text}}\n{{!-- the same --}}");
    let called = call(&project, &ninja, &["-v"]);
    assert!(called.exits(0).ran_genmake() && !called.stdout.contains("cat "), "{}", called.stdout);
}

#[test]
fn a_depfile_is_written_by_builds_that_succeed_and_no_more_often_than_needed() {
    let project = Project::new()
        .file("sub/Genfile", "version: 1\nrules:\n  a: { output: out/a.md, inputs: { x: x.txt }, template: t/a.hbs }\n")
        .file("sub/x.txt", "x\n")
        .file("sub/t/a.hbs", "{{inputs.x.text}}{{#if inputs.y}}{{/if}}");
    project.run(["-C", "sub", "--depfile", "a.d", "-n"]).exits(2);
    project.run(["-C", "sub", "--depfile", "a.d"]).exits(2);
    assert!(!project.exists("sub/a.d"));
    project.edit("sub/t/a.hbs", "{{inputs.x.text}}").edit("here/x", "");
    project.run(["-C", "here", "-f", "../sub/Genfile", "--depfile", "a.d"]).exits(0);
    let rule = "a.d \\\n ../sub/out/a.md: \\\n ../sub/Genfile \\\n ../sub/t/a.hbs \\\n ../sub/x.txt \\\n ../sub/t\n";
    assert_eq!(project.read("here/a.d").split_inclusive("\n\n").next(), Some(format!("{rule}\n").as_str()));
    let before = project.stamps();
    project.run(["-C", "here", "-f", "../sub/Genfile", "--depfile", "a.d"]).stderr_has("nothing to do").exits(0);
    assert_eq!(project.stamps(), before);
    project.run(["-C", "here", "-f", "../sub/Genfile", "--depfile", "b.d", "--since", "HEAD"]).exits(2);
    // An input that is newer, and says the same.
    let file = fs_err::File::options().append(true).open(project.path("sub/x.txt")).expect("a file");
    file.file().set_modified(std::time::SystemTime::now()).expect("a time");
    project.run(["-C", "here", "-f", "../sub/Genfile", "--depfile", "a.d"]).exits(0);
    let after = project.stamps();
    let changed: Vec<&String> = after
        .iter()
        .filter(|(path, stamp)| !path.contains(".genmake") && before.get(*path) != Some(stamp))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(changed, ["here/a.d", "sub/x.txt"]);
}
