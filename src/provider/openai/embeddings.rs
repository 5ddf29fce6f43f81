//! Embeddings in OpenAI's form, as OpenAI and those who took it over really give them. Pure: values in, values out.
//!
//! From the API references and from recorded traffic: vectors in base64 are floats of 32 bits, the lowest byte first; which text a
//! vector is of stands beside it, and its place in the list says nothing. Some servers know no base64, some send numbers all the
//! same; some models have one length only. Voyage says of tokens the total alone, and has names of its own for the length and what
//! the vectors are for. A text that is longer than llama.cpp computes at once is a status 500 there.

use serde_json::{Value, json};

use super::unsupported::{self, Parts, word_at};
use crate::llm::EmbedLimits;
use crate::llm::{EmbedRequest, Embedded, Usage};
use crate::provider::embeds::{self, Embeds};
use crate::provider::http::{self, Reply};
use crate::provider::openai;
use crate::provider::wire::{self, Refusal, Refused};
use crate::provider::{Failure, FailureKind};

/// What makers of models take, and what they call it.
struct Maker {
    hosts: &'static [&'static str],
    limits: EmbedLimits,
    /// The same for models whose names have this in them; the first that fits.
    of_models: &'static [(&'static str, EmbedLimits)],
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
        limits: EmbedLimits { texts: 1000, tokens: Some(120_000), each: None },
        of_models: &[
            ("voyage-4-lite", of_voyage(1_000_000)),
            ("voyage-3.5-lite", of_voyage(1_000_000)),
            ("voyage-4-large", of_voyage(120_000)),
            ("voyage-code-3", of_voyage(120_000)),
            ("voyage-4", of_voyage(320_000)),
            ("voyage-3.5", of_voyage(320_000)),
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

const fn of_voyage(tokens: u64) -> EmbedLimits {
    EmbedLimits { texts: 1000, tokens: Some(tokens), each: Some(32_000) }
}

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
        let of_model = self.maker.of_models.iter().find(|(name, _)| model.contains(name));
        of_model.map_or(self.maker.limits, |(_, limits)| *limits)
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
    use crate::provider::wire::tests::{refused, reply};

    fn asking() -> EmbedRequest {
        let params = json!({"user": "u", "input": "mine"}).as_object().unwrap().clone();
        let (texts, task) = (vec!["a".to_owned(), "b".to_owned()], Some("query".to_owned()));
        EmbedRequest { model: "m".to_owned(), texts, dimensions: Some(256), task, params }
    }

    fn at(host: &str) -> Embeddings {
        Embeddings::new(&format!("https://{host}/v1"))
    }

    #[test]
    fn bodies_by_whom_they_go_to() {
        let none = refused(&[]);
        let base = |name: &str, task: bool| {
            let mut body = json!({"model": "m", "input": ["a", "b"], "encoding_format": "base64"});
            body[name] = 256.into();
            if task {
                body["input_type"] = "query".into();
            }
            body["user"] = "u".into();
            body
        };
        for (host, want) in [
            ("api.openai.com", base("dimensions", false)),
            ("api.voyageai.com", base("output_dimension", true)),
            ("api.cohere.ai", base("dimensions", true)),
            ("127.0.0.1:8080", base("dimensions", true)),
        ] {
            assert_eq!(at(host).body(&asking(), &none), want, "{host}");
        }
        let other = at("llm.acme.dev");
        let bare = other.body(&asking(), &refused(&["encoding_format", "dimensions", "input_type", "user"]));
        assert_eq!(bare, json!({"model": "m", "input": ["a", "b"]}));
        let mut packed = asking();
        packed.params.insert("output_dtype".to_owned(), "int8".into());
        assert_eq!(at("api.voyageai.com").body(&packed, &none).get("encoding_format"), None);
        packed.params.insert("encoding_format".to_owned(), "float".into());
        assert_eq!(other.body(&packed, &none)["encoding_format"], "float");
    }

    #[test]
    fn what_is_refused_is_left_out() {
        let server = at("llm.acme.dev");
        let sent = server.body(&asking(), &refused(&[]));
        for (status, said, want) in [
            (400, "Unknown parameter: 'encoding_format'.", Some("encoding_format")),
            (
                400,
                "encoding_format: value is not a valid enumeration member; permitted: 'float'",
                Some("encoding_format"),
            ),
            (422, "base64 is for others", Some("encoding_format")),
            (400, "This model does not support specifying dimensions.", Some("dimensions")),
            (
                400,
                "Model m does not support matryoshka representation, changing output dimensions will lead to poor results.",
                Some("dimensions"),
            ),
            (422, "body.input_type: Extra inputs are not permitted", Some("input_type")),
            (400, "property 'user' is unsupported", Some("user")),
            (400, "dimensions must be at most 1536", None),
            (400, "unknown model: input", None),
            (400, "maximum input length is 8192 tokens", None),
            (500, "encoding_format", None),
        ] {
            let body = json!({"error": {"message": said}}).to_string();
            let want = want.map(|name| Refusal::Part(name.to_owned()));
            assert_eq!(server.refusal(&sent, &reply(status, &body, &[])), want, "{said}");
        }
    }

    fn read(texts: usize, status: u16, body: &Value) -> Result<Embedded, Failure> {
        let request = EmbedRequest { texts: vec!["a".to_owned(); texts], ..asking() };
        at("llm.acme.dev").answer(&request, &reply(status, &body.to_string(), &[("x-request-id", "r")]))
    }

    #[test]
    fn each_vector_is_of_the_text_that_its_index_says() {
        let item = |index: Value, number: f32| json!({"index": index, "embedding": [number]});
        let found = |data: Value| read(3, 200, &json!({"data": data})).unwrap().vectors;
        let some = |number: f32| Some(vec![number]);
        assert_eq!(
            found(json!([item(json!(2), 3.0), item(json!(0), 1.0), item(json!(1), 2.0)])),
            [some(1.0), some(2.0), some(3.0)]
        );
        // Two of one text, of a text that there is not, and of nobody knows which.
        assert_eq!(
            found(json!([item(json!(0), 1.0), item(json!(0), 2.0), item(json!(2), 3.0)])),
            [None, None, some(3.0)]
        );
        assert_eq!(
            found(json!([item(json!(3), 1.0), item(json!(-1), 2.0), item(Value::Null, 3.0)])),
            [None, None, None]
        );
        assert_eq!(found(json!([])), [None, None, None]);
        let alone = read(1, 200, &json!({"data": [{"embedding": [1.0]}]})).unwrap();
        assert_eq!(alone.vectors, [some(1.0)]);
    }

    #[test]
    fn tokens_under_either_name() {
        let says = |usage: Value| {
            let embedded = read(1, 200, &json!({"data": [], "usage": usage})).unwrap();
            assert_eq!(embedded.request_id.as_deref(), Some("r"));
            embedded.usage
        };
        let tokens = |input| Usage { input, ..Usage::default() };
        assert_eq!(says(json!({"prompt_tokens": 7, "total_tokens": 9})), tokens(7));
        assert_eq!(says(json!({"total_tokens": 9})), tokens(9));
        assert_eq!(says(json!({"prompt_tokens": 0, "total_tokens": -1})), tokens(0));
        assert_eq!(says(Value::Null), tokens(0));
    }

    #[test]
    fn failures_by_what_can_be_done() {
        let kind = |status, body: Value| read(1, status, &body).unwrap_err().kind;
        let says = |message: &str| json!({"error": {"message": message, "code": 500, "type": "server_error"}});
        for long in [
            "input is too large to process. increase the physical batch size",
            "input (992 tokens) is too large to process. increase the physical batch size (current batch size: 512)",
            "input prompt is too big compared to KV size, please increase KV size",
            "the input length exceeds the context length",
        ] {
            assert_eq!(kind(500, says(long)), FailureKind::Rejected, "{long}");
        }
        assert_eq!(kind(500, says("out of memory")), FailureKind::Server);
        // As text-embeddings-inference, Voyage and Cohere have them.
        let batch = json!({"error": "batch size 66 > maximum allowed batch size 32", "error_type": "Validation"});
        assert_eq!(kind(413, batch.clone()), FailureKind::Rejected);
        assert_eq!(read(1, 413, &batch).unwrap_err().message, "batch size 66 > maximum allowed batch size 32");
        let detail = json!({"detail": "The max allowed tokens per submitted batch is 120000."});
        assert_eq!(read(1, 400, &detail).unwrap_err().message, "The max allowed tokens per submitted batch is 120000.");
        assert_eq!(read(1, 429, &json!({"message": "slowly"})).unwrap_err().message, "slowly");
        assert_eq!(
            kind(501, says("This server does not support embeddings. Start it with `--embeddings`")),
            FailureKind::Rejected
        );
        // What is no answer, and an error with a good status.
        assert_eq!(kind(200, json!({"object": "list"})), FailureKind::Server);
        assert_eq!(
            kind(200, json!({"data": null, "error": {"message": "no", "code": "invalid_api_key"}})),
            FailureKind::Refused
        );
    }
}
