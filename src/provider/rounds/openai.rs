//! OpenAI's Batch API.
//!
//! From OpenAI's API reference: a file with a request in each line goes up first, then a batch is made of it; up to 50,000 requests
//! or 200 MB for one model, answered within a day; half price. What failed is in a file of its own. A batch carries our name for it.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{CLOCKS_DIFFER, Calls, Fetched, Outgoing, Rounds, id_of, is_id, lines, reply, said};
use crate::provider::http::Body;
use crate::provider::round::{Sought, Standing};
use crate::provider::{Failure, FailureKind};

/// How many pages of batches are looked through.
const MOST_PAGES: usize = 20;

/// OpenAI's Batch API.
pub(super) struct Batches;

impl Rounds for Batches {
    fn most(&self) -> (usize, u64) {
        (50_000, 190_000_000)
    }

    fn entry(&self, id: &str, path: &str, body: Value) -> Value {
        json!({"custom_id": id, "method": "POST", "url": endpoint(path), "body": body})
    }

    fn submit(&self, round: &Outgoing<'_>, calls: &Calls<'_>) -> Result<String, Failure> {
        let lines: String = round.entries.iter().map(|entry| format!("{entry}\n")).collect();
        let name = format!("genmake-{}.jsonl", round.name);
        // A file that nobody makes a batch of costs nothing.
        let file = calls.post_again("/files", Body::file(&[("purpose", "batch")], &name, &lines))?;
        let batch = json!({
            "input_file_id": id_of(&file, "id")?,
            "endpoint": endpoint(round.path),
            "completion_window": "24h",
            "metadata": {"genmake": round.name},
        });
        id_of(&calls.post("/batches", Body::json(&batch))?, "id")
    }

    fn find(&self, sought: &Sought<'_>, calls: &Calls<'_>) -> Result<Option<String>, Failure> {
        let since = sought.since.checked_sub(CLOCKS_DIFFER).unwrap_or(SystemTime::UNIX_EPOCH);
        let since = since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut after = String::new();
        for _ in 0..MOST_PAGES {
            let page = calls.get_json(&format!("/batches?limit=100{after}"))?;
            let batches = page["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_it = |batch: &&Value| batch["metadata"]["genmake"] == sought.name;
            if let Some(id) = batches.iter().find(is_it).and_then(|batch| said(batch, "id")).filter(|id| is_id(id)) {
                return Ok(Some(id.to_owned()));
            }
            // The newest come first.
            let is_before = |batch: &Value| batch["created_at"].as_u64().is_some_and(|at| at < since);
            let last = batches.last().filter(|last| page["has_more"] == true && !is_before(last));
            match last.and_then(|last| said(last, "id")).filter(|id| is_id(id)) {
                Some(last) => after = format!("&after={last}"),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn standing(&self, id: &str, calls: &Calls<'_>) -> Result<Standing, Failure> {
        Ok(standing(&calls.get_json(&format!("/batches/{id}"))?))
    }

    fn fetch(&self, id: &str, calls: &Calls<'_>) -> Result<Vec<Fetched>, Failure> {
        let batch = calls.get_json(&format!("/batches/{id}"))?;
        let mut results = Vec::new();
        for file in files(&batch) {
            let content = calls.get(&format!("/files/{file}/content"))?;
            results.extend(lines(&content).iter().filter_map(fetched));
        }
        Ok(results)
    }

    fn cancel(&self, id: &str, calls: &Calls<'_>) -> Result<(), Failure> {
        calls.post_again(&format!("/batches/{id}/cancel"), Body::None).map(drop)
    }
}

/// How far a batch is, by what is said of it.
fn standing(batch: &Value) -> Standing {
    let counts = &batch["request_counts"];
    let has_results = !files(batch).is_empty();
    match said(batch, "status") {
        Some("completed") => Standing::Ended,
        // What was done before that is there, and paid for.
        Some("expired" | "cancelled") if has_results => Standing::Ended,
        Some("expired") => Standing::Gone("the provider did not come to it within a day".to_owned()),
        Some("cancelled") => Standing::Gone("it was cancelled".to_owned()),
        Some("failed") => {
            let why = batch.pointer("/errors/data/0/message").and_then(Value::as_str);
            Standing::Gone(why.unwrap_or("the provider found it faulty").to_owned())
        }
        _ => Standing::Working(counts["completed"].as_u64().zip(counts["failed"].as_u64()).map(|(a, b)| a + b)),
    }
}

/// The files with what came of a batch: the good answers, and those that failed.
fn files(batch: &Value) -> Vec<&str> {
    let files = ["output_file_id", "error_file_id"].into_iter().filter_map(|name| said(batch, name));
    files.filter(|id| is_id(id)).collect()
}

/// As the API names what a path below the address is for.
fn endpoint(path: &str) -> String {
    format!("/v1{path}")
}

/// One line of a file of results.
fn fetched(line: &Value) -> Option<Fetched> {
    let id = said(line, "custom_id")?.to_owned();
    let (response, error) = (&line["response"], &line["error"]);
    let status = response["status_code"].as_u64().and_then(|status| u16::try_from(status).ok());
    let reply = match (status, error.is_null()) {
        (Some(status), _) => Ok(reply(status, &response["body"])),
        (None, false) => {
            Err(Failure::new(FailureKind::Server, said(error, "message").unwrap_or("the provider failed at it")))
        }
        (None, true) => Err(Failure::new(FailureKind::Server, "the provider says nothing of what became of it")),
    };
    Some(Fetched { id, sent: Value::Null, reply })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::openai::OpenAi;
    use crate::provider::wire::Wire as _;

    #[test]
    fn what_became_of_a_request() {
        let of = |line: Value| {
            let fetched = fetched(&line).unwrap();
            fetched.reply.and_then(|reply| OpenAi::new("http://127.0.0.1").answer(&fetched.sent, &reply))
        };
        let body = json!({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]});
        let good = json!({"custom_id": "k", "response": {"status_code": 200, "body": body}, "error": null});
        assert_eq!(of(good).unwrap().text, "hi");
        let body = json!({"error": {"message": "too long", "type": "invalid_request_error"}});
        let bad = json!({"custom_id": "k", "response": {"status_code": 400, "body": body}, "error": null});
        let failure = of(bad).unwrap_err();
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Rejected, "too long"));
        let expired = json!({"code": "batch_expired", "message": "not in time"});
        assert_eq!(of(json!({"custom_id": "k", "error": expired})).unwrap_err().message, "not in time");
        assert!(of(json!({"custom_id": "k"})).unwrap_err().message.contains("nothing"));
        assert!(fetched(&json!({})).is_none());
    }

    #[test]
    fn how_far_a_batch_is() {
        let of = |status: &str, file: &str| {
            let counts = json!({"total": 9, "completed": 3, "failed": 2});
            let mut batch =
                json!({"status": status, "output_file_id": null, "error_file_id": null, "request_counts": counts});
            batch[file] = json!("file-1");
            standing(&batch)
        };
        for status in ["validating", "in_progress", "finalizing", "cancelling", "new"] {
            assert_eq!(of(status, ""), Standing::Working(Some(5)), "{status}");
        }
        assert_eq!(of("completed", "output_file_id"), Standing::Ended);
        // Where every line failed there is only the other file; where time ran out or it was stopped, there may be both.
        for file in ["output_file_id", "error_file_id"] {
            assert_eq!(
                [of("completed", file), of("expired", file), of("cancelled", file)],
                [const { Standing::Ended }; 3]
            );
        }
        for (status, word) in [("expired", "within a day"), ("cancelled", "cancelled"), ("failed", "faulty")] {
            assert!(matches!(of(status, ""), Standing::Gone(why) if why.contains(word)), "{status}");
        }
        let why = json!({"status": "failed", "errors": {"data": [{"code": "mismatched_model", "message": "one model a file"}]}});
        assert_eq!(standing(&why), Standing::Gone("one model a file".into()));
        assert_eq!(standing(&json!({})), Standing::Working(None));
    }

    #[test]
    fn what_failed_is_in_a_file_of_its_own() {
        let batch = json!({"output_file_id": "file-1", "error_file_id": "file-2"});
        assert_eq!(files(&batch), ["file-1", "file-2"]);
        assert_eq!(files(&json!({"output_file_id": null, "error_file_id": "file-2"})), ["file-2"]);
        assert_eq!(files(&json!({"output_file_id": "../batches"})), [""; 0], "what leads elsewhere is no file");
    }

    #[test]
    fn a_line_says_where_it_goes() {
        let want = json!({"custom_id": "k", "method": "POST", "url": "/v1/responses", "body": {"model": "m"}});
        assert_eq!(Batches.entry("k", "/responses", json!({"model": "m"})), want);
    }
}
