//! Commands of the Genfile: rules that run one, filters, checks, modes, and what a failure means.

use expect_test::expect;

use crate::project::Project;
use crate::server::Server;

/// A project of these rules, without a provider.
fn project(rules: &str) -> Project {
    Project::new().file("Genfile", &format!("version: 1\nrules:\n{rules}"))
}

/// A project of these rules, with the server as their provider.
fn asking(server: &Server, rules: &str) -> Project {
    let head = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\"}}\nrules:\n";
    Project::new().genfile_for(server, &format!("{head}{rules}")).file("p.prompt", "Write {{output}}.\n")
}

/// How often a command noted down that it ran.
fn count(p: &Project, log: &str) -> usize {
    if p.exists(log) { p.read(log).lines().count() } else { 0 }
}

// ---- rules that run a command ----

#[test]
fn a_command_makes_outputs_from_what_it_declares() {
    let p = project(
        "  up: {inputs: [in.txt], output: out/up.txt, run: \"echo x >> log; tr a-z A-Z < in.txt > {{output}}\"}\n",
    )
    .file("in.txt", "hello\n")
    .file("other.txt", "1\n");
    p.run(["plan"]).stdout_has("run  out/up.txt").stdout_has("1 to run").exits(0);
    assert!(!p.exists("out"));
    p.run([]).stderr_has("run  out/up.txt").stderr_has("1 ran").exits(0);
    assert_eq!(p.read("out/up.txt"), "HELLO\n");
    p.run([]).stderr_has("nothing to do").exits(0);
    p.edit("other.txt", "2\n").run(["check"]).exits(0);
    assert_eq!(count(&p, "log"), 1);
    p.edit("in.txt", "bye\n").run(["check"]).stdout_has("input changed: in.txt").exits(1);
    p.run([]).exits(0);
    assert_eq!(p.read("out/up.txt"), "BYE\n");
    // What was made once is in the store.
    p.edit("in.txt", "hello\n").run([]).stderr_has("restore  out/up.txt").exits(0);
    assert_eq!((p.read("out/up.txt").as_str(), count(&p, "log")), ("HELLO\n", 2));
    // A fresh clone has outputs and lock, and runs nothing.
    p.remove(".genmake").run(["--frozen"]).exits(0);
    p.run([]).stderr_has("nothing to do").exits(0);
    assert_eq!(count(&p, "log"), 2);
}

#[test]
fn values_in_a_command_are_quoted() {
    let p = project("  a: {foreach: \"in/*\", output: \"out/{{item.name}}\", run: \"cp {{item.path}} {{output}}\"}\n")
        .file("in/it's; touch gone $HOME.txt", "safe\n");
    p.run([]).exits(0);
    assert_eq!(p.read("out/it's; touch gone $HOME.txt"), "safe\n");
    assert!(!p.exists("gone"));
}

#[test]
fn an_item_of_a_command_is_an_input() {
    let p = project(
        "  a: {foreach: \"in/*\", output: \"out/{{item.name}}\", run: \"echo x >> log; cp {{item.path}} {{output}}\"}\n  b: {foreach: \"d.yaml#/l/*\", output: \"b{{item.value.n}}\", run: \"echo y >> blog; echo {{item.value.v}} > {{output}}\"}\n",
    )
    .file("in/a", "1")
    .file("in/b", "1")
    .file("d.yaml", "l: [{n: 1, v: x}, {n: 2, v: y}]\n");
    p.run([]).exits(0);
    p.edit("in/a", "2").run([]).exits(0);
    assert_eq!((p.read("out/a").as_str(), count(&p, "log")), ("2", 3));
    // An item that only moves within its file is the same.
    p.edit("d.yaml", "l: [{n: 0, v: w}, {n: 1, v: x}, {n: 2, v: y}]\n").run([]).exits(0);
    assert_eq!(count(&p, "blog"), 3);
    p.edit("d.yaml", "l: [{n: 0, v: w}, {n: 1, v: z}, {n: 2, v: y}]\n").run([]).exits(0);
    assert_eq!((p.read("b1").as_str(), count(&p, "blog")), ("z\n", 4));
}

#[test]
fn a_failed_command_is_shown_and_leaves_what_was_there() {
    let p = project("  a: {inputs: [in], output: out.txt, run: \"cat in > {{output}}; grep -q good in || { echo 'not good' >&2; exit 3; }\"}\n")
        .file("in", "good\n");
    p.run([]).exits(0);
    p.edit("in", "bad\n");
    p.run([])
        .stderr(expect![[r#"
                 fail  out.txt
            genmake::command_failed

              x rule `a`: `cat in > out.txt; grep -q good in || { echo 'not good' >&2; exit 3; }` ended with exit status: 3
               ,-[Genfile:3:3]
             2 | rules:
             3 |   a: {inputs: [in], output: out.txt, run: "cat in > {{output}}; grep -q good in || { echo 'not good' >&2; exit 3; }"}
               :   ^
               `----
              help: it said:
                    not good
                    what it, or somebody meanwhile, wrote to `out.txt` is kept as `.genmake/store/cas/1d/7a363ce12430881ec56c9cf1409c49c491043618e598c356e2959040872f5a`
            failed: 1 failed in [TIME]
        "#]])
        .exits(2);
    assert_eq!(p.read("out.txt"), "good\n");
    // It was not edited: once the command succeeds, all is well.
    p.edit("in", "good again\n").run([]).exits(0);
    assert_eq!(p.read("out.txt"), "good again\n");
}

#[test]
fn after_a_failure_no_command_is_begun_and_templates_are_rendered() {
    let rules = "  a: {output: a.txt, run: \"false\"}\n  b: {output: b.txt, run: \"echo b > b.txt\"}\n  c: {output: c.txt, template: t.hbs}\n";
    let p = project(rules).file("t.hbs", "t\n");
    p.run(["-j1"]).stderr_has("skip  b.txt").exits(2);
    assert!(!p.exists("b.txt") && p.exists("c.txt"));
    p.run(["-k", "-j1"]).exits(2);
    assert!(p.exists("b.txt"));
}

#[test]
fn an_output_that_the_command_does_not_make_is_an_error() {
    let p = project("  a: {outputs: {x: x.txt, y: y.txt}, run: \"echo 1 > x.txt\"}\n");
    p.run([]).stderr_has("genmake::not_made").stderr_has("succeeded and did not make `y.txt`").exits(2);
    assert!(!p.exists("x.txt"));
    // Also when something old stands there: it would pass for a result.
    let p = project("  a: {inputs: [in], output: x.txt, run: \"grep -q make in && echo 1 > x.txt; true\"}\n")
        .file("in", "make\n");
    p.run([]).exits(0);
    p.edit("in", "no\n").run([]).stderr_has("genmake::not_made").exits(2);
    assert_eq!(p.read("x.txt"), "1\n");
}

#[cfg(unix)]
#[test]
fn what_a_command_leaves_in_an_outputs_place_is_a_file() {
    let outside = Project::new().file("secret", "theirs\n");
    let link = format!("ln -s {} {{{{output}}}}", outside.path("secret").display());
    for (command, what) in [("mkdir {{output}}", "a folder"), (&*link, "a symlink")] {
        let p = project(&format!("  a: {{output: x.txt, run: \"{command}\"}}\n"));
        p.run([]).stderr_has("genmake::not_made").stderr_has(what).stderr_has("Genfile:3:3").exits(2);
        assert!(!p.path("x.txt").exists(), "{what} is taken away");
        p.edit("Genfile", "version: 1\nrules:\n  a: {output: x.txt, run: \"echo > x.txt\"}\n").run([]).exits(0);
    }
    assert_eq!(outside.read("secret"), "theirs\n");
}

#[test]
fn a_hand_edit_holds_a_command_up() {
    let p = project("  a: {inputs: [in], output: x.txt, run: \"cp in x.txt\"}\n").file("in", "1\n");
    p.run([]).exits(0);
    p.edit("x.txt", "mine\n").edit("in", "2\n");
    p.run([]).stderr_has("`x.txt` was edited by hand").exits(2);
    assert_eq!(p.read("x.txt"), "mine\n");
    p.run(["--force"]).exits(0);
    assert_eq!(p.read("x.txt"), "2\n");
}

#[test]
fn env_is_declared_and_is_an_input_of_commands_and_templates() {
    let rules = "  a: {env: [WHO], output: x.txt, run: \"echo {{env.WHO}} > {{output}}\"}\n  b: {env: [WHO], output: y.txt, template: t.hbs}\n";
    let p = project(rules).file("t.hbs", "{{env.WHO}}\n").env("WHO", "a b");
    p.run([]).exits(0);
    assert_eq!((p.read("x.txt").as_str(), p.read("y.txt").as_str()), ("a b\n", "a b\n"));
    let p = p.env("WHO", "c");
    p.run(["check"]).stdout_has("input changed: WHO").exits(1);
    p.run([]).exits(0);
    assert_eq!(p.read("x.txt"), "c\n");
    let p = project("  b: {output: y.txt, template: t.hbs}\n").file("t.hbs", "{{env.WHO}}\n").env("WHO", "c");
    p.run([])
        .stderr_has("unknown variable `env.WHO`")
        .stderr_has("`WHO` must be set, and stand in the rule's `env: [WHO]`")
        .exits(2);
}

#[test]
fn a_command_gets_no_key_of_a_provider() {
    let p = Project::new()
        .file(
            "Genfile",
            "version: 1\nproviders: {p: {api: openai, key_env: SECRET_KEY}}\nrules:\n  a: {output: x.txt, run: \"env > x.txt\"}\n",
        )
        .env("SECRET_KEY", "canary-123")
        .env("OTHER", "seen");
    p.run([]).exits(0);
    assert!(p.read("x.txt").contains("OTHER=seen") && !p.read("x.txt").contains("canary-123"));
}

#[cfg(unix)]
#[test]
fn what_a_killed_command_left_never_counts() {
    let p = project("  a: {inputs: [in], output: x.txt, run: \"if test -e slow; then echo $$ > pid; echo half > x.txt; echo > up; sleep 1000; fi; cp in x.txt\"}\n  b: {output: y.txt, template: t.hbs}\n")
        .file("t.hbs", "")
        .file("in", "whole\n")
        .file("slow", "");
    assert!(std::process::Command::new("mkfifo").arg(p.path("up")).status().unwrap().success());
    let mut child = p.spawn([]);
    // Opens when the command does, so that it is known to have written half.
    fs_err::read(p.path("up")).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    p.remove("up").remove("slow");
    assert_eq!(p.read("x.txt"), "half\n");
    #[cfg(target_os = "linux")]
    let left = p.read("pid");
    // Neither fresh nor edited: it is to be made, also after a run that had other things to do.
    p.edit("t.hbs", "t\n").run(["y.txt"]).exits(0);
    p.run(["check"]).stdout_has("x.txt").exits(1);
    p.run([]).stderr_has("run  x.txt").exits(0);
    assert_eq!(p.read("x.txt"), "whole\n");
    // It does not go on writing beside the one that took its place.
    #[cfg(target_os = "linux")]
    assert_eq!(fs_err::read(format!("/proc/{}/environ", left.trim())).unwrap_or_default(), b"");
    assert!(!p.exists(".genmake/running"));
    p.run([]).stderr_has("nothing to do").exits(0);
    p.edit("x.txt", "mine\n").run([]).stderr_has("was edited by hand").exits(2);
}

#[cfg(unix)]
#[test]
fn an_interrupted_command_is_ended_and_what_was_there_is_put_back() {
    let p = project("  a: {inputs: [in], output: x.txt, run: \"cp in x.txt; if grep -q slow in; then echo > up; sleep 1000; fi\"}\n")
        .file("in", "1\n");
    p.run([]).exits(0);
    p.edit("in", "slow\n");
    assert!(std::process::Command::new("mkfifo").arg(p.path("up")).status().unwrap().success());
    let child = p.spawn([]);
    fs_err::read(p.path("up")).unwrap();
    assert!(std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let run = p.finish(child).stderr_has("was interrupted");
    assert!(run.status.code().is_none(), "it ends as the signal would have it");
    assert_eq!(p.read("x.txt"), "1\n");
}

#[test]
fn what_a_command_reads_stands_still_while_it_runs() {
    // The command does what a person might do meanwhile.
    let p = project(
        "  a: {inputs: [in], output: x.txt, run: \"if test -e edit; then rm edit; echo 2 > in; fi; cp in x.txt\"}\n",
    )
    .file("in", "1\n")
    .file("edit", "");
    p.run([]).stderr_has("genmake::moved").stderr_has("`in` changed while").exits(2);
    assert!(!p.exists("x.txt"));
    p.run([]).exits(0);
    assert_eq!(p.read("x.txt"), "2\n");
    // What it made of the new input did not pass for what it makes of the old one.
    p.edit("in", "1\n").run([]).exits(0);
    assert_eq!(p.read("x.txt"), "1\n");
}

#[test]
fn an_edit_while_a_command_is_judged_is_kept() {
    for status in [0, 1] {
        let check = format!("if grep -q 2 in; then echo mine > x.txt; exit {status}; fi");
        let p = project(&format!(
            "  a: {{inputs: [in], outputs: {{x: x.txt, y: y.txt}}, run: \"cp in x.txt; cp in y.txt\", check: {{run: \"{check}\"}}}}\n"
        ))
        .file("in", "1\n");
        p.run([]).exits(0);
        p.edit("in", "2\n").run([]).exits(2);
        assert_eq!((p.read("x.txt").as_str(), p.read("y.txt").as_str()), ("mine\n", "1\n"));
        p.run([]).stderr_has("`x.txt` was edited by hand").exits(2);
    }
}

#[cfg(unix)]
#[test]
fn what_a_person_saves_while_a_command_runs_that_fails_is_kept() {
    let p =
        project("  a: {run: 'cat in > {{output}}', inputs: [in], output: a.txt}\n  b: {run: 'true', output: b.txt}\n");
    p.edit("in", "1\n").run(["a"]).exits(0);
    // As a person who saves meanwhile: nobody can tell that from what a command writes.
    p.edit("Genfile", &p.read("Genfile").replace("cat in > {{output}}", "echo mine > a.txt; exit 1"));
    p.run(["a"]).stderr_has("wrote to `a.txt` is kept as `.genmake/store/cas/").exits(2);
    assert_eq!(p.read("a.txt"), "1\n");
    assert!(p.everything().iter().any(|(path, bytes)| path.starts_with(".genmake/store/cas") && bytes == b"mine\n"));
}

#[test]
fn all_that_was_taken_away_is_put_back_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let p = project("  a: {inputs: [in], outputs: {x: x.sh, y: d/y.txt}, run: \"grep -q good in && cp in x.sh && chmod 755 x.sh && cp in d/y.txt\"}\n")
        .file("in", "good\n");
    let mode = || std::fs::metadata(p.path("x.sh")).unwrap().permissions().mode() & 0o777;
    p.run([]).exits(0);
    p.edit("in", "bad\n").run([]).exits(2);
    assert_eq!((p.read("x.sh").as_str(), mode()), ("good\n", 0o755));
    // Also where a place for the second output cannot be made.
    p.remove("d").edit("d", "a file\n").edit("in", "good 2\n").run([]).stderr_has("genmake::unwritable").exits(2);
    assert_eq!((p.read("x.sh").as_str(), p.read("d").as_str()), ("good\n", "a file\n"));
    p.remove("d").run([]).exits(0);
    assert_eq!(p.read("x.sh"), "good 2\n");
}

#[cfg(unix)]
#[test]
fn a_command_that_fails_leaves_the_folder_to_its_neighbour() {
    // The second has its folder when the first fails, and writes there when that is told.
    let p = project(
        "  a: {output: out/a, run: \"cat go; false\"}\n  b: {output: out/b, run: \"echo > up; cat on; echo 1 > out/b\"}\n",
    );
    for fifo in ["up", "go", "on"] {
        assert!(std::process::Command::new("mkfifo").arg(p.path(fifo)).status().unwrap().success());
    }
    let mut child = p.spawn(["-j2"]);
    fs_err::read(p.path("up")).unwrap();
    fs_err::write(p.path("go"), "").unwrap();
    p.wait_for_line(&mut child, "fail  out/a");
    fs_err::write(p.path("on"), "").unwrap();
    p.finish(child).exits(2);
    assert_eq!(p.read("out/b"), "1\n");
    // A folder that nothing came into does not stay.
    p.remove("go").remove("out").edit("Genfile", "version: 1\nrules:\n  a: {output: out/deep/a, run: \"false\"}\n");
    p.run([]).exits(2);
    assert!(!p.exists("out"));
}

#[test]
fn first_runs_at_once_take_turns() {
    for _ in 0..8 {
        let p = project("  a: {output: x.txt, run: \"echo x >> log; echo 1 > x.txt\"}\n");
        let children: Vec<_> = (0..6).map(|_| p.spawn([])).collect();
        for child in children {
            p.finish(child).exits(0);
        }
        assert_eq!(count(&p, "log"), 1);
        assert_eq!(p.read(".genmake/.gitignore"), "*\n");
    }
}

// ---- filters ----

#[test]
fn content_goes_through_filters_and_what_comes_out_is_the_result() {
    let p = project("  a: {output: x.txt, template: t.hbs, filter: [\"tr a-z A-Z\", \"sed 's/$/ {{output}}/'\"]}\n  b: {output: y.txt, template: u.hbs, inputs: {x: x.txt}}\n")
        .file("t.hbs", "one\ntwo\n")
        .file("u.hbs", "<{{inputs.x.text}}>");
    // What depends on it cannot be known before a command has run, and a plan runs none.
    p.run(["plan"]).stdout_has("waits for x.txt").exits(0);
    p.run([]).exits(0);
    assert_eq!(p.read("x.txt"), "ONE x.txt\nTWO x.txt\n");
    assert_eq!(p.read("y.txt"), "<ONE x.txt\nTWO x.txt\n>");
    p.run([]).stderr_has("nothing to do").exits(0);
    p.run(["check"]).exits(0);
    // Without the filter's result on disk it comes out of the store: nothing is run.
    p.remove("x.txt").run(["--frozen"]).stderr_has("restore  x.txt").exits(0);
    p.edit("x.txt", "mine\n").run([]).stderr_has("was edited by hand").exits(2);
}

#[test]
fn another_filter_makes_a_task_stale() {
    let rules =
        |filter: &str| format!("version: 1\nrules:\n  a: {{output: x.txt, template: t.hbs, filter: {filter}}}\n");
    let p = Project::new().file("Genfile", &rules("cat")).file("t.hbs", "one\n");
    p.run([]).exits(0);
    p.edit("Genfile", &rules("[cat, rev]")).run(["check"]).exits(1);
    p.run([]).exits(0);
    assert_eq!(p.read("x.txt"), "eno\n");
}

#[test]
fn a_filter_that_fails_is_told_to_the_model() {
    let server = Server::start();
    server.reply(|request, _| if request.user_text().contains("grep good") { "good\n".into() } else { "bad\n".into() });
    let p = asking(&server, "  a: {output: x.txt, prompt: p.prompt, filter: \"grep good\"}\n");
    p.run([]).stderr_has("`grep good` ended with exit status: 1: it said nothing").exits(0);
    assert_eq!((p.read("x.txt").as_str(), server.count()), ("good\n", 2));
    p.run([]).stderr_has("nothing to do").exits(0);
    assert_eq!(server.count(), 2);
}

#[test]
fn what_a_filter_reads_is_an_input_of_the_result() {
    let p = project("  a: {inputs: {m: m.sed}, output: a.txt, template: t.hbs, filter: \"sed -f {{inputs.m.path}}\"}\n  b: {env: [WHO], output: b.txt, template: t.hbs, filter: \"sed s/one/$WHO/\"}\n")
        .file("t.hbs", "one\n")
        .file("m.sed", "s/one/two/\n")
        .env("WHO", "x");
    p.run([]).exits(0);
    assert_eq!((p.read("a.txt").as_str(), p.read("b.txt").as_str()), ("two\n", "x\n"));
    let p = p.env("WHO", "y");
    p.edit("m.sed", "s/one/three/\n").run(["check"]).stdout_has("a.txt").stdout_has("b.txt").exits(1);
    p.run([]).exits(0);
    assert_eq!((p.read("a.txt").as_str(), p.read("b.txt").as_str()), ("three\n", "y\n"));
}

#[test]
fn what_no_reply_could_pass_is_not_paid_for_again() {
    // A program that is not there is no complaint about the model's words.
    let server = Server::start();
    let p = asking(&server, "  a: {output: x.txt, prompt: p.prompt, filter: \"./tool\", check: {run: \"./judge\"}}\n");
    for _ in 0..2 {
        p.run([]).stderr_has("`./tool` cannot be run").exits(2);
        assert_eq!(server.count(), 1);
    }
    let program = |path: &str| {
        p.edit(path, "#!/bin/sh\ncat\n");
        assert!(std::process::Command::new("chmod").args(["+x"]).arg(p.path(path)).status().unwrap().success());
    };
    program("tool");
    p.run([]).stderr_has("`./judge` cannot be run").exits(2);
    program("judge");
    p.run([]).stderr_has("restore  x.txt").exits(0);
    assert_eq!(server.count(), 1);
    // Neither is one asked for that nothing can be held against.
    let p = asking(&server, "  a: {output: y.json, prompt: p.prompt, check: {schema: s.json}}\n")
        .file("s.json", "{\"type\": 3}");
    p.run([]).stderr_has("no JSON Schema that can be used").exits(2);
    assert_eq!(server.count(), 1);
}

// ---- checks by command ----

#[test]
fn a_command_judges_a_result_before_it_is_written() {
    let p = project("  a: {output: out/x.txt, template: t.hbs, check: {run: \"echo {{output}} >> log; grep -q good {{output}}\"}}\n")
        .file("t.hbs", "bad\n");
    p.run([]).stderr_has("genmake::check_failed").stderr_has("`out/x.txt` does not pass the check `run`").exits(2);
    assert!(!p.exists("out"));
    // It was shown a file of that name, which is gone by now.
    assert!(p.read("log").trim().ends_with("/out/x.txt") && !p.exists(".genmake/stage"));
    p.edit("t.hbs", "good\n").run([]).exits(0);
    assert_eq!(p.read("out/x.txt"), "good\n");
    // What has passed is not judged again, and reading commands judge nothing.
    let before = count(&p, "log");
    p.run([]).exits(0);
    p.run(["check"]).exits(0);
    assert_eq!(count(&p, "log"), before);
}

#[test]
fn another_check_judges_what_is_there_for_nothing() {
    let server = Server::start();
    let rules = |check: &str| format!("  a: {{output: x.txt, prompt: p.prompt, check: [{check}]}}\n");
    server.reply(|_, _| "one\n".into());
    let p = asking(&server, &rules(""));
    p.run([]).exits(0);
    let genfile = p.read("Genfile");
    let with = |check: &str| genfile.replace("check: []", &format!("check: [{check}]"));
    p.edit("Genfile", &with("{run: \"grep -q one {{output}}\"}")).run(["check"]).exits(0);
    p.run([]).stderr_has("nothing to do").exits(0);
    assert_eq!(server.count(), 1);
    server.reply(|_, _| "two\n".into());
    p.edit("Genfile", &with("{run: \"grep -q two {{output}}\"}")).run([]).stderr_has("generate  x.txt").exits(0);
    assert_eq!((p.read("x.txt").as_str(), server.count()), ("two\n", 2));
}

#[test]
fn another_value_in_a_check_judges_what_is_there() {
    let rules = |word: &str| {
        format!(
            "version: 1\nvars: {{w: {word}}}\nrules:\n  a: {{output: a.txt, template: t.hbs, check: {{run: \"grep {{{{vars.w}}}} {{{{output}}}}\"}}}}\n"
        )
    };
    let p = Project::new().file("Genfile", &rules("one")).file("t.hbs", "one\n");
    p.run([]).exits(0);
    p.edit("Genfile", &rules("two")).run([]).stderr_has("genmake::check_failed").exits(2);
    p.edit("Genfile", &rules("one")).run([]).stderr_has("nothing to do").exits(0);
}

#[test]
fn a_frozen_run_judges_nothing_and_says_nothing_of_it() {
    let rules = |check: &str| format!("version: 1\nrules:\n  a: {{output: a.txt, run: \"cp in a.txt\"{check}}}\n");
    for remove in [false, true] {
        let p = Project::new().file("Genfile", &rules("")).file("in", "one\n");
        p.run([]).exits(0);
        p.edit("Genfile", &rules(", check: {run: \"echo >> log; grep two {{output}}\"}"));
        if remove {
            p.remove("a.txt");
        }
        p.run(["--frozen"]).exits(0);
        assert!(!p.exists("log"));
        p.run([]).stderr_has("genmake::check_failed").exits(2);
    }
}

#[test]
fn a_failed_check_goes_back_to_the_model_once_a_retry() {
    for (retries, requests, exit) in [(0, 1, 2), (1, 2, 2), (2, 3, 0)] {
        let server = Server::start();
        let p = asking(
            &server,
            &format!(
                "  a: {{output: x.txt, prompt: p.prompt, check: {{run: \"grep third {{{{output}}}}\"}}, retries: {retries}}}\n"
            ),
        );
        let asked = std::sync::atomic::AtomicUsize::new(0);
        server.reply(move |_, _| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            2 => "third\n".into(),
            n => format!("try {n}\n"),
        });
        p.run([]).exits(exit);
        assert_eq!(server.count(), requests, "retries: {retries}");
        if requests > 1 {
            let again = server.requests()[1].user_text();
            assert!(again.contains("does not pass the check `run`") && again.contains("grep third"), "{again}");
        }
    }
}

#[test]
fn what_depends_on_a_result_that_is_given_up_is_made_from_the_next() {
    let rules = |check: &str| {
        format!(
            "version: 1\nrules:\n  a: {{output: a.txt, run: \"cat src > a.txt\"{check}}}\n  b: {{inputs: {{a: a.txt}}, output: b.txt, template: b.hbs}}\n  c: {{inputs: {{b: b.txt}}, output: c.txt, template: c.hbs}}\n"
        )
    };
    let p = Project::new()
        .file("Genfile", &rules(""))
        .file("src", "one\n")
        .file("b.hbs", "b {{inputs.a.text}}")
        .file("c.hbs", "c {{inputs.b.text}}");
    p.run([]).exits(0);
    p.edit("src", "two\n").edit("Genfile", &rules(", check: {run: \"grep -q two {{output}}\"}"));
    p.run([]).stderr_has("run  a.txt").stderr_has("render  c.txt").exits(0);
    assert_eq!((p.read("b.txt").as_str(), p.read("c.txt").as_str()), ("b two\n", "c b two\n"));
}

// ---- modes, and what a failure means ----

#[cfg(unix)]
#[test]
fn outputs_have_the_mode_that_their_rule_says() {
    use std::os::unix::fs::PermissionsExt;
    let p = project("  a: {output: run.sh, template: t.hbs, file_mode: \"0755\"}\n  b: {output: b.sh, run: \"echo > b.sh\", file_mode: \"0700\"}\n")
        .file("t.hbs", "#!/bin/sh\n");
    let mode = |path: &str| std::fs::metadata(p.path(path)).unwrap().permissions().mode() & 0o777;
    p.run([]).exits(0);
    assert_eq!((mode("run.sh"), mode("b.sh")), (0o755, 0o700));
    p.run([]).stderr_has("nothing to do").exits(0);
    // The same bytes with another mode are another result.
    p.edit("Genfile", &p.read("Genfile").replace("0755", "0640")).run(["check"]).exits(1);
    p.run([]).exits(0);
    assert_eq!(mode("run.sh"), 0o640);
    p.run([]).stderr_has("nothing to do").exits(0);
    p.edit("Genfile", &p.read("Genfile").replace("0640", "0444"));
    p.run([]).stderr_has("genmake::bad_value").exits(2);
}

#[cfg(unix)]
#[test]
fn no_mode_is_given_through_a_symlink() {
    use std::os::unix::fs::PermissionsExt;
    let p = project("  a: {output: y, run: \"ln -s $HOME/theirs y; echo hi > y\", file_mode: \"0755\"}\n");
    p.run([]).stderr_has("genmake::not_made").stderr_has("made `y` a symlink").exits(2);
    let home =
        p.command([]).get_envs().find(|(name, _)| *name == "HOME").and_then(|(_, home)| home).unwrap().to_owned();
    let theirs = std::path::Path::new(&home).join("theirs");
    assert_ne!(std::fs::metadata(theirs).unwrap().permissions().mode() & 0o777, 0o755);
    assert!(!p.path("y").is_symlink());
}

#[test]
fn on_error_skip_leaves_what_is_there_and_is_no_failure() {
    let p = project("  a: {inputs: [in], output: x.txt, run: \"grep good in > x.txt\", on_error: skip}\n  b: {output: y.txt, template: t.hbs}\n  c: {output: z.txt, template: t.hbs, inputs: [x.txt]}\n")
        .file("in", "good\n")
        .file("t.hbs", "t\n");
    p.run([]).exits(0);
    p.edit("in", "bad\n");
    p.run([]).stderr_has("excuse  x.txt").stderr_has("skip  z.txt").stderr_has("ended with exit status: 1").exits(0);
    assert_eq!(p.read("x.txt"), "good\n");
    // It is tried again the next time.
    p.edit("in", "good 2\n").run([]).exits(0);
    assert_eq!(p.read("x.txt"), "good 2\n");
}

#[test]
fn on_error_default_is_written_instead() {
    let p = project("  a: {output: x.json, run: \"false\", on_error: {default: {items: []}}}\n  b: {output: y.txt, template: t.hbs, inputs: {x: x.json}}\n")
        .file("t.hbs", "{{len inputs.x.data.items}}\n");
    p.run([]).stderr_has("default  x.json").stderr_has("1 defaulted").exits(0);
    assert_eq!(p.read("x.json"), "{\n  \"items\": []\n}\n");
    assert_eq!(p.read("y.txt"), "0\n");
    p.run([]).stderr_has("nothing to do").exits(0);
}

#[test]
fn what_depends_on_a_default_is_made_from_it() {
    let p = project("  a: {output: a.json, template: a.hbs, check: json, on_error: {default: {x: 1}}}\n  b: {output: b.txt, template: b.hbs, inputs: {a: a.json}}\n")
        .file("a.hbs", "{bad")
        .file("b.hbs", "{{inputs.a.data.x}}\n");
    p.run([]).stderr_has("default  a.json").exits(0);
    assert_eq!(p.read("b.txt"), "1\n");
    p.run([]).stderr_has("nothing to do").exits(0);
}

#[test]
fn a_default_is_held_against_no_check_wherever_it_is_looked_at() {
    let p = project(
        "  a: {output: a.json, run: \"echo x >> log; false\", check: [json, {run: \"false\"}], on_error: {default: nothing}}\n",
    );
    p.run([]).stderr_has("default  a.json").exits(0);
    p.run(["check"]).exits(0);
    // As in a fresh clone: it is not asked for again.
    p.remove(".genmake").run(["check"]).exits(0);
    p.run([]).stderr_has("nothing to do").exits(0);
    assert_eq!(count(&p, "log"), 1);
}

#[test]
fn on_error_means_a_model_that_cannot_be_asked_too() {
    let server = Server::start();
    server.always(crate::server::Act::unauthorized());
    let p = asking(
        &server,
        "  a: {output: x.txt, prompt: p.prompt, on_error: {default: \"nothing yet\\n\"}}\n  b: {output: y.txt, prompt: p.prompt, on_error: skip}\n",
    );
    p.run([]).exits(0);
    assert_eq!(p.read("x.txt"), "nothing yet\n");
    assert!(!p.exists("y.txt"));
}
