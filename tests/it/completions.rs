//! `completions` with the shells themselves, `man` and `help`.

use expect_test::expect;

use crate::clients::client;
use crate::project::Project;

const GENFILE: &str = "\
version: 1
provider: near
providers:
  near: { api: openai, base_url: http://127.0.0.1:9/v1, model: m }
  never: { api: openai, base_url: http://127.0.0.1:9/v1, model: m }
rules:
  index:
    output: docs/index.md
    template: t.hbs
    group: site
  pages:
    foreach: [a, b]
    output: \"docs/pages/{{item}}.md\"
    template: t.hbs
    group: site
  words:
    items: words.yaml#/*
    output: words.jsonl
    embed: { model: m }
";

fn project() -> Project {
    Project::new().file("Genfile", GENFILE).file("t.hbs", "x\n").file("words.yaml", "[]\n").file("sub/here.txt", "")
}

#[test]
fn bash_offers_commands_rules_groups_targets_and_providers() {
    let Some(_) = client("bash") else { return };
    let p = project().file(
        "ask.bash",
        r#"
        source <(genmake completions bash)
        ask() { # the words of the line; the last is completed
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
            COMPREPLY=()
            local function; function=$(complete -p genmake | sed 's/.*-F \([^ ]*\).*/\1/')
            "$function" genmake "${COMP_WORDS[$COMP_CWORD]}" "${COMP_WORDS[$((COMP_CWORD - 1))]}" 2>/dev/null
            echo "$* -> ${COMPREPLY[*]}"
        }
        ask genmake pl
        ask genmake plan pa
        ask genmake plan si
        ask genmake docs/
        ask genmake docs/pages/
        ask genmake --provider ne
        ask genmake search text w
        ask genmake init --pack ru
        ask genmake plan --froz
        (cd sub && ask genmake ../docs/in)
        ask genmake -C sub build ../docs/in
        ask genmake check --format g
        ask genmake graph --format g
        ask genmake help expl
        "#,
    );
    expect![[r#"
        genmake pl -> plan
        genmake plan pa -> pages
        genmake plan si -> site
        genmake docs/ -> docs/index.md docs/pages/
        genmake docs/pages/ -> docs/pages/a.md docs/pages/b.md
        genmake --provider ne -> near never
        genmake search text w -> words
        genmake init --pack ru -> rust
        genmake plan --froz -> --frozen
        genmake ../docs/in -> ../docs/index.md
        genmake -C sub build ../docs/in -> ../docs/index.md
        genmake check --format g -> github gitlab
        genmake graph --format g -> 
        genmake help expl -> explain
    "#]]
    .assert_eq(&p.shell("bash --norc ask.bash"));
}

#[test]
fn bash_keeps_a_path_with_a_blank_one_word() {
    let (Some(_), Some(_)) = (client("bash"), client("zsh")) else { return };
    let genfile = "version: 1\nrules:\n  a: {output: 'docs/one two.md', template: t.hbs}\n";
    // zsh's module is the keyboard of bash's terminal.
    let p = Project::new().file("Genfile", genfile).file("t.hbs", "x\n").file(
        "ask.zsh",
        r#"
        zmodload zsh/zpty
        zpty shell bash --norc -i
        zpty -w shell 'PS1=; source <(genmake completions bash); echo ready-"now"'
        zpty -r shell line '*ready-now*'
        zpty -w -n shell $'genmake --color never check docs/on\t > seen; echo all-"done"\n'
        zpty -r shell line '*all-done*'
        cat seen
        "#,
    );
    expect![[r#"
        stale  docs/one two.md  new
    "#]]
    .assert_eq(&p.shell("timeout 50 zsh -f ask.zsh"));
}

#[test]
fn fish_offers_the_same() {
    let Some(_) = client("fish") else { return };
    let p = project();
    let asked = p.shell("fish --no-config -c 'genmake completions fish | source; complete -C \"genmake plan pa\"; complete -C \"genmake docs/in\"'");
    expect![[r#"
        pages	rule
        docs/index.md	target
    "#]]
    .assert_eq(&asked);
}

#[test]
fn zsh_completes_a_line_that_then_runs() {
    let Some(_) = client("zsh") else { return };
    // A shell with a terminal of its own: completion is a part of its editor.
    let p = project().file(
        "ask.zsh",
        r#"
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell 'PS1=; unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; source <(genmake completions zsh); echo ready-"now"'
        zpty -r shell line '*ready-now*'
        zpty -w -n shell $'genmake --color never check docs/ind\t > seen; echo all-"done"\n'
        zpty -r shell line '*all-done*'
        cat seen
        "#,
    );
    expect![[r#"
        stale  docs/index.md  new
    "#]]
    .assert_eq(&p.shell("timeout 50 zsh -f ask.zsh"));
}

#[test]
fn a_tab_where_nothing_can_be_read_offers_commands_and_says_nothing() {
    for genfile in ["", "rules: [", "version: 1\nrules: {a: {output: a, template: gone.hbs}}\n"] {
        let p = Project::new().file("Genfile", genfile).env("GENMAKE_COMPLETE", "fish");
        let run = p.run(["--", "genmake", "expl"]);
        run.stdout_has("explain").stderr(expect![""]).exits(0);
    }
}

#[test]
fn there_is_a_page_for_genmake_and_one_for_each_command() {
    let p = Project::new();
    let main = p.run(["man"]);
    for section in [".SH NAME", ".SH OPTIONS", ".SH SUBCOMMANDS", ".SH \"EXIT STATUS\"", ".SH FILES", ".SH ENVIRONMENT"]
    {
        assert!(main.stdout.contains(section), "{section} is not in:\n{}", main.stdout);
    }
    main.exits(0);
    p.run(["man", "plan"]).stdout_has("genmake\\-plan").exits(0);
    p.run(["man", "hook"]).stdout_has(".TH GENMAKE-HOOK 1").exits(0);
    let version = concat!("\"genmake ", env!("CARGO_PKG_VERSION"), "\"");
    p.run(["man", "hook", "install"]).stdout_has(".TH GENMAKE-HOOK-INSTALL 1").stdout_has(version).exits(0);
    p.run(["help", "hook", "install"]).stdout_has("Usage: genmake hook install").exits(0);
    p.run(["man", "hook", "instal"]).stderr_has("did you mean `install`").exits(2);
    p.run(["man", "plam"]).stderr_has("did you mean `plan`?").exits(2);
    if client("man").is_some() {
        // No warning of the formatter, and the words are there.
        let page = p.shell("genmake man > genmake.1; man --warnings -l genmake.1 | cat");
        assert!(page.contains("EXIT STATUS") && page.contains("--frozen"), "{page}");
        assert!(!page.contains("warning"), "{page}");
    }
}

#[test]
fn help_shows_the_first_day() {
    let p = Project::new();
    p.run(["help"])
        .stdout(expect![[r#"
            genmake is make for generated files: a Genfile says which files come from which inputs.

              genmake init            write a Genfile to start from, with a template and a prompt
              genmake plan            what would be made, why and at what cost; sends nothing
              genmake                 make it: only what is not up to date
              genmake explain TARGET  why a target is or is not up to date
              genmake check           is everything up to date? For CI and hooks: exit 1 if not

            `genmake help COMMAND` says more of one of them, `genmake --help` names all.
        "#]])
        .exits(0);
    p.run(["help", "check"]).stdout_has("exit 1 if anything is not").exits(0);
    p.run(["help", "chek"]).stderr_has("did you mean `check`?").exits(2);
}
