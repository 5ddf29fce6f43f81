//! Texts that are to become vectors, and what comes of them; neutral to providers.

use serde_json::{Map, Value};

use super::Usage;

/// Texts that are to become vectors, in one request.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedRequest {
    /// The model.
    pub model: String,
    /// The texts; none is empty, which some providers refuse.
    pub texts: Vec<String>,
    /// How many numbers a vector is to have, if not as many as the model makes by itself.
    pub dimensions: Option<u32>,
    /// What the vectors are for, in the provider's own word: `RETRIEVAL_DOCUMENT`, `document`.
    pub task: Option<String>,
    /// What else is said to the provider, by its own names.
    pub params: Map<String, Value>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// A vector for each text, in their order. None where the provider gave none, an empty one, or one with a number that is not
    /// finite. How many numbers it has is the provider's word: some make more than they were asked for.
    pub vectors: Vec<Option<Vec<f32>>>,
    /// What it took; nothing where that was not said.
    pub usage: Usage,
    /// The provider's name for the request.
    pub request_id: Option<String>,
}

/// How much a provider takes in one request for vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbedLimits {
    /// The most texts.
    pub texts: usize,
    /// The most tokens of all of them, where that is known.
    pub tokens: Option<u64>,
    /// The most tokens of one text, where that is known.
    pub each: Option<u64>,
}
