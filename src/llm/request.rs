//! From tasks to a request: the stable prefix first, the tasks' own text last.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::context::Note;
use crate::graph::Output;
use crate::models::Keep;
use crate::prompt::{Message, Role};
use crate::schema::Schema;
use crate::tokens;

/// What one task wants from a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// Where the results go, in the order in which they are wanted.
    pub outputs: Vec<Output>,
    /// The task's messages as they would be if it travelled alone.
    pub messages: Vec<Message>,
    /// The model.
    pub model: String,
    /// Sampling parameters, by our names.
    pub params: Map<String, Value>,
    /// What the result must be like, if it is data; such a task has one output.
    pub schema: Option<Arc<Schema>>,
    /// What its messages hold of a specification; in no key.
    pub context: Option<Note>,
    /// What people call the piece of a collection that it is for: its result is JSON or a text by itself, and goes to no path.
    pub piece: Option<Arc<str>>,
    /// What it is shown of results before it.
    pub carried: Option<Arc<Carried>>,
}

/// What a window of a collection is shown of those before it.
#[derive(Debug, Clone, PartialEq)]
pub enum Carried {
    /// The last results, each as JSON.
    Results(Vec<String>),
    /// What was said and answered, one after the other.
    Turns(Vec<Message>),
}

/// A request, neutral to providers.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The model.
    pub model: String,
    /// Sampling parameters but for the limit of output tokens.
    pub params: Map<String, Value>,
    /// The most tokens that may come back.
    pub max_output_tokens: Option<u64>,
    /// What the model can write at most, if that is known: for providers that want a limit where there is none.
    pub most_output: Option<u64>,
    /// For how long the provider is to keep the system's part, because another request begins with the same; none where it is not.
    pub keeps_prefix: Option<Keep>,
    /// Whether it is kept up to its end, and not the system's part alone: the next request goes on from all of it.
    pub is_gone_on_from: bool,
    /// Whether the maker of the model takes more for what it keeps than for other tokens: then it is to keep nothing else.
    pub pays_to_keep: bool,
    /// What is said, the system's part first.
    pub messages: Vec<Message>,
    /// The JSON schema that the answer must follow; without, it is plain text.
    pub schema: Option<Value>,
    /// The paths that it is for, one for each task, for reports.
    pub paths: Vec<String>,
}

/// Why a prefix that a provider was asked to keep is not in its cache as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unkept {
    /// It has so many tokens, and its model keeps none of fewer than these: it was not even marked.
    TooShort(u64, u64),
    /// None of it was written or read.
    Unheeded,
    /// It was written again, though an earlier request of the run had it written.
    Again,
}

/// What a slot takes of an answer in tokens, beside its result: its name, and what stands around it.
const OF_A_SLOT: u64 = 6;

/// A text in JSON is longer by its escapes: by one part in so many.
const ESCAPES: u64 = 16;

/// What so many results with so many tokens of their own take in an answer to all of them.
pub fn framed(tokens: u64, results: u64) -> u64 {
    tokens + tokens / ESCAPES + OF_A_SLOT * results
}

/// What a result has of its own of what it took in such an answer.
pub fn unframed(taken: u64) -> u64 {
    (taken.saturating_sub(OF_A_SLOT) * ESCAPES).div_ceil(ESCAPES + 1).max(taken.min(1))
}

/// The name of a slot, from 0: `f1`, `f2`, …
pub fn slot(at: usize) -> String {
    format!("f{}", at + 1)
}

impl Ask {
    /// The instructions that all tasks of a shape share.
    pub fn system(&self) -> &str {
        match self.messages.first() {
            Some(first) if first.role == Role::System => &first.text,
            _ => "",
        }
    }

    /// Whether it can share a request: a system part, perhaps, and one part of the user. A schema with references cannot be
    /// put below another: they start at its root.
    pub fn can_share(&self) -> bool {
        if self.piece.is_none() && self.schema.as_ref().is_some_and(|schema| has_references(schema.value())) {
            return false;
        }
        matches!(self.behind_system(), [only] if only.role == Role::User)
    }

    /// The messages behind the system's part.
    fn behind_system(&self) -> &[Message] {
        match self.messages.first() {
            Some(first) if first.role == Role::System => &self.messages[1..],
            _ => &self.messages[..],
        }
    }

    /// What the user says; for a task that can share a request.
    pub(super) fn user(&self) -> &str {
        self.messages.last().map_or("", |last| &last.text)
    }

    /// The limit of output tokens for this task alone.
    pub fn limit(&self) -> Option<u64> {
        self.params.get("max_output_tokens").and_then(Value::as_u64)
    }

    /// The schema of this task's result among those of others.
    pub fn result_schema(&self) -> Value {
        self.slot_schema().unwrap_or_else(text)
    }

    /// The schema of this task's result in a slot; none for plain text.
    fn slot_schema(&self) -> Option<Value> {
        if let Some(schema) = &self.schema {
            return Some(schema.value().clone());
        }
        let names: Vec<&String> = self.outputs.iter().filter_map(|output| output.name.as_ref()).collect();
        if names.is_empty() { None } else { Some(object(names.into_iter().map(|name| (name.clone(), text())))) }
    }

    /// The schema of its answer when it travels alone. Providers want an object at the root: any other value goes below
    /// [`RESULT`].
    fn single_schema(&self) -> Option<Value> {
        let schema = self.slot_schema()?;
        if self.is_wrapped() { Some(object([(RESULT.to_owned(), schema)].into_iter())) } else { Some(schema) }
    }

    /// Whether its answer, when it travels alone, stands below [`RESULT`].
    pub(super) fn is_wrapped(&self) -> bool {
        self.schema.as_ref().is_some_and(|schema| schema.value().get("type").is_none_or(|kind| kind != "object"))
    }

    /// What people call it: the piece of a collection, or its outputs' paths.
    fn paths(&self) -> String {
        if let Some(piece) = &self.piece {
            return piece.to_string();
        }
        let one = |output: &Output| match &output.name {
            Some(name) if self.outputs.len() > 1 => format!("{name} = {}", output.path),
            _ => output.path.to_string(),
        };
        self.outputs.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// The tokens that a request for these tasks does without because their contexts hold only what is related: an estimate.
/// What they share stands in it once.
pub fn context_saved(asks: &[&Ask]) -> u64 {
    let notes: Vec<&Note> = asks.iter().filter_map(|ask| ask.context.as_ref()).collect();
    let own: u64 = notes.iter().filter(|note| !note.is_shared).map(|note| note.tokens_saved()).sum();
    own + notes.iter().find(|note| note.is_shared).map_or(0, |note| note.tokens_saved())
}

/// Where the value stands in an answer whose schema is no object.
pub(super) const RESULT: &str = "result";

fn text() -> Value {
    json!({"type": "string"})
}

fn has_references(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("$ref") || map.values().any(has_references),
        Value::Array(items) => items.iter().any(has_references),
        _ => false,
    }
}

/// A strict object: every property required, no others.
fn object(properties: impl Iterator<Item = (String, Value)>) -> Value {
    let properties: Map<String, Value> = properties.collect();
    let required: Vec<&String> = properties.keys().collect();
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}

impl Request {
    /// The request for one or more tasks of one shape: plain text for one, a slot each for several.
    pub fn new(asks: &[&Ask]) -> Request {
        match asks {
            [only] => Request::single(only),
            _ => Request::batch(asks),
        }
    }

    fn single(ask: &Ask) -> Request {
        let mut request = Request::empty(ask);
        request.messages = ask.messages.clone();
        if let Some(carried) = &ask.carried {
            let before = ask.messages.len() - ask.behind_system().len();
            carried.bring_into(&mut request.messages, before);
        }
        request.schema = ask.single_schema();
        request.max_output_tokens = ask.limit();
        request.paths = vec![ask.paths()];
        request
    }

    fn empty(ask: &Ask) -> Request {
        let mut params = ask.params.clone();
        params.remove("max_output_tokens");
        Request {
            model: ask.model.clone(),
            params,
            max_output_tokens: None,
            most_output: None,
            keeps_prefix: None,
            is_gone_on_from: false,
            pays_to_keep: false,
            messages: Vec::new(),
            schema: None,
            paths: Vec::new(),
        }
    }

    fn batch(asks: &[&Ask]) -> Request {
        let mut request = Request::empty(asks[0]);
        let system = asks[0].system();
        if !system.is_empty() {
            request.messages.push(Message { role: Role::System, text: system.to_owned() });
        }
        let before = request.messages.len();
        request.messages.push(Message { role: Role::User, text: batch_text(asks) });
        if let Some(carried) = &asks[0].carried {
            carried.bring_into(&mut request.messages, before);
        }
        request.schema = Some(batch_schema(asks));
        // In JSON a text is longer by its escapes and its slot's name.
        let limits: Option<Vec<u64>> = asks.iter().map(|ask| ask.limit()).collect();
        request.max_output_tokens = limits.map(|limits| limits.iter().map(|limit| limit + limit / 4 + 16).sum());
        request.paths = asks.iter().map(|ask| ask.paths()).collect();
        request
    }
}

impl Carried {
    /// The texts of it.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let (results, turns) = match self {
            Carried::Results(results) => (results.as_slice(), [].as_slice()),
            Carried::Turns(turns) => ([].as_slice(), turns.as_slice()),
        };
        results.iter().map(String::as_str).chain(turns.iter().map(|turn| turn.text.as_str()))
    }

    /// Puts it where it stands in a request: turns before what is asked now, which is at `at`; results in front of that.
    fn bring_into(&self, messages: &mut Vec<Message>, at: usize) {
        match self {
            Carried::Turns(turns) => drop(messages.splice(at..at, turns.iter().cloned())),
            Carried::Results(results) => {
                if let (Some(asked), false) = (messages.get_mut(at), results.is_empty()) {
                    asked.text = format!("{}\n{}", shown(results), asked.text);
                }
            }
        }
    }
}

/// Results of the window before, for the model.
fn shown(results: &[String]) -> String {
    let mut text = "Already there, and to be gone on from; the last results as JSON, one a line:\n".to_owned();
    for result in results {
        text.push_str(result);
        text.push('\n');
    }
    text
}

/// About how many tokens a request for these says.
pub fn length(asks: &[&Ask]) -> u64 {
    Request::new(asks).messages.iter().map(|message| tokens::estimate(&message.text)).sum()
}

/// What the pieces of a window would be asked and have answered, as two turns of a conversation.
pub fn turns(asks: &[&Ask], results: &[&str]) -> [Message; 2] {
    let value = |ask: &Ask, result: &str| {
        let parsed = if ask.schema.is_some() { serde_json::from_str(result).ok() } else { None };
        parsed.unwrap_or_else(|| Value::String(result.to_owned()))
    };
    let (asked, said) = match (asks, results) {
        ([ask], [result]) if ask.is_wrapped() => {
            (ask.user().to_owned(), json!({RESULT: value(ask, result)}).to_string())
        }
        ([ask], [result]) => (ask.user().to_owned(), (*result).to_owned()),
        _ => {
            let all = asks.iter().zip(results).enumerate();
            let files: Map<String, Value> = all.map(|(at, (ask, result))| (slot(at), value(ask, result))).collect();
            (batch_text(asks), json!({"files": files}).to_string())
        }
    };
    [Message { role: Role::User, text: asked }, Message { role: Role::Model, text: said }]
}

/// The schema of an answer to several tasks: a slot for each. That of a collection's results stands in it once, however many
/// there are.
fn batch_schema(asks: &[&Ask]) -> Value {
    let whole = |slots: Value| object([("files".to_owned(), slots)].into_iter());
    match asks[0].piece.is_some().then(|| asks[0].schema.as_ref()).flatten() {
        Some(schema) => {
            let mut of_one = schema.value().clone();
            move_references(&mut of_one);
            let slots = (0..asks.len()).map(|at| (slot(at), json!({"$ref": ITEM})));
            let mut schema = whole(object(slots));
            schema["$defs"] = json!({"item": of_one});
            schema
        }
        None => whole(object(asks.iter().enumerate().map(|(at, ask)| (slot(at), ask.result_schema())))),
    }
}

/// The schema of an answer with any number of results, each a text or by a schema of its own.
pub fn any_number_of(one: Option<&Value>, min: Option<usize>, max: Option<usize>) -> Value {
    let item = if one.is_some() { json!({"$ref": ITEM}) } else { text() };
    let mut list = json!({"type": "array", "items": item});
    for (bound, count) in [("minItems", min), ("maxItems", max)] {
        if let Some(count) = count {
            list[bound] = count.into();
        }
    }
    let mut schema = object([("results".to_owned(), list)].into_iter());
    if let Some(one) = one {
        let mut one = one.clone();
        move_references(&mut one);
        schema["$defs"] = json!({"item": one});
    }
    schema
}

/// Where the schema of one result stands.
const ITEM: &str = "#/$defs/item";

/// References of a schema that has moved to [`ITEM`].
fn move_references(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get_mut("$ref")
                && let Some(rest) = to.strip_prefix('#')
            {
                *to = format!("{ITEM}{rest}");
            }
            map.values_mut().for_each(move_references);
        }
        Value::Array(items) => items.iter_mut().for_each(move_references),
        _ => {}
    }
}

/// Each task's own text under its slot, and behind it the path that the slot stands for. Small models that see a path before a
/// task, or an example of the JSON, answer with the path or the example.
fn batch_text(asks: &[&Ask]) -> String {
    let what = if asks.iter().all(|ask| ask.schema.is_some()) { "the value" } else { "the full text" };
    let mut text = format!(
        "Do these {} tasks. Answer with a JSON object: under \"files\", {what} of each result under its name.\n",
        asks.len(),
    );
    for (i, ask) in asks.iter().enumerate() {
        let slot = slot(i);
        text += &format!("\n{slot}:\n{}\n", ask.user());
        if ask.piece.is_none() {
            text += &format!("({slot} is {})\n", ask.paths());
        }
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::path::RelPath;
    use expect_test::expect;

    pub fn ask(path: &str, user: &str) -> Ask {
        Ask {
            outputs: vec![Output { name: None, path: RelPath::new(path).unwrap() }],
            messages: vec![
                Message { role: Role::System, text: "Be brief.".into() },
                Message { role: Role::User, text: user.into() },
            ],
            model: "m".into(),
            params: json!({"temperature": 0, "max_output_tokens": 100}).as_object().unwrap().clone(),
            schema: None,
            context: None,
            piece: None,
            carried: None,
        }
    }

    #[cfg(feature = "schema")]
    pub fn ask_for(path: &str, schema: Value) -> Ask {
        Ask { schema: Some(Arc::new(Schema::new(schema).unwrap())), ..ask(path, "Make it.") }
    }

    #[test]
    fn what_a_frame_adds_can_be_taken_off() {
        assert_eq!((framed(160, 1), framed(160, 4)), (176, 194));
        assert!((0..5000).all(|tokens| unframed(framed(tokens, 1)) == tokens.max(1)));
        assert_eq!([0, 1, 6, 7].map(unframed), [0, 1, 1, 1]);
    }

    #[test]
    #[cfg(feature = "schema")]
    fn a_schema_is_the_answers_or_the_slots() {
        let number = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let (a, b) = (ask_for("a.json", number.clone()), ask_for("b.json", number.clone()));
        assert_eq!(Request::new(&[&a]).schema.unwrap(), number);
        let batch = Request::new(&[&a, &b]);
        assert_eq!(batch.schema.unwrap()["properties"]["files"]["properties"]["f2"], number);
        assert!(batch.messages[1].text.contains("under \"files\", the value of each result"));
        // What is no object goes below a name; what refers to its root travels alone.
        let list = ask_for("a.json", json!({"type": "array"}));
        assert_eq!(Request::new(&[&list]).schema.unwrap()["properties"]["result"], json!({"type": "array"}));
        assert!(list.can_share());
        assert!(!ask_for("a.json", json!({"$defs": {"x": {}}, "items": {"$ref": "#/$defs/x"}})).can_share());
    }

    #[test]
    fn a_single_is_its_own_messages() {
        let one = ask("a.md", "Write about a.");
        let request = Request::new(&[&one]);
        assert_eq!(request.messages, one.messages);
        assert_eq!((request.schema, request.max_output_tokens), (None, Some(100)));
        assert!(!request.params.contains_key("max_output_tokens"));
    }

    #[test]
    fn a_batch_names_its_slots() {
        let (a, b) = (ask("a.md", "Write about a."), ask("b.md", "Write about b."));
        let request = Request::new(&[&a, &b]);
        assert_eq!(request.messages[0].text, "Be brief.");
        expect![[r#"
            Do these 2 tasks. Answer with a JSON object: under "files", the full text of each result under its name.

            f1:
            Write about a.
            (f1 is a.md)

            f2:
            Write about b.
            (f2 is b.md)
        "#]]
        .assert_eq(&request.messages[1].text);
        expect![[r#"{"type":"object","required":["files"],"additionalProperties":false,"properties":{"files":{"type":"object","required":["f1","f2"],"additionalProperties":false,"properties":{"f1":{"type":"string"},"f2":{"type":"string"}}}}}"#]]
            .assert_eq(&request.schema.unwrap().to_string());
        assert_eq!(request.max_output_tokens, Some(282));
    }

    #[test]
    fn several_outputs_are_an_object_by_name() {
        let mut one = ask("a.h", "Write a.");
        one.outputs[0].name = Some("header".into());
        one.outputs.push(Output { name: Some("code".into()), path: RelPath::new("a.c").unwrap() });
        let schema = Request::new(&[&one]).schema.unwrap();
        assert_eq!(schema["required"], json!(["header", "code"]));
        let two = Request::new(&[&one, &one]);
        assert_eq!(
            two.schema.unwrap()["properties"]["files"]["properties"]["f2"]["required"],
            json!(["header", "code"])
        );
        assert!(two.messages[1].text.contains("(f1 is header = a.h, code = a.c)"));
    }

    #[test]
    fn a_context_saves_in_each_task_or_once_where_they_share_it() {
        let with = |full, is_shared| {
            let (shown, left_out) = (Vec::new(), Vec::new());
            let note = Note { shown, unrelated: 0, left_out, tokens_full: full, tokens_shown: 10, is_shared };
            Ask { context: Some(note), ..ask("a", "x") }
        };
        assert_eq!(context_saved(&[&with(30, false), &with(40, false), &ask("b", "x")]), 50);
        assert_eq!(context_saved(&[&with(30, true), &with(30, true)]), 20);
    }

    #[test]
    fn a_conversation_travels_alone() {
        let mut one = ask("a", "x");
        assert!(one.can_share());
        one.messages.push(Message { role: Role::Model, text: "y".into() });
        assert!(!one.can_share());
        one.messages.truncate(1);
        assert!(!one.can_share());
    }
}
