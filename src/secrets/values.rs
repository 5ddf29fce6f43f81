//! Whether what has the form of a credential is one: no example, no placeholder, no identifier.

use std::collections::HashMap;
use std::ops::Range;

use super::rules::{Held, Rule};

/// What of a match is a credential, if it is one.
pub(super) fn held(rule: &Rule, text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let value = &text[span.clone()];
    match rule.held {
        Held::ByForm => Some(span),
        Held::Random(bits) => (bits_per_character(value) >= bits && !is_example(value)).then_some(span),
        Held::ByName => (is_secret_value(value) && !is_harmless_name(text, span.start)).then_some(span),
        Held::InAddress => {
            secret_password(value).map(|password| span.start + password.start..span.start + password.end)
        }
    }
}

/// Whether the name before a value says that it is no secret, though it ends as those of secrets do.
fn is_harmless_name(text: &str, value: usize) -> bool {
    const HARMLESS: [&str; 12] = [
        "page",
        "nexttoken",
        "next_token",
        "next-token",
        "continuation",
        "synctoken",
        "sync_token",
        "csrf",
        "xsrf",
        "public",
        "idempotency",
        "cancel",
    ];
    let before = &text[text.ceil_char_boundary(value.saturating_sub(60))..value];
    let name = before.rsplit('\n').next().unwrap_or(before);
    let name = name.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let name = &name[name.rfind(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c)).map_or(0, |at| at + 1)..];
    HARMLESS.iter().any(|word| name.to_ascii_lowercase().contains(word))
}

/// Parts of values that stand for others in documentation and tests.
const EXAMPLES: [&str; 23] = [
    "example",
    "sample",
    "placeholder",
    "changeme",
    "change_me",
    "change-me",
    "replaceme",
    "replace_me",
    "replace-me",
    "redacted",
    "dummy",
    "your_",
    "your-",
    "yourpass",
    "insert_",
    "insert-",
    "abcdefg",
    "0123456",
    "1234567",
    "deadbeef",
    "xxxxx",
    "...",
    // `1234567890`, the subject of the token that everybody shows.
    "ixmjm0nty3odkw",
];

fn is_example(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let bytes = lower.as_bytes();
    EXAMPLES.iter().any(|word| lower.contains(word)) || bytes.windows(6).any(|run| run.iter().all(|b| *b == run[0]))
}

/// Whether a value beside a name such as `password` is one: random, and no word, digest, date, path or placeholder.
fn is_secret_value(value: &str) -> bool {
    let has = |test: fn(&u8) -> bool| value.as_bytes().iter().any(test);
    let is_placeholder = value.starts_with(['<', '{', '[', '(', '$', '%', '#', '*', '@', ':'])
        || ["${", "{{", "}}", "$(", "<%", "://", "**", "()"].iter().any(|mark| value.contains(mark));
    has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && bits_per_character(value) >= 2.9
        && !is_placeholder
        && !is_example(value)
        && !["sha1", "sha256", "sha384", "sha512", "md5"].iter().any(|kind| value.starts_with(kind))
        && !is_uuid(value)
        && !is_name(value)
        && !is_file(value)
}

fn is_uuid(value: &str) -> bool {
    let groups: Vec<usize> = value.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && value.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

/// Words with numbers behind them, as identifiers, versions, dates and paths are: `access-token-v2`, `2026-11-21`, `hunter2`.
fn is_name(value: &str) -> bool {
    let is_word = |part: &str| {
        let word = part.trim_end_matches(|c: char| c.is_ascii_digit());
        word.bytes().all(|b| b.is_ascii_alphabetic()) && part.len() - word.len() <= 4
    };
    value.split(['-', '_', '.', '/', ':', '@', '+', '=', ',', ';', '?', '&', '#', '~']).all(is_word)
}

/// A path to a file, by its extension.
fn is_file(value: &str) -> bool {
    let ext = value.rsplit_once('.').map_or("", |(_, ext)| ext);
    value.contains('/') && (2..=5).contains(&ext.len()) && ext.bytes().all(|b| b.is_ascii_lowercase())
}

/// Passwords that everybody has on the machine in front of them.
const WEAK: [&str; 22] = [
    "password", "passwd", "pass", "pwd", "secret", "test", "testing", "guest", "user", "username", "admin", "root",
    "postgres", "mysql", "mongo", "redis", "rabbitmq", "minio", "dev", "local", "foo", "bar",
];

/// Where in `USER:PASSWORD@HOST` the password stands, if it is one of somebody else's machine.
fn secret_password(address: &str) -> Option<Range<usize>> {
    let (login, host) = address.split_once('@')?;
    let (user, password) = login.split_once(':')?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    let is_here = ["localhost", "127.0.0.1", "0.0.0.0", "[::1]", "host.docker.internal"].contains(&name.as_str());
    let is_shown = ["example", "example.com", "example.org", "example.net", "host", "hostname", "server"]
        .iter()
        .any(|shown| name == *shown || name.ends_with(&format!(".{shown}")))
        || name.ends_with(".test")
        || name.ends_with(".invalid");
    let lower = password.to_ascii_lowercase();
    let is_weak =
        WEAK.contains(&lower.trim_end_matches(|c: char| c.is_ascii_digit())) || lower == user.to_ascii_lowercase();
    let is_placeholder =
        password.starts_with(['%', '*', '[', '(']) || is_example(password) || lower.contains("password");
    let start = user.len() + 1;
    (!is_here && !is_shown && !is_weak && !is_placeholder).then_some(start..start + password.len())
}

/// Shannon's entropy of its bytes.
fn bits_per_character(value: &str) -> f64 {
    let mut counts: HashMap<u8, usize> = HashMap::new();
    for byte in value.bytes() {
        *counts.entry(byte).or_default() += 1;
    }
    let all = value.len() as f64;
    counts.values().map(|count| *count as f64 / all).map(|share| -share * share.log2()).sum()
}
