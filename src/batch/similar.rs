//! How alike two tasks are, 0 to 1, and which tasks of a shape are alike enough to travel together.
//!
//! A task's traits come from its item and its outputs:
//!
//! - *file type*: the extensions of its outputs.
//! - *attributes*: what stands below the first of `attributes`, `fields`, `properties` and `columns` that the item's value has,
//!   a map by name or a list; an attribute's type is its one word, or what it has under `type`, else its kind in JSON. A map
//!   without any of these has its own keys as attributes, and their kinds as types. A type that names a dependency is a reference,
//!   whichever it names. An item that is no map has none.
//! - *package*: the text under `package`, `module` or `namespace`; else the folder of the item's file.
//! - *dependencies*: the names below `dependencies`, `depends_on`, `imports`, `requires`, `references`, `refs`, `relations` and
//!   `relationships`; where the value has none of these, the entities that the rule's `context` found related to it.
//!
//! Tasks are grouped by what they are, never by where they stand in a file. Tasks of equal traits are one class; the classes,
//! sorted, are held each against the first of the last [`OPEN`] groups and join the most alike, or begin a group of their own.
//! That is n log n for the sort and a fixed number of comparisons for each class.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::manifest::Weights;

/// How many groups a class is held against: those begun last, which stand nearest to it in the order of traits.
const OPEN: usize = 32;

const ATTRIBUTES: [&str; 4] = ["attributes", "fields", "properties", "columns"];
const PACKAGES: [&str; 3] = ["package", "module", "namespace"];
const DEPENDENCIES: [&str; 8] =
    ["dependencies", "depends_on", "imports", "requires", "references", "refs", "relations", "relationships"];

/// The type of what refers to another item, whichever that is.
const REFERENCE: &str = "reference";

/// What tasks are compared by.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Traits {
    file_type: String,
    package: Option<String>,
    /// The types of its attributes, sorted, each once.
    types: Vec<String>,
    attributes: usize,
    /// Sorted, each once.
    dependencies: Vec<String>,
}

impl Traits {
    /// The traits of a task: `item` is what expressions see as its item, `related` are the entities that its context holds
    /// beside its own.
    pub fn new<'a>(
        extensions: impl Iterator<Item = &'a str>,
        item: Option<&Value>,
        related: impl Iterator<Item = &'a str>,
    ) -> Traits {
        let extensions: BTreeSet<&str> = extensions.collect();
        let mut traits =
            Traits { file_type: extensions.into_iter().collect::<Vec<_>>().join(" "), ..Traits::default() };
        // Of a product of axes the first axis that has something to say.
        let axes = item.and_then(Value::as_object).into_iter().flat_map(|map| map.values());
        let items: Vec<&Value> = item.into_iter().chain(axes.filter(|axis| axis.get("path").is_some())).collect();
        let values: Vec<&Value> = items.iter().map(|item| item.get("value").unwrap_or(item)).collect();
        let is_file = |item: &&&Value| item.get("path").is_some();
        let types = values.iter().find_map(|value| declared(value)).or_else(|| {
            // What genmake itself says of a file is no attribute of it.
            let own = items.iter().filter(|item| !is_file(item) || item.get("value").is_some());
            let own = own.map(|item| item.get("value").unwrap_or(item)).find_map(Value::as_object);
            own.map(|map| map.values().map(|value| kind(value).to_owned()).collect())
        });
        let named = values.iter().find_map(|value| first(value, &PACKAGES)?.as_str().map(str::to_owned));
        traits.package = named.or_else(|| items.iter().find(is_file).and_then(|item| folder(item)));
        let listed: Vec<&Value> =
            values.iter().flat_map(|value| DEPENDENCIES.iter().filter_map(|name| value.get(name))).collect();
        let dependencies: BTreeSet<String> = match listed.is_empty() {
            true => related.map(str::to_owned).collect(),
            false => listed.into_iter().flat_map(names).collect(),
        };
        traits.dependencies = dependencies.into_iter().collect();
        let types: Vec<String> = types.unwrap_or_default();
        traits.attributes = types.len();
        let refers = |name: &String| traits.dependencies.iter().any(|other| name.contains(other.as_str()));
        let types = types.into_iter().map(|name| if refers(&name) { REFERENCE.to_owned() } else { name });
        traits.types = types.collect::<BTreeSet<_>>().into_iter().collect();
        traits
    }
}

/// The first of `names` that a value has something under.
fn first<'a>(value: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| value.get(name))
}

/// The types of the attributes that a value declares.
fn declared(value: &Value) -> Option<Vec<String>> {
    let declared = |value: &Value| match value.get("type") {
        Some(Value::String(text)) => text.clone(),
        _ => kind(value).to_owned(),
    };
    match first(value, &ATTRIBUTES)? {
        Value::Object(map) => Some(
            map.values()
                .map(|value| match value {
                    // `total: decimal` names a type, as a sentence does not.
                    Value::String(text) if !text.contains(char::is_whitespace) => text.clone(),
                    value => declared(value),
                })
                .collect(),
        ),
        Value::Array(list) => Some(list.iter().map(declared).collect()),
        _ => None,
    }
}

/// What kind of value JSON takes it for.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

fn folder(item: &Value) -> Option<String> {
    let path = item.get("path")?.as_str()?;
    Some(path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned())
}

/// The names below a key that lists dependencies.
fn names(listed: &Value) -> Vec<String> {
    match listed {
        Value::String(text) => vec![text.clone()],
        Value::Object(map) => map.keys().cloned().collect(),
        Value::Array(list) => list
            .iter()
            .filter_map(|entry| match entry {
                Value::String(text) => Some(text.clone()),
                entry => first(entry, &["target", "to", "entity", "name", "type"])?.as_str().map(str::to_owned),
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// How alike two tasks are, 0 to 1. What neither has is alike, what only one has is not.
pub fn similarity(a: &Traits, b: &Traits, weights: &Weights) -> f64 {
    let same = |is: bool| if is { 1.0 } else { 0.0 };
    let structure = match (a.attributes, b.attributes) {
        (0, 0) => 1.0,
        (0, _) | (_, 0) => 0.0,
        (m, n) => (m.min(n) as f64 / m.max(n) as f64 + overlap(&a.types, &b.types)) / 2.0,
    };
    let parts = [
        (weights.file_type, same(a.file_type == b.file_type)),
        (weights.structure, structure),
        (weights.package, same(a.package == b.package)),
        (weights.dependencies, overlap(&a.dependencies, &b.dependencies)),
    ];
    // Weights need not add up to 1.
    let whole: f64 = parts.iter().map(|(weight, _)| weight).sum();
    if whole > 0.0 { parts.iter().map(|(weight, part)| weight * part).sum::<f64>() / whole } else { 1.0 }
}

/// Of what either has, the share that both have (Jaccard); both are sorted and without doubles.
fn overlap(a: &[String], b: &[String]) -> f64 {
    let (mut i, mut j, mut both) = (0, 0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, both) = (i + 1, j + 1, both + 1),
        }
    }
    let either = a.len() + b.len() - both;
    if either == 0 { 1.0 } else { both as f64 / either as f64 }
}

/// Tasks that are alike, each with its likeness to the first class of the group.
pub type Group<T> = Vec<(T, f64)>;

/// Groups tasks so that each is at least `threshold` alike to the first of its group. The groups and what is in them do not
/// depend on the order in which the tasks come; that of equal tasks within a group does.
pub fn groups<T>(tasks: impl IntoIterator<Item = (Traits, T)>, threshold: f64, weights: &Weights) -> Vec<Group<T>> {
    let mut classes: BTreeMap<Traits, Vec<T>> = BTreeMap::new();
    for (traits, task) in tasks {
        classes.entry(traits).or_default().push(task);
    }
    let mut first: Vec<Traits> = Vec::new();
    let mut groups: Vec<Group<T>> = Vec::new();
    for (traits, tasks) in classes {
        let open = first.len().saturating_sub(OPEN);
        let scores = first.iter().enumerate().skip(open).map(|(at, first)| (at, similarity(first, &traits, weights)));
        // Of several as alike the one that was begun first.
        let best = scores.fold(None, |best: Option<(usize, f64)>, (at, score)| match best {
            Some((_, other)) if other >= score => best,
            _ => Some((at, score)),
        });
        match best.filter(|(_, score)| *score >= threshold - f64::EPSILON) {
            Some((at, score)) => groups[at].extend(tasks.into_iter().map(|task| (task, score))),
            None => {
                first.push(traits);
                groups.push(tasks.into_iter().map(|task| (task, 1.0)).collect());
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn traits(value: Value) -> Traits {
        let item = json!({"key": "x", "value": value, "path": "spec/shop.yaml", "index": 0});
        Traits::new(["go"].into_iter(), Some(&item), std::iter::empty())
    }

    #[track_caller]
    fn alike(a: Value, b: Value, expected: f64) {
        let score = similarity(&traits(a), &traits(b), &Weights::default());
        assert!((score - expected).abs() < 1e-9, "{score}, not {expected}");
    }

    #[test]
    fn each_part_counts_as_much_as_its_weight() {
        let order = json!({"fields": {"id": "int", "total": "decimal"}, "package": "shop", "depends_on": ["Line"]});
        alike(order.clone(), order.clone(), 1.0);
        // Twice the attributes, and one type of two in common.
        let more = json!({"fields": {"a": "int", "b": "int", "c": "int", "d": "int"}, "package": "shop", "depends_on": ["Line"]});
        alike(order.clone(), more, 1.0 - 0.35 * 0.5);
        let elsewhere = json!({"fields": {"id": "int", "total": "decimal"}, "package": "crm", "depends_on": ["Line"]});
        alike(order.clone(), elsewhere, 0.8);
        let leaner =
            json!({"fields": {"id": "int", "total": "decimal"}, "package": "shop", "depends_on": ["Line", "Tax"]});
        alike(order.clone(), leaner, 1.0 - 0.15 * 0.5);
        // What only one has is not alike: its package is the file's folder.
        alike(order, json!({"fields": {}, "depends_on": []}), 0.30);
        alike(json!("word"), json!("other"), 1.0);
        alike(json!("word"), json!({"a": 1}), 0.65);
        let page = |ext| Traits::new([ext].into_iter(), None, std::iter::empty());
        assert!((similarity(&page("md"), &page("go"), &Weights::default()) - 0.7).abs() < 1e-9);
    }

    #[test]
    fn weights_are_a_matter_of_their_sum() {
        let only = Weights { file_type: 0.0, structure: 0.0, package: 3.0, dependencies: 0.0 };
        let in_package = |name: &str| traits(json!({"package": name, "fields": {"a": name}}));
        assert_eq!(similarity(&in_package("a"), &in_package("b"), &only), 0.0);
        assert_eq!(similarity(&in_package("a"), &in_package("a"), &only), 1.0);
        let none = Weights { package: 0.0, ..only };
        assert_eq!(similarity(&in_package("a"), &in_package("b"), &none), 1.0);
    }

    #[test]
    fn where_traits_come_from() {
        let of = |item: Value, related: &[&str]| {
            let traits = Traits::new(["h", "c"].into_iter(), Some(&item), related.iter().copied());
            let Traits { file_type, package, types, attributes, dependencies } = traits;
            let package = package.unwrap_or_else(|| "none".into());
            format!("{file_type} | {package} | {attributes} {} | {}", types.join(" "), dependencies.join(" "))
        };
        let item = |value: Value| json!({"key": "x", "value": value, "path": "spec/shop.yaml", "index": 0});
        let listed =
            json!({"attributes": [{"name": "a", "type": "int"}, {"name": "b", "type": "int"}, "c"], "module": "m"});
        assert_eq!(of(item(listed), &["B", "A"]), "c h | m | 3 int string | A B");
        let mapped =
            json!({"properties": {"a": {"type": "int"}, "b": "date", "c": "who paid", "d": null}, "refs": {"X": 1}});
        assert_eq!(of(item(mapped), &["A"]), "c h | spec | 4 date int null string | X");
        let relations = json!({"relations": [{"name": "lines", "target": "Line"}, "Tax", 1], "a": true});
        assert_eq!(of(item(relations), &[]), "c h | spec | 2 boolean list | Line Tax");
        let refers = json!({"fields": {"a": "list<Line>", "b": "Tax", "c": "Line"}});
        assert_eq!(of(item(refers), &["Line", "Tax"]), "c h | spec | 3 reference | Line Tax");
        assert_eq!(of(item(json!("hola")), &[]), "c h | spec | 0  | ");
        assert_eq!(of(json!("de"), &[]), "c h | none | 0  | ");
        assert_eq!(of(json!({"a": 1, "b": "x y"}), &[]), "c h | none | 2 number string | ");
        // What there is to say of a file is where it lies; what there is to say of a product, its axes say.
        let file = json!({"path": "docs/a.md", "dir": "docs", "name": "a.md", "stem": "a", "ext": "md"});
        assert_eq!(of(file.clone(), &[]), "c h | docs | 0  | ");
        let entity = item(json!({"fields": {"a": "int"}, "package": "p"}));
        assert_eq!(of(json!({"page": entity, "lang": "de"}), &[]), "c h | p | 1 int | ");
    }

    #[test]
    fn what_is_not_alike_enough_is_apart() {
        let kind = |n: usize| traits(json!({"package": format!("p{n}"), "fields": {"a": format!("t{n}")}}));
        let tasks = (0..40).map(|at| (kind(at % 8), at));
        let mut found: Vec<Vec<usize>> = groups(tasks, 0.7, &Weights::default())
            .into_iter()
            .map(|group| group.into_iter().map(|(task, _)| task).collect())
            .collect();
        found.sort();
        assert_eq!(found, (0..8).map(|kind| (0..5).map(|n| n * 8 + kind).collect::<Vec<_>>()).collect::<Vec<_>>());
        // At a threshold of 0 all are one group.
        assert_eq!(groups((0..40).map(|at| (kind(at % 8), at)), 0.0, &Weights::default()).len(), 1);
    }

    fn value() -> impl Strategy<Value = Value> {
        let field = proptest::collection::btree_map("[a-d]", "[xyz]", 0..4);
        (field, proptest::option::of("[pq]"), proptest::collection::vec("[A-D]", 0..3)).prop_map(
            |(fields, package, depends)| {
                let mut value = json!({"fields": fields, "depends_on": depends});
                if let Some(package) = package {
                    value["package"] = package.into();
                }
                value
            },
        )
    }

    proptest! {
        /// Likeness is from 0 to 1, the same both ways, and whole for what is equal.
        #[test]
        fn likeness_is_a_measure(a in value(), b in value()) {
            let (a, b) = (traits(a), traits(b));
            let weights = Weights::default();
            let score = similarity(&a, &b, &weights);
            prop_assert!((0.0..=1.0 + 1e-9).contains(&score));
            prop_assert_eq!(score, similarity(&b, &a, &weights));
            prop_assert!((similarity(&a, &a, &weights) - 1.0).abs() < 1e-9);
        }

        /// Nobody is lost or doubled, all are alike enough to the first of their group, and the order of tasks does not matter.
        #[test]
        fn groups_do_not_depend_on_the_order(values in proptest::collection::vec(value(), 0..60), threshold in 0.0f64..1.0, by in 0usize..60) {
            let tasks: Vec<(Traits, usize)> = values.into_iter().map(traits).enumerate().map(|(at, t)| (t, at)).collect();
            let weights = Weights::default();
            let sorted = |tasks: Vec<(Traits, usize)>| {
                let groups = groups(tasks, threshold, &weights);
                let mut groups: Vec<Vec<(usize, u64)>> = groups
                    .into_iter()
                    .map(|group| group.into_iter().map(|(task, score)| (task, score.to_bits())).collect())
                    .collect();
                groups.iter_mut().for_each(|group| group.sort_unstable());
                groups.sort();
                groups
            };
            let found = sorted(tasks.clone());
            let mut all: Vec<usize> = found.concat().into_iter().map(|(task, _)| task).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..tasks.len()).collect::<Vec<_>>());
            prop_assert!(found.concat().iter().all(|(_, score)| f64::from_bits(*score) >= threshold - 1e-9));
            let mut turned = tasks;
            turned.reverse();
            let by = by.min(turned.len());
            turned.rotate_left(by);
            prop_assert_eq!(sorted(turned), found);
        }
    }
}
