//! What lies between genmake and a provider: connections, packed answers, proxies, and whose certificates are trusted.

use std::fs;

use crate::front::{Authority, Proxy};
use crate::project::Project;
use crate::server::{Act, Gate, Server};
use crate::shop::{APIS, asked_after, genfile, is_built, shop_of, shop_with};

/// The shop with a provider at another address than its server's own.
fn shop_at(server: &Server, base_url: &str, provider: &str) -> Project {
    let p = shop_with(server, 2, provider, "");
    p.edit("Genfile", &genfile(provider, "").replace("{base_url}", base_url));
    p
}

// ---- connections ----

#[test]
fn connections_are_used_again() {
    for api in APIS {
        for is_streamed in [true, false] {
            for is_packed in [true, false] {
                let server = Server::start();
                let p = shop_of(api, &server, 120, "in_flight: 3", "batch: false");
                if !is_streamed {
                    server.without_streams();
                }
                if is_packed {
                    server.with_gzip();
                }
                p.run([]).exits(0);
                assert_eq!(server.count(), 120);
                let what = format!("{api}, streamed {is_streamed}, packed {is_packed}");
                assert!(server.connections() <= 4, "{} connections: {what}", server.connections());
            }
        }
    }
}

#[test]
fn a_connection_is_used_again_after_an_error() {
    let server = Server::start();
    let p = shop_with(&server, 8, "in_flight: 1", "batch: false");
    server.script([Act::server_error(), Act::Refusal, Act::rate_limited(0), Act::LengthEmpty]);
    p.run(["-k"]).exits(2);
    assert!(server.count() > 8);
    assert!(server.connections() <= 2, "{}", server.connections());
}

// ---- gzip ----

#[test]
fn packed_answers_are_understood() {
    for api in APIS {
        for is_streamed in [true, false] {
            let server = Server::start();
            let p = shop_of(api, &server, 5, "", "");
            server.with_gzip();
            if !is_streamed {
                server.without_streams();
            }
            p.run([]).exits(0);
            is_built(&p, 5, &[]);
            assert_eq!(server.count(), 1);
        }
    }
}

#[test]
fn packed_errors_are_understood() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    server.with_gzip().always(Act::unauthorized());
    p.run([]).stderr_has("status 401: Incorrect API key provided.").exits(2);
}

/// What stands before the pause is there before the rest is.
#[test]
fn a_packed_stream_is_read_as_it_comes() {
    let server = Server::start();
    let p = shop_with(&server, 5, "in_flight: 1", "");
    let gate = Gate::new();
    server.with_gzip().script([Act::HoldAfter { keep: 2, gate: gate.clone() }]);
    let mut child = p.spawn(["-v"]);
    p.wait_for_line(&mut child, "arrive  docs/e2.md");
    gate.open();
    p.finish(child).exits(0);
    assert_eq!(server.count(), 1);
    is_built(&p, 5, &[]);
}

#[test]
fn a_stream_is_asked_for_unpacked() {
    for api in APIS {
        let server = Server::start();
        shop_of(api, &server, 1, "", "").run([]).exits(0);
        assert_eq!(server.requests()[0].header("accept-encoding"), Some("identity"), "{api}");
    }
}

#[test]
fn packing_is_asked_for_where_nothing_is_streamed() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    server.script([Act::error(400, "invalid_request_error", "unsupported", "Unknown parameter: 'stream'.")]);
    p.run([]).exits(0);
    let asked: Vec<Option<String>> =
        server.requests().iter().map(|request| request.header("accept-encoding").map(str::to_owned)).collect();
    assert_eq!(asked, [Some("identity".to_owned()), Some("gzip".to_owned())]);
}

#[test]
fn a_small_body_that_unpacks_to_a_large_one_is_not_read_to_its_end() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    server.with_gzip().always(Act::Status { code: 200, headers: Vec::new(), body: " ".repeat((64 << 20) + 1) });
    p.run([]).stderr_has("the answer is larger than 64 MB").exits(2);
    assert_eq!(server.count(), 1);
}

#[test]
fn what_says_that_it_is_packed_and_is_not_fails() {
    let server = Server::start();
    let p = shop_with(&server, 1, "", "");
    let act = Act::Status { code: 200, headers: Vec::new(), body: "plain".to_owned() };
    server.script([act.header("content-encoding", "gzip")]);
    p.run([]).stderr_has("could not be unpacked").exits(0);
    is_built(&p, 1, &[]);
}

// ---- proxies ----

/// The address of a host that only a proxy knows.
const ELSEWHERE: &str = "http://llm.invalid:8123/v1";

#[test]
fn a_proxy_of_the_environment_is_gone_through() {
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let server = Server::start();
        let proxy = Proxy::start(&server, false);
        let p = shop_at(&server, ELSEWHERE, "").env(name, &proxy.url(""));
        p.run([]).exits(0);
        is_built(&p, 2, &[]);
        assert_eq!(proxy.asked(), ["CONNECT llm.invalid:8123 HTTP/1.1"], "{name}");
    }
}

#[test]
fn a_proxy_gets_its_login_and_nobody_sees_it() {
    let server = Server::start();
    let proxy = Proxy::start(&server, true);
    let p = shop_at(&server, ELSEWHERE, "").env("HTTP_PROXY", &proxy.url("ann:s3cret@"));
    p.run(["-v"]).exits(0);
    is_built(&p, 2, &[]);

    let p = shop_at(&server, ELSEWHERE, "").env("HTTP_PROXY", &proxy.url("ann:wr0ng@"));
    let run = p.run(["-v"]);
    assert!(!run.stderr.contains("wr0ng") && !run.stderr.contains("ann:"), "{}", run.stderr);
    run.stderr_has("cannot connect to `llm.invalid` through the proxy `127.0.0.1:").stderr_has("407").exits(2);
}

#[test]
fn what_is_no_proxy_is_said_and_not_shown() {
    let server = Server::start();
    let p = shop_at(&server, ELSEWHERE, "").env("HTTP_PROXY", "gopher://ann:s3cret@proxy:1");
    let run = p.run([]);
    assert!(!run.stderr.contains("s3cret"), "{}", run.stderr);
    run.stderr_has("`HTTP_PROXY` is not the address of a proxy").stderr_has("socks5://HOST:PORT").exits(2);
}

#[test]
fn this_machine_is_reached_without_a_proxy() {
    let server = Server::start();
    let p = shop_with(&server, 2, "", "");
    let p = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"].iter().fold(p, |p, name| p.env(name, "http://127.0.0.1:9"));
    p.run([]).exits(0);
    is_built(&p, 2, &[]);
}

// ---- certificates ----

#[test]
fn certificates_are_trusted_as_the_environment_says() {
    let (server, authority, other) = (Server::start(), Authority::new("ours"), Authority::new("theirs"));
    let at = authority.before(&server, "localhost");
    let shop = || {
        let p = shop_at(&server, &at, "");
        fs::create_dir(p.path("certs")).expect("a folder");
        p.file("certs/other.pem", &other.pem()).file("authority.pem", &authority.pem()).file("none.pem", "nothing\n")
    };
    let path = |p: &Project, path: &str| p.path(path).to_str().expect("a path in UTF-8").to_owned();

    let p = shop();
    let file = path(&p, "certs/other.pem");
    let run = p.env("SSL_CERT_FILE", &file).run([]);
    run.stderr_has("the certificate of `localhost` is not trusted: UnknownIssuer")
        .stderr_has("SSL_CERT_FILE=FILE.pem")
        .stderr_has("1 request")
        .exits(2);
    assert_eq!(server.count(), 0);

    let p = shop();
    let file = path(&p, "authority.pem");
    let p = p.env("SSL_CERT_FILE", &file);
    p.run([]).exits(0);
    is_built(&p, 2, &[]);
    assert_eq!(asked_after(&server, 0), ["e1 e2"]);

    let p = shop().file("certs/authority.pem", &authority.pem());
    let folder = path(&p, "certs");
    let p = p.env("SSL_CERT_DIR", &folder);
    p.run([]).exits(0);
    is_built(&p, 2, &[]);

    for (name, file, said) in [
        ("SSL_CERT_FILE", "missing.pem", "missing.pem"),
        ("SSL_CERT_FILE", "none.pem", "there are none"),
        ("SSL_CERT_DIR", "missing", "missing"),
    ] {
        let p = shop();
        let file = path(&p, file);
        let run = p.env(name, &file).run([]);
        run.stderr_has(&format!("the certificates that `{name}` names cannot be used")).stderr_has(said).exits(2);
    }
    assert_eq!(server.count(), 2);
}

#[test]
fn a_certificate_is_for_one_name() {
    let (server, authority) = (Server::start(), Authority::new("ours"));
    let at = authority.before(&server, "elsewhere.example");
    let p = shop_at(&server, &at, "").file("authority.pem", &authority.pem());
    let file = p.path("authority.pem").to_str().expect("a path in UTF-8").to_owned();
    let run = p.env("SSL_CERT_FILE", &file).run([]);
    run.stderr_has("the certificate of `localhost` is not trusted").exits(2);
    assert_eq!(server.count(), 0);
}
