//! Embeddings in OpenAI's form, as OpenAI and those who took it over really give them. Pure: values in, values out.
//!
//! From the API references and from recorded traffic: vectors in base64 are floats of 32 bits, the lowest byte first; which text a
//! vector is of stands beside it, and its place in the list says nothing. Some servers know no base64, some send numbers all the
//! same; some models have one length only. Voyage says of tokens the total alone, and has names of its own for the length and what
//! the vectors are for. A text that is longer than llama.cpp computes at once is a status 500 there.

use serde_json::{Value, json};

use super::unsupported::{self, Parts, word_at};
use crate::llm::{EmbedRequest, Embedded, Usage};
use crate::provider::embeds::{self, Embeds};
use crate::provider::http::{self, Reply};
use crate::provider::openai;
use crate::provider::wire::{self, Refusal, Refused};
use crate::provider::{EmbedLimits, Failure, FailureKind};

/// What makers of models take, and what they call it.
struct Maker {
    hosts: &'static [&'static str],
    limits: EmbedLimits,
    /// The most tokens of all texts, for models whose names have this in them; the first that fits.
    of_models: &'static [(&'static str, u64)],
    /// Its name for how many numbers a vector is to have.
    dimensions: &'static str,
    /// Its name for what the vectors are for, if it asks.
    task: Option<&'static str>,
}

/// Those whose limits are published. OpenAI's and Voyage's stand in their API references; Cohere's are of its own API, which its
/// address for OpenAI's clients leads to, and so are Google's.
const MAKERS: &[Maker] = &[
    Maker {
        hosts: &["api.openai.com"],
        limits: EmbedLimits { texts: 2048, tokens: Some(300_000), each: Some(8192) },
        of_models: &[],
        dimensions: "dimensions",
        task: None,
    },
    Maker {
        hosts: &["api.voyageai.com"],
        limits: EmbedLimits { texts: 1000, tokens: Some(120_000), each: Some(32_000) },
        of_models: &[
            ("voyage-4-lite", 1_000_000),
            ("voyage-3.5-lite", 1_000_000),
            ("voyage-4-large", 120_000),
            ("voyage-4", 320_000),
            ("voyage-3.5", 320_000),
        ],
        dimensions: "output_dimension",
        task: Some("input_type"),
    },
    Maker { hosts: &["api.cohere.com", "api.cohere.ai"], limits: of_texts(96), ..OTHER },
    Maker { hosts: &["generativelanguage.googleapis.com"], limits: of_texts(100), ..OTHER },
];

/// Everybody else. There are servers that take no more than 32 texts unless they are told to (text-embeddings-inference), and one
/// that computes on this machine answers so many within its timeout. On loopback a request more costs nothing.
const OTHER: Maker =
    Maker { hosts: &[], limits: of_texts(32), of_models: &[], dimensions: "dimensions", task: Some("input_type") };

const fn of_texts(texts: usize) -> EmbedLimits {
    EmbedLimits { texts, tokens: None, each: None }
}

/// What is not said twice, and cannot be left out.
const REQUIRED: &[&str] = &["model", "input"];

/// How vectors are to be written.
const ENCODING: &str = "encoding_format";

/// What numbers a vector is to have, by Voyage's name: those that are no floats of 32 bits would be read wrongly.
const NUMBERS: &str = "output_dtype";

/// What servers say of a text that is too long, whatever status they give it: llama.cpp, and others around it.
const TOO_LONG: &[&str] = &["too large to process", "too big compared to kv size", "exceeds the context length"];

/// Embeddings in OpenAI's form.
pub(in crate::provider) struct Embeddings {
    maker: &'static Maker,
}

impl Embeddings {
    pub fn new(base_url: &str) -> Embeddings {
        let host = http::host(base_url);
        let maker = MAKERS.iter().find(|maker| maker.hosts.contains(&host.as_str()));
        Embeddings { maker: maker.unwrap_or(const { &OTHER }) }
    }
}

impl Embeds for Embeddings {
    fn limits(&self, model: &str) -> EmbedLimits {
        let Maker { limits, of_models, .. } = self.maker;
        let of_model = of_models.iter().find(|(name, _)| model.contains(name)).map(|(_, tokens)| *tokens);
        EmbedLimits { tokens: of_model.or(limits.tokens), ..*limits }
    }

    fn path(&self, _: &EmbedRequest) -> String {
        "/embeddings".to_owned()
    }

    fn body(&self, request: &EmbedRequest, refused: &Refused) -> Value {
        let mut body = json!({"model": request.model, "input": request.texts});
        let mut field = |name: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|_| !refused.has(name)) {
                body[name] = value;
            }
        };
        let has_floats = request.params.get(NUMBERS).is_none_or(|numbers| numbers == "float");
        field(ENCODING, has_floats.then(|| "base64".into()));
        field(self.maker.dimensions, request.dimensions.map(Value::from));
        if let Some(name) = self.maker.task {
            field(name, request.task.clone().map(Value::from));
        }
        for (name, value) in request.params.iter().filter(|(name, _)| !REQUIRED.contains(&name.as_str())) {
            field(name, Some(value.clone()));
        }
        body
    }

    fn refusal(&self, sent: &Value, reply: &Reply) -> Option<Refusal> {
        let all = sent.as_object()?.keys().map(String::as_str);
        let fields: Vec<&str> = all.filter(|name| !REQUIRED.contains(name)).collect();
        let parts = Parts { fields: &fields, schema: ("/no schema", &[]), limits: &[] };
        // Numbers are understood as well, so that it is left out at any word against it.
        let of_encoding = || {
            let said = String::from_utf8_lossy(&reply.body).to_ascii_lowercase();
            let is_named = word_at(&said, ENCODING).is_some() || word_at(&said, "base64").is_some();
            let is_meant = matches!(reply.status, 400 | 422 | 501) && sent.get(ENCODING).is_some() && is_named;
            is_meant.then(|| Refusal::Part(ENCODING.to_owned()))
        };
        unsupported::refusal(&parts, sent, reply).or_else(of_encoding)
    }

    fn answer(&self, request: &EmbedRequest, reply: &Reply) -> Result<Embedded, Failure> {
        let body: Option<Value> = serde_json::from_slice(&reply.body).ok();
        let request_id = openai::request_id(reply);
        // Some gateways send an error with status 200.
        let error = body.as_ref().and_then(|body| body.get("error")).filter(|error| !error.is_null());
        let data = body.as_ref().and_then(|body| body.get("data")).and_then(Value::as_array);
        let is_good = (200..300).contains(&reply.status) && error.is_none();
        let Some(data) = data.filter(|_| is_good) else {
            let said = if is_good { None } else { error.or(body.as_ref()) };
            return Err(failure(reply, said, request_id));
        };
        let usage = body.as_ref().map(usage).unwrap_or_default();
        Ok(Embedded { vectors: vectors(request.texts.len(), data), usage, request_id })
    }
}

/// The vectors of so many texts, by the index beside each. One without an index is nobody's, unless there is one text only; two of
/// one text are, too.
fn vectors(texts: usize, data: &[Value]) -> Vec<Option<Vec<f32>>> {
    let index = |item: &Value| item.get("index").and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
    let mut said: Vec<Vec<&Value>> = vec![Vec::new(); texts];
    for item in data {
        let index = index(item).or_else(|| (texts == 1 && data.len() == 1).then_some(0));
        if let Some(said) = index.and_then(|index| said.get_mut(index)) {
            said.push(item);
        }
    }
    let one = |said: Vec<&Value>| match said.as_slice() {
        [item] => embeds::vector(item.get("embedding")?),
        _ => None,
    };
    said.into_iter().map(one).collect()
}

/// The tokens that a body says; some say the total alone.
fn usage(body: &Value) -> Usage {
    let count = |pointer: &str| wire::tokens(body.pointer(pointer)).filter(|tokens| *tokens > 0);
    let input = count("/usage/prompt_tokens").or_else(|| count("/usage/total_tokens")).unwrap_or(0);
    Usage { input, ..Usage::default() }
}

fn failure(reply: &Reply, error: Option<&Value>, request_id: Option<String>) -> Failure {
    let failure = openai::failure(reply, error, request_id);
    let said = failure.message.to_ascii_lowercase();
    match TOO_LONG.iter().any(|words| said.contains(words)) {
        true => Failure { kind: FailureKind::Rejected, retry_after: None, ..failure },
        false => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
}
