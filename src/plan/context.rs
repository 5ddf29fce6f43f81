//! The context of a task's prompt: what goes into its keys, and where it stands in the messages.

use serde_json::Value;

use super::key::{Part, PartKind};
use crate::context::Choice;
use crate::digest::Framed;
use crate::error::Error;
use crate::files::Files;
use crate::graph::{Graph, TaskId};
use crate::prompt::{Message, Role};

/// What a task's prompt is shown of a specification, and whether all tasks of its rule are shown the same.
pub(super) struct Shown {
    pub choice: Choice,
    pub is_shared: bool,
}

/// What a task's prompt is shown; `None` for a rule without a context.
///
/// # Errors
/// A file that cannot be read, a selector that finds nothing, a prompt about no entity.
pub(super) fn shown(graph: &Graph, id: TaskId, files: &dyn Files) -> Result<Option<Shown>, Error> {
    let (Some(of_task), Some(of_rule)) = (&graph.tasks[id].context, &graph.rule(id).context) else { return Ok(None) };
    let window = graph.manifest.window_of(graph.rule(id));
    let choice = of_task.choose(of_rule, window, files, &graph.data, &graph.specs)?;
    Ok(Some(Shown { choice, is_shared: of_task.is_shared }))
}

/// The parts of the input key: the context as a whole, then each entity where it is a choice of some, so that a reason names
/// the one that changed.
pub(super) fn parts(graph: &Graph, id: TaskId, files: &dyn Files) -> Result<Vec<Part>, Error> {
    let Some(shown) = shown(graph, id, files)? else { return Ok(Vec::new()) };
    let label = graph.tasks[id].context.as_ref().map_or("", |context| context.label.as_str());
    // Where it stands in the messages is a part of what it is.
    let whole = Framed::new("genmake-context-part-1").field([u8::from(shown.is_shared)]);
    let whole = whole.field(shown.choice.digest().bytes()).finish();
    let part = |(name, digest): (&str, _)| Part { kind: PartKind::Context, name: name.to_owned(), digest };
    Ok(std::iter::once((label, whole)).chain(shown.choice.digests()).map(part).collect())
}

impl Shown {
    /// Gives a prompt's body the names that it can place the context with; without its value where the body does not.
    pub fn bring_into(&self, scope: &mut Value, with_value: bool) {
        scope["context"] = if with_value { self.choice.value() } else { Value::Null };
        scope["context_left_out"] = self.choice.left_out_line().unwrap_or_default().into();
    }

    /// Adds the context to messages that do not hold it yet: to the system part where it is the same for all tasks of the
    /// rule, so that providers can cache it and a batch sends it once, else to the user's.
    pub fn append_to(&self, messages: &mut Vec<Message>) {
        let mut text = format!("Context (JSON):\n{}", self.choice.json());
        if let Some(line) = self.choice.left_out_line() {
            text.push('\n');
            text.push_str(&line);
        }
        let role = if self.is_shared { Role::System } else { Role::User };
        match messages.iter_mut().rfind(|message| message.role == role) {
            Some(message) => {
                message.text.push_str("\n\n");
                message.text.push_str(&text);
            }
            None if self.is_shared => messages.insert(0, Message { role, text }),
            None => messages.push(Message { role, text }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Selected, Spec};
    use std::sync::Arc;

    fn appended(roles: &[Role], is_shared: bool, room: Option<u64>) -> String {
        let value = serde_json::json!({"A": "B", "B": 1});
        let spec = Spec::new(vec![Selected { label: "f#".into(), key: None, value }]).unwrap();
        let choice = Arc::new(spec).choose(Some("A"), 1, room).unwrap();
        let mut messages: Vec<Message> = roles.iter().map(|role| Message { role: *role, text: "x".into() }).collect();
        Shown { choice, is_shared }.append_to(&mut messages);
        let line = |message: &Message| format!("{}: {}", message.role.name(), message.text.replace('\n', "/"));
        messages.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn it_stands_with_the_user_or_with_what_is_shared() {
        use Role::{Model, System, User};
        let json = r#"Context (JSON):/{"A":"B","B":1}"#;
        assert_eq!(appended(&[System, User], false, None), format!("system: x; user: x//{json}"));
        assert_eq!(appended(&[System, User], true, None), format!("system: x//{json}; user: x"));
        assert_eq!(appended(&[User], true, None), format!("system: {json}; user: x"));
        assert_eq!(appended(&[System], false, None), format!("system: x; user: {json}"));
        assert_eq!(
            appended(&[User, Model, User, Model], false, None),
            format!("user: x; model: x; user: x//{json}; model: x")
        );
        let some = r#"user: x//Context (JSON):/{"A":"B"}/Not shown for lack of room: B."#;
        assert_eq!(appended(&[User], false, Some(0)), some);
    }
}
