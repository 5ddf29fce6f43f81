//! Gemini's Batch API.
//!
//! From Google's API reference: requests for one model stand in the call itself, up to 20 MB; answered within a day; half price. A
//! batch is an operation with our name for it; what came stands in it once it is done, each with the key that it was handed in by.

use serde_json::{Value, json};

use super::{Calls, Fetched, Outgoing, Rounds, id_of, is_id, reply, said};
use crate::provider::gemini::in_path;
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
            match next_page(&page) {
                Some(page) => after = page,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn standing(&self, id: &str, calls: &Calls<'_>) -> Result<Standing, Failure> {
        Ok(standing(&calls.get_json(&format!("/{id}"))?))
    }

    fn fetch(&self, id: &str, calls: &Calls<'_>) -> Result<Vec<Fetched>, Failure> {
        let operation = calls.get_json(&format!("/{id}"))?;
        Ok(responses(&operation).iter().filter_map(fetched).collect())
    }

    fn cancel(&self, id: &str, calls: &Calls<'_>) -> Result<(), Failure> {
        calls.post_again(&format!("/{id}:cancel"), Body::None).map(drop)
    }
}

/// How far a batch is, by what is said of it.
fn standing(operation: &Value) -> Standing {
    let metadata = &operation["metadata"];
    let count = |name: &str| {
        let count = &metadata["batchStats"][name];
        count.as_u64().or_else(|| count.as_str()?.parse().ok())
    };
    let has_responses = !responses(operation).is_empty();
    // The state has had several prefixes.
    let state = said(metadata, "state").and_then(|state| state.rsplit('_').next()).unwrap_or_default();
    let is_over = operation["done"] == true;
    match state {
        "SUCCEEDED" => Standing::Ended,
        // What was done before that is there, and paid for.
        "FAILED" | "CANCELLED" | "EXPIRED" if has_responses => Standing::Ended,
        "CANCELLED" => Standing::Gone("it was cancelled".to_owned()),
        "EXPIRED" => Standing::Gone("the provider did not come to it in time".to_owned()),
        "FAILED" => Standing::Gone(why_it_failed(operation)),
        // An operation that is over is, whatever state it says.
        _ if is_over && operation["error"].is_object() => Standing::Gone(why_it_failed(operation)),
        _ if is_over => Standing::Ended,
        _ => {
            let (good, bad) = (count("successfulRequestCount"), count("failedRequestCount"));
            Standing::Working(good.or(bad).map(|_| good.unwrap_or(0) + bad.unwrap_or(0)))
        }
    }
}

fn why_it_failed(operation: &Value) -> String {
    let why = operation.pointer("/error/message").and_then(Value::as_str);
    why.unwrap_or("the provider failed at it").to_owned()
}

/// What to ask for the page after this, if there is one. Whatever a token holds: a page that is not looked at may have the round.
fn next_page(page: &Value) -> Option<String> {
    let token = said(page, "nextPageToken").filter(|token| !token.is_empty())?;
    Some(format!("&pageToken={}", in_path(token)))
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

    #[test]
    fn how_far_a_batch_is() {
        let of = |state: &str, more: Value| {
            let stats = json!({"requestCount": "9", "successfulRequestCount": "3", "failedRequestCount": 2});
            let mut operation = json!({"name": "batches/b", "metadata": {"state": state, "batchStats": stats}});
            operation.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            standing(&operation)
        };
        let some = || json!({"done": true, "response": {"inlinedResponses": {"inlinedResponses": [{}]}}});
        for prefix in ["BATCH_STATE", "JOB_STATE"] {
            let state = |state: &str| format!("{prefix}_{state}");
            for working in ["PENDING", "RUNNING", "UNSPECIFIED"] {
                assert_eq!(of(&state(working), json!({})), Standing::Working(Some(5)), "{working}");
            }
            assert_eq!(of(&state("SUCCEEDED"), some()), Standing::Ended);
            for (ended, word) in [("FAILED", "failed"), ("CANCELLED", "cancelled"), ("EXPIRED", "in time")] {
                assert_eq!(of(&state(ended), some()), Standing::Ended, "what was done is there");
                assert!(matches!(of(&state(ended), json!({})), Standing::Gone(why) if why.contains(word)), "{ended}");
            }
        }
        let error = json!({"done": true, "error": {"code": 13, "message": "gone wrong"}});
        assert_eq!(of("BATCH_STATE_FAILED", error.clone()), Standing::Gone("gone wrong".into()));
        // Whatever its state is called, what is over is not waited for.
        assert_eq!(of("", error), Standing::Gone("gone wrong".into()));
        assert_eq!(of("", some()), Standing::Ended);
        assert_eq!(standing(&json!({"name": "batches/b"})), Standing::Working(None));
    }

    #[test]
    fn the_next_page_is_asked_for_by_its_token() {
        let of = |token: &str| next_page(&json!({"operations": [], "nextPageToken": token}));
        assert_eq!(of("Cg+K/b=&key=x#"), Some("&pageToken=Cg%2BK/b%3D%26key%3Dx%23".to_owned()));
        assert_eq!((of(""), next_page(&json!({}))), (None, None));
    }

    #[test]
    fn results_stand_in_either_of_two_places() {
        let list = json!({"inlinedResponses": {"inlinedResponses": [{"metadata": {"key": "k"}}]}});
        for operation in [json!({"response": list}), json!({"metadata": {"output": list}})] {
            assert_eq!(responses(&operation).len(), 1, "{operation}");
        }
        assert!(responses(&json!({})).is_empty());
        let want = json!({"request": {"contents": []}, "metadata": {"key": "k"}});
        assert_eq!(Batches.entry("k", "/models/m:generateContent", json!({"contents": []})), want);
    }
}
