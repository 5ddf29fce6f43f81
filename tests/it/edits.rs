//! Edits by hand: what a person wrote is never lost, whatever a rule's `on_edit` says; `diff` shows it and `accept` takes it.

use expect_test::expect;

use crate::project::{Project, Run};
use crate::server::{Act, Server};
use crate::shop::has_no_temporary_file;

/// A page that a template makes of `d.yaml`, and a copy that a template makes of the page.
fn project(on_edit: &str) -> Project {
    let rules = format!(
        "  page: {{output: page.md, template: t.hbs, inputs: {{d: d.yaml}}, on_edit: {on_edit}}}\n  copy: {{output: copy.md, \
         template: c.hbs, inputs: {{p: page.md}}}}\n"
    );
    Project::new()
        .file("Genfile", &format!("version: 1\nrules:\n{rules}"))
        .file("t.hbs", "top {{inputs.d.data.top}}\none\ntwo\nthree\nbottom {{inputs.d.data.bottom}}\n")
        .file("c.hbs", "copy of {{inputs.p.text}}")
        .file("d.yaml", &data("a", "z"))
}

fn data(top: &str, bottom: &str) -> String {
    format!("top: {top}\nbottom: {bottom}\n")
}

/// The page as the template has it, and with a person's line.
fn page(top: &str, bottom: &str) -> String {
    format!("top {top}\none\ntwo\nthree\nbottom {bottom}\n")
}

fn mine(top: &str, bottom: &str) -> String {
    page(top, bottom).replace("two", "mine")
}

/// Built, then edited.
fn edited(on_edit: &str) -> Project {
    let p = project(on_edit);
    p.run([]).exits(0);
    p.edit("page.md", &mine("a", "z"));
    p
}

/// A page that a model writes of `d.txt`: what it writes is the same as the template's.
fn asking(server: &Server, on_edit: &str) -> Project {
    server.reply(|request, _| match request.user_text().trim().split_once(' ') {
        Some((top, bottom)) => page(top, bottom),
        None => String::new(),
    });
    let head = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\"}}\nrules:\n";
    let rule =
        "  page: {output: page.md, prompt: p.prompt, inputs: {d: d.txt}, on_edit: EDIT}\n".replace("EDIT", on_edit);
    let copy = "  copy: {output: copy.md, template: c.hbs, inputs: {p: page.md}}\n";
    let p = Project::new()
        .genfile_for(server, &format!("{head}{rule}{copy}"))
        .file("p.prompt", "{{inputs.d.text}}")
        .file("c.hbs", "copy of {{inputs.p.text}}")
        .file("d.txt", "a z");
    p.run([]).exits(0);
    p
}

/// The same with a command, which notes down that it ran.
fn running(on_edit: &str) -> Project {
    let run = "echo x >> log; { head -n 1 d.txt; printf 'one\\ntwo\\nthree\\n'; tail -n 1 d.txt; } > {{output}}";
    let p = Project::new()
        .file("Genfile", &format!("version: 1\nrules:\n  page:\n    output: page.md\n    inputs: [d.txt]\n    on_edit: {on_edit}\n    run: \"{}\"\n", run.replace('\\', "\\\\")))
        .file("d.txt", "top a\nbottom z\n");
    p.run([]).exits(0);
    assert_eq!(p.read("page.md"), page("a", "z"));
    p
}

/// The words of a target's line in the lock after its path.
#[track_caller]
fn locked(p: &Project, path: &str) -> String {
    let lock = p.read("Genfile.lock");
    let line = lock.lines().find_map(|line| line.strip_prefix(&format!("{path} ")));
    line.unwrap_or_else(|| panic!("{path} is not in the lock:\n{lock}")).to_owned()
}

fn digest(text: &str) -> String {
    genmake::digest::Digest::of(text).to_string()
}

/// That the lock has a person's text of a target as accepted, made on that.
#[track_caller]
fn is_accepted(p: &Project, path: &str, text: &str, base: &str) {
    let line = locked(p, path);
    assert_eq!(p.read(path), text);
    assert!(line.starts_with(&format!("sha256:{} ", digest(text))), "{line}");
    assert!(line.ends_with(&format!(" base:sha256:{}", digest(base))), "{line}");
}

#[track_caller]
fn is_in_store(p: &Project, text: &str) {
    let all = p.everything();
    let mut blobs = all.iter().filter(|(path, _)| path.starts_with(".genmake/store/cas/"));
    assert!(blobs.any(|(_, bytes)| bytes == text.as_bytes()), "the store does not hold {text:?}");
}

/// That nothing is to be done, and nothing is done.
#[track_caller]
fn is_quiet(p: &Project) {
    let before = (p.tree(), p.stamps());
    p.run(["check"]).exits(0);
    p.run(["-q"]).exits(0);
    p.run([]).stderr_has("nothing to do: ").exits(0);
    p.run(["--frozen"]).stderr_has("nothing to do: ").exits(0);
    assert_eq!((p.tree(), p.stamps()), before);
    has_no_temporary_file(p);
}

/// Git, for projects with a history: nothing of the machine's configuration is read.
#[track_caller]
pub fn git(p: &Project, line: &str) -> String {
    let alone = "GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b";
    p.shell(&format!("export {alone}; {line}"))
}

fn commit(p: &Project) {
    git(p, "test -d .git || git init -q; git add -A && git commit -qm x");
}

// ---- stop ----

#[test]
fn an_edit_stops_its_task_whatever_is_asked_for_but_force() {
    let p = edited("stop");
    for args in [&[][..], &["-B"], &["-k", "--yes"], &["--frozen"], &["--offline", "page"]] {
        let before = p.tree();
        p.run(args.iter().copied()).stderr_has("`page.md` was edited by hand").exits(2);
        assert_eq!(p.tree(), before, "{args:?}");
    }
    p.run([])
        .stderr(expect![[r#"
               edited  page.md
            genmake::edited

              x `page.md` was edited by hand
              help: `genmake diff page.md` shows the edit, `genmake accept page.md` keeps it until its inputs change, and `genmake --force page.md` overwrites it (the edited text is kept in the store); or move it into `t.hbs` or its inputs
                 skip  copy.md
            failed: 1 edited by hand, 1 skipped in [TIME]
        "#]])
        .exits(2);
    p.run(["check"]).stdout_has("edited   page.md  edited by hand").exits(1);
    p.run(["--force"]).exits(0);
    assert_eq!(p.read("page.md"), page("a", "z"));
    is_in_store(&p, &mine("a", "z"));
    is_quiet(&p);
}

#[test]
fn the_ways_out_are_named_as_a_shell_takes_them() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  a: {output: \"it's one.md\", template: t.hbs}\n")
        .file("t.hbs", "x\n");
    p.run([]).exits(0);
    p.edit("it's one.md", "mine\n").run([]).stderr_has(r"`genmake accept 'it'\''s one.md'`").exits(2);
    p.shell(r"genmake accept 'it'\''s one.md'");
    is_quiet(&p);
}

// ---- diff ----

#[test]
fn diff_shows_edits_and_runs_nothing() {
    let p = edited("stop");
    let before = p.everything();
    p.run(["diff"])
        .stdout(expect![[r#"
            --- a/page.md	generated
            +++ b/page.md	edited by hand
            @@ -1,5 +1,5 @@
             top a
             one
            -two
            +mine
             three
             bottom z
        "#]])
        .exits(0);
    assert_eq!(p.everything(), before);
    // What it was rendered from is another by now: it is held against what it would be.
    p.edit("d.yaml", &data("b", "z"))
        .run(["diff"])
        .stdout(expect![[r#"
        --- a/page.md	generated now
        +++ b/page.md	edited by hand
        @@ -1,5 +1,5 @@
        -top b
        +top a
         one
        -two
        +mine
         three
         bottom z
    "#]])
        .exits(0);
    let p = running("stop");
    p.edit("page.md", &mine("a", "z"))
        .edit("d.txt", "top b\nbottom z\n")
        .run(["diff"])
        .stdout_has("-two\n+mine\n")
        .exits(0);
    assert_eq!(p.read("log"), "x\n");
}

#[test]
fn diff_is_what_patch_takes_and_json_says_the_same() {
    let p = edited("stop");
    let diff = p.run(["diff", "page.md"]);
    let json = p.run(["diff", "--format", "json"]).stdout_json();
    assert_eq!(json["version"], 1);
    let edit = &json["edits"][0];
    assert_eq!(
        (&edit["rule"], &edit["path"], &edit["accepted"], &edit["binary"]),
        (&"page".into(), &"page.md".into(), &false.into(), &false.into())
    );
    assert_eq!(
        (edit["generated"].as_str(), edit["digest"].as_str()),
        (Some(&*digest(&page("a", "z"))), Some(&*digest(&mine("a", "z"))))
    );
    let hunks = edit["diff"].as_str().expect("a text");
    assert!(hunks.starts_with("@@ ") && diff.stdout.ends_with(hunks), "{hunks}");
    diff.exits(0);
    // Taken back by it, nothing is left.
    let said = p.shell("genmake diff | git apply -R -");
    assert_eq!(said, "");
    is_quiet(&p);
    p.run(["diff"]).stdout(expect![""]).stderr(expect![["no edits by hand that are not accepted\n"]]).exits(0);
    p.run(["diff", "--format", "json"])
        .stdout(expect![[r#"
        {
          "version": 1,
          "edits": []
        }
    "#]])
        .exits(0);
}

#[test]
fn diff_shows_what_is_accepted_where_it_is_asked_for() {
    let p = edited("stop");
    p.run(["accept", "page.md"]).exits(0);
    p.run([]).exits(0);
    p.run(["diff"]).stdout(expect![""]).exits(0);
    for target in ["page.md", "page", "*.md"] {
        p.run(["diff", target])
            .stdout_has("+++ b/page.md\tedited by hand, and accepted\n")
            .stdout_has("-two\n+mine\n")
            .exits(0);
    }
    p.run(["diff", "copy.md"]).stdout(expect![""]).exits(0);
    p.run(["diff", "nothing.md"]).stderr_has("no rule makes `nothing.md`").exits(2);
}

#[test]
fn diff_says_what_it_cannot_show() {
    let server = Server::start();
    let p = asking(&server, "stop");
    p.edit("page.md", "mine\n").remove(".genmake");
    p.run(["diff"])
        .stdout(expect![""])
        .stderr_has("page.md: edited by hand; what was generated is neither in the store nor in git's history")
        .exits(0);
    p.remove("Genfile.lock");
    p.run(["diff"]).stderr_has("page.md: was there before genmake made anything").exits(0);
    let binary = running("stop");
    fs_err::write(binary.path("page.md"), b"\0\x01\xff").unwrap();
    binary.run(["diff"]).stdout(expect![["binary files a/page.md and b/page.md differ\n"]]).exits(0);
    assert_eq!(server.count(), 1);
}

#[test]
fn nothing_in_an_edit_drives_a_terminal() {
    let p = edited("stop");
    p.edit("page.md", "\u{1b}]0;gone\u{7}\n");
    let run = p.run(["diff", "--color", "always"]);
    assert!(run.stdout.contains("\u{1b}[32m+\u{fffd}]0;gone\u{fffd}"), "{:?}", run.stdout);
    run.exits(0);
    // Where nothing of that is asked for, the bytes are what `patch` takes.
    let run = p.run(["diff"]);
    assert!(run.stdout.contains("+\u{1b}]0;gone\u{7}\n"));
    run.exits(0);
}

// ---- accept ----

#[test]
fn an_accepted_edit_is_the_content_until_its_inputs_change() {
    let p = edited("stop");
    let before = p.read("Genfile.lock");
    p.run(["accept", "page.md"])
        .stderr(expect![[r#"
               accept  page.md
            1 edit accepted
        "#]])
        .exits(0);
    is_accepted(&p, "page.md", &mine("a", "z"), &page("a", "z"));
    is_in_store(&p, &mine("a", "z"));
    is_in_store(&p, &page("a", "z"));
    // Only its own line is another.
    let (before, now) = (before, p.read("Genfile.lock"));
    let moved: Vec<&str> = now.lines().filter(|line| !before.contains(line)).collect();
    assert_eq!(moved.len(), 1, "{now}");
    // What depends on it is made of what stands there.
    p.run(["check"]).stdout(expect![["stale  copy.md  input changed: page.md\n"]]).exits(1);
    p.run([]).stderr_has("1 rendered, 1 fresh").exits(0);
    assert_eq!(p.read("copy.md"), format!("copy of {}", mine("a", "z")));
    is_quiet(&p);
    p.run(["explain", "page.md"])
        .stdout_has("fresh")
        .stdout_has(&format!("an accepted edit, generated was {}", &digest(&page("a", "z"))[..12]))
        .exits(0);
    // A fresh clone has no store, and nothing to do.
    p.remove(".genmake");
    is_quiet(&p);
    // Once more says so.
    p.run(["accept", "page.md"]).stderr_has("page.md: accepted before").stderr_has("0 edits accepted").exits(0);
    // Then it is edited again, also without a store.
    p.edit("d.yaml", &data("b", "z"));
    p.run([]).stderr_has("`page.md` was edited by hand").exits(2);
    assert_eq!(p.read("page.md"), mine("a", "z"));
    p.run(["accept", "page"]).exits(0);
    is_accepted(&p, "page.md", &mine("a", "z"), &page("a", "z"));
    is_quiet(&p);
    p.edit("d.yaml", &data("c", "z"));
    p.run(["--force"]).exits(0);
    assert_eq!(p.read("page.md"), page("c", "z"));
    is_in_store(&p, &mine("a", "z"));
    assert!(!locked(&p, "page.md").contains("base:"));
}

#[test]
fn force_and_rebuild_and_an_accepted_edit() {
    let p = edited("stop");
    p.run(["accept", "page.md"]).exits(0);
    p.run([]).exits(0);
    // It is no edit that `--force` would overwrite, and `-B` overwrites none.
    p.run(["--force"]).stderr_has("nothing to do").exits(0);
    p.run(["-B"]).stderr_has("`page.md` was edited by hand").exits(2);
    is_accepted(&p, "page.md", &mine("a", "z"), &page("a", "z"));
    // A further edit is one; what it is taken back to is what the lock names.
    p.edit("page.md", "more\n").run(["check"]).stdout_has("edited by hand").exits(1);
    p.run(["--force"]).exits(0);
    is_accepted(&p, "page.md", &mine("a", "z"), &page("a", "z"));
    is_in_store(&p, "more\n");
    is_quiet(&p);
    p.run(["-B", "--force"]).exits(0);
    assert_eq!(p.read("page.md"), page("a", "z"));
    is_quiet(&p);
}

#[test]
fn an_accepted_edit_that_is_deleted_comes_back_and_one_taken_back_is_gone() {
    let p = edited("stop");
    p.run(["accept", "page.md"]).exits(0);
    p.run([]).exits(0);
    p.remove("page.md").run(["check"]).stdout_has("restorable  page.md  output missing: page.md").exits(1);
    p.run([]).stderr_has("restore  page.md").exits(0);
    is_accepted(&p, "page.md", &mine("a", "z"), &page("a", "z"));
    is_quiet(&p);
    // What was generated stands there again: the lock learns of it.
    p.edit("page.md", &page("a", "z"));
    p.run(["check"]).stdout_has("edit taken back: page.md").exits(1);
    p.run(["--frozen"]).exits(2);
    p.run([]).exits(0);
    assert!(!locked(&p, "page.md").contains("base:"));
    assert_eq!(p.read("copy.md"), format!("copy of {}", page("a", "z")));
    is_quiet(&p);
}

#[test]
fn an_edit_that_is_taken_back_before_anybody_accepts_it_leaves_nothing() {
    for on_edit in ["stop", "keep", "merge", "overwrite"] {
        let p = edited(on_edit);
        p.edit("page.md", &page("a", "z"));
        is_quiet(&p);
    }
}

#[test]
fn accept_takes_targets_that_are_edited() {
    let p = edited("stop");
    let before = p.tree();
    p.run(["accept"]).stderr_has("`accept` takes a target").exits(2);
    p.run(["accept", "other.md"]).stderr_has("no rule makes `other.md`").exits(2);
    p.run(["accept", "copy.md"]).stderr_has("copy.md: not edited by hand").stderr_has("0 edits accepted").exits(0);
    p.run(["accept", "page.md", "-q"]).exits(2);
    p.run(["accept", "page.md", "-n"]).stderr_has("accept  page.md").stderr_has("1 edit would be accepted").exits(0);
    assert_eq!(p.tree(), before);
    p.run(["accept", "*.md"]).stderr_has("accept  page.md").stderr_has("1 edit accepted").exits(0);
}

#[test]
fn edits_that_depend_on_each_other_are_accepted_at_once() {
    let p = edited("stop");
    p.edit("copy.md", "my copy\n");
    p.run(["accept", "copy.md", "page.md"]).stderr_has("2 edits accepted").exits(0);
    is_quiet(&p);
    assert_eq!(p.read("copy.md"), "my copy\n");
    // By itself it is one of what the page was, and edited again once the page is another.
    let p = edited("stop");
    p.edit("copy.md", "my copy\n").run(["accept", "copy.md"]).stderr_has("1 edit accepted").exits(0);
    p.run(["check"]).stdout_has("waiting  copy.md").exits(1);
    p.run(["accept", "page.md"]).exits(0);
    p.run([]).stderr_has("`copy.md` was edited by hand").exits(2);
}

#[test]
fn what_was_there_before_genmake_can_be_accepted_and_is_no_base_of_a_merge() {
    let p = project("stop").file("page.md", "mine\n");
    p.run([]).exits(2);
    p.run(["accept", "page.md"]).exits(0);
    is_accepted(&p, "page.md", "mine\n", &page("a", "z"));
    p.run([]).exits(0);
    is_quiet(&p);
    let server = Server::start();
    let p = asking(&server, "merge");
    p.remove("Genfile.lock").remove(".genmake").remove("copy.md").edit("page.md", "mine\n");
    p.run(["accept", "page.md"]).exits(0);
    is_accepted(&p, "page.md", "mine\n", "");
    p.run([]).exits(0);
    is_quiet(&p);
    p.edit("d.txt", "b z").run([]).stderr_has("`page.md` was edited by hand").exits(2);
    assert_eq!((server.count(), p.read("page.md").as_str()), (1, "mine\n"));
}

#[test]
fn an_edit_of_what_waits_for_a_model_and_was_never_made_waits_too() {
    let server = Server::start();
    let p = asking(&server, "stop");
    p.remove("Genfile.lock").remove(".genmake").remove("page.md").edit("copy.md", "mine\n");
    p.run(["accept", "copy.md"])
        .stderr_has("`copy.md` cannot be accepted before `page.md` is made, which it waits for")
        .exits(2);
    assert!(!p.exists("Genfile.lock"));
}

#[test]
fn checks_judge_what_is_made_and_not_what_a_person_accepted() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  a: {output: a.json, template: t.hbs, check: json}\n")
        .file("t.hbs", "{}\n");
    p.run([]).exits(0);
    p.edit("a.json", "// mine\n{}\n").run(["accept", "a.json"]).exits(0);
    is_quiet(&p);
}

// ---- keep ----

#[test]
fn keep_accepts_edits_and_overwrites_none() {
    let p = edited("keep");
    p.run(["check"]).stdout_has("edited  page.md  edited by hand; a build accepts it").exits(1);
    p.run(["plan"])
        .stdout_has("accept  page.md  edited by hand; a build accepts it")
        .stdout_has("1 to accept")
        .exits(0);
    p.run(["--frozen"]).exits(2);
    p.run([])
        .stderr(expect![[r#"
               accept  page.md
               render  copy.md
            done: 1 rendered, 1 accepted in [TIME]
        "#]])
        .exits(0);
    is_accepted(&p, "page.md", &mine("a", "z"), &page("a", "z"));
    is_in_store(&p, &mine("a", "z"));
    assert_eq!(p.read("copy.md"), format!("copy of {}", mine("a", "z")));
    is_quiet(&p);
    p.edit("d.yaml", &data("b", "z")).run([]).stderr_has("accept  page.md").exits(0);
    is_accepted(&p, "page.md", &mine("a", "z"), &page("a", "z"));
    is_quiet(&p);
    p.run(["-B", "page"]).stderr_has("nothing to do").exits(0);
    assert_eq!(p.read("page.md"), mine("a", "z"));
    // Both at once.
    p.edit("d.yaml", &data("c", "z")).edit("page.md", "more\n").run([]).exits(0);
    is_accepted(&p, "page.md", "more\n", &page("a", "z"));
    p.run(["--force", "-B"]).exits(0);
    assert_eq!(p.read("page.md"), page("c", "z"));
    is_in_store(&p, "more\n");
}

#[test]
fn keep_asks_no_model_and_runs_no_command() {
    let server = Server::start();
    let p = asking(&server, "keep");
    p.edit("page.md", &mine("a", "z")).edit("d.txt", "b z").run([]).stderr_has("accept  page.md").exits(0);
    is_quiet(&p);
    assert_eq!(server.count(), 1);
    assert!(locked(&p, "page.md").contains(" model:m "), "who wrote what is below it is still known");
    let p = running("keep");
    p.edit("page.md", &mine("a", "z")).edit("d.txt", "top b\nbottom z\n").run([]).exits(0);
    is_quiet(&p);
    assert_eq!((p.read("page.md"), p.read("log")), (mine("a", "z"), "x\n".to_owned()));
}

// ---- overwrite ----

#[test]
fn overwrite_keeps_the_edit_in_the_store() {
    let p = edited("overwrite");
    p.run(["check"]).stdout_has("stale  page.md  edit discarded: page.md").exits(1);
    p.run([]).stderr_has("render  page.md").exits(0);
    assert_eq!(p.read("page.md"), page("a", "z"));
    is_in_store(&p, &mine("a", "z"));
    is_quiet(&p);
    let p = running("overwrite");
    p.edit("page.md", "mine\n").run([]).exits(0);
    assert_eq!(p.read("page.md"), page("a", "z"));
    is_in_store(&p, "mine\n");
    // What was accepted is left alone until its inputs change.
    p.edit("page.md", "mine, too\n").run(["accept", "page.md"]).exits(0);
    is_quiet(&p);
    p.edit("d.txt", "top b\nbottom z\n").remove(".genmake").run([]).exits(0);
    assert_eq!(p.read("page.md"), page("b", "z"));
    is_in_store(&p, "mine, too\n");
}

// ---- merge ----

#[test]
fn merge_takes_both_changes_where_they_do_not_touch() {
    let p = edited("merge");
    // Nothing new is generated: it is accepted.
    p.run([]).stderr_has("accept  page.md").exits(0);
    is_accepted(&p, "page.md", &mine("a", "z"), &page("a", "z"));
    p.edit("d.yaml", &data("b", "z"));
    p.run(["check"]).stdout_has("stale    page.md  edit merged: page.md; input changed: d.yaml").exits(1);
    p.run([]).stderr_has("merge  page.md").stderr_has("1 rendered, 1 merged").exits(0);
    is_accepted(&p, "page.md", &mine("b", "z"), &page("b", "z"));
    assert_eq!(p.read("copy.md"), format!("copy of {}", mine("b", "z")));
    is_in_store(&p, &mine("a", "z"));
    is_quiet(&p);
    // An edit and a change at once, on top of a merge.
    let twice = mine("b", "z").replace("one", "mine, too");
    p.edit("page.md", &twice).edit("d.yaml", &data("b", "y")).run([]).exits(0);
    is_accepted(&p, "page.md", &twice.replace("bottom z", "bottom y"), &page("b", "y"));
    is_quiet(&p);
    // Where the template catches up with the edit, it is none any more.
    let template = p.read("t.hbs").replace("two", "mine").replace("one", "mine, too");
    p.edit("t.hbs", &template).run([]).exits(0);
    assert!(!locked(&p, "page.md").contains("base:"));
    is_quiet(&p);
}

#[test]
fn an_edit_and_a_change_at_once_are_merged_from_the_store() {
    let p = edited("merge");
    p.edit("d.yaml", &data("b", "y")).run([]).stderr_has("merge  page.md").exits(0);
    is_accepted(&p, "page.md", &mine("b", "y"), &page("b", "y"));
    is_quiet(&p);
}

/// A run that is killed after a merge and before its lock leaves the merged text and the old lock.
#[test]
fn a_merge_that_the_lock_does_not_know_of_is_merged_again_to_the_same() {
    let p = edited("merge");
    let lock = p.read("Genfile.lock");
    p.edit("d.yaml", &data("b", "y")).run(["page"]).stderr_has("merge  page.md").exits(0);
    let merged = p.read("Genfile.lock");
    p.edit("Genfile.lock", &lock).remove(".genmake/state");
    p.run(["page"]).stderr_has("merge  page.md").exits(0);
    is_accepted(&p, "page.md", &mine("b", "y"), &page("b", "y"));
    assert_eq!(p.read("Genfile.lock"), merged);
}

#[test]
fn a_merge_of_the_same_lines_is_for_a_person_to_resolve() {
    let p = edited("merge");
    p.edit("page.md", &page("mine", "z")).edit("d.yaml", &data("b", "y"));
    p.run([])
        .stderr(expect![[r#"
               edited  page.md
            genmake::unmerged

              x `page.md` holds conflicts: the edit and what is generated now change the same lines
              help: resolve what stands between the markers, and run genmake again; as it stands, it is kept with `genmake accept --force page.md`
                    the text before the merge is kept as `.genmake/store/cas/bf/67d0f89741f120f567697b14d776fcc65b61d9c453b2a3d6cbbffab9408b86`
                 skip  copy.md
            failed: 1 edited by hand, 1 skipped in [TIME]
        "#]]).exits(2);
    let conflict = "<<<<<<< edited\ntop mine\n=======\ntop b\n>>>>>>> generated\none\ntwo\nthree\nbottom y\n";
    assert_eq!(p.read("page.md"), conflict);
    is_in_store(&p, &page("mine", "z"));
    // It stays so, and nobody takes it for done.
    for args in [&[][..], &["-B"], &["--frozen"], &["accept", "page.md"]] {
        p.run(args.iter().copied()).exits(2);
        assert_eq!(p.read("page.md"), conflict, "{args:?}");
    }
    p.run(["check"]).stdout_has("edited   page.md").exits(1);
    p.run(["diff"]).stdout_has("+<<<<<<< edited\n+top mine\n+=======\n top b\n+>>>>>>> generated\n").exits(0);
    // Resolved, it is accepted, and the next merge is of what was generated last.
    p.edit("page.md", &page("mine and b", "y")).run([]).stderr_has("accept  page.md").exits(0);
    is_accepted(&p, "page.md", &page("mine and b", "y"), &page("b", "y"));
    is_quiet(&p);
    p.edit("d.yaml", &data("b", "x")).run([]).exits(0);
    is_accepted(&p, "page.md", &page("mine and b", "x"), &page("b", "x"));
    is_quiet(&p);
}

#[test]
fn markers_that_are_meant_can_be_accepted() {
    for on_edit in ["keep", "merge"] {
        let p = edited(on_edit);
        let text = "how git says it:\n<<<<<<< ours\na\n=======\nb\n>>>>>>> theirs\n";
        p.edit("page.md", text).run([]).stderr_has("`page.md` holds conflicts").exits(2);
        p.run(["accept", "page.md"]).stderr_has("`page.md` holds conflicts").exits(2);
        p.run(["accept", "--force", "page.md"]).exits(0);
        p.run([]).exits(0);
        is_accepted(&p, "page.md", text, &page("a", "z"));
        is_quiet(&p);
    }
}

#[test]
fn a_model_is_asked_once_for_what_is_merged() {
    let server = Server::start();
    let p = asking(&server, "merge");
    p.edit("page.md", &mine("a", "z")).run([]).stderr_has("accept  page.md").exits(0);
    p.edit("d.txt", "b z")
        .run(["plan"])
        .stdout_has("generate  page.md  edit merged: page.md; input changed: d.txt")
        .stdout_has("1 request")
        .exits(0);
    p.run([]).stderr_has("merge  page.md").exits(0);
    is_accepted(&p, "page.md", &mine("b", "z"), &page("b", "z"));
    is_quiet(&p);
    assert_eq!(server.count(), 2);
    // What does not merge is paid for, too, and is in the store.
    p.edit("page.md", &page("mine", "z")).edit("d.txt", "c z").run([]).stderr_has("`page.md` holds conflicts").exits(2);
    is_in_store(&p, &page("c", "z"));
    is_in_store(&p, &page("mine", "z"));
    p.run([]).exits(2);
    p.run(["--force", "page.md"]).stderr_has("restore  page.md").exits(0);
    assert_eq!((p.read("page.md"), server.count()), (page("c", "z"), 3));
    p.run([]).exits(0);
    is_quiet(&p);
}

#[test]
fn without_a_base_a_merge_is_a_stop_and_asks_nobody() {
    let server = Server::start();
    let p = asking(&server, "merge");
    p.remove(".genmake").edit("page.md", &mine("a", "z")).edit("d.txt", "b z");
    p.run(["check"]).stdout_has("edited   page.md  edited by hand").exits(1);
    p.run([]).stderr_has("`page.md` was edited by hand").stderr_has("it is not merged: what was generated before the edit is neither in the store nor in git's history (a shallow clone has little of it), or is no text").exits(2);
    assert_eq!((p.read("page.md"), server.count()), (mine("a", "z"), 1));
}

#[test]
fn a_fresh_clone_finds_its_base_in_gits_history() {
    let server = Server::start();
    let p = asking(&server, "merge").file(".gitignore", ".genmake/\n");
    commit(&p);
    // Other versions of the file, and of others, stand in between.
    p.edit("page.md", &mine("a", "z"));
    commit(&p);
    p.edit("page.md", &mine("a", "z").replace("three", "mine, too"));
    commit(&p);
    p.remove(".genmake").edit("d.txt", "b z");
    p.run(["check"]).stdout_has("edit merged: page.md").exits(1);
    p.run(["diff"]).stdout_has("-two\n-three\n+mine\n+mine, too\n").exits(0);
    assert!(!p.exists(".genmake"), "reading writes nothing");
    p.run([]).stderr_has("merge  page.md").exits(0);
    is_accepted(&p, "page.md", &mine("b", "z").replace("three", "mine, too"), &page("b", "z"));
    is_quiet(&p);
    assert_eq!(server.count(), 2);
}

#[test]
fn a_run_of_a_part_finds_its_base_in_gits_history_too() {
    let p = edited("merge").file(".gitignore", ".genmake/\n");
    p.edit("page.md", &page("a", "z"));
    commit(&p);
    // As a fresh clone in which everything is up to date.
    p.remove(".genmake").run([]).stderr_has("nothing to do").exits(0);
    p.edit("page.md", &mine("a", "z")).edit("d.yaml", &data("b", "z"));
    p.run([]).stderr_has("merge  page.md").exits(0);
    assert_eq!(p.read("page.md"), mine("b", "z"));
}

#[test]
fn a_base_is_found_from_a_folder_of_a_repository_in_the_index_and_from_a_hook() {
    let p = Project::new();
    let inner = edited("merge");
    for (path, text) in inner.tree() {
        p.edit(&format!("sub dir/{path}"), &text);
    }
    p.edit("sub dir/page.md", &page("a", "z"));
    git(&p, "git init -q; git add -A");
    p.edit("sub dir/page.md", &mine("a", "z")).edit("sub dir/d.yaml", &data("b", "z"));
    p.run(["-C", "sub dir", "check"]).stdout_has("edit merged: page.md").exits(1);
    let said = p.shell("GIT_DIR=.git GIT_INDEX_FILE=.git/index genmake -C 'sub dir'");
    assert!(said.contains("merge  page.md"), "{said}");
    assert_eq!(p.read("sub dir/page.md"), mine("b", "z"));
}

#[test]
fn looking_into_git_runs_nothing_of_the_repository() {
    let p = edited("merge");
    p.edit("page.md", &page("a", "z"));
    commit(&p);
    let trap = p.path("trap");
    let set = |name: &str| format!("git config {name} 'touch {}'; ", trap.display());
    let names = [
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "diff.external",
        "gpg.program",
        "diff.x.textconv",
        "filter.x.smudge",
        "filter.x.clean",
        "alias.rev-list",
        "alias.cat-file",
    ];
    git(
        &p,
        &format!(
            "{} git config log.showSignature true; echo '*.md diff=x filter=x' > .git/info/attributes",
            names.map(set).concat()
        ),
    );
    p.remove(".genmake").edit("page.md", &mine("a", "z")).edit("d.yaml", &data("b", "z"));
    p.run(["check"]).stdout_has("edit merged: page.md").exits(1);
    p.run(["diff"]).exits(0);
    p.run([]).exits(0);
    assert!(!trap.exists());
    assert_eq!(p.read("page.md"), mine("b", "z"));
}

#[test]
fn a_command_writes_in_place_and_the_edit_is_merged_all_the_same() {
    let p = running("merge");
    p.edit("page.md", &mine("a", "z")).edit("d.txt", "top b\nbottom z\n");
    p.run([]).stderr_has("merge  page.md").exits(0);
    is_accepted(&p, "page.md", &mine("b", "z"), &page("b", "z"));
    is_in_store(&p, &mine("a", "z"));
    is_quiet(&p);
    assert_eq!(p.read("log"), "x\nx\n");
    // A command that fails leaves the edit.
    p.edit("page.md", &mine("b", "z").replace("three", "more")).remove("d.txt").edit("d.txt", "");
    let failing = p.read("Genfile").replace("echo x >> log;", "echo x >> log; echo half > {{output}}; exit 1;");
    p.edit("Genfile", &failing).run([]).stderr_has("ended with exit status: 1").exits(2);
    assert_eq!(p.read("page.md"), mine("b", "z").replace("three", "more"));
}

#[test]
fn a_result_that_nobody_can_merge_leaves_the_edit() {
    let p = running("merge");
    p.edit("page.md", &mine("a", "z")).run([]).exits(0);
    p.edit("Genfile", &p.read("Genfile").replace("echo x >> log;", "printf '\\\\0' > {{output}}; exit 0;"));
    p.run([]).stderr_has("`page.md` was edited by hand").exits(2);
    assert_eq!(p.read("page.md"), mine("a", "z"));
    has_no_temporary_file(&p);
}

#[test]
fn a_default_is_not_merged_into_an_edit() {
    let p = running("merge");
    p.edit("page.md", &mine("a", "z")).run([]).exits(0);
    let text = p.read("Genfile").replace("echo x >> log;", "exit 1;") + "    on_error: {default: nothing}\n";
    p.edit("Genfile", &text).run([]).stderr_has("ended with exit status: 1").exits(2);
    is_accepted(&p, "page.md", &mine("a", "z"), &page("a", "z"));
}

#[test]
fn an_editor_with_other_line_ends_makes_no_conflict() {
    let p = edited("merge");
    let windows = |text: &str| text.replace('\n', "\r\n");
    p.edit("page.md", &windows(&mine("a", "z"))).edit("d.yaml", &data("b", "z")).run([]).exits(0);
    is_accepted(&p, "page.md", &windows(&mine("b", "z")), &page("b", "z"));
    is_quiet(&p);
}

#[test]
fn another_on_edit_later_holds_for_what_was_accepted_before() {
    let p = edited("stop");
    p.run(["accept", "page.md"]).exits(0);
    p.edit("d.yaml", &data("b", "z"));
    p.run([]).exits(2);
    let rule =
        |on_edit: &str| p.edit("Genfile", &p.read("Genfile").replace("on_edit: stop", &format!("on_edit: {on_edit}")));
    rule("merge").run([]).stderr_has("merge  page.md").exits(0);
    is_accepted(&p, "page.md", &mine("b", "z"), &page("b", "z"));
    is_quiet(&p);
}

// ---- several outputs ----

/// A command that makes two files, of which it writes the same lines.
fn two(on_edit: &str) -> Project {
    let make = "for f in {{outputs.a}} {{outputs.b}}; do { cat d.txt; printf '1\\\\n2\\\\n3\\\\n'; } > $f; done; echo x >> log";
    let p = Project::new()
        .file("Genfile", &format!("version: 1\nrules:\n  two:\n    outputs: {{a: a.md, b: b.md}}\n    inputs: [d.txt]\n    on_edit: {on_edit}\n    run: \"{make}\"\n"))
        .file("d.txt", "x\n");
    p.run([]).exits(0);
    assert_eq!((p.read("a.md"), p.read("b.md")), ("x\n1\n2\n3\n".to_owned(), "x\n1\n2\n3\n".to_owned()));
    p
}

#[test]
fn of_several_outputs_one_may_be_edited() {
    for (on_edit, expected) in
        [("keep", "x\n1\n2\nmine\n"), ("merge", "y\n1\n2\nmine\n"), ("overwrite", "y\n1\n2\n3\n")]
    {
        let p = two(on_edit);
        p.edit("a.md", "x\n1\n2\nmine\n").edit("d.txt", "y\n").run([]).exits(0);
        assert_eq!((p.read("a.md").as_str(), p.read("b.md").as_str()), (expected, "y\n1\n2\n3\n"), "{on_edit}");
        is_in_store(&p, "x\n1\n2\nmine\n");
        is_quiet(&p);
    }
}

#[test]
fn what_is_accepted_stays_while_the_others_are_made() {
    let p = two("stop");
    p.edit("a.md", "mine\n").edit("b.md", "mine, too\n");
    // Of the two only the one that is named.
    p.run(["accept", "b.md"]).stderr_has("1 edit accepted").exits(0);
    p.run([]).stderr_has("`a.md` was edited by hand").exits(2);
    p.run(["accept", "a.md"]).exits(0);
    is_quiet(&p);
    // One is gone, also from the store: the command runs again, and leaves the other.
    p.remove("b.md").remove(".genmake").run([]).exits(0);
    assert_eq!((p.read("a.md").as_str(), p.read("b.md").as_str()), ("mine\n", "x\n1\n2\n3\n"));
    assert_eq!(p.read("log"), "x\nx\n");
    is_accepted(&p, "a.md", "mine\n", "x\n1\n2\n3\n");
    is_quiet(&p);
}

// ---- killed ----

/// Kills a run while its command holds what it writes half-done, and what the command left.
#[cfg(unix)]
fn killed(on_edit: &str) -> Project {
    let p = running(on_edit);
    p.edit("page.md", &mine("a", "z")).edit("d.txt", "top b\nbottom z\n");
    let waits = "echo x >> log; if test -p ready; then echo half > {{output}}; echo > ready; cat never; fi;";
    p.edit("Genfile", &p.read("Genfile").replace("echo x >> log;", waits));
    p.shell("mkfifo ready never");
    let mut child = p.spawn([]);
    p.read("ready");
    child.kill().expect("it runs");
    child.wait().expect("it has ended");
    p.remove("ready");
    assert_eq!(p.read("page.md"), "half\n");
    p
}

#[cfg(unix)]
#[test]
fn an_edit_that_a_killed_run_took_away_is_put_back_and_merged() {
    let p = killed("merge");
    p.run([]).stderr_has("merge  page.md").exits(0);
    p.remove("never");
    is_accepted(&p, "page.md", &mine("b", "z"), &page("b", "z"));
    is_quiet(&p);
}

#[cfg(unix)]
#[test]
fn what_a_person_does_after_a_killed_run_is_another_edit() {
    let p = killed("merge");
    // The next run puts the edit back, and is stopped by a mistake before it does anything else.
    let genfile = p.read("Genfile");
    p.edit("Genfile", &genfile.replace("on_edit: merge", "on_edit: stop"))
        .run([])
        .stderr_has("`page.md` was edited by hand")
        .exits(2);
    p.remove("never");
    assert_eq!(p.read("page.md"), mine("a", "z"));
    is_in_store(&p, "half\n");
    p.edit("page.md", "another\n").run([]).exits(2);
    assert_eq!(p.read("page.md"), "another\n");
}

// ---- orphans, clean ----

#[test]
fn an_accepted_output_whose_rule_is_gone_stays() {
    let p = edited("stop");
    p.run(["accept", "page.md"]).exits(0);
    p.run([]).exits(0);
    p.edit("Genfile", "version: 1\nrules: {}\n");
    p.run(["check"])
        .stdout_has("orphan  page.md  no rule makes it any more; edited by hand, so a build keeps it")
        .exits(1);
    p.run([])
        .stderr_has("keep  page.md: no rule makes it any more, and it was edited by hand")
        .stderr_has("delete  copy.md")
        .exits(0);
    assert_eq!(p.read("page.md"), mine("a", "z"));
    assert!(!p.exists("copy.md"));
    p.run(["clean", "--orphans"]).stderr_has("keep  page.md: edited by hand").exits(0);
    assert!(p.exists("page.md"));
}

#[test]
fn clean_keeps_what_is_accepted() {
    let p = edited("keep");
    p.run([]).exits(0);
    p.run(["clean"]).stderr_has("keep  page.md: edited by hand").stderr_has("delete  copy.md").exits(0);
    assert_eq!(p.read("page.md"), mine("a", "z"));
}

// ---- a run beside ----

#[test]
fn accept_waits_for_the_run_that_is_under_way() {
    let server = Server::start();
    let p = asking(&server, "stop");
    p.edit("copy.md", "mine\n").edit("d.txt", "b z");
    let gate = crate::server::Gate::new();
    server.script([Act::Hold(gate.clone())]);
    let build = p.spawn([]);
    server.wait_for(2);
    let mut accept = p.spawn(["accept", "copy.md"]);
    p.wait_for_line(&mut accept, "another genmake runs here");
    gate.open();
    p.finish(build).stderr_has("`copy.md` was edited by hand").exits(2);
    p.finish(accept).stderr_has("1 edit accepted").exits(0);
    is_quiet(&p);
}

/// In reports an accepted edit and a merge have a count of their own.
#[test]
fn a_report_counts_what_was_accepted_and_merged() {
    let p = edited("merge");
    let counts = |run: Run| {
        run.exits(0);
        let report: serde_json::Value = serde_json::from_str(&p.read("r.json")).expect("JSON");
        (
            report["targets"]["accepted"].clone(),
            report["targets"]["merged"].clone(),
            report["tasks"][0]["status"].clone(),
        )
    };
    assert_eq!(counts(p.run(["--report", "r.json"])), (1.into(), 0.into(), "accepted".into()));
    p.edit("d.yaml", &data("b", "z"));
    assert_eq!(counts(p.run(["--report", "r.json"])), (0.into(), 1.into(), "merged".into()));
}

// ---- whatever happens ----

/// Edits, changes, builds and flags in any order: what a person wrote stands in its place, or is in the store, or its lines are
/// in what it was merged into; and what a build calls done is quiet.
#[test]
fn nothing_that_a_person_wrote_is_lost_over_random_steps() {
    for (at, on_edit) in ["stop", "keep", "overwrite", "merge"].into_iter().enumerate() {
        for seed in 0..2 {
            let p = project(on_edit);
            let mut number = 1 + 7 * seed + 31 * at as u64;
            let mut written: Vec<String> = Vec::new();
            for step in 0..8 {
                // The high bits of a linear congruence are good enough a dice.
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (edits, changes, how) = (number >> 60 & 1 == 0, number >> 57 & 1 == 0, number >> 40);
                if edits && p.exists("page.md") {
                    let line = ["one\n", "two\n", "three\n"][(number >> 50) as usize % 3];
                    let text = p.read("page.md").replace(line, &format!("mine {seed} {step}\n"));
                    p.edit("page.md", &text);
                    written.push(text);
                }
                if changes {
                    p.edit("d.yaml", &data(&format!("t{step}"), if number >> 30 & 1 == 0 { "y" } else { "z" }));
                }
                let args: &[&str] = match how % 8 {
                    0 => &["--force"],
                    1 => &["-B"],
                    2 => &["accept", "page.md"],
                    3 => &["--frozen"],
                    4 => &["page.md"],
                    _ => &[],
                };
                let run = p.run(args.iter().copied());
                let (code, shown) = (run.status.code(), run.to_string());
                drop(run);
                if code == Some(0) && args.is_empty() {
                    is_quiet(&p);
                }
                let stands = p.tree().get("page.md").cloned().unwrap_or_default();
                let all = p.everything();
                // A later edit is on top of an earlier one, so its lines are where that is.
                let kept = all.iter().filter(|(path, _)| path.starts_with(".genmake/store/cas/"));
                let mut texts: Vec<String> =
                    kept.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect();
                texts.push(stands);
                for text in &written {
                    let mine: Vec<&str> = text.lines().filter(|line| line.starts_with("mine ")).collect();
                    let holds = |text: &String| mine.iter().all(|mine| text.lines().any(|line| line == *mine));
                    assert!(
                        texts.iter().any(holds),
                        "{on_edit}, seed {seed}, step {step}, {args:?} lost {text:?}\n{shown}"
                    );
                }
                has_no_temporary_file(&p);
            }
        }
    }
}

/// What was accepted counts for what it was made from then.
#[test]
fn an_accepted_edit_that_is_held_up_again_says_so() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  page: {inputs: [note.txt], template: t.hbs, output: page.md}\n")
        .file("t.hbs", "{{inputs.[0].text}}")
        .file("note.txt", "one\n");
    p.run(["-s"]).exits(0);
    p.edit("page.md", "mine\n").run(["accept", "page.md"]).exits(0);
    p.edit("note.txt", "two\n");
    p.run(["check"]).stdout_has("edited  page.md  edited by hand; input changed: note.txt\n").exits(1);
    let why = "`page.md` was edited by hand and accepted, for what it was made from before: input changed: note.txt";
    p.run([]).stderr_has(why).stderr_has("`genmake accept page.md` keeps it").exits(2);
    assert_eq!(p.read("page.md"), "mine\n");
}
