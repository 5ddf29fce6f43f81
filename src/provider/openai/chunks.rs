//! OpenAI's chat completions in pieces, as streams bring them. Pure: the data of events in, an answer out.
//!
//! From OpenAI's API reference and from recorded traffic: the text is in `choices[0].delta`, the reason of the end in the last
//! piece that has a choice, the tokens in a piece after it that has none, then comes `[DONE]`. An error may come at any time, with
//! the status long said. Some servers leave out the tokens, some `[DONE]`, and some say the tokens in every piece.

use serde_json::Value;

use crate::llm::{Answer, Usage};
use crate::provider::http::Reply;
use crate::provider::wire::{self, Pieces};
use crate::provider::{Failure, openai};

/// The end of a stream, where a server says it.
const DONE: &str = "[DONE]";

/// An answer that comes in pieces.
#[derive(Default)]
pub(super) struct Chunks {
    refusal: String,
    reason: Option<String>,
    usage: Usage,
    has_thought: bool,
    error: Option<Value>,
    /// Something that is no piece of an answer.
    garbled: Option<String>,
    is_done: bool,
}

impl Pieces for Chunks {
    fn event(&mut self, name: &str, data: &str) -> Option<String> {
        let data = data.trim();
        if self.is_done || data.is_empty() {
            return None;
        }
        if data == DONE {
            self.is_done = true;
            return None;
        }
        let piece = match serde_json::from_str::<Value>(data) {
            Ok(piece) => piece,
            // What other events say is for others.
            Err(_) if !matches!(name, "" | "message" | "error") => return None,
            // What it would have added is lost, and with it what comes after.
            Err(_) => {
                self.garbled = Some(data.chars().take(60).collect());
                self.is_done = true;
                return None;
            }
        };
        let error = piece.get("error").filter(|error| !error.is_null());
        if let Some(error) = error.or((name == "error").then_some(&piece)) {
            self.error = Some(error.clone());
            self.is_done = true;
            return None;
        }
        if piece.get("usage").is_some_and(Value::is_object) {
            self.usage = openai::usage(&piece);
        }
        let choices = piece.get("choices").and_then(Value::as_array)?;
        let is_first = |choice: &&Value| choice.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
        let choice = choices.iter().find(is_first)?;
        if let Some(reason) = choice.get("finish_reason").and_then(Value::as_str) {
            self.reason = Some(reason.to_owned());
        }
        let delta = choice.get("delta").or_else(|| choice.get("message"))?;
        let text = |name: &str| delta.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        self.has_thought |= openai::thought(delta).is_some();
        self.refusal.push_str(text("refusal").unwrap_or_default());
        text("content").map(str::to_owned)
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    fn end(&self, head: &Reply, text: &str, broken: Option<Failure>) -> Result<Answer, Failure> {
        let request_id = openai::request_id(head);
        if let Some(error) = &self.error {
            return Err(openai::failure(head, Some(error), request_id));
        }
        // Behind the reason of the end, nothing of the text is lost any more.
        if self.reason.is_none() && (self.garbled.is_some() || !self.is_done) {
            return Err(wire::broke_off(self.garbled.as_deref(), broken, request_id));
        }
        let refusal = Some(self.refusal.as_str()).filter(|refusal| !refusal.is_empty());
        let stop = openai::stop(refusal, self.reason.as_deref());
        let mut usage = self.usage;
        openai::only_thought(&mut usage, text, self.has_thought);
        Ok(Answer { text: text.to_owned(), stop, usage, request_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::Stop;
    use crate::provider::FailureKind;
    use ureq::http::HeaderMap;

    /// What a stream of these events comes to, and its text.
    fn ends(events: &[&str]) -> (Result<Answer, Failure>, String) {
        let head = Reply { status: 200, headers: HeaderMap::new(), body: Vec::new() };
        let mut chunks = Chunks::default();
        let text: String = events.iter().filter_map(|data| chunks.event("", data)).collect();
        (chunks.end(&head, &text, None), text)
    }

    fn delta(text: &str) -> String {
        serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}).to_string()
    }

    const STOP: &str = r#"{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": null}"#;
    const USAGE: &str = r#"{"choices": [], "usage": {"prompt_tokens": 41, "completion_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 40}}}"#;

    #[test]
    fn pieces_become_an_answer() {
        let role = r#"{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}"#;
        let other =
            r#"{"choices": [{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "!"}}]}"#;
        let (answer, text) = ends(&[role, &delta("hé"), &delta("llo"), other, STOP, USAGE, DONE, &delta("late")]);
        assert_eq!(text, "héllo!");
        let usage = Usage { input: 41, cached: 40, output: 7, ..Usage::default() };
        assert_eq!(answer.unwrap(), Answer { text, stop: Stop::End, usage, request_id: None });
        // Without tokens, without `[DONE]`, with the tokens in each piece.
        assert_eq!(ends(&[&delta("a"), STOP]).0.unwrap().usage, Usage::default());
        assert_eq!(ends(&[&delta("a"), DONE]).0.unwrap().stop, Stop::End);
        let counted =
            r#"{"choices": [{"delta": {"content": "a"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}"#;
        assert_eq!(ends(&[counted, counted, STOP]).0.unwrap().usage.input, 3);
    }

    #[test]
    fn why_it_ended_is_read() {
        let ended = |piece: &str| ends(&[&delta("a"), piece, DONE]).0.unwrap().stop;
        assert_eq!(ended(&STOP.replace("stop", "length")), Stop::Length);
        assert!(matches!(ended(&STOP.replace("stop", "content_filter")), Stop::Refused(_)));
        let thought = r#"{"choices": [{"delta": {"reasoning_content": "hm", "content": null}}]}"#;
        let (answer, text) = ends(&[thought, &thought.replace("_content", ""), &STOP.replace("stop", "length"), USAGE]);
        let Answer { stop, usage, .. } = answer.unwrap();
        assert_eq!((stop, usage.reasoning, text.as_str()), (Stop::Length, 7, ""));
        let refusal = |text: &str| format!(r#"{{"choices": [{{"delta": {{"refusal": "{text}"}}}}]}}"#);
        assert_eq!(ends(&[&refusal("I "), &refusal("won't"), STOP]).0.unwrap().stop, Stop::Refused("I won't".into()));
    }

    #[test]
    fn what_does_not_come_to_its_end_is_a_failure() {
        let fails = |events: &[&str]| ends(events).0.unwrap_err();
        assert_eq!(fails(&[]).kind, FailureKind::Cut);
        assert_eq!(fails(&[&delta("a")]).kind, FailureKind::Cut);
        assert!(fails(&[&delta("a"), "{\"choi"]).message.contains("choi"));
        // A piece that is lost is a hole: what follows is no answer.
        let holed = ends(&[&delta("a"), "oops", &delta("b"), STOP, DONE]);
        assert_eq!((holed.0.unwrap_err().kind, holed.1.as_str()), (FailureKind::Cut, "a"));
        let mut chunks = Chunks::default();
        assert_eq!(chunks.event("ping", "now"), None);
        assert_eq!(chunks.event("message", &delta("a")).as_deref(), Some("a"));
        let error = |text: &str| fails(&[&delta("a"), text, DONE]);
        let quota = error(r#"{"error": {"message": "pay", "type": "insufficient_quota"}}"#);
        assert_eq!((quota.kind, quota.message.as_str()), (FailureKind::Refused, "pay"));
        assert_eq!(error(r#"{"error": {"message": "busy", "code": 429}}"#).kind, FailureKind::Limited);
        assert_eq!(error(r#"{"error": "away"}"#).message, "away");
        let mut chunks = Chunks::default();
        assert_eq!(chunks.event("error", r#"{"message": "gone"}"#), None);
        assert!(chunks.is_done);
    }
}
