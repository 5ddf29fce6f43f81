//! Secrets do not leave the machine: what a prompt would send is looked through first, and a provider's key is found nowhere.

use std::collections::BTreeMap;

use expect_test::expect;

use crate::project::{Project, Run};
use crate::server::{Act, Server};
use crate::shop::shop_with;

/// A password, in parts that no scanner of this repository takes for one.
const PASSWORD: &str = concat!("tr0ub", "4dor3x");

/// An AWS key, likewise.
const AWS: &str = concat!("AK", "IAQ3EGVZ5XWN7RKJ2M");

/// A Genfile whose rule `page` has these keys, with a prompt that shows all inputs.
fn page(server: &Server, keys: &str) -> Project {
    let head = "version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"{base_url}\"}}\n";
    Project::new()
        .genfile_for(server, &format!("{head}rules:\n  page:\n    output: page.md\n    prompt: page.prompt\n{keys}"))
        .file("page.prompt", "Write about these texts: {{json inputs}}\n")
}

#[track_caller]
fn shows_nothing_of(secret: &str, p: &Project, run: &Run) {
    assert!(!run.stdout.contains(secret) && !run.stderr.contains(secret), "{run}");
    let kept: BTreeMap<String, Vec<u8>> = p.everything();
    for (path, bytes) in kept.iter().filter(|(path, _)| path.starts_with(".genmake/") || path.as_str() == "r.json") {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "it stands in {path}");
    }
}

/// All that judges says that the task is stopped, by an error that holds `what`, and nothing is sent; with leave it is made.
#[track_caller]
fn is_stopped(p: &Project, server: &Server, secret: &str, what: &str) {
    let before = server.count();
    for args in
        [&[][..], &["-k"], &["plan"], &["plan", "--format", "json"], &["prompt", "page"], &["-v", "--report", "r.json"]]
    {
        let run = p.run(args.iter().copied());
        assert!(run.to_string().contains("genmake::secret"), "{args:?}\n{run}");
        assert!(run.to_string().contains(what), "{args:?}: it does not say {what:?}\n{run}");
        shows_nothing_of(secret, p, &run);
        run.exits(2);
    }
    assert_eq!(server.count(), before, "{what}: something was sent");
    let genfile = p.read("Genfile");
    p.edit("Genfile", &genfile.replace("    output:", "    allow_secrets: true\n    output:"));
    p.run([]).exits(0);
    let sent = server.requests()[before..].iter().any(|request| request.body.to_string().contains(secret));
    assert!(sent, "{what}: with leave it is sent");
    // What is made stays so: leave is in no key, and what is not sent is not looked through.
    p.edit("Genfile", &genfile).run(["check"]).exits(0);
    p.run([]).stderr_has("nothing to do").exits(0);
    p.run(["-B", "--yes"]).stderr_has("genmake::secret").exits(2);
    p.remove("page.md").run([]).exits(0);
}

#[test]
fn a_file_of_secrets_is_stopped_by_its_name_wherever_a_prompt_has_it() {
    const TEXT: &str = "nothing that looks like it\n";
    for (keys, path) in [
        ("    inputs: [.env]\n", ".env"),
        ("    inputs: {settings: {path: deploy/.env.production, optional: true}}\n", "deploy/.env.production"),
        ("    inputs: [\"certs/*\"]\n", "certs/server.key"),
        ("    foreach: certs/*.pem\n    inputs: [\"{{item.path}}\"]\n", "certs/a.pem"),
        ("    foreach: {a: certs/*.pem, b: [1]}\n    inputs: [\"{{item.a.path}}\"]\n", "certs/a.pem"),
    ] {
        let server = Server::start();
        let p = page(&server, keys).file(path, TEXT);
        is_stopped(&p, &server, TEXT.trim(), &format!("`{path}` holds secrets"));
    }
    let server = Server::start();
    let json = "client_secret_1.json";
    let p =
        page(&server, "    inputs: [\"client_secret_1.json#/web\"]\n").file(json, "{\"web\": \"nothing like it\"}\n");
    is_stopped(&p, &server, "nothing like it", "`client_secret_1.json` holds secrets");
    // One by one: an item that is a part, a context, the prompt itself.
    let p = page(&server, "    foreach: \"client_secret_1.json#/*\"\n").file(json, "{\"web\": \"nothing like it\"}\n");
    p.edit("page.prompt", "{{item.value}}");
    is_stopped(&p, &server, "nothing like it", "`client_secret_1.json` holds secrets");
    let p =
        page(&server, "    context: {select: client_secret_1.json#}\n").file(json, "{\"web\": \"nothing like it\"}\n");
    is_stopped(&p, &server, "nothing like it", "`client_secret_1.json` holds secrets");
    let p = page(&server, "").file("credentials", "nothing like it\n");
    p.edit("Genfile", &p.read("Genfile").replace("page.prompt", "credentials"));
    is_stopped(&p, &server, "nothing like it", "`credentials` holds secrets");
}

#[cfg(unix)]
#[test]
fn a_file_of_secrets_is_stopped_by_whatever_name_a_symlink_gives_it() {
    let server = Server::start();
    let link = |p: Project, to: &str, at: &str| {
        std::os::unix::fs::symlink(to, p.path(at)).expect("a link");
        p
    };
    let p = link(page(&server, "    inputs: [note.txt]\n").file(".env", "A=nothing like it\n"), ".env", "note.txt");
    is_stopped(
        &p,
        &server,
        "nothing like it",
        "`note.txt` leads to `.env`, which holds secrets as files named `.env` do",
    );
    let p = page(&server, "    foreach: in/*\n    inputs: [\"{{item.path}}\"]\n");
    let p = p.file("keys/id_rsa", "nothing like it\n");
    fs_err::create_dir(p.path("in")).expect("a folder");
    let p = link(p, "../keys/id_rsa", "in/link.txt");
    is_stopped(&p, &server, "nothing like it", "`in/link.txt` leads to `id_rsa`");
    // By its folder, and one to what is harmless.
    let p = page(&server, "    inputs: [tools]\n").file(".aws/config", "nothing like it\n");
    is_stopped(&link(p, ".aws/config", "tools"), &server, "nothing like it", "`tools` leads to `config`");
    let p = link(page(&server, "    inputs: [note.txt]\n").file("a.txt", "x\n"), "a.txt", "note.txt");
    p.run([]).exits(0);
}

#[test]
fn a_file_of_secrets_is_pointed_at_in_the_genfile() {
    let server = Server::start();
    let p = page(&server, "    inputs: [notes.md, deploy/.env]\n").file("notes.md", "x\n").file("deploy/.env", "A=1\n");
    p.run(["plan"])
        .stderr(expect![[r#"
        genmake::secret

          x rule `page`: `deploy/.env` holds secrets as files named `.env` do, and would be sent to a model
           ,-[Genfile:8:24]
         7 |     prompt: page.prompt
         8 |     inputs: [notes.md, deploy/.env]
           :                        ^^^^^^^^^^^
           `----
          help: leave it out; `allow_secrets: true` in the rule sends it all the same
    "#]])
        .exits(2);
}

#[test]
fn an_error_about_something_else_does_not_show_what_stands_beside_it() {
    let p = Project::new().file(
        "Genfile",
        &format!("version: 1\nvars: {{db: \"postgres://shop:{PASSWORD}@db.acme.dev/shop\"}}\nruels: {{}}\n"),
    );
    let run = p.run(["check"]);
    assert!(!run.stderr.contains(PASSWORD), "{run}");
    run.stderr_has("postgres://shop:").stderr_has("ruels").exits(2);
}

#[test]
fn only_what_would_be_sent_counts() {
    // A template may read anything; a list of names shows no content; example files hold none.
    let server = Server::start();
    let p = page(&server, "    inputs: {all: \"certs/*\", env: .env}\n  local: {output: local.txt, template: t/t.hbs, inputs: [.env]}\n  copied: {output: copy.txt, run: \"cat .env > copy.txt\", inputs: [.env]}\n")
        .file("page.prompt", "Say what these are: {{#each inputs.all}}{{path}} {{/each}}{{inputs.env.name}}")
        .file("certs/a.pem", "x\n")
        .file(".env", &format!("DB=postgres://shop:{PASSWORD}@db.acme.dev/shop\nAWS_KEY={AWS}\n"))
        .file("t/t.hbs", "{{#each inputs}}{{text}}{{/each}}");
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
    assert_eq!(p.read("local.txt"), p.read("copy.txt"));
    let p =
        page(&server, "    inputs: [.env.example]\n").file(".env.example", "DB_PASSWORD=changeme123\nAPI_KEY=sk-...\n");
    p.run([]).exits(0);
}

#[test]
fn a_credential_is_stopped_wherever_it_comes_from() {
    let server = Server::start();
    let address = format!("postgres://shop:{PASSWORD}@db.acme.dev/shop");
    let inputs = "    inputs: [in/notes.yaml]\n";
    let p = page(&server, inputs).file("in/notes.yaml", &format!("a: 1\nb: é {address}\n"));
    is_stopped(&p, &server, PASSWORD, "in/notes.yaml:2:");
    // The prompt, a partial of it, the Genfile's own variables.
    let p = page(&server, "").file("page.prompt", &format!("One.\nWrite to {address}.\n"));
    is_stopped(&p, &server, PASSWORD, "page.prompt:2:");
    let p = page(&server, "")
        .file("page.prompt", "One. {{> where}}\n")
        .file("_where.prompt", &format!("\n\nAt {address}.\n"));
    is_stopped(&p, &server, PASSWORD, "_where.prompt:3:");
    let p = page(&server, "").file("page.prompt", "At {{vars.db}}\n");
    p.edit(
        "Genfile",
        &p.read("Genfile").replace("version: 1\n", &format!("version: 1\nvars: {{db: \"{address}\"}}\n")),
    );
    is_stopped(&p, &server, PASSWORD, "Genfile:2:");
    // A row of data, a context, and what a template made of another file.
    let p = page(&server, "    foreach: rows.csv#/*\n").file("rows.csv", &format!("id,db\n2,{address}\n"));
    p.edit("page.prompt", "{{item.value.db}}");
    is_stopped(&p, &server, PASSWORD, "rows.csv:2:");
    let p = page(&server, "    context: {select: spec.yaml#/entities}\n")
        .file("spec.yaml", &format!("entities:\n  Shop: {address}\n"));
    is_stopped(&p, &server, PASSWORD, "spec.yaml:2:");
    let p = page(&server, "    inputs: [made.md]\n  made: {output: made.md, template: t.hbs, inputs: [in.yaml]}\n")
        .file("t.hbs", "{{#each inputs}}{{data.db}}{{/each}}\n")
        .file("in.yaml", &format!("db: {address}\n"));
    is_stopped(&p, &server, PASSWORD, "made.md:1:");
}

#[test]
fn a_credential_that_the_prompt_writes_otherwise_is_found_in_its_file_all_the_same() {
    let server = Server::start();
    let line = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ";
    let key = format!("-----BEGIN PRIVATE{}{line}{line}\n{line}==\n-----END PRIVATE KEY-----\n", " KEY-----\n");
    let p = page(&server, "    inputs: [in.txt]\n")
        .file("in.txt", &format!("first\n{key}"))
        .file("page.prompt", "Write about {{#each inputs}}{{json text}}{{/each}}\n");
    is_stopped(&p, &server, line, "in.txt:2:");
    // What is put together out of two values stands in no file: the prompt's own line is shown.
    let p = page(&server, "").file("page.prompt", "One.\nWrite to {{vars.a}}{{vars.b}}\n");
    let (a, b) = AWS.split_at(9);
    p.edit("Genfile", &p.read("Genfile").replace("version: 1\n", &format!("version: 1\nvars: {{a: {a}, b: {b}}}\n")));
    is_stopped(&p, &server, AWS, "prompt of page.md, user:2:");
}

#[test]
fn variables_of_secrets_are_stopped_and_others_are_not() {
    let server = Server::start();
    let keys = "    env: [SHOP_TOKEN, SHOP_NAME]\n";
    let p = page(&server, keys).env("SHOP_TOKEN", "only words").env("SHOP_NAME", "only words of a name");
    p.edit("page.prompt", "Write about {{env.SHOP_NAME}}, twice");
    p.run([]).stderr_has("the value of the environment variable `SHOP_TOKEN`").exits(2);
    let p = p.env("SHOP_TOKEN", "other words");
    p.run([]).exits(0);
    p.edit("page.prompt", "Write about {{env.SHOP_TOKEN}}");
    is_stopped(&p, &server, "other words", "the value of the environment variable `SHOP_TOKEN`");
}

#[test]
fn others_go_on_with_k_and_each_kind_is_told_once() {
    let server = Server::start();
    let p = page(&server, "    inputs: [in.txt]\n  good: {output: good.md, prompt: page.prompt, inputs: [good.txt]}\n")
        .file("good.txt", "words\n")
        .file("in.txt", &format!("{AWS}\npostgres://a:{PASSWORD}@db.acme.dev {AWS}\n"));
    p.run(["-k"])
        .stderr_has("and there is password in an address, `tr…`")
        .stderr_has("what looks like a credential (AWS access key id, `AKIA…`)")
        .exits(2);
    assert_eq!((p.exists("good.md"), server.count()), (true, 1));
}

#[test]
fn what_a_check_says_is_not_sent_either() {
    let server = Server::start();
    let p = page(&server, "    check: {run: \"sh check.sh\"}\n")
        .file("page.prompt", "Write words.\n")
        .file("check.sh", &format!("echo 'no connection to postgres://shop:{PASSWORD}@db.acme.dev/shop'; exit 1\n"));
    p.run([]).stderr_has("what a check says of `page.md` holds what looks like a credential").exits(2);
    assert_eq!(server.count(), 1);
    p.edit("Genfile", &p.read("Genfile").replace("    output:", "    allow_secrets: true\n    output:"));
    p.run(["-B", "--yes"]).stderr_has("genmake::check_failed").exits(2);
    assert!(server.requests()[2].body.to_string().contains(PASSWORD));
}

// ---- keys appear nowhere ----

const KEY: &str = concat!("sk-canary-", "5d1f0a93c7be4826");

/// Nothing that genmake wrote or said holds a part of the key.
#[track_caller]
fn is_nowhere(p: &Project, run: &Run, what: &str) {
    let part = &KEY[..16];
    assert!(!run.stdout.contains(part) && !run.stderr.contains(part), "{what}: it is shown\n{run}");
    for (path, bytes) in p.everything() {
        assert!(!bytes.windows(part.len()).any(|window| window == part.as_bytes()), "{what}: it stands in {path}");
    }
}

/// What providers answer, each with all of the header that they were sent.
fn echoes() -> Vec<(&'static str, Vec<Act>)> {
    let header = format!("Bearer {KEY}");
    let status = |code, body: String| Act::Status { code, headers: Vec::new(), body };
    let error = |code| Act::error(code, "invalid_request_error", &header, &format!("sent: Authorization: {header}"));
    let answer = |text: &str| {
        let message = serde_json::json!({"message": {"content": text}, "finish_reason": "stop"});
        status(200, serde_json::json!({"choices": [message]}).to_string())
    };
    let quiet = |act: Act| act.header("retry-after", "0").header("x-request-id", KEY);
    vec![
        ("an answer", vec![answer(&format!("a page that says {header}"))]),
        ("an answer of many slots", vec![answer(&format!("{{\"files\": {{\"f1\": \"{header}\", \"f2\": \"x\"}}}}"))]),
        ("401", vec![quiet(error(401))]),
        ("403", vec![quiet(status(403, format!("<html><pre>authorization: {header}</pre>")))]),
        ("404", vec![quiet(error(404))]),
        ("400", vec![quiet(error(400))]),
        ("a redirect", vec![status(307, header.clone()).header("location", &format!("/v2?key={KEY}"))]),
        ("429, then an answer", vec![quiet(error(429)), Act::Default]),
        (
            "500 for ever",
            vec![quiet(error(500)), quiet(error(500)), quiet(error(500)), quiet(error(500)), quiet(error(500))],
        ),
        ("no JSON", vec![status(200, header.clone())]),
        ("half of an answer", vec![status(200, format!("{{\"choices\": [{{\"message\": {{\"content\": \"{header}"))]),
    ]
}

#[test]
fn a_key_is_nowhere_whatever_a_provider_answers() {
    for (what, acts) in echoes() {
        let server = Server::start();
        let p = shop_with(&server, 2, "key_env: SHOP_KEY", "").env("SHOP_KEY", KEY);
        server.script(acts);
        let run = p.run(["-v", "--report", "report.json"]);
        is_nowhere(&p, &run, what);
        assert!(server.count() > 0 && p.exists("report.json"), "{what}");
        assert_eq!(server.requests()[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()), "{what}");
        for args in [
            &["plan", "-v"][..],
            &["plan", "--format", "json"],
            &["prompt", "pages", "--batch"],
            &["prompt", "pages", "--format", "json"],
            &["explain", "pages", "--format", "json"],
            &["check", "--format", "json"],
            &["graph", "--format", "json"],
            &["diff"],
            &["--frozen", "-v"],
            &["-k", "--progress", "plain", "--report", "report.json"],
        ] {
            is_nowhere(&p, &p.run(args.iter().copied()), &format!("{what}, then {args:?}"));
        }
    }
}

#[test]
fn a_key_is_nowhere_when_nothing_answers_or_a_prompt_asks_for_it() {
    let server = Server::start();
    // The rule names the variable of the key itself.
    let p = shop_with(&server, 1, "key_env: SHOP_KEY", "env: [SHOP_KEY]").env("SHOP_KEY", KEY);
    p.edit("prompts/page.prompt", "{{env.SHOP_KEY}}");
    let run = p.run(["-v", "--report", "report.json"]);
    is_nowhere(&p, &run, "a prompt with the key");
    run.stderr_has("the value of the environment variable `SHOP_KEY`").exits(2);
    assert_eq!(server.count(), 0);
    // Nobody is there; the connection breaks; the file of the report cannot be written.
    let p = shop_with(&server, 1, "key_env: SHOP_KEY", "").env("SHOP_KEY", KEY);
    server.script([Act::Reset, Act::Cut, Act::Reset, Act::Cut, Act::Reset, Act::Cut]);
    is_nowhere(&p, &p.run(["-v", "--report", "report.json"]), "a connection that breaks");
    is_nowhere(&p, &p.run(["--report", "docs"]), "a report that cannot be written");
    p.edit("Genfile", &p.read("Genfile").replace(&server.base_url(), "http://127.0.0.1:9/v1"));
    is_nowhere(&p, &p.run(["-B", "--yes", "-v"]), "nobody at the address");
}
