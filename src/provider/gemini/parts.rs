//! Gemini's answers in pieces, as streams bring them. Pure: the data of events in, an answer out.
//!
//! From Google's reference and from recorded traffic: each event is an answer of its own form, with the parts of the text that are
//! new, and with the tokens that all took until then. The last one that has a candidate says why it ended. A prompt that is blocked
//! has no candidate. Parts of thinking are marked. An error may come at any time, with the status long said.

use serde_json::Value;

use crate::llm::{Answer, Stop, Usage};
use crate::provider::http::Reply;
use crate::provider::wire::{self, Pieces};
use crate::provider::{Failure, gemini};

/// An answer that comes in pieces.
#[derive(Default)]
pub(super) struct Parts {
    request_id: Option<String>,
    /// Why it ended, and the provider's words for it.
    reason: Option<(String, Option<String>)>,
    /// Why the prompt was blocked, likewise.
    blocked: Option<(String, Option<String>)>,
    usage: Usage,
    /// Whether tokens that came back were said, too.
    is_counted: bool,
    error: Option<Value>,
    /// Something that is no piece of an answer.
    garbled: Option<String>,
    has_candidate: bool,
}

impl Parts {
    /// Takes a piece in: the text that it adds.
    pub fn take(&mut self, piece: &Value) -> Option<String> {
        let word = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        self.request_id = self.request_id.take().or_else(|| word(piece, "responseId"));
        if let Some(error) = piece.get("error").filter(|error| !error.is_null()) {
            self.error = Some(error.clone());
            return None;
        }
        if let Some(feedback) = piece.get("promptFeedback")
            && let Some(reason) = word(feedback, "blockReason")
        {
            self.blocked = Some((reason, word(feedback, "blockReasonMessage")));
        }
        let is_first = |candidate: &&Value| candidate.get("index").and_then(Value::as_u64).unwrap_or(0) == 0;
        let candidates = piece.get("candidates").and_then(Value::as_array);
        let candidate = candidates.and_then(|candidates| candidates.iter().find(is_first));
        if let Some(reason) = candidate.and_then(|candidate| word(candidate, "finishReason")) {
            self.reason = Some((reason, candidate.and_then(|candidate| word(candidate, "finishMessage"))));
        }
        if let Some(said) = piece.get("usageMetadata").filter(|said| said.is_object()) {
            let has_output =
                ["candidatesTokenCount", "thoughtsTokenCount"].iter().any(|name| said.get(*name).is_some());
            self.is_counted |= has_output || self.reason.is_some() || self.blocked.is_some();
            self.usage = gemini::usage(said);
        }
        let candidate = candidate?;
        self.has_candidate = true;
        let parts = candidate.pointer("/content/parts").and_then(Value::as_array)?;
        let said = parts.iter().filter(|part| part.get("thought") != Some(&Value::Bool(true)));
        let text: String = said.filter_map(|part| part.get("text")?.as_str()).collect();
        Some(text).filter(|text| !text.is_empty())
    }

    /// Why it ended, as far as that was said.
    fn stop(&self) -> Option<Stop> {
        match (&self.reason, &self.blocked) {
            (Some((reason, message)), _) => Some(gemini::stop(reason, message.as_deref())),
            (None, Some((reason, message))) => Some(gemini::blocked(reason, message.as_deref())),
            (None, None) => None,
        }
    }

    /// The answer of a reply that came whole.
    pub fn whole(&self, reply: &Reply, text: String) -> Answer {
        let stop = match self.stop() {
            Some(stop) => stop,
            None if self.has_candidate => Stop::End,
            None => Stop::Garbled(wire::garbled(reply)),
        };
        Answer { text, stop, usage: self.usage(), request_id: self.request_id(reply) }
    }

    fn request_id(&self, reply: &Reply) -> Option<String> {
        self.request_id.clone().or_else(|| gemini::request_id(reply))
    }
}

impl Pieces for Parts {
    fn event(&mut self, name: &str, data: &str) -> Option<String> {
        let data = data.trim();
        if self.error.is_some() || self.garbled.is_some() || data.is_empty() || data == "[DONE]" {
            return None;
        }
        match serde_json::from_str::<Value>(data) {
            Ok(piece) => self.take(&piece),
            // What other events say is for others.
            Err(_) if !matches!(name, "" | "message" | "error") => None,
            // What it would have added is lost, and with it what comes after.
            Err(_) => {
                self.garbled = Some(data.chars().take(60).collect());
                None
            }
        }
    }

    fn usage(&self) -> Usage {
        if self.is_counted { self.usage } else { Usage::default() }
    }

    fn end(&self, head: &Reply, text: &str, broken: Option<Failure>) -> Result<Answer, Failure> {
        let request_id = self.request_id(head);
        if let Some(error) = &self.error {
            return Err(gemini::failure(head, Some(error), request_id));
        }
        // Behind the reason of the end, nothing of the text is lost any more.
        let Some(stop) = self.stop() else {
            return Err(wire::broke_off(self.garbled.as_deref(), broken, request_id));
        };
        Ok(Answer { text: text.to_owned(), stop, usage: self.usage(), request_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::FailureKind;
    use crate::provider::wire::tests::reply;
    use serde_json::json;

    /// What a stream of these events comes to, and its text.
    fn ends(events: &[Value]) -> (Result<Answer, Failure>, String) {
        let mut parts = Parts::default();
        let text: String = events.iter().filter_map(|event| parts.event("", &event.to_string())).collect();
        (parts.end(&reply(200, "", &[]), &text, None), text)
    }

    fn text(text: &str) -> Value {
        json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}], "responseId": "r1",
            "usageMetadata": {"promptTokenCount": 43, "totalTokenCount": 43}})
    }

    fn ended(reason: &str) -> Value {
        json!({"candidates": [{"finishReason": reason, "index": 0}], "usageMetadata": {"promptTokenCount": 43,
            "cachedContentTokenCount": 40, "candidatesTokenCount": 10, "thoughtsTokenCount": 258, "totalTokenCount": 311}})
    }

    #[test]
    fn pieces_become_an_answer() {
        let thinking = json!({"candidates": [{"content": {"parts": [{"text": "hm", "thought": true}]}, "index": 0}]});
        let several = json!({"candidates": [
            {"content": {"parts": [{"text": "no"}]}, "index": 1},
            {"content": {"parts": [{"text": "l"}, {"thought": true, "text": "hm"}, {"text": "o", "thoughtSignature": "x"}, {"inlineData": {}}]},
                "index": 0}]});
        let (answer, said) = ends(&[thinking, text("hé"), text("l"), several, ended("STOP")]);
        let usage = Usage { input: 43, cached: 40, output: 268, reasoning: 258, ..Usage::default() };
        assert_eq!(said, "héllo");
        assert_eq!(answer.unwrap(), Answer { text: said, stop: Stop::End, usage, request_id: Some("r1".into()) });
        // The last text may come with the reason, and the index be left out.
        let last = json!({"candidates": [{"content": {"parts": [{"text": "!"}]}, "finishReason": "STOP"}]});
        let (answer, said) = ends(&[text("hi"), last]);
        assert_eq!((said.as_str(), answer.unwrap().usage), ("hi!", Usage::default()));
    }

    #[test]
    fn why_it_ended_is_read() {
        let stop = |events: &[Value]| ends(events).0.unwrap().stop;
        assert_eq!(stop(&[text("a"), ended("MAX_TOKENS")]), Stop::Length);
        assert!(matches!(stop(&[text("a"), ended("SAFETY")]), Stop::Refused(_)));
        let blocked =
            json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 9}});
        let (answer, _) = ends(&[blocked]);
        let answer = answer.unwrap();
        assert!(matches!(&answer.stop, Stop::Refused(why) if why.contains("PROHIBITED_CONTENT")));
        assert_eq!(answer.usage.input, 9);
    }

    #[test]
    fn what_does_not_come_to_its_end_is_a_failure() {
        let fails = |events: &[Value]| ends(events).0.unwrap_err();
        assert_eq!(fails(&[]).kind, FailureKind::Cut);
        assert_eq!(fails(&[text("a")]).kind, FailureKind::Cut);
        assert_eq!(fails(&[text("a")]).request_id.as_deref(), Some("r1"));
        let error = |code: u64| json!({"error": {"code": code, "message": "words", "status": "X"}});
        let overloaded = fails(&[text("a"), error(503), ended("STOP")]);
        assert_eq!((overloaded.kind, overloaded.message.as_str()), (FailureKind::Server, "words"));
        assert_eq!(fails(&[error(429)]).kind, FailureKind::Limited);
        assert_eq!(fails(&[error(403)]).kind, FailureKind::Refused);
        // A piece that is lost is a hole: what follows is no answer.
        let mut holed = Parts::default();
        assert_eq!(holed.event("ping", "now"), None);
        assert_eq!(holed.event("", "{\"cand"), None);
        assert_eq!(holed.event("", &text("b").to_string()), None);
        let lost = holed.end(&reply(200, "", &[]), "", None).unwrap_err();
        assert!(lost.kind == FailureKind::Cut && lost.message.contains("cand"));
        // Behind the reason of the end nothing is.
        let mut whole = Parts::default();
        whole.event("", &ended("STOP").to_string());
        whole.event("", "{");
        assert!(whole.end(&reply(200, "", &[]), "a", Some(Failure::new(FailureKind::Cut, ""))).is_ok());
    }

    #[test]
    fn what_broke_off_took_what_was_said_until_then() {
        let mut cut = Parts::default();
        cut.event("", &text("a").to_string());
        assert_eq!(cut.usage(), Usage::default(), "what was sent is no count of what it took");
        let mut counted = text("b");
        counted["usageMetadata"]["candidatesTokenCount"] = 2.into();
        cut.event("", &counted.to_string());
        assert_eq!(cut.usage(), Usage { input: 43, output: 2, ..Usage::default() });
    }
}
