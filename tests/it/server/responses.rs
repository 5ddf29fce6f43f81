//! OpenAI's responses.

use super::*;

impl Completion {
    fn response_usage(&self) -> Value {
        let Told { input, output, cached, cache_write, .. } = self.told;
        json!({
            "input_tokens": input,
            "output_tokens": output,
            "total_tokens": input + output,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": cache_write},
            "output_tokens_details": {"reasoning_tokens": 0},
        })
    }

    fn response_with(&self, status: &str, output: Value) -> Value {
        let is_cut = status == "incomplete";
        json!({
            "id": format!("resp_{}", self.number),
            "object": "response",
            "created_at": 0,
            "status": status,
            "error": null,
            "incomplete_details": if is_cut { json!({"reason": "max_output_tokens"}) } else { Value::Null },
            "model": self.model,
            "output": output,
            "usage": self.response_usage(),
        })
    }

    fn response_status(&self) -> &'static str {
        if self.said.finish_reason == "length" { "incomplete" } else { "completed" }
    }

    /// A thought stands before the message.
    pub fn response(&self) -> Value {
        let thought = json!({"type": "reasoning", "id": "rs_1", "summary": []});
        let part = match (self.said.refusal, &self.said.content) {
            (Some(refusal), _) => json!({"type": "refusal", "refusal": refusal}),
            (None, content) => json!({"type": "output_text", "text": content, "annotations": []}),
        };
        let message =
            json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]});
        let is_empty = self.said.content.as_deref() == Some("");
        let output = if is_empty { json!([thought]) } else { json!([thought, message]) };
        self.response_with(self.response_status(), output)
    }

    /// The same as a stream.
    pub fn response_events(&self, act: &Act) -> Response {
        let mut response = Response::new(200, "text/event-stream; charset=utf-8", "");
        response.is_events = true;
        let mut text = String::new();
        let event = |text: &mut String, data: &Value| {
            let kind = data["type"].as_str().unwrap_or_default();
            *text += &format!("event: {kind}\ndata: {data}\n\n");
        };
        let mut begun = self.response_with("in_progress", json!([]));
        begun["usage"] = Value::Null;
        event(&mut text, &json!({"type": "response.created", "response": begun}));
        let thought = json!({"type": "reasoning", "id": "rs_1", "summary": []});
        let message =
            json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []});
        event(&mut text, &json!({"type": "response.output_item.added", "output_index": 0, "item": thought}));
        event(
            &mut text,
            &json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "Well."}),
        );
        event(&mut text, &json!({"type": "response.output_item.added", "output_index": 1, "item": message}));
        let (content, at, ends) = self.said.up_to(act);
        let deltas = |text: &mut String, content: &str| {
            for letters in pieces(content) {
                let delta = "response.output_text.delta";
                event(text, &json!({"type": delta, "output_index": 1, "content_index": 0, "delta": letters}));
            }
        };
        deltas(&mut text, &content[..at]);
        if let Act::ErrorAfter { data, .. } = act {
            text += &format!("event: error\ndata: {data}\n\n");
        }
        if !ends {
            response.pause_at = text.len();
            deltas(&mut text, &content[at..]);
            if let Some(refusal) = self.said.refusal {
                event(&mut text, &json!({"type": "response.refusal.delta", "output_index": 1, "delta": refusal}));
            }
            let status = self.response_status();
            let mut whole = self.response();
            if matches!(act, Act::Bare) {
                whole["usage"] = Value::Null;
            }
            event(&mut text, &json!({"type": format!("response.{status}"), "response": whole}));
        }
        response.body = text.into_bytes();
        response
    }
}
