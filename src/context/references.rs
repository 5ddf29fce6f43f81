//! Which entities a value names: where a name counts, and where it is only a word.
//!
//! Names are whole words, and case matters. A string is judged by itself and the key above it, never by how often a name
//! occurs elsewhere.

use std::collections::{BTreeSet, HashMap};

use heck::ToSnakeCase;
use serde_json::Value;

/// Keys below which things are named as relations: there `customer` is `Customer`, too.
const RELATIONS: &[&str] = &["ref", "refs", "references", "relations", "relationships", "belongs_to"];

/// The key whose text is a type, however it is worded.
const TYPE: &str = "type";

/// How a foreign key ends.
const ID_ENDS: &[&str] = &["_ids", "_id", "-ids", "-id", "Ids", "Id", "IDs", "ID"];

/// The names of all entities, to look words up in.
pub(super) struct Names<'a> {
    exact: HashMap<&'a str, usize>,
    /// By their `snake_case` forms, which two names may share.
    folded: HashMap<String, Vec<usize>>,
}

impl<'a> Names<'a> {
    /// The names, each standing for its place in the order given.
    pub fn new(keys: impl Iterator<Item = &'a str>) -> Names<'a> {
        let mut names = Names { exact: HashMap::new(), folded: HashMap::new() };
        for (at, key) in keys.enumerate() {
            names.exact.insert(key, at);
            names.folded.entry(key.to_snake_case()).or_default().push(at);
        }
        names
    }

    /// The places of all entities that `value` names.
    pub fn in_value(&self, value: &Value) -> BTreeSet<usize> {
        let mut walk = Walk { names: self, found: BTreeSet::new() };
        walk.value(value, "");
        walk.found
    }
}

struct Walk<'a> {
    names: &'a Names<'a>,
    found: BTreeSet<usize>,
}

impl Walk<'_> {
    /// `key` is the key that the value stands under.
    fn value(&mut self, value: &Value, key: &str) {
        match value {
            Value::String(text) => self.text(text, key),
            Value::Array(items) => {
                items.iter().for_each(|item| self.value(item, if item.is_string() { key } else { "" }))
            }
            Value::Object(map) => {
                let relates = RELATIONS.contains(&key);
                for (name, value) in map {
                    if !self.exact(name) {
                        self.foreign_key(name);
                    }
                    if relates {
                        self.folded(name);
                    }
                    self.value(value, if relates && value.is_string() { key } else { name });
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, key: &str) {
        if self.exact(text.trim()) {
            return;
        }
        if let Some(pointer) = pointer(text) {
            for step in pointer.split('/') {
                self.exact(&step.replace("~1", "/").replace("~0", "~"));
            }
            return;
        }
        let relates = RELATIONS.contains(&key);
        if is_prose(text) && key != TYPE {
            return self.prose(text);
        }
        for word in words(text).filter_map(|word| word.word()) {
            self.word(word);
            if relates {
                self.folded(word);
            }
        }
    }

    /// Sentences. A name counts in backticks, and where it can be no ordinary word: `OrderLine`, `order_line`, or `Order`
    /// inside a sentence. `Order` where a sentence begins may be one, and so may `order` anywhere.
    fn prose(&mut self, text: &str) {
        let mut begins = true;
        for (at, part) in text.split('`').enumerate() {
            if at % 2 == 1 {
                words(part).filter_map(|word| word.word()).for_each(|word| self.word(word));
                begins = false;
                continue;
            }
            for piece in words(part) {
                if let Some(word) = piece.word() {
                    if is_name(word, begins) {
                        self.word(word);
                    }
                    begins = false;
                }
                begins |= piece.ends_sentence();
            }
        }
    }

    /// A word that is a name, a path of names with dots, or a foreign key.
    fn word(&mut self, word: &str) {
        if self.exact(word) {
            return;
        }
        match word.contains('.') {
            true => word.split('.').for_each(|part| self.word(part)),
            false => self.foreign_key(word),
        }
    }

    fn exact(&mut self, word: &str) -> bool {
        let found = self.names.exact.get(word);
        self.found.extend(found);
        found.is_some()
    }

    /// A name in whatever case convention.
    fn folded(&mut self, word: &str) -> bool {
        let found = self.names.folded.get(&word.to_snake_case());
        self.found.extend(found.into_iter().flatten());
        found.is_some()
    }

    /// `order_id`, `orderIds`, `order-id`, and `billing_order_id` where there is no entity `billing_order`.
    fn foreign_key(&mut self, word: &str) {
        let Some(stem) = ID_ENDS.iter().find_map(|end| word.strip_suffix(end)) else { return };
        // `GRID` is one word.
        if word.ends_with("ID") && stem.ends_with(char::is_uppercase) {
            return;
        }
        let folded = stem.to_snake_case();
        let mut rest = Some(folded.as_str());
        while let Some(name) = rest {
            if self.folded(name) {
                return;
            }
            rest = name.split_once('_').map(|(_, rest)| rest);
        }
    }
}

/// What stands behind `#` in `#/a/b`, `FILE#/a/b` and `#name`; nothing in a text such as a Markdown heading.
fn pointer(text: &str) -> Option<&str> {
    let (file, rest) = text.split_once('#')?;
    let is_path = rest.starts_with('/') && !rest.contains('\n') && !file.contains(char::is_whitespace);
    let is_name = file.is_empty() && !rest.contains(char::is_whitespace);
    (is_path || is_name).then_some(rest)
}

/// Whether a word of a sentence can only be a name.
fn is_name(word: &str, begins: bool) -> bool {
    let mut chars = word.chars();
    let first = chars.next();
    let is_plain = word.chars().all(char::is_alphabetic) && !chars.any(char::is_uppercase);
    !is_plain || (first.is_some_and(char::is_uppercase) && !begins)
}

/// Whether two words stand side by side with nothing but blanks between them, as in no type.
fn is_prose(text: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut after_word = false;
    let mut blank = false;
    for c in text.chars() {
        match () {
            () if c.is_whitespace() => blank = true,
            () if is_word(c) && after_word && blank => return true,
            () => {
                after_word = is_word(c);
                blank = false;
            }
        }
    }
    false
}

/// A stretch of a text: a word, or what stands between two.
#[derive(Clone, Copy)]
struct Piece<'a>(&'a str);

/// A text in pieces. A hyphen and a dot belong to the word that they stand in: `order-line`, `shop.Order`.
fn words(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let is_inner = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest.find(|c| is_inner(c) != is_inner(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(Piece(piece))
    })
}

impl<'a> Piece<'a> {
    fn word(self) -> Option<&'a str> {
        let word = self.0.trim_matches(['-', '.']);
        word.starts_with(|c: char| c.is_alphanumeric() || c == '_').then_some(word)
    }

    fn ends_sentence(self) -> bool {
        self.0.ends_with('.') || (self.word().is_none() && self.0.contains(['!', '?', '\n']))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NAMES: [&str; 8] =
        ["Order", "OrderLine", "customer", "order-item", "Date", "shop.Tax", "Gift Card", "line_note"];

    #[track_caller]
    fn found(value: Value, want: &[&str]) {
        let names = Names::new(NAMES.into_iter());
        let got: Vec<&str> = names.in_value(&value).into_iter().map(|at| NAMES[at]).collect();
        assert_eq!(got, want, "{value}");
    }

    #[test]
    fn names_in_types_count() {
        for text in
            ["Order", "list<Order>", "Order[]", "?Order", "Map<string, Order>", "Order | null", "[]*Order", "Order?"]
        {
            found(json!({ "x": text }), &["Order"]);
        }
        found(json!({"type": "list of customer"}), &["customer"]);
        found(json!({"type": ["Order", "null"]}), &["Order"]);
        found(json!("Map<customer, OrderLine>"), &["OrderLine", "customer"]);
        found(json!("order-item.customer"), &["customer", "order-item"]);
        found(json!(["shop.Tax", "shop.Order"]), &["Order", "shop.Tax"]);
        found(json!(" Gift Card "), &["Gift Card"]);
    }

    #[test]
    fn a_part_of_a_word_is_no_name() {
        for text in ["Orders", "order", "ORDER", "PreOrder", "Order_2", "Order-like", "customers", "order-items", "Tax"]
        {
            found(json!({ "x": text }), &[]);
        }
    }

    #[test]
    fn in_prose_only_what_is_no_ordinary_word_counts() {
        found(json!("Order of the pages. Date of birth\nOrder them"), &[]);
        found(json!("the customer is in order"), &[]);
        found(json!("belongs to the Order."), &["Order"]);
        found(
            json!("OrderLine is a line, line_note is its note, an order-item too"),
            &["OrderLine", "order-item", "line_note"],
        );
        found(json!("paid by the `customer`, see `list<Order>`"), &["Order", "customer"]);
        found(json!("Yes! Order what you like"), &[]);
    }

    #[test]
    fn keys_count_as_they_are() {
        found(json!({"fields": {"customer": "who pays", "Order": {}}}), &["Order", "customer"]);
        found(json!({"fields": {"order": "in which they come", "date": 1, "Dates": 1}}), &[]);
    }

    #[test]
    fn foreign_keys_count_in_any_case() {
        for name in ["order_id", "orderId", "OrderID", "order-id", "order_ids", "orderIds", "parent_order_id"] {
            found(json!({ name: "string" }), &["Order"]);
            found(json!([name]), &["Order"]);
        }
        found(json!("the order_line_id of it"), &["OrderLine"]);
        found(json!({"id": 1, "paid": 1, "orderid": 1, "ORDERID": 1, "_id": 1, "Id": 1}), &[]);
    }

    #[test]
    fn below_a_key_that_says_relation_case_does_not_matter() {
        found(json!({"refs": {"order_line": "the order of it", "Customer": "a date"}}), &["OrderLine", "customer"]);
        found(json!({"belongs_to": "order"}), &["Order"]);
        found(json!({"references": ["order", "gift_card"]}), &["Order", "Gift Card"]);
        found(json!({"refs": {"owner": "Customer"}}), &["customer"]);
        found(json!({"refs": [{"date": 1}]}), &[]);
    }

    #[test]
    fn pointers_name_what_they_lead_to() {
        for text in
            ["#/entities/Order", "#/components/schemas/Order", "#Order", "customer.yaml#/Order", "#/$defs/Order/id"]
        {
            found(json!({ "$ref": text }), &["Order"]);
        }
        found(json!({"$ref": "#/entities/Gift Card"}), &["Gift Card"]);
        found(json!({"color": "#fff", "lang": "C#"}), &[]);
        found(json!("# Date\nof an Order, see f.yaml#/x/OrderLine"), &["Order", "OrderLine"]);
    }
}
