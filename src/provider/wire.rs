//! What a wire format is: how a request is written, and how what comes back is read. One file each; all else is the same for all.
//! Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::http::Reply;
use super::keep::Keeper;
use super::limits::{Counts, Reading};
use super::{Failure, FailureKind, readings};
use crate::llm::{Answer, Request, Usage};

/// A wire format.
pub(super) trait Wire: Send + Sync {
    /// Where a request goes, below the provider's address.
    fn path(&self, request: &Request, refused: &Refused) -> String;

    /// What is said beside every body, the key among it.
    fn headers(&self, key: Option<&str>) -> Vec<(&'static str, String)>;

    /// Whether what the provider is to keep of a request has to be marked, and the answer says what became of it.
    fn marks_prefix(&self) -> bool {
        false
    }

    /// The body of a request, without what the server refuses.
    fn body(&self, request: &Request, refused: &Refused) -> Value;

    /// How many results of this schema the schema of one answer of a model takes; none where nothing bounds them, or it is not held to
    /// such a schema in any case.
    fn most_results(&self, _model: &str, _schema: &Value) -> Option<usize> {
        None
    }

    /// Where a request's tokens are counted free of charge, and what to say there; none where they are not.
    fn count(&self, _request: &Request, _refused: &Refused) -> Option<(String, Value)> {
        None
    }

    /// What a reply says that the server refuses of the body that was sent, if a request can go without it.
    fn refusal(&self, sent: &Value, reply: &Reply) -> Option<Refusal>;

    /// The answer in a whole reply to that body.
    ///
    /// # Errors
    /// What the status says, in the provider's own words.
    fn answer(&self, sent: &Value, reply: &Reply) -> Result<Answer, Failure>;

    /// An answer to that body that will come in pieces.
    fn pieces(&self, sent: &Value) -> Box<dyn Pieces>;

    /// How prefixes are kept under names, if they are.
    fn keeper(&self) -> Option<&dyn Keeper> {
        None
    }

    /// What the headers of a reply say of the provider's limits.
    fn limits(&self, _: &Reply) -> Vec<Reading> {
        Vec::new()
    }

    /// How many of an answer's tokens count against what may go in a minute.
    fn counts(&self) -> Counts {
        |usage| usage.input + usage.output
    }
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
    /// The most tokens that an answer may have.
    most_output: Option<u64>,
    /// The same of one request alone.
    room: Option<u64>,
}

/// Something that a server refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A part of a body, by the name that its format has for it.
    Part(String),
    /// An answer of more tokens than these.
    Output(u64),
    /// An answer of more tokens than these to this very request: there is no more room beside its prompt.
    Room(u64),
}

impl Refused {
    /// Whether the server refuses a part.
    pub fn has(&self, part: &str) -> bool {
        self.parts.contains(part)
    }

    /// Notes a refusal; whether it is news.
    pub fn note(&mut self, refusal: Refusal) -> bool {
        let lowers = |known: &mut Option<u64>, most: u64| {
            let is_less = known.is_none_or(|known| most < known);
            *known = if is_less { Some(most) } else { *known };
            is_less
        };
        match refusal {
            Refusal::Part(part) => self.parts.insert(part),
            Refusal::Output(most) => lowers(&mut self.most_output, most),
            Refusal::Room(most) => lowers(&mut self.room, most),
        }
    }

    /// What is worth remembering of it: what one schema was refused for concerns no other run.
    pub fn lasting(&self) -> (BTreeSet<String>, Option<u64>) {
        (self.parts.iter().filter(|part| !part.contains('{')).cloned().collect(), self.most_output)
    }

    /// How many tokens an answer may have, where so many are wanted.
    pub fn most_output(&self, wanted: u64) -> u64 {
        [self.most_output, self.room].into_iter().flatten().fold(wanted, u64::min)
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

/// What can be done about a status that is no good one.
pub(super) fn kind(status: u16) -> FailureKind {
    match status {
        401..=404 => FailureKind::Refused,
        408 | 409 | 429 => FailureKind::Limited,
        // What a server cannot do it cannot do a moment later.
        501 => FailureKind::Rejected,
        500.. => FailureKind::Server,
        200..300 => FailureKind::Server,
        _ => FailureKind::Rejected,
    }
}

/// An answer of fewer tokens than these is not worth another try.
pub(super) const TOO_SHORT: u64 = 64;

/// More tokens than any model takes or writes.
const MOST: u64 = 1 << 32;

/// A number of tokens, as a provider says it. What no request can take was not counted.
pub(super) fn tokens(said: Option<&Value>) -> Option<u64> {
    said.and_then(Value::as_u64).filter(|tokens| *tokens <= MOST)
}

/// Why an answer did not come to its end: at something that is no piece of one, as the network says, or nobody knows.
pub(super) fn broke_off(garbled: Option<&str>, broken: Option<Failure>, request_id: Option<String>) -> Failure {
    let what = match garbled {
        Some(what) => format!("the answer broke off in {what:?}"),
        None => "the connection ended before the answer did".to_owned(),
    };
    Failure { request_id, ..broken.unwrap_or_else(|| Failure::new(FailureKind::Cut, what)) }
}

/// `retry-after-ms`, or `retry-after` in seconds or as a date.
pub(super) fn retry_after(reply: &Reply) -> Option<Duration> {
    let number = |name: &str| reply.header(name)?.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let wait = |seconds: f64| Duration::from_secs_f64(seconds.min(LONGEST_SAID));
    let millis = number("retry-after-ms").map(|ms| wait(ms / 1000.0));
    let date = || readings::until(reply, httpdate::parse_http_date(reply.header("retry-after")?.trim()).ok()?);
    let seconds = number("retry-after").map(wait).or_else(date);
    millis.max(seconds)
}

/// What is said of more seconds is as good as this: nobody waits for it.
const LONGEST_SAID: f64 = 30.0 * 86_400.0;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::prompt::{Message, Role};
    use ureq::http::{HeaderMap, HeaderName, HeaderValue};

    /// A whole reply.
    pub fn reply(status: u16, body: &str, headers: &[(&'static str, &'static str)]) -> Reply {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Reply { status, headers: map, body: body.into() }
    }

    /// A request: a system part, one of the user, and a limit.
    pub fn request(model: &str) -> Request {
        let message = |role, text: &str| Message { role, text: text.into() };
        Request {
            model: model.into(),
            params: serde_json::Map::new(),
            max_output_tokens: Some(9),
            most_output: None,
            keeps_prefix: None,
            is_gone_on_from: false,
            pays_to_keep: false,
            messages: vec![message(Role::System, "s"), message(Role::User, "u")],
            schema: None,
            paths: vec![],
        }
    }

    /// A server that refuses these parts.
    pub fn refused(parts: &[&str]) -> Refused {
        Refused { parts: parts.iter().map(|part| (*part).to_owned()).collect(), ..Refused::default() }
    }

    #[test]
    fn only_news_is_asked_otherwise() {
        let mut refused = Refused::default();
        let part = || Refusal::Part("stream".to_owned());
        assert!(refused.note(part()) && !refused.note(part()) && refused.has("stream"));
        assert_eq!(refused.most_output(100), 100);
        assert!(refused.note(Refusal::Output(50)) && refused.note(Refusal::Output(20)));
        assert!(!refused.note(Refusal::Output(20)) && !refused.note(Refusal::Output(90)));
        assert_eq!((refused.most_output(100), refused.most_output(10)), (20, 10));
        refused.note(Refusal::Part("strict {}".to_owned()));
        assert_eq!(refused.lasting(), (["stream".to_owned()].into(), Some(20)));
        assert!(refused.note(Refusal::Room(15)) && !refused.note(Refusal::Room(15)));
        assert_eq!((refused.most_output(100), refused.most_output(10)), (15, 10));
    }

    #[test]
    fn what_can_be_done_about_a_status() {
        for (status, want) in [
            (400, FailureKind::Rejected),
            (402, FailureKind::Refused),
            (408, FailureKind::Limited),
            (409, FailureKind::Limited),
            (413, FailureKind::Rejected),
            (422, FailureKind::Rejected),
            (501, FailureKind::Rejected),
            (502, FailureKind::Server),
            (599, FailureKind::Server),
            (200, FailureKind::Server),
        ] {
            assert_eq!(kind(status), want, "{status}");
        }
    }

    #[test]
    fn patience_as_asked() {
        let wait = |headers: &[(&'static str, &'static str)]| retry_after(&reply(429, "{}", headers));
        assert_eq!(wait(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(wait(&[("retry-after", "1"), ("retry-after-ms", "0")]), Some(Duration::from_secs(1)));
        let date = ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT");
        let at = |now| wait(&[date, ("date", now)]);
        assert_eq!(at("Wed, 21 Oct 2026 07:27:18 GMT"), Some(Duration::from_secs(42)));
        assert_eq!(at("Wed, 21 Oct 2026 07:29:00 GMT"), Some(Duration::ZERO));
        assert_eq!(at("Wed, 21 Oct 2026 05:28:00 GMT"), Some(Duration::from_secs(7200)));
        // By whose clock, is not said.
        assert_eq!(wait(&[date]), None);
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[("retry-after", "-1")]), None);
    }
}
