//! Anthropic's answers in pieces, as streams bring them. Pure: the data of events in, an answer out.
//!
//! From Anthropic's API reference and from recorded traffic: `message_start` says the tokens that were sent, then come blocks, each
//! with a start, pieces and an end, `message_delta` says why it ended and all the tokens, then comes `message_stop`. Blocks of
//! thinking come before the text. A `ping` may come at any time, and an `error`, with the status long said.

use serde_json::Value;

use crate::llm::{Answer, Usage};
use crate::provider::http::Reply;
use crate::provider::wire::{self, Pieces};
use crate::provider::{Failure, anthropic};

/// An answer that comes in pieces.
#[derive(Default)]
pub(super) struct Blocks {
    /// Whether the text is the input of a tool.
    is_by_tool: bool,
    /// The block of that tool.
    tool: Option<u64>,
    /// What is said beside the tool, which counts if that is not used.
    said: String,
    reason: Option<String>,
    details: Option<Value>,
    usage: Usage,
    /// Whether all its tokens were said, and not only those that were sent.
    is_counted: bool,
    error: Option<Value>,
    /// Something that is no piece of an answer.
    garbled: Option<String>,
    is_done: bool,
}

/// The events that say something of the answer.
const EVENTS: &[&str] =
    &["", "message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "error"];

impl Blocks {
    /// Nothing of the answer has come. Whether it is to be the input of a tool.
    pub fn new(is_by_tool: bool) -> Blocks {
        Blocks { is_by_tool, ..Blocks::default() }
    }

    fn text(&mut self, text: &str) -> Option<String> {
        if self.is_by_tool {
            self.said.push_str(text);
            return None;
        }
        Some(text.to_owned())
    }

    fn ended(&mut self, delta: &Value, usage: Option<&Value>) {
        if let Some(reason) = delta.get("stop_reason").and_then(Value::as_str) {
            self.reason = Some(reason.to_owned());
        }
        if let Some(details) = delta.get("stop_details").filter(|details| details.is_object()) {
            self.details = Some(details.clone());
        }
        self.is_counted |= usage.is_some_and(Value::is_object);
        anthropic::count(&mut self.usage, usage);
    }
}

impl Pieces for Blocks {
    fn event(&mut self, name: &str, data: &str) -> Option<String> {
        let data = data.trim();
        if self.is_done || data.is_empty() {
            return None;
        }
        let piece = match serde_json::from_str::<Value>(data) {
            Ok(piece) => piece,
            // What other events say is for others.
            Err(_) if !EVENTS.contains(&name) => return None,
            // What it would have added is lost, and with it what comes after.
            Err(_) => {
                self.garbled = Some(data.chars().take(60).collect());
                self.is_done = true;
                return None;
            }
        };
        let at = |pointer: &str| piece.pointer(pointer);
        let word = |pointer: &str| at(pointer).and_then(Value::as_str);
        match word("/type").unwrap_or(name) {
            "message_start" => {
                anthropic::count(&mut self.usage, at("/message/usage"));
                None
            }
            "content_block_start" => match word("/content_block/type") {
                Some("text") => self.text(word("/content_block/text").filter(|text| !text.is_empty())?),
                _ => None,
            },
            "content_block_delta" => match word("/delta/type") {
                Some("text_delta") => self.text(word("/delta/text")?),
                Some("input_json_delta") if self.is_by_tool => {
                    let index = at("/index").and_then(Value::as_u64).unwrap_or(0);
                    let is_first = *self.tool.get_or_insert(index) == index;
                    word("/delta/partial_json").filter(|_| is_first).map(str::to_owned)
                }
                _ => None,
            },
            "message_delta" => {
                self.ended(piece.get("delta").unwrap_or(&Value::Null), piece.get("usage"));
                None
            }
            "message_stop" => {
                self.is_done = true;
                None
            }
            "error" => {
                self.error = Some(piece.get("error").unwrap_or(&piece).clone());
                self.is_done = true;
                None
            }
            _ => None,
        }
    }

    fn usage(&self) -> Usage {
        if self.is_counted { self.usage } else { Usage::default() }
    }

    fn end(&self, head: &Reply, text: &str, broken: Option<Failure>) -> Result<Answer, Failure> {
        let request_id = anthropic::request_id(head, None);
        if let Some(error) = &self.error {
            return Err(anthropic::failure(head, Some(error), request_id));
        }
        // Behind the reason of the end, nothing of the text is lost any more.
        if self.reason.is_none() && (self.garbled.is_some() || !self.is_done) {
            return Err(wire::broke_off(self.garbled.as_deref(), broken, request_id));
        }
        let text = if text.is_empty() { self.said.clone() } else { text.to_owned() };
        let stop = anthropic::stop(self.reason.as_deref(), self.details.as_ref());
        Ok(Answer { text, stop, usage: self.usage(), request_id })
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
    fn ends(mut blocks: Blocks, events: &[Value]) -> (Result<Answer, Failure>, String) {
        let text: String = events
            .iter()
            .filter_map(|event| blocks.event(event["type"].as_str().unwrap_or_default(), &event.to_string()))
            .collect();
        (blocks.end(&reply(200, "", &[("request-id", "req_1")]), &text, None), text)
    }

    fn start() -> Value {
        json!({"type": "message_start", "message": {"content": [], "stop_reason": null, "usage": {"input_tokens": 3,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 40, "output_tokens": 1}}})
    }

    fn text(text: &str) -> Value {
        json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": text}})
    }

    fn input(index: u64, part: &str) -> Value {
        json!({"type": "content_block_delta", "index": index, "delta": {"type": "input_json_delta", "partial_json": part}})
    }

    fn ended(reason: &str) -> Value {
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null}, "usage": {"output_tokens": 7}})
    }

    fn done() -> Value {
        json!({"type": "message_stop"})
    }

    #[test]
    fn pieces_become_an_answer() {
        let thinking =
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}});
        let block = json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}});
        let stop = json!({"type": "content_block_stop", "index": 1});
        let events = [
            start(),
            json!({"type": "ping"}),
            thinking,
            block,
            text("hé"),
            text("llo"),
            stop,
            ended("end_turn"),
            done(),
            text("late"),
        ];
        let (answer, said) = ends(Blocks::new(false), &events);
        let usage = Usage { input: 43, cached: 40, output: 7, ..Usage::default() };
        let id = Some("req_1".to_owned());
        assert_eq!(said, "héllo");
        assert_eq!(answer.unwrap(), Answer { text: said, stop: Stop::End, usage, request_id: id });
        // Where the last event says all of it, nothing is counted twice.
        let mut all = ended("end_turn");
        all["usage"] = json!({"input_tokens": 3, "cache_read_input_tokens": 40, "output_tokens": 7});
        assert_eq!(ends(Blocks::new(false), &[start(), text("a"), all, done()]).0.unwrap().usage, usage);
        assert_eq!(ends(Blocks::new(false), &[start(), text("a"), done()]).0.unwrap().usage, Usage::default());
        // What is written is said at the start, for an hour and for five minutes apart, and what was thought at the end.
        let mut written = start();
        written["message"]["usage"]["cache_creation_input_tokens"] = 4563.into();
        written["message"]["usage"]["cache_creation"] =
            json!({"ephemeral_5m_input_tokens": 19, "ephemeral_1h_input_tokens": 4544});
        let mut thought = ended("end_turn");
        thought["usage"]["output_tokens_details"] = json!({"thinking_tokens": 5});
        assert_eq!(
            ends(Blocks::new(false), &[written, text("a"), thought, done()]).0.unwrap().usage,
            Usage { input: 4606, cached: 40, cache_write: 4563, kept_long: 4544, output: 7, reasoning: 5 }
        );
    }

    #[test]
    fn the_input_of_a_tool_is_the_text() {
        let events = [
            start(),
            text("So:"),
            input(1, ""),
            input(1, "{\"a\""),
            input(2, "no"),
            input(1, ":1}"),
            ended("tool_use"),
            done(),
        ];
        let (answer, said) = ends(Blocks::new(true), &events);
        assert_eq!((said.as_str(), answer.unwrap().stop), ("{\"a\":1}", Stop::End));
        // A model that says it instead is heard; a tool that nobody offered is not.
        assert_eq!(ends(Blocks::new(true), &[text("{}"), ended("end_turn")]).0.unwrap().text, "{}");
        assert_eq!(ends(Blocks::new(false), &[text("a"), input(2, "b"), ended("end_turn")]).0.unwrap().text, "a");
    }

    #[test]
    fn why_it_ended_is_read() {
        let stop = |last: Value| ends(Blocks::new(false), &[start(), text("a"), last, done()]).0.unwrap().stop;
        assert_eq!(stop(ended("max_tokens")), Stop::Length);
        assert_eq!(stop(ended("model_context_window_exceeded")), Stop::Length);
        assert!(matches!(stop(ended("pause_turn")), Stop::Garbled(_)));
        let mut refusal = ended("refusal");
        assert!(matches!(stop(refusal.clone()), Stop::Refused(_)));
        refusal["delta"]["stop_details"] = Value::Null;
        assert!(matches!(stop(refusal.clone()), Stop::Refused(_)));
        refusal["delta"]["stop_details"] = json!({"type": "refusal", "category": "bio", "explanation": "no"});
        assert_eq!(stop(refusal), Stop::Refused("no".into()));
    }

    #[test]
    fn what_does_not_come_to_its_end_is_a_failure() {
        let fails = |events: &[Value]| ends(Blocks::new(false), events).0.unwrap_err();
        assert_eq!(fails(&[]).kind, FailureKind::Cut);
        assert_eq!(fails(&[start(), text("a")]).kind, FailureKind::Cut);
        // What was sent is no count of what it took.
        let mut cut = Blocks::new(false);
        cut.event("message_start", &start().to_string());
        assert_eq!(cut.usage(), Usage::default());
        let error = |kind: &str| json!({"type": "error", "error": {"type": kind, "message": "words"}});
        let overloaded = fails(&[start(), text("a"), error("overloaded_error"), done()]);
        assert_eq!((overloaded.kind, overloaded.message.as_str()), (FailureKind::Server, "words"));
        for (kind, want) in [
            ("billing_error", FailureKind::Refused),
            ("rate_limit_error", FailureKind::Limited),
            ("request_too_large", FailureKind::Rejected),
            ("api_error", FailureKind::Server),
            ("timeout_error", FailureKind::Server),
        ] {
            assert_eq!(fails(&[error(kind)]).kind, want, "{kind}");
        }
        // A piece that is lost is a hole: what follows is no answer.
        let mut holed = Blocks::new(false);
        assert_eq!(holed.event("ping", "now"), None);
        assert_eq!(holed.event("content_block_delta", "{\"type\": \"cont"), None);
        assert_eq!(holed.event("content_block_delta", &text("b").to_string()), None);
        let lost = holed.end(&reply(200, "", &[]), "", None).unwrap_err();
        assert!(lost.kind == FailureKind::Cut && lost.message.contains("cont"));
        // Behind the reason of the end nothing is.
        let mut whole = Blocks::new(false);
        whole.event("message_delta", &ended("end_turn").to_string());
        whole.event("message_stop", "{");
        assert!(whole.end(&reply(200, "", &[]), "a", Some(Failure::new(FailureKind::Cut, ""))).is_ok());
    }
}
