//! Vectors: what formats have in common that make them, how much is asked for at once, and how a vector is read, in whichever
//! form it comes. Pure.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::Failure;
use super::gemini::Gemini;
use super::http::Reply;
use super::openai::embeddings::Embeddings;
use super::wire::{Refusal, Refused};
use crate::llm::EmbedLimits;
use crate::llm::{EmbedRequest, Embedded};
use crate::manifest::{self, Api};

/// How a format asks for vectors.
pub(super) trait Embeds: Send + Sync {
    /// How much a request may have for a model.
    fn limits(&self, model: &str) -> EmbedLimits;

    /// Where a request goes, below the provider's address.
    fn path(&self, request: &EmbedRequest) -> String;

    /// The body of a request, without what the server refuses.
    fn body(&self, request: &EmbedRequest, refused: &Refused) -> Value;

    /// What a reply says that the server refuses of the body that was sent, if a request can go without it.
    fn refusal(&self, sent: &Value, reply: &Reply) -> Option<Refusal>;

    /// The vectors in a reply.
    ///
    /// # Errors
    /// What the status says, in the provider's own words.
    fn answer(&self, request: &EmbedRequest, reply: &Reply) -> Result<Embedded, Failure>;
}

/// How a server is asked for vectors; none where its format has no way.
pub(super) fn of(declared: &manifest::Provider) -> Option<Box<dyn Embeds>> {
    match &declared.api {
        Api::OpenAi | Api::OpenAiResponses => Some(Box::new(Embeddings::new(&declared.base_url))),
        Api::Gemini => Some(Box::new(Gemini)),
        Api::Anthropic | Api::Command(_) | Api::Replay(_) => None,
    }
}

/// How many texts a command is given: each is started anew, and of its output no more than 64 MB are read, in which so many
/// vectors of 4,096 numbers have room.
const OF_A_COMMAND: usize = 256;

/// How many texts recordings are asked for: they answer for each text alone.
const OF_RECORDINGS: usize = 2048;

/// How much one request for vectors may have; none where the provider's format has no embeddings.
pub fn embed_limits(declared: &manifest::Provider, model: &str) -> Option<EmbedLimits> {
    let unbounded = |texts| EmbedLimits { texts, tokens: None, each: None };
    match &declared.api {
        Api::Command(_) => Some(unbounded(OF_A_COMMAND)),
        Api::Replay(_) => Some(unbounded(OF_RECORDINGS)),
        _ => Some(of(declared)?.limits(model)),
    }
}

/// Base64 as it is sent, with the `=` at its end and without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A vector as somebody says it: a list of numbers, or base64 of floats of 32 bits, the lowest byte of each first. None where it is
/// no such thing, has nothing in it, or something that is not finite.
pub(super) fn vector(said: &Value) -> Option<Vec<f32>> {
    let vector: Vec<f32> = match said {
        Value::Array(numbers) => {
            numbers.iter().map(|number| Some(number.as_f64()? as f32)).collect::<Option<Vec<f32>>>()?
        }
        Value::String(text) => {
            let bytes = BASE64.decode(text).ok()?;
            let (floats, rest) = bytes.as_chunks::<4>();
            if !rest.is_empty() {
                return None;
            }
            floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        _ => return None,
    };
    (!vector.is_empty() && vector.iter().all(|number| number.is_finite())).then_some(vector)
}

/// A vector in base64: a third of what its numbers take, and each of them to the last bit.
pub(super) fn packed(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    BASE64.encode(bytes)
}

/// The same vector with a length of 1, if it has any length.
pub(super) fn of_length_one(vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>().sqrt();
    match length > 0.0 {
        true => vector.iter().map(|number| (f64::from(*number) / length) as f32).collect(),
        false => vector,
    }
}

#[cfg(test)]
mod tests;
