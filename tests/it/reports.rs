//! Reports of runs: their JSON and its schema, those that are kept, and what `genmake report` says.

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::project::{Project, updates};
use crate::server::{Act, Server};
use crate::shop::{answer, shop, shop_of, shop_with, spec};

/// The schema as it is published.
fn schema() -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.schema.json");
    let run = Project::new().run(["schema", "report"]);
    if updates() {
        fs_err::write(&path, &run.stdout).expect("the published schema can be written");
    }
    let published = fs_err::read_to_string(path).expect("the published schema");
    assert_eq!(published, run.stdout, "`UPDATE_EXPECT=1` writes docs/report.schema.json anew");
    serde_json::from_str(&published).expect("a schema is JSON")
}

/// Runs and gives the report, which holds to the schema.
#[track_caller]
pub fn report(p: &Project, args: &[&str]) -> Value {
    let run = p.run(args.iter().copied().chain(["--report", "report.json"]));
    let report: Value = serde_json::from_str(&p.read("report.json")).unwrap_or_else(|e| panic!("{e}\n{run}"));
    let exit = report["exit"].as_i64().expect("a number");
    run.exits(i32::try_from(exit).expect("a status"));
    report
}

#[test]
fn reports_hold_to_the_published_schema() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    assert_eq!(jsonschema::meta::validate(&schema).map_err(|e| e.to_string()), Ok(()));
    let mut seen = Vec::new();
    let mut holds = |report: Value| {
        let wrong: Vec<String> =
            validator.iter_errors(&report).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert_eq!(wrong, [""; 0], "{report:#}");
        seen.extend(report["tasks"].as_array().expect("tasks").iter().map(|task| task["status"].clone()));
        report
    };
    // Whole, with faults, with nothing to do, unpriced, failed, edited, from the store, by commands.
    for (acts, rule) in [
        (vec![], ""),
        (vec![Act::MissingSlot("f2"), Act::Truncate { keep: 1 }], ""),
        (vec![Act::server_error(), Act::Prose], ""),
        (vec![Act::Refusal], "batching: {fallback_on_failure: false}"),
    ] {
        let server = Server::start();
        let p = shop_with(&server, 8, "in_flight: 2, prices: {input: 3, output: 15}", rule);
        server.script(acts);
        holds(report(&p, &["-k"]));
        holds(report(&p, &["-k"]));
        p.remove("docs/e1.md").edit("docs/index.md", "mine\n");
        holds(report(&p, &[]));
    }
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  a: {run: \"echo a > {{output}}\", output: a.txt}\n  b: {inputs: [a.txt], run: \"exit 3\", output: b.txt}\n");
    holds(report(&p, &[]));
    for status in ["fresh", "rendered", "generated", "restored", "failed", "edited", "ran"] {
        assert!(seen.contains(&json!(status)), "no `{status}` among {seen:?}");
    }
    // It says what is wrong, too.
    assert!(!validator.is_valid(&json!({"version": 1})));
}

#[test]
fn requests_and_tasks_say_when_how_much_and_after_whom() {
    let server = Server::start();
    let p = shop_with(&server, 4, "in_flight: 1, prices: {input: 3, output: 15}", "batching: {max_batch_size: 4}");
    let genfile = p.read("Genfile")
        + "  all: {inputs: {pages: \"rule:pages\"}, template: templates/all.hbs, output: docs/all.md}\n";
    p.edit("Genfile", &genfile).edit("templates/all.hbs", "{{#each inputs.pages}}{{this.text}}{{/each}}");
    server.script([Act::server_error(), Act::MissingSlot("f3")]);
    let report = report(&p, &[]);
    let requests = report["requests"].as_array().expect("requests");
    let of = |at: usize, key: &str| &requests[at][key];
    assert_eq!(requests.len(), 2, "{report:#}");
    assert_eq!((of(0, "provider"), of(0, "model"), of(0, "outcome")), (&json!("p"), &json!("m"), &json!("answered")));
    assert_eq!(
        (of(0, "tasks"), of(0, "good"), of(0, "retries"), of(0, "again")),
        (&json!(4), &json!(3), &json!(1), &json!(false))
    );
    assert_eq!(of(0, "fallback")["missing"], 1);
    assert_eq!(of(0, "outputs").as_array().map(Vec::len), Some(4));
    assert_eq!((of(1, "again"), of(1, "tasks"), of(1, "outputs")), (&json!(true), &json!(1), &json!(["docs/e3.md"])));
    let number = |value: &Value| value.as_u64().expect("a number");
    let end = |line: &Value| number(&line["begin_ms"]) + number(&line["duration_ms"]);
    assert!(number(of(1, "begin_ms")) + 1 >= end(&requests[0]), "{report:#}");
    let tasks = report["tasks"].as_array().expect("tasks");
    let task = |path: &str| tasks.iter().find(|task| task["outputs"][0] == path).expect("a task");
    let last = task("docs/all.md");
    assert_eq!(last["waited_for"][0], "docs/e3.md");
    assert_eq!(last["waited_for"].as_array().map(Vec::len), Some(4));
    assert!(number(&last["begin_ms"]) + 1 >= end(task("docs/e3.md")), "{report:#}");
    assert!(task("docs/index.md").get("waited_for").is_none());
    // Each way of summing it up is the same.
    let sum = |lines: &Value, key: &str| -> f64 {
        lines.as_array().expect("a list").iter().map(|line| line[key].as_f64().expect("a number")).sum()
    };
    for key in ["cost_usd", "input_tokens", "output_tokens", "cached_input_tokens"] {
        for lines in ["requests", "tasks", "rules"] {
            let (sum, all) = (sum(&report[lines], key), report["llm"][key].as_f64().expect("a number"));
            assert!((sum - all).abs() < 1e-8, "{key} of {lines}: {sum} and {all}\n{report:#}");
        }
    }
    assert!(report["llm"]["cost_usd"].as_f64() > Some(0.0));
    let pages = report["rules"].as_array().and_then(|rules| rules.iter().find(|rule| rule["rule"] == "pages"));
    let pages = pages.expect("a rule");
    assert_eq!(
        (&pages["tasks"], &pages["requests"], &pages["statuses"]),
        (&json!(4), &json!(2), &json!({"generated": 4}))
    );
    assert_eq!(report["caches"]["store"], json!({"hits": 0, "misses": 4, "rate": 0.0}));
    p.remove("docs/e1.md");
    let report = self::report(&p, &[]);
    assert_eq!(report["caches"]["store"], json!({"hits": 1, "misses": 0, "rate": 1.0}));
    assert_eq!(report["caches"]["prompt"]["rate"], Value::Null);
}

/// Every field is in the reference.
#[test]
fn every_field_is_documented() {
    fn fields(schema: &Value, found: &mut std::collections::BTreeSet<String>) {
        for (key, value) in schema.as_object().into_iter().flatten() {
            if key == "properties" {
                found.extend(value.as_object().into_iter().flatten().map(|(name, _)| name.clone()));
            }
            fields(value, found);
        }
    }
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/report.md");
    let page = fs_err::read_to_string(page).expect("the page");
    let table: String = page.lines().filter(|line| line.starts_with('|')).collect();
    let mut found = std::collections::BTreeSet::new();
    fields(&schema(), &mut found);
    let missing: Vec<String> = found.into_iter().filter(|name| !table.contains(&format!("`{name}`"))).collect();
    assert_eq!(missing, [""; 0], "docs/report.md lacks them");
}

#[test]
fn what_a_run_did_is_kept_and_shown() {
    let server = Server::start();
    let p = shop(&server, 2);
    p.run(["report"]).exits(2);
    let first = report(&p, &[]);
    let shown = p.run(["report", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&shown.stdout).expect("JSON"), first);
    shown.exits(0);
    // Nothing is kept of a run that did nothing: neither one that glances, nor one that looks at all.
    let before = p.everything();
    p.run([]).exits(0);
    p.run(["-v"]).exits(0);
    p.run(["docs/e1.md"]).exits(0);
    let runs = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
        files.keys().filter(|path| path.starts_with(".genmake/runs/")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(runs(&before), runs(&p.everything()));
    assert_eq!(runs(&before).len(), 1);
    p.edit("spec.yaml", &spec(2, &[("e1", "another")]));
    server.reply(answer);
    p.run([]).exits(0);
    let run = p.run(["report"]);
    assert!(run.stdout.contains("\n3 targets: 1 generated, ") && run.stdout.contains("\n1 request: "), "{run}");
    run.exits(0);
    // Damage is none, and what lies beside it is shown.
    let kept = runs(&p.everything());
    assert_eq!(kept.len(), 2);
    p.edit(&kept[1], "{\"version\": 1");
    let shown = p.run(["report", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&shown.stdout).expect("JSON")["began"], first["began"]);
    shown.exits(0);
}

#[test]
fn what_reports_show_drives_no_terminal() {
    let p = Project::new().file("Genfile", "version: 1\nrules:\n  a: {run: \"echo a > {{output}}\", output: a.txt}\n");
    p.run([]).exits(0);
    let kept = p.everything().into_keys().find(|path| path.starts_with(".genmake/runs/")).expect("a report");
    p.edit(
        &kept,
        &p.read(&kept).replace("a.txt", "a\\u001b[31m.txt").replace("\"rule\":\"a\"", "\"rule\":\"a\\u009b\""),
    );
    let run = p.run(["report"]);
    assert!(run.stdout.contains("a\u{fffd}[31m.txt") && !run.stdout.contains(['\u{1b}', '\u{9b}']), "{run}");
    run.exits(0);
}

#[test]
fn a_batch_api_is_in_the_report_with_what_each_task_costs() {
    let server = Server::start();
    let p = shop_of("openai", &server, 3, "prices: {input: 3, output: 15}", "");
    p.run(["submit"]).exits(0);
    let report = report(&p, &["collect"]);
    assert_eq!(report["requests"].as_array().map(Vec::len), Some(1), "{report:#}");
    assert_eq!(report["requests"][0]["outcome"], "answered");
    let costs: f64 =
        report["tasks"].as_array().expect("tasks").iter().map(|task| task["cost_usd"].as_f64().expect("a cost")).sum();
    assert!((costs - report["llm"]["cost_usd"].as_f64().expect("a cost")).abs() < 1e-8, "{report:#}");
    assert!(costs > 0.0);
}

/// A run with a bit of everything, after another one: faults, a task that waits for others, one that fails, and names that are markup.
pub fn busy(server: &Server) -> Project {
    let p = shop_with(
        server,
        12,
        "in_flight: 2, prices: {input: 3, output: 15}",
        "batching: {max_batch_size: 4}, on_error: fail",
    );
    let genfile = p.read("Genfile")
        + "  all: {inputs: {pages: \"rule:pages\"}, template: templates/all.hbs, output: docs/all.md}\n  \
           broken: {run: \"echo '<script>alert(1)</script>' >&2; exit 3\", output: \"docs/<script>alert(2)<&script>.txt\"}\n";
    p.edit("Genfile", &genfile).edit("templates/all.hbs", "{{#each inputs.pages}}{{this.text}}{{/each}}");
    p.run(["-k"]).exits(2);
    let entities: Vec<String> = (1..=8).map(|n| format!("e{n}")).collect();
    let changes: Vec<(&str, &str)> = entities.iter().map(|key| (key.as_str(), "another")).collect();
    p.edit("spec.yaml", &spec(12, &changes));
    server.script([Act::server_error(), Act::MissingSlot("f3")]);
    p.run(["-k", "--report", "report.html"]).exits(2);
    p
}

#[test]
fn a_page_shows_what_the_json_says_and_nothing_from_outside_is_markup() {
    let server = Server::start();
    let p = busy(&server);
    let page = p.read("report.html");
    let kept = p.run(["report", "--format", "json"]);
    let report: Value = serde_json::from_str(&kept.stdout).expect("JSON");
    kept.exits(0);
    let figures = figures(&page);
    assert!(figures.len() > 100, "{}", figures.len());
    for (of, value, _) in &figures {
        let said = report.pointer(of).unwrap_or_else(|| panic!("the JSON has nothing at {of}"));
        let said = if said.is_null() { String::new() } else { said.to_string() };
        assert_eq!(value, &said, "{of}");
    }
    for of in
        ["/llm/cost_usd", "/llm/tokens_saved/batching", "/requests/0/good", "/caches/prompt/rate", "/rules/0/cost_usd"]
    {
        assert!(figures.iter().any(|(shown, ..)| shown == of), "{of} is not shown");
    }
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{page}");
    assert!(page.contains("docs/&lt;script&gt;alert(2)&lt;&amp;script&gt;.txt"));
    for fetched in ["http:", "https:", "url(", "@import", "src=", "<link", "<iframe", "<img", "javascript:"] {
        assert!(!page.contains(fetched), "`{fetched}` in the page");
    }
    assert!(page.contains("default-src 'none'"));
    assert!(page.contains("What changed since the last run") && page.contains("waited for docs/e3.md"), "{page}");
    // The same from what is kept.
    p.run(["report", "--html", "again.html"]).exits(0);
    assert_eq!(p.read("again.html"), page);
    // Of a run that did nothing, too.
    let p = Project::new().file("Genfile", "version: 1\nrules: {}\n");
    p.run(["--report", "r.html"]).exits(0);
    assert!(p.read("r.html").contains("up to date"));
}

/// Each figure of a page: where it stands in the JSON, what it is, and what people read.
fn figures(page: &str) -> Vec<(String, String, String)> {
    let figure = |part: &str| {
        let (value, rest) = part.split_once("\" data-of=\"").expect("where it stands");
        let (of, rest) = rest.split_once("\">").expect("an end");
        let text = rest.split('<').next().unwrap_or_default();
        (of.to_owned(), value.to_owned(), text.to_owned())
    };
    page.split("<data value=\"").skip(1).map(figure).collect()
}

/// The page as a person has it: in a browser, by keyboard, in the dark and on paper.
#[test]
fn a_browser_shows_the_page_and_fetches_nothing() {
    let Some(browser) = Browser::open(1200, 900) else { return };
    let server = Server::start();
    let p = busy(&server);
    let file = p.path("report.html");
    browser.show(&file);
    let (fetched, said) = browser.fetched();
    assert!(fetched.len() == 1 && fetched[0].ends_with("report.html"), "{fetched:?}");
    assert_eq!(said, [""; 0], "the console");
    assert_eq!(browser.run("return performance.getEntriesByType('resource').length"), 0);
    // The policy holds: not even a script of the test's own can fetch.
    assert_eq!(browser.run("const image = new Image(); return new Promise(done => { image.onload = () => done('loaded'); image.onerror = () => done('blocked'); image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA='; })"), "blocked");

    // Figures are what the JSON says, and read so.
    let kept = p.run(["report", "--format", "json"]);
    let report: Value = serde_json::from_str(&kept.stdout).expect("JSON");
    kept.exits(0);
    let figures =
        browser.run("return [...document.querySelectorAll('data')].map(d => [d.dataset.of, d.value, d.textContent])");
    let figures = figures.as_array().expect("a list");
    assert!(figures.len() > 100);
    for figure in figures {
        let of = figure[0].as_str().expect("where it stands");
        let said = report.pointer(of).unwrap_or_else(|| panic!("the JSON has nothing at {of}"));
        assert_eq!(figure[1], if said.is_null() { String::new() } else { said.to_string() }, "{of}");
        let is_count = ["tokens", "requests", "tasks", "good", "targets"].iter().any(|name| of.contains(name))
            && !of.contains("_ms")
            && !of.contains("usd");
        if is_count {
            assert_eq!(figure[2].as_str().map(|text| text.replace(',', "")), Some(said.to_string()), "{of}");
        }
    }
    assert_eq!(browser.run("return document.querySelectorAll('script, iframe, img, link').length"), 0);
    assert!(browser.run("return document.body.innerText").to_string().contains("docs/<script>alert(2)<&script>.txt"));

    // By keyboard: the first stop leads past the rest, each part can be reached, and Enter opens what is folded.
    let (tab, enter) = ('\u{e004}', '\u{e007}');
    browser.press(tab);
    assert_eq!(browser.run("return document.activeElement.className"), "skip");
    assert!(browser.run("return document.activeElement.getBoundingClientRect().left").as_f64() >= Some(0.0));
    browser.press(enter);
    browser.press(tab);
    assert_eq!(browser.run("return document.querySelector('main').contains(document.activeElement)"), true);
    let mut stops = 0;
    while browser.run("return document.activeElement.textContent") != "each request" {
        browser.press(tab);
        stops += 1;
        assert!(stops < 40, "the requests cannot be reached");
    }
    assert_eq!(browser.run("return document.activeElement.parentElement.open"), false);
    browser.press(enter);
    assert_eq!(browser.run("return document.activeElement.parentElement.open"), true);
    assert!(browser.run("return getComputedStyle(document.activeElement).outlineStyle") != "none");

    // What is read out: each table has a caption and says of its heads what they head; headings go down by one.
    assert_eq!(browser.run("return [...document.querySelectorAll('table')].filter(t => !t.caption).length"), 0);
    assert_eq!(browser.run("return [...document.querySelectorAll('th')].filter(t => !t.scope).length"), 0);
    assert_eq!(
        browser.run(
            "return [...document.querySelectorAll('svg')].filter(s => !s.ariaLabel && s.ariaHidden !== 'true').length"
        ),
        0
    );

    // In light and dark, all text can be told from what is behind it.
    for scheme in ["light", "dark"] {
        browser.medium("screen", &[("prefers-color-scheme", scheme)]);
        let back = browser.run("return getComputedStyle(document.documentElement).backgroundColor");
        assert_eq!(back, if scheme == "light" { "rgb(255, 255, 255)" } else { "rgb(13, 17, 23)" });
        let least = browser.run(CONTRAST).as_f64().expect("a number");
        assert!(least >= 4.5, "{scheme}: a contrast of {least}");
    }
    // On a narrow screen nothing but tables and the drawing is wider than it.
    assert_eq!(browser.run("return document.documentElement.scrollWidth <= window.innerWidth"), true);
    // On paper everything is unfolded, and what leads elsewhere is gone.
    browser.medium("print", &[]);
    assert_eq!(browser.run("return getComputedStyle(document.querySelector('nav')).display"), "none");
    assert_eq!(browser.run("return [...document.querySelectorAll('details')].every(d => d.lastElementChild.getBoundingClientRect().height > 0)"), true);

    if updates() {
        picture(&browser);
    }
}

/// Takes the picture that the docs show.
fn picture(browser: &Browser) {
    let server = Server::start();
    let of = shop_with(&server, 24, "in_flight: 2, prices: {input: 3, output: 15}", "batching: {max_batch_size: 4}");
    let genfile = of.read("Genfile")
        + "  book: {inputs: {pages: \"rule:pages\"}, template: templates/book.hbs, output: docs/book.md}\n";
    let p = Project::new().file("handbook/Genfile", &genfile).file("handbook/spec.yaml", &of.read("spec.yaml"));
    let prompt = of.read("prompts/page.prompt").replace("handbook.", &"handbook. ".repeat(200));
    p.edit("handbook/prompts/page.prompt", &prompt)
        .edit("handbook/templates/index.hbs", &of.read("templates/index.hbs"))
        .edit("handbook/templates/book.hbs", "{{#each inputs.pages}}{{this.text}}{{/each}}");
    p.run(["-C", "handbook", "docs/e1.md"]).exits(0);
    server
        .each(|at, _| Some(if at == 3 { Act::MissingSlot("f3") } else { Act::Slow { millis: 300 + at as u64 * 40 } }));
    p.run(["-C", "handbook", "--report", "report.html"]).exits(0);
    browser.medium("screen", &[("prefers-color-scheme", "light")]);
    browser.size(1000, 1700);
    browser.show(&p.path("handbook/report.html"));
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures/report.png");
    fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder for pictures");
    fs_err::write(path, browser.picture()).expect("the picture can be written");
}

/// The least contrast of a text of the page to what is behind it, as WCAG counts it.
const CONTRAST: &str = "
    const parse = color => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = element => {
        for (let e = element; e; e = e.parentElement) {
            const color = parse(getComputedStyle(e).backgroundColor);
            if (color.length < 4 || color[3] > 0) return color;
        }
        return [255, 255, 255];
    };
    let least = 21;
    for (const element of document.querySelectorAll('body *:not(svg *)')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        if (!own) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
        least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
    }
    return least;
";

#[test]
fn where_there_is_no_run_the_report_says_why() {
    let p = Project::new().file("Genfile", "version: 1\nrulez: {}\n").file("run.prom", "genmake_run_success 1\n");
    p.run(["--report", "r.json", "--metrics", "run.prom"]).stderr_has("genmake::unknown_key").exits(2);
    p.run(["--report", "r.html"]).exits(2);
    let report: Value = serde_json::from_str(&p.read("r.json")).expect("JSON");
    assert_eq!((&report["exit"], &report["targets"]["total"]), (&2.into(), &0.into()));
    let mut codes = report["errors"].as_array().expect("errors").iter().map(|error| &error["code"]);
    assert!(codes.any(|code| code == "genmake::unknown_key"), "{report:#}");
    assert!(p.read("run.prom").contains("genmake_run_success 0\n"), "{}", p.read("run.prom"));
    let page = p.read("r.html");
    assert!(page.contains("genmake::unknown_key") && page.contains("Failures"), "{page}");
}
