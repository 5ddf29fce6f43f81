//! Anthropic's Message Batches.
//!
//! From Anthropic's API reference and from recorded traffic: up to 100,000 requests or 256 MB in one call, answered within a day;
//! half price; results are there for 29 days, in any order, one in each line. A batch has no name of ours: it is known again by when
//! it was made, by how many requests it has and, in the end, by their names.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{CLOCKS_DIFFER, Calls, Fetched, Outgoing, Rounds, id_of, is_id, lines, reply, said};
use crate::provider::http::Body;
use crate::provider::round::{Sought, Standing};
use crate::provider::{Failure, FailureKind};

const PATH: &str = "/messages/batches";

/// How many pages of batches are looked through.
const MOST_PAGES: usize = 20;

/// Anthropic's Message Batches.
pub(super) struct Batches;

impl Rounds for Batches {
    fn most(&self) -> (usize, u64) {
        (100_000, 250_000_000)
    }

    fn entry(&self, id: &str, _: &str, body: Value) -> Value {
        json!({"custom_id": id, "params": body})
    }

    fn submit(&self, round: &Outgoing<'_>, calls: &Calls<'_>) -> Result<String, Failure> {
        let taken = calls.post(PATH, Body::json(&json!({"requests": round.entries})))?;
        id_of(&taken, "id")
    }

    fn find(&self, sought: &Sought<'_>, calls: &Calls<'_>) -> Result<Option<String>, Failure> {
        let since = sought.since.checked_sub(CLOCKS_DIFFER).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut after = String::new();
        for _ in 0..MOST_PAGES {
            let page = calls.get_json(&format!("{PATH}?limit=100{after}"))?;
            // The newest come first.
            for batch in page["data"].as_array().into_iter().flatten() {
                if made_at(batch).is_some_and(|made_at| made_at < since) {
                    return Ok(None);
                }
                let counts = batch["request_counts"].as_object().into_iter().flat_map(serde_json::Map::values);
                let entries: u64 = counts.filter_map(Value::as_u64).sum();
                let id = said(batch, "id").filter(|id| is_id(id) && !sought.not.iter().any(|not| not == id));
                if let Some(id) = id.filter(|_| entries == sought.entries) {
                    return Ok(Some(id.to_owned()));
                }
            }
            match said(&page, "last_id").filter(|last| page["has_more"] == true && is_id(last)) {
                Some(last) => after = format!("&after_id={last}"),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// By when it was made and how many requests it has: another's may look the same.
    fn is_sure(&self) -> bool {
        false
    }

    fn standing(&self, id: &str, calls: &Calls<'_>) -> Result<Standing, Failure> {
        Ok(standing(&calls.get_json(&format!("{PATH}/{id}"))?))
    }

    fn fetch(&self, id: &str, calls: &Calls<'_>) -> Result<Vec<Fetched>, Failure> {
        // Not by `results_url`, which could lead elsewhere.
        let results = lines(&calls.get(&format!("{PATH}/{id}/results"))?);
        Ok(results.iter().filter_map(fetched).collect())
    }

    fn cancel(&self, id: &str, calls: &Calls<'_>) -> Result<(), Failure> {
        calls.post_again(&format!("{PATH}/{id}/cancel"), Body::None).map(drop)
    }
}

/// How far a batch is, by what is said of it.
fn standing(batch: &Value) -> Standing {
    let counts = &batch["request_counts"];
    let done = ["succeeded", "errored", "canceled", "expired"].map(|name| counts[name].as_u64());
    match said(batch, "processing_status") {
        // What became of its results after 29 days.
        Some("ended") if batch["results_url"].is_null() => {
            Standing::Gone("its results are not there any more".to_owned())
        }
        Some("ended") => Standing::Ended,
        _ => Standing::Working(done.into_iter().sum()),
    }
}

fn made_at(batch: &Value) -> Option<SystemTime> {
    humantime::parse_rfc3339_weak(said(batch, "created_at")?.trim_end_matches("+00:00")).ok()
}

/// One line of the results.
fn fetched(line: &Value) -> Option<Fetched> {
    let (id, result) = (said(line, "custom_id")?.to_owned(), &line["result"]);
    let nothing = |what: &str| Err(Failure::new(FailureKind::Server, what));
    let message = &result["message"];
    let is_by_tool = message["content"].as_array().into_iter().flatten().any(|block| block["type"] == "tool_use");
    let sent = if is_by_tool { json!({"tools": []}) } else { Value::Null };
    let reply = match said(result, "type") {
        Some("succeeded") => Ok(reply(200, message)),
        // An error stands in it as it would come by itself.
        Some("errored") => Ok(reply(200, &result["error"])),
        Some("expired") => nothing("the provider did not come to it within a day"),
        Some("canceled") => nothing("it was cancelled"),
        _ => nothing("the provider says nothing of what became of it"),
    };
    Some(Fetched { id, sent, reply })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::anthropic::Anthropic;
    use crate::provider::wire::Wire as _;

    #[test]
    fn what_became_of_a_request() {
        let of = |result: Value| {
            let fetched = fetched(&json!({"custom_id": "k", "result": result})).unwrap();
            assert_eq!(fetched.id, "k");
            fetched.reply.and_then(|reply| Anthropic.answer(&fetched.sent, &reply))
        };
        let message = |content: Value| {
            json!({"type": "succeeded", "message": {"content": content, "stop_reason": "end_turn",
            "usage": {"input_tokens": 3, "output_tokens": 2}}})
        };
        let answer = of(message(json!([{"type": "text", "text": "hi"}]))).unwrap();
        assert_eq!((answer.text.as_str(), answer.usage.input, answer.usage.output), ("hi", 3, 2));
        let by_tool = message(json!([{"type": "tool_use", "name": "result", "input": {"a": 1}}]));
        assert_eq!(of(by_tool).unwrap().text, r#"{"a":1}"#);
        let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": "too long"}});
        let failure = of(json!({"type": "errored", "error": error})).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Rejected, "too long"));
        for (kind, word) in [("expired", "day"), ("canceled", "cancelled"), ("new", "nothing")] {
            assert!(of(json!({"type": kind})).unwrap_err().message.contains(word), "{kind}");
        }
        assert!(fetched(&json!({"result": {}})).is_none());
    }

    #[test]
    fn how_far_a_batch_is() {
        let of = |status: &str, url: Value| {
            let counts = json!({"processing": 4, "succeeded": 3, "errored": 2, "canceled": 1, "expired": 1});
            standing(&json!({"processing_status": status, "results_url": url, "request_counts": counts}))
        };
        assert_eq!(of("in_progress", Value::Null), Standing::Working(Some(7)));
        assert_eq!(of("canceling", Value::Null), Standing::Working(Some(7)));
        assert_eq!(of("ended", json!("https://api.anthropic.com/v1/messages/batches/b/results")), Standing::Ended);
        assert!(matches!(of("ended", Value::Null), Standing::Gone(_)), "after 29 days");
        assert_eq!(standing(&json!({})), Standing::Working(None));
    }

    #[test]
    fn when_a_batch_was_made() {
        let at = |text: &str| made_at(&json!({"created_at": text}));
        assert_eq!(at("2024-09-24T18:37:24.100435Z"), at("2024-09-24T18:37:24.100435+00:00"));
        assert!(at("2024-09-24T18:37:24.1Z").is_some());
        assert_eq!(at("yesterday"), None);
    }
}
