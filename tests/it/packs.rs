//! What a Genfile includes, the packs that ship with genmake, and `init --pack`.

use std::collections::BTreeMap;

use expect_test::expect;

use crate::project::Project;

const LANGUAGES: [(&str, &str); 4] =
    [("go", "go.mod"), ("node", "package.json"), ("python", "pyproject.toml"), ("rust", "Cargo.toml")];

/// A folder named `my-shop` in which `init` was run with these packs, and nothing was made yet.
fn started(packs: &[&str]) -> Project {
    let p = Project::new().file("my-shop/.git/HEAD", "");
    p.run(["-C", "my-shop", "init", "--pack"].iter().chain(packs).copied()).exits(0);
    p
}

/// As [`started`], and built.
fn built(packs: &[&str]) -> Project {
    let p = started(packs);
    p.run(["-C", "my-shop"]).exits(0);
    p
}

fn in_shop(p: &Project, file: &str) -> String {
    p.read(&format!("my-shop/{file}"))
}

/// Changes the Genfile of the project.
#[track_caller]
fn set(p: &Project, from: &str, to: &str) {
    let genfile = in_shop(p, "Genfile");
    assert!(genfile.contains(from), "{from} is not in the Genfile:\n{genfile}");
    p.edit("my-shop/Genfile", &genfile.replace(from, to));
}

/// The files of the project by path, but git's and those of `.genmake`.
fn files(p: &Project) -> BTreeMap<String, String> {
    let below = |(path, text): (String, String)| Some((path.strip_prefix("my-shop/")?.to_owned(), text));
    let own = |path: &str| path.starts_with(".git/") || path.starts_with(".genmake/");
    p.tree().into_iter().filter_map(below).filter(|(path, _)| !own(path)).collect()
}

// ---- each pack ----

#[test]
fn each_pack_makes_a_project_once() {
    for pack in ["go", "node", "project", "python", "rust"] {
        let p = built(&[pack]);
        p.run(["-C", "my-shop", "check"]).exits(0);
        let stamps = p.stamps();
        p.run(["-C", "my-shop"]).stderr_has("nothing to do").exits(0);
        assert_eq!(p.stamps(), stamps, "{pack}");
        p.run(["-C", "my-shop", "check", pack]).exits(0);
        for (path, text) in files(&p) {
            assert!(!text.contains("{{") || path == "Genfile", "{path} holds an expression:\n{text}");
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{path} ends well:\n{text}");
        }
    }
}

#[test]
fn each_pack_has_its_files() {
    let names = |pack: &str| {
        let names: Vec<String> = files(&built(&[pack])).into_keys().collect();
        format!("-- {pack}\n{}\n", names.join("\n"))
    };
    let all: String = LANGUAGES.iter().map(|(pack, _)| names(pack)).chain([names("project")]).collect();
    expect![[r#"
        -- go
        .github/workflows/ci.yml
        .gitignore
        Dockerfile
        Genfile
        Genfile.lock
        Makefile
        README.md
        cmd/my-shop/main.go
        go.mod
        internal/greeting/greeting.go
        internal/greeting/greeting_test.go
        -- node
        .github/workflows/ci.yml
        .gitignore
        Dockerfile
        Genfile
        Genfile.lock
        Makefile
        README.md
        package.json
        src/greeting.js
        src/main.js
        test/greeting.test.js
        -- python
        .github/workflows/ci.yml
        .gitignore
        Dockerfile
        Genfile
        Genfile.lock
        Makefile
        README.md
        my_shop/__init__.py
        my_shop/__main__.py
        pyproject.toml
        tests/__init__.py
        tests/test_greeting.py
        -- rust
        .github/workflows/ci.yml
        .gitignore
        Cargo.toml
        Dockerfile
        Genfile
        Genfile.lock
        Makefile
        README.md
        src/lib.rs
        src/main.rs
        -- project
        .editorconfig
        .gitattributes
        Genfile
        Genfile.lock
        LICENSE
    "#]]
    .assert_eq(&all);
}

#[test]
fn every_file_says_who_made_it_where_it_can() {
    let p = built(&["rust", "project"]);
    let lock = in_shop(&p, "Genfile.lock");
    for line in lock.lines().skip(1) {
        let path = line.split(' ').next().expect("a path");
        let text = in_shop(&p, path);
        let says = text.lines().take(2).collect::<String>();
        let is_said = says.contains("Made by genmake from its pack") && says.contains(&format!("add `{path}` to"));
        assert_eq!(is_said, path != "LICENSE", "{path}: {says}");
    }
}

#[test]
fn what_is_made_is_well_formed() {
    for (pack, module) in LANGUAGES {
        let p = built(&[pack]);
        let makefile = in_shop(&p, "Makefile");
        let is_recipe = |line: &str| line.starts_with('\t');
        let is_other = |line: &str| line.is_empty() || line.starts_with('#') || !line.starts_with(' ');
        assert!(makefile.lines().any(is_recipe) && makefile.lines().all(|line| is_recipe(line) || is_other(line)));
        let workflow: serde_json::Value =
            serde_yaml::from_str(&in_shop(&p, ".github/workflows/ci.yml")).expect("a workflow is YAML");
        assert_eq!(workflow["on"]["push"]["branches"], serde_json::json!(["main"]), "{pack}");
        assert!(workflow["jobs"]["test"]["steps"].as_array().is_some_and(|steps| steps.len() > 1), "{pack}");
        assert!(in_shop(&p, "Dockerfile").lines().any(|line| line.starts_with("FROM ")), "{pack}");
        assert!(in_shop(&p, "README.md").contains("\n# my-shop\n"), "{pack}");
        let text = in_shop(&p, module);
        match module {
            "package.json" => {
                let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
                assert_eq!((&json["name"], &json["dependencies"]), (&"my-shop".into(), &serde_json::json!({})));
            }
            "go.mod" => assert!(text.ends_with("\nmodule example.com/my-shop\n\ngo 1.24\n"), "{text}"),
            _ => {
                let table: toml::Table = toml::from_str(&text).expect("TOML");
                let about = table.get("package").or(table.get("project")).expect("what it is");
                assert_eq!(about["name"].as_str(), Some("my-shop"));
            }
        }
    }
}

/// docs/packs.md names every rule and every variable.
#[test]
fn the_reference_is_whole() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = |path: String| fs_err::read_to_string(root.join(path)).expect("a file of the repository");
    let reference = text("docs/packs.md".to_owned());
    for pack in ["go", "node", "project", "python", "rust"] {
        let rules: serde_json::Value = serde_yaml::from_str(&text(format!("rules/{pack}.yaml"))).expect("YAML");
        for (name, rule) in rules["rules"].as_object().expect("rules") {
            assert!(reference.contains(&format!("`{name}`")), "docs/packs.md does not name the rule {name}");
            let by_hand = format!("contains vars.by_hand \"{}\"", rule["output"].as_str().expect("a path"));
            assert!(rule["when"].as_str().is_some_and(|when| when.contains(&by_hand)), "{name} can be taken over");
        }
        for name in rules["vars"].as_object().expect("variables").keys() {
            assert!(reference.contains(&format!("`{name}`")), "docs/packs.md does not name the variable {name}");
        }
    }
}

// ---- variables ----

#[test]
fn variables_reach_the_module_files() {
    let p = started(&["go", "node", "python", "rust", "project"]);
    for (from, to) in [
        ("description: \"\"", "description: Says \"hello\"."),
        ("example.com/{{vars.name}}", "acme.dev/{{vars.name}}"),
        ("go_dependencies: []", "go_dependencies: [example.com/a v1.0.0, example.com/b v0.2.0]"),
        ("node_dependencies: {}", "node_dependencies: { left: ^1.0.0 }"),
        ("python_dependencies: []", "python_dependencies: [requests>=2]"),
        ("rust_dependencies: []", "rust_dependencies: ['serde = \"1\"']"),
        ("license: MIT ", "license: Apache-2.0 "),
    ] {
        set(&p, from, to);
    }
    p.run(["-C", "my-shop"]).exits(0);
    let text = ["go.mod", "package.json", "pyproject.toml", "Cargo.toml"].map(|file| in_shop(&p, file)).join("--\n");
    expect![[r#"
        // Made by genmake from its pack `go` and the Genfile's `vars`.
        // To edit it by hand, first add `go.mod` to `vars.by_hand` in the Genfile.

        module acme.dev/my-shop

        go 1.24

        require (
        	example.com/a v1.0.0
        	example.com/b v0.2.0
        )
        --
        {
          "name": "my-shop",
          "version": "0.1.0",
          "description": "Says \"hello\".",
          "license": "Apache-2.0",
          "private": true,
          "type": "module",
          "main": "src/greeting.js",
          "bin": "src/main.js",
          "engines": { "node": ">=20" },
          "scripts": {
            "start": "node src/main.js",
            "test": "node --test"
          },
          "dependencies": {
            "left": "^1.0.0"
          }
        }
        --
        # Made by genmake from its pack `python` and the Genfile's `vars`.
        # To edit it by hand, first add `pyproject.toml` to `vars.by_hand` in the Genfile.

        [project]
        name = "my-shop"
        version = "0.1.0"
        description = "Says \"hello\"."
        readme = "README.md"
        license = "Apache-2.0"
        requires-python = ">=3.11"
        dependencies = [
            "requests>=2"
        ]

        [project.scripts]
        my-shop = "my_shop.__main__:main"

        [build-system]
        requires = ["setuptools>=77"]
        build-backend = "setuptools.build_meta"

        [tool.setuptools.packages.find]
        include = ["my_shop*"]
        --
        # Made by genmake from its pack `rust` and the Genfile's `vars`.
        # To edit it by hand, first add `Cargo.toml` to `vars.by_hand` in the Genfile.

        [package]
        name = "my-shop"
        version = "0.1.0"
        edition = "2024"
        rust-version = "1.85"
        description = "Says \"hello\"."
        license = "Apache-2.0"

        [dependencies]
        serde = "1"
    "#]]
    .assert_eq(&text);
    p.run(["-C", "my-shop", "check"]).exits(0);
}

#[test]
fn the_license_is_a_choice() {
    for (license, first) in [("MIT", "MIT License"), ("BSD-3-Clause", "BSD 3-Clause"), ("Apache-2.0", "Apache License")]
    {
        let p = Project::new().file(
            "Genfile",
            &format!("version: 1\ninclude: [builtin:project]\nvars: {{license: {license}, copyright: 2026 Acme}}\nrules: {{}}\n"),
        );
        p.run([]).exits(0);
        let text = p.read("LICENSE");
        assert!(text.trim_start().starts_with(first), "{text}");
        assert_eq!(text.contains("Copyright (c) 2026 Acme"), license != "Apache-2.0");
    }
    let p = Project::new().file("Genfile", "version: 1\ninclude: [builtin:project]\nrules: {}\n");
    p.run([]).exits(0);
    assert!(!p.exists("LICENSE"), "nobody's code is licensed without being asked");
    p.edit("Genfile", "version: 1\ninclude: [builtin:project]\nvars: {license: GPL}\nrules: {}\n");
    p.run([]).stderr_has("`vars.license` is `MIT`, `Apache-2.0`, `BSD-3-Clause` or `none`").exits(2);
}

// ---- what is a person's ----

#[test]
fn what_is_edited_by_hand_is_left_alone_when_told_so() {
    let p = built(&["go"]);
    let edited = in_shop(&p, "go.mod") + "\nrequire example.com/x v1.0.0\n";
    p.edit("my-shop/go.mod", &edited);
    p.run(["-C", "my-shop"]).stderr_has("`go.mod` was edited by hand").exits(2);
    set(&p, "by_hand: []", "by_hand: [go.mod, README.md]");
    p.run(["-C", "my-shop"]).exits(0);
    p.run(["-C", "my-shop", "check"]).exits(0);
    assert_eq!(in_shop(&p, "go.mod"), edited);
    assert!(p.exists("my-shop/README.md"), "what was not edited yet stays, too");
    p.edit("my-shop/README.md", "# Mine\n");
    p.run(["-C", "my-shop", "check"]).exits(0);
}

#[test]
fn own_lines_are_merged_without_repeating_any() {
    let p = started(&["rust"]);
    set(&p, "gitignore: []", "gitignore: [/secret, \"*.rs.bk\", /target/]");
    p.edit("my-shop/.gitignore.local", "# Mine\r\n/secret\n\n/notes/\n");
    p.run(["-C", "my-shop"]).exits(0);
    expect![[r#"
        # Made by genmake from its pack `rust` and the Genfile's `vars`.
        # To edit it by hand, first add `.gitignore` to `vars.by_hand` in the Genfile.

        # Rust
        /target/
        *.rs.bk
        /secret
        # Mine

        /notes/
    "#]]
    .assert_eq(&in_shop(&p, ".gitignore"));
    p.run(["-C", "my-shop", "check"]).exits(0);
    p.remove("my-shop/.gitignore.local");
    p.run(["-C", "my-shop", "check"]).exits(1);
}

#[test]
fn a_project_of_two_languages_writes_its_own_gitignore() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules: {ignore: {output: .gitignore, template: t/ignore.hbs}}\n")
        .file(
            "t/ignore.hbs",
            "{{#unique_lines}}\n{{> gitignore-node}}\n{{> gitignore-python}}\n/dist/\n/mine\n{{/unique_lines}}\n",
        );
    p.run([]).exits(0);
    expect![[r#"
        # Node
        node_modules/
        /dist/
        /coverage/
        npm-debug.log*
        *.tsbuildinfo
        .env
        .env.local
        # Python
        __pycache__/
        *.py[cod]
        /build/
        *.egg-info/
        .venv/
        .mypy_cache/
        .pytest_cache/
        .ruff_cache/
        .coverage
        /mine
    "#]]
    .assert_eq(&p.read(".gitignore"));
}

// ---- include ----

/// A Genfile that includes one thing.
fn genfile(include: &str, rest: &str) -> String {
    format!("version: 1\ninclude:\n  - {include}\n{rest}")
}

#[test]
fn an_own_rule_takes_the_place_of_a_packs() {
    let own = "rules: {go-makefile: {output: GNUmakefile, template: own.hbs}}\n";
    let p = Project::new().file("Genfile", &genfile("builtin:go", own)).file("own.hbs", "all:\n");
    p.run([]).exits(0);
    assert_eq!((p.read("GNUmakefile"), p.exists("Makefile"), p.exists("go.mod")), ("all:\n".into(), false, true));
}

#[test]
fn only_what_is_named_is_taken() {
    let p = Project::new()
        .file("Genfile", &genfile("{ from: \"builtin:go\", only: [go-gitignore, go-ci] }", "rules: {}\n"));
    p.run([]).exits(0);
    let made: Vec<String> = p.tree().into_keys().collect();
    assert_eq!(made, [".github/workflows/ci.yml", ".gitignore", "Genfile", "Genfile.lock"]);
    p.edit("Genfile", &genfile("{ from: \"builtin:go\", only: [go-gitignor] }", "rules: {}\n"));
    p.run([])
        .stderr(expect![[r#"
        genmake::unknown_rule

          x `builtin:go` has no rule `go-gitignor`
           ,-[Genfile:3:13]
         2 | include:
         3 |   - { from: "builtin:go", only: [go-gitignor] }
           :             ^^^^^^^^^^^^
         4 | rules: {}
           `----
          help: did you mean `go-gitignore`?
    "#]])
        .exits(2);
}

#[test]
fn a_pack_that_is_not_there_is_an_error() {
    let p = Project::new().file("Genfile", &genfile("builtin:rus", "rules: {}\n"));
    p.run([])
        .stderr(expect![[r#"
        genmake::missing_input

          x genmake ships no pack `rus`
           ,-[Genfile:3:5]
         2 | include:
         3 |   - builtin:rus
           :     ^^^^^^^^^^^
         4 | rules: {}
           `----
          help: did you mean `rust`?
                there is `go`, `node`, `project`, `python`, `rust`
    "#]])
        .exits(2);
}

#[test]
fn an_included_files_recipes_are_beside_it() {
    let p = Project::new()
        .file("Genfile", &genfile("parts/docs/rules.yaml", "vars: {title: Ours}\nrules: {}\n"))
        .file(
            "parts/docs/rules.yaml",
            "vars: {title: Theirs, by: us}\nrules:\n  page: {output: docs/page.md, template: page.hbs, inputs: {note: note.txt}}\n",
        )
        .file("parts/docs/page.hbs", "{{vars.title}} by {{vars.by}}: {{> part}}{{inputs.note.text}}")
        .file("parts/docs/part.hbs", "part ")
        .file("note.txt", "an input is a file of the project\n");
    p.run([]).exits(0);
    assert_eq!(p.read("docs/page.md"), "Ours by us: part an input is a file of the project\n");
    p.edit("parts/docs/part.hbs", "other ");
    p.run(["explain", "docs/page.md"]).stdout_has("parts/docs/part.hbs").exits(0);
}

#[test]
fn files_that_include_each_other_are_an_error() {
    let p = Project::new()
        .file("Genfile", &genfile("a.yaml", "rules: {}\n"))
        .file("a.yaml", "include: [b.yaml]\n")
        .file("b.yaml", "include: [a.yaml]\n");
    p.run([])
        .stderr(expect![[r#"
        genmake::cycle

          x files include each other: `a.yaml` → `b.yaml` → `a.yaml`
           ,-[b.yaml:1:11]
         1 | include: [a.yaml]
           :           ^^^^^^
           `----
          help: take one of these `include` entries out
    "#]])
        .exits(2);
    p.edit("b.yaml", "include: [Genfile]\n");
    p.run([]).stderr_has("files include each other: `Genfile` → `a.yaml` → `b.yaml` → `Genfile`").exits(2);
}

// ---- init --pack ----

#[test]
fn init_writes_a_genfile_and_sources() {
    let p = Project::new().file("my-shop/.git/HEAD", "");
    p.run(["-C", "my-shop", "init", "--pack", "go", "--pack", "project"])
        .stdout(expect![[""]])
        .stderr(expect![[r#"
                write  Genfile
                write  cmd/my-shop/main.go
                write  internal/greeting/greeting.go
                write  internal/greeting/greeting_test.go
            run `genmake` to build, `genmake plan` to see first what it would do
        "#]])
        .exits(0);
    expect![[r##"
        # What is made from what. `genmake` makes it, `genmake check` says what is not up to date.
        version: 1

        # What a pack makes, and all of its variables: docs/packs.md of genmake.
        include:
          - builtin:go
          - builtin:project

        vars:
          name: "my-shop"
          description: ""
          module: "example.com/{{vars.name}}"       # the sources import it: choose it before you write more
          go: "1.24"
          go_dependencies: []                       # lines of `require`: "example.com/lib v1.2.3"
          license: MIT                              # MIT, Apache-2.0, BSD-3-Clause, or none
          copyright: "the authors of {{vars.name}}"
          gitignore: []                             # lines of your own; more of them in .gitignore.local
          # Files that you edit yourself from here on, such as README.md: genmake leaves them alone.
          by_hand: []

        # Rules of your own. One with the name of a pack's rule takes its place.
        rules: {}
    "##]]
    .assert_eq(&in_shop(&p, "Genfile"));
    expect![[r#"
        // Command my-shop greets whoever it is told to.
        package main

        import (
        	"fmt"
        	"os"

        	"example.com/my-shop/internal/greeting"
        )

        func main() {
        	name := "world"
        	if len(os.Args) > 1 {
        		name = os.Args[1]
        	}
        	fmt.Println(greeting.For(name))
        }
    "#]]
    .assert_eq(&in_shop(&p, "cmd/my-shop/main.go"));
}

#[test]
fn of_two_languages_the_first_is_taken_whole() {
    let p = Project::new().file("my-shop/.git/HEAD", "");
    p.run(["-C", "my-shop", "init", "--pack", "python,node"]).stderr(expect![[r#"
            write  Genfile
            write  my_shop/__init__.py
            write  my_shop/__main__.py
            write  tests/__init__.py
            write  tests/test_greeting.py
            write  src/main.js
            write  src/greeting.js
            write  test/greeting.test.js
        of `node` only `node-module` is taken: a pack before it makes `.gitignore`, `Makefile`, `Dockerfile`, `README.md`, `.github/workflows/ci.yml`
        `genmake init --git` adds lines for git to `.gitattributes`
        run `genmake` to build, `genmake plan` to see first what it would do
    "#]]).exits(0);
    p.run(["-C", "my-shop"]).exits(0);
    p.run(["-C", "my-shop", "check"]).exits(0);
    assert!(in_shop(&p, "Makefile").contains("pack `python`"));
    assert!(p.exists("my-shop/package.json") && p.exists("my-shop/pyproject.toml"));
}

#[test]
fn init_overwrites_nothing_and_leaves_what_is_there() {
    let p = Project::new().file("my-shop/src/lib.rs", "// mine\n");
    let before = p.everything();
    p.run(["-C", "my-shop", "init", "--pack", "rust"])
        .stderr(expect![[r#"
        genmake::usage

          x `src/lib.rs` is there already
          help: `init` overwrites nothing; run it in a folder without a Genfile
    "#]])
        .exits(2);
    assert_eq!(p.everything(), before);
    let p = Project::new().file("my-shop/Cargo.toml", "[package]\n").file("my-shop/src/lib.rs", "// mine\n");
    p.run(["-C", "my-shop", "init", "--pack", "rust"])
        .stderr(expect![[r#"
                write  Genfile
            left as they are, and named in `by_hand`: `Cargo.toml`
            run `genmake` to build, `genmake plan` to see first what it would do
        "#]])
        .exits(0);
    p.run(["-C", "my-shop"]).exits(0);
    p.run(["-C", "my-shop", "check"]).exits(0);
    assert_eq!((in_shop(&p, "Cargo.toml"), in_shop(&p, "src/lib.rs")), ("[package]\n".into(), "// mine\n".into()));
    assert!(!p.exists("my-shop/src/main.rs"));
}

#[test]
fn a_dry_init_lists_what_it_would_write() {
    let p = Project::new().file("my-shop/.git/HEAD", "");
    p.run(["-C", "my-shop", "init", "--pack", "node", "-n"])
        .stderr(expect![[r#"
            write  Genfile
            write  src/main.js
            write  src/greeting.js
            write  test/greeting.test.js
        nothing was written
    "#]])
        .exits(0);
    assert_eq!(p.everything().len(), 1);
}

#[test]
fn init_knows_its_packs() {
    let p = Project::new();
    p.run(["init", "--pack", "pyhton", "--pack", "go"])
        .stderr(expect![[r#"
        genmake::usage

          x genmake ships no pack `pyhton`
          help: did you mean `python`?
                there is `go`, `node`, `project`, `python`, `rust`
    "#]])
        .exits(2);
    p.run(["init", "--pack"]).exits(2);
    assert!(p.everything().is_empty());
}
