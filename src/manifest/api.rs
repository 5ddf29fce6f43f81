//! What providers speak, and who made it.

use crate::path::RelPath;

/// A wire format, or what answers in place of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Api {
    /// OpenAI's chat completions, and every server that speaks them.
    OpenAi,
    /// OpenAI's responses.
    OpenAiResponses,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
    /// A command of the Genfile.
    Command(Command),
    /// Recordings, in this folder.
    Replay(RelPath),
}

/// A command that answers requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// For the shell.
    pub line: String,
    /// What it is given.
    pub stdin: Stdin,
}

/// What a command is given of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stdin {
    /// All of it, as JSON.
    #[default]
    Json,
    /// Its texts.
    Text,
}

impl Api {
    /// A wire format by its name in a Genfile.
    pub(super) fn named(name: &str) -> Option<Api> {
        match name {
            "openai" => Some(Api::OpenAi),
            "openai-responses" => Some(Api::OpenAiResponses),
            "anthropic" => Some(Api::Anthropic),
            "gemini" => Some(Api::Gemini),
            _ => None,
        }
    }

    /// Its name in a Genfile.
    pub fn name(&self) -> &'static str {
        match self {
            Api::OpenAi => "openai",
            Api::OpenAiResponses => "openai-responses",
            Api::Anthropic => "anthropic",
            Api::Gemini => "gemini",
            Api::Command(_) => "command",
            Api::Replay(_) => "replay",
        }
    }

    /// The address of whoever made it; empty where there is none.
    pub(super) fn base_url(&self) -> &'static str {
        match self {
            Api::Command(_) | Api::Replay(_) => "",
            Api::OpenAi | Api::OpenAiResponses => "https://api.openai.com/v1",
            Api::Anthropic => "https://api.anthropic.com/v1",
            Api::Gemini => "https://generativelanguage.googleapis.com/v1beta",
        }
    }

    /// The host of whoever made it, which gets keys without being named by a person; empty where there is none.
    pub fn host(&self) -> &'static str {
        match self {
            Api::Command(_) | Api::Replay(_) => "",
            Api::OpenAi | Api::OpenAiResponses => "api.openai.com",
            Api::Anthropic => "api.anthropic.com",
            Api::Gemini => "generativelanguage.googleapis.com",
        }
    }
}
