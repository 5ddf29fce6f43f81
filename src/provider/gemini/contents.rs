//! Contents that Google keeps under a name, for requests that begin alike.

use serde_json::{Value, json};

use super::{Gemini, said};
use crate::llm::Request;
use crate::provider::http::Reply;
use crate::provider::keep::{Keeper, Made};
use crate::provider::wire::{self, Refusal, Refused};

/// Where prefixes are kept.
pub(super) const CACHES: &str = "cachedContents";

/// For how long, if the run does not take them away itself. What is kept is paid for by the time.
const KEPT_FOR: &str = "600s";

impl Keeper for Gemini {
    fn make(&self, request: &Request, refused: &Refused) -> Option<(String, Value)> {
        let (system, _) = said(request, refused);
        // Only what is Google's own can be kept.
        let is_own = !request.model.contains('/') || request.model.starts_with("models/");
        if system.is_empty() || !is_own || refused.has(CACHES) {
            return None;
        }
        let model = format!("models/{}", request.model.trim_start_matches("models/"));
        let body =
            json!({"model": model, "systemInstruction": {"parts": system}, "ttl": KEPT_FOR, "displayName": "genmake"});
        Some((format!("/{CACHES}"), body))
    }

    fn made(&self, reply: &Reply) -> Made {
        let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
        let at = |pointer: &str| body.as_ref().and_then(|body| body.pointer(pointer));
        let is_name = |name: &&str| {
            let id = name.strip_prefix(CACHES).and_then(|name| name.strip_prefix('/')).unwrap_or_default();
            !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if let (200..300, Some(name)) = (reply.status, at("/name").and_then(Value::as_str).filter(is_name)) {
            let tokens = wire::tokens(at("/usageMetadata/totalTokenCount")).unwrap_or(0);
            return Made::Kept(name.to_owned(), tokens);
        }
        // What is said of a key, a limit or one prefix is no word on the next run's.
        match reply.status {
            404 | 405 | 501 => Made::Refused(Refusal::Part(CACHES.to_owned())),
            _ => Made::Not,
        }
    }

    fn read(&self, body: &mut Value, name: &str) {
        if let Value::Object(body) = body {
            body.shift_remove("systemInstruction");
            body.insert("cachedContent".to_owned(), name.into());
        }
    }

    fn is_gone(&self, reply: &Reply) -> bool {
        let says_so = || {
            let said = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
            said.contains("cachedcontent") || said.contains("cached content")
        };
        matches!(reply.status, 403 | 404) || (reply.status == 400 && says_so())
    }

    fn place(&self, name: &str) -> String {
        format!("/{name}")
    }
}
