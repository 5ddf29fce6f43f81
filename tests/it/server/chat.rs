//! OpenAI's chat completions.

use super::*;

impl Completion {
    fn usage(&self) -> Value {
        let Told { input, output, cached, cache_write, .. } = self.told;
        json!({
            "prompt_tokens": input,
            "completion_tokens": output,
            "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": cache_write},
        })
    }

    pub fn chat(&self) -> Value {
        let Said { content, refusal, finish_reason, .. } = &self.said;
        json!({
            "id": format!("chatcmpl-{}", self.number),
            "object": "chat.completion",
            "created": 0,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": refusal},
                "finish_reason": finish_reason,
            }],
            "usage": self.usage(),
        })
    }

    /// The same as a stream: pieces of some letters each, with a comment and an empty piece, as servers send them.
    pub fn chat_events(&self, act: &Act, request: &Recorded) -> Response {
        let mut response = Response::new(200, "text/event-stream; charset=utf-8", "");
        response.is_events = true;
        let piece = |delta: Value, finish_reason: Value| {
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish_reason});
            let id = format!("chatcmpl-{}", self.number);
            json!({"id": id, "object": "chat.completion.chunk", "created": 0, "model": self.model, "choices": [choice]})
        };
        let mut text = ": a comment\n\n".to_owned();
        let mut event = |data: &str| text += &format!("data: {data}\n\n");
        event(&piece(json!({"role": "assistant", "content": ""}), Value::Null).to_string());
        let (content, at, ends) = self.said.up_to(act);
        let deltas = |event: &mut dyn FnMut(&str), content: &str| {
            for letters in pieces(content) {
                event(&piece(json!({"content": letters}), Value::Null).to_string());
            }
        };
        deltas(&mut event, &content[..at]);
        if let Act::ErrorAfter { data, .. } = act {
            event(data);
        }
        if !ends {
            let pause_at = text.len();
            let mut event = |data: &str| text += &format!("data: {data}\n\n");
            deltas(&mut event, &content[at..]);
            if let Some(refusal) = self.said.refusal {
                event(&piece(json!({"refusal": refusal}), Value::Null).to_string());
            }
            event(&piece(json!({}), self.said.finish_reason.into()).to_string());
            if !matches!(act, Act::Bare) {
                if request.body["stream_options"]["include_usage"] == true {
                    event(
                        &json!({"object": "chat.completion.chunk", "choices": [], "usage": self.usage()}).to_string(),
                    );
                }
                event("[DONE]");
            }
            response.pause_at = pause_at;
        }
        response.body = text.into_bytes();
        response
    }
}
