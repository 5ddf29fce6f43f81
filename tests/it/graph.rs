//! `graph`: files, tasks and rules, drawn and as data.

use std::collections::BTreeSet;
use std::path::Path;

use expect_test::expect;

use crate::browser::Browser;
use crate::project::{Project, updates};

/// Two pages of sources, an index of the pages, and a command over the index; names that want quoting.
fn project() -> Project {
    let genfile = r##"version: 1
rules:
  index: {template: t/index.hbs, output: index.txt, inputs: ["rule:pages", "odd \"1\".txt"]}
  pages: {foreach: "src/*.md", template: t/page.hbs, output: "out/{{item.stem}}.txt"}
  stats: {inputs: [index.txt], outputs: {a: "a<b>#.txt", b: b&c.txt}, run: "true"}
"##;
    Project::new()
        .file("Genfile", genfile)
        .file("t/index.hbs", "")
        .file("t/page.hbs", "")
        .file("src/one.md", "")
        .file("src/two.md", "")
        .file("odd \"1\".txt", "")
}

#[test]
fn as_dot() {
    let p = project();
    let before = p.everything();
    p.run(["graph"])
        .stdout(expect![[r#"
        digraph genmake {
          rankdir=LR;
          node [shape=box];
          f0 [shape=note, label="odd \"1\".txt"];
          f1 [shape=note, label="src/one.md"];
          f2 [shape=note, label="src/two.md"];
          f3 [shape=note, label="t/index.hbs"];
          f4 [shape=note, label="t/page.hbs"];
          l0 [shape=folder, label="rule:pages"];
          subgraph cluster_0 {
            label="index (template)";
            t0 [label="index.txt"];
          }
          subgraph cluster_1 {
            label="pages (template)";
            t1 [label="out/one.txt"];
            t2 [label="out/two.txt"];
          }
          subgraph cluster_2 {
            label="stats (run)";
            t3 [label="a<b>#.txt\nb&c.txt"];
          }
          t1 -> l0;
          t2 -> l0;
          f0 -> t0;
          f3 -> t0;
          f4 -> t0;
          l0 -> t0;
          f1 -> t1;
          f3 -> t1;
          f4 -> t1;
          f2 -> t2;
          f3 -> t2;
          f4 -> t2;
          t0 -> t3;
        }
    "#]])
        .stderr(expect![[""]])
        .exits(0);
    let (text, dot) = (p.run(["graph", "--format", "text"]), p.run(["graph", "--format", "dot"]));
    assert_eq!(text.stdout, dot.stdout);
    text.exits(0);
    dot.exits(0);
    assert_eq!(p.everything(), before, "it wrote something");
}

#[test]
fn as_mermaid() {
    project()
        .run(["graph", "--format", "mermaid"])
        .stdout(expect![[r#"
        flowchart LR
          f0(["odd #34;1#34;.txt"])
          f1(["src/one.md"])
          f2(["src/two.md"])
          f3(["t/index.hbs"])
          f4(["t/page.hbs"])
          l0{{"rule:pages"}}
          subgraph r0["index (template)"]
            t0["index.txt"]
          end
          subgraph r1["pages (template)"]
            t1["out/one.txt"]
            t2["out/two.txt"]
          end
          subgraph r2["stats (run)"]
            t3["a#60;b#62;#35;.txt<br>b#38;c.txt"]
          end
          t1 --> l0
          t2 --> l0
          f0 --> t0
          f3 --> t0
          f4 --> t0
          l0 --> t0
          f1 --> t1
          f3 --> t1
          f4 --> t1
          f2 --> t2
          f3 --> t2
          f4 --> t2
          t0 --> t3
    "#]])
        .exits(0);
}

#[test]
fn as_json() {
    project()
        .run(["graph", "--format", "json"])
        .stdout(expect![[r#"
        {
          "version": 1,
          "rules": [
            {
              "name": "index",
              "recipe": "template",
              "tasks": 1
            },
            {
              "name": "pages",
              "recipe": "template",
              "tasks": 2
            },
            {
              "name": "stats",
              "recipe": "run",
              "tasks": 1
            }
          ],
          "files": [
            "odd \"1\".txt",
            "src/one.md",
            "src/two.md",
            "t/index.hbs",
            "t/page.hbs"
          ],
          "lists": [
            {
              "label": "rule:pages",
              "files": [
                "out/one.txt",
                "out/two.txt"
              ]
            }
          ],
          "tasks": [
            {
              "rule": "index",
              "outputs": [
                "index.txt"
              ],
              "inputs": [
                "odd \"1\".txt",
                "t/index.hbs",
                "t/page.hbs"
              ],
              "lists": [
                0
              ],
              "deps": []
            },
            {
              "rule": "pages",
              "outputs": [
                "out/one.txt"
              ],
              "inputs": [
                "src/one.md",
                "t/index.hbs",
                "t/page.hbs"
              ],
              "lists": [],
              "deps": []
            },
            {
              "rule": "pages",
              "outputs": [
                "out/two.txt"
              ],
              "inputs": [
                "src/two.md",
                "t/index.hbs",
                "t/page.hbs"
              ],
              "lists": [],
              "deps": []
            },
            {
              "rule": "stats",
              "outputs": [
                "a<b>#.txt",
                "b&c.txt"
              ],
              "inputs": [
                "index.txt"
              ],
              "lists": [],
              "deps": [
                "index.txt"
              ]
            }
          ]
        }
    "#]])
        .exits(0);
}

#[test]
fn of_what_targets_need() {
    let p = project();
    p.run(["graph", "out/two.txt"])
        .stdout(expect![[r#"
        digraph genmake {
          rankdir=LR;
          node [shape=box];
          f0 [shape=note, label="src/two.md"];
          f1 [shape=note, label="t/index.hbs"];
          f2 [shape=note, label="t/page.hbs"];
          subgraph cluster_1 {
            label="pages (template)";
            t2 [label="out/two.txt"];
          }
          f0 -> t2;
          f1 -> t2;
          f2 -> t2;
        }
    "#]])
        .exits(0);
    let run = p.run(["graph", "--format", "json", "index"]);
    let json = run.stdout_json();
    let outputs: Vec<&str> =
        json["tasks"].as_array().expect("tasks").iter().filter_map(|task| task["outputs"][0].as_str()).collect();
    assert_eq!(outputs, ["index.txt", "out/one.txt", "out/two.txt"]);
    run.exits(0);
    p.run(["graph", "nobody"]).stderr_has("genmake::unknown_target").exits(2);
}

#[test]
fn other_commands_do_not_draw() {
    project().run(["plan", "--format", "dot"]).stderr_has("only `graph` prints as `dot`, `mermaid` or `html`").exits(2);
}

/// Hundreds of tasks that each read the same hundreds of files: drawn, and as data, that grows with their sum.
#[test]
fn what_is_read_in_common_stands_once() {
    let count = 300;
    let p = Project::new().file(
        "Genfile",
        "version: 1\nrules:\n  each: {foreach: words.json#/*, template: t.hbs, output: \"out/{{item.value}}\", inputs: [\"src/*\"]}\n",
    );
    p.edit("words.json", &serde_json::to_string(&(0..count).collect::<Vec<_>>()).expect("json")).edit("t.hbs", "");
    for n in 0..count {
        p.edit(&format!("src/{n}"), "");
    }
    let run = p.run(["graph"]);
    let lines: Vec<&str> = run.stdout.lines().filter(|line| line.contains(" -> ")).collect();
    // Each file into the list, the list into each task, and into each task its recipe and the file of its item.
    assert_eq!(lines.len(), 4 * count);
    assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len(), "no line stands twice");
    run.exits(0);
    let json = p.run(["graph", "--format", "json"]);
    assert!(json.stdout.len() < 500 * count, "{} bytes", json.stdout.len());
    json.exits(0);
}

/// The page as a person has it: in a browser, by mouse and by keyboard.
#[test]
fn a_browser_shows_the_graph_and_fetches_nothing() {
    let Some(browser) = Browser::open(1400, 900) else { return };
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop");
    let p = Project::new();
    let page = p.run(["-C", shop.to_str().expect("a name"), "graph", "--format", "html"]);
    p.edit("graph.html", &page.stdout);
    page.exits(0);
    browser.show(&p.path("graph.html"));
    let (fetched, said) = browser.fetched();
    assert!(fetched.len() == 1 && fetched[0].ends_with("/graph.html"), "{fetched:?}");
    assert_eq!(said, [""; 0], "the console");
    assert_eq!(browser.run("return performance.getEntriesByType('resource').length"), 0);

    // A click brings out what is needed, all the way up, and what needs it.
    let lit = |browser: &Browser| {
        let lit = browser.run("return [...document.querySelectorAll('a.lit')].map(a => a.dataset.label)");
        serde_json::from_value::<BTreeSet<String>>(lit).expect("labels")
    };
    browser.run("document.querySelector('a[data-label=\"models\"]').dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}))");
    let shown = lit(&browser);
    let expected = ["index", "models", "spec/shop.yaml", "templates/", "types"];
    assert_eq!(shown, expected.map(str::to_owned).into());
    let said = browser.run("return document.querySelector('#said').textContent");
    assert_eq!(said, "models: needs 2, needed by 2");
    if updates() {
        let to = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures/graph.png");
        fs_err::write(to, browser.picture()).expect("a picture");
    }

    // By keyboard: Escape takes it back, Tab reaches boxes, Enter brings out; Find narrows the lists, too.
    let (tab, enter, escape) = ('\u{e004}', '\u{e007}', '\u{e00c}');
    browser.press(escape);
    assert_eq!(lit(&browser), BTreeSet::new());
    let focused = "return document.activeElement.dataset.label || document.activeElement.id || ''";
    let stops: Vec<String> = (0..5)
        .map(|_| {
            browser.press(tab);
            browser.run(focused).as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(stops[1], "find", "{stops:?}");
    browser.press(enter);
    assert!(lit(&browser).contains(&stops[4]), "{stops:?}");
    browser.run(
        "const find = document.querySelector('#find'); find.value = 'models/Order.go'; find.dispatchEvent(new Event('input'))",
    );
    assert_eq!(lit(&browser), ["models".to_owned()].into(), "the rule that makes internal/models/order.go");
    assert_eq!(browser.run("return document.querySelectorAll('details:not(.out)').length"), 1);
}

#[test]
fn a_graph_of_thousands_is_drawn_by_rules() {
    let items: String = (0..3000).map(|n| format!("- \"{n:04}<b>\"\n")).collect();
    let rules = "  a: { foreach: items.yaml#/*, output: \"out/{{item.index}}.txt\", template: t.hbs }\n  \
                 b: { output: all.txt, inputs: [\"rule:a\", \"many/*\"], template: t.hbs }\n";
    let mut p = Project::new()
        .file("Genfile", &format!("version: 1\nrules:\n{rules}"))
        .file("items.yaml", &items)
        .file("t.hbs", "{{rule}}\n");
    for n in 0..200 {
        p = p.file(&format!("many/<{n}>.txt"), "");
    }
    let page = p.run(["graph", "--format", "html"]);
    let boxes = page.stdout.matches("<a data-at=").count();
    assert_eq!(boxes, 4, "two rules and two folders");
    for part in ["3000 tasks, template", "many/", "200 files", "and 2500 more", "many/&lt;7&gt;.txt"] {
        assert!(page.stdout.contains(part), "{part}");
    }
    assert!(!page.stdout.contains("many/<7>"), "what comes from outside is text");
    page.exits(0);
}
