//! How providers keep the starts of prompts: what is there to read, what is written, and when.
//!
//! In messages a start is kept that is marked, up to the mark, if it has as many tokens as the model wants at least; it is found where
//! a mark is, or up to 20 blocks before one. Elsewhere every
//! start is kept that has enough, in steps. Either way it is there to read once the answer that writes it has begun, and the schema of
//! the answer stands before all.

use std::collections::BTreeMap;

use super::*;

/// What is kept.
#[derive(Default)]
pub struct Cache {
    /// What was marked.
    marked: BTreeMap<String, Start>,
    /// What was said after each schema, by the key that a request gives its kind.
    said: BTreeMap<String, Vec<String>>,
}

/// The start of a prompt that was marked.
struct Start {
    /// Whether it is kept for an hour.
    is_long: bool,
    writes: usize,
    reads: usize,
}

/// What the cache makes of a request, in tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    pub read: usize,
    pub written: usize,
    /// Of those written, the ones that are kept for an hour.
    pub written_long: usize,
}

/// The most marks that a request may have.
const MOST_MARKS: usize = 4;

impl Format {
    /// The tokens that a start must have, and the steps in which more are kept, where nothing has to be marked.
    fn keeps_by_itself(self) -> Option<(usize, usize)> {
        match self {
            Format::Chat | Format::Responses => Some((1024, 128)),
            Format::Gemini => Some((2048, 1)),
            Format::Messages | Format::Embeddings | Format::GeminiEmbeddings => None,
        }
    }
}

impl Cache {
    /// What of a request is there, and what its answer will write.
    pub fn look(&mut self, request: &Recorded) -> Kept {
        if let Some((minimum, step)) = request.keeps_by_itself() {
            let (kind, said) = request.whole_prompt();
            let before = self.said.get(&kind).into_iter().flatten();
            let alike = before.clone().map(|before| alike(before, &said)).max().unwrap_or(0);
            let read = tokens(alike) / step * step;
            let whole = tokens(said.chars().count());
            return match request.is_by_breakpoints() {
                // It is found again where it ended, and nowhere before; what is kept costs.
                true if whole < minimum => Kept::default(),
                true if before.into_iter().any(|before| *before == said) => Kept { read: whole, ..Kept::default() },
                true => Kept { written: whole, ..Kept::default() },
                false => Kept { read: if read < minimum { 0 } else { read }, ..Kept::default() },
            };
        }
        let mut kept = Kept::default();
        for Mark { start, tokens, is_long, before } in request.marks() {
            let is_there = |(start, read): &&(String, usize)| self.marked.contains_key(start) && *read > kept.read;
            if let (false, Some((earlier, read))) =
                (self.marked.contains_key(&start), before.iter().rev().find(is_there))
            {
                kept = Kept { read: *read, ..Kept::default() };
                self.marked.entry(earlier.clone()).and_modify(|start| start.reads += 1);
            }
            match self.marked.get_mut(&start) {
                _ if tokens < minimum(request) => {}
                Some(start) => {
                    start.reads += 1;
                    kept = Kept { read: tokens, ..Kept::default() };
                }
                None => {
                    let more = tokens - kept.read - kept.written;
                    kept.written += more;
                    kept.written_long += if is_long { more } else { 0 };
                }
            }
        }
        kept
    }

    /// A request is being answered: what it begins with is kept from now on.
    pub fn keep(&mut self, request: &Recorded) {
        if request.keeps_by_itself().is_some() {
            let (kind, said) = request.whole_prompt();
            self.said.entry(kind).or_default().push(said);
        }
        for mark in request.marks().into_iter().filter(|mark| mark.tokens >= minimum(request)) {
            let nothing = Start { is_long: false, writes: 0, reads: 0 };
            let start = self.marked.entry(mark.start).or_insert(nothing);
            // One that was there is kept for longer, and not written.
            start.writes += usize::from(start.reads == 0);
            start.is_long |= mark.is_long;
        }
    }

    /// Some minutes pass: what is not kept for an hour is gone.
    pub fn age(&mut self) {
        self.said.clear();
        self.marked.retain(|_, start| start.is_long);
    }

    /// How many were written and never read.
    pub fn unread(&self) -> usize {
        self.marked.values().map(|start| if start.reads == 0 { start.writes } else { 0 }).sum()
    }
}

/// Why a request's marks are refused, if they are.
pub fn refusal(request: &Recorded) -> Option<Act> {
    let marks = request.marks();
    let error = |message: &str| Some(Act::error(400, "invalid_request_error", "", message));
    if marks.len() > MOST_MARKS {
        let what = "A maximum of 4 blocks with cache_control may be provided.";
        return error(&format!("{what} Found {}.", marks.len()));
    }
    if marks.windows(2).any(|two| !two[0].is_long && two[1].is_long) {
        return error("a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block");
    }
    None
}

/// The end of something that is to be kept.
struct Mark {
    /// All that stands before it.
    start: String,
    /// What of that is text.
    tokens: usize,
    is_long: bool,
    /// The ends of blocks before it at which a start is found that was marked there, with their tokens.
    before: Vec<(String, usize)>,
}

/// How many blocks before a mark a start is looked for.
const LOOKS_BACK: usize = 20;

impl Recorded {
    /// As [`Format::keeps_by_itself`], unless the request says itself what is kept.
    fn keeps_by_itself(&self) -> Option<(usize, usize)> {
        self.format.keeps_by_itself().filter(|_| self.body["prompt_cache_options"]["mode"] != "explicit")
    }

    /// Whether what is kept is found at its end only, and costs.
    fn is_by_breakpoints(&self) -> bool {
        let model = self.body["model"].as_str().unwrap_or_default();
        ["gpt-5.6", "gpt-6"].iter().any(|family| model.contains(family))
    }

    /// What a request has marked, in its order: tools, system, messages.
    fn marks(&self) -> Vec<Mark> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let spoken = list(&self.body["messages"]).into_iter().chain(list(&self.body["input"]));
        let blocks = |content: &Value| match content {
            Value::String(text) => vec![json!({"text": text})],
            content => list(content),
        };
        let messages = spoken.flat_map(|message| blocks(&message["content"]));
        let said = list(&self.body["system"]).into_iter().chain(messages);
        let schema = self.schema().cloned().unwrap_or_default();
        let (mut start, mut chars, mut marks) = (format!("{} {schema}", self.body["model"]), 0, Vec::new());
        let mut ends: Vec<(String, usize)> = Vec::new();
        for block in list(&self.body["tools"]).into_iter().chain(said) {
            let text = block["text"].as_str().unwrap_or_default();
            start += text;
            chars += text.chars().count();
            if block["cache_control"]["type"] == "ephemeral" || block["prompt_cache_breakpoint"]["mode"] == "explicit" {
                let is_long = block["cache_control"]["ttl"] == "1h";
                let before = ends[ends.len().saturating_sub(LOOKS_BACK)..].to_vec();
                let before = if self.format == Format::Messages { before } else { Vec::new() };
                marks.push(Mark { start: start.clone(), tokens: tokens(chars), is_long, before });
            }
            ends.push((start.clone(), tokens(chars)));
        }
        marks
    }

    /// What a request is of, and all that it says.
    fn whole_prompt(&self) -> (String, String) {
        let schema = self.schema().cloned().unwrap_or_default();
        // Of Gemini the model stands in the path.
        let model = format!("{}{}", self.body["model"], if self.format == Format::Gemini { &self.path } else { "" });
        let kind = format!("{model} {} {schema}", self.body["prompt_cache_key"]);
        (kind, self.system_text() + &self.user_text())
    }
}

/// The tokens that a start must have for its model.
fn minimum(request: &Recorded) -> usize {
    let model = request.body["model"].as_str().unwrap_or_default();
    let is_of = |names: &[&str]| names.iter().any(|name| model.replace('.', "-").contains(name));
    match () {
        () if is_of(&["haiku-4-5", "opus-4"]) => 4096,
        () if is_of(&["sonnet-4-6"]) => 2048,
        () => 1024,
    }
}

/// How many letters two texts begin with alike.
fn alike(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}
