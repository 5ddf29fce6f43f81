//! Every error code: provoked as a user would, and shown as a user sees it. `docs/errors.md` says of each what the case shows.

use expect_test::{Expect, expect};
use genmake::error::Code;

use crate::project::Project;
use crate::server::{Act, Server};

/// Each code by the function that provokes it; each of them is a test.
macro_rules! cases {
    ($($case:ident => $code:ident,)*) => {
        const CASES: &[Code] = &[$(Code::$code),*];

        mod shows {
            use genmake::error::Code;
            $(
                #[test]
                fn $case() {
                    super::is_documented(Code::$code, &super::$case());
                }
            )*
        }
    };
}

cases! {
    usage => Usage,
    no_genfile => NoGenfile,
    yaml => Yaml,
    unknown_key => UnknownKey,
    unsupported => Unsupported,
    missing_key => MissingKey,
    wrong_type => WrongType,
    bad_value => BadValue,
    duplicate_key => DuplicateKey,
    conflict => Conflict,
    bad_expression => BadExpression,
    undefined => Undefined,
    unknown_rule => UnknownRule,
    unknown_provider => UnknownProvider,
    cycle => Cycle,
    duplicate_output => DuplicateOutput,
    missing_input => MissingInput,
    bad_path => BadPath,
    bad_glob => BadGlob,
    bad_selector => BadSelector,
    unknown_entity => UnknownEntity,
    dynamic_foreach => DynamicForeach,
    unreadable => Unreadable,
    unwritable => Unwritable,
    bad_lock => BadLock,
    unknown_target => UnknownTarget,
    edited => Edited,
    unmerged => Unmerged,
    frozen => Frozen,
    offline => Offline,
    too_long => TooLong,
    submitted => Submitted,
    no_result => NoResult,
    no_report => NoReport,
    bad_round => BadRound,
    budget => Budget,
    provider => Provider,
    truncated => Truncated,
    malformed => Malformed,
    refused => Refused,
    check_failed => CheckFailed,
    command_failed => CommandFailed,
    not_made => NotMade,
    start_failed => StartFailed,
    key => Key,
    secret => Secret,
    needs_yes => NeedsYes,
    moved => Moved,
}

/// Codes that no case can provoke, and why.
const UNPROVOKED: &[(Code, &str)] = &[(Code::Bug, "a mistake of genmake's own; one that is known is mended")];

const DOCS: &str = include_str!("../../docs/errors.md");

/// A row of the tables of `docs/errors.md`: cause, example, cure.
fn row(code: &str) -> Option<[&'static str; 3]> {
    let start = format!("| `{code}` | ");
    let row = DOCS.lines().find_map(|line| line.strip_prefix(&start)?.strip_suffix(" |"))?;
    let cells: Vec<&str> = row.split(" | ").collect();
    cells.try_into().ok()
}

/// What the docs give as an example really is what is shown.
#[track_caller]
fn is_documented(code: Code, shown: &str) {
    let [_, example, _] =
        row(code.as_str()).unwrap_or_else(|| panic!("docs/errors.md has no row for `{}`", code.as_str()));
    assert!(shown.contains(&format!("{}\n", code.as_str())), "it shows another code than {}\n{shown}", code.as_str());
    // Folders and ports are masked in what is shown.
    let example = example.replace("/work", "[ROOT]").replace("127.0.0.1:8080", "127.0.0.1:[PORT]");
    assert!(shown.contains(&example), "docs/errors.md gives an example that is not shown: {example}\n{shown}");
}

#[test]
fn every_code_has_a_case_and_a_row() {
    let lists = CASES.iter().chain(UNPROVOKED.iter().map(|(code, _)| code));
    let mut told: Vec<Code> = lists.copied().collect();
    told.sort();
    let mut all = Code::ALL.to_vec();
    all.sort();
    assert_eq!(told, all, "each code has one case, or one reason");
    let mut documented: Vec<&str> =
        DOCS.lines().filter_map(|line| line.strip_prefix("| `genmake::")?.split('`').next()).collect();
    documented.sort_unstable();
    let mut names: Vec<&str> = all.iter().filter_map(|code| code.as_str().strip_prefix("genmake::")).collect();
    names.sort_unstable();
    assert_eq!(documented, names, "docs/errors.md lists each code once");
    for code in all {
        let cells = row(code.as_str());
        assert!(
            cells.is_some_and(|cells| cells.iter().all(|cell| !cell.trim().is_empty())),
            "{}: a cause, an example, a cure",
            code.as_str()
        );
    }
}

// ---- the cases ----

#[track_caller]
fn shows(p: &Project, args: &[&str], expected: Expect) -> String {
    let run = p.run(args.iter().copied()).stderr(expected);
    let shown = run.to_string();
    run.exits(2);
    shown
}

/// A Genfile of these rules, without a provider.
fn rules(text: &str) -> Project {
    Project::new().file("Genfile", &format!("version: 1\nrules:\n{text}")).file("t.hbs", "text\n")
}

/// A Genfile of one rule with a prompt; `keys` are the rule's further ones.
fn asking(server: &Server, keys: &str) -> Project {
    Project::new()
        .genfile_for(server, &format!("version: 1\nprovider: local\nproviders:\n  local: {{api: openai, model: m, base_url: \"{{base_url}}\"}}\nrules:\n  page: {{output: docs/order.md, prompt: page.prompt{keys}}}\n"))
        .file("page.prompt", "Write a page.\n")
}

fn usage() -> String {
    shows(
        &rules("  a: {output: a.txt, template: t.hbs}\n"),
        &["explain"],
        expect![[r#"
        genmake::usage

          x `explain` takes a target
          help: `genmake plan -v` lists all targets
    "#]],
    )
}

fn no_genfile() -> String {
    shows(
        &Project::new(),
        &[],
        expect![[r#"
        genmake::no_genfile

          x no Genfile in `[ROOT]` or above
          help: `genmake init` makes one to start from
    "#]],
    )
}

fn yaml() -> String {
    shows(
        &rules("  a:\n    output: a.txt\n    template: [t.hbs\n"),
        &[],
        expect![[r#"
            genmake::yaml

              x `Genfile` is not YAML: unclosed bracket '['
               ,-[Genfile:5:15]
             4 |     output: a.txt
             5 |     template: [t.hbs
               :               ^
               `----
              help: in YAML a string that starts with `{{` or `*`, or that holds `: `, stands in quotes
        "#]],
    )
}

fn unknown_key() -> String {
    shows(
        &rules("  a: {output: a.txt, tempalte: t.hbs, run: \"true\"}\n"),
        &[],
        expect![[r#"
        genmake::unknown_key

          x unknown key `tempalte` in rule `a`
           ,-[Genfile:3:22]
         2 | rules:
         3 |   a: {output: a.txt, tempalte: t.hbs, run: "true"}
           :                      ^^^^^^^^
           `----
          help: did you mean `template`?
    "#]],
    )
}

fn unsupported() -> String {
    shows(
        &Project::new().file("Genfile", "version: 1\ncache: {push: ci}\nrules: {}\n"),
        &[],
        expect![[r#"
        genmake::unsupported

          x `cache` of the Genfile is not supported by this version of genmake
           ,-[Genfile:2:1]
         1 | version: 1
         2 | cache: {push: ci}
           : ^^^^^
         3 | rules: {}
           `----
          help: leave it out, or use a newer genmake
    "#]],
    )
}

fn missing_key() -> String {
    shows(
        &rules("  a: {template: t.hbs}\n"),
        &[],
        expect![[r#"
        genmake::missing_key

          x rule `a` has no output
           ,-[Genfile:3:3]
         2 | rules:
         3 |   a: {template: t.hbs}
           :   ^
           `----
          help: say where its result goes: `output: PATH`
    "#]],
    )
}

fn wrong_type() -> String {
    shows(
        &Project::new().file("Genfile", "version: 1\nvars: [a, b]\nrules: {}\n"),
        &[],
        expect![[r#"
        genmake::wrong_type

          x `vars` takes a map, and this is a list
           ,-[Genfile:2:7]
         1 | version: 1
         2 | vars: [a, b]
           :       ^
         3 | rules: {}
           `----
    "#]],
    )
}

fn bad_value() -> String {
    let genfile = "version: 1\nproviders:\n  p: {api: openai, in_flight: 0}\nrules: {}\n";
    shows(
        &Project::new().file("Genfile", genfile),
        &[],
        expect![[r#"
        genmake::bad_value

          x `in_flight` is a whole number from 1 to 1000, not 0
           ,-[Genfile:3:31]
         2 | providers:
         3 |   p: {api: openai, in_flight: 0}
           :                               ^
         4 | rules: {}
           `----
    "#]],
    )
}

fn duplicate_key() -> String {
    shows(
        &rules("  a: {output: a.txt, template: t.hbs}\n  a: {output: b.txt, template: t.hbs}\n"),
        &[],
        expect![[r#"
        genmake::duplicate_key

          x `a` stands twice in one map
           ,-[Genfile:4:3]
         3 |   a: {output: a.txt, template: t.hbs}
         4 |   a: {output: b.txt, template: t.hbs}
           :   ^
           `----
          help: rename one of them or take it out
    "#]],
    )
}

fn conflict() -> String {
    shows(
        &rules("  a: {output: a.txt, template: t.hbs, prompt: a.prompt}\n"),
        &[],
        expect![[r#"
        genmake::conflict

          x rule `a` has two recipes, `template` and `prompt`
           ,-[Genfile:3:39]
         2 | rules:
         3 |   a: {output: a.txt, template: t.hbs, prompt: a.prompt}
           :                                       ^^^^^^
           `----
          help: a rule has exactly one; make two rules of it
    "#]],
    )
}

fn bad_expression() -> String {
    shows(
        &rules("  a: {output: \"{{upper item}}\", foreach: [[1]], template: t.hbs}\n"),
        &[],
        expect![[r#"
        genmake::bad_expression

          x rule `a`: `upper` takes text, and got a list
           ,-[Genfile:3:15]
         2 | rules:
         3 |   a: {output: "{{upper item}}", foreach: [[1]], template: t.hbs}
           :               ^^^^^^^^^^^^^^^^
           `----
    "#]],
    )
}

fn undefined() -> String {
    let p = rules("  a: {output: \"{{item.name}}.txt\", foreach: \"in/*\", template: t.hbs}\n").file("in/x", "");
    shows(
        p.edit("t.hbs", "Hello {{item.nam}}\n"),
        &[],
        expect![[r#"
             fail  x.txt
        genmake::undefined

          x rule `a`: unknown variable `item.nam`
           ,-[t.hbs:1:7]
         1 | Hello {{item.nam}}
           :       ^^^^^^^^^^^^
           `----
          help: did you mean `item.name`?
        failed: 1 failed in [TIME]
    "#]],
    )
}

fn unknown_rule() -> String {
    shows(
        &rules(
            "  twice: {output: a.txt, template: t.hbs}\n  b: {output: b.txt, template: t.hbs, inputs: [\"rule:twise\"]}\n",
        ),
        &[],
        expect![[r#"
            genmake::unknown_rule

              x rule `b`: no rule `twise`
               ,-[Genfile:4:48]
             3 |   twice: {output: a.txt, template: t.hbs}
             4 |   b: {output: b.txt, template: t.hbs, inputs: ["rule:twise"]}
               :                                                ^^^^^^^^^^^^
               `----
              help: did you mean `twice`?
        "#]],
    )
}

fn unknown_provider() -> String {
    let server = Server::start();
    shows(
        &asking(&server, ", provider: lokal"),
        &[],
        expect![[r#"
            genmake::unknown_provider

              x no provider `lokal`
               ,-[Genfile:6:64]
             5 | rules:
             6 |   page: {output: docs/order.md, prompt: page.prompt, provider: lokal}
               :                                                                ^^^^^
               `----
              help: did you mean `local`?
                    providers are declared under `providers:`
        "#]],
    )
}

fn cycle() -> String {
    shows(
        &rules(
            "  a: {output: a.txt, template: t.hbs, inputs: [b.txt]}\n  b: {output: b.txt, template: t.hbs, inputs: [a.txt]}\n",
        ),
        &[],
        expect![[r#"
            genmake::cycle

              x tasks wait for each other: `a.txt` → `b.txt` → `a.txt`
               ,-[Genfile:3:3]
             2 | rules:
             3 |   a: {output: a.txt, template: t.hbs, inputs: [b.txt]}
               :   ^
             4 |   b: {output: b.txt, template: t.hbs, inputs: [a.txt]}
               `----
              help: each is made from the one before it; take one of these inputs out
        "#]],
    )
}

fn duplicate_output() -> String {
    shows(
        &rules("  a: {output: w.txt, template: t.hbs}\n  b: {output: w.txt, template: t.hbs}\n"),
        &[],
        expect![[r#"
        genmake::duplicate_output

          x `w.txt` is made by rule `a` and by rule `b`
           ,-[Genfile:4:15]
         3 |   a: {output: w.txt, template: t.hbs}
         4 |   b: {output: w.txt, template: t.hbs}
           :               ^^^^^
           `----
          help: each output has one rule; give one of them another path
    "#]],
    )
}

fn missing_input() -> String {
    shows(
        &rules("  a: {output: a.txt, template: t.hbs, inputs: [nope.txt]}\n"),
        &[],
        expect![[r#"
            genmake::missing_input

              x rule `a`: its input is `nope.txt`, which is not there and which no rule makes
               ,-[Genfile:3:48]
             2 | rules:
             3 |   a: {output: a.txt, template: t.hbs, inputs: [nope.txt]}
               :                                                ^^^^^^^^
               `----
              help: paths are relative to the Genfile's folder
                    an input that may be missing is written `{path: PATH, optional: true}`
        "#]],
    )
}

fn bad_path() -> String {
    shows(
        &rules("  a: {output: ../x, template: t.hbs}\n"),
        &[],
        expect![[r#"
        genmake::bad_path

          x rule `a`: output `../x` leads outside the root
           ,-[Genfile:3:15]
         2 | rules:
         3 |   a: {output: ../x, template: t.hbs}
           :               ^^^^
           `----
    "#]],
    )
}

fn bad_glob() -> String {
    shows(
        &rules("  a: {output: \"{{item.name}}.txt\", foreach: \"in/a[*\", template: t.hbs}\n"),
        &[],
        expect![[r#"
        genmake::bad_glob

          x rule `a`: `in/a[*` is no glob: unclosed character class; missing ']'
           ,-[Genfile:3:45]
         2 | rules:
         3 |   a: {output: "{{item.name}}.txt", foreach: "in/a[*", template: t.hbs}
           :                                             ^^^^^^^^
           `----
    "#]],
    )
}

fn bad_selector() -> String {
    let p = rules("  a: {output: \"{{item.key}}.txt\", foreach: \"spec.yaml#/entites/*\", template: t.hbs}\n");
    shows(
        &p.file("spec.yaml", "entities: {x: 1}\n"),
        &[],
        expect![[r#"
        genmake::bad_selector

          x rule `a`: `spec.yaml#/entites/*` finds nothing: `/` has no `entites`; it has `entities`
           ,-[Genfile:3:44]
         2 | rules:
         3 |   a: {output: "{{item.key}}.txt", foreach: "spec.yaml#/entites/*", template: t.hbs}
           :                                            ^^^^^^^^^^^^^^^^^^^^^^
           `----
    "#]],
    )
}

fn unknown_entity() -> String {
    let server = Server::start();
    let p = asking(&server, ", context: {select: \"spec.yaml#/entities\", related_to: Ordr}");
    shows(
        &p.file("spec.yaml", "entities: {Order: 1}\n"),
        &[],
        expect![[r#"
        genmake::unknown_entity

          x rule `page`: `spec.yaml#/entities` has no entity `Ordr`
           ,-[Genfile:6:107]
         5 | rules:
         6 |   page: {output: docs/order.md, prompt: page.prompt, context: {select: "spec.yaml#/entities", related_to: Ordr}}
           :                                                                                                           ^^^^
           `----
          help: did you mean `Order`?
    "#]],
    )
}

fn dynamic_foreach() -> String {
    shows(
        &rules(
            "  made: {output: made.yaml, template: t.hbs}\n  a: {output: \"{{item.key}}.txt\", foreach: \"made.yaml#/*\", template: t.hbs}\n",
        ),
        &[],
        expect![[r#"
            genmake::dynamic_foreach

              x rule `a`: it runs over the content of `made.yaml`, which rule `made` makes
               ,-[Genfile:4:44]
             3 |   made: {output: made.yaml, template: t.hbs}
             4 |   a: {output: "{{item.key}}.txt", foreach: "made.yaml#/*", template: t.hbs}
               :                                            ^^^^^^^^^^^^^^
               `----
              help: what a foreach runs over must exist before the run: commit it, or run over its source
        "#]],
    )
}

fn unreadable() -> String {
    let p = rules("  a: {output: \"{{item.key}}.txt\", foreach: \"bad.yaml#/*\", template: t.hbs}\n");
    shows(
        &p.file("bad.yaml", "x: 1\nlist: [1, 2\n"),
        &[],
        expect![[r#"
        genmake::unreadable

          x rule `a`: `bad.yaml` is not YAML: unclosed bracket '['
           ,-[bad.yaml:2:7]
         1 | x: 1
         2 | list: [1, 2
           :       ^
           `----
    "#]],
    )
}

fn unwritable() -> String {
    // Where the output's folder would be, a file stands.
    shows(
        &rules("  a: {output: docs/a.txt, template: t.hbs}\n").file("docs", "a file\n"),
        &[],
        expect![[r#"
                 fail  docs/a.txt
            genmake::unwritable

              x `docs/a.txt` cannot be written: `docs` is not a folder
              help: move `docs` away, or give the output another path
            failed: 1 failed in [TIME]
        "#]],
    )
}

fn bad_lock() -> String {
    shows(
        &rules("  a: {output: a.txt, template: t.hbs}\n").file("Genfile.lock", "no lock\n"),
        &[],
        expect![[r#"
            genmake::bad_lock

              x the lock cannot be read: its first line is not `genmake-lock 1`
               ,-[Genfile.lock:1:1]
             1 | no lock
               : ^^^^^^^
               `----
              help: `git checkout HEAD -- Genfile.lock` takes it back; or delete it and run genmake: outputs that equal what would be made are adopted
        "#]],
    )
}

fn unknown_target() -> String {
    shows(
        &rules("  a: {output: docs/order.md, template: t.hbs}\n"),
        &["docs/ordr.md"],
        expect![[r#"
        genmake::unknown_target

          x no rule makes `docs/ordr.md`
          help: did you mean `docs/order.md`?
    "#]],
    )
}

fn edited() -> String {
    let p = rules("  cart: {output: docs/cart.md, template: t.hbs}\n");
    p.run([]).exits(0);
    shows(
        p.edit("docs/cart.md", "mine\n"),
        &[],
        expect![[r#"
               edited  docs/cart.md
            genmake::edited

              x `docs/cart.md` was edited by hand
              help: `genmake diff docs/cart.md` shows the edit, `genmake accept docs/cart.md` keeps it until its inputs change, and `genmake --force docs/cart.md` overwrites it (the edited text is kept in the store); or move it into `t.hbs` or its inputs
            failed: 1 edited by hand in [TIME]
        "#]],
    )
}

fn unmerged() -> String {
    let p = rules("  wiki: {output: docs/wiki.md, template: t.hbs, on_edit: merge}\n");
    p.run([]).exits(0);
    shows(
        p.edit("docs/wiki.md", "mine\n").edit("t.hbs", "another text\n"),
        &[],
        expect![[r#"
               edited  docs/wiki.md
            genmake::unmerged

              x `docs/wiki.md` holds conflicts: the edit and what is generated now change the same lines
              help: resolve what stands between the markers, and run genmake again; as it stands, it is kept with `genmake accept --force docs/wiki.md`
                    the text before the merge is kept as `.genmake/store/cas/fc/bc800db3f1867000b852f1ce0044b8f1584f76ade1ed6e65189824f95c3cda`
            failed: 1 edited by hand in [TIME]
        "#]],
    )
}

fn frozen() -> String {
    let p = rules("  product: {output: docs/product.md, template: t.hbs}\n");
    p.run([]).exits(0);
    shows(
        p.edit("t.hbs", "another text\n"),
        &["--frozen"],
        expect![[r#"
                 fail  docs/product.md
            genmake::frozen

              x rule `product`: `docs/product.md` comes out otherwise than `Genfile.lock` says: what it is made from has changed
              help: run `genmake` without `--frozen` and commit the lock
            failed: 1 failed in [TIME]
        "#]],
    )
}

fn offline() -> String {
    let server = Server::start();
    shows(
        &asking(&server, ""),
        &["--offline"],
        expect![[r#"
                 fail  docs/order.md
            genmake::offline

              x `docs/order.md` needs a request to a model, and `--offline` allows none
              help: run without `--offline`
            failed: 1 failed in [TIME]
        "#]],
    )
}

fn provider() -> String {
    let server = Server::start();
    server.always(Act::unauthorized());
    shows(
        &asking(&server, ""),
        &[],
        expect![[r#"
                  ask  local for docs/order.md (request 1)
                 fail  docs/order.md
            genmake::provider

              x rule `page`: provider `local`: status 401: Incorrect API key provided. (request req-1)
              help: the provider wants a key: name its variable with `key_env`
            failed: 1 failed in [TIME] · 1 request, 0 tokens in, 0 out
        "#]],
    )
}

fn truncated() -> String {
    let server = Server::start();
    server.always(Act::Truncate { keep: 0 });
    shows(
        &asking(&server, ", params: {max_output_tokens: 160}"),
        &[],
        expect![[r#"
                  ask  local for docs/order.md (request 1)
               answer  request 1: 0 of 1 in [TIME], 3 tokens in, 2 out
                 fail  docs/order.md
            genmake::truncated

              x rule `page`: the answer of provider `local` (request req-1) for `docs/order.md` was cut at the limit of output tokens (160)
              help: raise `params: {max_output_tokens: …}`, or ask for less
            failed: 1 failed in [TIME] · 1 request, 3 tokens in, 2 out
        "#]],
    )
}

fn malformed() -> String {
    let server = Server::start();
    server.always(Act::Content(String::new()));
    shows(
        &asking(&server, ", retries: 0"),
        &[],
        expect![[r#"
                  ask  local for docs/order.md (request 1)
               answer  request 1: 0 of 1 in [TIME], 3 tokens in, 0 out
                 fail  docs/order.md
            genmake::malformed

              x rule `page`: no usable answer of provider `local` (request req-1) for `docs/order.md`: the answer is empty
              help: run again, or try another model
            failed: 1 failed in [TIME] · 1 request, 3 tokens in, 0 out
        "#]],
    )
}

fn refused() -> String {
    let server = Server::start();
    server.always(Act::Refusal);
    shows(
        &asking(&server, ""),
        &[],
        expect![[r#"
                  ask  local for docs/order.md (request 1)
               answer  request 1: 0 of 1 in [TIME], 3 tokens in, 0 out
                 fail  docs/order.md
            genmake::refused

              x rule `page`: no answer of provider `local` (request req-1) for `docs/order.md`: the model declined: I'm sorry, I can't help with that.
              help: look at what the prompt asks for
            failed: 1 failed in [TIME] · 1 request, 3 tokens in, 0 out
        "#]],
    )
}

fn check_failed() -> String {
    shows(
        &rules("  a: {output: a.json, template: t.hbs, check: json}\n"),
        &[],
        expect![[r#"
                 fail  a.json
            genmake::check_failed

              x rule `a`: `a.json` does not pass the check `json`: not JSON, line 1, column 2: expected ident
               ,-[Genfile:3:3]
             2 | rules:
             3 |   a: {output: a.json, template: t.hbs, check: json}
               :   ^
               `----
              help: it is made by `t.hbs`
            failed: 1 failed in [TIME]
        "#]],
    )
}

fn command_failed() -> String {
    let p = rules("  a: {output: docs/order.md, run: \"sh table.sh {{output}}\"}\n");
    shows(
        &p.file("table.sh", "echo no table for $1 >&2\nexit 3\n"),
        &[],
        expect![[r#"
                 fail  docs/order.md
            genmake::command_failed

              x rule `a`: `sh table.sh docs/order.md` ended with exit status: 3
               ,-[Genfile:3:3]
             2 | rules:
             3 |   a: {output: docs/order.md, run: "sh table.sh {{output}}"}
               :   ^
               `----
              help: it said:
                    no table for docs/order.md
            failed: 1 failed in [TIME]
        "#]],
    )
}

fn not_made() -> String {
    shows(
        &rules("  a: {output: a.txt, run: \"touch b.txt\"}\n"),
        &[],
        expect![[r#"
                 fail  a.txt
            genmake::not_made

              x rule `a`: `touch b.txt` succeeded and did not make `a.txt`
               ,-[Genfile:3:3]
             2 | rules:
             3 |   a: {output: a.txt, run: "touch b.txt"}
               :   ^
               `----
              help: a command writes each output that its rule declares; `{{output}}` stands for the path
            failed: 1 failed in [TIME]
        "#]],
    )
}

fn start_failed() -> String {
    let p = asking(&Server::start_deaf(), "");
    let genfile = p.read("Genfile").replace("model: m,", "model: m, start: \"echo no model >&2; exit 69\",");
    let address = genfile.split('"').find(|part| part.starts_with("http://")).expect("the Genfile has an address");
    shows(
        p.edit("Genfile", &genfile.replace(address, "http://127.0.0.1:9/v1")),
        &[],
        expect![[r#"
                start  local: echo no model >&2; exit 69
                       local: no model
                 fail  docs/order.md
            genmake::start_failed

              x rule `page`: provider `local` was not brought up by its `start:` command: it ended with exit status: 69
              help: it said:
                    no model
            failed: 1 failed in [TIME]
        "#]],
    )
}

fn key() -> String {
    let server = Server::start();
    let p = asking(&server, "");
    let genfile = p.read("Genfile").replace("model: m,", "model: m, key_env: ACME_KEY,");
    shows(
        p.edit("Genfile", &genfile),
        &[],
        expect![[r#"
                 fail  docs/order.md
            genmake::key

              x rule `page`: the environment variable `ACME_KEY` is not set
               ,-[Genfile:4:3]
             3 | providers:
             4 |   local: {api: openai, model: m, key_env: ACME_KEY, base_url: "http://127.0.0.1:[PORT]/v1"}
               :   ^^^^^
             5 | rules:
               `----
              help: provider `local` takes its key from it: `export ACME_KEY=…`
            failed: 1 failed in [TIME]
        "#]],
    )
}

fn secret() -> String {
    let server = Server::start();
    let p = asking(&server, ", inputs: [deploy.yaml]")
        .file("page.prompt", "Say how this is run:\n{{#each inputs}}{{text}}{{/each}}\n")
        .file(
            "deploy.yaml",
            "replicas: 2\nregistry:\n  login: postgres://shop:tr0ub4dor3x@db.acme.dev/shop\n  zone: b\n",
        );
    let shown = shows(
        &p,
        &[],
        expect![[r#"
                 fail  docs/order.md
            genmake::secret

              x rule `page`: what looks like a credential (password in an address, `tr…`) would be sent to a model
               ,-[deploy.yaml:3:26]
             2 | registry:
             3 |   login: postgres://shop:tr*********@db.acme.dev/shop
               :                          ^^^^^^^^^^^
             4 |   zone: b
               `----
              help: take it out of `deploy.yaml`; `allow_secrets: true` in the rule sends it all the same
            failed: 1 failed in [TIME]
        "#]],
    );
    assert_eq!(server.connections(), 0);
    shown
}

fn too_long() -> String {
    let server = Server::start();
    let text = "{{role \"system\"}}Be brief.\n{{role \"user\"}}Write a page about this: {{inputs.spec.text}}\n";
    let p =
        asking(&server, ", inputs: {spec: spec.md}").file("spec.md", &"word ".repeat(400)).file("page.prompt", text);
    let genfile = p.read("Genfile").replace("model: m,", "model: m, limits: {context: 400},");
    let shown = shows(
        p.edit("Genfile", &genfile),
        &[],
        expect![[r#"
                 fail  docs/order.md
            genmake::too_long

              x rule `page`: the prompt for `docs/order.md` would take 520 of the 400 tokens that `m` has room for: system 3, spec.md 500, own text 17
               ,-[Genfile:6:3]
             5 | rules:
             6 |   page: {output: docs/order.md, prompt: page.prompt, inputs: {spec: spec.md}}
               :   ^^^^
               `----
              help: show it less: a selector in place of a file, `context` with `depth` or `max_share`
                    if the model has more room, say so: `limits: {context: …}` of its provider
            failed: 1 failed in [TIME]
        "#]],
    );
    assert_eq!(server.count(), 0);
    shown
}

fn submitted() -> String {
    let server = Server::start();
    let p = asking(&server, "");
    p.run(["submit"]).exits(0);
    shows(
        &p,
        &[],
        expect![[r#"
             fail  docs/order.md
        genmake::submitted

          x the result for `docs/order.md` was asked for by `genmake submit`, and is on its way
          help: `genmake collect` fetches it; with `--cancel` it is given up
        failed: 1 failed in [TIME]
    "#]],
    )
}

fn no_result() -> String {
    let server = Server::start();
    let p = asking(&server, "");
    server.always(Act::LengthEmpty);
    p.run(["submit"]).exits(0);
    shows(
        &p,
        &["collect"],
        expect![[r#"
          warning  no result for docs/order.md: the answer was cut at the limit of output tokens
            fetch  local: 0 results of batch_1, 1 missing
             fail  docs/order.md
        genmake::no_result

          x the round brought no good result for `docs/order.md`
          help: `genmake` asks for it at once, `genmake submit` with the next round
        failed: 1 failed in [TIME] · 1 request, 3 tokens in, 0 out
    "#]],
    )
}

fn no_report() -> String {
    let p = Project::new().file("Genfile", "version: 1\nrules: {}\n");
    shows(
        &p,
        &["report"],
        expect![[r#"
        genmake::no_report

          x no run is kept here that did something
          help: `genmake` keeps a report of each, in `.genmake/runs`
    "#]],
    )
}

fn bad_round() -> String {
    let server = Server::start();
    let p = asking(&server, "");
    p.run(["submit"]).exits(0);
    let genfile = p.read("Genfile").replace("local", "other");
    shows(
        p.edit("Genfile", &genfile),
        &["collect"],
        expect![[r#"
            genmake::bad_round

              x 1 request was submitted to provider `local`, which is not declared any more
              help: declare it again, so that what was paid for can be fetched
                    `genmake collect --cancel` gives it up
                 skip  docs/order.md
            failed: 1 skipped in [TIME]
        "#]],
    )
}

fn budget() -> String {
    let server = Server::start();
    shows(
        &asking(&server, ", params: {max_output_tokens: 100}"),
        &["--max-tokens", "90"],
        expect![[r#"
                 fail  docs/order.md
            genmake::budget

              x rule `page`: the budget of 90 tokens has no room for the request for `docs/order.md`: 0 are used, and it can take 111
              help: raise `budget: {max_tokens: …}` or `--max-tokens`; what is finished is not asked for again
            failed: 1 failed in [TIME]
        "#]],
    )
}

fn needs_yes() -> String {
    let p =
        rules("  pages: {output: \"docs/{{item.name}}\", foreach: \"in/*\", template: t.hbs}\n").file("in/a.md", "");
    p.run([]).exits(0);
    shows(
        p.remove("in/a.md"),
        &[],
        expect![[r#"
            genmake::needs_yes

              x rule `pages` has no items any more, and its 1 output would be deleted
              help: if that is meant, run with `--yes`; `--keep-orphans` keeps the files
            failed in [TIME]
        "#]],
    )
}

fn moved() -> String {
    // A command that writes a file which it does not declare, after another task has read it.
    let p = rules("  a: {output: a.txt, template: u.hbs, inputs: {spec: spec.yaml}}\n  touch: {output: b.txt, run: \"echo 'x: 2' > spec.yaml; echo > b.txt\"}\n  c: {output: c.txt, template: u.hbs, inputs: {spec: spec.yaml, b: b.txt}}\n")
        .file("spec.yaml", "x: 1\n")
        .file("u.hbs", "{{inputs.spec.text}}\n");
    shows(
        &p,
        &["-j1"],
        expect![[r#"
           render  a.txt
              run  b.txt
             fail  c.txt
        genmake::moved

          x rule `c`: `spec.yaml` changed while genmake was reading it
           ,-[Genfile:5:3]
         4 |   touch: {output: b.txt, run: "echo 'x: 2' > spec.yaml; echo > b.txt"}
         5 |   c: {output: c.txt, template: u.hbs, inputs: {spec: spec.yaml, b: b.txt}}
           :   ^
           `----
          help: run genmake again
        failed: 1 rendered, 1 ran, 1 failed in [TIME]
    "#]],
    )
}
