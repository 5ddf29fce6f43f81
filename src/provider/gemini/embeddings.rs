//! Embeddings of Google's: a list of requests in one call, and a list of vectors in the same order.
//!
//! From Google's pages on embeddings and from recorded traffic: more than 100 texts in a call are refused; what a call took is said
//! by newer models alone. A vector of `gemini-embedding-001` has a length of 1 only where it has all of its 3,072 numbers; of a
//! shorter one Google's page on embeddings says that whoever gets it has to bring it to that length.

use serde_json::{Value, json};

use super::{Gemini, error, failure, in_folder, in_path, request_id};
use crate::llm::EmbedLimits;
use crate::llm::{EmbedRequest, Embedded, Usage};
use crate::provider::embeds::{self, Embeds};
use crate::provider::http::Reply;
use crate::provider::wire::{self, Refusal, Refused};
use crate::provider::{Failure, FailureKind};

/// How many texts a call may have: `BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch`.
const MOST: usize = 100;

/// How many tokens of a text are read, by model; the first whose name begins so.
const WINDOWS: &[(&str, u64)] = &[("gemini-embedding-001", 2048), ("gemini-embedding-2", 8192)];

/// What a call can go without.
const PARTS: &[&str] = &["taskType", "outputDimensionality"];

/// What is said of something that a model does not know. What is out of bounds is a mistake of whoever set it.
const UNKNOWN: &[&str] = &["not support", "unsupported", "unknown name", "not available", "not allowed"];

impl Embeds for Gemini {
    fn limits(&self, model: &str) -> EmbedLimits {
        let name = model.rsplit('/').next().unwrap_or_default();
        let each = WINDOWS.iter().find(|(model, _)| name.starts_with(model)).map(|(_, tokens)| *tokens);
        EmbedLimits { texts: MOST, tokens: None, each }
    }

    fn path(&self, request: &EmbedRequest) -> String {
        format!("/{}:batchEmbedContents", in_path(&in_folder(&request.model)))
    }

    fn body(&self, request: &EmbedRequest, refused: &Refused) -> Value {
        let model = in_folder(&request.model);
        let one = |text: &String| {
            let mut one = json!({"model": model, "content": {"parts": [{"text": text}]}});
            let own = [request.task.clone().map(Value::from), request.dimensions.map(Value::from)];
            let own = PARTS.iter().zip(own).filter_map(|(name, value)| Some((*name, value?)));
            let others = request.params.iter().map(|(name, value)| (name.as_str(), value.clone()));
            for (name, value) in own.chain(others.filter(|(name, _)| !matches!(*name, "model" | "content"))) {
                if !refused.has(name) {
                    one[name] = value;
                }
            }
            one
        };
        json!({"requests": request.texts.iter().map(one).collect::<Vec<_>>()})
    }

    fn refusal(&self, sent: &Value, reply: &Reply) -> Option<Refusal> {
        if !matches!(reply.status, 400 | 422 | 501) {
            return None;
        }
        let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
        let message = error(body.as_ref())?.get("message")?.as_str()?.to_ascii_lowercase();
        let is_named = |name: &&&str| {
            let snake = super::snake(name);
            [name.to_ascii_lowercase(), snake.replace('_', " "), snake].iter().any(|name| message.contains(name))
        };
        let first = sent.pointer("/requests/0")?;
        let is_unknown = UNKNOWN.iter().any(|words| message.contains(words));
        let part = PARTS.iter().filter(|name| is_unknown && first.get(**name).is_some()).find(is_named)?;
        Some(Refusal::Part((*part).to_owned()))
    }

    fn answer(&self, request: &EmbedRequest, reply: &Reply) -> Result<Embedded, Failure> {
        let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
        let (error, request_id) = (error(body.as_ref()), request_id(reply));
        let said = body.as_ref().and_then(|body| body.get("embeddings")).and_then(Value::as_array);
        let is_good = (200..300).contains(&reply.status) && error.is_none();
        let Some(said) = said.filter(|_| is_good) else { return Err(failure(reply, error, request_id)) };
        let vector = |said: &Value| {
            let vector = embeds::vector(said.get("values")?)?;
            Some(if request.dimensions.is_some() { embeds::of_length_one(vector) } else { vector })
        };
        let vectors = match (said.len(), request.texts.len()) {
            (0, 1) => vec![None],
            (vectors, texts) if vectors == texts => said.iter().map(vector).collect(),
            (vectors, texts) => {
                let message =
                    format!("the provider sent {vectors} vectors for {texts} texts, and does not say of which");
                return Err(Failure { request_id, ..Failure::new(FailureKind::Rejected, message) });
            }
        };
        let tokens = body.as_ref().and_then(|body| body.pointer("/usageMetadata/promptTokenCount"));
        let usage = Usage { input: wire::tokens(tokens).unwrap_or(0), ..Usage::default() };
        Ok(Embedded { vectors, usage, request_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::wire::tests::{refused, reply};

    fn asking(texts: usize, dimensions: Option<u32>) -> EmbedRequest {
        let (texts, params) = (vec!["a".to_owned(); texts], serde_json::Map::new());
        EmbedRequest { model: "m".to_owned(), texts, dimensions, task: Some("CLUSTERING".to_owned()), params }
    }

    fn read(request: &EmbedRequest, status: u16, body: &Value) -> Result<Embedded, Failure> {
        Gemini.answer(request, &reply(status, &body.to_string(), &[]))
    }

    #[test]
    fn a_shorter_vector_is_brought_to_a_length_of_one() {
        let body = json!({"embeddings": [{"values": [3.0, 4.0]}], "usageMetadata": {"promptTokenCount": 5}});
        let vector = |dimensions| read(&asking(1, dimensions), 200, &body).unwrap().vectors.remove(0).unwrap();
        assert_eq!((vector(None), vector(Some(2))), (vec![3.0, 4.0], vec![0.6, 0.8]));
        assert_eq!(read(&asking(1, None), 200, &body).unwrap().usage, Usage { input: 5, ..Usage::default() });
    }

    #[test]
    fn vectors_are_in_the_order_of_their_texts_or_nobodys() {
        let body = |values: &[Value]| json!({"embeddings": values.iter().map(|values| json!({"values": values})).collect::<Vec<_>>()});
        let two = read(&asking(2, None), 200, &body(&[json!([1.0]), json!([])])).unwrap();
        assert_eq!((two.vectors, two.usage), (vec![Some(vec![1.0]), None], Usage::default()));
        assert_eq!(read(&asking(1, None), 200, &body(&[])).unwrap().vectors, [None]);
        for values in [&[json!([1.0])][..], &[json!([1.0]), json!([1.0]), json!([1.0])]] {
            let failure = read(&asking(2, None), 200, &body(values)).unwrap_err();
            assert_eq!(failure.kind, FailureKind::Rejected, "{}", failure.message);
        }
        assert_eq!(read(&asking(1, None), 200, &json!({})).unwrap_err().kind, FailureKind::Server);
    }

    #[test]
    fn what_is_refused_is_left_out() {
        let sent = Gemini.body(&asking(1, Some(8)), &refused(&[]));
        assert_eq!(
            (&sent["requests"][0]["taskType"], &sent["requests"][0]["outputDimensionality"]),
            (&json!("CLUSTERING"), &json!(8))
        );
        for (said, want) in [
            ("Unknown name \"taskType\" at 'requests[0]': Cannot find field.", Some("taskType")),
            ("task_type is not supported for this model", Some("taskType")),
            ("output dimensionality is not supported by m", Some("outputDimensionality")),
            ("outputDimensionality must be between 1 and 3072", None),
            ("* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch", None),
        ] {
            let body = json!({"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}).to_string();
            let want = want.map(|name| Refusal::Part(name.to_owned()));
            assert_eq!(Gemini.refusal(&sent, &reply(400, &body, &[])), want, "{said}");
        }
        let bare = Gemini.body(&asking(1, Some(8)), &refused(&["taskType", "outputDimensionality"]));
        assert_eq!(bare["requests"][0], json!({"model": "models/m", "content": {"parts": [{"text": "a"}]}}));
    }
}
