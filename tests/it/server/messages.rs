//! Anthropic's messages.

use super::*;

/// An error as Anthropic sends it.
pub fn error(act: &Act) -> Act {
    let Act::Status { code, headers, body } = act else { return act.clone() };
    let Ok(body) = serde_json::from_str::<Value>(body) else { return act.clone() };
    let kind = match code {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. | 200 => "api_error",
        _ => "invalid_request_error",
    };
    let Some(message) = body["error"]["message"].as_str() else { return act.clone() };
    let body = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": null});
    Act::Status { code: *code, headers: headers.clone(), body: body.to_string() }
}

impl Completion {
    fn message_usage(&self) -> Value {
        let Told { input, output, cached, cache_write, kept_long } = self.told;
        json!({
            "input_tokens": input - cached - cache_write,
            "cache_creation_input_tokens": cache_write,
            "cache_creation": {
                "ephemeral_5m_input_tokens": cache_write - kept_long,
                "ephemeral_1h_input_tokens": kept_long,
            },
            "cache_read_input_tokens": cached,
            "output_tokens": output,
        })
    }

    fn stop_reason(&self, request: &Recorded) -> &'static str {
        match self.said {
            Said { refusal: Some(_), .. } => "refusal",
            Said { finish_reason: "length", .. } => "max_tokens",
            _ if request.is_by_tool() => "tool_use",
            _ => "end_turn",
        }
    }

    fn stop_details(&self) -> Value {
        let details = |refusal| json!({"type": "refusal", "category": null, "explanation": refusal});
        self.said.refusal.map_or(Value::Null, details)
    }

    pub fn message(&self, request: &Recorded) -> Value {
        let content = self.said.content.as_deref().unwrap_or_default();
        let block = match serde_json::from_str::<Value>(content) {
            Ok(input) if request.is_by_tool() => {
                json!({"type": "tool_use", "id": "toolu_1", "name": "result", "input": input})
            }
            _ => json!({"type": "text", "text": content}),
        };
        let thinking = json!({"type": "thinking", "thinking": "Well.", "signature": "x"});
        let content = if content.is_empty() { vec![thinking] } else { vec![thinking, block] };
        json!({
            "id": format!("msg_{}", self.number),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": self.stop_reason(request),
            "stop_sequence": null,
            "stop_details": self.stop_details(),
            "usage": self.message_usage(),
        })
    }

    /// The same as a stream, with a block of thinking before the one that counts.
    pub fn message_events(&self, act: &Act, request: &Recorded) -> Response {
        let mut response = Response::new(200, "text/event-stream; charset=utf-8", "");
        response.is_events = true;
        let mut text = String::new();
        let event = |text: &mut String, data: &Value| {
            let kind = data["type"].as_str().unwrap_or_default();
            *text += &format!("event: {kind}\ndata: {data}\n\n");
        };
        let is_bare = matches!(act, Act::Bare);
        let mut message = self.message(request);
        message["content"] = json!([]);
        message["stop_reason"] = Value::Null;
        message["usage"]["output_tokens"] = json!(1);
        if is_bare {
            message["usage"] = Value::Null;
        }
        event(&mut text, &json!({"type": "message_start", "message": message}));
        event(&mut text, &json!({"type": "ping"}));
        let (block, delta, key) = match request.is_by_tool() {
            true => (
                json!({"type": "tool_use", "id": "toolu_1", "name": "result", "input": {}}),
                "input_json_delta",
                "partial_json",
            ),
            false => (json!({"type": "text", "text": ""}), "text_delta", "text"),
        };
        let thinking = [
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Well."}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "content_block_start", "index": 1, "content_block": block}),
        ];
        thinking.iter().for_each(|data| event(&mut text, data));
        let (content, at, ends) = self.said.up_to(act);
        let deltas = |text: &mut String, content: &str| {
            for letters in pieces(content) {
                event(
                    text,
                    &json!({"type": "content_block_delta", "index": 1, "delta": {"type": delta, key: letters}}),
                );
            }
        };
        deltas(&mut text, &content[..at]);
        if let Act::ErrorAfter { data, .. } = act {
            text += &format!("event: error\ndata: {data}\n\n");
        }
        if !ends {
            response.pause_at = text.len();
            deltas(&mut text, &content[at..]);
            event(&mut text, &json!({"type": "content_block_stop", "index": 1}));
            let delta = json!({"stop_reason": self.stop_reason(request), "stop_details": self.stop_details()});
            let mut last = json!({"type": "message_delta", "delta": delta});
            if !is_bare {
                last["usage"] = self.message_usage();
            }
            event(&mut text, &last);
            if !is_bare {
                event(&mut text, &json!({"type": "message_stop"}));
            }
        }
        response.body = text.into_bytes();
        response
    }
}
