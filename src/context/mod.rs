//! Related context: of all entities of a specification the one that a prompt is about, and those it refers to.
//!
//! Pure: values in, a choice out. Knows no file, no task and no prompt; where the choice is placed is decided in `plan`.
//! Which words are references is in `references`.
//!
//! A [`Spec`] is made once of a selection, in time linear in its size, and kept in a [`Specs`]; a choice then costs what is
//! near, not what there is.

mod references;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::digest::{Digest, Framed};
use crate::tokens;

/// The entities of a specification and who refers to whom.
#[derive(Debug)]
pub struct Spec {
    entities: Vec<Entity>,
    at: HashMap<String, usize>,
    /// For each entity those it refers to, in the order of the file.
    refers: Vec<Vec<usize>>,
    /// Whether it is written as a list, and so shown as one.
    is_list: bool,
    /// Of all entities.
    digest: Digest,
    tokens: u64,
}

/// A part of a specification that has a name.
#[derive(Debug)]
struct Entity {
    key: String,
    label: String,
    value: Value,
    /// The value as it stands in the JSON of a choice, in a map with its key.
    json: String,
    tokens: u64,
}

/// Something that a selector found.
#[derive(Debug, Clone)]
pub struct Selected {
    /// What people call it.
    pub label: String,
    /// The key of an entity; `None` for a map or a list of entities.
    pub key: Option<String>,
    /// What was found.
    pub value: Value,
}

impl Spec {
    /// Takes a specification apart. The entities of a map go by their keys, those of a list by the first of `key`, `name` and
    /// `id` that they have.
    ///
    /// # Errors
    /// What is no entity, what has no name, and what has that of another, in words.
    pub fn new(selected: Vec<Selected>) -> Result<Spec, String> {
        let is_list = !selected.is_empty() && selected.iter().all(|part| part.key.is_none() && part.value.is_array());
        let mut spec = Spec {
            entities: Vec::new(),
            at: HashMap::new(),
            refers: Vec::new(),
            is_list,
            digest: Digest::of(""),
            tokens: 0,
        };
        for Selected { label, key, value } in selected {
            match (key, value) {
                (Some(key), value) => {
                    let key = if is_index(&key) { own_name(&value).unwrap_or(key) } else { key };
                    spec.add(key, label, value)?;
                }
                (None, Value::Object(map)) => {
                    for (key, value) in map {
                        let label = format!("{label}/{}", key.replace('~', "~0").replace('/', "~1"));
                        spec.add(key, label, value)?;
                    }
                }
                (None, Value::Array(items)) => {
                    for (at, value) in items.into_iter().enumerate() {
                        let Some(key) = own_name(&value) else {
                            return Err(format!("entry {at} of `{label}` has no `key`, `name` or `id` to go by"));
                        };
                        spec.add(key.clone(), format!("{label}/{key}"), value)?;
                    }
                }
                (None, Value::Null) => {}
                (None, _) => return Err(format!("`{label}` is neither a map nor a list of entities")),
            }
        }
        let names = references::Names::new(spec.entities.iter().map(|entity| entity.key.as_str()));
        let refers = spec.entities.iter().enumerate().map(|(at, entity)| {
            let named = names.in_value(&entity.value);
            named.into_iter().filter(|other| *other != at).collect()
        });
        spec.refers = refers.collect();
        let whole = Framed::new("genmake-spec-1").field([u8::from(is_list)]);
        spec.digest = spec.entities.iter().fold(whole, |whole, entity| whole.field(&entity.json)).finish();
        Ok(spec)
    }

    fn add(&mut self, key: String, label: String, value: Value) -> Result<(), String> {
        let json = match self.is_list {
            true => value.to_string(),
            false => format!("{}:{value}", Value::from(key.as_str())),
        };
        let tokens = tokens::estimate(&json);
        if let Some(other) = self.at.insert(key.clone(), self.entities.len()) {
            return Err(format!("`{label}` and `{}` have one name, `{key}`", self.entities[other].label));
        }
        self.tokens += tokens;
        self.entities.push(Entity { key, label, value, json, tokens });
        Ok(())
    }

    /// The names of all entities, in the order of the file.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entities.iter().map(|entity| entity.key.as_str())
    }

    /// What a prompt about the entity `about` is shown: it, and what is up to `depth` references away from it; without
    /// `about`, everything. What does not fit into `room` tokens is left out: the farthest first, and of those as far the last
    /// in order. The entity itself always stays. `None` if there is no entity of that name.
    pub fn choose(self: &Arc<Spec>, about: Option<&str>, depth: u32, room: Option<u64>) -> Option<Choice> {
        // By nearness, then in order.
        let near = match about {
            Some(about) => self.reach(*self.at.get(about)?, depth),
            None => (0..self.entities.len()).collect(),
        };
        let mut taken = 0;
        let mut fits = |(rank, at): (usize, &usize)| {
            taken += self.entities[*at].tokens;
            (about.is_some() && rank == 0) || room.is_none_or(|room| taken <= room)
        };
        let count = near.iter().enumerate().position(|entity| !fits(entity)).unwrap_or(near.len());
        let mut shown = near;
        let mut left_out = shown.split_off(count);
        shown.sort_unstable();
        left_out.sort_unstable();
        Some(Choice { spec: Arc::clone(self), is_related: about.is_some(), shown, left_out })
    }

    /// Those up to `depth` references away from `start`, it first: by distance, then in order.
    fn reach(&self, start: usize, depth: u32) -> Vec<usize> {
        let mut reached = vec![start];
        let mut seen = HashSet::from([start]);
        let mut last = 0..1;
        for _ in 0..depth {
            let mut next: Vec<usize> = Vec::new();
            for at in &reached[last.clone()] {
                next.extend(self.refers[*at].iter().filter(|other| seen.insert(**other)));
            }
            if next.is_empty() {
                break;
            }
            next.sort_unstable();
            last = reached.len()..reached.len() + next.len();
            reached.extend(next);
        }
        reached
    }
}

fn is_index(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit())
}

/// The name that an entry of a list goes by.
fn own_name(value: &Value) -> Option<String> {
    ["key", "name", "id"].iter().find_map(|name| match value.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// The entities that one prompt is shown, and those for which there was no room.
#[derive(Debug, Clone)]
pub struct Choice {
    spec: Arc<Spec>,
    is_related: bool,
    shown: Vec<usize>,
    left_out: Vec<usize>,
}

/// What there is to say about the context of a prompt. In no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The entities in it, in the order of the file.
    pub shown: Vec<String>,
    /// How many entities are not in it because nothing leads to them.
    pub unrelated: usize,
    /// The entities that belong in it and for which there was no room.
    pub left_out: Vec<String>,
    /// What all entities would take: an estimate.
    pub tokens_full: u64,
    /// What those in it take: an estimate.
    pub tokens_shown: u64,
    /// Whether it is the same for all tasks of the rule, and so a part of what they share.
    pub is_shared: bool,
}

impl Note {
    /// The tokens that a prompt does without: an estimate.
    pub fn tokens_saved(&self) -> u64 {
        self.tokens_full.saturating_sub(self.tokens_shown)
    }
}

impl Choice {
    fn entities(&self) -> impl Iterator<Item = &Entity> {
        self.shown.iter().map(|at| &self.spec.entities[*at])
    }

    /// The names of those for which there was no room, in the order of the file.
    pub fn left_out(&self) -> impl Iterator<Item = &str> {
        self.left_out.iter().map(|at| self.spec.entities[*at].key.as_str())
    }

    /// As JSON on one line, which takes fewer tokens than over lines: a map by key, or a list where the file has one.
    pub fn json(&self) -> String {
        let parts: Vec<&str> = self.entities().map(|entity| entity.json.as_str()).collect();
        let parts = parts.join(",");
        if self.spec.is_list { format!("[{parts}]") } else { format!("{{{parts}}}") }
    }

    /// The same as a value.
    pub fn value(&self) -> Value {
        match self.spec.is_list {
            true => self.entities().map(|entity| entity.value.clone()).collect::<Vec<_>>().into(),
            false => self.entities().map(|e| (e.key.clone(), e.value.clone())).collect::<Map<_, _>>().into(),
        }
    }

    /// One line for a model that is not shown everything; `None` where nothing was left out.
    pub fn left_out_line(&self) -> Option<String> {
        const NAMED: usize = 12;
        let names: Vec<&str> = self.left_out().take(NAMED).collect();
        let more = self.left_out.len().saturating_sub(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        (!names.is_empty()).then(|| format!("Not shown for lack of room: {}{more}.", names.join(", ")))
    }

    /// A digest of the choice as a whole. It covers what is shown where that is everything; a related choice is covered
    /// by it and [`Choice::digests`] together.
    pub fn digest(&self) -> Digest {
        let mut framed =
            Framed::new("genmake-context-1").field([u8::from(self.is_related), u8::from(self.spec.is_list)]);
        if !self.is_related {
            framed = framed.field(self.spec.digest.bytes());
        }
        self.left_out().fold(framed, |framed, name| framed.field(name)).finish()
    }

    /// Each entity of a related choice: what people call it, and its digest.
    pub fn digests(&self) -> impl Iterator<Item = (&str, Digest)> {
        let related = self.entities().filter(|_| self.is_related);
        related.map(|entity| (entity.label.as_str(), Digest::of(&entity.json)))
    }

    /// What there is to say about it.
    pub fn note(&self, is_shared: bool) -> Note {
        Note {
            shown: self.entities().map(|entity| entity.key.clone()).collect(),
            unrelated: self.spec.entities.len() - self.shown.len() - self.left_out.len(),
            left_out: self.left_out().map(str::to_owned).collect(),
            tokens_full: self.spec.tokens,
            tokens_shown: self.entities().map(|entity| entity.tokens).sum(),
            is_shared,
        }
    }
}

/// Specifications by what they were made of, so that ten thousand tasks over one file take it apart once.
#[derive(Default)]
pub struct Specs(Mutex<HashMap<Digest, Arc<Spec>>>);

impl Specs {
    /// The specification that was made of this.
    pub fn get(&self, of: &Digest) -> Option<Arc<Spec>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(of).cloned()
    }

    /// Keeps a specification.
    pub fn put(&self, of: Digest, spec: Spec) -> Arc<Spec> {
        let mut specs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(specs.entry(of).or_insert_with(|| Arc::new(spec)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn whole(value: Value) -> Vec<Selected> {
        vec![Selected { label: "f.yaml#/e".into(), key: None, value }]
    }

    fn spec(value: Value) -> Arc<Spec> {
        Arc::new(Spec::new(whole(value)).unwrap())
    }

    fn chosen(spec: &Arc<Spec>, about: Option<&str>, depth: u32, room: Option<u64>) -> (String, String) {
        let choice = spec.choose(about, depth, room).unwrap();
        let note = choice.note(false);
        assert_eq!(choice.value().to_string(), choice.json());
        assert_eq!(spec.entities.len(), note.shown.len() + note.unrelated + note.left_out.len());
        (note.shown.join(" "), note.left_out.join(" "))
    }

    /// A refers to D and C, C to B, B to E; E to A and F; nothing leads to G.
    fn chain() -> Arc<Spec> {
        spec(json!({
            "G": "A", "E": ["A", "F"], "D": 1, "C": {"x": "B"}, "B": "E", "A": {"y": "list<D>", "z": "C"}, "F": "x".repeat(40),
        }))
    }

    #[test]
    fn depth_counts_references_and_the_order_is_the_files() {
        let spec = chain();
        let shown = |depth| chosen(&spec, Some("A"), depth, None).0;
        assert_eq!(shown(0), "A");
        assert_eq!(shown(1), "D C A");
        assert_eq!(shown(2), "D C B A");
        assert_eq!(shown(3), "E D C B A");
        assert_eq!(shown(100), "E D C B A F");
        assert_eq!(chosen(&spec, Some("D"), 100, None).0, "D");
        assert_eq!(chosen(&spec, None, 0, None).0, "G E D C B A F");
        assert!(spec.choose(Some("a"), 1, None).is_none());
    }

    #[test]
    fn the_farthest_is_left_out_first_and_the_entity_itself_never() {
        let spec = chain();
        let tokens = |key: &str| spec.entities[spec.at[key]].tokens;
        let all = ["A", "D", "C", "B", "E", "F"];
        for kept in 1..all.len() {
            let room = all[..kept].iter().map(|key| tokens(key)).sum();
            let (shown, left_out) = chosen(&spec, Some("A"), 100, Some(room));
            let names = |text: &str| text.split(' ').map(str::to_owned).collect::<HashSet<_>>();
            assert_eq!(names(&shown), names(&all[..kept].join(" ")), "room {room}");
            assert_eq!(names(&left_out), names(&all[kept..].join(" ")), "room {room}");
        }
        assert_eq!(chosen(&spec, Some("A"), 1, Some(0)), ("A".into(), "D C".into()));
        assert_eq!(chosen(&spec, None, 1, Some(tokens("G") + tokens("E"))), ("G E".into(), "D C B A F".into()));
        assert_eq!(chosen(&spec, None, 1, Some(0)).0, "");
    }

    #[test]
    fn what_is_left_out_is_said_in_one_line() {
        let many: Map<String, Value> = (0..30).map(|n| (format!("E{n}"), json!(1))).collect();
        let spec = spec(many.into());
        let line = spec.choose(None, 0, Some(0)).unwrap().left_out_line().unwrap();
        assert_eq!(line, "Not shown for lack of room: E0, E1, E2, E3, E4, E5, E6, E7, E8, E9, E10, E11 and 18 more.");
        assert_eq!(spec.choose(None, 0, None).unwrap().left_out_line(), None);
    }

    #[test]
    fn lists_and_parts_have_names_too() {
        let list =
            spec(json!([{"name": "A", "to": "B"}, {"key": "C", "name": "x"}, {"id": "B"}, {"id": 7, "a_id": 1}]));
        assert_eq!(list.choose(Some("A"), 1, None).unwrap().json(), r#"[{"name":"A","to":"B"},{"id":"B"}]"#);
        assert_eq!(chosen(&list, Some("7"), 1, None).0, "A 7");
        let part = |key: &str, value| Selected { label: format!("f#/{key}"), key: Some(key.into()), value };
        let parts = Arc::new(Spec::new(vec![part("A", json!("B")), part("1", json!({"name": "B"}))]).unwrap());
        assert_eq!(parts.choose(Some("A"), 1, None).unwrap().json(), r#"{"A":"B","B":{"name":"B"}}"#);
        assert_eq!(spec(Value::Null).choose(None, 1, None).unwrap().json(), "{}");
    }

    #[test]
    fn what_is_no_specification_is_said() {
        let error = |value| Spec::new(whole(value)).unwrap_err();
        assert_eq!(error(json!("x")), "`f.yaml#/e` is neither a map nor a list of entities");
        assert_eq!(
            error(json!([{"name": "A"}, {"n": 1}])),
            "entry 1 of `f.yaml#/e` has no `key`, `name` or `id` to go by"
        );
        let error = error(json!([{"name": "A"}, {"id": "A"}]));
        assert_eq!(error, "`f.yaml#/e/A` and `f.yaml#/e/A` have one name, `A`");
    }

    #[test]
    fn digests_cover_what_is_shown_and_nothing_else() {
        let of = |value: Value, about| {
            let choice = spec(value).choose(about, 1, None).unwrap();
            (choice.digest(), choice.digests().map(|(label, digest)| (label.to_owned(), digest)).collect::<Vec<_>>())
        };
        let a = of(json!({"A": "B", "B": 1, "C": 2}), Some("A"));
        assert_eq!(a, of(json!({"C": 3, "A": "B", "B": 1}), Some("A")));
        assert_ne!(a, of(json!({"A": "B", "B": 3, "C": 2}), Some("A")));
        assert_ne!(a, of(json!({"A": "C", "B": 1, "C": 2}), Some("A")));
        assert_eq!(a.1[1].0, "f.yaml#/e/B");
        let all = of(json!({"A": "B", "B": 1}), None);
        assert_ne!(all, of(json!({"A": "B", "B": 2}), None));
        assert!(all.1.is_empty());
    }

    proptest! {
        /// What is shown is what a naive walk reaches, wherever in an entity the references stand.
        #[test]
        fn what_is_shown_is_what_can_be_reached(
            edges in proptest::collection::vec((0usize..12, 0usize..12, 0usize..6), 0..40),
            start in 0usize..12,
            depth in 0u32..6,
        ) {
            let name = |at: usize| format!("E{at}x");
            let mut entities: Map<String, Value> = (0..12).map(|at| (name(at), json!({"list": ["Exx", "E"]}))).collect();
            for (n, (from, to, form)) in edges.iter().enumerate() {
                let to = name(*to);
                let (key, value) = match form {
                    0 => (format!("f{n}"), json!(format!("list<{to}>"))),
                    1 => (format!("{to}_id"), json!("string")),
                    2 => (to, json!({"a": 1})),
                    3 => (format!("f{n}"), json!({"$ref": format!("#/entities/{to}")})),
                    4 => (format!("f{n}"), json!(["x", {"y": format!("it is of {to}, perhaps")}])),
                    _ => (format!("f{n}"), json!({"refs": [to.to_lowercase()]})),
                };
                entities[&name(*from)][key] = value;
            }
            let mut reached: HashSet<usize> = HashSet::from([start]);
            for _ in 0..depth {
                let more = edges.iter().filter(|(from, ..)| reached.contains(from)).map(|(_, to, _)| *to);
                reached = more.chain(reached.iter().copied()).collect::<HashSet<_>>();
            }
            let want: Vec<String> = (0..12).filter(|at| reached.contains(at)).map(name).collect();
            let choice = spec(entities.into()).choose(Some(&name(start)), depth, None).unwrap();
            prop_assert_eq!(choice.note(false).shown, want);
        }
    }
}
