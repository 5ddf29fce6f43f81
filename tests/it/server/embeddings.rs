//! Embeddings, OpenAI's and Google's: texts that share words have vectors that are near one another.

use super::*;
use base64::prelude::{BASE64_STANDARD, Engine as _};

/// How many texts each takes at once.
const MOST: usize = 2048;
const MOST_OF_GEMINI: usize = 100;

/// How many numbers a vector has, unless another number is asked for.
const DIMENSIONS: usize = 64;

/// What the server does with texts, beside what it is told of one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ways {
    /// Makes vectors of as many numbers as ever, whatever it is asked for.
    pub ignores_dimensions: bool,
    /// Refuses texts of more tokens than these, in these words.
    pub most: Option<(usize, TooLong)>,
}

/// Whose words a text that is too long is refused in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLong {
    /// OpenAI's.
    OpenAi,
    /// llama.cpp's, of a text that is longer than it computes at once: a status 500.
    Batch,
    /// llama.cpp's, of a text that is longer than its window.
    Window,
}

/// The texts that a request wants vectors for; none for any other request.
pub fn texts(request: &Recorded) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match request.format {
        Format::Embeddings if request.body["input"].is_string() => text(&request.body["input"]).into_iter().collect(),
        Format::Embeddings => list(&request.body["input"]).iter().filter_map(text).collect(),
        Format::GeminiEmbeddings => {
            list(&request.body["requests"]).iter().map(|one| content_text(&one["content"]["parts"])).collect()
        }
        _ => Vec::new(),
    }
}

/// What is said of requests that do not keep to the limits.
pub fn refusal(request: &Recorded, ways: Ways) -> Option<Act> {
    let texts = texts(request);
    let of_openai = |code: Value, message: String| {
        let error =
            json!({"error": {"message": message, "type": "invalid_request_error", "param": "input", "code": code}});
        Act::Status { code: 400, headers: Vec::new(), body: error.to_string() }
    };
    match request.format {
        Format::Embeddings if texts.len() > MOST => {
            let message = format!(
                "Invalid 'input': array too long. Expected an array with maximum length {MOST}, but got an array with length {} instead.",
                texts.len()
            );
            return Some(of_openai(json!("array_above_max_length"), message));
        }
        Format::GeminiEmbeddings if texts.len() > MOST_OF_GEMINI => {
            let message = "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n";
            return Some(Act::error(400, "", "", message));
        }
        _ => {}
    }
    if let Some(at) = texts.iter().position(String::is_empty).filter(|_| request.format == Format::Embeddings) {
        return Some(of_openai(Value::Null, format!("Invalid 'input[{at}]': input cannot be an empty string.")));
    }
    let (most, words) = ways.most?;
    let (at, long) = texts.iter().map(|text| of_text(text)).enumerate().find(|(_, tokens)| *tokens > most)?;
    Some(match words {
        TooLong::OpenAi => {
            of_openai(Value::Null, format!("Invalid 'input[{at}]': maximum input length is {most} tokens."))
        }
        TooLong::Batch => {
            let message = format!(
                "input ({long} tokens) is too large to process. increase the physical batch size (current batch size: {most})"
            );
            let error = json!({"error": {"code": 500, "message": message, "type": "server_error"}});
            Act::Status { code: 500, headers: Vec::new(), body: error.to_string() }
        }
        TooLong::Window => {
            let message = format!(
                "request ({long} tokens) exceeds the available context size ({most} tokens), try increasing it"
            );
            let error = json!({"error": {"code": 400, "message": message, "type": "exceed_context_size_error",
                "n_prompt_tokens": long, "n_ctx": most}});
            Act::Status { code: 400, headers: Vec::new(), body: error.to_string() }
        }
    })
}

/// A text's tokens; there is none without any.
pub fn of_text(text: &str) -> usize {
    tokens(text.chars().count()).max(1)
}

/// The body of an answer.
pub fn answer(act: &Act, number: usize, request: &Recorded, ways: Ways, input: usize) -> Value {
    let body = &request.body;
    let wanted = |value: &Value| value.as_u64().and_then(|wanted| usize::try_from(wanted).ok());
    let of_first = body.pointer("/requests/0/outputDimensionality").unwrap_or(&Value::Null);
    let wanted = [&body["dimensions"], &body["output_dimension"], of_first].into_iter().find_map(wanted);
    let dimensions = wanted.filter(|_| !ways.ignores_dimensions);
    let is_gemini = request.format == Format::GeminiEmbeddings;
    let vector = |(at, text): (usize, String)| match act {
        Act::EmptyVector(empty) if *empty == at => Vec::new(),
        _ => vector(&text, dimensions, !is_gemini),
    };
    let vectors: Vec<Vec<f32>> = texts(request).into_iter().enumerate().map(vector).collect();
    if is_gemini {
        let said: Vec<Value> = vectors.iter().map(|vector| json!({"values": vector})).collect();
        let left =
            said.into_iter().enumerate().filter(|(at, _)| !matches!(act, Act::MissingVector(lost) if lost == at));
        let said: Vec<Value> = left.map(|(_, said)| said).collect();
        return json!({"embeddings": said, "usageMetadata": {"promptTokenCount": input}});
    }
    let is_packed = body["encoding_format"] == "base64" && !matches!(act, Act::Numbers);
    let item = |(at, vector): (usize, &Vec<f32>)| {
        let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let said = if is_packed { json!(BASE64_STANDARD.encode(bytes)) } else { json!(vector) };
        json!({"object": "embedding", "index": at, "embedding": said})
    };
    let mut data: Vec<Value> = vectors.iter().enumerate().map(item).collect();
    match act {
        Act::Shuffled => data.reverse(),
        Act::MissingVector(lost) => data.retain(|item| item["index"] != *lost),
        Act::NoIndex => data.iter_mut().for_each(|item| item["index"] = Value::Null),
        _ => {}
    }
    json!({
        "object": "list",
        "id": format!("embd-{number}"),
        "data": data,
        "model": body["model"],
        "usage": {"prompt_tokens": input, "total_tokens": input},
    })
}

/// The texts whose vectors are in a body.
pub fn delivered(request: &Recorded, body: &Value) -> Vec<String> {
    let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
    let has =
        |said: &Value| said.as_array().is_some_and(|v| !v.is_empty()) || said.as_str().is_some_and(|v| !v.is_empty());
    let texts = texts(request);
    let by_index = list("data").into_iter().filter(|item| has(&item["embedding"]));
    let by_index = by_index.filter_map(|item| texts.get(usize::try_from(item["index"].as_u64()?).ok()?).cloned());
    let by_place: Vec<Value> = list("embeddings");
    let is_whole = by_place.len() == texts.len();
    let by_place = by_place.iter().zip(&texts).filter(|(said, _)| is_whole && has(&said["values"]));
    by_index.chain(by_place.map(|(_, text)| text.clone())).collect()
}

/// A text's vector: its words, each by its hash in two places, of which one is among the first eight. It has a length of 1, unless it
/// is a part of a longer one and nobody brought it to that.
pub fn vector(text: &str, dimensions: Option<usize>, is_always_one: bool) -> Vec<f32> {
    let size = dimensions.unwrap_or(DIMENSIONS);
    let mut vector = vec![0.0_f32; size.max(DIMENSIONS)];
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    for word in if words.is_empty() { vec![lower.as_str()] } else { words } {
        let hash = fnv1a(word.as_bytes());
        let place = |hash: u64, of: usize| usize::try_from(hash % of as u64).unwrap_or(0);
        vector[place(hash >> 8, DIMENSIONS)] += 1.0;
        vector[place(hash >> 32, 8)] += 0.5;
    }
    let to_one = |vector: &mut Vec<f32>| {
        let length = vector.iter().map(|number| number * number).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|number| *number /= length.max(f32::MIN_POSITIVE));
    };
    to_one(&mut vector);
    vector.truncate(size);
    if is_always_one && size < DIMENSIONS {
        to_one(&mut vector);
    }
    vector
}
