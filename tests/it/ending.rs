//! What stands above the last line of a run: what it shared and saved, what took longest, and what could be cheaper.

use crate::server::Server;
use crate::shop::{self, shop_with, spec};

#[test]
fn results_that_a_template_could_make_are_said() {
    let server = Server::start();
    let p = shop_with(&server, 3, "", "");
    server
        .reply(|request, slot| shop::answer(request, slot).replace("# ", "# This page was made for the entity named "));
    p.run([])
        .stderr_has(
            "advice  rule `pages`: its 3 results are one form filled with words of their prompts; a `template` makes",
        )
        .exits(0);
    // What was made before says nothing of what this run could have saved.
    p.run([]).stderr_lacks("advice").exits(0);
}

#[test]
fn what_was_shared_and_saved_stands_above_the_last_line() {
    let server = Server::start();
    let p = shop_with(&server, 5, "", "batching: {max_batch_size: 2}");
    let run = p.run([]);
    let lines: Vec<&str> = run.stderr.lines().rev().take(3).collect();
    assert!(lines[0].starts_with("done: 5 generated, 1 rendered in "), "{run}");
    assert!(lines[1].starts_with("    saved  about "), "{run}");
    assert_eq!(lines[2], "   shared  4 results in 2 requests, 1 alone", "{run}");
    p.remove("docs").run([]).stderr_has("    saved  about ").stderr_has("tokens: store ").exits(0);
    // Of one request, and where nothing is to be said at all, there is the last line alone.
    p.edit("spec.yaml", &spec(5, &[("e1", "news")]));
    p.run([]).stderr_lacks("saved").stderr_has("1 request, ").exits(0);
    p.run(["-s"]).stderr_lacks("done").exits(0);
}
