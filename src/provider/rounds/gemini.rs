//! Gemini's Batch API.
//!
//! From Google's API reference: requests for one model stand in the call itself, up to 20 MB; answered within a day; half price. A
//! batch is an operation with our name for it; what came stands in it once it is done, each with the key that it was handed in by.

use serde_json::{Value, json};

use super::{Calls, Fetched, Outgoing, Rounds, id_of, is_id, reply, said};
use crate::provider::http::Body;
use crate::provider::round::{Sought, Standing};
use crate::provider::{Failure, FailureKind};

/// How many pages of batches are looked through.
const MOST_PAGES: usize = 20;

/// Gemini's Batch API.
pub(super) struct Batches;

impl Rounds for Batches {
    fn most(&self) -> (usize, u64) {
        (100_000, 19_000_000)
    }

    fn entry(&self, id: &str, _: &str, body: Value) -> Value {
        json!({"request": body, "metadata": {"key": id}})
    }

    fn submit(&self, round: &Outgoing<'_>, calls: &Calls<'_>) -> Result<String, Failure> {
        let (model, _) = round.path.rsplit_once(':').unwrap_or((round.path, ""));
        let batch = json!({
            "displayName": display_name(round.name),
            "inputConfig": {"requests": {"requests": round.entries}},
        });
        let taken = calls.post(&format!("{model}:batchGenerateContent"), Body::json(&json!({"batch": batch})))?;
        id_of(&taken, "name")
    }

    fn find(&self, sought: &Sought<'_>, calls: &Calls<'_>) -> Result<Option<String>, Failure> {
        let name = display_name(sought.name);
        let mut after = String::new();
        for _ in 0..MOST_PAGES {
            let page = calls.get_json(&format!("/batches?pageSize=100{after}"))?;
            let operations = page["operations"].as_array().map(Vec::as_slice).unwrap_or_default();
            let found = operations.iter().find(|operation| operation["metadata"]["displayName"] == *name);
            if let Some(id) = found.and_then(|operation| said(operation, "name")).filter(|id| is_id(id)) {
                return Ok(Some(id.to_owned()));
            }
            match said(&page, "nextPageToken").filter(|token| is_id(token)) {
                Some(token) => after = format!("&pageToken={token}"),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn standing(&self, id: &str, calls: &Calls<'_>) -> Result<Standing, Failure> {
        let operation = calls.get_json(&format!("/{id}"))?;
        let metadata = &operation["metadata"];
        let count = |name: &str| {
            let count = &metadata["batchStats"][name];
            count.as_u64().or_else(|| count.as_str()?.parse().ok())
        };
        let has_responses = !responses(&operation).is_empty();
        // The state has had several prefixes.
        let state = said(metadata, "state").and_then(|state| state.rsplit('_').next()).unwrap_or_default();
        Ok(match state {
            "SUCCEEDED" => Standing::Ended,
            // What was done before that is there, and paid for.
            "FAILED" | "CANCELLED" | "EXPIRED" if has_responses => Standing::Ended,
            "FAILED" => {
                let why = operation.pointer("/error/message").and_then(Value::as_str);
                Standing::Gone(why.unwrap_or("the provider failed at it").to_owned())
            }
            "CANCELLED" => Standing::Gone("it was cancelled".to_owned()),
            "EXPIRED" => Standing::Gone("the provider did not come to it in time".to_owned()),
            _ => {
                let (good, bad) = (count("successfulRequestCount"), count("failedRequestCount"));
                Standing::Working(good.or(bad).map(|_| good.unwrap_or(0) + bad.unwrap_or(0)))
            }
        })
    }

    fn fetch(&self, id: &str, calls: &Calls<'_>) -> Result<Vec<Fetched>, Failure> {
        let operation = calls.get_json(&format!("/{id}"))?;
        Ok(responses(&operation).iter().filter_map(fetched).collect())
    }

    fn cancel(&self, id: &str, calls: &Calls<'_>) -> Result<(), Failure> {
        calls.post_again(&format!("/{id}:cancel"), Body::None).map(drop)
    }
}

fn display_name(name: &str) -> String {
    format!("genmake-{name}")
}

/// What came, wherever in the operation it stands.
fn responses(operation: &Value) -> &[Value] {
    let places = ["/response/inlinedResponses/inlinedResponses", "/metadata/output/inlinedResponses/inlinedResponses"];
    places.iter().find_map(|place| operation.pointer(place)?.as_array()).map(Vec::as_slice).unwrap_or_default()
}

fn fetched(came: &Value) -> Option<Fetched> {
    let id = said(&came["metadata"], "key")?.to_owned();
    let reply = match (&came["response"], &came["error"]) {
        (_, error) if error.is_object() => Ok(reply(200, &json!({"error": error}))),
        (response, _) if response.is_object() => Ok(reply(200, response)),
        _ => Err(Failure::new(FailureKind::Server, "the provider says nothing of what became of it")),
    };
    Some(Fetched { id, sent: Value::Null, reply })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::gemini::Gemini;
    use crate::provider::wire::Wire as _;

    #[test]
    fn what_became_of_a_request() {
        let of = |came: Value| {
            let fetched = fetched(&came).unwrap();
            fetched.reply.and_then(|reply| Gemini.answer(&fetched.sent, &reply))
        };
        let said = json!({"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]});
        assert_eq!(of(json!({"metadata": {"key": "k"}, "response": said})).unwrap().text, "hi");
        let error = json!({"code": 3, "message": "too long"});
        assert_eq!(of(json!({"metadata": {"key": "k"}, "error": error})).unwrap_err().message, "too long");
        assert!(of(json!({"metadata": {"key": "k"}})).unwrap_err().message.contains("nothing"));
        assert!(fetched(&json!({"response": {}})).is_none());
    }
}
