//! Tokens and money: what a plan says before anything is sent, what a run may spend, and what its report says that it cost.

use expect_test::expect;
use serde_json::{Value, json};

use crate::project::Project;
use crate::server::{Act, Gate, Server};

/// Rules below a provider `p`, of which these are further keys.
fn asking(server: &Server, top: &str, provider: &str, rules: &str) -> Project {
    let head = format!(
        "version: 1\n{top}\nprovider: p\nproviders:\n  p: {{api: openai, model: m, base_url: \"{{base_url}}\", {provider}}}\nrules:\n"
    );
    Project::new()
        .genfile_for(server, &format!("{head}{rules}"))
        .file("p.prompt", "{{role \"system\"}}Be brief.\n{{role \"user\"}}Write about {{item}}.\n")
}

/// Four tasks, each with a request of its own.
const FOUR: &str = "  a: {foreach: [one, two, six, ten], output: \"out/{{item}}\", prompt: p.prompt, batch: false, params: {max_output_tokens: 100}}\n";

/// Prices that are easy to add up: a USD a token.
const DEAR: &str = "prices: {input: 1000000, output: 1000000}";

fn report(p: &Project, args: &[&str]) -> Value {
    p.run(args.iter().copied().chain(["--report", "report.json"])).exits(0);
    serde_json::from_str(&p.read("report.json")).expect("a report")
}

fn plan(p: &Project) -> Value {
    serde_json::from_str(&p.run(["plan", "--format", "json"]).stdout).expect("a plan")
}

/// A good answer that says how many tokens it took.
fn answer(input: u64, cached: u64, cache_write: u64, output: u64) -> Act {
    let body = json!({
        "choices": [{"message": {"content": "text"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": input, "completion_tokens": output,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": cache_write}},
    });
    Act::Status { code: 200, headers: Vec::new(), body: body.to_string() }
}

const ONE: &str = "  a: {output: a, prompt: one.prompt}\n";

#[test]
fn a_report_costs_what_the_provider_counted() {
    let server = Server::start();
    server.script([answer(1000, 400, 100, 50)]);
    let prices = "prices: {input: 2, output: 10, cache_read: 0.5, cache_write: 3}";
    let p = asking(&server, "", prices, ONE).file("one.prompt", "Write.");
    let llm = &report(&p, &[])["llm"];
    // 500 plain, 400 read and 100 written tokens, and 50 that came back.
    assert_eq!(llm["cost_usd"], json!(0.0020));
    assert_eq!(llm["cost_saved_usd"], json!(0.0005));
    assert_eq!(llm["providers"]["p"]["cost_usd"], json!(0.0020));
    // What the store holds is worth what it would cost now.
    p.remove("a");
    let llm = &report(&p, &[])["llm"];
    assert_eq!((&llm["cost_usd"], &llm["cost_saved_usd"]), (&json!(0.0), &json!(0.0025)));
}

/// What is said to be saved is the difference to a request each, without a cache.
#[test]
fn what_is_saved_is_what_one_request_each_would_cost_more() {
    for (api, model) in [("openai", "gpt-4.1"), ("anthropic", "claude-sonnet-4-5")] {
        let cost = |is_cached: bool, args: &[&str]| {
            let server = Server::start();
            if is_cached {
                server.with_cache();
            }
            server.reply(|_, _| "Some \"words\" of it.\n".repeat(30));
            let prices = "prices: {input: 3, output: 15, cache_read: 0.3, cache_write: 3.75}";
            let rules = "  a: {foreach: [b, c, d, e, f, g], output: \"out/{{item}}\", prompt: long.prompt}\n";
            let p = asking(&server, "batching: {max_batch_size: 3}", prices, rules);
            p.edit(
                "Genfile",
                &p.read("Genfile").replace("api: openai, model: m", &format!("api: {api}, model: {model}")),
            );
            let system = "Say what is so. ".repeat(500);
            p.edit(
                "long.prompt",
                &format!("{{{{role \"system\"}}}}{system}\n{{{{role \"user\"}}}}Write about {{{{item}}}}.\n"),
            );
            let llm = report(&p, args)["llm"].clone();
            let amount = |name: &str| llm[name].as_f64().expect("an amount");
            (amount("cost_usd"), amount("cost_saved_usd"))
        };
        let ((alone, nothing), (cost, saved)) = (cost(false, &["--no-batch"]), cost(true, &[]));
        assert!(nothing.abs() < 1e-9, "{nothing}");
        let split = saved / (alone - cost);
        assert!((0.98..1.02).contains(&split), "{saved} of {alone} - {cost}");
    }
}

#[test]
fn tokens_of_the_cache_cost_as_others_without_a_price_of_their_own() {
    for (prices, cost) in [
        ("prices: {input: 2, output: 0}", 0.002),
        ("prices: {input: 2, output: 0, cache_read: 1}", 0.0016),
        ("prices: {input: 2, output: 0, cache_write: 4}", 0.0022),
    ] {
        let server = Server::start();
        server.script([answer(1000, 400, 100, 50)]);
        let p = asking(&server, "", prices, ONE).file("one.prompt", "Write.");
        assert_eq!(report(&p, &[])["llm"]["cost_usd"], json!(cost), "{prices}");
    }
}

#[test]
fn a_list_of_prices_is_read_and_what_it_lacks_is_unpriced_not_free() {
    let far = "base_url: \"https://llm.invalid/v1\", prices: list.json";
    let genfile = |model: &str| {
        format!("version: 1\nprovider: p\nproviders:\n  p: {{api: openai, model: {model}, {far}}}\nrules:\n{ONE}")
    };
    let list =
        r#"{"acme-1": {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "max_output_tokens": 900}}"#;
    let p = Project::new().file("Genfile", &genfile("acme-1")).file("one.prompt", "Write.").file("list.json", list);
    let priced = plan(&p);
    let tokens = |name: &str| priced[name].as_u64().expect("a number");
    let cost = (tokens("input_tokens") + 2 * tokens("output_tokens")) as f64 / 1e6;
    assert_eq!(priced["cost_usd"].as_f64(), Some(cost));
    let unpriced = plan(p.edit("Genfile", &genfile("acme-2")));
    assert_eq!((&unpriced["cost_usd"], &unpriced["batches"][0]["cost_usd"]), (&Value::Null, &Value::Null));
    p.run(["plan"]).stdout_has("no bound  unpriced\n").exits(0);
    // No budget in USD can be kept with what has no price, so nothing is sent.
    p.run(["--max-cost", "5"])
        .stderr_has("genmake::budget")
        .stderr_has("the price of the request for `a` is not known")
        .exits(2);
    // A list that is none is said where it is named; where no request is due it is not read.
    p.edit("list.json", "[]")
        .run(["plan"])
        .stderr_has("genmake::bad_value")
        .stderr_has("`list.json` is no list")
        .exits(2);
    p.run(["check"]).exits(1);
}

#[test]
fn a_plan_says_tokens_cost_and_the_same_without_genmake() {
    let server = Server::start();
    let rules = "  a: {foreach: [one, two, six], output: \"out/{{item}}\", prompt: p.prompt, params: {max_output_tokens: 100}}\n";
    let p = asking(&server, "", "prices: {input: 2, output: 10}", rules);
    p.run(["plan"])
        .stdout(expect![[r#"
            generate  out/one  new  [request 1]
            generate  out/two  new  [request 1]
            generate  out/six  new  [request 1]
            request          for         model  tokens in  out  at most  cost
            1                3 tasks     p (m)         69  126      423  0.00140 USD
            in all           1 request                 69  126      423  0.00140 USD
            without genmake  3 requests                54  102           0.00113 USD
            0 fresh, 3 to generate; 1 request
        "#]])
        .exits(0);
    let said = plan(&p);
    let keys = ["requests", "input_tokens", "output_tokens", "max_output_tokens", "cost_usd", "without_genmake"];
    let shown: Vec<String> = keys.iter().map(|key| format!("{key}: {}\n", said[*key])).collect();
    expect![[r#"
        requests: 1
        input_tokens: 69
        output_tokens: 126
        max_output_tokens: 423
        cost_usd: 0.001398
        without_genmake: {"requests":3,"input_tokens":54,"output_tokens":102,"cost_usd":0.001128}
    "#]]
    .assert_eq(&shown.concat());
    assert_eq!(server.count(), 0);
}

#[test]
fn the_next_plan_says_what_the_last_run_took() {
    let server = Server::start();
    server.reply(|_, _| "word ".repeat(80));
    let p = asking(&server, "", DEAR, FOUR);
    p.run([]).exits(0);
    p.edit("p.prompt", "{{role \"system\"}}Be brief now.\n{{role \"user\"}}Write about {{item}} then.\n");
    let said = plan(&p);
    let took = report(&p, &[]);
    for (of_plan, of_report) in
        [("input_tokens", "input_tokens"), ("output_tokens", "output_tokens"), ("cost_usd", "cost_usd")]
    {
        let (said, took) =
            (said[of_plan].as_f64().expect("a number"), took["llm"][of_report].as_f64().expect("a number"));
        assert!((said / took - 1.0).abs() <= 0.15, "{of_plan}: {said} was planned, and it took {took}");
    }
}

#[test]
fn in_a_fresh_clone_results_are_expected_as_those_that_stand_there() {
    let server = Server::start();
    server.reply(|_, _| "word ".repeat(80));
    let p = asking(&server, "", "", FOUR);
    p.run([]).exits(0);
    fs_err::remove_dir_all(p.path(".genmake")).expect("a folder");
    p.edit("p.prompt", "Write about {{item}} now.\n").remove("out/two");
    let each = ("word ".len() as u64 * 80).div_ceil(4);
    assert_eq!(plan(&p)["output_tokens"], json!(4 * each));
    // Without the lock those are nobody's: only what is not there is asked for, and nothing is known of it.
    p.remove("Genfile.lock");
    assert_eq!(plan(&p)["output_tokens"], json!(34));
}

/// Six tasks that may share a request.
const SIX: &str =
    "  a: {foreach: [a, b, c, d, e, f], output: \"out/{{item}}\", prompt: p.prompt, batch: {max_batch_size: 50}}\n";

#[test]
fn a_request_carries_as_many_results_as_they_were_long() {
    let server = Server::start();
    server.reply(|_, _| "word ".repeat(4800));
    let p = asking(&server, "", "", SIX);
    p.run([]).exits(0);
    assert_eq!(server.count(), 1);
    // Some 6,000 tokens each, and a model writes 16,000 well at once.
    assert_eq!(plan(&p)["requests"], json!(0));
    p.run(["-B"]).exits(0);
    let sizes: Vec<usize> = server.requests()[1..].iter().map(|request| request.paths().len()).collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size == 2), "{sizes:?}");
}

#[test]
fn a_request_carries_what_its_model_has_room_for_by_a_list_of_prices() {
    let server = Server::start();
    // Room for two answers of 500 tokens, and half of what is allowed.
    let list = json!({"m": {"max_output_tokens": 2400, "input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}});
    let p = asking(&server, "", "prices: list.json", SIX).file("list.json", &list.to_string());
    p.run(["plan"]).stdout_has("3 requests").exits(0);
    p.run([]).exits(0);
    assert_eq!(server.count(), 3);
}

#[test]
fn what_was_learnt_changes_no_verdict_and_may_be_lost_or_damaged() {
    let server = Server::start();
    let p = asking(&server, "", "", FOUR);
    assert!(!p.exists(".genmake/ledger"));
    p.run([]).exits(0);
    let (lock, ledger) = (p.read("Genfile.lock"), p.read(".genmake/ledger"));
    assert!(ledger.contains("\"length\"") && ledger.contains("\"results\": 4"), "{ledger}");
    // A run without requests leaves it alone.
    p.run([]).stderr_has("nothing to do").exits(0);
    p.run(["check"]).exits(0);
    assert_eq!(p.read(".genmake/ledger"), ledger);
    for damaged in ["", "{", "null", "\u{0}"] {
        p.edit(".genmake/ledger", damaged);
        p.run(["check"]).exits(0);
        p.run(["plan", "-B"]).stdout_has("4 requests").exits(0);
        p.run([]).stderr_has("nothing to do").exits(0);
    }
    p.remove(".genmake/ledger").run(["-B"]).exits(0);
    // But for how long it took.
    let without_times = |ledger: &str| -> Vec<String> {
        ledger.lines().filter(|line| !line.contains("\"millis\"")).map(str::to_owned).collect()
    };
    assert_eq!(p.read("Genfile.lock"), lock);
    assert_eq!(without_times(&p.read(".genmake/ledger")), without_times(&ledger));
}

#[test]
fn a_budget_stops_before_a_request_and_what_is_finished_stays() {
    let server = Server::start();
    let p = asking(&server, "", "in_flight: 1", FOUR);
    // Each can take some 20 tokens in and 100 out, and takes far fewer.
    let run = p.run(["--max-tokens", "130"]);
    let made = server.count();
    assert!((1..4).contains(&made), "{made} requests\n{run}");
    run.stderr_has("genmake::budget")
        .stderr_has("the budget of 130 tokens has no room for the request for `out/")
        .exits(2);
    let written = p.tree().keys().filter(|path| path.starts_with("out/")).count();
    assert_eq!(written, made);
    // The next run asks for what is missing, and for nothing else.
    p.run([]).exits(0);
    assert_eq!(server.count(), 4);
}

#[test]
fn what_a_provider_does_not_count_is_spent_all_the_same() {
    let server = Server::start();
    server.always(Act::Bare);
    let p = asking(&server, "", "in_flight: 1", FOUR);
    // Room for one answer at its most, and for what is sent once: two.
    p.run(["--max-tokens", "140"]).stderr_has("the budget of 140 tokens has no room").exits(2);
    assert_eq!(server.count(), 2);
}

#[test]
fn costs_are_bounded_as_tokens_are_and_an_option_goes_before_the_genfile() {
    let server = Server::start();
    let p = asking(&server, "budget: {max_cost_usd: 130}", &format!("in_flight: 1, {DEAR}"), FOUR);
    p.run(["plan", "--max-cost", "50"])
        .stdout_has("warning: the budget of 50.00 USD will not do: this costs about ")
        .exits(0);
    p.run(["plan", "--max-cost", "5000"]).exits(0);
    assert_eq!(plan(&p)["warnings"].as_array().map(Vec::len), Some(1));
    p.run(["--max-cost", "50"]).stderr_has("the budget of 50.00 USD has no room").stderr_has("0 are spent").exits(2);
    assert_eq!(server.count(), 0);
    p.run([]).stderr_has("the budget of 130.00 USD has no room").exits(2);
    assert!((1..4).contains(&server.count()));
    p.run(["--max-cost", "1000"]).stderr_has(" USD\n").exits(0);
    assert_eq!(server.count(), 4);
    p.run(["--max-cost", "cheap"]).stderr_has("an amount of USD, such as 2.50").exits(2);
}

#[test]
fn what_is_under_way_is_counted_and_what_it_leaves_is_used() {
    let server = Server::start();
    let gate = Gate::new();
    server.always(Act::Hold(gate.clone()));
    // Room for the most that two can take, and for what all four really take.
    let p = asking(&server, "budget: {max_tokens: 250}", "in_flight: 4", FOUR);
    let child = p.spawn([]);
    server.wait_for(2);
    gate.open();
    p.finish(child).exits(0);
    assert_eq!((server.count(), server.max_in_flight()), (4, 2));
}

#[test]
fn a_run_is_asked_about_before_it_spends() {
    let genfile = |url: &str| {
        format!(
            "version: 1\nbudget: {{confirm_above_tokens: 100}}\nprovider: p\nproviders:\n  p: {{api: openai, model: m, base_url: \"{url}\", key_env: NOT_SET}}\nrules:\n{FOUR}  late: {{output: late, prompt: one.prompt, inputs: {{a: out/one}}}}\n"
        )
    };
    let p = Project::new()
        .file("Genfile", &genfile("https://llm.invalid/v1"))
        .file("p.prompt", "Write about {{item}}.\n")
        .file("one.prompt", "{{inputs.a.text}}");
    // Also about what waits for others.
    p.run([])
        .stderr_has("genmake::needs_yes")
        .stderr_has("5 results will take about ")
        .stderr_has("more than the 100 of `confirm_above_tokens`")
        .exits(2);
    p.run(["--yes"]).stderr_has("genmake::key").exits(2);
    p.run(["out/one", "--offline"]).stderr_has("genmake::offline").exits(2);
    // Nobody is asked about a model on this machine.
    p.edit("Genfile", &genfile("http://127.0.0.1:9/v1")).run([]).stderr_has("genmake::key").exits(2);
}

#[test]
fn a_prompt_without_room_is_not_sent_and_the_others_are() {
    let server = Server::start();
    let rules = "  a: {foreach: \"in/*\", output: \"out/{{item.name}}\", prompt: q.prompt}\n";
    let p = asking(&server, "", "limits: {context: 500}", rules)
        .file("q.prompt", "{{role \"system\"}}Be brief.\n{{role \"user\"}}Write about this: {{item.text}}\n")
        .file("in/long", &"word ".repeat(500))
        .file("in/tight", &"word ".repeat(340))
        .file("in/short", &"word ".repeat(60));
    p.run(["plan"])
        .stdout_has("warning: the prompt for `out/tight` takes 444 of the 500 tokens")
        .stderr_has("genmake::too_long")
        .exits(2);
    assert_eq!(plan(&p)["warnings"].as_array().map(Vec::len), Some(1));
    p.run(["-k"])
        .stderr_has("warning  the prompt for `out/tight` takes 444 of the 500 tokens that `m` has room for: system 3, in/tight 425, own text 16")
        .stderr_has("the prompt for `out/long` would take 644 of the 500 tokens that `m` has room for: system 3, in/long 625, own text 16")
        .exits(2);
    assert!(p.exists("out/short") && p.exists("out/tight") && !p.exists("out/long"));
    // The two that were sent have no room together: they were sent alone, and nothing was sent twice.
    assert_eq!(server.count(), 2);
}
