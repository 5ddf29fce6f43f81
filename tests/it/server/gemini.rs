//! Google's generateContent.

use super::*;

/// An error as Google sends it: a bad key is a status 400, how long to wait is in the body, and an account without money has used
/// up its quota for the day.
pub fn error(act: &Act) -> Act {
    let Act::Status { code, headers, body } = act else { return act.clone() };
    let Ok(body) = serde_json::from_str::<Value>(body) else { return act.clone() };
    // What has its form stays as it is.
    let Some(message) = body["error"]["message"].as_str().filter(|_| !body["error"]["status"].is_string()) else {
        return act.clone();
    };
    let detail = |kind: &str, name: &str, value: Value| json!({"@type": format!("type.googleapis.com/google.rpc.{kind}"), name: value});
    let mut details = Vec::new();
    let (code, status) = match code {
        401 => {
            details.push(detail("ErrorInfo", "reason", json!("API_KEY_INVALID")));
            (400, "INVALID_ARGUMENT")
        }
        403 => (403, "PERMISSION_DENIED"),
        404 => (404, "NOT_FOUND"),
        429 => {
            let is_terminal = body["error"]["code"] == "insufficient_quota";
            let period = if is_terminal { "PerDay" } else { "PerMinute" };
            let quota = format!("GenerateRequests{period}PerProjectPerModel-FreeTier");
            details.push(detail("QuotaFailure", "violations", json!([{"quotaId": quota, "quotaValue": "10"}])));
            let seconds = find_header(headers, "retry-after").unwrap_or("48");
            details.push(detail("RetryInfo", "retryDelay", json!(format!("{seconds}s"))));
            (429, "RESOURCE_EXHAUSTED")
        }
        529 | 503 => (503, "UNAVAILABLE"),
        200 => (200, "INTERNAL"),
        500.. => (*code, "INTERNAL"),
        code => (*code, "INVALID_ARGUMENT"),
    };
    let headers = headers.iter().filter(|(name, _)| name != "retry-after").cloned().collect();
    let named = if code == 200 { 500 } else { code };
    let body = json!({"error": {"code": named, "message": message, "status": status, "details": details}});
    Act::Status { code, headers, body: body.to_string() }
}

/// Contents that are kept, or are not.
pub fn keep(state: &mut State, body: Value) -> Response {
    let tokens = tokens(content_text(&body["systemInstruction"]["parts"]).chars().count());
    let model = body["model"].clone();
    state.contents_asked.push(body);
    let failed = |code: u16, status: &str, message: &str| {
        Response::json(code, &json!({"error": {"code": code, "message": message, "status": status}}))
    };
    match state.least_contents {
        None => failed(404, "NOT_FOUND", "Requested entity was not found."),
        Some(least) if tokens < least => {
            let message =
                format!("Cached content is too small. total_token_count={tokens}, min_total_token_count={least}");
            failed(400, "INVALID_ARGUMENT", &message)
        }
        Some(_) => {
            let name = format!("cachedContents/c{}", state.contents_asked.len());
            state.contents.insert(name.clone(), tokens);
            state.told.input += tokens;
            state.told.cache_write += tokens;
            let usage = json!({"totalTokenCount": tokens});
            Response::json(200, &json!({"name": name, "model": model, "displayName": "", "usageMetadata": usage}))
        }
    }
}

/// What is said where contents are not kept any more.
pub fn gone() -> Act {
    let message = "CachedContent not found (or permission denied)";
    let body = json!({"error": {"code": 403, "message": message, "status": "PERMISSION_DENIED"}});
    Act::Status { code: 403, headers: Vec::new(), body: body.to_string() }
}

impl Completion {
    /// A quarter of what comes back is thinking.
    fn gemini_usage(&self) -> Value {
        let Told { input, output, cached, .. } = self.told;
        json!({
            "promptTokenCount": input,
            "cachedContentTokenCount": cached,
            "candidatesTokenCount": output - output / 4,
            "thoughtsTokenCount": output / 4,
            "totalTokenCount": input + output,
        })
    }

    fn finish(&self) -> Value {
        match self.said {
            Said { refusal: Some(refusal), .. } => {
                json!({"finishReason": "SAFETY", "finishMessage": refusal, "index": 0})
            }
            Said { finish_reason: "length", .. } => json!({"finishReason": "MAX_TOKENS", "index": 0}),
            _ => json!({"finishReason": "STOP", "index": 0}),
        }
    }

    fn generation(&self, candidate: Value, usage: Value) -> Value {
        let mut response =
            json!({"candidates": [candidate], "modelVersion": "m", "responseId": format!("req-{}", self.number)});
        if usage.is_object() {
            response["usageMetadata"] = usage;
        }
        response
    }

    pub fn generated(&self) -> Value {
        let mut candidate = self.finish();
        // Where there is no text there is no content at all.
        if let Some(text) = self.said.content.as_deref().filter(|text| !text.is_empty()) {
            let parts = json!([{"text": "Well.", "thought": true}, {"text": text, "thoughtSignature": "x"}]);
            candidate["content"] = json!({"role": "model", "parts": parts});
        }
        self.generation(candidate, self.gemini_usage())
    }

    /// The same as a stream, with thinking before the text, in lines that end as Google's do.
    pub fn generated_events(&self, act: &Act) -> Response {
        let mut response = Response::new(200, "text/event-stream", "");
        response.is_events = true;
        let mut text = String::new();
        let event = |text: &mut String, data: &str| *text += &format!("data: {data}\r\n\r\n");
        let is_bare = matches!(act, Act::Bare);
        let input = self.told.input;
        let so_far = if is_bare { Value::Null } else { json!({"promptTokenCount": input, "totalTokenCount": input}) };
        let piece = |part: Value| {
            let candidate = json!({"content": {"role": "model", "parts": [part]}, "index": 0});
            self.generation(candidate, so_far.clone()).to_string()
        };
        event(&mut text, &piece(json!({"text": "Well.", "thought": true})));
        let (content, at, ends) = self.said.up_to(act);
        let say = |text: &mut String, content: &str| {
            for letters in pieces(content) {
                event(text, &piece(json!({"text": letters})));
            }
        };
        say(&mut text, &content[..at]);
        if let Act::ErrorAfter { data, .. } = act {
            event(&mut text, data);
        }
        if !ends {
            response.pause_at = text.len();
            say(&mut text, &content[at..]);
            let usage = if is_bare { Value::Null } else { self.gemini_usage() };
            event(&mut text, &self.generation(self.finish(), usage).to_string());
        }
        response.body = text.into_bytes();
        response
    }
}
