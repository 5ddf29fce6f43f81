//! What a wire format is: how a request is written, and how what comes back is read. One file each; all else is the same for all.
//! Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::Failure;
use super::http::Reply;
use crate::llm::{Answer, Request, Usage};

/// A wire format.
pub(super) trait Wire: Send + Sync {
    /// Where a request goes, below the provider's address.
    fn path(&self, request: &Request) -> String;

    /// What is said beside every body, the key among it.
    fn headers(&self, key: Option<&str>) -> Vec<(&'static str, String)>;

    /// The body of a request, without what the server refuses.
    fn body(&self, request: &Request, refused: &Refused) -> Value;

    /// What a reply says that the server refuses of the body that was sent, if a request can go without it.
    fn refusal(&self, sent: &Value, reply: &Reply) -> Option<Refusal>;

    /// The answer in a whole reply to that body.
    ///
    /// # Errors
    /// What the status says, in the provider's own words.
    fn answer(&self, sent: &Value, reply: &Reply) -> Result<Answer, Failure>;

    /// An answer to that body that will come in pieces.
    fn pieces(&self, sent: &Value) -> Box<dyn Pieces>;
}

/// An answer that comes in pieces. Its text goes to whoever listens.
pub(super) trait Pieces {
    /// Takes an event in: the text that it adds.
    fn event(&mut self, name: &str, data: &str) -> Option<String>;

    /// What the provider said that the answer took; nothing where it has not come to that.
    fn usage(&self) -> Usage;

    /// The answer of this text, once no more comes; `broken` if something broke off. What is lost after the last of the text is
    /// no loss.
    ///
    /// # Errors
    /// It did not come to its end: why.
    fn end(&self, head: &Reply, text: &str, broken: Option<Failure>) -> Result<Answer, Failure>;
}

/// What a server refuses of requests to one of its models, found out as it refused it.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused {
    parts: BTreeSet<String>,
}

/// Something that a server refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A part of a body, by the name that its format has for it.
    Part(String),
}

impl Refused {
    /// Whether the server refuses a part.
    pub fn has(&self, part: &str) -> bool {
        self.parts.contains(part)
    }

    /// Notes a refusal; whether it is news.
    pub fn note(&mut self, refusal: Refusal) -> bool {
        match refusal {
            Refusal::Part(part) => self.parts.insert(part),
        }
    }
}

/// What a body that is no answer looks like.
pub(super) fn garbled(reply: &Reply) -> String {
    let kind = reply.header("content-type").unwrap_or("no content type");
    let text = String::from_utf8_lossy(&reply.body);
    let start: String = text.trim().chars().take(60).collect();
    match start.is_empty() {
        true => "the provider sent an empty body".to_owned(),
        false => format!("the provider sent something that is no answer ({kind}): {start:?}"),
    }
}

/// What is wrong, where the provider does not say.
pub(super) fn unsaid(reply: &Reply) -> String {
    match reply.status {
        300..400 => format!("it redirects to `{}`, which is not followed", reply.header("location").unwrap_or("?")),
        _ => garbled(reply),
    }
}

/// `retry-after-ms`, or `retry-after` in seconds; a date is not understood and left to the backoff.
pub(super) fn retry_after(reply: &Reply) -> Option<Duration> {
    let number = |name: &str| reply.header(name)?.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let millis = number("retry-after-ms").map(|ms| ms / 1000.0);
    let seconds = number("retry-after");
    let longest = millis.into_iter().chain(seconds).fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
    longest.map(|seconds| Duration::from_secs_f64(seconds.min(86_400.0)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use ureq::http::{HeaderMap, HeaderName, HeaderValue};

    /// A whole reply.
    pub fn reply(status: u16, body: &str, headers: &[(&'static str, &'static str)]) -> Reply {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Reply { status, headers: map, body: body.into() }
    }

    /// A server that refuses these parts.
    pub fn refused(parts: &[&str]) -> Refused {
        Refused { parts: parts.iter().map(|part| (*part).to_owned()).collect() }
    }

    #[test]
    fn patience_as_asked() {
        let wait = |headers: &[(&'static str, &'static str)]| retry_after(&reply(429, "{}", headers));
        assert_eq!(wait(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(wait(&[("retry-after", "1"), ("retry-after-ms", "0")]), Some(Duration::from_secs(1)));
        assert_eq!(wait(&[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")]), None);
        assert_eq!(wait(&[("retry-after", "-1")]), None);
    }
}
