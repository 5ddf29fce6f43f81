//! What is staged, judged as a commit would record it; and git's own pre-commit hook, through git.

use expect_test::{Expect, expect};

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
";

/// A project, built and committed.
fn committed() -> Project {
    let project = unbuilt();
    project.run(["-s"]).exits(0);
    shell(&project, "git add -A && git commit -qm one", expect![]);
    project
}

fn unbuilt() -> Project {
    let who = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    let project = who.iter().fold(Project::new(), |project, name| project.env(name, "me"));
    let project = project
        .file("Genfile", GENFILE)
        .file("t.hbs", "{{item.text}}")
        .file("index.hbs", "{{#each inputs.pages}}{{path}}: {{text}}{{/each}}")
        .file("notes/a.md", "one\n")
        .file("notes/b.md", "two\n");
    shell(&project, "git init -q -b main", expect![]);
    project
}

#[track_caller]
fn shell(project: &Project, line: &str, expected: Expect) {
    expected.assert_eq(&project.shell(line));
}

const STAGED: &str = "genmake check --staged; echo $?";

#[test]
fn what_is_staged_is_judged_and_not_what_stands_there() {
    let p = committed();
    shell(
        &p,
        STAGED,
        expect![[r#"
        3 targets are up to date
        0
    "#]],
    );
    // An edit that is not staged is no matter.
    p.edit("notes/a.md", "uno\n");
    shell(
        &p,
        STAGED,
        expect![[r#"
        3 targets are up to date
        0
    "#]],
    );
    // Staged, it is; built and not staged it is still.
    shell(
        &p,
        &format!("git add notes/a.md; genmake -s; genmake check; {STAGED}"),
        expect![[r#"
            3 targets are up to date
            stale  out/a.txt      input changed
            stale  out/index.txt  input changed
            what is staged is not up to date: `git add Genfile.lock out/a.txt out/index.txt`
            1
        "#]],
    );
    // As with a part of it: the lock is missing yet.
    shell(
        &p,
        &format!("git add out; {STAGED}"),
        expect![[r#"
            stale  out/a.txt      input changed
            stale  out/index.txt  input changed
            what is staged is not up to date: `git add Genfile.lock`
            1
        "#]],
    );
    let before = p.everything();
    shell(
        &p,
        &format!("git add -A; {STAGED}"),
        expect![[r#"
        3 targets are up to date
        0
    "#]],
    );
    let mut after = p.everything();
    after.retain(|path, _| !path.starts_with(".git/"));
    assert!(after.iter().all(|(path, bytes)| before.get(path) == Some(bytes)), "it writes nothing");
    // The other way round: what stands there is broken, and what is staged is not.
    p.edit("Genfile", "nonsense\n").edit("Genfile.lock", "nonsense\n").remove("t.hbs").edit("out/a.txt", "by hand");
    shell(
        &p,
        &format!("genmake check 2>/dev/null || {STAGED}"),
        expect![[r#"
        3 targets are up to date
        0
    "#]],
    );
}

#[test]
fn files_that_are_not_tracked_are_not_there() {
    let p = committed();
    p.edit("notes/c.md", "three\n");
    // A build counts it, the commit has neither it nor its output.
    shell(
        &p,
        &format!("genmake -s; {STAGED}"),
        expect![[r#"
        3 targets are up to date
        0
    "#]],
    );
    shell(
        &p,
        &format!("git add out Genfile.lock; {STAGED}"),
        expect![[r#"
            stale   out/index.txt  input changed: rule:pages
            orphan  out/c.txt      no rule makes it any more; a build deletes it
            what is staged is not up to date: `git add notes/c.md`
            1
        "#]],
    );
    // Meant to be added is not added.
    shell(
        &p,
        &format!("git add -N notes/c.md; {STAGED}"),
        expect![[r#"
            stale   out/index.txt  input changed: rule:pages
            orphan  out/c.txt      no rule makes it any more; a build deletes it
            what is staged is not up to date: `git add notes/c.md`
            1
        "#]],
    );
    shell(
        &p,
        &format!("git add notes/c.md; {STAGED}"),
        expect![[r#"
        4 targets are up to date
        0
    "#]],
    );
    // What is deleted without being staged is still there, and the other way round.
    p.remove("notes/b.md");
    shell(
        &p,
        STAGED,
        expect![[r#"
        4 targets are up to date
        0
    "#]],
    );
    shell(
        &p,
        &format!("git rm -q --cached notes/a.md; {STAGED}"),
        expect![[r#"
        stale   out/index.txt  input changed: rule:pages
        orphan  out/a.txt      no rule makes it any more; a build deletes it
        what is staged is not up to date: run `genmake`, then `git add` what it writes
        1
    "#]],
    );
    // What git ignores is in no commit, and counts as it lies there.
    shell(
        &p,
        &format!("git reset -q; git checkout -q .; echo out/ > .gitignore; git rm -rq --cached out; {STAGED}"),
        expect![[r#"
            3 targets are up to date
            0
        "#]],
    );
}

#[test]
fn the_lock_alone_vouches_for_what_is_staged() {
    let p = unbuilt();
    shell(
        &p,
        &format!("git add -A; genmake -s; git add out; {STAGED}"),
        expect![[r#"
            stale  out/a.txt      new
            stale  out/b.txt      new
            stale  out/index.txt  new
            what is staged is not up to date: `git add Genfile.lock`
            1
        "#]],
    );
    shell(
        &p,
        &format!("git add Genfile.lock; {STAGED}"),
        expect![[r#"
        3 targets are up to date
        0
    "#]],
    );
    // Without a Genfile there is nothing to be said.
    shell(
        &p,
        &format!("git rm -q --cached Genfile; {STAGED}"),
        expect![[r#"
        `Genfile` is not in what is staged, so nothing of that is generated
        0
    "#]],
    );
}

#[test]
fn git_commit_asks_the_hook() {
    let p = committed();
    shell(
        &p,
        "genmake hook install",
        expect![[r#"
            write  [ROOT]/.git/hooks/pre-commit
        from now on `git commit` refuses what is not up to date; `git commit --no-verify` asks nobody
    "#]],
    );
    shell(
        &p,
        "genmake hook install",
        expect![[r#"
        `[ROOT]/.git/hooks/pre-commit` is there already
    "#]],
    );
    p.edit("notes/a.md", "uno\n");
    shell(
        &p,
        "git commit -qam two; echo $?",
        expect![[r#"
        stale  out/a.txt      input changed: notes/a.md
        stale  out/index.txt  input changed: rule:pages
        what is staged is not up to date: run `genmake`, then `git add` what it writes
        1
    "#]],
    );
    shell(
        &p,
        "genmake -s && git commit -qam two && git status --short; echo $?",
        expect![[r#"
            0
        "#]],
    );
    // A commit of named files has an index of its own.
    p.edit("notes/b.md", "due\n");
    shell(
        &p,
        "genmake -s; git commit -qm three notes/b.md; echo $?",
        expect![[r#"
            stale  out/b.txt      input changed
            stale  out/index.txt  input changed
            what is staged is not up to date: `git add Genfile.lock out/b.txt out/index.txt`
            1
        "#]],
    );
    shell(
        &p,
        "git commit -qm three notes/b.md out Genfile.lock; echo $?; git status --short",
        expect![[r#"
            0
        "#]],
    );
    // Somebody else's folder, and a program that knows no PATH but git's own.
    p.edit("notes/b.md", "drei\n");
    shell(
        &p,
        "cd notes && PATH=/usr/bin:/bin git commit -qam four; echo $?",
        expect![[r#"
        stale  out/b.txt      input changed: notes/b.md
        stale  out/index.txt  input changed: rule:pages
        what is staged is not up to date: run `genmake`, then `git add` what it writes
        1
    "#]],
    );
    shell(
        &p,
        "git commit -qnam four; echo $?",
        expect![[r#"
        0
    "#]],
    );
    shell(
        &p,
        "genmake hook remove; genmake hook remove; ls .git/hooks | grep -v sample",
        expect![[r#"
           delete  [ROOT]/.git/hooks/pre-commit
        there is no `[ROOT]/.git/hooks/pre-commit`
    "#]],
    );
}

#[test]
fn a_part_of_a_file_can_be_committed() {
    let p = committed();
    shell(
        &p,
        "genmake hook install -s",
        expect![[r#"
            write  [ROOT]/.git/hooks/pre-commit
        from now on `git commit` refuses what is not up to date; `git commit --no-verify` asks nobody
    "#]],
    );
    p.edit("notes/b.md", "two\nand more\n");
    p.edit("notes/a.md", "one, by the index alone\n");
    shell(
        &p,
        "git add notes/a.md && git stash -qk && genmake -s && git add -A && git commit -qm a; echo $?; git stash pop -q; git status --short",
        expect![[r#"
            0
             M notes/b.md
        "#]],
    );
    shell(
        &p,
        STAGED,
        expect![[r#"
        3 targets are up to date
        0
    "#]],
    );
    // What a merge left in conflict is no content yet.
    let line = "git checkout -qb other && git commit -qnam other && git checkout -q main && echo else > notes/b.md && \
                git commit -qnam main; git merge -q other; genmake check --staged; echo $?";
    shell(
        &p,
        line,
        expect![[r#"
            Auto-merging notes/b.md
            CONFLICT (content): Merge conflict in notes/b.md
            Automatic merge failed; fix conflicts and then commit the result.
            failed   out/b.txt      Genfile:3:3: rule `pages`: `notes/b.md` is unmerged in git's index
            waiting  out/index.txt  waits for out/b.txt
            genmake::unreadable

              x rule `pages`: `notes/b.md` is unmerged in git's index
               ,-[Genfile:3:3]
             2 | rules:
             3 |   pages:
               :   ^^^^^
             4 |     foreach: notes/*.md
               `----
              help: resolve the conflict and `git add` the file
            what is staged is not up to date: mend what is said to be wrong; run `genmake`, then `git add notes/b.md`
            2
        "#]],
    );
}

#[test]
fn the_hook_is_taken_away_also_when_the_genfile_is_gone() {
    for move_it in ["rm Genfile", "mv Genfile Genfile.yaml"] {
        let p = unbuilt();
        shell(&p, &format!("genmake -s hook install >/dev/null 2>&1; {move_it}"), expect![]);
        p.run(["hook", "remove"]).stderr_has("   delete  ").exits(0);
        assert!(!p.exists(".git/hooks/pre-commit"), "{move_it}");
    }
    let p = unbuilt();
    shell(&p, "mv Genfile other.yaml; genmake -s -f other.yaml hook install >/dev/null 2>&1; rm other.yaml", expect![]);
    p.run(["hook", "remove"]).stderr_has("has nothing of this project").exits(0);
    p.run(["-f", "other.yaml", "hook", "remove"]).stderr_has("   delete  ").exits(0);
    p.run(["hook", "install"]).stderr_has("genmake::no_genfile").exits(2);
}

#[test]
fn what_is_refused_is_told_with_what_helps() {
    let p = committed();
    shell(&p, "genmake hook install >/dev/null 2>&1", expect![]);
    // An edit by hand is nothing that a build makes.
    p.edit("out/a.txt", "by hand\n");
    let said = p.shell("git commit -qam two; git checkout -q HEAD .");
    assert!(said.contains("not up to date: `genmake accept out/a.txt` keeps an edit"), "{said}");
    // A mistake is told once, however many files it is in the way of.
    p.edit("t.hbs", "{{item.txet}}");
    let said = p.shell("git commit -qam two; git checkout -q HEAD .");
    assert_eq!(said.matches("genmake::undefined").count(), 1, "{said}");
    assert!(said.contains("mend what is said to be wrong"), "{said}");
    // What was staged before is nobody's edit.
    p.edit("notes/a.md", "uno\n");
    let said = p.shell("genmake -s; git add notes Genfile.lock out/index.txt; git commit -qm two; git reset -q --hard");
    assert!(
        said.contains("stale  out/a.txt  not staged as it stands there\nwhat is staged is") && !said.contains("edited"),
        "{said}"
    );
    // By another of its names it is the same project.
    let said = p.shell(
        "git mv Genfile Genfile.yaml; git commit -qam three; git mv Genfile.lock Genfile.yaml.lock; genmake -s; git add -A; \
         git commit -qm three; echo stale >> notes/a.md; git commit -qam four; echo $?",
    );
    assert!(said.ends_with("\n1\n") && said.contains("stale  out/a.txt"), "{said}");
}

#[test]
fn a_hook_of_somebody_elses_is_left_alone() {
    let p = committed();
    let hook = "#!/bin/sh\nexit 0\n";
    p.edit(".git/hooks/pre-commit", hook);
    shell(
        &p,
        "genmake hook install; echo $?; genmake hook remove; echo $?",
        expect![[r#"
            genmake::usage

              x `[ROOT]/.git/hooks/pre-commit` is there already, and genmake did not write it
              help: add this line to it: { [ ! -f Genfile ] && [ ! -f Genfile.yaml ] && [ ! -f Genfile.yml ]; } || genmake check --staged || exit 1
                    if it is pre-commit's: add the hook `genmake-check` to `.pre-commit-config.yaml`, see docs/hooks.md
            2
            `[ROOT]/.git/hooks/pre-commit` is not of genmake's making: it stays
            0
        "#]],
    );
    assert_eq!(p.read(".git/hooks/pre-commit"), hook);
    p.remove(".git/hooks/pre-commit");
    // Configured folders, of the repository and of the person.
    shell(
        &p,
        "git config core.hooksPath tools/hooks && genmake hook install && ls tools/hooks && genmake hook remove && ls tools/hooks",
        expect![[r#"
                write  [ROOT]/tools/hooks/pre-commit
            from now on `git commit` refuses what is not up to date; `git commit --no-verify` asks nobody
            pre-commit
               delete  [ROOT]/tools/hooks/pre-commit
        "#]],
    );
    shell(
        &p,
        "git config --unset core.hooksPath; git config --global core.hooksPath '~/hooks'; genmake hook install; echo $?",
        expect![[r#"
            genmake::usage

              x `core.hooksPath` is `~/hooks` for all your repositories: a hook there would run in each
              help: `git config core.hooksPath .git/hooks` gives this repository hooks of its own
                    or add this line to your own hook: { [ ! -f Genfile ] && [ ! -f Genfile.yaml ] && [ ! -f Genfile.yml ]; } || genmake check --staged || exit 1
            2
        "#]],
    );
    let nowhere = Project::new().file("Genfile", "version: 1\nrules: {}\n");
    shell(
        &nowhere,
        "genmake hook install; echo $?",
        expect![[r#"
        genmake::usage

          x git says: fatal: not a git repository (or any of the parent directories): .git
          help: this is asked of git, and needs its work tree
        2
    "#]],
    );
}

#[test]
fn several_projects_work_trees_and_submodules_have_hooks() {
    let p = committed();
    for (path, text) in p.tree() {
        if !path.starts_with(".git") {
            p.edit(&format!("it's one/{path}"), &text);
        }
    }
    let line = "genmake hook install && genmake -C \"it's one\" hook install && tail -n2 .git/hooks/pre-commit";
    shell(
        &p,
        line,
        expect![[r#"
                write  [ROOT]/.git/hooks/pre-commit
            from now on `git commit` refuses what is not up to date; `git commit --no-verify` asks nobody
                write  [ROOT]/.git/hooks/pre-commit
            from now on `git commit` refuses what is not up to date; `git commit --no-verify` asks nobody
            { [ ! -f Genfile ] && [ ! -f Genfile.yaml ] && [ ! -f Genfile.yml ]; } || "$genmake" -s check --staged || exit 1
            { [ ! -f 'it'\''s one'/Genfile ] && [ ! -f 'it'\''s one'/Genfile.yaml ] && [ ! -f 'it'\''s one'/Genfile.yml ]; } || "$genmake" -C 'it'\''s one' -s check --staged || exit 1
        "#]],
    );
    shell(
        &p,
        "git add -A && git commit -qm two; echo $?",
        expect![[r#"
            0
        "#]],
    );
    // Files are named as one writes them where one stands.
    p.edit("it's one/notes/a.md", "eins\n");
    let line = "genmake -s -C \"it's one\"; git add \"it's one/notes\"; git commit -qm two; cd \"it's one/notes\"; git commit -qm two; git reset -q --hard";
    shell(
        &p,
        line,
        expect![[r#"
        stale  out/a.txt      input changed
        stale  out/index.txt  input changed
        what is staged in `it's one` is not up to date: `git add 'it'\''s one/Genfile.lock' 'it'\''s one/out/a.txt' 'it'\''s one/out/index.txt'`
        stale  out/a.txt      input changed
        stale  out/index.txt  input changed
        what is staged in `it's one` is not up to date: `git add ../Genfile.lock ../out/a.txt ../out/index.txt`
    "#]],
    );
    p.edit("it's one/notes/a.md", "uno\n");
    shell(
        &p,
        "git commit -qam three; echo $?",
        expect![[r#"
            stale  out/a.txt      input changed: notes/a.md
            stale  out/index.txt  input changed: rule:pages
            what is staged in `it's one` is not up to date: run `genmake`, then `git add` what it writes
            1
        "#]],
    );
    shell(
        &p,
        "git checkout -q . && genmake hook remove && tail -n1 .git/hooks/pre-commit",
        expect![[r#"
                write  [ROOT]/.git/hooks/pre-commit, which has more than this project in it
            { [ ! -f 'it'\''s one'/Genfile ] && [ ! -f 'it'\''s one'/Genfile.yaml ] && [ ! -f 'it'\''s one'/Genfile.yml ]; } || "$genmake" -C 'it'\''s one' -s check --staged || exit 1
        "#]],
    );
    // Another work tree of the same repository, in which git names the repository to its hook.
    p.edit("it's one/notes/a.md", "uno\n");
    let line = "git stash -q && git worktree add -q wt && cd wt && git stash pop -q && git commit -qam three; echo $?";
    shell(
        &p,
        line,
        expect![[r#"
            stale  out/a.txt      input changed
            stale  out/index.txt  input changed
            what is staged in `it's one` is not up to date: run `genmake`, then `git add` what it writes
            1
        "#]],
    );
    shell(
        &p,
        "cd wt && genmake -s -C \"it's one\" && git commit -qam three; echo $?",
        expect![[r#"
            0
        "#]],
    );
    // A submodule has a repository of its own, and the hook around it names another index.
    let sub = "git init -q other && cd other && cp -r ../notes ../*.hbs ../Genfile . && genmake -s && git add -A && git commit -qm sub && cd .. && \
               git -c protocol.file.allow=always submodule add -q ./other sub && git add sub && git commit -qm four -n; \
               genmake -C sub hook install && cd sub && echo x > notes/a.md && git commit -qam five; echo $?";
    shell(
        &p,
        sub,
        expect![[r#"
                write  [ROOT]/.git/modules/sub/hooks/pre-commit
            from now on `git commit` refuses what is not up to date; `git commit --no-verify` asks nobody
            stale  out/a.txt      input changed
            stale  out/index.txt  input changed
            what is staged is not up to date: run `genmake`, then `git add` what it writes
            1
        "#]],
    );
    shell(
        &p,
        "GIT_INDEX_FILE=$PWD/.git/index genmake -C sub check --staged; echo $?",
        expect![[r#"
        3 targets are up to date
        0
    "#]],
    );
}

#[test]
fn links_lead_where_the_index_has_them_lead() {
    let p = committed();
    shell(
        &p,
        "rm notes/a.md; ln -s ../real.md notes/a.md; printf 'one\\n' > real.md; git add -A; git commit -qm link; genmake check --staged; echo $?",
        expect![[r#"
            3 targets are up to date
            0
        "#]],
    );
    p.edit("real.md", "changed\n");
    shell(
        &p,
        STAGED,
        expect![[r#"
        3 targets are up to date
        0
    "#]],
    );
    shell(
        &p,
        "git add real.md; git show HEAD:real.md > real.md; genmake check --staged; echo $?",
        expect![[r#"
        stale  out/a.txt      input changed: notes/a.md
        stale  out/index.txt  input changed: rule:pages
        what is staged is not up to date: run `genmake`, then `git add` what it writes
        1
    "#]],
    );
    shell(
        &p,
        "git add real.md; ln -sf b.md notes/a.md; genmake check --staged; echo $?",
        expect![[r#"
        3 targets are up to date
        0
    "#]],
    );
}

#[test]
fn blobs_are_taken_in_the_form_in_which_git_writes_them() {
    let p = committed();
    p.edit(".gitattributes", "*.md text eol=crlf\n");
    let line = "git add -A 2>/dev/null && git commit -qm eol && rm -r notes && git checkout -q . && genmake -s && git add -A && git commit -qm crlf && \
                printf 'x\\n' >> notes/a.md && genmake check --staged; echo $?";
    shell(
        &p,
        line,
        expect![[r#"
            3 targets are up to date
            0
        "#]],
    );
}

#[test]
fn merges_need_no_more_than_a_build() {
    let p = committed();
    shell(
        &p,
        "genmake init --git && genmake init --git; cat .gitattributes .gitignore",
        expect![[r#"
            write  .gitattributes
            write  .gitignore
        git knows what there is to know
        # genmake
        /Genfile.lock linguist-generated merge=union -text
        /out/*.txt linguist-generated -merge -text
        /out/index.txt linguist-generated -merge -text
        # genmake
        /.genmake/
    "#]],
    );
    shell(
        &p,
        "git add -A && git commit -qm git && git check-attr merge linguist-generated text -- Genfile.lock out/a.txt notes/a.md",
        expect![[r#"
            Genfile.lock: merge: union
            Genfile.lock: linguist-generated: set
            Genfile.lock: text: unset
            out/a.txt: merge: unset
            out/a.txt: linguist-generated: set
            out/a.txt: text: unset
            notes/a.md: merge: unspecified
            notes/a.md: linguist-generated: unspecified
            notes/a.md: text: unspecified
        "#]],
    );
    // Branches that change neighbours, and what is made of all of them.
    p.edit("notes/a.md", "uno\n");
    shell(
        &p,
        "git switch -qc other && genmake -s && git add -A && git commit -qm other && git switch -q main",
        expect![],
    );
    p.edit("notes/b.md", "due\n").edit("notes/c.md", "tre\n");
    shell(
        &p,
        "genmake -s && git add -A && git commit -qm main; git merge other; git status --short",
        expect![[r#"
        Auto-merging Genfile.lock
        warning: Cannot merge binary files: out/index.txt (HEAD vs. other)
        Auto-merging out/index.txt
        CONFLICT (content): Merge conflict in out/index.txt
        Automatic merge failed; fix conflicts and then commit the result.
        M  Genfile.lock
        M  notes/a.md
        M  out/a.txt
        UU out/index.txt
    "#]],
    );
    shell(
        &p,
        "grep -c . Genfile.lock; genmake; git add -A; genmake check --staged && git commit -qm merge && grep -c . Genfile.lock",
        expect![[r#"
            8
               render  out/index.txt
            done: 1 rendered, 3 fresh in [TIME]
            4 targets are up to date
            5
        "#]],
    );
    assert_eq!(p.read("out/index.txt"), "out/a.txt: uno\nout/b.txt: due\nout/c.txt: tre\n");
    // A fresh clone agrees.
    shell(
        &p,
        "git clone -q . clone && genmake -C clone check",
        expect![[r#"
        4 targets are up to date
    "#]],
    );
}

#[test]
fn what_git_has_been_told_stays() {
    let p = Project::new().file(".gitattributes", "*.md text\r\n/spec.yaml -text").file(".gitignore", "/.genmake\n");
    shell(
        &p,
        "git init -q && genmake init",
        expect![[r#"
            write  Genfile
            write  spec.yaml
            write  templates/index.md.hbs
            write  prompts/page.prompt
        `genmake init --git` adds lines for git to `.gitattributes`
        run `genmake` to build, `genmake plan` to see first what it would do
    "#]],
    );
    shell(
        &p,
        "genmake init --git -n",
        expect![[r#"
            write  .gitattributes
        nothing was written
    "#]],
    );
    shell(
        &p,
        "genmake init --git && echo done",
        expect![[r#"
            write  .gitattributes
        done
    "#]],
    );
    expect![[r#"
        *.md text\r
        /spec.yaml -text\r
        \r
        # genmake\r
        /Genfile.lock linguist-generated merge=union -text\r
        /docs/index.md linguist-generated -merge -text\r
    "#]]
    .assert_eq(&p.read(".gitattributes").replace('\r', "\\r"));
    assert_eq!(p.read(".gitignore"), "/.genmake\n");
}
