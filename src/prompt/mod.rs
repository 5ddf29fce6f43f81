//! Prompt files: front matter and a Handlebars body that says who speaks.
//!
//! A `.prompt` file is a Dotprompt file (<https://google.github.io/dotprompt/>): YAML front matter between `---` lines, and a
//! body with `{{role "system"}}`. Any other file is a body alone, spoken by the user.
//!
//! There are two readings of it. In a rule ([`parse`], [`messages`]) what is not understood is an error, and the body is
//! rendered strictly, with genmake's names. By itself ([`Dotprompt`]) it is rendered with the format's own semantics.

#[cfg(feature = "run")]
mod dotprompt;
mod front;
mod messages;
mod picoschema;

#[cfg(feature = "run")]
pub use dotprompt::{Data, Dotprompt};
pub use front::{Input, OutputSchema, PromptFile, parse};
pub use messages::{Media, messages};

/// Who speaks a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The instructions: the stable prefix.
    System,
    /// The task.
    User,
    /// What the model said, in a conversation.
    Model,
}

impl Role {
    /// As written in `{{role "…"}}`.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Model => "model",
        }
    }
}

/// One message to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: String,
}
