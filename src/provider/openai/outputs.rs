//! OpenAI's responses in pieces, as streams bring them. Pure: the data of events in, an answer out.
//!
//! From OpenAI's API reference and from recorded traffic: each event has its name as `type`; the text is in the `delta` of
//! `response.output_text.delta`, and the last event holds the whole response with its status and tokens. An error comes as an event
//! `error`, flat or below `error`, and `response.failed` behind it. There is no `[DONE]`, but some servers send it.

use std::collections::HashSet;

use serde_json::Value;

use super::responses;
use crate::llm::{Answer, Usage};
use crate::provider::http::Reply;
use crate::provider::wire::{self, Pieces};
use crate::provider::{Failure, openai};

/// An answer that comes in pieces.
#[derive(Default)]
pub(super) struct Outputs {
    /// The most tokens that were to come.
    limit: Option<u64>,
    refusal: String,
    /// The items that are no part of the answer.
    remarks: HashSet<u64>,
    has_thought: bool,
    /// The response, as the last event has it.
    response: Option<Value>,
    error: Option<Value>,
    /// Something that is no piece of an answer.
    garbled: Option<String>,
    is_done: bool,
}

impl Outputs {
    /// Nothing has come of the answer to this body.
    pub fn new(sent: &Value) -> Outputs {
        Outputs { limit: responses::limit(sent), ..Outputs::default() }
    }
}

impl Pieces for Outputs {
    fn event(&mut self, name: &str, data: &str) -> Option<String> {
        let data = data.trim();
        if self.is_done || data.is_empty() || data == "[DONE]" {
            return None;
        }
        let piece = match serde_json::from_str::<Value>(data) {
            Ok(piece) => piece,
            // What other events say is for others.
            Err(_) if !matches!(name, "" | "error") && !name.starts_with("response.") => return None,
            // What it would have added is lost, and with it what comes after.
            Err(_) => {
                self.garbled = Some(data.chars().take(60).collect());
                self.is_done = true;
                return None;
            }
        };
        let delta = || piece.get("delta").and_then(Value::as_str).unwrap_or_default();
        let at = piece.get("output_index").and_then(Value::as_u64).unwrap_or(0);
        match piece.get("type").and_then(Value::as_str).unwrap_or(name) {
            "response.output_item.added" => {
                if piece.get("item").is_some_and(|item| !responses::is_answer(item)) {
                    self.remarks.insert(at);
                }
            }
            "response.output_text.delta" if !self.remarks.contains(&at) => return Some(delta().to_owned()),
            "response.refusal.delta" => self.refusal += delta(),
            "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" => self.has_thought = true,
            "response.completed" | "response.incomplete" | "response.failed" => {
                let response = piece.get("response").unwrap_or(&Value::Null);
                self.error = response.get("error").filter(|error| !error.is_null()).cloned();
                self.response = Some(response.clone());
                self.is_done = true;
            }
            "error" => {
                self.error = Some(piece.get("error").filter(|error| !error.is_null()).unwrap_or(&piece).clone());
                self.is_done = true;
            }
            // Some gateways send their errors as they do in other formats.
            _ => {
                if let Some(error) = piece.get("error").filter(|error| !error.is_null()) {
                    self.error = Some(error.clone());
                    self.is_done = true;
                }
            }
        }
        None
    }

    fn usage(&self) -> Usage {
        self.response.as_ref().map(responses::usage).unwrap_or_default()
    }

    fn end(&self, head: &Reply, text: &str, broken: Option<Failure>) -> Result<Answer, Failure> {
        let request_id = openai::request_id(head);
        if let Some(error) = &self.error {
            return Err(openai::failure(head, Some(error), request_id));
        }
        let Some(response) = &self.response else {
            return Err(wire::broke_off(self.garbled.as_deref(), broken, request_id));
        };
        let whole = responses::said(response);
        let refusal = if self.refusal.is_empty() { &whole.refusal } else { &self.refusal };
        let text = if text.is_empty() { whole.text } else { text.to_owned() };
        let mut usage = self.usage();
        openai::only_thought(&mut usage, &text, self.has_thought);
        Ok(Answer { text, stop: responses::stop(self.limit, refusal, response), usage, request_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Stop;
    use crate::provider::FailureKind;
    use crate::provider::wire::tests::reply;
    use serde_json::json;

    /// What a stream of these events comes to, and its text.
    fn ends(events: &[Value]) -> (Result<Answer, Failure>, String) {
        let mut outputs = Outputs::default();
        let text: String = events
            .iter()
            .filter_map(|event| outputs.event(event["type"].as_str().unwrap_or_default(), &event.to_string()))
            .collect();
        (outputs.end(&reply(200, "", &[("x-request-id", "req-1")]), &text, None), text)
    }

    fn added(at: u64, item: Value) -> Value {
        json!({"type": "response.output_item.added", "output_index": at, "item": item})
    }

    fn text(at: u64, text: &str) -> Value {
        json!({"type": "response.output_text.delta", "output_index": at, "content_index": 0, "delta": text})
    }

    fn ended(status: &str, more: Value) -> Value {
        let mut response = json!({"status": status, "error": null, "output": [],
            "usage": {"input_tokens": 41, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 40}}});
        response.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"type": format!("response.{status}"), "response": response})
    }

    #[test]
    fn pieces_become_an_answer() {
        let events = [
            json!({"type": "response.created", "response": {"status": "in_progress", "error": null}}),
            added(0, json!({"type": "reasoning"})),
            json!({"type": "response.reasoning_text.delta", "output_index": 0, "delta": "hm"}),
            added(1, json!({"type": "message", "phase": "commentary"})),
            text(1, "First,"),
            added(2, json!({"type": "message", "role": "assistant"})),
            text(2, "hé"),
            text(2, "llo"),
            json!({"type": "response.output_text.done", "output_index": 2, "text": "héllo"}),
            ended("completed", json!({})),
            text(2, "late"),
        ];
        let (answer, said) = ends(&events);
        let usage = Usage { input: 41, cached: 40, output: 7, ..Usage::default() };
        let id = Some("req-1".to_owned());
        assert_eq!(said, "héllo");
        assert_eq!(answer.unwrap(), Answer { text: said, stop: Stop::End, usage, request_id: id });
        // Where nothing came in pieces, the last event has it all.
        let message = json!({"type": "message", "content": [{"type": "output_text", "text": "all"}]});
        assert_eq!(ends(&[ended("completed", json!({"output": [message]}))]).0.unwrap().text, "all");
    }

    #[test]
    fn why_it_ended_is_read() {
        let stop = |events: &[Value]| ends(events).0.unwrap().stop;
        let incomplete = |reason: &str| ended("incomplete", json!({"incomplete_details": {"reason": reason}}));
        assert_eq!(stop(&[text(0, "a"), incomplete("max_output_tokens")]), Stop::Length);
        assert!(matches!(stop(&[text(0, "a"), incomplete("content_filter")]), Stop::Refused(_)));
        let refusal = |text: &str| json!({"type": "response.refusal.delta", "delta": text});
        assert_eq!(
            stop(&[refusal("I "), refusal("won't"), ended("completed", json!({}))]),
            Stop::Refused("I won't".into())
        );
        let mut full = Outputs::new(&json!({"max_output_tokens": 7}));
        full.event(
            "",
            &json!({"type": "response.completed", "response": {"status": "completed", "usage": {"output_tokens": 7}}})
                .to_string(),
        );
        assert_eq!(full.end(&reply(200, "", &[]), "a", None).unwrap().stop, Stop::Length);
        let thought = json!({"type": "response.reasoning_text.delta", "delta": "hm"});
        let all = ends(&[thought, incomplete("max_output_tokens")]).0.unwrap();
        assert_eq!((all.usage.reasoning, all.usage.output), (7, 7));
    }

    #[test]
    fn what_does_not_come_to_its_end_is_a_failure() {
        let fails = |events: &[Value]| ends(events).0.unwrap_err();
        assert_eq!(fails(&[]).kind, FailureKind::Cut);
        assert_eq!(fails(&[text(0, "a")]).kind, FailureKind::Cut);
        // As a quota that is used up comes: in a stream with a good status, and what fails behind it has fewer words.
        let quota = json!({"type": "error", "error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "pay"}});
        let failed = ended("failed", json!({"error": {"code": "insufficient_quota", "message": ""}}));
        let quota = fails(&[quota, failed.clone()]);
        assert_eq!(
            (quota.kind, quota.message.as_str(), quota.request_id.as_deref()),
            (FailureKind::Refused, "pay", Some("req-1"))
        );
        assert_eq!(fails(&[failed]).kind, FailureKind::Refused);
        // One that does not say why it failed is no answer either.
        let unsaid = ends(&[text(0, "a"), ended("failed", json!({}))]).0.unwrap();
        assert!(matches!(unsaid.stop, Stop::Garbled(_)));
        let flat = |code: &str| json!({"type": "error", "code": code, "message": "words", "param": null});
        assert_eq!(fails(&[text(0, "a"), flat("rate_limit_exceeded")]).kind, FailureKind::Limited);
        assert_eq!(fails(&[text(0, "a"), flat("server_error")]).kind, FailureKind::Server);
        assert_eq!(fails(&[json!({"error": {"message": "busy", "code": 429}})]).kind, FailureKind::Limited);
        let mut holed = Outputs::default();
        assert_eq!(holed.event("ping", "now"), None);
        assert_eq!(holed.event("response.output_text.delta", "{\"type\": \"resp"), None);
        assert_eq!(holed.event("response.output_text.delta", &text(0, "b").to_string()), None);
        let lost = holed.end(&reply(200, "", &[]), "", None).unwrap_err();
        assert!(lost.kind == FailureKind::Cut && lost.message.contains("resp"));
    }
}
